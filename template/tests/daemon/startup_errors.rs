//! What stops the daemon at once: each says what it is and what to do, before anything is answered.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use ethers::signers::Signer as _;
use nova_devnet::keys::{anvil_account, private_key};
use nova_devnet::request::Request;
use sha2::{Digest as _, Sha256};

use crate::common::net::Net;
use crate::common::nova::Nova;
use crate::common::project::Project;
use crate::common::{assert_contains_all, onnx, secrets};

const NO_CONTRACT: &str = "0x00000000219ab540356cBB839Cbe05303d7705Fa";

/// `nova run` with complete settings; there is no chain behind them.
fn run(project: &Project) -> Nova {
    project
        .nova(&["run"])
        .env("NOVA_NETWORK", "devnet")
        .env("NOVA_RPC_URLS", "http://127.0.0.1:1")
        .env("NOVA_CHALLENGE_ADDRESS", NO_CONTRACT)
        .env("NOVA_PLUMBER_HOST", "http://127.0.0.1:1")
        .env("NOVA_PULSE_HOST", "http://127.0.0.1:1")
        .env("NOVA_SPECTRAL_API_KEY", secrets::PLUMBER_KEY)
        .env("NOVA_CLI_WALLET_PRIVATE_KEY", secrets::PRIVATE_KEY)
}

/// How the files of a project are spoilt, and what the daemon then says.
type Case = (fn(&Project), &'static [&'static str]);

const SPOILT_FILES: [Case; 9] = [
    (
        |project| ["model.ezkl", "model_pk.pk"].map(|name| project.remove_model_file(name)).into_iter().collect(),
        &[
            "these model files are missing",
            "model.ezkl",
            "model_pk.pk",
            "`nova setup`",
            "docker compose run --rm nova setup",
        ],
    ),
    (|project| project.remove_model_file("model.onnx"), &["these model files are missing", "model_files/model.onnx"]),
    (
        of_another_version,
        &[
            "settings.json was made by EZKL 22.0.1, the wheel here is EZKL ",
            "ezkl==22.0.1",
            "NOVA_PYTHON",
            "`nova setup`",
        ],
    ),
    (
        |project| project.change_model_file("model.onnx", onnx::with_other_weights),
        &["model.onnx is not the one that `nova setup` made the circuit with", "setup.json", "run `nova setup` again"],
    ),
    (
        |project| project.change_model_file("kzg.srs", onnx::truncated),
        &["kzg.srs is not the one that `nova setup` made the circuit with", "bring the file back"],
    ),
    (|project| without_manifest(project, "model.onnx", onnx::truncated), &["the model ", "model.onnx", "truncated"]),
    (
        |project| without_manifest(project, "model.onnx", onnx::with_unsupported_op),
        &["model.onnx", "uses what cannot run: Bernoulli", "last_layer"],
    ),
    (
        |project| without_manifest(project, "settings.json", onnx::truncated),
        &["settings.json is not a settings file of EZKL", "run `nova setup`"],
    ),
    (
        |project| project.change_model_file("setup.json", onnx::truncated),
        &["setup.json cannot be read", "run `nova setup`"],
    ),
];

fn without_manifest(project: &Project, file: &str, change: fn(Vec<u8>) -> Vec<u8>) {
    project.remove_model_file("setup.json");
    project.change_model_file(file, change);
}

/// As if `setup` had been run with another EZKL: the manifest agrees.
pub fn of_another_version(project: &Project) {
    project.change_json("settings.json", |settings| settings["version"] = "22.0.1".into());
    let digest = Sha256::digest(fs::read(project.model_file("settings.json")).unwrap());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    project.change_json("setup.json", |manifest| manifest["digests"]["settings.json"] = digest.into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn model_files_that_are_missing_damaged_or_of_something_else_stop_it() {
    for (spoil, says) in SPOILT_FILES {
        let project = Project::new();
        spoil(&project);
        run(&project).fail(says).await;
    }
    let stamped = Project::without_setup();
    run(&stamped).fail(&["model.ezkl", "settings.json", "kzg.srs", "Run `nova setup`"]).await;

    let project = Project::new();
    let on_arbitrum_one = run(&project).env("NOVA_NETWORK", "arbitrum-one");
    on_arbitrum_one.fail(&["kzg.srs is not the SRS of a public ceremony", "without --insecure-srs"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn surroundings_that_it_cannot_work_in_stop_it() {
    let project = Project::new();
    let absent = run(&project).env("NOVA_PYTHON", "/nowhere/python");
    absent.fail(&["cannot start the EZKL worker with /nowhere/python", "ezkl/requirements.txt", "NOVA_PYTHON"]).await;

    // A Python that sees none of its packages.
    let bare = project.path().join("bare-python");
    fs::write(&bare, format!("#!/bin/sh\nexec '{}' -S \"$@\"\n", crate::common::python::program().display())).unwrap();
    fs::set_permissions(&bare, fs::Permissions::from_mode(0o755)).unwrap();
    let without_ezkl = run(&project).env("NOVA_PYTHON", bare.display().to_string());
    without_ezkl.fail(&["cannot import ezkl", "ezkl/requirements.txt", "NOVA_PYTHON"]).await;

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    run(&project).env("NOVA_HTTP_ADDRESS", &address).fail(&["cannot listen on", &address, "NOVA_HTTP_ADDRESS"]).await;

    fs::write(project.path().join("a-file"), "").unwrap();
    run(&project).env("NOVA_ARTIFACTS_PATH", "a-file/artifacts").fail(&["artifacts folder", "a-file/artifacts"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrong_chain_contract_or_key_stops_it_and_another_model_answers_nothing() {
    let (project, net) = (Project::new(), Net::start().await);
    let chain_id = net.deployment.chain_id;
    let stranger = anvil_account(7, chain_id).unwrap();
    let (stranger_key, stranger) = (private_key(&stranger), stranger.address());
    let (multisig, competition) =
        (format!("{:?}", net.deployment.modeler), format!("{:?}", net.deployment.competition));
    let run = project.nova(&["run"]).envs(net.env());

    let wrong = run.clone().env("NOVA_CHAIN_ID", "42161");
    wrong.fail(&["the RPC endpoint serves chain 31337, NOVA_CHAIN_ID is 42161"]).await;
    let wrong = run.clone().env("NOVA_CHALLENGE_ADDRESS", NO_CONTRACT);
    wrong.fail(&[&NO_CONTRACT.to_lowercase(), "NOVA_CHALLENGE_ADDRESS", "does not answer consumptionContract"]).await;
    let wrong = run.clone().env("NOVA_MULTISIG_ADDRESS", &competition);
    wrong.fail(&[&competition, "NOVA_MULTISIG_ADDRESS", "does not answer isSigner"]).await;
    let registry = format!("{:?}", net.deployment.proof_registry);
    let wrong = run.clone().env("NOVA_PROOF_REGISTRY_ADDRESS", &registry);
    wrong.fail(&["the proof registry", &registry, "holds no verifier of modeler", &multisig]).await;

    // A key that is no signer: of the MultiSig in the settings, and of the one that Pulse names.
    let other_key = run.clone().env("NOVA_CLI_WALLET_PRIVATE_KEY", &stranger_key);
    let says = [&multisig, "does not list wallet", &format!("{stranger:?}"), "as a signer"];
    other_key
        .clone()
        .env("NOVA_MULTISIG_ADDRESS", &multisig)
        .fail(&[&says[..], &["NOVA_MULTISIG_ADDRESS"]].concat())
        .await;
    net.devnet.services.set_multisig(stranger, Some(net.deployment.modeler));
    other_key.clone().fail(&[&says[..], &["from Pulse"]].concat()).await;

    let requests = another_model_answers_nothing(&net).await;
    assert_eq!(net.sent().await, 0);

    // The right model, key and chain.
    let daemon = run.start().ready().await;
    net.answered_once(&requests).await;
    daemon.stop().await;

    // The ledger knows whose it is.
    net.devnet.services.set_multisig(stranger, None);
    other_key.fail(&["this ledger is of another daemon", "its modeler is", &multisig, "NOVA_ARTIFACTS_PATH"]).await;
    assert_eq!(net.sent().await, 2);
}

/// A model that is not the circuit's, with nothing there to say so: the two disagree, and nothing is sent.
async fn another_model_answers_nothing(net: &Net) -> Vec<Request> {
    let project = Project::new();
    without_manifest(&project, "model.onnx", onnx::with_other_weights);
    let daemon = project.nova(&["run"]).envs(net.env()).start().ready().await;
    let requests = net.ask(2).await;
    for request in &requests {
        let row = project.request_in(request.id, "failed").await;
        let says =
            ["candle says", "the circuit", "they differ by", "NOVA_MAX_DIVERGENCE", "the circuit is of another model"];
        assert_contains_all(&row.reason.unwrap(), &says);
        assert!(!project.saved(request.id, "manifest.json").exists(), "nothing is promised");
    }
    daemon.stop().await;
    for request in &requests {
        net.assert_answers(request, 0).await;
    }
    requests
}
