//! One worker process: `ezkl/worker.py` under the configured Python.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::reply::Reply;
use crate::fault::Fault;

/// The worker's script travels inside the binary, so that both are always of one version.
const SCRIPT: &str = include_str!("../../ezkl/worker.py");

/// The script, unpacked, with a private folder for the workers' temporary files.
pub struct Script {
    python: PathBuf,
    folder: TempDir,
}

impl Script {
    pub fn unpack(python: &Path) -> anyhow::Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("nova-ezkl-").tempdir().context("cannot make a temporary folder")?;
        let script = Self { python: python.to_owned(), folder };
        script.path().with_context(|| format!("cannot write to {}", script.folder.path().display()))?;
        Ok(script)
    }

    /// The script's file, written again if somebody tidied the temporary folder.
    fn path(&self) -> std::io::Result<PathBuf> {
        let path = self.folder.path().join("worker.py");
        if !path.exists() {
            std::fs::create_dir_all(self.folder.path())?;
            std::fs::write(&path, SCRIPT)?;
        }
        Ok(path)
    }

    /// A file for a worker's output, removed when dropped.
    pub fn temporary_file(&self) -> anyhow::Result<NamedTempFile> {
        NamedTempFile::new_in(self.folder.path()).context("cannot make a temporary file")
    }
}

/// Why a call has no value.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// EZKL's own word: it will say the same again.
    #[error("EZKL: {0}")]
    Refused(String),
    /// The machine's word (disk full, out of memory, too many files): it may say otherwise later.
    #[error("the EZKL worker: {0}")]
    Hindered(String),
    #[error("the EZKL worker took longer than {0:?} for {1} and was ended")]
    TimedOut(Duration, &'static str),
    #[error("the EZKL worker died ({0}): {1}")]
    Died(String, String),
    #[error(
        "cannot start the EZKL worker with {0}: {1}; set NOVA_PYTHON to a Python that has EZKL, or make one: \
         python3 -m venv ezkl/.venv && ezkl/.venv/bin/pip install --require-hashes -r ezkl/requirements.txt"
    )]
    NotStarted(PathBuf, std::io::Error),
    #[error("the daemon is shutting down")]
    ShutDown,
}

impl Failure {
    /// EZKL's refusal concerns the row in hand; everything else may pass.
    pub fn of_this_row(self) -> Fault {
        match self {
            Self::Refused(_) => Fault::Row(self.into()),
            _ => Fault::Retry(self.into()),
        }
    }
}

/// A running worker. Dropping it kills the process.
pub struct Worker {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    last_words: tokio::sync::watch::Receiver<String>,
    calls: u64,
}

impl Worker {
    /// Starts the process with the environment it needs, and no more: no key reaches it.
    pub fn start(script: &Script, niceness: u8, threads: usize) -> Result<Self, Failure> {
        let not_started = |error| Failure::NotStarted(script.python.clone(), error);
        let mut command = Command::new(&script.python);
        command
            .arg("-I")
            .arg(script.path().map_err(not_started)?)
            .args(["--nice", &niceness.to_string()])
            .env_clear()
            .env("RAYON_NUM_THREADS", threads.to_string())
            .env("TMPDIR", script.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // EZKL looks for its SRS cache and its log level here.
        for name in ["PATH", "HOME", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "EZKL_REPO_PATH", "RUST_LOG"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let mut child = command.spawn().map_err(not_started)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(not_started(std::io::Error::other("no pipes")));
        };
        Ok(Self { child, stdin, stdout: BufReader::new(stdout).lines(), last_words: log_stderr(stderr), calls: 0 })
    }

    /// Calls `function` and waits for its value until the deadline. After any failure but a refusal the worker is of no
    /// further use: drop it.
    pub async fn call(&mut self, function: &'static str, args: Value, deadline: Duration) -> Result<Value, Failure> {
        self.calls += 1;
        let request = format!("{}\n", json!({ "id": self.calls, "call": function, "args": args }));
        let exchange = async {
            self.stdin.write_all(request.as_bytes()).await?;
            self.stdin.flush().await?;
            self.stdout.next_line().await
        };
        let line = match tokio::time::timeout(deadline, exchange).await {
            Err(_) => return Err(Failure::TimedOut(deadline, function)),
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None) | Err(_)) => return Err(self.died().await),
        };
        match Reply::read(line.as_bytes(), self.calls) {
            Some(Reply::Value(value)) => Ok(value),
            Some(Reply::Refused(error)) => Err(Failure::Refused(error)),
            Some(Reply::Hindered(error)) => Err(Failure::Hindered(error)),
            None => Err(Failure::Died("it was ended".to_owned(), format!("it answered {function} with rubbish"))),
        }
    }

    async fn died(&mut self) -> Failure {
        let status = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => anyhow!(error).to_string(),
        };
        // The channel closes once all of stderr is read.
        while self.last_words.changed().await.is_ok() {}
        Failure::Died(status, self.last_words.borrow().clone())
    }
}

/// Puts the worker's stderr into the log, and keeps its last line for the error of a worker that dies.
fn log_stderr(stderr: ChildStderr) -> tokio::sync::watch::Receiver<String> {
    let (keep, last_words) = tokio::sync::watch::channel("it said nothing".to_owned());
    tokio::spawn(async move {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            tracing::debug!(target: "nova::ezkl", "{}", line.escape_debug());
            if !line.trim().is_empty() {
                keep.send_replace(line);
            }
        }
    });
    last_words
}
