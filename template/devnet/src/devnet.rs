//! A whole devnet in one handle: the chain, the contracts on it, and the services beside it.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use ethers::{
    providers::Middleware as _,
    signers::{LocalWallet, Signer as _},
    types::Address,
};

use crate::{
    anvil::{Anvil, AnvilOptions},
    deploy::{self, CompetitionParams},
    fault::Fault,
    keys::{self, Accounts, DAEMON_ACCOUNT, anvil_account},
    network::{Network, ServicesAt},
    rpc,
    sender::Sender,
    services::Services,
};

/// How a devnet is to be. The defaults use free ports and no model.
#[derive(Clone, Debug)]
pub struct Options {
    /// A node that runs already, with an empty chain and anvil's accounts, as hardhat's has them; anvil is started if none is named.
    pub node: Option<String>,
    pub anvil: AnvilOptions,
    pub terms: CompetitionParams,
    /// 0 for any free one.
    pub services_port: u16,
    /// The key that Plumber wants to see.
    pub api_key: String,
    /// The folder whose `verifier.sol`, if it has one, is registered.
    pub model_files: Option<PathBuf>,
    pub faults: Vec<(Address, Fault)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node: None,
            anvil: AnvilOptions::default(),
            terms: CompetitionParams::default(),
            services_port: 0,
            api_key: "devnet".to_owned(),
            model_files: None,
            faults: Vec::new(),
        }
    }
}

/// A running devnet. It stops when this is dropped.
#[derive(Debug)]
pub struct Devnet {
    /// The contracts, and what can be done with them.
    pub network: Network,
    /// Plumber, Pulse and the gateway, and what can be done to them.
    pub services: Services,
    /// The verifier that is registered for our modeler.
    pub verifier: Option<Address>,
    /// `None` where the options name a node, which was started elsewhere.
    anvil: Option<Anvil>,
    rpc_url: String,
    daemon_key: LocalWallet,
}

impl Devnet {
    /// Starts everything and returns when everything answers.
    pub async fn start(options: Options) -> Result<Self> {
        let anvil_options = options.anvil.clone();
        let services_at = SocketAddr::new(anvil_options.host, options.services_port);
        let (anvil, rpc_url) = match options.node.clone() {
            Some(url) => (None, url),
            None => {
                let anvil = tokio::task::spawn_blocking(move || Anvil::start(&anvil_options)).await??;
                let url = anvil.url();
                (Some(anvil), url)
            }
        };
        let node = rpc::connect(&rpc_url)?;
        let chain_id = node.get_chainid().await.context("the chain does not answer")?.as_u64();
        let parties = Accounts::of_anvil(&node, chain_id)?;
        let daemon_key = anvil_account(DAEMON_ACCOUNT, chain_id)?;

        let services = Services::start_at(services_at, &options.api_key).await?;
        for (wallet, fault) in &options.faults {
            services.set_fault(*wallet, Some(*fault));
        }
        let deployment = deploy::deploy(
            &node,
            &parties.admin,
            &parties.consumer,
            parties.validator.address(),
            daemon_key.address(),
            &options.terms,
        )
        .await?;
        services.set_multisig(deployment.signer, deployment.multisig);

        let at = ServicesAt { url: services.url(), api_key: options.api_key };
        let network = Network { node, deployment, parties, services: Some(at) };
        let mut devnet = Self { network, services, verifier: None, anvil, rpc_url, daemon_key };
        if let Some(folder) = options.model_files.filter(|it| it.join("verifier.sol").is_file()) {
            let signer = devnet.daemon_sender();
            devnet.verifier = Some(devnet.network.register_verifier(&folder, &signer).await?);
        }
        devnet.check().await?;
        Ok(devnet)
    }

    /// Returns when the chain has stopped by itself, which it should not.
    pub async fn chain_stopped(&mut self) {
        match &mut self.anvil {
            Some(anvil) => anvil.stopped().await,
            None => std::future::pending().await,
        }
    }

    /// The chain's endpoint.
    pub fn rpc_url(&self) -> String {
        self.rpc_url.clone()
    }

    /// The daemon's private key, `0x…`.
    pub fn daemon_private_key(&self) -> String {
        keys::private_key(&self.daemon_key)
    }

    /// Sends with the daemon's key.
    pub fn daemon_sender(&self) -> Sender {
        Sender::new(self.network.node.clone(), self.daemon_key.clone())
    }

    /// The settings that make a daemon use this devnet.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let deployment = &self.network.deployment;
        let api_key = self.network.services.as_ref().map(|it| it.api_key.clone());
        vec![
            ("NOVA_NETWORK", "devnet".to_owned()),
            ("NOVA_CHAIN_ID", deployment.chain_id.to_string()),
            ("NOVA_RPC_URLS", self.rpc_url()),
            ("NOVA_CHALLENGE_ADDRESS", format!("{:?}", deployment.competition)),
            ("NOVA_PROOF_REGISTRY_ADDRESS", format!("{:?}", deployment.proof_registry)),
            ("NOVA_PLUMBER_HOST", self.services.url()),
            ("NOVA_PULSE_HOST", self.services.url()),
            ("NOVA_IPFS_GATEWAY", self.services.url()),
            ("NOVA_SPECTRAL_API_KEY", api_key.unwrap_or_default()),
            ("NOVA_CLI_WALLET_PRIVATE_KEY", self.daemon_private_key()),
            ("NOVA_INFERENCE_ENCODING", deployment.encoding.to_string()),
            ("NOVA_INFERENCE_POLLING_INTERVAL", "1".to_owned()),
            ("NOVA_PROOF_POLLING_INTERVAL", "1".to_owned()),
            ("NOVA_CONFIRMATIONS", "0".to_owned()),
        ]
    }

    /// Asks each part once.
    async fn check(&self) -> Result<()> {
        let network = &self.network;
        let chain_id = network.node.get_chainid().await.context("the chain does not answer")?;
        ensure!(chain_id.as_u64() == network.deployment.chain_id, "the chain id is {chain_id}");
        let open = network.consumption().consumption_window().call().await?;
        ensure!(open, "the consumption window is closed");
        let http = rpc::http_client()?;
        let signer = network.deployment.signer;
        let pulse = format!("{}/getMultiSigAddress/{signer:?}", self.services.url());
        let answer = http.get(pulse).send().await.context("Pulse does not answer")?;
        ensure!(answer.status().is_success(), "Pulse answers {}", answer.status());
        Ok(())
    }
}
