//! Puts the settings together out of the layers, and finds what is missing and what contradicts itself.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tracing::level_filters::LevelFilter;

use super::layers::Layers;
use super::reader::{self, Reader};
use super::{
    Chain, Config, Ezkl, FeatureSource, Finality, Inference, InferenceEncoding, InferenceSource, Log, LogFormat,
    MockPolicy, ModelFiles, Network, Polling, RequiredSettings, Storage, WalletKey,
};
use crate::ezkl::model_version::CIRCUIT;

pub use super::error::{ConfigError, ConfigErrors};
pub use super::layers::Sources;

const NETWORKS: &[(&str, Network)] = &[
    ("arbitrum-one", Network::ArbitrumOne),
    ("arbitrum-sepolia", Network::ArbitrumSepolia),
    ("devnet", Network::Devnet),
];

/// Python's levels. `tracing` has none above error.
const LEVELS: &[(&str, LevelFilter)] = &[
    ("INFO", LevelFilter::INFO),
    ("DEBUG", LevelFilter::DEBUG),
    ("WARNING", LevelFilter::WARN),
    ("WARN", LevelFilter::WARN),
    ("ERROR", LevelFilter::ERROR),
    ("CRITICAL", LevelFilter::ERROR),
    ("TRACE", LevelFilter::TRACE),
    ("OFF", LevelFilter::OFF),
];

/// Python with the wheel alone needs about half of it.
const LEAST_MEMORY_MB: u64 = 128;

impl Config {
    /// Reads and checks every setting; everything that is wrong comes back at once.
    pub fn load(sources: &Sources, need: RequiredSettings) -> Result<Self, ConfigErrors> {
        let mut layers = Layers::read(sources);
        let mistakes = std::mem::take(&mut layers.mistakes);
        // The network chooses the lower layers, so it is read first and without them.
        let mut reader = Reader::new(layers.on(Network::ArbitrumOne), mistakes);
        let network = reader.choice("NOVA_NETWORK", NETWORKS);
        let mut reader = Reader::new(layers.on(network), reader.mistakes);
        reader.allow_insecure = reader.boolean("NOVA_ALLOW_INSECURE_HTTP");

        let config = Self::read(&mut reader, network, need, sources.project(), layers);
        if reader.mistakes.is_empty() { Ok(config) } else { Err(ConfigErrors(reader.mistakes)) }
    }

    fn read(reader: &mut Reader, network: Network, need: RequiredSettings, project: &Path, layers: Layers) -> Self {
        let inference = inference(reader);
        let spectral_api_key = spectral_api_key(reader, need, inference.feature_source);
        if network == Network::Devnet && need >= RequiredSettings::Features {
            for host in ["NOVA_PLUMBER_HOST", "NOVA_PULSE_HOST"] {
                require(reader, host, "`devnet up` writes it to .env");
            }
        }
        let mut config = Self {
            network,
            log: log(reader),
            model_files: model_files(reader),
            artifacts: reader.path("NOVA_ARTIFACTS_PATH"),
            storage: storage(reader, &layers),
            inference,
            ezkl: ezkl(reader, project),
            polling: Polling {
                enabled: reader.boolean("NOVA_POLLING_ENABLED"),
                inference: reader.seconds("NOVA_INFERENCE_POLLING_INTERVAL"),
                proof: reader.seconds("NOVA_PROOF_POLLING_INTERVAL"),
                contracts: reader.seconds("NOVA_CONTRACTS_POLLING_INTERVAL"),
            },
            submit_inferences: reader.boolean("NOVA_INFERENCE_SUBMISSION_ENABLED"),
            submit_proofs: reader.boolean("NOVA_PROOF_SUBMISSION_ENABLED"),
            canary_interval: reader.seconds_or_never("NOVA_CANARY_INTERVAL"),
            http_address: reader.parsed("NOVA_HTTP_ADDRESS", SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            plumber_host: reader.service_url("NOVA_PLUMBER_HOST"),
            pulse_host: reader.service_url("NOVA_PULSE_HOST"),
            ipfs_gateway: reader.service_url("NOVA_IPFS_GATEWAY"),
            spectral_api_key,
            chain: chain(reader, network, need),
            aws: layers.aws,
            warnings: layers.warnings,
        };
        config.warnings.extend(lint_settings(reader, &config, need));
        config
    }
}

fn require(reader: &mut Reader, name: &str, why: &str) {
    if reader.text(name).is_none() {
        reader.missing(name, why);
    }
}

/// A secret that is needed, if `needed` says so.
fn secret(
    reader: &mut Reader,
    name: &str,
    needed: bool,
    read: impl FnOnce(&str) -> Option<String>,
) -> Option<SecretString> {
    let file = format!("{name}_FILE");
    if needed && reader.text(name).is_none() && reader.text(&file).is_none() {
        reader.missing(name, "neither is its …_FILE");
    }
    reader.secret(name, read)
}

fn spectral_api_key(reader: &mut Reader, need: RequiredSettings, source: FeatureSource) -> Option<SecretString> {
    let needed = need >= RequiredSettings::Features && source == FeatureSource::Plumber;
    secret(reader, "NOVA_SPECTRAL_API_KEY", needed, reader::bearer)
}

fn log(reader: &mut Reader) -> Log {
    Log {
        level: reader.choice("NOVA_LOG_LEVEL", LEVELS),
        format: reader.choice("NOVA_LOG_FORMAT", &[("human", LogFormat::Human), ("json", LogFormat::Json)]),
    }
}

fn model_files(reader: &mut Reader) -> ModelFiles {
    let folder = reader.path("NOVA_MODEL_FILES_PATH");
    ModelFiles {
        onnx: reader.path_in(&folder, "NOVA_ONNX_PATH"),
        circuit: folder.join(CIRCUIT),
        compiled: reader.path_in(&folder, "NOVA_COMPILED_MODEL_PATH"),
        settings: reader.path_in(&folder, "NOVA_SETTINGS_PATH"),
        proving_key: reader.path_in(&folder, "NOVA_PROVING_KEY_PATH"),
        verification_key: reader.path_in(&folder, "NOVA_VERIFICATION_KEY_PATH"),
        srs: reader.path_in(&folder, "NOVA_SRS_PATH"),
        verifier: reader.path_in(&folder, "NOVA_VERIFIER_PATH"),
        folder,
    }
}

fn storage(reader: &mut Reader, layers: &Layers) -> Storage {
    let s3 = reader.choice("NOVA_STORAGE_PROVIDER", &[("local", false), ("s3", true)]);
    if !s3 {
        return Storage::Local;
    }
    require(reader, "NOVA_S3_BUCKET", "NOVA_STORAGE_PROVIDER is s3");
    for (name, url) in layers.aws_endpoints.iter().filter(|(_, url)| !reader.allow_insecure && !reader::is_safe(url)) {
        reader.mistakes.push(reader::unencrypted(name, &format!("{url:?}")));
    }
    Storage::S3 {
        bucket: reader.text("NOVA_S3_BUCKET").unwrap_or_default(),
        prefix: reader.text("NOVA_S3_PATH_PREFIX").unwrap_or_default(),
    }
}

fn inference(reader: &mut Reader) -> Inference {
    let string = reader.choice("NOVA_INFERENCE_ENCODING", &[("uint256", false), ("string", true)]);
    // 10^77 is the highest power of ten below 2^256.
    let decimals =
        reader.option("NOVA_INFERENCE_DECIMALS", |text| text.parse().ok().filter(|decimals| *decimals <= 77));
    Inference {
        source: reader.choice(
            "NOVA_INFERENCE_SOURCE",
            &[("circuit", InferenceSource::Circuit), ("model", InferenceSource::Model)],
        ),
        encoding: if string {
            InferenceEncoding::String
        } else {
            InferenceEncoding::Uint256 { decimals: decimals.unwrap_or_default() }
        },
        feature_source: reader
            .choice("NOVA_FEATURE_SOURCE", &[("plumber", FeatureSource::Plumber), ("inline", FeatureSource::Inline)]),
        max_divergence: reader.number("NOVA_MAX_DIVERGENCE"),
        max_divergence_abs: reader.number_option("NOVA_MAX_DIVERGENCE_ABS"),
        allow_circuit_only: reader.boolean("NOVA_ALLOW_CIRCUIT_ONLY"),
        hook_timeout: reader.seconds("NOVA_HOOK_TIMEOUT"),
    }
}

fn ezkl(reader: &mut Reader, project: &Path) -> Ezkl {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let half = (cores / 2).max(1);
    Ezkl {
        mock: reader.choice(
            "NOVA_MOCK",
            &[("auto", MockPolicy::Auto), ("always", MockPolicy::Always), ("never", MockPolicy::Never)],
        ),
        python: reader.text("NOVA_PYTHON").map_or_else(|| default_python(project), PathBuf::from),
        pythons: pythons(reader),
        witness_workers: reader.whole_option("NOVA_WITNESS_WORKERS", 1).unwrap_or((cores - 1).clamp(1, 4)),
        mock_threads: reader.whole_option("NOVA_MOCK_THREADS", 1).unwrap_or(half),
        prover_threads: reader.whole_option("NOVA_PROVER_THREADS", 1).unwrap_or(half),
        witness_timeout: reader.seconds("NOVA_WITNESS_TIMEOUT"),
        mock_timeout: reader.seconds("NOVA_MOCK_TIMEOUT"),
        prove_timeout: reader.seconds("NOVA_PROVE_TIMEOUT"),
        memory_mb: reader.whole_option("NOVA_PROVER_MEMORY_MB", LEAST_MEMORY_MB),
    }
}

/// `NOVA_PYTHONS`: a Python a version.
fn pythons(reader: &mut Reader) -> BTreeMap<String, PathBuf> {
    let mut pythons = BTreeMap::new();
    let list = reader.text("NOVA_PYTHONS").unwrap_or_default();
    for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let is_version =
            |text: &str| text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains(char::is_whitespace);
        match entry.split_once(':').map(|(version, path)| (version.trim(), path.trim())) {
            Some((version, path)) if is_version(version) && !path.is_empty() => {
                if pythons.insert(version.to_owned(), PathBuf::from(path)).is_some() {
                    let origin = reader.origin("NOVA_PYTHONS");
                    reader.contradiction(format!("{origin} has two Pythons of version {version}: leave one out"));
                }
            }
            _ => reader.wrong("NOVA_PYTHONS", &format!("{entry:?}")),
        }
    }
    pythons
}

/// The project's own Python where it was set up, else the system's.
fn default_python(project: &Path) -> PathBuf {
    let own = project.join("ezkl/.venv/bin/python");
    if own.exists() { own } else { "python3".into() }
}

/// `None` where something is missing that the command does not need.
fn chain(reader: &mut Reader, network: Network, need: RequiredSettings) -> Option<Chain> {
    let needed = need >= RequiredSettings::Chain;
    let rpc_urls = rpc_urls(reader, network, needed);
    let wallet_key = reader.wallet_key(needed);
    if needed {
        let why = match network {
            Network::ArbitrumOne => "",
            Network::ArbitrumSepolia => "arbitrum-sepolia has no public one",
            Network::Devnet => "`devnet up` writes it to .env",
        };
        require(reader, "NOVA_CHALLENGE_ADDRESS", why);
    }
    let challenge_address = reader.address("NOVA_CHALLENGE_ADDRESS");
    let gas_price_gwei = reader.positive_option("NOVA_GAS_PRICE_GWEI");
    let max_fee_gwei = reader.positive_option("NOVA_MAX_FEE_GWEI");
    if let (Some(price), Some(max)) = (gas_price_gwei, max_fee_gwei)
        && price > max
    {
        let (one, other) = (reader.origin("NOVA_GAS_PRICE_GWEI"), reader.origin("NOVA_MAX_FEE_GWEI"));
        reader.contradiction(format!("{one} ({price}) is above {other} ({max}): nothing could be sent"));
    }
    let priority_fee_gwei = reader.positive_option("NOVA_PRIORITY_FEE_GWEI");
    if let Some(priority) = priority_fee_gwei {
        let one = reader.origin("NOVA_PRIORITY_FEE_GWEI");
        if gas_price_gwei.is_some() {
            let other = reader.origin("NOVA_GAS_PRICE_GWEI");
            reader.contradiction(format!(
                "{other} fixes the whole price, so that {one} changes nothing: leave one of them out"
            ));
        }
        if let Some(max) = max_fee_gwei
            && priority > max
        {
            let other = reader.origin("NOVA_MAX_FEE_GWEI");
            reader.contradiction(format!("{one} ({priority}) is above {other} ({max}): it could never be offered"));
        }
    }
    let chain = Chain {
        rpc_urls: rpc_urls.clone().unwrap_or_default(),
        rpc_ws_url: rpc_ws_url(reader),
        chain_id: reader.whole("NOVA_CHAIN_ID", 1),
        challenge_address: challenge_address.clone().unwrap_or_default(),
        wallet_key: wallet_key.clone().unwrap_or(WalletKey::Raw(SecretString::default())),
        multisig_address: reader.address("NOVA_MULTISIG_ADDRESS"),
        proof_registry_address: reader.address("NOVA_PROOF_REGISTRY_ADDRESS"),
        verifier_address: reader.address("NOVA_VERIFIER_ADDRESS"),
        tx_explorer_url: reader.url("NOVA_TX_EXPLORER_URL"),
        gas_price_gwei,
        gas: reader.whole_option("NOVA_GAS", 1),
        max_fee_gwei,
        priority_fee_gwei,
        confirmations: reader.whole("NOVA_CONFIRMATIONS", 0),
        reread_blocks: reader.whole("NOVA_REREAD_BLOCKS", 0),
        finality: finality(reader),
        replace_after: reader.seconds("NOVA_REPLACE_AFTER"),
        warn_answers: reader.whole("NOVA_WARN_ANSWERS", 0),
        answer_without_commitment: reader.boolean("NOVA_ANSWER_WITHOUT_COMMITMENT"),
        claim_rewards: reader.boolean("NOVA_CLAIM_REWARDS"),
        log_range: reader.whole("NOVA_LOG_RANGE", 1),
        start_block: reader.whole_option("NOVA_START_BLOCK", 0),
        sla: reader.whole_option("NOVA_SLA_SECONDS", 1).map(Duration::from_secs),
        max_in_flight: reader.whole("NOVA_MAX_IN_FLIGHT", 1),
        max_proofs_per_day: reader.whole("NOVA_MAX_PROOFS_PER_DAY", 0),
        min_balance_eth: reader.number("NOVA_MIN_BALANCE_ETH"),
    };
    (rpc_urls.is_some() && wallet_key.is_some() && challenge_address.is_some()).then_some(chain)
}

fn finality(reader: &mut Reader) -> Finality {
    let read = |text: &str| match text.to_ascii_lowercase().as_str() {
        "finalized" => Some(Finality::Finalized),
        "safe" => Some(Finality::Safe),
        blocks => blocks.parse().ok().map(Finality::Blocks),
    };
    reader.option("NOVA_FINALITY", read).unwrap_or(Finality::Finalized)
}

/// `NOVA_RPC_URLS`, else the endpoint of the Alchemy pair.
fn rpc_urls(reader: &mut Reader, network: Network, needed: bool) -> Option<Vec<SecretString>> {
    if let Some(list) = reader.text("NOVA_RPC_URLS") {
        let mut urls = Vec::new();
        for (at, text) in list.split(',').map(str::trim).enumerate() {
            match reader::url(text, &["http", "https"]) {
                Some(url) => {
                    if !reader.allow_insecure && !reader::is_safe(&url) {
                        reader.unsafe_url("NOVA_RPC_URLS", &format!("a URL at place {} (not shown)", at + 1));
                    }
                    urls.push(SecretString::from(url));
                }
                None => {
                    let found = format!("no URL at place {} (not shown)", at + 1);
                    reader.wrong("NOVA_RPC_URLS", &found);
                }
            }
        }
        return Some(urls);
    }
    if network == Network::Devnet && reader.text("NOVA_ALCHEMY_HOST").is_none() {
        if needed {
            reader.missing("NOVA_RPC_URLS", "`devnet up` writes it to .env");
        }
        return None;
    }
    let host = reader.service_url("NOVA_ALCHEMY_HOST");
    let file = reader.text("NOVA_ALCHEMY_API_KEY_FILE");
    if needed && file.is_none() && reader.text("NOVA_ALCHEMY_API_KEY").is_none() {
        reader.missing("NOVA_ALCHEMY_API_KEY", "neither is its …_FILE, nor NOVA_RPC_URLS");
    }
    let key = reader.secret("NOVA_ALCHEMY_API_KEY", reader::path_key)?;
    let url = format!("{host}/v2/{}", key.expose_secret());
    Some(vec![SecretString::from(url)])
}

fn rpc_ws_url(reader: &mut Reader) -> Option<SecretString> {
    let url = reader.option("NOVA_RPC_WS_URL", |text| reader::url(text, &["ws", "wss"]))?;
    if !reader.allow_insecure && !reader::is_safe(&url) {
        reader.unsafe_url("NOVA_RPC_WS_URL", "a URL (not shown)");
    }
    Some(SecretString::from(url))
}

/// What is not wrong and hardly meant.
fn lint_settings(reader: &Reader, config: &Config, need: RequiredSettings) -> Vec<String> {
    let mut odd = Vec::new();
    if config.storage == Storage::Local && reader.text("NOVA_S3_BUCKET").is_some() {
        let origin = reader.origin("NOVA_S3_BUCKET");
        odd.push(format!("{origin} has no effect: NOVA_STORAGE_PROVIDER is local"));
    }
    if need == RequiredSettings::Chain && config.submit_proofs && config.spectral_api_key.is_none() {
        odd.push("NOVA_SPECTRAL_API_KEY is not set: a proof asked for by IPFS cannot be uploaded".to_string());
    }
    let preset = super::variables::preset(config.network, "NOVA_CHAIN_ID");
    let chain_id = reader.text("NOVA_CHAIN_ID");
    if config.network != Network::Devnet && chain_id.as_deref() != preset {
        let origin = reader.origin("NOVA_CHAIN_ID");
        odd.push(format!("{origin} is not the chain of NOVA_NETWORK, whose defaults hold for what is not set"));
    }
    odd
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
