//! The commands.

mod report;
mod smoke;
mod up;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand};
use ethers::types::{Address, H256, U256};

use crate::{
    deploy::{self, CompetitionParams, InferenceEncoding},
    keys,
    keys::Accounts,
    network::Network,
    request::parse_request_id,
    rpc,
    sender::Sender,
    state::State,
};

/// Spectral in a box: a chain, its contracts, Plumber, Pulse and an IPFS gateway, to run a daemon against.
#[derive(Debug, Parser)]
#[command(name = "devnet", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a devnet and keep it until Ctrl-C.
    Up(up::UpArgs),
    /// Serve Plumber, Pulse and the IPFS gateway alone, beside contracts on a public chain.
    Serve(up::ServeArgs),
    /// Deploy the contracts on any chain.
    Deploy(DeployArgs),
    /// Deploy the EZKL verifier of the model files and register it for the modeler.
    Register(RegisterArgs),
    /// Make inference requests.
    Request(RequestArgs),
    /// Ask the modeler to prove answers.
    Challenge(ChallengeArgs),
    /// Show the window, balances, requests, answers and proofs.
    Status(StatusArgs),
    /// Try the daemon on a network as it is: contracts, requests, answers in time, proofs; what is left comes back.
    Smoke(smoke::SmokeArgs),
    /// Start a chain behind what public providers put before theirs, to try things on.
    #[command(alias = "node")]
    PublicNode(smoke::PublicNodeArgs),
}

/// Which network, and as whom.
#[derive(Debug, Args)]
struct NetworkArgs {
    /// What `devnet up` or `devnet deploy` wrote about the network.
    #[arg(long, value_name = "FILE", default_value = "devnet.json")]
    state_file: PathBuf,
    /// The node to use instead of the state file's.
    #[arg(long, value_name = "URL")]
    rpc: Option<String>,
    /// A file with the private key to act with. Not needed on a devnet.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

impl NetworkArgs {
    async fn connect(&self) -> Result<Network> {
        let state = State::read(&self.state_file)?;
        state.connect(self.rpc.as_deref(), self.key_file.as_deref()).await
    }
}

/// The terms on which contracts are deployed.
#[derive(Debug, Args)]
struct TermsArgs {
    /// How answers go on chain: `uint256` or `string`.
    #[arg(long, value_name = "FORM", default_value = "uint256")]
    inference_encoding: InferenceEncoding,
    /// Seconds from a request to the last answer that counts; 0 is the contract's default.
    #[arg(long, value_name = "N", default_value_t = 600)]
    sla_seconds: u64,
    /// Let the modeler answer with its key itself instead of through a MultiSig wallet.
    #[arg(long)]
    no_multisig: bool,
}

impl TermsArgs {
    fn terms(&self) -> CompetitionParams {
        CompetitionParams {
            encoding: self.inference_encoding,
            sla_seconds: self.sla_seconds,
            multisig: !self.no_multisig,
            ..CompetitionParams::default()
        }
    }
}

#[derive(Debug, Args)]
struct DeployArgs {
    /// The node.
    #[arg(long, value_name = "URL")]
    rpc: String,
    /// A file with the private key that pays, and that later makes requests and challenges.
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// The address of the daemon's key.
    #[arg(long, value_name = "ADDRESS")]
    signer: Address,
    /// What the daemon's key is topped up to, in the chain's currency.
    #[arg(long, value_name = "AMOUNT", default_value = "0.01", value_parser = deploy::parse_funds)]
    fund: U256,
    #[command(flatten)]
    terms: TermsArgs,
    /// Where to write about the network.
    #[arg(long, value_name = "FILE", default_value = "devnet.json")]
    state_file: PathBuf,
    /// Print JSON instead of settings.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RegisterArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// The folder with `verifier.sol` and `settings.json`.
    #[arg(long, value_name = "FOLDER", default_value = "model_files")]
    model_files: PathBuf,
    /// A file with the daemon's private key. Not needed on a devnet.
    #[arg(long, value_name = "FILE")]
    signer_key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RequestArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// Ask about this wallet.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["count", "input"])]
    wallet: Option<Address>,
    /// Ask about N wallets that nobody has asked about yet.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Make a request with this very input.
    #[arg(long, value_name = "TEXT", conflicts_with = "count")]
    input: Option<String>,
    /// Wait for the answers.
    #[arg(long)]
    wait: bool,
    /// How long to wait, in seconds.
    #[arg(long, value_name = "N", default_value_t = 600)]
    timeout: u64,
}

#[derive(Debug, Args)]
struct ChallengeArgs {
    /// The requests to be proven. Several go into one document on IPFS.
    #[arg(value_name = "REQUEST_ID", value_parser = parse_request_id, required_unless_present = "payload")]
    request_ids: Vec<H256>,
    #[command(flatten)]
    network: NetworkArgs,
    /// Ask for proofs that the chain checks, as the consumer.
    #[arg(long)]
    on_chain: bool,
    /// Send this very challenge.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["request_ids", "on_chain"])]
    payload: Option<String>,
    /// Challenge another modeler.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "on_chain")]
    modeler: Option<Address>,
    /// Wait for the proof.
    #[arg(long)]
    wait: bool,
    /// How long to wait, in seconds.
    #[arg(long, value_name = "N", default_value_t = 600)]
    timeout: u64,
    /// Save what the modeler answered by IPFS.
    #[arg(long, value_name = "FILE", requires = "wait", conflicts_with = "on_chain")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    network: NetworkArgs,
}

impl Cli {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        match self.command {
            Command::Up(args) => args.run().await,
            Command::Serve(args) => args.run().await,
            Command::Deploy(args) => args.run().await,
            Command::Register(args) => args.run().await,
            Command::Request(args) => args.run().await,
            Command::Challenge(args) => args.run().await,
            Command::Smoke(args) => args.run().await,
            Command::PublicNode(args) => args.run().await,
            Command::Status(args) => {
                let status = args.network.connect().await?.status().await?;
                report::status(&status, args.network.json)
            }
        }
    }
}

impl DeployArgs {
    async fn run(self) -> Result<()> {
        use ethers::providers::Middleware as _;
        let node = rpc::connect(&self.rpc)?;
        let chain_id = node.get_chainid().await?.as_u64();
        let parties = Accounts::single(&node, keys::read_key_file(&self.key_file, chain_id)?);
        let terms = CompetitionParams { signer_funds: self.fund, ..self.terms.terms() };
        let (admin, consumer) = (&parties.admin, &parties.consumer);
        let validator = parties.validator.address();
        let deployment = deploy::deploy(&node, admin, consumer, validator, self.signer, &terms).await?;
        let state = State { rpc_url: self.rpc, services: None, anvil_accounts: false, deployment };
        state.write(&self.state_file)?;
        report::deployment(&state.deployment, self.json)
    }
}

impl RegisterArgs {
    async fn run(self) -> Result<()> {
        let network = self.network.connect().await?;
        let chain_id = network.deployment.chain_id;
        let wallet = match &self.signer_key_file {
            Some(file) => keys::read_key_file(file, chain_id)?,
            None => keys::anvil_account(keys::DAEMON_ACCOUNT, chain_id)?,
        };
        let signer = Sender::new(network.node.clone(), wallet);
        ensure!(
            signer.address() == network.deployment.signer,
            "the daemon's key is {:?}, this one is {:?}: name the right one with --signer-key-file",
            network.deployment.signer,
            signer.address()
        );
        let verifier = network.register_verifier(&self.model_files, &signer).await?;
        report::verifier(verifier, self.network.json)
    }
}

impl RequestArgs {
    async fn run(self) -> Result<()> {
        let network = self.network.connect().await?;
        let inputs = match (&self.input, self.wallet) {
            (Some(input), _) => vec![input.clone()],
            (None, Some(wallet)) => vec![format!("{wallet:?}")],
            (None, None) => {
                let wallets = network.fresh_wallets(self.count).await?;
                wallets.iter().map(|wallet| format!("{wallet:?}")).collect()
            }
        };
        let requests = network.requests(&inputs).await?;
        if !self.wait {
            return report::requests(&requests, self.network.json);
        }
        let answers = network.wait_answers(&requests, Duration::from_secs(self.timeout)).await?;
        report::answers(&requests, &answers, self.network.json)
    }
}

impl ChallengeArgs {
    async fn run(self) -> Result<()> {
        let network = self.network.connect().await?;
        if self.on_chain { self.run_on_chain(&network).await } else { self.run_by_ipfs(&network).await }
    }

    async fn run_by_ipfs(&self, network: &Network) -> Result<()> {
        let modeler = self.modeler.unwrap_or(network.deployment.modeler);
        let payload = match &self.payload {
            Some(payload) => payload.clone(),
            None => network.challenge_payload(&self.request_ids).await?,
        };
        let challenge = network.challenge_with(modeler, &payload).await?;
        if !self.wait {
            return report::challenges(&[challenge], self.network.json);
        }
        let response = network.wait_response(&challenge, self.timeout()).await?;
        if let Some(file) = &self.out {
            save(file, &network.download(&response.cid).await?)?;
        }
        report::response(&challenge, &response, self.network.json)
    }

    async fn run_on_chain(&self, network: &Network) -> Result<()> {
        let mut challenges = Vec::with_capacity(self.request_ids.len());
        for id in &self.request_ids {
            challenges.push(network.request_proof(*id).await?);
        }
        if !self.wait {
            return report::challenges(&challenges, self.network.json);
        }
        let mut proofs = Vec::with_capacity(self.request_ids.len());
        for id in &self.request_ids {
            proofs.push(network.wait_proof(*id, self.timeout()).await?);
        }
        report::proofs(&proofs, self.network.json)
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

fn save(file: &Path, content: &[u8]) -> Result<()> {
    std::fs::write(file, content).with_context(|| format!("cannot write {}", file.display()))
}
