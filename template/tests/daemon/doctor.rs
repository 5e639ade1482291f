//! `nova doctor`: one line a check, and what to do where one fails.

use std::fs;

use ethers::types::{Address, U256};
use nova_devnet::keys::{anvil_account, private_key};
use nova_devnet::{CompetitionParams, Fault};

use crate::common::net::Net;
use crate::common::nova::{Ended, Nova};
use crate::common::project::Project;
use crate::common::secrets::RPC_KEY;
use crate::common::{assert_contains_all, onnx};
use crate::startup_errors::of_another_version;

/// Each check by the name that its line begins with.
const CHECKS: [&str; 16] = [
    "settings",
    "model files",
    "ONNX model",
    "SRS",
    "EZKL",
    "hooks and circuit",
    "prover",
    "artifacts folder",
    "Plumber",
    "wallet key",
    "RPC",
    "contracts",
    "modeler",
    "balance",
    "top N",
    "verifier on chain",
];

/// What fails before `setup` has been run.
const BEFORE_SETUP: [&str; 3] = ["model files", "hooks and circuit", "prover"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_finds_nothing_wrong_with_a_devnet_and_names_what_is_wrong_around_the_daemon() {
    let (project, net) = (Project::new(), Net::with_verifier(CompetitionParams::default()).await);
    // A wallet that Plumber does not know shows that it answers.
    net.devnet.services.set_fault(Address::from([0x11; 20]), Some(Fault::Unknown));
    let said = project.nova(&["doctor"]).envs(net.env()).succeed().await;
    for check in CHECKS {
        assert_contains_all(&said, &[&format!("✓ {check}: ")]);
    }
    assert!(!said.contains('✗'), "{said}");
    assert_contains_all(&said, &["INSECURE", "all 18 checks passed", &format!("{:?}", net.deployment.modeler)]);

    // Without model files there is less to wait for.
    let project = Project::without_setup();
    let env = net.env().into_iter().filter(|(name, _)| *name != "NOVA_PROOF_REGISTRY_ADDRESS");
    let doctor = project.nova(&["doctor"]).envs(env);
    net.rank(false).await;
    net.fund(U256::from(1000)).await;
    let wallet = format!("{:?}", net.deployment.signer);
    let ended = failing(doctor.clone(), &["balance", "top N"]).await;
    line(&ended, "balance", &[&wallet, "0.000000000000001", "not enough for one answer: send it some"]);
    line(&ended, "top N", &["the modeler is not among the top N"]);
    net.rank(true).await;
    net.fund(U256::exp10(18)).await;

    let ended = failing(doctor.clone().env("NOVA_CHAIN_ID", "1"), &["RPC", "contracts and modeler"]).await;
    line(&ended, "RPC", &["serves chain 31337, NOVA_CHAIN_ID is 1"]);
    let stranger = doctor
        .clone()
        .env("NOVA_CLI_WALLET_PRIVATE_KEY", private_key(&anvil_account(7, 31337).unwrap()))
        .env("NOVA_MULTISIG_ADDRESS", format!("{:?}", net.deployment.modeler));
    let ended = failing(stranger, &["contracts and modeler"]).await;
    line(&ended, "contracts and modeler", &["does not list wallet", "as a signer"]);

    fs::write(project.path().join("a-file"), "").unwrap();
    let alone = doctor
        .clone()
        .env("NOVA_RPC_URLS", format!("{},http://127.0.0.1:1/v2/{RPC_KEY}", net.devnet.rpc_url()))
        .env("NOVA_PLUMBER_HOST", "http://127.0.0.1:1")
        .env("NOVA_ARTIFACTS_PATH", "a-file/artifacts");
    let ended = failing(alone, &["artifacts folder", "Plumber", "RPC"]).await;
    line(&ended, "artifacts folder", &["a-file/artifacts must be writable", "NOVA_ARTIFACTS_PATH"]);
    line(&ended, "Plumber", &["http://127.0.0.1:1"]);
    line(&ended, "RPC", &["no RPC endpoint answers", "127.0.0.1:1"]);

    let ended = failing(doctor.clone().env("NOVA_SPECTRAL_API_KEY", "another-key"), &["Plumber"]).await;
    line(&ended, "Plumber", &["401", "the key was refused: is it right?"]);
    // What can be checked without the settings that are missing is checked all the same.
    let ended = failing(doctor.env("NOVA_CHALLENGE_ADDRESS", ""), &["settings"]).await;
    assert_contains_all(&ended.stdout, &["✗ settings: ", "NOVA_CHALLENGE_ADDRESS", "✓ artifacts folder"]);
}

/// What is wrong with the model, its files and the hooks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_names_what_is_wrong_with_the_model() {
    let net = Net::with_verifier(CompetitionParams::default()).await;
    let doctor = |project: &Project| project.nova(&["doctor"]).envs(net.env());

    let project = Project::without_setup();
    let ended = failing(doctor(&project), &["verifier on chain"]).await;
    for check in BEFORE_SETUP {
        line(&ended, check, &["these model files are missing", "model.ezkl", "`nova setup`", "docker compose run"]);
    }

    let project = Project::new();
    of_another_version(&project);
    let ended = failing(doctor(&project), &["EZKL", "hooks and circuit", "prover"]).await;
    line(&ended, "EZKL", &["was made by EZKL 22.0.1", "ezkl==22.0.1"]);

    let project = Project::new();
    project.remove_model_file("setup.json");
    project.change_model_file("model.onnx", onnx::with_unsupported_op);
    let ended = failing(doctor(&project), &["ONNX model", "hooks and circuit", "prover"]).await;
    line(&ended, "ONNX model", &["uses what cannot run: Bernoulli"]);

    let project = Project::new();
    project.remove_model_file("setup.json");
    project.change_model_file("model.onnx", onnx::with_other_weights);
    let ended = failing(doctor(&project), &["hooks and circuit"]).await;
    line(&ended, "hooks and circuit", &["sample.parquet row ", "candle says", "the circuit is of another model"]);

    let project = Project::new();
    fs::write(project.path().join("rows.json"), r#"[{"wallet_age": 1.0}]"#).unwrap();
    let doctor = project.nova(&["doctor", "--sample", "rows.json"]).envs(net.env()).env("NOVA_NETWORK", "arbitrum-one");
    let ended = failing(doctor, &["SRS", "hooks and circuit", "prover"]).await;
    line(&ended, "SRS", &["not the SRS of a public ceremony", "without --insecure-srs"]);
    let says = ["rows.json row 0", "pre_process", "features are missing that preprocessing.json names"];
    line(&ended, "hooks and circuit", &says);
}

/// Runs it: these checks fail (and those that need `setup`, if it has not been run), and all others are made all the same.
async fn failing(doctor: Nova, checks: &[&str]) -> Ended {
    let ended = doctor.fail(&[]).await;
    let mut failed: Vec<_> =
        ended.stdout.lines().filter_map(|line| line.strip_prefix("✗ ")?.split(": ").next()).collect();
    if failed.contains(&"model files") {
        failed.retain(|check| !BEFORE_SETUP.contains(check));
    }
    assert_eq!(failed, checks, "{}", ended.all());
    let count = |mark: &[char]| ended.stdout.lines().filter(|line| line.starts_with(mark)).count();
    let (failed, all) = (count(&['✗']), count(&['✓', '✗']));
    assert_contains_all(&ended.stderr, &[&format!("{failed} of {all} checks failed")]);
    ended
}

/// Asserts that the line of a failed check says all of this.
fn line(ended: &Ended, check: &str, says: &[&str]) {
    let found = ended.stdout.lines().find(|line| line.starts_with(&format!("✗ {check}: ")));
    let found = found.unwrap_or_else(|| panic!("✗ {check} is not there:\n{}", ended.all()));
    assert_contains_all(found, says);
}
