//! The `devnet` command as a process: what it starts, writes, prints, and leaves behind.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::{Duration, Instant},
};

use ethers::{
    signers::{LocalWallet, Signer as _},
    types::Address,
};
use nova_devnet::{
    anvil::{Anvil, AnvilOptions},
    keys::{anvil_account, private_key},
};
use serde_json::Value;
use tempfile::TempDir;

/// `devnet up` or `serve` in a folder of its own, killed with the test.
struct Running {
    child: Child,
    /// Held open, as a terminal would be.
    _stdout: BufReader<ChildStdout>,
    folder: TempDir,
    first_line: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Starts the command and waits for its first line, which it prints when it is ready.
    fn start(folder: TempDir, arguments: &[&str]) -> Self {
        let mut child = command(folder.path(), arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut first_line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut first_line).unwrap();
        Self { child, _stdout: stdout, folder, first_line }
    }

    fn up() -> Self {
        let arguments = ["up", "--port", "0", "--services-port", "0", "--fault", FAULTY];
        let running = Self::start(tempfile::tempdir().unwrap(), &arguments);
        assert!(running.first_line.starts_with("devnet ready: "), "{}", running.first_line);
        running
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// The value of a setting in `.env`.
    fn setting(&self, name: &str) -> String {
        let env = fs::read_to_string(self.folder.path().join(".env")).unwrap();
        let line = env.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name} is not in {env}")).to_owned()
    }

    fn chain_address(&self) -> String {
        self.setting("NOVA_RPC_URLS").trim_start_matches("http://").to_owned()
    }
}

const FAULTY: &str = "0x00000000000000000000000000000000000000a1=missing";

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_devnet"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

/// What a command that has to succeed prints with `--json`.
fn json_of(folder: &Path, arguments: &[&str]) -> Value {
    let output = run(folder, &[arguments, &["--json"]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until nobody listens at an address any more.
fn closed(address: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "anvil still listens at {address}");
        std::thread::yield_now();
    }
}

#[test]
fn up_stops_with_its_chain_on_sigterm_and_the_chain_goes_even_when_it_is_killed() {
    for signal in ["-TERM", "-INT", "-KILL"] {
        let mut running = Running::up();
        let chain = running.chain_address();
        assert!(TcpStream::connect(&chain).is_ok());
        running.signal(signal);
        let status = running.child.wait().unwrap();
        assert_eq!(status.success(), signal != "-KILL", "{signal}: {status}");
        closed(&chain);
    }
}

#[test]
fn requests_and_challenges_are_made_from_beside_the_state_file() {
    let running = Running::up();
    let folder = running.folder.path();
    let made = json_of(folder, &["request", "--count", "3"]);
    let ids: Vec<_> = made.as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    let challenge = json_of(folder, &["challenge", ids[0]]);
    assert_eq!(challenge[0]["payload"], ids[0]);
    let several = json_of(folder, &["challenge", ids[0], ids[1]]);
    assert!(several[0]["payload"].as_str().unwrap().starts_with("bafkrei"), "{several}");

    let status = json_of(folder, &["status"]);
    assert_eq!(status["requests"].as_array().unwrap().len(), 3);
    assert_eq!(status["window_open"], true);
    let table = run(folder, &["status"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains(ids[2]));
}

#[test]
fn what_cannot_be_done_is_said_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let complaint = |arguments: &[&str]| {
        let output = run(folder.path(), arguments);
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(complaint(&["status"]).contains("cannot read devnet.json: `devnet up`"));
    assert!(complaint(&["challenge", "0x12"]).contains("`0x12` is no request id"));
    assert!(complaint(&["up", "--fault", "0x1=odd"]).contains("is no wallet"));
    let wrong_kind = FAULTY.replace("missing", "odd");
    assert!(complaint(&["up", "--fault", &wrong_kind]).contains("`odd` is no kind of fault"));
    fs::write(folder.path().join(".env"), "NOVA_SPECTRAL_API_KEY=precious\n").unwrap();
    let complaint = complaint(&["up", "--port", "0", "--services-port", "0"]);
    assert!(complaint.contains(".env was not written by `devnet up`"), "{complaint}");
}

#[test]
fn a_request_that_nobody_answers_is_named_after_the_wait() {
    let running = Running::up();
    let output = run(running.folder.path(), &["request", "--wait", "--timeout", "1"]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complaint.contains("not answered: 0x"), "{complaint}");
}

#[test]
fn on_a_chain_of_others_one_key_in_a_file_does_it_all() {
    let anvil = Anvil::start(&AnvilOptions { chain_id: 421_614, ..AnvilOptions::default() }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key: LocalWallet = anvil_account(7, 421_614).unwrap();
    fs::write(folder.path().join("key"), format!("{}\n", private_key(&key))).unwrap();
    let signer = format!("{:?}", Address::from_low_u64_be(0xabc));
    let with_key = |arguments: &[&str]| json_of(folder.path(), &[arguments, &["--key-file", "key"]].concat());
    let deployed = with_key(&["deploy", "--rpc", &anvil.url(), "--signer", &signer, "--fund", "0.5"]);
    assert_eq!(deployed["chain_id"], 421_614);

    let made = with_key(&["request", "--input", r#"{"score": 1}"#]);
    assert_eq!(made[0]["input"], r#"{"score": 1}"#);
    assert_eq!(made[0]["consumer"], format!("{:?}", key.address()));
    let id = made[0]["id"].as_str().unwrap();
    assert_eq!(with_key(&["challenge", id])[0]["payload"], id);
    let status = with_key(&["status"]);
    assert_eq!(status["signer_balance"], "0x6f05b59d3b20000");

    let no_services = run(folder.path(), &["challenge", id, id, "--key-file", "key"]);
    assert!(String::from_utf8_lossy(&no_services.stderr).contains("no Plumber is known"));
    let no_key = run(folder.path(), &["request"]);
    assert!(String::from_utf8_lossy(&no_key.stderr).contains("--key-file"));

    let serving = Running::start(folder, &["serve", "--services-port", "0"]);
    assert!(serving.first_line.starts_with("NOVA_PLUMBER_HOST=http://127.0.0.1:"));
    let folder = serving.folder.path();
    let several = json_of(folder, &["challenge", id, id, "--key-file", "key"]);
    assert!(several[0]["payload"].as_str().unwrap().starts_with("bafkrei"), "{several}");
}
