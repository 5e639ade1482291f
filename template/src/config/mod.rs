//! Every setting, read once and checked at once. `load` says where the values come from.

mod error;
mod layers;
pub mod load;
mod reader;
mod secrets;
pub mod variables;
mod written;

pub use load::{ConfigError, ConfigErrors, Sources};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// The network the daemon serves: it chooses defaults, nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    ArbitrumOne,
    ArbitrumSepolia,
    Devnet,
}

/// Which settings a command cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequiredSettings {
    /// No key and no chain: `setup`, `predict --features`, `verify`, `prove`, `status`, `bundle`.
    Offline,
    /// Plumber's key: `predict --wallet`.
    Features,
    /// Everything: `run`, `doctor`.
    Chain,
}

/// Every setting of the daemon.
#[derive(Debug, Clone)]
pub struct Config {
    pub network: Network,
    pub log: Log,
    pub model_files: ModelFiles,
    /// What the daemon writes: ledger, witnesses, proofs, its own copies of the model files.
    pub artifacts: PathBuf,
    pub storage: Storage,
    pub inference: Inference,
    pub ezkl: Ezkl,
    pub polling: Polling,
    /// Answers are sent only if this is on; off, they are computed and kept.
    pub submit_inferences: bool,
    /// Proofs are made and delivered only if this is on.
    pub submit_proofs: bool,
    /// How often the idle prover proves an answer that was not asked for. `None`: never.
    pub canary_interval: Option<Duration>,
    pub http_address: SocketAddr,
    pub plumber_host: String,
    pub pulse_host: String,
    /// Where CIDs of challenge documents are read: `{gateway}/ipfs/{cid}`.
    pub ipfs_gateway: String,
    /// Bearer token for Plumber. `None` only where the command does not need it.
    pub spectral_api_key: Option<SecretString>,
    /// Everything that has to do with the chain. `None` only where the command does not need it.
    pub chain: Option<Chain>,
    /// `AWS_*` variables of `.env` that the environment does not have, for S3.
    pub aws: Vec<(String, SecretString)>,
    /// What is not wrong and hardly meant: the log says it once.
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Human,
    Json,
}

#[derive(Debug, Clone)]
pub struct Log {
    pub level: tracing::level_filters::LevelFilter,
    pub format: LogFormat,
}

/// The files that the modeler brings and `setup` makes.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    pub folder: PathBuf,
    pub onnx: PathBuf,
    /// What EZKL compiled: `setup` writes it out of the model. Folders of before 0.1.2 have none, there EZKL compiled the model itself.
    pub circuit: PathBuf,
    pub compiled: PathBuf,
    pub settings: PathBuf,
    pub proving_key: PathBuf,
    pub verification_key: PathBuf,
    pub srs: PathBuf,
    /// The Solidity verifier that `setup` writes.
    pub verifier: PathBuf,
}

/// Where witnesses and proofs are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// Under `Config::artifacts`.
    Local,
    /// Credentials, region and endpoint come from the usual `AWS_*` variables.
    S3 { bucket: String, prefix: String },
}

/// Which engine's value is submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InferenceSource {
    /// The circuit's dequantised output: what the proof shows.
    Circuit,
    /// Candle's output, still gated by its agreement with the circuit.
    Model,
}

/// How an answer is written on chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InferenceEncoding {
    /// `submitInference(bytes32, uint256)`: the value times 10^decimals.
    Uint256 { decimals: u8 },
    /// `submitInference(bytes32, string)`: the shortest decimal that reads back to the same f64.
    String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureSource {
    /// The request's input names a wallet whose features Plumber serves.
    Plumber,
    /// The request's input is itself a JSON object of features.
    Inline,
}

#[derive(Debug, Clone)]
pub struct Inference {
    pub source: InferenceSource,
    pub encoding: InferenceEncoding,
    pub feature_source: FeatureSource,
    /// Allowed |circuit − candle|, as a share of |candle|.
    pub max_divergence: f64,
    /// Allowed |circuit − candle| besides. `None`: what `setup` has measured says.
    pub max_divergence_abs: Option<f64>,
    /// A model that candle cannot run is answered by its circuit, unchecked.
    pub allow_circuit_only: bool,
    /// How long a hook may take.
    pub hook_timeout: Duration,
}

/// When `mock` checks that a witness can be proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MockPolicy {
    /// Where EZKL's figures do not suffice, near the edges of ranges, and for a sample of the rest.
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone)]
pub struct Ezkl {
    /// When a witness is checked by `mock`.
    pub mock: MockPolicy,
    /// The Python that has the EZKL wheel.
    pub python: PathBuf,
    /// Pythons that have other versions, for what was answered with those.
    pub pythons: BTreeMap<String, PathBuf>,
    /// Processes that make witnesses.
    pub witness_workers: usize,
    /// Threads that the one worker for `mock` may use.
    pub mock_threads: usize,
    /// Threads that the one prover may use.
    pub prover_threads: usize,
    pub witness_timeout: Duration,
    pub mock_timeout: Duration,
    pub prove_timeout: Duration,
    /// Megabytes of memory that a worker process may use. `None`: no limit.
    pub memory_mb: Option<u64>,
}

#[derive(Debug, Clone)]
pub struct Polling {
    pub enabled: bool,
    pub inference: Duration,
    pub proof: Duration,
    pub contracts: Duration,
}

/// The key of the wallet that signs.
#[derive(Debug, Clone)]
pub enum WalletKey {
    /// 64 hex digits.
    Raw(SecretString),
    /// A keystore of geth's version 3, and what opens it.
    Keystore { file: PathBuf, password: SecretString },
}

/// Which blocks no reorg takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finality {
    /// Up to the block that the node tags `finalized`.
    Finalized,
    /// Up to the block that the node tags `safe`.
    Safe,
    /// All but so many of the newest.
    Blocks(u64),
}

/// What reaching the chain needs.
#[derive(Debug, Clone)]
pub struct Chain {
    /// JSON-RPC endpoints, tried in order. May hold keys: never printed.
    pub rpc_urls: Vec<SecretString>,
    /// WebSocket endpoint that tells of new blocks and logs, so that they are read at once. May hold a key: never printed.
    pub rpc_ws_url: Option<SecretString>,
    pub chain_id: u64,
    /// The Competition contract.
    pub challenge_address: String,
    pub wallet_key: WalletKey,
    /// `None`: asked of Pulse.
    pub multisig_address: Option<String>,
    pub proof_registry_address: Option<String>,
    /// The EZKL verifier contract of the model. `None`: the one registered last.
    pub verifier_address: Option<String>,
    pub tx_explorer_url: String,
    /// Fixed gas price in gwei. `None`: EIP-1559.
    pub gas_price_gwei: Option<f64>,
    /// Fixed gas limit. `None`: an estimate with margin.
    pub gas: Option<u64>,
    /// No transaction pays more than this for a unit of gas.
    pub max_fee_gwei: Option<f64>,
    /// Offered to who orders transactions, for a unit of gas. `None`: what the node suggests.
    pub priority_fee_gwei: Option<f64>,
    /// Blocks on top of a block before its logs are read.
    pub confirmations: u64,
    /// Blocks before the cursor whose logs are read once more in each pass.
    pub reread_blocks: u64,
    /// From when a mined transaction is final.
    pub finality: Finality,
    /// Blocks asked for in one `eth_getLogs`; halved when a provider refuses.
    pub log_range: u64,
    /// Block to start from when the ledger has no cursor. `None`: as far back as the SLA reaches.
    pub start_block: Option<u64>,
    /// How long a transaction may wait to be mined before one that pays more takes its place.
    pub replace_after: Duration,
    /// Fewer answers than the wallet should be able to pay for.
    pub warn_answers: u64,
    /// What cannot be proven on chain is answered all the same.
    pub answer_without_commitment: bool,
    /// Rewards of past epochs are claimed daily only if this is on.
    pub claim_rewards: bool,
    /// Seconds from request to answer. `None`: as the contract says.
    pub sla: Option<Duration>,
    /// Transactions under way at once.
    pub max_in_flight: usize,
    pub max_proofs_per_day: u32,
    /// Balance in ETH below which no proof is sent, so that answers can still be paid for.
    pub min_balance_eth: f64,
}
