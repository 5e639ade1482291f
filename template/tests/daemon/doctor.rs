//! `nova doctor`: one line a check, and what to do where one fails.

use std::fs;

use ethers::types::U256;
use nova_devnet::Terms;

use crate::bad_start::of_another_version;
use crate::common::net::Net;
use crate::common::nova::{Ended, Nova};
use crate::common::project::Project;
use crate::common::{assert_says, onnx};

/// Each check by the name that its line begins with.
const CHECKS: [&str; 11] = [
    "settings",
    "model files",
    "ONNX model",
    "SRS",
    "EZKL",
    "hooks and circuit",
    "artifacts folder",
    "Plumber",
    "chain",
    "modeler",
    "balance",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_finds_nothing_wrong_with_a_devnet_and_names_everything_that_is() {
    let (project, net) = (Project::new(), Net::with_verifier(Terms::default()).await);
    let doctor = project.nova(&["doctor"]).envs(net.env());

    let said = doctor.clone().succeed().await;
    for check in CHECKS.into_iter().chain(["top N"]) {
        assert_says(&said, &[&format!("✓ {check}: ")]);
    }
    assert!(!said.contains('✗'), "{said}");
    assert_says(&said, &["INSECURE", "checks passed", &format!("{:?}", net.deployment.modeler)]);

    // What is wrong with the modeler.
    net.rank(false).await;
    net.fund(U256::from(1000)).await;
    let wallet = format!("{:?}", net.deployment.signer);
    let ended = failing(doctor.clone(), 2).await;
    line(&ended, "balance", &[&wallet, "0.000000000000001", "not enough for one answer: send it some"]);
    line(&ended, "top N", &["the modeler is not among the top N"]);

    // What is wrong with the chain's settings.
    let ended = failing(doctor.clone().env("NOVA_CHAIN_ID", "1"), 1).await;
    line(&ended, "chain", &["serves chain 31337, NOVA_CHAIN_ID is 1"]);
    let stranger = nova_devnet::keys::anvil_account(7, 31337).unwrap();
    let stranger = doctor
        .clone()
        .env("NOVA_CLI_WALLET_PRIVATE_KEY", nova_devnet::keys::private_key(&stranger))
        .env("NOVA_MULTISIG_ADDRESS", format!("{:?}", net.deployment.modeler));
    line(&failing(stranger, 1).await, "chain", &["does not list wallet", "as a signer"]);

    // What is wrong with the world outside.
    fs::write(project.path().join("a-file"), "").unwrap();
    let alone = doctor
        .clone()
        .env("NOVA_RPC_URLS", format!("http://127.0.0.1:1/v2/{}", crate::common::secrets::RPC_KEY))
        .env("NOVA_PLUMBER_HOST", "http://127.0.0.1:1")
        .env("NOVA_ARTIFACTS_PATH", "a-file/artifacts");
    let ended = failing(alone, 3).await;
    line(&ended, "chain", &["no RPC endpoint answers", "127.0.0.1:1"]);
    line(&ended, "Plumber", &["http://127.0.0.1:1"]);
    line(&ended, "artifacts folder", &["a-file/artifacts must be writable", "NOVA_ARTIFACTS_PATH"]);
    let refused = doctor.clone().env("NOVA_SPECTRAL_API_KEY", "another-key");
    net.rank(true).await;
    net.fund(U256::exp10(18)).await;
    line(&failing(refused, 1).await, "Plumber", &["401", "the key was refused: is it right?"]);
}

/// What is wrong with the model, its files and the hooks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_names_what_is_wrong_with_the_model() {
    let net = Net::start().await;
    let doctor = |project: &Project| project.nova(&["doctor"]).envs(net.env());

    let project = Project::without_setup();
    let ended = failing(doctor(&project), 2).await;
    for check in ["model files", "hooks and circuit"] {
        line(&ended, check, &["these model files are missing", "model.ezkl", "`nova setup`", "docker compose run"]);
    }

    let project = Project::new();
    of_another_version(&project);
    let ended = failing(doctor(&project), 2).await;
    for check in ["EZKL", "hooks and circuit"] {
        line(&ended, check, &["was made by EZKL 22.0.1", "ezkl==22.0.1"]);
    }

    let project = Project::new();
    project.remove_model_file("setup.json");
    project.change_model_file("model.onnx", onnx::with_unsupported_op);
    let ended = failing(doctor(&project), 2).await;
    for check in ["ONNX model", "hooks and circuit"] {
        line(&ended, check, &["uses what candle cannot evaluate: Celu"]);
    }

    let project = Project::new();
    project.remove_model_file("setup.json");
    project.change_model_file("model.onnx", onnx::with_other_weights);
    let ended = failing(doctor(&project), 1).await;
    line(&ended, "hooks and circuit", &["sample.parquet row ", "candle says", "the circuit is of another model"]);

    let project = Project::new();
    fs::write(project.path().join("rows.json"), r#"[{"wallet_age": 1.0}]"#).unwrap();
    let ended = failing(project.nova(&["doctor", "--sample", "rows.json"]).envs(net.env()), 1).await;
    line(
        &ended,
        "hooks and circuit",
        &["rows.json row 0", "pre_process", "features are missing that training_cols.json names"],
    );

    let on_arbitrum_one = doctor(&project).env("NOVA_NETWORK", "arbitrum-one");
    let ended = failing(on_arbitrum_one, 1).await;
    line(&ended, "SRS", &["not the SRS of a public ceremony", "without --insecure-srs"]);
}

/// Runs it: so many checks fail, and all others are made all the same.
async fn failing(doctor: Nova, count: usize) -> Ended {
    let ended = doctor.fail(&[]).await;
    let failed: Vec<_> = ended.stdout.lines().filter(|line| line.starts_with('✗')).collect();
    assert_eq!(failed.len(), count, "{}", ended.all());
    let checks = ended.stdout.lines().filter(|line| line.starts_with(['✓', '✗'])).count();
    assert_says(&ended.stderr, &[&format!("{count} of {checks} checks failed")]);
    ended
}

/// Asserts that the line of a failed check says all of this.
fn line(ended: &Ended, check: &str, says: &[&str]) {
    let found = ended.stdout.lines().find(|line| line.starts_with(&format!("✗ {check}: ")));
    let found = found.unwrap_or_else(|| panic!("✗ {check} is not there:\n{}", ended.all()));
    assert_says(found, says);
}
