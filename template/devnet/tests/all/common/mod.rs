//! What the tests share: acting as the modeler, and a real proof of a tiny model.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use ethers::{
    abi::{Token, encode},
    providers::Middleware as _,
    types::{Address, BlockNumber, Bytes, H256, U256},
    utils::{keccak256, parse_units},
};
use nova_devnet::{
    Devnet, InferenceEncoding,
    contracts::{Consumption, ConsumptionString, Modeler},
    keys::anvil_account,
    sender::{Call, Sender},
    wait::wait_for,
};
use serde_json::Value;
use tempfile::TempDir;

/// What went wrong, with all its causes.
pub fn error_of<T: std::fmt::Debug>(result: Result<T>) -> String {
    format!("{:#}", result.expect_err("this should have failed"))
}

/// Answers a request with the modeler's key.
pub async fn answer(devnet: &Devnet, request_id: H256, value: f64) -> Result<()> {
    let (deployment, node) = (&devnet.network.deployment, devnet.network.node.clone());
    let call = match deployment.encoding {
        InferenceEncoding::Uint256 => {
            let scaled: U256 = parse_units(value, 18)?.into();
            let contract = Consumption::new(deployment.consumption, node);
            Call::new("answer", &contract.submit_inference(request_id.0, scaled))
        }
        InferenceEncoding::String => {
            let contract = ConsumptionString::new(deployment.consumption, node);
            Call::new("answer", &contract.submit_inference(request_id.0, value.to_string()))
        }
    };
    as_modeler(devnet, call).await
}

/// Answers the challenge in the modeler's slot.
pub async fn respond(devnet: &Devnet, validator: Address, cid: &str) -> Result<()> {
    let address = devnet.network.deployment.modeler_contract;
    let contract = Modeler::new(address, devnet.network.node.clone());
    let call = contract.respond_to_zkml_challenge(validator, cid.to_owned());
    as_modeler(devnet, Call::new("respond", &call)).await
}

/// Commits to the instances of a proof to come, with the registered verifier.
pub async fn commit(devnet: &Devnet, request_id: H256, instances: &[U256]) -> Result<()> {
    let verifier = devnet.verifier.context("no verifier is registered")?;
    let hash = instances_hash(instances);
    let call = devnet.network.proof_registry().commit(request_id.0, verifier, hash);
    as_modeler(devnet, Call::new("commit", &call)).await
}

/// `keccak256(abi.encode(instances))`
pub fn instances_hash(instances: &[U256]) -> [u8; 32] {
    keccak256(encode(&[Token::Array(instances.iter().copied().map(Token::Uint).collect())]))
}

pub async fn submit_proof(devnet: &Devnet, request_id: H256, proof: &Proof) -> Result<()> {
    let registry = devnet.network.proof_registry();
    let call = registry.submit_proof(request_id.0, proof.bytes.clone(), proof.instances.clone());
    as_modeler(devnet, Call::new("submit the proof", &call)).await
}

pub async fn as_modeler(devnet: &Devnet, call: Call) -> Result<()> {
    devnet.network.send_as_modeler(&devnet.daemon_sender(), call).await
}

/// Sends a call with one of anvil's accounts that takes no part otherwise.
pub async fn as_stranger(devnet: &Devnet, call: Call) -> Result<()> {
    stranger(devnet).send(call).await.map(drop)
}

pub fn stranger(devnet: &Devnet) -> Sender {
    let wallet = anvil_account(9, devnet.network.deployment.chain_id).unwrap();
    Sender::new(devnet.network.node.clone(), wallet)
}

/// Moves the chain's clock forward.
pub async fn pass_time(devnet: &Devnet, seconds: u64) {
    let node = &devnet.network.node;
    let before = now(devnet).await;
    let _: Value = node.request("evm_increaseTime", [seconds]).await.unwrap();
    wait_for(node, "the time", Duration::from_secs(10), || async {
        Ok((now(devnet).await >= before + seconds).then_some(()))
    })
    .await
    .unwrap();
}

/// The chain's clock.
pub async fn now(devnet: &Devnet) -> u64 {
    let block = devnet.network.node.get_block(BlockNumber::Latest).await.unwrap();
    block.unwrap().timestamp.as_u64()
}

/// Model files of EZKL, with proofs.
pub struct TinyModel(TempDir);

/// A proof as the registry takes it.
#[derive(Clone)]
pub struct Proof {
    pub bytes: Bytes,
    pub instances: Vec<U256>,
}

/// Makes the model, its verifier and a proof for each input, with the real EZKL.
pub fn tiny_model(inputs: &[&str]) -> TinyModel {
    let folder = TempDir::new().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixture/make_proof.py");
    let python = ezkl_python();
    let output = Command::new(&python).arg(script).arg(folder.path()).args(inputs).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {}: {error}", python.display()));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{} could not make the proofs (NOVA_PYTHON names a Python with EZKL): {log}",
        python.display()
    );
    TinyModel(folder)
}

impl TinyModel {
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    pub fn proof(&self, number: u64) -> Proof {
        let text = fs::read_to_string(self.folder().join(format!("proof_{number}.json"))).unwrap();
        let proof: Value = serde_json::from_str(&text).unwrap();
        let public = &proof["pretty_public_inputs"];
        let words = [&public["inputs"], &public["outputs"]].into_iter();
        let words = words.flat_map(|list| list.as_array().unwrap()).flat_map(|row| row.as_array().unwrap());
        let instances = words.map(|word| word.as_str().unwrap().parse().unwrap()).collect();
        Proof { bytes: proof["hex_proof"].as_str().unwrap().parse().unwrap(), instances }
    }
}

/// `NOVA_PYTHON`, else the project's own environment, else `python3`.
fn ezkl_python() -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let own = project.join("ezkl/.venv/bin/python");
    match env::var_os("NOVA_PYTHON") {
        Some(python) => python.into(),
        None if own.is_file() => own,
        None => "python3".into(),
    }
}
