//! `devnet smoke`: the daemon once on a network as it is. Contracts of our own, a daemon with a key of its own, requests from
//! wallets that are made for it, answers in time, a proof by IPFS and one on chain. However it ends, what is left of the money
//! goes back.

mod addresses;
mod daemon;
mod report;
mod wallet_pool;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use ethers::{
    abi::parse_abi,
    contract::Contract,
    providers::Middleware as _,
    signers::{LocalWallet, Signer as _},
    types::{Address, Bytes, U256},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    anvil::{Anvil, AnvilOptions},
    contracts::{Competition, Consumption, PaymentToken},
    deploy::{self, CompetitionParams, Deployment},
    keys::{self, Accounts},
    network::{Network, ServicesAt},
    request::{Answer, Request, nth_wallet},
    rpc,
    rpc::Node,
    sender::{Call, Sender, cost},
    services::Services,
    wait::wait_for,
};
use addresses::Addresses;
use daemon::Daemon;
pub use daemon::Program;
pub use report::{Cost, Report, Served, ether};
use wallet_pool::WalletPool;

/// Where money is worth something.
const MAINNET: u64 = 42161;
const SEPOLIA: u64 = 421_614;

/// Seconds from a request to the last answer that counts, and how long a proof may take.
const SLA: u64 = 600;
const PROOF_WITHIN: Duration = Duration::from_secs(900);

/// Gas that a consumer may need: approving, depositing, asking, withdrawing what is left.
const GAS_OF_CONSUMER: u64 = 2_000_000;
/// Gas that we may need ourselves, contracts included.
const GAS_OF_FUNDER: u64 = 30_000_000;

/// How the run is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// A node; none for a chain that is started for the run.
    pub rpc: Option<String>,
    /// A file with the key that pays; none for one of anvil's.
    pub key_file: Option<PathBuf>,
    pub program: Program,
    pub requests: u64,
    /// Those that `nova setup` has made.
    pub model_files: PathBuf,
    /// Where the addresses of the contracts are kept for the next run.
    pub addresses: PathBuf,
    /// What the daemon's key gets, in wei. What it has left comes back.
    pub fund: U256,
}

/// Runs it. Ctrl-C and SIGTERM end it early, not without giving back.
pub async fn run(options: &Options) -> Result<Report> {
    let mut run = Run::begin(options).await?;
    let outcome = unless_interrupted(run.work()).await;
    if outcome.is_err()
        && let Some(daemon) = &run.daemon
    {
        tracing::info!("the end of the daemon's log:\n{}", daemon.log_tail());
    }
    let cleaned = run.clean_up().await;
    if let (Err(_), Err(error)) = (&outcome, &cleaned) {
        tracing::error!("besides: {error:#}");
    }
    outcome.and(cleaned)?;
    Ok(run.report)
}

async fn unless_interrupted(work: impl Future<Output = Result<()>>) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = work => outcome,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("asked to end"),
    }
}

/// A run, and what has to be undone at its end.
struct Run<'a> {
    options: &'a Options,
    node: Node,
    rpc_url: String,
    chain_id: u64,
    /// Pays; deploys and owns the contracts; challenges.
    funder: Arc<Sender>,
    had: U256,
    purse: WalletPool,
    addresses: PathBuf,
    contracts: Option<Deployment>,
    services: Services,
    /// Of the daemon's key, and those of the consumers.
    senders: Vec<(&'static str, Arc<Sender>)>,
    daemon: Option<Daemon>,
    report: Report,
    folder: TempDir,
    _chain: Option<Anvil>,
}

impl<'a> Run<'a> {
    async fn begin(options: &'a Options) -> Result<Self> {
        for name in ["settings.json", "model.ezkl", "model_pk.pk", "verifier.sol"] {
            let folder = options.model_files.display();
            let is_there = options.model_files.join(name).is_file();
            ensure!(
                is_there,
                "{folder} has no {name}: run `nova setup` first (with --insecure-srs if it is only for this)"
            );
        }
        let folder = tempfile::Builder::new().prefix("nova-smoke-").tempdir().context("cannot make a folder")?;
        let (chain, rpc_url) = match &options.rpc {
            Some(url) => (None, url.clone()),
            None => {
                let chain = tokio::task::spawn_blocking(|| Anvil::start(&AnvilOptions::default())).await??;
                let url = chain.url();
                (Some(chain), url)
            }
        };
        let node = rpc::connect_public(&rpc_url)?;
        let chain_id = node.get_chainid().await.context("the node does not tell its chain")?.as_u64();
        ensure!(
            chain_id != MAINNET,
            "this is Arbitrum One, where money is worth something: smoke runs are for Testnets"
        );
        let wallet = match &options.key_file {
            Some(file) => keys::read_key_file(file, chain_id)?,
            None if chain.is_some() => keys::anvil_account(0, chain_id)?,
            None => bail!("whose money? name the file that holds the key with --key-file"),
        };
        // A chain that goes with the run has nothing to be kept.
        let addresses = if chain.is_some() { folder.path().join("smoke.json") } else { options.addresses.clone() };
        let funder = Arc::new(Sender::new(node.clone(), wallet));
        let services = Services::start(0, "smoke").await?;
        Ok(Self {
            had: node.get_balance(funder.address(), None).await?,
            purse: WalletPool::open(&addresses, chain_id)?,
            report: Report { chain_id, ..Report::default() },
            contracts: None,
            senders: Vec::new(),
            daemon: None,
            _chain: chain,
            options,
            node,
            rpc_url,
            chain_id,
            funder,
            addresses,
            services,
            folder,
        })
    }

    async fn work(&mut self) -> Result<()> {
        let (fund, of_consumer) = self.check_balance().await?;
        self.deploy().await?;
        let daemon_key = self.purse.add()?;
        let network = self.set_up(&daemon_key, fund).await?;

        let signer = Arc::new(Sender::new(self.node.clone(), daemon_key.clone()));
        self.senders.push(("daemon's key", signer.clone()));
        let verifier = network.register_verifier(&self.options.model_files, &signer).await?;

        tracing::info!("starting the daemon");
        let settings = self.settings(&network.deployment, &daemon_key);
        let (program, folder) = (&self.options.program, self.folder.path().join("daemon"));
        std::fs::create_dir(&folder).context("cannot make the daemon's folder")?;
        let daemon = self.daemon.insert(Daemon::start(program, &folder, &self.options.model_files, &settings)?);
        daemon.ready().await?;

        let requests = self.ask(&network, of_consumer).await?;
        tracing::info!("{} requests: waiting for answers", requests.len());
        let answers = network.wait_answers(&requests, Duration::from_secs(SLA)).await?;
        self.keep(&requests, answers).await?;
        self.prove(&network, verifier).await
    }

    /// What the daemon and each consumer get. There must be enough for all.
    async fn check_balance(&self) -> Result<(U256, U256)> {
        let (price, _) = self.funder.fees().await?;
        let of_consumer = price * GAS_OF_CONSUMER;
        let needed = self.options.fund + of_consumer * self.options.requests + price * GAS_OF_FUNDER;
        ensure!(
            self.had >= needed,
            "{:?} has {} ETH on chain {}, a run may need {} (most of which comes back): send it some",
            self.funder.address(),
            ether(self.had),
            self.chain_id,
            ether(needed)
        );
        tracing::info!("chain {}: {:?} has {} ETH", self.chain_id, self.funder.address(), ether(self.had));
        Ok((self.options.fund, of_consumer))
    }

    /// The contracts of an earlier run, or new ones.
    async fn deploy(&mut self) -> Result<()> {
        let owner = self.funder.address();
        if let Some(earlier) = Addresses::read(&self.addresses)? {
            match earlier.trouble(self.chain_id, owner, &self.node).await? {
                None => {
                    tracing::info!("the contracts of an earlier run are used: {:?}", earlier.deployment.competition);
                    self.report.contracts_reused = true;
                    self.contracts = Some(earlier.deployment);
                    return Ok(());
                }
                Some(why) => tracing::info!("the contracts of an earlier run are not used: {why}"),
            }
        }
        tracing::info!("deploying the contracts");
        let terms = CompetitionParams {
            sla_seconds: SLA,
            multisig: false,
            signer_funds: U256::zero(),
            ..CompetitionParams::default()
        };
        let deployment = deploy::create(&self.node, &self.funder, owner, &terms).await?;
        deploy::arrange(&self.node, &self.funder, owner, owner, &terms, &deployment).await?;
        Addresses::of(&deployment, owner, &self.node).await?.write(&self.addresses)?;
        self.contracts = Some(deployment);
        Ok(())
    }

    /// A modeler for this run: the daemon's key gets money and a MultiSig, and that is the one modeler that counts.
    async fn set_up(&self, daemon_key: &LocalWallet, fund: U256) -> Result<Network> {
        let contracts = self.contracts.clone().context("there are no contracts")?;
        let (node, funder, signer) = (&self.node, &self.funder, daemon_key.address());
        let block = node.get_block_number().await?.as_u64();
        let receipt = funder.send(deploy::multisig_creation(signer, funder.address())?).await?;
        let multisig = receipt.contract_address.context("the MultiSig was not created")?;
        let competition = Competition::new(contracts.competition, node.clone());
        let consumption = Consumption::new(contracts.consumption, node.clone());
        let mut calls = vec![
            Call::new("set the top N modelers", &competition.set_top_n_modelers(vec![multisig])),
            Call::pay(signer, fund),
        ];
        if !consumption.consumption_window().call().await? {
            calls.push(Call::new("open the window", &consumption.toggle_consumption_window(true)));
        }
        funder.send_all(calls).await?;
        self.services.set_multisig(signer, Some(multisig));
        let services = ServicesAt { url: self.services.url(), api_key: "smoke".to_owned() };
        Ok(Network {
            node: node.clone(),
            // Nothing that concerns this run happened before.
            deployment: Deployment { block, signer, modeler: multisig, multisig: Some(multisig), ..contracts },
            parties: Accounts { admin: funder.clone(), consumer: funder.clone(), validator: funder.clone() },
            services: Some(services),
        })
    }

    fn settings(&self, deployment: &Deployment, daemon_key: &LocalWallet) -> Vec<(&'static str, String)> {
        let network = if self.chain_id == SEPOLIA { "arbitrum-sepolia" } else { "devnet" };
        vec![
            ("NOVA_NETWORK", network.to_owned()),
            ("NOVA_CHAIN_ID", self.chain_id.to_string()),
            ("NOVA_RPC_URLS", self.rpc_url.clone()),
            ("NOVA_CHALLENGE_ADDRESS", format!("{:?}", deployment.competition)),
            ("NOVA_PROOF_REGISTRY_ADDRESS", format!("{:?}", deployment.proof_registry)),
            ("NOVA_PLUMBER_HOST", self.services.url()),
            ("NOVA_PULSE_HOST", self.services.url()),
            ("NOVA_IPFS_GATEWAY", self.services.url()),
            ("NOVA_SPECTRAL_API_KEY", "smoke".to_owned()),
            ("NOVA_CLI_WALLET_PRIVATE_KEY", keys::private_key(daemon_key)),
            ("NOVA_INFERENCE_ENCODING", deployment.encoding.to_string()),
            ("NOVA_FEATURE_SOURCE", "plumber".to_owned()),
            ("NOVA_INFERENCE_POLLING_INTERVAL", "5".to_owned()),
            ("NOVA_PROOF_POLLING_INTERVAL", "5".to_owned()),
        ]
    }

    /// One request from each of several wallets, which pay for it.
    async fn ask(&mut self, network: &Network, of_consumer: U256) -> Result<Vec<Request>> {
        let fee = CompetitionParams::default().fee;
        let token = PaymentToken::new(network.deployment.token, self.node.clone());
        let consumption = Consumption::new(network.deployment.consumption, self.node.clone());
        let mut consumers = Vec::new();
        let mut calls = Vec::new();
        for _ in 0..self.options.requests {
            let consumer = Arc::new(Sender::new(self.node.clone(), self.purse.add()?));
            calls.push(Call::pay(consumer.address(), of_consumer));
            calls.push(Call::new("give a consumer tokens", &token.transfer(consumer.address(), fee)));
            self.senders.push(("consumers", consumer.clone()));
            consumers.push(consumer);
        }
        self.funder.send_all(calls).await?;
        let mut requests = Vec::new();
        for (number, consumer) in (0..).zip(consumers) {
            let approve = token.approve(network.deployment.consumption, fee);
            consumer.send(Call::new("approve the deposit", &approve)).await?;
            consumer.send(Call::new("deposit", &consumption.deposit_payment_token(fee))).await?;
            let input = format!("{:?}", nth_wallet(number));
            requests.push(network.with_consumer(consumer).request(&input).await?);
        }
        Ok(requests)
    }

    /// Every answer must be in time.
    async fn keep(&mut self, requests: &[Request], answers: Vec<Answer>) -> Result<()> {
        for request in requests {
            let answer = answers.iter().find(|answer| answer.request_id == request.id);
            let answer = answer.with_context(|| format!("{:?} has no answer", request.id))?.clone();
            ensure!(answer.seconds <= SLA, "the answer to {:?} took {} s", request.id, answer.seconds);
            let what = format!("the receipt of {:?}", answer.transaction);
            let look = || async { Ok(self.node.get_transaction_receipt(answer.transaction).await?) };
            let receipt = wait_for(&self.node, &what, Duration::from_secs(60), look).await?;
            let (gas, wei) = cost(&receipt);
            self.report.served.push(Served { request: request.clone(), answer, gas, wei, proof: None });
        }
        Ok(())
    }

    /// The first answer by IPFS, the last one on chain.
    async fn prove(&mut self, network: &Network, verifier: Address) -> Result<()> {
        let first = self.report.served.first().context("nothing was answered")?.request.id;
        let last = self.report.served.last().context("nothing was answered")?.request.id;
        tracing::info!("asking for a proof by IPFS");
        let challenge = network.challenge(&[first]).await?;
        let response = network.wait_response(&challenge, PROOF_WITHIN).await?;
        self.check_proof(&network.download(&response.cid).await?, verifier).await?;
        self.proven(0, format!("IPFS {}", response.cid));

        tracing::info!("asking for a proof on chain");
        network.request_proof(last).await?;
        let proven = network.wait_proof(last, PROOF_WITHIN).await?;
        self.proven(self.report.served.len() - 1, format!("on chain {:?}", proven.transaction));
        Ok(())
    }

    fn proven(&mut self, index: usize, how: String) {
        let proof = &mut self.report.served[index].proof;
        *proof = Some(proof.take().map_or(how.clone(), |before| format!("{before}, {how}")));
    }

    /// The verifier contract itself says whether a proof file holds.
    async fn check_proof(&self, file: &[u8], verifier: Address) -> Result<()> {
        let proof: Value = serde_json::from_slice(file).context("the proof file is no JSON")?;
        let bytes: Bytes = proof["hex_proof"].as_str().context("the proof file has no proof")?.parse()?;
        let public = &proof["pretty_public_inputs"];
        let rows = [&public["inputs"], &public["outputs"]].into_iter().flat_map(|rows| rows.as_array()).flatten();
        let words = rows.flat_map(|row| row.as_array()).flatten();
        let instances: Option<Vec<U256>> = words.map(|word| word.as_str()?.parse().ok()).collect();
        let instances = instances.filter(|it| !it.is_empty()).context("the proof file has no public instances")?;
        let abi = parse_abi(&["function verifyProof(bytes,uint256[]) view returns (bool)"])?;
        let contract = Contract::new(verifier, abi, self.node.clone());
        let call = contract.method::<_, bool>("verifyProof", (bytes, instances))?;
        ensure!(call.call().await.context("the verifier refuses the proof")?, "the proof does not hold");
        Ok(())
    }

    /// Stops the daemon, then takes back what is left.
    async fn clean_up(&mut self) -> Result<()> {
        let stopped = match self.daemon.take() {
            Some(daemon) => daemon.stop().await,
            None => Ok(Duration::ZERO),
        };
        tracing::info!("taking back what is left");
        let home = self.funder.address();
        self.purse.give_back(&self.node, self.contracts.as_ref(), home).await?;
        self.report.stopped_in = stopped?.as_secs_f64();
        self.report.spent = self.had.saturating_sub(self.node.get_balance(home, None).await?);
        let ours = [("we", self.funder.clone())];
        self.report.costs = report::costs(ours.iter().chain(&self.senders));
        Ok(())
    }
}
