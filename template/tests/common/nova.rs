//! The program: one command, run to its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use serde::de::DeserializeOwned;
use tokio::process::Command;

use super::daemon::Daemon;
use super::{PROOF_TIMEOUT, model_files, secrets};

/// `nova` with arguments, folder and environment. Of this process's own settings it sees none.
#[derive(Clone)]
pub struct Nova {
    folder: PathBuf,
    arguments: Vec<String>,
    env: BTreeMap<String, String>,
}

/// How a command ended, and what it said.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Nova {
    pub fn new(folder: &Path, arguments: &[&str]) -> Self {
        let mut env = model_files::inherited();
        env.insert("NOVA_HTTP_ADDRESS".to_owned(), "127.0.0.1:0".to_owned());
        // What a killed process leaves goes with the folder.
        env.insert("TMPDIR".to_owned(), folder.display().to_string());
        // The default is one that answers do not feel. Here proofs are waited for.
        env.insert("NOVA_PROVER_THREADS".to_owned(), "2".to_owned());
        // Where proofs are counted, or steps of one, none is made that the test did not ask for.
        env.insert("NOVA_CANARY_INTERVAL".to_owned(), "0".to_owned());
        Self { folder: folder.to_owned(), arguments: arguments.iter().map(|text| (*text).to_owned()).collect(), env }
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    pub fn envs<'a>(self, pairs: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        pairs.into_iter().fold(self, |nova, (name, value)| nova.env(name, value))
    }

    /// Runs it to its end.
    pub async fn run(self) -> Ended {
        let ended = tokio::time::timeout(PROOF_TIMEOUT, self.command().output()).await;
        let output = ended.unwrap_or_else(|_| panic!("nova {:?} did not end", self.arguments)).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ended = Ended { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) };
        secrets::assert_none(&format!("nova {:?}", self.arguments), &ended.all());
        ended
    }

    /// Runs it; it must end well. Returns what it printed.
    pub async fn succeed(self) -> String {
        let arguments = self.arguments.clone();
        let ended = self.run().await;
        assert!(ended.status.success(), "nova {arguments:?} ended with {}:\n{}", ended.status, ended.all());
        ended.stdout
    }

    /// Runs it; it must end with exit code 1 and say all of this.
    pub async fn fail(self, says: &[&str]) -> Ended {
        let arguments = self.arguments.clone();
        let ended = self.run().await;
        assert_eq!(ended.status.code(), Some(1), "nova {arguments:?}:\n{}", ended.all());
        super::assert_contains_all(&ended.all(), says);
        ended
    }

    /// Runs it; what it printed is JSON.
    pub async fn json<T: DeserializeOwned>(self) -> T {
        let printed = self.succeed().await;
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error} in {printed}"))
    }

    /// Starts it as a daemon, whose log is a file.
    pub fn start(self) -> Daemon {
        let level = self.env.get("NOVA_LOG_LEVEL").cloned().unwrap_or_else(|| "DEBUG".to_owned());
        Daemon::start(self.env("NOVA_LOG_LEVEL", level))
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nova"));
        command.args(&self.arguments).current_dir(&self.folder).env_clear().envs(&self.env);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Ended {
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}
