//! `nova doctor`: every check that can be made before money is at stake.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::chain::{self, Chain};
use crate::config::{Config, ConfigErrors, FeatureSource, Network};
use crate::daemon;
use crate::ezkl::model_version::{ModelVersion, SETUP_PROOF, SetupRecord};
use crate::ezkl::{Ezkl, srs};
use crate::fault::Fault;
use crate::features::{self, FeatureRow};
use crate::ledger::Ledger;
use crate::machine::{self, Machine};
use crate::model::{Model, ModelInput};
use crate::pipeline::circuit::Circuit;
use crate::pipeline::predict::{Predictor, circuit_only};
use crate::sanitize;
use crate::secure_fs;
use crate::services::http_service::Absence;
use crate::witness_store::Store;

/// Seconds that this machine's clock and the newest block may be apart.
const MAX_APART: i64 = 60;
/// Rows of the sample that are sent down the whole path.
const SAMPLE_ROWS: usize = 5;

#[derive(Args)]
pub struct Options {
    /// Raw features to try the hooks and the circuit on
    #[arg(long, value_name = "FILE")]
    sample: Option<PathBuf>,
}

/// One line a check. With `mistakes` in the settings, only what can be checked without them.
///
/// # Errors
/// How many checks have failed.
pub async fn doctor(config: Config, mistakes: Option<ConfigErrors>, options: Options) -> Result<()> {
    let mut report = Report::default();
    report
        .line("settings", mistakes.as_ref().map_or(Ok("complete".to_owned()), |mistakes| Err(mistakes.clone().into())));
    check_model(&config, &options, &mut report).await;
    machine::raise_files();
    report.line("machine", Machine::of(&config).check());
    report.line("artifacts folder", check_artifacts(&config).await);
    // What lies outside needs the settings.
    if mistakes.is_none() {
        if config.inference.feature_source == FeatureSource::Plumber {
            report.line("Plumber", check_plumber(&config).await);
        }
        check_chain(&config, &mut report).await;
    }
    ensure!(report.failed == 0, "{} of {} checks failed", report.failed, report.checks);
    println!("all {} checks passed", report.checks);
    Ok(())
}

#[derive(Default)]
struct Report {
    checks: usize,
    failed: usize,
}

impl Report {
    fn line(&mut self, name: &str, outcome: Result<String>) {
        self.checks += 1;
        match outcome {
            Ok(detail) => println!("✓ {name}: {}", sanitize::escape_control_chars(&detail)),
            Err(error) => {
                self.failed += 1;
                // Errors in the settings are a list, and quote nothing that is not escaped.
                let told = format!("{error:#}");
                let told = if error.is::<ConfigErrors>() { told.into() } else { sanitize::escape_control_chars(&told) };
                println!("✗ {name}: {told}");
            }
        }
    }
}

async fn check_model(config: &Config, options: &Options, report: &mut Report) {
    let version = ModelVersion::read(&config.model_files);
    report.line("model files", version.as_ref().map(|v| described(config, v)).map_err(describe));
    report.line("ONNX model", check_onnx(config));
    if let Ok(version) = version {
        report.line("SRS", check_srs(config, &version));
        report.line("EZKL", check_ezkl(config, &version).await);
    }
    report.line("hooks and circuit", check_end_to_end(config, options).await);
    report.line("prover", check_prover(config, options).await);
}

fn check_onnx(config: &Config) -> Result<String> {
    if !config.inference.allow_circuit_only {
        Model::load(&config.model_files.onnx, &[])?;
        return Ok("every op can run".to_owned());
    }
    let model = Model::load_for_circuit(&config.model_files.onnx, &[])?;
    Ok(model.unsupported_reason().map_or_else(|| "every op can run".to_owned(), circuit_only))
}

/// What `setup` has written down of the files, where it has.
fn described(config: &Config, version: &ModelVersion) -> String {
    let making = SetupRecord::beside(&config.model_files).ok().flatten();
    let making = making.map_or_else(String::new, |making| format!("; {}; {}", making.choice, making.fidelity));
    format!("present and of one setup, digest {}{making}", &version.digest[..12])
}

/// Proves the first row of the sample: only a proof shows that circuit, keys and SRS belong together.
async fn check_prover(config: &Config, options: &Options) -> Result<String> {
    let sample = options.sample.clone().unwrap_or_else(super::sample);
    let predictor = super::predict::with_circuit(config).await?;
    let Circuit { ezkl, version, .. } = predictor.circuit().context("EZKL's model files are missing")?;
    let rows = usable_rows(&predictor, &sample, 1).await?;
    let (_, _, input) = &rows[0];
    let folder = ezkl.scratch().folder()?;
    let start = Instant::now();
    ezkl.prove_input(&version.files, &input.flat(), folder.path()).await?;
    Ok(format!("a row of the sample was proved and verified in {:.1} s", start.elapsed().as_secs_f64()))
}

fn check_srs(config: &Config, version: &ModelVersion) -> Result<String> {
    if srs::is_public(&version.files.srs)? {
        return Ok("of a public ceremony".to_owned());
    }
    if config.network == Network::ArbitrumOne {
        srs::require_public(&version.files.srs)?;
    }
    Ok("INSECURE, made on some machine: good enough for this network, refused on arbitrum-one".to_owned())
}

async fn check_ezkl(config: &Config, version: &ModelVersion) -> Result<String> {
    let ezkl = Ezkl::new(&config.ezkl)?;
    let wheel = ezkl.version().await?;
    version.settings.check_version(&wheel, &version.files.settings)?;
    ezkl.check_others().await?;
    let others: Vec<&str> = config.ezkl.pythons.keys().map(String::as_str).collect();
    let others = if others.is_empty() { String::new() } else { format!("; for older answers {}", others.join(", ")) };
    Ok(format!("version {wheel}, as the model files{others}"))
}

/// Sends rows of the sample through hooks, candle and circuit.
async fn check_end_to_end(config: &Config, options: &Options) -> Result<String> {
    let sample = options.sample.clone().unwrap_or_else(super::sample);
    let predictor = super::predict::with_circuit(config).await?;
    let (mut last, mut rounded) = (0.0, BTreeMap::new());
    let rows = usable_rows(&predictor, &sample, SAMPLE_ROWS).await?;
    let count = rows.len();
    for (row, features, input) in rows {
        rounded.extend(input.rounded().iter().map(|rounded| (rounded.label.clone(), rounded.to_string())));
        let prediction = predictor
            .predict(&format!("0x{row:064x}"), "", features)
            .await
            .map_err(|fault| anyhow::Error::from(fault).context(format!("{} row {row}", sample.display())))?;
        last = prediction.submitted;
    }
    let rounded: String = rounded.into_values().map(|rounded| format!("; {rounded}")).collect();
    Ok(format!("{count} rows of {} agree and are provable, the last would submit {last}{rounded}", sample.display()))
}

/// The first rows of the sample, at most so many, with the model's input of each. Some cannot be used, which `setup` has told.
///
/// # Errors
/// Half of those looked at, or more, cannot be used: why the first cannot.
async fn usable_rows(
    predictor: &Predictor,
    sample: &Path,
    most: usize,
) -> Result<Vec<(usize, FeatureRow, ModelInput)>> {
    let table = features::load(sample)?;
    let (mut usable, mut first_failure) = (Vec::new(), None);
    for at in 0..table.height().min(2 * most) {
        let row = table.row(at)?;
        match predictor.model_input("sample", "", row.clone()).await {
            Ok(input) => usable.push((at, row, input)),
            Err(Fault::Permanent(error)) => {
                first_failure.get_or_insert(error.context(format!("{} row {at}", sample.display())));
            }
            Err(other) => return Err(other.into()),
        }
        if usable.len() == most {
            break;
        }
    }
    match first_failure {
        Some(error) if usable.len() < most => Err(error),
        _ => Ok(usable),
    }
}

async fn check_artifacts(config: &Config) -> Result<String> {
    secure_fs::create_own_folder(&config.artifacts)
        .and_then(|()| tempfile::tempfile_in(&config.artifacts).map(drop))
        .with_context(|| format!("{} must be writable (NOVA_ARTIFACTS_PATH)", config.artifacts.display()))?;
    Store::open(config)?.check().await?;
    let folder = config.artifacts.display();
    let open = secure_fs::group_or_other_bits(&config.artifacts)?
        .map(|_| format!("; others may look into the folder (its files are private): `chmod 700 {folder}` closes it"));
    let works = "is writable, and the witness store gives back what it is given";
    Ok(format!("{folder} {works}{}", open.unwrap_or_default()))
}

async fn check_plumber(config: &Config) -> Result<String> {
    let (plumber, _) = daemon::plumber_and_pulse(config);
    // Any wallet will do, known or not: what counts is that Plumber answers us.
    match plumber.features(&format!("0x{}", "1".repeat(40))).await {
        Ok(features) => Ok(format!("serves {} features", features.len())),
        Err(Fault::Permanent(error)) => Ok(format!("answers: {error:#}")),
        Err(fault) if fault.error().is::<Absence>() => Ok(format!("answers: {fault}")),
        Err(fault) => Err(fault.into()),
    }
}

async fn check_chain(config: &Config, report: &mut Report) {
    report.line("wallet key", check_key(config).await);
    report.line("RPC", check_rpc(config).await);
    match connect(config).await {
        Err(error) => report.line("contracts and modeler", Err(error)),
        Ok(chain) => {
            let consumption = chain.identity().consumption;
            report.line("clock", check_clock(&chain, config.network).await);
            report.line("contracts", Ok(format!("they answer, Consumption is {consumption}")));
            report.line("modeler", Ok(chain.describe_account()));
            report.line("balance", check_balance(&chain).await);
            report.line("top N", check_top_n(&chain).await);
            if config.chain.as_ref().is_some_and(|chain| chain.proof_registry_address.is_some()) {
                report.line("verifier on chain", check_verifier(&chain, config).await);
            }
        }
    }
}

async fn check_key(config: &Config) -> Result<String> {
    let settings = config.chain.as_ref().context("no chain is configured")?;
    Ok(chain::wallet::describe(&settings.wallet_key).await?)
}

/// Every endpoint by itself: one that fails over silently is one less than you think.
async fn check_rpc(config: &Config) -> Result<String> {
    let settings = config.chain.as_ref().context("no chain is configured")?;
    for url in &settings.rpc_urls {
        let alone = crate::config::Chain { rpc_urls: vec![url.clone()], ..settings.clone() };
        chain::check_chain_id(&chain::client(&alone)?, alone.chain_id).await?;
    }
    Ok(format!("all {} endpoints serve chain {}", settings.rpc_urls.len(), settings.chain_id))
}

/// Deadlines are on the chain's clock; certificates and S3 are on ours. A devnet's time is its own.
async fn check_clock(chain: &Chain, network: Network) -> Result<String> {
    let apart = crate::ledger::now() - chain.head().await?.time as i64;
    ensure!(
        network == Network::Devnet || apart.abs() <= MAX_APART,
        "this machine's clock is {} s {} the chain's: is NTP running (`timedatectl`)? If it is right, the RPC endpoint is behind",
        apart.abs(),
        if apart > 0 { "ahead of" } else { "behind" }
    );
    Ok(format!("{apart} s from the chain's"))
}

async fn check_verifier(chain: &Chain, config: &Config) -> Result<String> {
    ensure!(
        config.model_files.folder.join(SETUP_PROOF).is_file(),
        "there is no {SETUP_PROOF} to try it with: run `nova setup`"
    );
    daemon::check_verifier(chain, config).await?;
    Ok("it accepts the proof that `setup` made".to_owned())
}

async fn connect(config: &Config) -> Result<Chain> {
    let (_, pulse) = daemon::plumber_and_pulse(config);
    let settings = config.chain.as_ref().context("no chain is configured")?;
    // None is made where the daemon has not run yet.
    let modeler = match config.artifacts.join("ledger.sqlite").exists() {
        true => Ledger::open(&config.artifacts).await?.modeler().await?,
        false => None,
    };
    Ok(Chain::connect(settings, &pulse, modeler.as_deref()).await?)
}

async fn check_balance(chain: &Chain) -> Result<String> {
    let funds = chain.funds().await?;
    ensure!(
        funds.affordable_answers >= 1,
        "wallet {} holds {} ETH, not enough for one answer: send it some",
        funds.wallet,
        funds.eth
    );
    Ok(format!("{} ETH, enough for about {} answers", funds.eth, funds.affordable_answers))
}

async fn check_top_n(chain: &Chain) -> Result<String> {
    if !chain.in_top_n().await? {
        bail!("the modeler is not among the top N: the daemon would watch, and send nothing");
    }
    Ok("the modeler is among them".to_owned())
}

fn describe(fault: &Fault) -> anyhow::Error {
    anyhow::anyhow!("{fault}")
}
