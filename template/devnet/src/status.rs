//! What there is on chain: the window, balances, requests, answers and proofs.

use anyhow::Result;
use ethers::{
    providers::Middleware as _,
    types::{Address, U256},
};
use serde::Serialize;

use crate::{
    challenge::ProvenOutput,
    contracts::Competition,
    network::Network,
    request::{Answer, Request},
};

/// Everything at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub chain_id: u64,
    pub block: u64,
    pub window_open: bool,
    pub modeler: Address,
    pub modeler_is_top_n: bool,
    /// The daemon's key, and what it has left to pay for gas, in wei.
    pub signer: Address,
    pub signer_balance: U256,
    pub consumer: Address,
    /// What the consumer can still spend on requests, in the token's smallest unit.
    pub consumer_deposit: U256,
    pub verifiers: Vec<Address>,
    pub requests: Vec<RequestStatus>,
}

/// What became of a request.
#[derive(Clone, Debug, Serialize)]
pub struct RequestStatus {
    #[serde(flatten)]
    pub request: Request,
    pub answer: Option<Answer>,
    pub in_time: bool,
    pub proof: Option<ProvenOutput>,
}

impl Network {
    /// Reads the state of everything.
    pub async fn status(&self) -> Result<Status> {
        let deployment = &self.deployment;
        let consumption = self.consumption();
        let competition = Competition::new(deployment.competition, self.node.clone());
        let consumer = self.parties.consumer.address();
        Ok(Status {
            chain_id: deployment.chain_id,
            block: self.node.get_block_number().await?.as_u64(),
            window_open: consumption.consumption_window().call().await?,
            modeler: deployment.modeler,
            modeler_is_top_n: competition.is_top_n_modeler(deployment.modeler).call().await?,
            signer: deployment.signer,
            signer_balance: self.node.get_balance(deployment.signer, None).await?,
            consumer,
            consumer_deposit: consumption.balances(consumer).call().await?,
            verifiers: self.proof_registry().get_verifiers(deployment.modeler).call().await?,
            requests: self.request_statuses().await?,
        })
    }

    async fn request_statuses(&self) -> Result<Vec<RequestStatus>> {
        let consumption = self.consumption();
        let requests = self.all_requests().await?;
        let answers = self.answers(&requests).await?;
        let proofs = self.proofs().await?;
        let mut statuses = Vec::with_capacity(requests.len());
        for request in requests {
            let answer = answers.iter().find(|answer| answer.request_id == request.id).cloned();
            let in_time = match &answer {
                Some(answer) => consumption.answered_in_time(answer.modeler, request.id.0).call().await?,
                None => false,
            };
            let proof = proofs.iter().find(|proof| proof.request_id == request.id).cloned();
            statuses.push(RequestStatus { request, answer, in_time, proof });
        }
        Ok(statuses)
    }
}
