//! The daemon under test: its image, or its program.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    process::{Child, Command},
    time::{Instant, timeout},
};

use crate::{rpc, state};

/// How long it may take until it is ready, and until it has ended.
const READY_WITHIN: Duration = Duration::from_secs(180);
const GONE_WITHIN: Duration = Duration::from_secs(45);
const LOOK: Duration = Duration::from_millis(200);

/// How much of its log is shown when it has failed.
const LOG_TAIL: usize = 4_000;

/// The user that an image runs as if we are root.
const CONTAINER_UID: u32 = 1000;

/// What is run.
#[derive(Clone, Debug)]
pub enum Program {
    /// An image of this name.
    Image(String),
    /// A program, with the Python that has EZKL if it is not where the daemon looks for it.
    Native { nova: PathBuf, python: Option<PathBuf> },
}

/// A running daemon. It is killed when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// The container's name, if there is one.
    container: Option<String>,
    address: SocketAddr,
    log: PathBuf,
}

impl Daemon {
    /// Starts it in a folder of its own, with these settings and copies of the model files.
    pub fn start(program: &Program, folder: &Path, model_files: &Path, settings: &[(&str, String)]) -> Result<Self> {
        let address = free_address()?;
        copy_files(model_files, &folder.join("model_files"))?;
        fs::create_dir_all(folder.join("artifacts")).context("cannot make the artifacts folder")?;
        // Secrets are in a file of ours alone: a command line and an image's settings can be seen by others.
        state::write_env(&folder.join(".env"), settings)?;
        let (mut command, container) = match program {
            Program::Image(image) => {
                let name = format!("nova-smoke-{}", std::process::id());
                (of_image(image, &name, folder, address)?, Some(name))
            }
            Program::Native { nova, python } => (of_program(nova, python.as_deref(), folder, address)?, None),
        };
        let log = folder.join("daemon.log");
        let out = fs::File::create(&log).context("cannot write the daemon's log")?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).kill_on_drop(true);
        let what = command.as_std().get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("cannot run {what}"))?;
        Ok(Self { child, container, address, log })
    }

    /// Waits until it can do its work.
    pub async fn ready(&mut self) -> Result<()> {
        let http = rpc::http_client()?;
        let url = format!("http://{}/readyz", self.address);
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the daemon ended with {status}:\n{}", self.log_tail());
            }
            let answer = http.get(&url).send().await;
            if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let said = match answer {
                    Ok(answer) => answer.text().await.unwrap_or_default(),
                    Err(error) => error.to_string(),
                };
                bail!("the daemon is not ready after {READY_WITHIN:?}: {said}\n{}", self.log_tail());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks it to stop, as a service manager does; it must end well and in time.
    pub async fn stop(mut self) -> Result<Duration> {
        let start = Instant::now();
        match &self.container {
            Some(name) => run(Command::new("docker").args(["stop", "-t", "40", name])).await?,
            None => {
                let id = self.child.id().context("the daemon has ended by itself")?;
                run(Command::new("kill").args(["-TERM", &id.to_string()])).await?;
            }
        }
        let ended = timeout(GONE_WITHIN, self.child.wait()).await;
        let status: ExitStatus = ended.with_context(|| format!("the daemon still runs after {GONE_WITHIN:?}"))??;
        ensure!(status.success(), "the daemon ended with {status} when it was asked to stop:\n{}", self.log_tail());
        Ok(start.elapsed())
    }

    /// The end of its log, which holds no key.
    pub fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL)..]).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Killed with its client, a container would go on. After a stop there is none, which is no matter.
        if let Some(name) = &self.container {
            let mut remove = std::process::Command::new("docker");
            let _ = remove.args(["rm", "--force", name]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

/// With the host's network, because chain and services may be on the loopback.
fn of_image(image: &str, name: &str, folder: &Path, address: SocketAddr) -> Result<Command> {
    let owner = folder.metadata().context("the folder of the run")?;
    let (user, group) = match owner.uid() {
        0 => {
            give(folder, CONTAINER_UID)?;
            (CONTAINER_UID, CONTAINER_UID)
        }
        user => (user, owner.gid()),
    };
    let mount = |from: &str, to: &str| format!("{}:{to}", folder.join(from).display());
    let mut command = Command::new("docker");
    command
        .args(["run", "--rm", "--name", name, "--network", "host", "--user", &format!("{user}:{group}")])
        .args(["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"])
        .args(["--volume", &mount(".env", "/app/.env:ro")])
        .args(["--volume", &mount("model_files", "/app/model_files:ro")])
        .args(["--volume", &mount("artifacts", "/var/nova/artifacts")])
        .args(["--env", &format!("NOVA_HTTP_ADDRESS={address}"), image, "run"]);
    Ok(command)
}

/// Like the image: with the project's nova.toml, and none of the settings that are in our environment.
fn of_program(nova: &Path, python: Option<&Path>, folder: &Path, address: SocketAddr) -> Result<Command> {
    ensure!(nova.is_file(), "{} is not there: `cargo build` makes it, or leave out --native", nova.display());
    if Path::new("nova.toml").is_file() {
        fs::copy("nova.toml", folder.join("nova.toml")).context("cannot copy nova.toml")?;
    }
    let mut command = Command::new(nova);
    command.arg("run").current_dir(folder);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NOVA_") {
            command.env_remove(name);
        }
    }
    command.env("NOVA_HTTP_ADDRESS", address.to_string());
    if let Some(python) = python {
        command.env("NOVA_PYTHON", python);
    }
    Ok(command)
}

async fn run(command: &mut Command) -> Result<()> {
    let what = format!("{:?}", command.as_std());
    let output = command.output().await.with_context(|| format!("cannot run {what}"))?;
    ensure!(output.status.success(), "{what} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// A port that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no free port")?.local_addr()?)
}

/// The files of a folder, without folders in it.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    let named = || format!("cannot copy the model files from {}", from.display());
    fs::create_dir_all(to).with_context(named)?;
    for entry in fs::read_dir(from).with_context(named)? {
        let path = entry.with_context(named)?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            fs::copy(&path, to.join(name)).with_context(named)?;
        }
    }
    Ok(())
}

/// Makes a folder and all in it somebody else's.
fn give(path: &Path, user: u32) -> Result<()> {
    chown(path, Some(user), Some(user)).with_context(|| format!("cannot give {} away", path.display()))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), user)?;
        }
    }
    Ok(())
}
