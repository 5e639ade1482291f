//! A devnet of a test's own, and what can be done with its chain.

use std::collections::HashMap;
use std::fmt::Debug;
use std::ops::Deref;

use ethers::providers::Middleware as _;
use ethers::types::{Address, H256, Transaction, U256};
use nova_devnet::contracts::{Competition, Consumption, ConsumptionString, PaymentToken};
use nova_devnet::public_node::{Manners, PublicNode};
use nova_devnet::request::{Answer, Request};
use nova_devnet::sender::Call;
use nova_devnet::{CompetitionParams, Devnet, InferenceEncoding, Network, Options};
use serde_json::{Value, json};

use super::{DEFAULT_TIMEOUT, model_files, secrets};

/// What the daemon's node is like, where it is to be like a provider's: names for `Manners::like`.
const LIKE: &str = "NOVA_TESTS_NODE_LIKE";

/// A devnet. It stops when this is dropped.
pub struct Net {
    pub devnet: Devnet,
    /// What the daemon is given for its chain, where that is not the chain itself.
    provider: Option<PublicNode>,
}

impl Deref for Net {
    type Target = Network;

    fn deref(&self) -> &Network {
        &self.devnet.network
    }
}

impl Net {
    /// With the usual terms, and no proofs on chain.
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    /// With these terms, and no proofs on chain.
    pub async fn with_terms(terms: CompetitionParams) -> Self {
        Self::with(Options { terms, ..Options::default() }).await
    }

    /// With the model's verifier registered.
    pub async fn with_verifier(terms: CompetitionParams) -> Self {
        let model_files = tokio::task::spawn_blocking(model_files::model_files).await.unwrap();
        Self::with(Options { terms, model_files: Some(model_files), ..Options::default() }).await
    }

    async fn with(options: Options) -> Self {
        let options = Options { api_key: secrets::PLUMBER_KEY.to_owned(), ..options };
        let devnet = Devnet::start(options).await.unwrap();
        assert_eq!(devnet.daemon_private_key().trim_start_matches("0x"), secrets::PRIVATE_KEY);
        let provider = match std::env::var(LIKE) {
            Ok(names) => Some(PublicNode::start(&devnet.rpc_url(), 0, Manners::like(&names).unwrap()).await.unwrap()),
            Err(_) => None,
        };
        Self { devnet, provider }
    }

    /// The daemon's settings. Proofs on chain only where a verifier is registered.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let mut env = self.devnet.env();
        if let Some(provider) = &self.provider {
            env.retain(|(name, _)| *name != "NOVA_RPC_URLS");
            env.push(("NOVA_RPC_URLS", provider.url()));
        }
        if self.devnet.verifier.is_none() {
            env.retain(|(name, _)| *name != "NOVA_PROOF_REGISTRY_ADDRESS");
        }
        env
    }

    /// Asks about wallets that nobody has asked about.
    pub async fn ask(&self, count: u64) -> Vec<Request> {
        let wallets = self.fresh_wallets(count).await.unwrap();
        self.ask_about(&wallets).await
    }

    pub async fn ask_about(&self, wallets: &[Address]) -> Vec<Request> {
        let inputs: Vec<_> = wallets.iter().map(|wallet| format!("{wallet:?}")).collect();
        self.requests(&inputs).await.unwrap()
    }

    /// Has a second consumer ask about a wallet that nobody has asked about.
    pub async fn ask_as_another(&self) -> Request {
        let (other, of) = (&self.parties.admin, &self.deployment);
        let amount = U256::exp10(18);
        let approve = PaymentToken::new(of.token, self.node.clone()).approve(of.consumption, amount);
        other.send(Call::new("approve the deposit", &approve)).await.unwrap();
        let deposit = Consumption::new(of.consumption, self.node.clone()).deposit_payment_token(amount);
        other.send(Call::new("deposit", &deposit)).await.unwrap();
        let wallet = self.fresh_wallets(1).await.unwrap().remove(0);
        self.with_consumer(other.clone()).request(&format!("{wallet:?}")).await.unwrap()
    }

    /// Waits until every request is answered, and asserts that each is answered once, by us.
    pub async fn answered_once(&self, requests: &[Request]) -> HashMap<H256, Answer> {
        let answers = self.wait_answers(requests, DEFAULT_TIMEOUT).await.unwrap();
        for request in requests {
            self.assert_answers(request, 1).await;
        }
        assert_eq!(answers.len(), requests.len(), "an answer was submitted twice: {answers:?}");
        answers.into_iter().map(|answer| (answer.request_id, answer)).collect()
    }

    /// Asserts how many answers the contract holds; they are all ours.
    pub async fn assert_answers(&self, request: &Request, count: usize) {
        let answers = self.answers(std::slice::from_ref(request)).await.unwrap();
        assert_eq!(answers.len(), count, "logs of answers to {request:?}: {answers:?}");
        let us = self.deployment.modeler;
        let modelers: Vec<Address> = match self.deployment.encoding {
            InferenceEncoding::Uint256 => {
                let contract = Consumption::new(self.deployment.consumption, self.node.clone());
                let responses = contract.get_all_responses(request.id.0).call().await.unwrap();
                responses.into_iter().map(|response| response.modeler).collect()
            }
            InferenceEncoding::String => {
                let contract = ConsumptionString::new(self.deployment.consumption, self.node.clone());
                let responses = contract.get_all_responses(request.id.0).call().await.unwrap();
                responses.into_iter().map(|response| response.modeler).collect()
            }
        };
        assert_eq!(modelers, vec![us; count], "responses to {request:?}");
    }

    /// How many transactions the daemon's wallet has sent.
    pub async fn sent(&self) -> u64 {
        self.node.get_transaction_count(self.deployment.signer, None).await.unwrap().as_u64()
    }

    pub async fn transaction(&self, hash: H256) -> Transaction {
        self.node.get_transaction(hash).await.unwrap().expect("the transaction is known")
    }

    /// One of anvil's own methods.
    pub async fn anvil(&self, method: &str, params: impl Debug + serde::Serialize + Send + Sync) -> Value {
        self.node.request(method, json!(params)).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Moves the chain's clock on.
    pub async fn pass(&self, seconds: u64) {
        self.anvil("evm_increaseTime", [seconds]).await;
        self.anvil("evm_mine", [(); 0]).await;
    }

    /// Moves the chain's clock on until blocks are made later than `time`.
    pub async fn pass_by(&self, time: u64) {
        self.pass(1).await;
        let head = self.node.get_block(self.head().await).await.unwrap().expect("the head is there");
        self.pass((time + 1).saturating_sub(head.timestamp.as_u64())).await;
    }

    /// The number of the newest block.
    pub async fn head(&self) -> u64 {
        self.node.get_block_number().await.unwrap().as_u64()
    }

    pub async fn stop_mining(&self) {
        self.anvil("evm_setIntervalMining", [0]).await;
    }

    pub async fn go_on_mining(&self) {
        self.anvil("evm_setIntervalMining", [1]).await;
    }

    /// What the daemon's wallet holds from now on.
    pub async fn fund(&self, wei: U256) {
        self.anvil("anvil_setBalance", json!([self.deployment.signer, wei])).await;
    }

    /// Puts our modeler among the top N, or takes it out.
    pub async fn rank(&self, among_top_n: bool) {
        let contract = Competition::new(self.deployment.competition, self.node.clone());
        let modelers = if among_top_n { vec![self.deployment.modeler] } else { vec![] };
        let call = contract.set_top_n_modelers(modelers);
        self.parties.admin.send(Call::new("rank the modelers", &call)).await.unwrap();
    }
}
