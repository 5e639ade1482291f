//! What the daemon guards: its files, its workers, the model it answers with, and the promise that nothing is answered
//! that could not be proven.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ethers::types::Address;
use serde_json::Value;

use crate::common::net::Net;
use crate::common::project::Project;
use crate::common::{DEFAULT_TIMEOUT, PROOF_TIMEOUT, assert_contains_all, onnx, wait_until};

/// Every file and folder below.
fn everything_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(everything_in(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_writes_is_private_and_its_workers_are_bounded() {
    let (project, net) = (Project::new(), Net::start().await);
    let daemon = project.nova(&["run"]).envs(net.env()).env("NOVA_PROVER_MEMORY_MB", "4000").start().ready().await;
    let requests = net.ask(2).await;
    net.answered_once(&requests).await;
    for (id, command) in daemon.workers() {
        let read = |file: &str| fs::read_to_string(format!("/proc/{id}/{file}")).unwrap();
        let limits = read("limits");
        let limit = |name: &str| limits.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert_contains_all(&limit("Max data size"), &["4194304000           4194304000"]);
        assert!(limit("Max core file size").split_whitespace().nth(4) == Some("0"), "{limits}");
        let script = command.split_whitespace().find(|part| part.ends_with("worker.py")).unwrap().to_owned();
        let folder = Path::new(&script).parent().unwrap().metadata().unwrap();
        assert_eq!(folder.permissions().mode() & 0o777, 0o700, "the workers' folder");
        for variable in read("environ").split('\0').filter(|variable| !variable.is_empty()) {
            let name = variable.split('=').next().unwrap();
            assert!(!name.starts_with("NOVA_") && !name.starts_with("AWS_"), "a worker gets {name}");
        }
    }
    let challenge = net.challenge(&[requests[0].id]).await.unwrap();
    net.wait_response(&challenge, PROOF_TIMEOUT).await.unwrap();

    let written = everything_in(&project.artifacts());
    for path in &written {
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    }
    for name in ["ledger.sqlite", "ledger.sqlite-wal", "witness.json", "manifest.json", "proof.json", "SHA256SUMS"] {
        assert!(written.iter().any(|path| path.ends_with(name)), "there is no {name}");
    }
    daemon.stop().await;
}

/// Everything in the model folder is replaced before the first request: by what cannot run, and by what would answer
/// something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn model_files_swapped_under_a_running_daemon_change_nothing() {
    let (project, untouched, net) = (Project::new(), Project::new(), Net::start().await);
    let daemon = project.nova(&["run"]).envs(net.env()).start().ready().await;
    for name in ["model.ezkl", "model_pk.pk", "model_vk.vk", "kzg.srs", "settings.json"] {
        project.change_model_file(name, |_| b"gone".to_vec());
    }
    project.change_model_file("model.onnx", onnx::with_other_weights);
    project.change_json("preprocessing.json", |pipeline| {
        let mean = pipeline["steps"][0]["mean"].as_array_mut().expect("a list of means");
        mean.iter_mut().for_each(|value| *value = Value::from(0.0));
    });

    let request = &net.ask(1).await[0];
    let answers = net.answered_once(std::slice::from_ref(request)).await;
    let says: Value = untouched.nova(&["predict", "--wallet", &request.input, "--json"]).envs(net.env()).json().await;
    assert_eq!(says["submitted"].as_f64(), Some(answers[&request.id].value), "{says}");
    let challenge = net.challenge(&[request.id]).await.unwrap();
    net.wait_response(&challenge, PROOF_TIMEOUT).await.unwrap();
    daemon.stop().await;

    // The next start does notice.
    let says = ["setup.json", "run `nova setup` again"];
    project.nova(&["run"]).envs(net.env()).fail(&says).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_witnesses_cannot_be_saved_no_request_is_accepted_and_then_all_are() {
    let (project, net) = (Project::new(), Net::start().await);
    let daemon = project.nova(&["run"]).envs(net.env()).start().ready().await;
    // Files stand where the folders of witnesses and of trials would be.
    let in_the_way = ["witnesses", "check"].map(|name| project.artifacts().join(name));
    in_the_way.iter().for_each(|path| fs::write(path, "").unwrap());
    let mut requests = net.ask(3).await;
    let began = Instant::now();
    wait_until("a store that says it is in trouble", DEFAULT_TIMEOUT, async || {
        let (status, report) = daemon.readyz().await.unwrap();
        let store = report["parts"]["store"].as_str().unwrap_or_default().to_owned();
        let closed = status == 503 && store.contains("no requests are accepted, witnesses cannot be saved");
        if closed { Ok(()) } else { Err(report.to_string()) }
    })
    .await;

    // Those that come now are seen, and not begun.
    let later = net.ask(5).await;
    for request in &later {
        let row = project.request_in(request.id, "seen").await;
        assert_eq!(row.reason, None, "it was tried: {row:?}");
    }
    let said = daemon.log().matches("no requests are accepted until they can").count() as u64;
    assert!(
        (1..=1 + began.elapsed().as_secs() / 60).contains(&said),
        "it was said {said} times, once a minute is enough"
    );
    assert!(!project.artifacts().join("witnesses").is_dir());

    in_the_way.iter().for_each(|path| fs::remove_file(path).unwrap());
    requests.extend(later);
    net.answered_once(&requests).await;
    for request in &requests {
        assert!(project.saved(request.id, "manifest.json").exists());
    }
    assert_eq!(daemon.readyz().await.unwrap().0, 200);
    daemon.stop().await;
}

/// What consumers and validators write must not become lines of the log, nor orders to a terminal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_writes_into_log_and_tables() {
    let (project, net) = (Project::new(), Net::start().await);
    let daemon = project.nova(&["run"]).envs(net.env()).start().ready().await;
    let hostile = "x\n2026-01-01T00:00:00.000000Z ERROR the key is lost\r\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}=cmd|'/c calc'!A1";
    let request = &net.requests(&[hostile.to_owned()]).await.unwrap()[0];
    let challenge = net.challenge_with(net.deployment.modeler, hostile).await.unwrap();
    project.request_in(request.id, "failed").await;
    project.challenge_in(challenge.transaction, "failed").await;
    let table = project.nova(&["status"]).succeed().await;
    for text in [daemon.log(), table] {
        assert!(text.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')), "{text:?}");
        assert!(text.lines().all(|line| !line.starts_with("2026-01-01T00:00:00")), "{text}");
        assert_contains_all(&text, &["the key is lost"]);
    }
    daemon.stop().await;
}

/// A Pulse that somebody has taken over names a contract that says yes to everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_false_multisig_wins_nothing() {
    let (project, net) = (Project::new(), Net::start().await);
    let (ours, signer) = (net.deployment.modeler, net.deployment.signer);
    let liar = Address::repeat_byte(0x66);
    // Returns 1, whatever it is asked.
    net.anvil("anvil_setCode", (liar, "0x600160005260206000f3")).await;
    net.devnet.services.set_multisig(signer, Some(liar));

    let deceived = project.nova(&["run"]).envs(net.env()).start().ready().await;
    let request = &net.ask(1).await[0];
    project.request_row(request.id, "inferred", |row| row.submitted_value.is_some()).await;
    deceived.wait_for_log("not among the top N").await;
    assert_eq!(net.sent().await, 0, "no gas is spent for an address that nobody asks");
    deceived.stop().await;

    // Who is named in the settings is not asked for.
    let project = Project::new();
    let daemon = project.nova(&["run"]).envs(net.env()).env("NOVA_MULTISIG_ADDRESS", format!("{ours:?}"));
    let daemon = daemon.start().ready().await;
    net.answered_once(std::slice::from_ref(request)).await;
    daemon.stop().await;
    // And who it was once stays so, whatever Pulse says.
    let daemon = project.nova(&["run"]).envs(net.env()).start().ready().await;
    net.answered_once(&net.ask(1).await).await;
    daemon.stop().await;
    // Another that the settings name is another modeler's ledger.
    let says = ["this ledger is of another daemon", "its modeler is", &format!("{ours:?}")];
    project.nova(&["run"]).envs(net.env()).env("NOVA_MULTISIG_ADDRESS", format!("{liar:?}")).fail(&says).await;
}
