//! `nova setup`: from model.onnx to everything that answering and proving needs, and how good it is.
//!
//! The sample's rows go through the owner's own hooks; most of them calibrate the circuit, the others measure it. What was
//! made is moved into place together, once all of it is there.

pub mod accuracy;
mod circuit_builder;
pub mod circuit_params;
mod install;
mod progress;
mod reach;
mod sample;
mod srs_source;
mod tune;
pub mod visibility;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::config::{Config, ModelFiles};
use crate::ezkl::model_version::{CIRCUIT, SetupRecord};
use crate::ezkl::{Ezkl, srs};
use crate::locked_folder::LockedFolder;
use crate::model::circuit::{self, CircuitOnnx};
use crate::model::output_names;
use crate::pipeline::predict::Predictor;
use crate::sha256;
use accuracy::{AccuracyReport, Refused};
use circuit_builder::{BuiltCircuit, Checks, CircuitBuilder, ROWS_FOR_RANGE};
use circuit_params::CircuitParams;
use progress::Progress;
use sample::Sample;

/// How far the lookup tables reach where nothing is said: EZKL's own default.
const LOOKUP_MARGIN: f64 = 2.0;
/// Rows of the sample on which EZKL chooses the scales, besides those in which an input is smallest or largest: EZKL computes each at
/// six scales. The range of values is then read off more of them.
const ROWS_FOR_SCALE: usize = 32;
/// Bits that are added to EZKL's scale where it is too coarse, and the most.
const FINER_BY: usize = 2;
const MOST_FINER: i32 = 4;

/// What is wanted of `setup`.
pub struct SetupOptions {
    pub sample: PathBuf,
    pub insecure_srs: bool,
    pub lookup_margin: Option<f64>,
    pub max_refused: f64,
    pub visibilities: visibility::Asked,
    /// Outputs of the model that the circuit is to have. None: as it has now, or all.
    pub outputs: Vec<String>,
    /// Search for the fastest proof.
    pub tune: Option<TuningLimits>,
}

/// What a search must stay within.
pub struct TuningLimits {
    pub tolerance: Option<f64>,
    pub max_memory_mb: Option<u64>,
}

/// The circuit that is kept, and what was measured of it.
struct Finished {
    made: BuiltCircuit,
    fidelity: AccuracyReport,
    keys: Duration,
    prove: Duration,
    checks: Checks,
    peak_memory_mb: Option<u64>,
}

/// Makes EZKL's model files.
///
/// # Errors
/// Says which file, row or step is at fault. The model files are then as they were.
pub async fn run(mut config: Config, request: SetupOptions) -> Result<()> {
    let target = config.model_files.clone();
    ensure!(
        target.onnx.is_file(),
        "{} is not there: put your model into {}",
        target.onnx.display(),
        target.folder.display()
    );
    config.ezkl.prover_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let visibilities = visibility::choose(&target.settings, &request.visibilities)?;
    // The daemon's limit holds for what it will have to prove.
    let allowed = request.tune.as_ref().and_then(|goal| goal.max_memory_mb);
    config.ezkl.memory_mb = allowed.into_iter().chain(config.ezkl.memory_mb).min();
    let ezkl = Ezkl::in_foreground(&config.ezkl)?;
    ezkl.version().await?;
    let folder = working_folder(&target.folder)?;
    let onnx = folder.path().join("model.onnx");
    fs::copy(&target.onnx, &onnx).with_context(|| format!("cannot copy {}", target.onnx.display()))?;
    config.model_files.onnx = onnx.clone();
    let sample_sha256 = sha256::of_file(&request.sample)?;
    let progress = Progress::new(ezkl.clone());
    let outputs = chosen_outputs(&target, &request.outputs)?;
    let predictor = Predictor::of_a_sample(&config, &outputs)?;
    if let Some(refusal) = predictor.candle_refusal().filter(|_| !outputs.is_empty()) {
        bail!("--output: EZKL gets the model as it is where candle cannot run it ({refusal})");
    }
    if let (Some(_), Some(refusal)) = (&request.tune, predictor.candle_refusal()) {
        bail!(
            "--tune chooses by the error of circuits against candle, and candle cannot run this model ({refusal}): run `nova setup` without \
             --tune"
        );
    }
    let circuit = folder.path().join(CIRCUIT);
    if predictor.candle_refusal().is_none() {
        write_circuit(&onnx, &circuit, &outputs).with_context(|| format!("the model {}", target.onnx.display()))?;
    }
    let reading = Sample::read(&request.sample, &predictor);
    let sample = progress.step("pre_process and candle on the sample", "calibration", reading).await?;
    for told in sample.described_unusable().into_iter().chain(sample.rounded()) {
        eprintln!("  {told}");
    }
    let workshop = CircuitBuilder {
        visibilities,
        memory_mb: config.ezkl.memory_mb,
        onnx,
        circuit,
        witness_workers: config.ezkl.witness_workers,
        mock: config.ezkl.mock,
        insecure_srs: request.insecure_srs,
        folder: folder.path().to_owned(),
        target,
        ezkl,
        progress,
        predictor,
        sample,
    };
    let finished = match &request.tune {
        Some(goal) => tune::search(&workshop, &request, goal).await?,
        None => build_untuned(&workshop, &request).await?,
    };
    let verifier = workshop.write_verifier(&finished.made);
    workshop.progress.step("writing the Solidity verifier", "moving all into place", verifier).await?;
    let is_public = srs::is_public(&finished.made.files.srs)?;
    workshop.ezkl.shut_down().await;
    let making = making(&finished, &workshop.sample, sample_sha256, outputs);
    install::install(&workshop, &finished.made, !is_public, making)?;
    report(&finished, &workshop.target);
    if !is_public {
        srs_source::warn_insecure();
    }
    Ok(())
}

/// Writes what EZKL compiles, and says where it is not what the model says in its own words.
fn write_circuit(model: &Path, to: &Path, outputs: &[String]) -> Result<()> {
    let outputs = Some(outputs).filter(|outputs| !outputs.is_empty());
    let made = circuit::write(&fs::read(model)?, outputs)?;
    keep_circuit(to, &made)
}

/// Keeps what EZKL compiles, and says what is not as in the model.
fn keep_circuit(to: &Path, made: &CircuitOnnx) -> Result<()> {
    fs::write(to, &made.bytes).with_context(|| format!("cannot write {}", to.display()))?;
    if !made.rewritten.is_empty() {
        println!("EZKL reads some of ONNX otherwise than it is meant; {CIRCUIT} says it so that both agree:");
    }
    made.rewritten.iter().for_each(|change| println!("  {change}"));
    Ok(())
}

/// The outputs that the circuit is to have: those asked for, or those that it has now, where the model still has them; all if there
/// is none.
///
/// # Errors
/// Names of outputs that the model does not have.
fn chosen_outputs(target: &ModelFiles, asked: &[String]) -> Result<Vec<String>> {
    let all = output_names(&fs::read(&target.onnx)?).with_context(|| format!("the model {}", target.onnx.display()))?;
    let unknown: Vec<&String> = asked.iter().filter(|name| !all.contains(name)).collect();
    ensure!(unknown.is_empty(), "--output: the model has no output {unknown:?}; it has {all:?}");
    if !asked.is_empty() {
        return Ok(asked.to_vec());
    }
    let making = SetupRecord::beside(target)?;
    let held = making.map(|making| making.outputs).unwrap_or_default();
    Ok(if held.iter().all(|name| all.contains(name)) { held } else { Vec::new() })
}

/// Where it works: in the model folder, so that what was made is moved and not copied.
fn working_folder(above: &Path) -> Result<LockedFolder> {
    let make = || {
        let folder = LockedFolder::make(above, ".setup-")?;
        for left in folder.remove_stale()? {
            eprintln!("  removed {}, which an unfinished setup had left", left.display());
        }
        std::io::Result::Ok(folder)
    };
    make().with_context(|| format!("cannot write to {}", above.display()))
}

/// Without a search: EZKL's scale, tables as wide as asked for, in columns that need not be split.
async fn build_untuned(shop: &CircuitBuilder, request: &SetupOptions) -> Result<Finished> {
    let steps = &shop.progress;
    let (made, fidelity) = fine_enough(shop, request).await?;
    shop.srs(&made).await?;
    let cost = made.choice.cost(&made.settings);
    let what =
        format!("the keys, and then a proof, of 2^{} rows in about {:.0} MB,", made.choice.logrows, cost.memory_mb);
    progress::announce(&what, cost.expected_secs());
    let keys = steps.step("making the proving and verification keys", "a proof", shop.make_keys(&made)).await?;
    let proving = shop.prove(&made);
    let prove = steps.step("proving and verifying a row of the sample", "the Solidity verifier", proving).await?;
    let checks = shop.time_checks(&made).await?;
    Ok(Finished { made, fidelity, keys, prove, checks, peak_memory_mb: shop.ezkl.prover_peak_mb() })
}

/// The circuit at EZKL's scale; at finer ones while it is further from candle than is allowed. One inner column: proofs are then faster
/// than with EZKL's two, at the same error.
async fn fine_enough(shop: &CircuitBuilder, request: &SetupOptions) -> Result<(BuiltCircuit, AccuracyReport)> {
    let steps = &shop.progress;
    let margin = request.lookup_margin.unwrap_or(LOOKUP_MARGIN);
    let what = format!("calibrating on {} rows", shop.sample.rows_of_range(ROWS_FOR_SCALE).len());
    let ezkls = steps.step(&what, "the range of all", calibrated(shop, 1, reach::USUAL)).await?;
    let rows = shop.sample.rows_of_range(ROWS_FOR_RANGE).len();
    let mut refused = None;
    for finer in (0..=MOST_FINER).step_by(FINER_BY) {
        let scale = if finer == 0 { String::new() } else { format!(", {finer} bits finer") };
        let what = format!("the range of values on {rows} rows{scale}");
        let choice = match steps.step(&what, "compiling the circuit", ranged(shop, ezkls.finer(finer), margin)).await {
            Ok(choice) => choice,
            // EZKL has no circuit so fine: what the coarser one lacks is the reason.
            Err(error) => return Err(refused.unwrap_or(error)),
        };
        let made = steps.step("compiling the circuit", "measuring it", shop.compile(choice, "made")).await?;
        let what = format!("measuring it on {} held-out rows", shop.sample.held_out.len());
        let fidelity = steps.step(&what, "the keys", shop.fidelity(&made)).await?;
        match fidelity.require(request.max_refused, &shop.sample) {
            Ok(()) => return Ok((made, fidelity)),
            Err(error) if fidelity.may_be_mended(MOST_FINER - finer, request.max_refused) => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refused.context("no scale was tried")?)
}

/// EZKL's choice of scales, with the fewest digits that hold the rows, beginning with `first`.
async fn calibrated(shop: &CircuitBuilder, num_inner_cols: usize, first: reach::Digits) -> Result<CircuitParams> {
    let rows = shop.sample.rows_of_range(ROWS_FOR_SCALE);
    reach::climb(shop, first, async |digits| shop.calibrate(run_args(num_inner_cols, digits), &rows).await).await
}

/// The choice with the sample's range of values. Range checks get as many digits as the sample needs.
async fn ranged(shop: &CircuitBuilder, choice: CircuitParams, margin: f64) -> Result<CircuitParams> {
    let choice = reach::ranged(shop, choice, (choice.decomp_base, choice.decomp_legs)).await?;
    reach::with_cheapest_digits(shop, choice, margin).await
}

fn run_args(num_inner_cols: usize, (decomp_base, decomp_legs): reach::Digits) -> Map<String, Value> {
    let fields = [("num_inner_cols", num_inner_cols), ("decomp_base", decomp_base), ("decomp_legs", decomp_legs)];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
}

fn making(finished: &Finished, sample: &Sample, sample_sha256: String, outputs: Vec<String>) -> SetupRecord {
    SetupRecord {
        nova_version: env!("CARGO_PKG_VERSION").to_owned(),
        sample: sample.file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        sample_sha256,
        calibration_rows: sample.rows_of_range(ROWS_FOR_RANGE).len(),
        features: sample.features.clone(),
        unusable_rows: sample.unusable.len(),
        outputs,
        choice: finished.made.choice,
        fidelity: finished.fidelity.clone(),
        keys_seconds: finished.keys.as_secs_f64(),
        prove_seconds: finished.prove.as_secs_f64(),
        witness_seconds: finished.checks.witness.as_secs_f64(),
        mock_seconds: finished.checks.mock.as_secs_f64(),
        peak_memory_mb: finished.peak_memory_mb,
    }
}

fn report(finished: &Finished, target: &ModelFiles) {
    let memory = finished.peak_memory_mb.map_or_else(String::new, |peak| format!(", the prover had up to {peak} MB"));
    println!("{}\n{}", finished.made.choice, finished.fidelity);
    for refused in &finished.fidelity.refused {
        println!("  row {} would not be answered: {}", refused.row, refused.reason);
    }
    if let Some(Refused { row, reason }) = &finished.fidelity.unanswered {
        println!(
            "  row {row} has no answer yet: {reason}. The limits of answers are not measured: run `nova setup` again once post_process is written"
        );
    }
    let Checks { witness, mock, policy } = &finished.checks;
    println!("a witness took {:.2} s, its check by mock {:.2} s: {policy}", witness.as_secs_f64(), mock.as_secs_f64());
    println!(
        "a proof took {:.1} s{memory}; the model files are in {}",
        finished.prove.as_secs_f64(),
        target.folder.display()
    );
}
