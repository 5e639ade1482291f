//! Every variable there is: its name, default, form and meaning. What is not in this table is no setting.

use super::{Network, RequiredSettings};

/// What a variable is when nobody sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultValue {
    /// This text.
    Is(&'static str),
    /// As the network's preset has it.
    Preset,
    /// Worked out when the daemon starts, as described.
    Computed(&'static str),
    /// Nothing. `Some`: and commands with that need cannot do without it.
    Unset(Option<RequiredSettings>),
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    pub name: &'static str,
    pub default: DefaultValue,
    /// The form of a right value, as it stands after "expected" in a mistake.
    pub expected: &'static str,
    pub meaning: &'static str,
    /// What it holds is never shown.
    pub secret: bool,
}

impl Variable {
    /// The variable of that name (`NOVA_GAS`).
    pub fn named(name: &str) -> Option<&'static Variable> {
        VARIABLES.iter().find(|variable| variable.name == name)
    }

    /// Its key in `nova.toml`, and in the layers: `NOVA_GAS` → `gas`.
    pub fn key(&self) -> String {
        key(self.name)
    }

    /// Its default as the settings table shows it.
    pub fn default_text(&self) -> String {
        let on = |network| preset(network, self.name).unwrap_or("-");
        match self.default {
            DefaultValue::Is("") => "empty".to_string(),
            DefaultValue::Is(text) => format!("`{text}`"),
            DefaultValue::Preset => format!(
                "`{}`; arbitrum-sepolia: `{}`; devnet: `{}`",
                on(Network::ArbitrumOne),
                on(Network::ArbitrumSepolia),
                on(Network::Devnet)
            ),
            DefaultValue::Computed(how) => how.to_string(),
            DefaultValue::Unset(Some(_)) => "required".to_string(),
            DefaultValue::Unset(None) => "-".to_string(),
        }
    }
}

/// The key of a variable in `nova.toml`, and in the layers: `NOVA_GAS` → `gas`.
pub fn key(name: &str) -> String {
    name.strip_prefix("NOVA_").unwrap_or(name).to_ascii_lowercase()
}

/// The name closest to what was written, if any is close.
pub fn closest(written: &str) -> Option<&'static Variable> {
    let written = key(&written.to_ascii_uppercase().replace('-', "_"));
    VARIABLES
        .iter()
        .map(|variable| (strsim::jaro_winkler(&written, &variable.key()), variable))
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .filter(|(likeness, _)| *likeness > 0.85)
        .map(|(_, variable)| variable)
}

/// What a network presets.
pub fn preset(network: Network, name: &str) -> Option<&'static str> {
    let [one, sepolia, devnet] = PRESETS.iter().find(|(preset, _)| *preset == name)?.1;
    match network {
        Network::ArbitrumOne => one,
        Network::ArbitrumSepolia => sepolia,
        Network::Devnet => devnet,
    }
}

/// Arbitrum One, Arbitrum Sepolia, devnet.
pub const PRESETS: &[(&str, [Option<&str>; 3])] = &[
    ("NOVA_CHAIN_ID", [Some("42161"), Some("421614"), Some("31337")]),
    ("NOVA_ALCHEMY_HOST", [Some("https://arb-mainnet.g.alchemy.com"), Some("https://arb-sepolia.g.alchemy.com"), None]),
    // The challenge on Sepolia has no public address: it is asked for.
    ("NOVA_CHALLENGE_ADDRESS", [Some("0xFDC1BE05aD924e6Fc4Ab2c6443279fF7C0AB5544"), None, None]),
    ("NOVA_TX_EXPLORER_URL", [Some("https://arbiscan.io/tx"), Some("https://sepolia.arbiscan.io/tx"), None]),
    // Four blocks are one second on Arbitrum: long enough for a provider's nodes to agree on a block's logs.
    ("NOVA_CONFIRMATIONS", [Some("4"), Some("4"), Some("0")]),
    // Ten seconds on Arbitrum, for providers whose nodes take longer.
    ("NOVA_REREAD_BLOCKS", [Some("40"), Some("40"), Some("8")]),
    ("NOVA_PLUMBER_HOST", [Some("https://plumber.spectral.finance"), Some("https://plumber.spectral.finance"), None]),
    (
        "NOVA_PULSE_HOST",
        [
            Some("https://subscription-library.spectral.finance"),
            Some("https://subscription-library.spectral.finance"),
            None,
        ],
    ),
];

/// Variables that start like ours and belong to the tools around the daemon.
pub const FOREIGN_VARIABLES: &[&str] = &["NOVA_ANVIL", "NOVA_OLDER_PYTHON", "NOVA_TARGET_DIR"];

const ADDRESS: &str = "an address: 0x and 40 hex digits";
const BOOLEAN: &str = "True or False (1/0, yes/no, on/off)";
const COUNT: &str = "a whole number, at least 1";
const FILE: &str = "a file that can be read and holds the value, nothing else";
const PATH: &str = "a path";
const SECONDS: &str = "seconds, above 0";
const URL: &str = "an http:// or https:// URL";
const WHOLE: &str = "a whole number";

const fn variable(
    name: &'static str,
    default: DefaultValue,
    expected: &'static str,
    meaning: &'static str,
) -> Variable {
    Variable { name, default, expected, meaning, secret: false }
}

const fn secret(name: &'static str, default: DefaultValue, expected: &'static str, meaning: &'static str) -> Variable {
    Variable { secret: true, ..variable(name, default, expected, meaning) }
}

use DefaultValue::{Computed, Is, Preset, Unset};

/// All of them, in the order of the settings table.
#[rustfmt::skip]
pub const VARIABLES: &[Variable] = &[
    // Who we are and whom we serve.
    variable("NOVA_NETWORK", Is("arbitrum-one"), "arbitrum-one, arbitrum-sepolia or devnet",
        "The network served. It chooses defaults, nothing else."),
    secret("NOVA_SPECTRAL_API_KEY", Unset(Some(RequiredSettings::Features)), "the key as Spectral gave it, without blanks",
        "Key for Plumber: features and uploads. Not needed with `NOVA_FEATURE_SOURCE=inline`."),
    variable("NOVA_SPECTRAL_API_KEY_FILE", Unset(None), FILE,
        "File that holds the key for Plumber, in place of `NOVA_SPECTRAL_API_KEY`."),
    secret("NOVA_ALCHEMY_API_KEY", Unset(Some(RequiredSettings::Chain)), "letters, digits, - and _",
        "Alchemy's key. Not needed with `NOVA_RPC_URLS`."),
    variable("NOVA_ALCHEMY_API_KEY_FILE", Unset(None), FILE,
        "File that holds Alchemy's key, in place of `NOVA_ALCHEMY_API_KEY`."),
    secret("NOVA_CLI_WALLET_PRIVATE_KEY", Unset(Some(RequiredSettings::Chain)), "a private key: 32 bytes as 64 hex digits, with or without 0x",
        "Private key of the wallet that sends and pays."),
    variable("NOVA_CLI_WALLET_PRIVATE_KEY_FILE", Unset(None), FILE,
        "File that holds the private key, in place of `NOVA_CLI_WALLET_PRIVATE_KEY`."),
    variable("NOVA_CLI_WALLET_KEYSTORE", Unset(None), "a keystore file of geth's version 3",
        "Keystore that holds the private key encrypted, in place of `NOVA_CLI_WALLET_PRIVATE_KEY`."),
    variable("NOVA_CLI_WALLET_KEYSTORE_PASSWORD_FILE", Unset(None), FILE,
        "File that holds the keystore's password."),
    // Files.
    variable("NOVA_MODEL_FILES_PATH", Is("model_files"), PATH,
        "Folder of the model files."),
    variable("NOVA_ONNX_PATH", Is("model.onnx"), PATH,
        "The model. Like all that follow up to the SRS: relative to the model folder."),
    variable("NOVA_COMPILED_MODEL_PATH", Is("model.ezkl"), PATH,
        "The compiled circuit."),
    variable("NOVA_SETTINGS_PATH", Is("settings.json"), PATH,
        "The circuit's settings."),
    variable("NOVA_PROVING_KEY_PATH", Is("model_pk.pk"), PATH,
        "The proving key."),
    variable("NOVA_VERIFICATION_KEY_PATH", Is("model_vk.vk"), PATH,
        "The verification key."),
    variable("NOVA_VERIFIER_PATH", Is("verifier.sol"), PATH,
        "The Solidity verifier that `setup` writes."),
    variable("NOVA_SRS_PATH", Is("kzg.srs"), PATH,
        "The structured reference string (SRS)."),
    variable("NOVA_ARTIFACTS_PATH", Is("./artifacts"), PATH,
        "What the daemon writes: ledger, witnesses, proofs, its own copies of the model files. Keep it."),
    variable("NOVA_STORAGE_PROVIDER", Is("local"), "local or s3",
        "Where witnesses and proofs are kept. `s3` takes credentials, region and endpoint from the usual `AWS_*` variables."),
    variable("NOVA_S3_BUCKET", Unset(None), "the name of a bucket",
        "The bucket. Required with `s3`."),
    variable("NOVA_S3_PATH_PREFIX", Is(""), "a prefix of keys",
        "What the keys in the bucket start with."),
    // What is answered.
    variable("NOVA_INFERENCE_SUBMISSION_ENABLED", Is("True"), BOOLEAN,
        "Send answers. Off, they are computed and kept."),
    variable("NOVA_PROOF_SUBMISSION_ENABLED", Is("True"), BOOLEAN,
        "Make and deliver proofs."),
    variable("NOVA_CANARY_INTERVAL", Is("86400"), "seconds, or 0 for never",
        "Seconds between two canaries: proofs of recent answers that are not asked for, made while no proof request is open."),
    variable("NOVA_POLLING_ENABLED", Is("True"), BOOLEAN,
        "Watch the chain for new work. Off, only the work in the ledger is done."),
    variable("NOVA_INFERENCE_POLLING_INTERVAL", Is("20"), SECONDS,
        "Seconds between two looks for requests."),
    variable("NOVA_PROOF_POLLING_INTERVAL", Is("3600"), SECONDS,
        "Seconds between two looks for proof requests."),
    variable("NOVA_CONTRACTS_POLLING_INTERVAL", Is("300"), SECONDS,
        "Seconds between two looks at what the contracts say: the SLA, and which other contracts they name."),
    variable("NOVA_FEATURE_SOURCE", Is("plumber"), "plumber or inline",
        "`plumber`: the input names a wallet. `inline`: the input is itself a JSON object of features."),
    variable("NOVA_INFERENCE_ENCODING", Is("uint256"), "uint256 or string",
        "Form of an answer on chain: value × 10^`NOVA_INFERENCE_DECIMALS`, or the shortest decimal."),
    variable("NOVA_INFERENCE_DECIMALS", Is("18"), "a whole number, 0 to 77",
        "Decimals of a `uint256` answer."),
    variable("NOVA_INFERENCE_SOURCE", Is("circuit"), "circuit or model",
        "Whose value is submitted: the circuit's, which the proof shows, or candle's."),
    variable("NOVA_MAX_DIVERGENCE", Is("0.01"), "a number, at least 0",
        "Allowed |circuit − candle| as a share of |candle|, or of its distance from the sample's median where that is less."),
    variable("NOVA_MAX_DIVERGENCE_ABS", Computed("as `setup` has measured"), "a number, at least 0",
        "Allowed |circuit − candle| besides: 4 × the p99 that `setup` measured, at most 1 % of the output's range, at least two steps of the circuit. Whole numbers must be equal whatever it is."),
    variable("NOVA_ALLOW_CIRCUIT_ONLY", Is("false"), "true or false",
        "Answers with the circuit alone where candle cannot run the model: nothing then checks what the circuit computes."),
    variable("NOVA_HOOK_TIMEOUT", Is("10"), SECONDS,
        "Seconds a hook may take."),
    // EZKL.
    variable("NOVA_MOCK", Is("auto"), "auto, always or never",
        "When EZKL's `mock` checks every constraint before an answer is given. `auto`: where the circuit holds an operator that its figures say nothing about, near the edges of its ranges, and one answer in 20 besides."),
    variable("NOVA_PYTHON", Computed("`ezkl/.venv/bin/python` if it exists, else `python3`"), "a path, or a program on PATH",
        "The Python that has the EZKL wheel."),
    variable("NOVA_PYTHONS", Unset(None), "VERSION:PATH, separated by commas, such as 22.3.0:/opt/ezkl-22.3.0/bin/python",
        "Pythons that have other versions of EZKL: what was answered with one of them is proven and verified with it."),
    variable("NOVA_WITNESS_WORKERS", Computed("cores − 1, at least 1, at most 4"), COUNT,
        "Processes that make witnesses."),
    variable("NOVA_MOCK_THREADS", Computed("half of the cores, at least 1"), COUNT,
        "Threads that `mock`, EZKL's check of a witness, may use. One runs at a time."),
    variable("NOVA_PROVER_THREADS", Computed("half of the cores, at least 1"), COUNT,
        "Threads that the prover may use."),
    variable("NOVA_WITNESS_TIMEOUT", Is("60"), SECONDS,
        "Seconds a witness may take."),
    variable("NOVA_MOCK_TIMEOUT", Is("120"), SECONDS,
        "Seconds a `mock` may take."),
    variable("NOVA_PROVE_TIMEOUT", Is("3600"), SECONDS,
        "Seconds a proof may take."),
    variable("NOVA_PROVER_MEMORY_MB", Unset(None), "a whole number, at least 128",
        "Megabytes of memory that the prover may use (`RLIMIT_DATA`), and as much each other worker. Unset: no limit."),
    // The chain.
    secret("NOVA_RPC_URLS", Unset(None), "http:// or https:// URLs, separated by commas",
        "JSON-RPC endpoints, tried in order. They win over Alchemy's host and key."),
    secret("NOVA_RPC_WS_URL", Unset(None), "a ws:// or wss:// URL",
        "WebSocket endpoint that tells of new requests at once. Polling goes on beside it."),
    variable("NOVA_ALCHEMY_HOST", Preset, URL,
        "Alchemy's host. The endpoint is HOST/v2/KEY."),
    variable("NOVA_CHAIN_ID", Preset, COUNT,
        "The chain's id. The daemon stops when the endpoint is on another chain."),
    variable("NOVA_CHALLENGE_ADDRESS", Preset, ADDRESS,
        "The Competition contract."),
    variable("NOVA_MULTISIG_ADDRESS", Unset(None), ADDRESS,
        "Our MultiSig wallet. Unset: asked of Pulse."),
    variable("NOVA_PROOF_REGISTRY_ADDRESS", Unset(None), ADDRESS,
        "The ProofRegistry contract, for proofs on chain. Unset: none."),
    variable("NOVA_VERIFIER_ADDRESS", Computed("the one registered last"), ADDRESS,
        "The EZKL verifier contract of the model, registered at the ProofRegistry."),
    variable("NOVA_CONFIRMATIONS", Preset, WHOLE,
        "Blocks on top of a block before its logs are read."),
    variable("NOVA_REREAD_BLOCKS", Preset, WHOLE,
        "Blocks that each look reads once more, for providers that are late with the logs of the newest."),
    variable("NOVA_FINALITY", Is("finalized"), "finalized, safe or a number of blocks",
        "From when a mined transaction is final: at or below the block of that tag, or that many blocks below the newest."),
    variable("NOVA_LOG_RANGE", Is("1000"), COUNT,
        "Blocks asked for in one `eth_getLogs`; halved when a provider refuses."),
    variable("NOVA_START_BLOCK", Computed("as far back as the SLA reaches"), WHOLE,
        "Block to start from when the ledger has no cursor."),
    variable("NOVA_SLA_SECONDS", Computed("as the contract says, else 600"), "whole seconds, at least 1",
        "Seconds from request to answer."),
    variable("NOVA_GAS_PRICE_GWEI", Computed("EIP-1559"), "gwei, above 0",
        "Fixed gas price, used as given."),
    variable("NOVA_GAS", Computed("an estimate with margin"), COUNT,
        "Fixed gas limit, used as given."),
    variable("NOVA_MAX_FEE_GWEI", Unset(None), "gwei, above 0",
        "No transaction pays more than this for a unit of gas."),
    variable("NOVA_PRIORITY_FEE_GWEI", Computed("what the node suggests"), "gwei, above 0",
        "Offered to who orders transactions, for a unit of gas. Nitro's nodes suggest nothing: where the order is sold, that is the last place."),
    variable("NOVA_REPLACE_AFTER", Is("30"), SECONDS,
        "Seconds after which a transaction that is not mined is replaced by one that pays more."),
    variable("NOVA_WARN_ANSWERS", Is("50"), WHOLE,
        "Warn, once an hour, when the wallet pays for fewer answers than this."),
    variable("NOVA_ANSWER_WITHOUT_COMMITMENT", Is("False"), BOOLEAN,
        "Answer even where the commitment to the answer has failed: the chain accepts no proof of such an answer."),
    variable("NOVA_CLAIM_REWARDS", Is("False"), BOOLEAN,
        "Claim the rewards of past epochs, once a day."),
    variable("NOVA_MAX_IN_FLIGHT", Is("16"), COUNT,
        "Transactions under way at once."),
    variable("NOVA_MAX_PROOFS_PER_DAY", Is("100"), WHOLE,
        "Proofs made a day, so that others cannot make us spend without end. A quarter of them is for validators alone."),
    variable("NOVA_MIN_BALANCE_ETH", Is("0.001"), "ETH, at least 0",
        "Balance below which no proof is sent, so that answers can still be paid for."),
    variable("NOVA_TX_EXPLORER_URL", Preset, URL,
        "What stands before a transaction's hash in links."),
    // Services.
    variable("NOVA_ALLOW_INSECURE_HTTP", Is("False"), BOOLEAN,
        "Allow hosts other than this machine to be reached without TLS: only where nobody can listen in."),
    variable("NOVA_PLUMBER_HOST", Preset, URL,
        "Plumber: features and uploads to IPFS."),
    variable("NOVA_PULSE_HOST", Preset, URL,
        "Pulse: which MultiSig belongs to a wallet."),
    variable("NOVA_IPFS_GATEWAY", Is("https://ipfs.io"), URL,
        "Where the documents of proof requests are read: GATEWAY/ipfs/CID."),
    variable("NOVA_HTTP_ADDRESS", Is("127.0.0.1:9464"), "address and port, such as 127.0.0.1:9464",
        "Where `/healthz` and `/readyz` are served. The image sets `0.0.0.0:9464`."),
    variable("NOVA_LOG_LEVEL", Is("INFO"), "DEBUG, INFO, WARNING, ERROR or CRITICAL (TRACE and OFF too)",
        "Least severe message that is logged. `CRITICAL` counts as `ERROR`."),
    variable("NOVA_LOG_FORMAT", Is("human"), "human or json",
        "Form of the log."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_ours() {
        for (at, variable) in VARIABLES.iter().enumerate() {
            assert!(variable.name.starts_with("NOVA_"), "{}", variable.name);
            assert!(
                VARIABLES[at + 1..].iter().all(|other| other.name != variable.name),
                "{} is there twice",
                variable.name
            );
        }
    }

    #[test]
    fn every_preset_belongs_to_a_variable_that_says_so() {
        for variable in VARIABLES {
            let has = PRESETS.iter().any(|(name, _)| *name == variable.name);
            assert_eq!(variable.default == Preset, has, "{}", variable.name);
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        let meant = |written| closest(written).map(|variable| variable.name);
        assert_eq!(meant("gas_pric_gwei"), Some("NOVA_GAS_PRICE_GWEI"));
        assert_eq!(meant("NOVA_CHALENGE_ADDRESS"), Some("NOVA_CHALLENGE_ADDRESS"));
        assert_eq!(meant("model-files-path"), Some("NOVA_MODEL_FILES_PATH"));
        assert_eq!(meant("zebra"), None);
    }

    /// PROTOCOL's table of what the Python daemon understands.
    #[test]
    fn every_variable_of_the_python_daemon_is_here() {
        let names = "SPECTRAL_API_KEY ALCHEMY_API_KEY CLI_WALLET_PRIVATE_KEY MODEL_FILES_PATH STORAGE_PROVIDER \
            S3_BUCKET S3_PATH_PREFIX ARTIFACTS_PATH COMPILED_MODEL_PATH SETTINGS_PATH PROVING_KEY_PATH SRS_PATH \
            LOG_LEVEL INFERENCE_SUBMISSION_ENABLED PROOF_SUBMISSION_ENABLED POLLING_ENABLED \
            INFERENCE_POLLING_INTERVAL PROOF_POLLING_INTERVAL PULSE_HOST PLUMBER_HOST ALCHEMY_HOST \
            CHALLENGE_ADDRESS TX_EXPLORER_URL GAS_PRICE_GWEI GAS CHAIN_ID";
        for name in names.split_whitespace() {
            assert!(Variable::named(&format!("NOVA_{name}")).is_some(), "{name}");
        }
    }

    /// The README of the project documents every setting, if it has a settings table at all.
    #[test]
    fn the_readme_names_every_variable() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let Ok(text) = std::fs::read_to_string(readme) else {
            return;
        };
        if !text.contains("NOVA_NETWORK") {
            return;
        }
        let missing: Vec<_> = VARIABLES
            .iter()
            .map(|variable| variable.name)
            .filter(|name| !text.contains(&format!("`{name}`")))
            .collect();
        assert!(missing.is_empty(), "README.md does not name {missing:?}");
    }
}
