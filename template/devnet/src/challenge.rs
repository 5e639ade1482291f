//! Asking for proofs, by IPFS and on chain, and reading what comes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use ethers::{
    contract::{EthEvent as _, parse_log},
    types::{Address, Bytes, Filter, H256, I256, Log},
    utils::keccak256,
};
use serde::Serialize;
use serde_json::json;

use crate::{
    contracts::{DrandProof, Modeler, ProofRegistry, modeler, proof_registry},
    network::Network,
    sender::Call,
    wait::wait_for,
};

/// When drand's first beacon began, and how long its rounds are.
const DRAND_GENESIS: u64 = 1_595_431_050;
const DRAND_ROUND: u64 = 30;

/// A proof request that is on chain.
#[derive(Clone, Debug, Serialize)]
pub struct Challenge {
    /// What it says: a request id or a CID; for one on chain the request id.
    pub payload: String,
    pub modeler: Address,
    pub transaction: H256,
    pub block: u64,
}

/// The answer to a challenge by IPFS.
#[derive(Clone, Debug, Serialize)]
pub struct Response {
    pub cid: String,
    pub transaction: H256,
    pub block: u64,
}

/// An output that the chain has checked.
#[derive(Clone, Debug, Serialize)]
pub struct ProvenOutput {
    pub request_id: H256,
    /// The fixed-point number as it is on chain.
    pub raw: String,
    pub scale: u8,
    /// `raw` / 2^`scale`.
    pub value: f64,
    pub transaction: H256,
    pub block: u64,
}

impl Network {
    /// Has the validator ask our modeler to prove requests.
    pub async fn challenge(&self, request_ids: &[H256]) -> Result<Challenge> {
        let payload = self.challenge_payload(request_ids).await?;
        self.challenge_with(self.deployment.modeler, &payload).await
    }

    /// What a challenge says: one request's id, or for several the CID of a document that lists them.
    pub async fn challenge_payload(&self, request_ids: &[H256]) -> Result<String> {
        ensure!(!request_ids.is_empty(), "a challenge names at least one request");
        if let [id] = request_ids {
            return Ok(format!("{id:?}"));
        }
        let ids: Vec<_> = request_ids.iter().map(|id| format!("{id:?}")).collect();
        self.upload(json!({ "request_ids": ids }).to_string().into_bytes()).await
    }

    /// Has the validator give any modeler a challenge that says anything.
    pub async fn challenge_with(&self, modeler: Address, payload: &str) -> Result<Challenge> {
        let contract = Modeler::new(self.deployment.modeler_contract, self.node.clone());
        let validator = &self.parties.validator;
        let proof = drand_proof(validator.address())?;
        let call = contract.zkml_challenge_modeler(modeler, payload.to_owned(), proof);
        let receipt = validator.send(Call::new(format!("challenge {modeler:?}"), &call)).await?;
        Ok(Challenge {
            payload: payload.to_owned(),
            modeler,
            transaction: receipt.transaction_hash,
            block: receipt.block_number.context("the challenge is in no block")?.as_u64(),
        })
    }

    /// Waits for the answer to a challenge by IPFS.
    pub async fn wait_response(&self, challenge: &Challenge, timeout: Duration) -> Result<Response> {
        let what = format!("the answer to the challenge `{}`", challenge.payload);
        wait_for(&self.node, &what, timeout, || async {
            let filter = Filter::new()
                .address(self.deployment.modeler_contract)
                .topic0(modeler::ZkmlchallengeResponseFilter::signature())
                .topic1(H256::from(self.parties.validator.address()))
                .topic2(H256::from(challenge.modeler));
            let logs = self.logs(&filter, challenge.block).await?;
            logs.into_iter().next_back().map(read_response).transpose()
        })
        .await
    }

    /// Has the consumer ask our modeler for a proof on chain.
    pub async fn request_proof(&self, request_id: H256) -> Result<Challenge> {
        let modeler = self.deployment.modeler;
        let call = self.proof_registry().request_proof(request_id.0, modeler);
        let call = Call::new(format!("request the proof of {request_id:?}"), &call);
        let receipt = self.parties.consumer.send(call).await?;
        Ok(Challenge {
            payload: format!("{request_id:?}"),
            modeler,
            transaction: receipt.transaction_hash,
            block: receipt.block_number.context("the request is in no block")?.as_u64(),
        })
    }

    /// Every output of our modeler's that the chain has checked.
    pub async fn proofs(&self) -> Result<Vec<ProvenOutput>> {
        let filter = self.proofs_filter();
        self.logs(&filter, 0).await?.into_iter().map(read_proof).collect()
    }

    /// Waits until the chain has checked the proof of a request.
    pub async fn wait_proof(&self, request_id: H256, timeout: Duration) -> Result<ProvenOutput> {
        let filter = self.proofs_filter().topic1(request_id);
        wait_for(&self.node, &format!("the proof of {request_id:?}"), timeout, || async {
            self.logs(&filter, 0).await?.pop().map(read_proof).transpose()
        })
        .await
    }

    pub fn proof_registry(&self) -> ProofRegistry<ethers::providers::Provider<crate::rpc::Rpc>> {
        ProofRegistry::new(self.deployment.proof_registry, self.node.clone())
    }

    fn proofs_filter(&self) -> Filter {
        Filter::new()
            .address(self.deployment.proof_registry)
            .topic0(proof_registry::ProofVerifiedFilter::signature())
            .topic2(H256::from(self.deployment.modeler))
    }
}

/// A round of the beacon in form: its time is right, its randomness and signatures are made up here.
fn drand_proof(submitter: Address) -> Result<DrandProof> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let randomness = keccak256(now.as_nanos().to_be_bytes());
    let signature = |salt: u8| Bytes::from([keccak256([salt]), randomness, randomness].concat());
    Ok(DrandProof {
        submitter,
        round: ((now.as_secs() - DRAND_GENESIS) / DRAND_ROUND + 1).into(),
        randomness,
        signature: signature(0),
        previous_signature: signature(1),
    })
}

fn read_response(log: Log) -> Result<Response> {
    let (transaction, block) = place(&log)?;
    let response: modeler::ZkmlchallengeResponseFilter = parse_log(log)?;
    Ok(Response { cid: response.ipfs_response, transaction, block })
}

fn read_proof(log: Log) -> Result<ProvenOutput> {
    let (transaction, block) = place(&log)?;
    let proof: proof_registry::ProofVerifiedFilter = parse_log(log)?;
    Ok(ProvenOutput {
        request_id: H256(proof.request_id),
        raw: proof.output.to_string(),
        scale: proof.scale,
        value: from_fixed_point(proof.output, proof.scale)?,
        transaction,
        block,
    })
}

/// Where a log is: its transaction and block.
fn place(log: &Log) -> Result<(H256, u64)> {
    let transaction = log.transaction_hash.context("the log is in no transaction")?;
    let block = log.block_number.context("the log is in no block")?;
    Ok((transaction, block.as_u64()))
}

fn from_fixed_point(output: I256, scale: u8) -> Result<f64> {
    let output: f64 = output.to_string().parse()?;
    Ok(output / 2f64.powi(scale.into()))
}
