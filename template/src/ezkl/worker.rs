//! One worker process: `ezkl/worker.py` under the configured Python.

use std::collections::VecDeque;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::progress::{Patience, wait_stalled};
use super::reason::{MAX_LINES, Refusal};
use super::reply::Reply;
use super::scratch::Scratch;
use crate::fault::Fault;
use crate::sanitize;

/// The worker's script travels inside the binary, so that both are always of one version.
const SCRIPT: &str = include_str!("../../ezkl/worker.py");
/// The longest answer that is read: what is large comes in files.
pub(crate) const MAX_ANSWER: u64 = 1 << 20;
/// How much of a line on stderr is kept in one piece.
const MAX_STDERR_LINE: u64 = 16 << 10;
/// How long a worker that has closed its output may take to end.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the end of a call may take to be seen on stderr after its reply.
const STDERR_TIMEOUT: Duration = Duration::from_secs(2);
/// What a line on stderr begins with that ends a call; its number follows. As in `end_call` of the script.
const CALL_END: &str = "\u{1e}call ";
/// What a worker gets of our environment: no key is in it. EZKL looks for its log level here.
const ENVIRONMENT: [&str; 5] = ["PATH", "HOME", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "RUST_LOG"];
/// Below `EZKL_REPO_PATH`: each lookup table that EZKL has made. A table whose folder is there it reads, whole or torn, of whatever
/// version, and refuses to set up or prove for ever where it is torn (23.0.5, src/circuit/table.rs). Workers are killed at any moment and
/// work side by side: each has a cache of its own, for one call.
const TABLES: &str = "cache";

/// They wait for the network, which takes no processor.
const NETWORK_CALLS: [&str; 2] = ["create_evm_verifier", "get_srs"];
/// What one that downloads gets besides: a proxy's address may hold a password, so that no other is given it.
const PROXIES: [&str; 8] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"];

/// How the workers of one kind are started.
pub struct WorkerSpec {
    pub python: PathBuf,
    pub scratch: Arc<Scratch>,
    /// Has the processor while nobody else wants it.
    pub background: bool,
    pub threads: usize,
    /// Downloads the SRS, through a proxy where the environment names one.
    pub downloads: bool,
    /// Megabytes of memory, if that is limited.
    pub memory_mb: Option<u64>,
    pub patience: Patience,
}

/// The script's file in the folder, written again if somebody tidied it away.
fn ensure_script(folder: &Path) -> io::Result<PathBuf> {
    let path = folder.join("worker.py");
    if !path.exists() {
        std::fs::write(&path, SCRIPT)?;
    }
    Ok(path)
}

/// Why a call has no value.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// EZKL's own word: it will say the same again.
    #[error("{0}")]
    Refused(Refusal),
    /// The machine's word (disk full, out of memory, too many files): it may say otherwise later.
    #[error("the EZKL worker: {0}")]
    System(String),
    #[error("the EZKL worker took longer than {0:?} for {1} and was ended{hint}", hint = timeout_hint(.1))]
    TimedOut(Duration, &'static str),
    #[error("the EZKL worker made no progress in {1} for {0:?}: it used no processor and was ended")]
    Stalled(Duration, &'static str),
    #[error("the EZKL worker died ({how}): {words}")]
    Died {
        how: String,
        words: String,
        /// By a signal: somebody else ended it.
        killed: bool,
    },
    #[error("the EZKL worker answered {0} with {1} and was ended")]
    InvalidReply(&'static str, String),
    #[error(
        "cannot start the EZKL worker with {0}: {1}; set NOVA_PYTHON to a Python that has EZKL, or make one: \
         python3 -m venv ezkl/.venv && ezkl/.venv/bin/pip install --require-hashes -r ezkl/requirements.txt"
    )]
    NotStarted(PathBuf, std::io::Error),
    #[error("the daemon is shutting down")]
    ShutDown,
}

/// Which setting allows a call more time, if one does.
fn timeout_hint(function: &str) -> &'static str {
    match function {
        "version" => "",
        "gen_witness" => "; NOVA_WITNESS_TIMEOUT allows it more",
        "mock" => "; NOVA_MOCK_TIMEOUT allows it more",
        _ => "; NOVA_PROVE_TIMEOUT allows it more",
    }
}

impl Failure {
    /// EZKL's refusal concerns the row in hand; everything else may pass.
    pub fn into_request_fault(self) -> Fault {
        match self {
            Self::Refused(_) => Fault::Permanent(self.into()),
            _ => Fault::Transient(self.into()),
        }
    }

    /// Of the first call there is: a worker that ends by itself, or does not start, needs a person.
    pub fn into_startup_fault(self) -> Fault {
        match self {
            Self::Died { killed: true, .. } | Self::System(_) | Self::TimedOut(..) | Self::Stalled(..) => {
                Fault::Transient(self.into())
            }
            // A fork that fails, or a disk that is full, may pass.
            Self::NotStarted(_, ref error)
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
            {
                Fault::Transient(self.into())
            }
            _ => Fault::Fatal(self.into()),
        }
    }
}

/// A running worker. Dropping it kills the process.
pub struct Worker {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: tokio::sync::watch::Receiver<Stderr>,
    calls: u64,
    memory_mb: Option<u64>,
    threads: usize,
    patience: Patience,
    /// Its `EZKL_REPO_PATH`.
    repository: TempDir,
}

impl Worker {
    /// Starts the process with the environment it needs, and no more: no key reaches it.
    pub fn start(kind: &WorkerSpec) -> Result<Self, Failure> {
        let not_started = |error| Failure::NotStarted(kind.python.clone(), error);
        let scratch = kind.scratch.path().map_err(not_started)?;
        let repository = tempfile::Builder::new().prefix("ezkl-").tempdir_in(&scratch).map_err(not_started)?;
        let mut command = Command::new(&kind.python);
        command
            .arg("-I")
            .arg(ensure_script(&scratch).map_err(not_started)?)
            .env_clear()
            .env("RAYON_NUM_THREADS", kind.threads.to_string())
            .env("TMPDIR", &scratch)
            .env("EZKL_REPO_PATH", repository.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if kind.background {
            command.arg("--background");
        }
        if let Some(megabytes) = kind.memory_mb {
            command.args(["--memory-mb", &megabytes.to_string()]);
        }
        let proxies = PROXIES.into_iter().filter(|_| kind.downloads);
        for name in ENVIRONMENT.into_iter().chain(proxies) {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let mut child = command.spawn().map_err(not_started)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(not_started(io::Error::other("no pipes")));
        };
        let (stdout, stderr) = (BufReader::new(stdout), log_stderr(stderr));
        let WorkerSpec { memory_mb, threads, patience, .. } = *kind;
        Ok(Self { child, stdin, stdout, stderr, calls: 0, memory_mb, threads, patience, repository })
    }

    /// False if it has ended while it was idle.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Calls `function` and waits for its value until the deadline. After any failure but a refusal the worker is of no
    /// further use: drop it.
    pub async fn call(&mut self, function: &'static str, args: Value, deadline: Duration) -> Result<Value, Failure> {
        self.calls += 1;
        let request = format!("{}\n", json!({ "id": self.calls, "call": function, "args": args }));
        let stalled = stalled(self.process(), function, self.threads, self.patience);
        let exchange = async {
            self.stdin.write_all(request.as_bytes()).await?;
            self.stdin.flush().await?;
            read_line(&mut self.stdout, MAX_ANSWER).await
        };
        let line = tokio::select! {
            line = timeout(deadline, exchange) => line,
            () = stalled => return Err(Failure::Stalled(self.patience.limit(), function)),
        };
        self.forget_tables().await;
        let line = match line {
            Err(_) => return Err(Failure::TimedOut(deadline, function)),
            Ok(Ok(Line::Whole(line))) => line,
            Ok(Ok(Line::Part(line))) if line.len() as u64 == MAX_ANSWER => {
                return Err(Failure::InvalidReply(function, format!("more than {MAX_ANSWER} bytes")));
            }
            Ok(Ok(Line::Part(_) | Line::End) | Err(_)) => return Err(self.died().await),
        };
        match Reply::read(&line, self.calls) {
            Some(Reply::Value(value)) => Ok(value),
            Some(Reply::Refused(error)) => Err(Failure::Refused(Refusal::new(&error, &self.log_of_call().await))),
            Some(Reply::Hindered(error)) => Err(Failure::System(error)),
            None => {
                let rubbish = String::from_utf8_lossy(&line);
                Err(Failure::InvalidReply(function, format!("{:?}", sanitize::truncate(&rubbish, 80))))
            }
        }
    }

    /// The next call makes the tables that it needs, in a small part of the time of a proof.
    async fn forget_tables(&self) {
        // Most calls make none.
        let _ = tokio::fs::remove_dir_all(self.repository.path().join(TABLES)).await;
    }

    /// What it wrote on stderr during the call that has just been replied to.
    async fn log_of_call(&mut self) -> Vec<String> {
        let calls = self.calls;
        if let Ok(Ok(stderr)) = timeout(STDERR_TIMEOUT, self.stderr.wait_for(|stderr| stderr.ended == calls)).await {
            return stderr.of_ended.clone();
        }
        // It does not say where a call ends, or has closed its stderr: all since the last call is of this one.
        self.stderr.borrow().lines.iter().cloned().collect()
    }

    /// Its id, while it runs.
    pub fn process(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended. One that has closed its output and lives on is ended.
    async fn died(&mut self) -> Failure {
        if timeout(EXIT_TIMEOUT, self.child.wait()).await.is_err() {
            // An error means that it has just ended by itself.
            let _ = self.child.start_kill();
        }
        let (how, killed) = match self.child.wait().await {
            Ok(status) => (format!("{status}{}", self.explained(status)), status.signal().is_some()),
            Err(error) => (error.to_string(), false),
        };
        // The channel closes once all of stderr is read, or never if a child of its own holds it open.
        let _ = timeout(EXIT_TIMEOUT, async { while self.stderr.changed().await.is_ok() {} }).await;
        let words = self.stderr.borrow().lines.back().cloned().unwrap_or_else(|| "it said nothing".to_owned());
        Failure::Died { how, words, killed }
    }

    /// What the ways to end mean that have to do with memory.
    fn explained(&self, status: ExitStatus) -> String {
        const SIGKILL: i32 = 9;
        const SIGABRT: i32 = 6;
        match (status.signal(), self.memory_mb) {
            (Some(SIGABRT), Some(megabytes)) => {
                format!("; NOVA_PROVER_MEMORY_MB, or --max-memory, allows it {megabytes} MB")
            }
            (Some(SIGKILL), _) => "; the kernel ends a process so when memory runs out".to_owned(),
            _ => String::new(),
        }
    }
}

/// Returns once a call makes no progress, if that can be told.
async fn stalled(process: Option<u32>, function: &str, threads: usize, patience: Patience) {
    match process {
        Some(process) if !NETWORK_CALLS.contains(&function) => wait_stalled(process, threads, patience).await,
        _ => std::future::pending().await,
    }
}

/// What came before the next line break.
enum Line {
    Whole(Vec<u8>),
    /// As much as was to be read of it, or all that came.
    Part(Vec<u8>),
    /// Nothing more will come.
    End,
}

/// Reads up to a line break, and no more than `limit` bytes.
async fn read_line(from: &mut (impl AsyncBufRead + Unpin), limit: u64) -> io::Result<Line> {
    let mut line = Vec::new();
    from.take(limit).read_until(b'\n', &mut line).await?;
    Ok(match line.last() {
        Some(b'\n') => {
            line.pop();
            Line::Whole(line)
        }
        Some(_) => Line::Part(line),
        None => Line::End,
    })
}

/// What a worker wrote on stderr: the last lines.
#[derive(Default)]
struct Stderr {
    /// Since the last call ended.
    lines: VecDeque<String>,
    /// The call that ended last, and its lines.
    ended: u64,
    of_ended: Vec<String>,
}

impl Stderr {
    fn take(&mut self, line: &str) {
        if let Some(call) = line.strip_prefix(CALL_END) {
            self.ended = call.parse().unwrap_or_default();
            self.of_ended = self.lines.drain(..).collect();
        } else if !line.trim().is_empty() {
            if self.lines.len() == MAX_LINES {
                self.lines.pop_front();
            }
            self.lines.push_back(sanitize::escape_control_chars(line).into_owned());
        }
    }
}

/// Puts the worker's stderr into the log, and keeps its last lines for the error of a call.
fn log_stderr(stderr: ChildStderr) -> tokio::sync::watch::Receiver<Stderr> {
    let (keep, kept) = tokio::sync::watch::channel(Stderr::default());
    tokio::spawn(async move {
        let mut stderr = BufReader::new(stderr);
        while let Ok(Line::Whole(line) | Line::Part(line)) = read_line(&mut stderr, MAX_STDERR_LINE).await {
            let text = String::from_utf8_lossy(&line);
            if !text.starts_with(CALL_END) {
                tracing::debug!(target: "nova::ezkl", "{}", sanitize::escape_control_chars(&text));
            }
            keep.send_modify(|stderr| stderr.take(&text));
        }
    });
    kept
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
