//! The chain: an anvil process that lives exactly as long as its handle.

use std::{
    env,
    io::{BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::sync::oneshot;

use crate::rpc;

/// How long anvil may take to listen.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long anvil may take to end.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// Runs anvil until the standard input closes. The other end of that pipe is held by us alone, so anvil goes when
/// its handle is dropped, and also when this process is killed. The whole process group is told to end, because `anvil`
/// may be npm's script, which ends before the program that it started.
///
/// anvil writes old states to disk, by default below the home folder, and leaves them there when it ends: some hundred megabytes a run.
/// Here they go with it.
const KEEPER: &str = r#"states=${TMPDIR:-/tmp}/anvil-$$; mkdir -m 700 "$states"
"$@" --cache-path "$states" </dev/null & exec >/dev/null 2>&1; read -r _; trap '' TERM; kill -TERM 0; wait; rm -rf "$states""#;

/// A running anvil.
#[derive(Debug)]
pub struct Anvil {
    keeper: Child,
    lifeline: Option<ChildStdin>,
    host: IpAddr,
    port: u16,
    /// Closes when anvil does.
    alive: oneshot::Receiver<()>,
    /// The same, for whoever cannot await.
    gone: mpsc::Receiver<()>,
}

/// How the chain is to be.
#[derive(Clone, Debug)]
pub struct AnvilOptions {
    /// Where the chain listens, and with it a devnet's services: on the loopback, unless others are to reach them.
    pub host: IpAddr,
    /// 0 for any free one.
    pub port: u16,
    pub chain_id: u64,
    /// Seconds from block to block; blocks come whether there are transactions or not.
    pub block_time: f64,
    pub gas_limit: u64,
}

impl Default for AnvilOptions {
    fn default() -> Self {
        // A quarter of a second is Arbitrum's pace; the gas is enough for 1,000 answers at NOVA_GAS' default.
        Self { host: Ipv4Addr::LOCALHOST.into(), port: 0, chain_id: 31337, block_time: 0.25, gas_limit: 4_000_000_000 }
    }
}

impl Anvil {
    /// Starts anvil and waits until it listens.
    pub fn start(options: &AnvilOptions) -> Result<Self> {
        let program = find()?;
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "anvil-keeper"])
            .arg(&program)
            .args(["--host", &options.host.to_string(), "--port", &options.port.to_string()])
            .args(["--chain-id", &options.chain_id.to_string()])
            .args(["--block-time", &options.block_time.to_string()])
            .args(["--gas-limit", &options.gas_limit.to_string()])
            // Finality follows the head by two blocks instead of 64.
            .args(["--slots-in-an-epoch", "1", "--order", "fifo"])
            // Out of the terminal's group: Ctrl-C reaches us alone, and we stop it in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let lifeline = keeper.stdin.take();
        let stdout = keeper.stdout.take().context("anvil's output is not there")?;
        let (ended, alive) = oneshot::channel();
        let (last, gone) = mpsc::channel();
        let mut anvil = Self { keeper, lifeline, host: options.host, port: 0, alive, gone };
        anvil.port = listening_port(stdout, (ended, last))
            .with_context(|| format!("{} did not start on port {}", program.display(), options.port))?;
        Ok(anvil)
    }

    /// Returns when anvil has stopped by itself.
    pub async fn stopped(&mut self) {
        // Nothing is ever sent: the channel only closes.
        let _ = (&mut self.alive).await;
    }

    /// The RPC endpoint, as this machine reaches it.
    pub fn url(&self) -> String {
        rpc::url_of(SocketAddr::new(self.host, self.port))
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        if let Err(error) = self.keeper.wait() {
            tracing::warn!("anvil may still run: {error}");
        }
        // Its output closes when the last process that holds it has ended.
        if self.gone.recv_timeout(GONE_WITHIN) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("anvil still runs after {GONE_WITHIN:?}");
        }
    }
}

/// Reads anvil's output until it tells its port, and goes on reading so that anvil never waits for a reader. `ended` is
/// dropped when the output closes.
fn listening_port(stdout: ChildStdout, ended: (oneshot::Sender<()>, mpsc::Sender<()>)) -> Result<u16> {
    let (found, port) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(address) = line.strip_prefix("Listening on ") {
                let port = address.rsplit(':').next().and_then(|port| port.trim().parse().ok());
                // Nobody listens any more when the wait was given up.
                let _ = found.send(port);
            }
        }
        drop(ended);
    });
    match port.recv_timeout(READY_WITHIN) {
        Ok(Some(port)) => Ok(port),
        Ok(None) => bail!("it names no port it listens on"),
        Err(mpsc::RecvTimeoutError::Timeout) => bail!("it does not listen after {READY_WITHIN:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            bail!("it stopped at once: is the port taken?")
        }
    }
}

/// The folder with the contracts, their compiler and npm's anvil: of the project we are called in, else of the one
/// we were built in. (They differ where several projects share one target folder.)
pub fn contracts_folder() -> PathBuf {
    let here = env::current_dir().unwrap_or_default();
    let of_project = here.ancestors().map(|folder| folder.join("devnet/contracts"));
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts");
    of_project.into_iter().find(|it| it.join("compile.mjs").is_file()).unwrap_or(built_in)
}

/// `anvil` of the PATH, else `NOVA_ANVIL`, else npm's.
fn find() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|folder| folder.join("anvil"));
    let named = env::var_os("NOVA_ANVIL").map(PathBuf::from);
    let from_npm = contracts_folder().join(npm_binary());
    on_path.chain(named).chain([from_npm]).find(|file| file.is_file()).with_context(|| {
        format!(
            "anvil is not on the PATH, NOVA_ANVIL does not name it, and npm has not installed it: run `npm ci` in {}, with Node 20 or \
             later",
            contracts_folder().display()
        )
    })
}

/// npm's own `.bin/anvil` is a script that starts this one and may end before it.
fn npm_binary() -> String {
    let system = match env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let machine = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("node_modules/@foundry-rs/anvil-{system}-{machine}/bin/anvil")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anvil_is_gone_when_its_handle_is() {
        let anvil = Anvil::start(&AnvilOptions::default()).unwrap();
        let address = ("127.0.0.1", anvil.port);
        let states = env::temp_dir().join(format!("anvil-{}", anvil.keeper.id()));
        assert!(states.is_dir(), "{states:?}");
        assert!(std::net::TcpStream::connect(address).is_ok());
        drop(anvil);
        assert!(!states.exists(), "{states:?}");
        assert!(std::net::TcpStream::connect(address).is_err());
    }

    #[test]
    fn a_taken_port_is_named() {
        let anvil = Anvil::start(&AnvilOptions::default()).unwrap();
        let taken = AnvilOptions { port: anvil.port, ..AnvilOptions::default() };
        let error = format!("{:#}", Anvil::start(&taken).unwrap_err());
        assert!(error.contains(&anvil.port.to_string()), "{error}");
    }
}
