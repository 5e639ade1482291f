//! `nova setup`: from model.onnx to everything that answering and proving needs.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::config::{Config, ModelFiles};
use crate::digest;
use crate::ezkl::files::{SETUP_MANIFEST, SETUP_PROOF, SetupManifest};
use crate::ezkl::settings::Settings;
use crate::ezkl::{Ezkl, srs};
use crate::features;
use crate::model::ModelInput;
use crate::pipeline::predict::Predictor;

/// Fewer rows do not show the circuit the range of its inputs.
const MIN_ROWS: usize = 200;
/// One column and small lookup tables prove three times faster than EZKL's defaults, at the same error (measured on the
/// example model); three legs of base 1024 cover 2^30, more than EZKL's default does.
const INNER_COLUMNS: u32 = 1;
const DECOMPOSITION_BASE: u32 = 1024;
const DECOMPOSITION_LEGS: u32 = 3;

#[derive(Args)]
pub struct Options {
    /// Raw features, at least 200 rows (parquet, CSV or JSON): the circuit is calibrated on what pre_process makes of them
    #[arg(long, value_name = "FILE")]
    sample: Option<PathBuf>,
    /// Make the SRS here instead of downloading a public one. FOR DEVELOPMENT ONLY: nobody can believe the proofs
    #[arg(long)]
    insecure_srs: bool,
}

/// Makes EZKL's model files. They are moved into place together, once all are made.
pub async fn setup(mut config: Config, options: Options) -> Result<()> {
    let target = config.model_files.clone();
    ensure!(
        target.onnx.is_file(),
        "{} is not there: put your model into {}",
        target.onnx.display(),
        target.folder.display()
    );
    config.ezkl.prover_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let ezkl = Ezkl::new(&config.ezkl)?;
    let version = ezkl.version().await?;

    let sample = options.sample.clone().unwrap_or_else(super::sample);
    let inputs = step("pre_process on the sample", model_inputs(&config, &sample)).await?;
    let folder = tempfile::Builder::new()
        .prefix(".setup-")
        .tempdir_in(&target.folder)
        .with_context(|| format!("cannot write to {}", target.folder.display()))?;
    let made = ModelFiles { onnx: target.onnx.clone(), ..ModelFiles::in_folder(folder.path()) };

    calibrate(&ezkl, &made, &inputs, folder.path()).await?;
    let settings = Settings::read(&made.settings)?;
    let compile = json!({ "model": made.onnx, "compiled_circuit": made.compiled, "settings_path": made.settings });
    step("compiling the circuit", ezkl.call("compile_circuit", compile)).await?;
    find_srs(&ezkl, &made, &target.srs, settings.run_args.logrows, options.insecure_srs).await?;
    let keys = json!({
        "model": made.compiled, "vk_path": made.verification_key, "pk_path": made.proving_key, "srs_path": made.srs,
    });
    step("making the proving and verification keys", ezkl.call("setup", keys)).await?;
    let verifier = json!({
        "vk_path": made.verification_key, "settings_path": made.settings, "sol_code_path": made.verifier, "srs_path": made.srs,
    });
    step("writing the Solidity verifier", ezkl.call("create_evm_verifier", verifier)).await?;
    let proving = async { Ok(ezkl.prove_input(&made, &inputs[0].flat(), folder.path()).await?) };
    step("proving and verifying a row of the sample", proving).await?;
    ezkl.shut_down().await;

    keep(&made, &target, version, options.insecure_srs)?;
    println!(
        "the circuit has 2^{} rows; the model files are in {}",
        settings.run_args.logrows,
        target.folder.display()
    );
    if options.insecure_srs {
        warn_insecure();
    }
    Ok(())
}

/// The model's input for each row of the sample, as the owner's own `pre_process` makes it.
async fn model_inputs(config: &Config, sample: &Path) -> Result<Vec<ModelInput>> {
    let frame = features::load(sample)?;
    ensure!(
        frame.height() >= MIN_ROWS,
        "{} has {} rows, calibration needs at least {MIN_ROWS}: choose another with --sample",
        sample.display(),
        frame.height()
    );
    let predictor = Predictor::new(config, None)?;
    let mut inputs = Vec::with_capacity(frame.height());
    for row in 0..frame.height() {
        let features = features::row(&frame, row)?;
        let input = predictor
            .model_input(&format!("sample row {row}"), "", features)
            .await
            .map_err(|fault| anyhow::Error::from(fault).context(format!("{} row {row}", sample.display())))?;
        inputs.push(input);
    }
    Ok(inputs)
}

async fn calibrate(ezkl: &Ezkl, made: &ModelFiles, inputs: &[ModelInput], folder: &Path) -> Result<()> {
    let settings = json!({
        "model": made.onnx, "output": made.settings, "run_args": {
            "input_visibility": "public", "output_visibility": "public", "param_visibility": "fixed",
            "num_inner_cols": INNER_COLUMNS, "decomp_base": DECOMPOSITION_BASE, "decomp_legs": DECOMPOSITION_LEGS,
        },
    });
    step("writing the circuit's settings", ezkl.call("gen_settings", settings)).await?;
    let data = folder.join("calibration.json");
    std::fs::write(&data, calibration_data(inputs).to_string()).context("cannot write the calibration data")?;
    let calibration = json!({ "data": data, "model": made.onnx, "settings": made.settings, "target": "resources" });
    step(&format!("calibrating on {} rows", inputs.len()), ezkl.call("calibrate_settings", calibration)).await.map(drop)
}

/// EZKL takes one list for each input of the model, with the values of all rows one after the other.
fn calibration_data(inputs: &[ModelInput]) -> serde_json::Value {
    let mut lists: Vec<Vec<f64>> = Vec::new();
    for input in inputs {
        let flat = input.flat();
        lists.resize_with(flat.len(), Vec::new);
        for (list, values) in lists.iter_mut().zip(flat) {
            list.extend(values);
        }
    }
    json!({ "input_data": lists })
}

/// The SRS that is in the model files if it is large enough, else a public one, else (if asked for) one made here.
async fn find_srs(ezkl: &Ezkl, made: &ModelFiles, held: &Path, logrows: u32, insecure: bool) -> Result<()> {
    if held.is_file() && rows_of_srs(held)? >= logrows && (insecure || srs::is_public(held)?) {
        std::fs::copy(held, &made.srs).with_context(|| format!("cannot copy {}", held.display()))?;
        return Ok(());
    }
    if insecure {
        warn_insecure();
        let args = json!({ "srs_path": made.srs, "logrows": logrows });
        return step("making an INSECURE local SRS", ezkl.call("gen_srs", args)).await.map(drop);
    }
    let args = json!({ "settings_path": made.settings, "srs_path": made.srs });
    let downloaded = step("downloading the public SRS", ezkl.call("get_srs", args)).await;
    if let Err(error) = downloaded {
        bail!(
            "the public SRS for 2^{logrows} rows cannot be downloaded ({error:#}). Bring kzg{logrows}.srs from another machine to {} \
             and run `nova setup` again; for development only: `nova setup --insecure-srs`",
            held.display()
        );
    }
    ensure!(
        srs::is_public(&made.srs)?,
        "the SRS that EZKL downloaded is not one of the public ones it lists: it is not used"
    );
    Ok(())
}

/// An SRS file begins with the logarithm of its size, four bytes, lowest first.
fn rows_of_srs(path: &Path) -> Result<u32> {
    let mut head = [0; 4];
    std::fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut head))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(u32::from_le_bytes(head))
}

fn warn_insecure() {
    eprintln!(
        "\n*** INSECURE SRS: it was made on this machine, and whoever made it can forge proofs.\n\
         *** For development only. For real use run `nova setup` without --insecure-srs.\n"
    );
}

/// Moves everything into place, and writes down what belongs together.
fn keep(made: &ModelFiles, target: &ModelFiles, ezkl_version: String, insecure_srs: bool) -> Result<()> {
    let mut digests = BTreeMap::new();
    for (name, path) in made.all() {
        digests.insert(name.to_owned(), digest::of_file(path)?);
    }
    // The manifest first: until all files are in place they are refused as not belonging together.
    let manifest = SetupManifest { ezkl_version, insecure_srs, digests };
    let written = made.folder.join(SETUP_MANIFEST);
    std::fs::write(&written, serde_json::to_vec_pretty(&manifest)?).context("cannot write the manifest")?;
    move_into_place(&written, &target.folder.join(SETUP_MANIFEST))?;
    move_into_place(&made.folder.join(SETUP_PROOF), &target.folder.join(SETUP_PROOF))?;
    move_into_place(&made.verifier, &target.verifier)?;
    for ((_, from), (_, to)) in made.all().into_iter().zip(target.all()) {
        if from != to {
            move_into_place(from, to)?;
        }
    }
    Ok(())
}

fn move_into_place(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).with_context(|| format!("cannot move {} into place", to.display()))
}

/// Shows which step runs and for how long: a spinner on a terminal, plain lines elsewhere.
async fn step<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let start = Instant::now();
    let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    if spinner.is_hidden() {
        eprintln!("  {what} …");
    }
    let outcome = work.await;
    spinner.finish_and_clear();
    let mark = if outcome.is_ok() { "✓" } else { "✗" };
    eprintln!("{mark} {what}  {:.1} s", start.elapsed().as_secs_f64());
    outcome
}
