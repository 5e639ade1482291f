//! A running `nova run`.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nova_devnet::rpc;
use serde_json::Value;
use tokio::process::{Child, Command};

use super::nova::Nova;
use super::{DEFAULT_TIMEOUT, PROOF_TIMEOUT, secrets, wait_until};

/// How long the daemon may take to stop.
pub const STOPS_WITHIN: Duration = Duration::from_secs(30);

/// It is killed when this is dropped; if the test is failing then, its log is shown.
pub struct Daemon {
    child: Child,
    pid: u32,
    log: PathBuf,
    /// Its folder for temporary files.
    scratch: PathBuf,
}

impl Daemon {
    pub(super) fn start(nova: Nova) -> Self {
        let log = tempfile::Builder::new().prefix("nova-").suffix(".log").tempfile_in(nova.folder()).unwrap();
        let (file, log) = log.keep().unwrap();
        let scratch = tempfile::Builder::new().prefix("scratch-").tempdir_in(nova.folder()).unwrap().keep();
        let mut command = nova.command();
        command.env("TMPDIR", &scratch).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap();
        let pid = child.id().unwrap();
        Self { child, pid, log, scratch }
    }

    /// Waits until `/readyz` says yes.
    pub async fn ready(mut self) -> Self {
        wait_until("a ready daemon", DEFAULT_TIMEOUT, async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the daemon ended with {status}");
            }
            match self.readyz().await {
                Some((200, _)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        self
    }

    /// The status and body of `/readyz`; nothing while it does not listen.
    pub async fn readyz(&self) -> Option<(u16, Value)> {
        let answer = rpc::http_client().unwrap().get(format!("http://{}/readyz", self.address()?)).send().await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.text().await.ok()?;
        secrets::assert_none("/readyz", &body);
        Some((status, serde_json::from_str(&body).unwrap()))
    }

    /// Waits until `/readyz` says no, and this of a part.
    pub async fn is_unready(&self, part: &str, says: &str) {
        wait_until(format!("a daemon whose {part} says {says:?}"), PROOF_TIMEOUT, async || match self.readyz().await {
            Some((503, body)) if body["parts"][part].as_str().is_some_and(|told| told.contains(says)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// True if `/healthz` says that the process is alive.
    pub async fn is_alive(&self) -> bool {
        let url = format!("http://{}/healthz", self.address().expect("it serves HTTP"));
        let answer = rpc::http_client().unwrap().get(url).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Where it serves HTTP, as the log says.
    fn address(&self) -> Option<String> {
        let log = self.log();
        let line = log.lines().find(|line| line.contains("serving /healthz"))?;
        line.split("address=").nth(1)?.split_whitespace().next().map(str::to_owned)
    }

    pub fn log(&self) -> String {
        read_lossy(&self.log)
    }

    /// Waits until the log says this.
    pub async fn wait_for_log(&self, what: &str) {
        wait_until(format!("{what:?} in the log"), DEFAULT_TIMEOUT, async || {
            if self.log().contains(what) { Ok(()) } else { Err("the log does not say it".to_owned()) }
        })
        .await;
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The command lines of its worker processes, by process id.
    pub fn workers(&self) -> Vec<(u32, String)> {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        ids.filter(|id| parent_of(*id) == Some(self.pid))
            .map(|id| (id, read_lossy(Path::new(&format!("/proc/{id}/cmdline"))).replace('\0', " ")))
            .collect()
    }

    /// Waits until the prover works on something.
    pub async fn wait_proving(&self) {
        wait_until("a running prover", DEFAULT_TIMEOUT, async || {
            let workers = self.workers();
            let prover = workers.iter().any(|(_, command)| command.contains("--background"));
            if prover { Ok(()) } else { Err(format!("{workers:?}")) }
        })
        .await;
    }

    /// SIGTERM: it must end with exit code 0 in time, and leave neither workers nor temporary files.
    pub async fn stop(mut self) {
        let (started, workers) = (Instant::now(), self.workers());
        signal("TERM", self.pid).await;
        let status = tokio::time::timeout(STOPS_WITHIN, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("it still runs {STOPS_WITHIN:?} after SIGTERM")).unwrap();
        assert_eq!(status.code(), Some(0), "after SIGTERM it ended with {status}");
        println!("stopped in {:.1} s", started.elapsed().as_secs_f64());
        gone(&workers).await;
        let left = fs::read_dir(&self.scratch).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        assert!(left.is_empty(), "temporary files are left: {left:?}");
    }

    /// SIGKILL for its workers, as the kernel does it when memory runs out.
    pub async fn kill_workers(&self) {
        let workers = self.workers();
        assert!(!workers.is_empty());
        for (id, _) in &workers {
            signal("KILL", *id).await;
        }
        gone(&workers).await;
    }

    /// Waits until it has ended as by SIGKILL, whoever sent it: it may die of a proof.
    pub async fn wait_killed(mut self) {
        let workers = self.workers();
        let status = tokio::time::timeout(PROOF_TIMEOUT, self.child.wait()).await;
        let status =
            status.unwrap_or_else(|_| panic!("it still runs after {PROOF_TIMEOUT:?}:\n{}", self.log())).unwrap();
        assert_eq!(status.signal(), Some(9), "it ended with {status}:\n{}", self.log());
        gone(&workers).await;
    }

    /// True if it has ended, however it did.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGTERM, whatever else may happen to it meanwhile: it must be gone in time.
    pub async fn stop_unchecked(mut self) {
        let workers = self.workers();
        try_signal("TERM", self.pid).await;
        let ended = tokio::time::timeout(STOPS_WITHIN, self.child.wait()).await;
        ended.unwrap_or_else(|_| panic!("it still runs {STOPS_WITHIN:?} after SIGTERM")).unwrap();
        gone(&workers).await;
    }

    /// The most memory that it ever held, in MiB.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        let workers = self.workers();
        self.child.kill().await.unwrap();
        gone(&workers).await;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let log = self.log();
        if std::thread::panicking() {
            println!("--- the daemon's log\n{log}---");
        } else {
            secrets::assert_none("the log", &log);
        }
    }
}

/// Workers die with the daemon, however it ends.
async fn gone(workers: &[(u32, String)]) {
    // One that a test had stopped, before it could ask to die with the daemon, ends when it goes on.
    for (id, _) in workers {
        try_signal("CONT", *id).await;
    }
    wait_until("the workers' end", DEFAULT_TIMEOUT, async || {
        let left: Vec<_> = workers.iter().filter(|(id, _)| is_running(*id)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

/// Sends a process a signal: `KILL`, `STOP` …
pub async fn signal(name: &str, id: u32) {
    let sent = Command::new("sh").args(["-c", "kill -\"$0\" \"$1\"", name, &id.to_string()]).status().await.unwrap();
    assert!(sent.success(), "cannot send {name} to process {id}");
}

/// The same for one that may be gone.
pub async fn try_signal(name: &str, id: u32) {
    let script = "kill -\"$0\" \"$1\" 2>/dev/null || true";
    Command::new("sh").args(["-c", script, name, &id.to_string()]).status().await.unwrap();
}

fn is_running(id: u32) -> bool {
    stat(id).is_some_and(|fields| fields[0] != "Z")
}

fn parent_of(id: u32) -> Option<u32> {
    stat(id)?[1].parse().ok()
}

/// The fields of `/proc/ID/stat` from the state on.
fn stat(id: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn read_lossy(path: &Path) -> String {
    let read = File::open(path).and_then(|mut file| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes).map(|_| bytes)
    });
    read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
