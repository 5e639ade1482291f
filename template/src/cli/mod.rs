//! The commands. Each reads the settings it needs, and says what is wrong with them before it does anything.

mod bundle;
mod claim;
mod doctor;
mod healthcheck;
mod log;
mod predict;
mod prove;
mod run;
mod setup;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::Sources;
use crate::config::{Config, RequiredSettings};
use crate::sanitize;

/// Answers inference requests on chain with your model, and proves any answer later.
///
/// Settings are NOVA_* environment variables, a `.env` file or `nova.toml` in the current folder; the README lists them.
#[derive(Parser)]
#[command(name = "nova", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

/// Settings that are worth a flag; each wins over its variable.
#[derive(Args)]
struct Flags {
    /// arbitrum-one, arbitrum-sepolia or devnet
    #[arg(long, global = true, value_name = "NAME")]
    network: Option<String>,
    /// The folder of model.onnx and of the files that `setup` makes
    #[arg(long, global = true, value_name = "FOLDER")]
    model_files: Option<String>,
    /// The folder of what the daemon writes: ledger, witnesses, proofs
    #[arg(long, global = true, value_name = "FOLDER")]
    artifacts: Option<String>,
    /// DEBUG, INFO, WARNING, ERROR or CRITICAL
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl Flags {
    fn as_variables(&self) -> Vec<(String, String)> {
        [
            ("NOVA_NETWORK", &self.network),
            ("NOVA_MODEL_FILES_PATH", &self.model_files),
            ("NOVA_ARTIFACTS_PATH", &self.artifacts),
            ("NOVA_LOG_LEVEL", &self.log_level),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)))
        .collect()
    }
}

#[derive(Subcommand)]
enum Command {
    /// Serve requests and proof requests until Ctrl-C or SIGTERM
    Run,
    /// Check everything before money is at stake: one line a check, exit code 1 if any fails
    Doctor(doctor::Options),
    /// Make EZKL's model files from model.onnx: settings, circuit, SRS, keys, Solidity verifier
    Setup(setup::Options),
    /// Run the whole path without the chain, and show every value on the way
    Predict(predict::Options),
    /// Prove what was answered to a request, from its saved witness
    Prove(prove::ProveOptions),
    /// Check a proof file against the model's verification key
    Verify(prove::VerifyOptions),
    /// Claim the rewards of past epochs
    ClaimRewards(claim::Options),
    /// Show what the ledger holds
    Status(status::Options),
    /// Write what Spectral's hosting needs into one file: hooks, dependencies, model files, and no key
    Bundle(bundle::Options),
    /// Ask the daemon on this machine whether it is alive: exit code 0 if it is. For a container's health check
    Healthcheck,
    /// Bring back a failed request (its id) or proof request (its transaction), once the reason is mended
    Retry {
        /// A request id, or the hash of the transaction that asked for a proof
        id: String,
    },
}

impl Command {
    fn need(&self) -> RequiredSettings {
        match self {
            Self::Run | Self::Doctor(_) | Self::ClaimRewards(_) => RequiredSettings::Chain,
            Self::Predict(options) if options.wallet.is_some() => RequiredSettings::Features,
            _ => RequiredSettings::Offline,
        }
    }
}

/// Runs the command line. Errors go to stderr, in one line for each cause.
pub async fn main() -> ExitCode {
    let cli = Cli::parse();
    let sources = Sources::standard(cli.flags.as_variables());
    let (config, mistakes) = match Config::load(&sources, cli.command.need()) {
        Ok(config) => (config, None),
        // The doctor goes on with what can be checked all the same.
        Err(mistakes) => match Config::load(&sources, RequiredSettings::Offline) {
            Ok(config) if matches!(cli.command, Command::Doctor(_)) => (config, Some(mistakes)),
            _ => {
                eprintln!("{mistakes}");
                return ExitCode::FAILURE;
            }
        },
    };
    log::start(&config.log, matches!(cli.command, Command::Run));
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let outcome = match cli.command {
        Command::Run => run::run(config).await,
        Command::Doctor(options) => doctor::doctor(config, mistakes, options).await,
        Command::Setup(options) => setup::setup(config, options).await,
        Command::Predict(options) => predict::predict(config, options).await,
        Command::Prove(options) => prove::prove(config, options).await,
        Command::Verify(options) => prove::verify(config, options).await,
        Command::ClaimRewards(options) => claim::claim_rewards(config, options).await,
        Command::Status(options) => status::status(config, options).await,
        Command::Bundle(options) => bundle::bundle(&config, &sources, &options),
        Command::Healthcheck => healthcheck::healthcheck(config).await,
        Command::Retry { id } => status::retry(config, &id).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nova: {}", sanitize::escape_control_chars(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// The sample of raw features that came with the model.
fn sample() -> PathBuf {
    PathBuf::from("assets/sample.parquet")
}
