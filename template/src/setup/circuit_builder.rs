//! What making a circuit takes: EZKL's steps, each with the files of one circuit.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Map, Value, json};

use super::accuracy::AccuracyReport;
use super::circuit_params::CircuitParams;
use super::progress::{self, Progress};
use super::sample::{self, Row, Sample};
use super::srs_source;
use crate::config::{MockPolicy, ModelFiles};
use crate::ezkl::Ezkl;
use crate::ezkl::model_version::ModelVersion;
use crate::ezkl::reason::{Cause, Refusal};
use crate::ezkl::settings::Settings;
use crate::model::circuit::{CircuitOnnx, has_lost_axis, hold_axes, hold_places, write_out_layers};
use crate::pipeline::circuit::Circuit;
use crate::pipeline::predict::Predictor;
use crate::pipeline::tolerance::Measured;

/// Rows that show the range of values, besides those in which an input is smallest or largest.
pub(super) const ROWS_FOR_RANGE: usize = 2_000;

/// Rows whose witnesses tell how long those of all will take.
const ROWS_TIMED: usize = 4;

/// Bytes of a model whose calibration is faster on one thread: its 1,700 forward passes are too short to share. With a 4-3-1 network
/// on two cores 1.2 s against 3.2 s.
const SMALL_MODEL: u64 = 1 << 20;

/// A circuit's ONNX, written once more.
type Rewrite = fn(&[u8]) -> Result<CircuitOnnx>;

/// Everything that circuits are made with.
pub struct CircuitBuilder {
    pub ezkl: Ezkl,
    pub progress: Progress,
    pub predictor: Predictor,
    pub sample: Sample,
    /// Where the files go in the end.
    pub target: ModelFiles,
    /// Where they are made: a folder in the target's.
    pub folder: PathBuf,
    /// The model, as it was when `setup` began: what is compiled is what candle ran.
    pub onnx: PathBuf,
    /// What EZKL compiles, in the same folder: not there where candle cannot run the model, and nothing could be compared.
    pub circuit: PathBuf,
    /// Who sees inputs, outputs and parameters.
    pub visibilities: Map<String, Value>,
    /// Megabytes that the prover may have.
    pub memory_mb: Option<u64>,
    pub witness_workers: usize,
    /// When the daemon will check its witnesses.
    pub mock: MockPolicy,
    pub insecure_srs: bool,
}

/// What an answer costs before it is given, and when.
pub struct Checks {
    pub witness: Duration,
    pub mock: Duration,
    /// When `mock` runs, for a person.
    pub policy: String,
}

/// A circuit that was compiled, and maybe has keys.
pub struct BuiltCircuit {
    pub choice: CircuitParams,
    pub files: ModelFiles,
    pub settings: Settings,
    predictor: Predictor,
}

impl CircuitBuilder {
    /// Lets EZKL calibrate on these rows, from these run arguments; the choice that it made.
    pub async fn calibrate(&self, run_args: Map<String, Value>, rows: &[&Row]) -> Result<CircuitParams> {
        let files = self.files("calibration")?;
        self.first_settings(&files, &run_args).await?;
        self.hold_axes(&files, run_args).await?;
        let data = files.folder.join("calibration.json");
        fs::write(&data, sample::calibration_data(rows).to_string()).context("cannot write the calibration data")?;
        let args =
            json!({ "data": data, "model": files.compiled_onnx(), "settings": files.settings, "target": "resources" });
        let bytes = fs::metadata(files.compiled_onnx()).map_or(0, |found| found.len());
        if bytes < SMALL_MODEL {
            self.ezkl.call_on_one_thread("calibrate_settings", args).await?;
        } else {
            self.ezkl.call("calibrate_settings", args).await?;
        }
        CircuitParams::read(&files.settings)
    }

    /// The settings, and the circuit's ONNX written once more where EZKL stops at operators that it takes elsewhere.
    async fn first_settings(&self, files: &ModelFiles, run_args: &Map<String, Value>) -> Result<()> {
        let settings = async || self.gen_settings(files, run_args.clone(), &self.unhashed()).await;
        let mut outcome = settings().await;
        for written_again in [write_out_layers as Rewrite, hold_places] {
            let Err(refused) = &outcome else { break };
            let is_of_shapes = Refusal::in_error(refused).and_then(Refusal::cause) == Some(Cause::Shapes);
            if !is_of_shapes || !self.circuit.is_file() {
                break;
            }
            let circuit = written_again(&fs::read(&self.circuit)?)?;
            if !circuit.rewritten.is_empty() {
                super::keep_circuit(&self.circuit, &circuit)?;
                outcome = settings().await;
            }
        }
        outcome
    }

    /// Writes the circuit's ONNX once more where EZKL loses axes of its products, which its settings tell.
    async fn hold_axes(&self, files: &ModelFiles, run_args: Map<String, Value>) -> Result<()> {
        let products = Settings::read(&files.settings)?.einsum_params.equations;
        if !self.circuit.is_file() || !products.iter().any(|(equation, _)| has_lost_axis(equation)) {
            return Ok(());
        }
        let held = hold_axes(&fs::read(&self.circuit)?)?;
        if held.rewritten.is_empty() {
            return Ok(());
        }
        super::keep_circuit(&self.circuit, &held)?;
        self.gen_settings(files, run_args, &self.unhashed()).await
    }

    /// The functions that the circuit of the last calibration computes by lookup.
    pub fn looked_up(&self) -> Vec<String> {
        let settings = self.files("calibration").and_then(|files| Ok(Settings::read(&files.settings)?));
        settings.map(|settings| settings.looked_up()).unwrap_or_default()
    }

    /// The choice with the range of values that its lookups meet on the sample. EZKL's own calibration finds the same range at the
    /// same speed, but only with equal scales for inputs and parameters, one row after the other, and names no row.
    ///
    /// # Errors
    /// The first row that has no witness.
    pub async fn ranged(&self, choice: CircuitParams) -> Result<CircuitParams> {
        let files = self.files("range")?;
        // No table is made for a witness. Hashes take long, and the range is without them the same.
        let choice = CircuitParams { lookup_range: (0, 0), ..choice };
        self.gen_settings(&files, run_args(&choice)?, &self.unhashed()).await?;
        let circuit = self.compiled(&files).await?;
        let rows = self.sample.rows_of_range(ROWS_FOR_RANGE);
        let range_of = async |row: &Row| {
            let witness = circuit.witness(&row.input).await;
            let at = || format!("{} row {}", self.sample.file.display(), row.at);
            anyhow::Ok(witness.map_err(|fault| fault.context(at()))?.lookup_inputs())
        };
        let (first, others) = rows.split_at(rows.len().min(ROWS_TIMED + 1));
        let mut ranges = Vec::new();
        let mut start = Instant::now();
        for row in first {
            ranges.push(range_of(row).await?);
            if ranges.len() == 1 {
                // The first has waited for its worker to start.
                start = Instant::now();
            }
        }
        let (more, held_out) = (others.len() as f64, self.sample.held_out.len() as f64);
        let expected =
            start.elapsed().as_secs_f64() / ROWS_TIMED as f64 * (more + held_out) / self.witness_workers as f64;
        progress::announce(
            &format!("witnesses of {more:.0} rows, and later of {held_out:.0} held-out ones,"),
            expected,
        );
        ranges.extend(
            stream::iter(others)
                .map(|row| range_of(row))
                .buffered(self.witness_workers)
                .try_collect::<Vec<_>>()
                .await?,
        );
        let (lows, highs): (Vec<i128>, Vec<i128>) = ranges.into_iter().unzip();
        let bound =
            |bound: Option<i128>| i64::try_from(bound.unwrap_or(0)).context("values of lookups are beyond 64 bits");
        Ok(CircuitParams { lookup_range: (bound(lows.into_iter().min())?, bound(highs.into_iter().max())?), ..choice })
    }

    /// The circuit's size under these settings, without making it.
    pub async fn shape(&self, choice: &CircuitParams) -> Result<Settings> {
        self.write_settings(&self.files("shape")?, choice).await
    }

    /// Compiles the circuit in a folder of this name.
    pub async fn compile(&self, choice: CircuitParams, name: &str) -> Result<BuiltCircuit> {
        let files = self.files(name)?;
        let settings = self.write_settings(&files, &choice).await?;
        let predictor = self.predictor.with_circuit(self.compiled(&files).await?);
        Ok(BuiltCircuit { choice, files, settings, predictor })
    }

    /// Compiles the circuit of settings that are there.
    async fn compiled(&self, files: &ModelFiles) -> Result<Circuit> {
        let compile = json!({ "model": files.compiled_onnx(), "compiled_circuit": files.compiled, "settings_path": files.settings });
        self.ezkl.call("compile_circuit", compile).await?;
        let version = ModelVersion::with_digests(files, BTreeMap::new())?;
        Ok(Circuit::new(self.ezkl.clone(), version, Measured::default(), self.mock)?)
    }

    pub async fn fidelity(&self, made: &BuiltCircuit) -> Result<AccuracyReport> {
        AccuracyReport::measure(&made.predictor, &self.sample, self.witness_workers).await
    }

    /// The SRS for circuits of this size, made or found once.
    pub async fn srs(&self, made: &BuiltCircuit) -> Result<()> {
        let (wanted, logrows) = (self.srs_of(made), made.choice.logrows);
        if wanted.is_file() {
            return Ok(());
        }
        let (held, settings) = (&self.target.srs, &made.files.settings);
        srs_source::obtain_srs(&self.ezkl, &self.progress, held, &wanted, logrows, settings, self.insecure_srs).await
    }

    /// The keys, with an SRS that is there. The prover's memory is counted from here on.
    pub async fn make_keys(&self, made: &BuiltCircuit) -> Result<Duration> {
        let files = &made.files;
        if !files.srs.is_file() {
            // One file for all circuits of this size.
            fs::hard_link(self.srs_of(made), &files.srs).context("cannot link the SRS")?;
        }
        self.ezkl.renew_prover().await;
        let start = Instant::now();
        let keys = json!({
            "model": files.compiled, "vk_path": files.verification_key, "pk_path": files.proving_key, "srs_path": files.srs,
            "disable_selector_compression": !made.choice.compress_selectors,
        });
        self.ezkl.call("setup", keys).await?;
        Ok(start.elapsed())
    }

    fn srs_of(&self, made: &BuiltCircuit) -> PathBuf {
        self.folder.join(format!("kzg{}.srs", made.choice.logrows))
    }

    /// Proves a row of the sample and verifies the proof, which stays beside the circuit; how long it took.
    pub async fn prove(&self, made: &BuiltCircuit) -> Result<Duration> {
        let row = self.sample.calibration.first().context("the sample has no row")?;
        Ok(self.ezkl.prove_input(&made.files, &row.input.flat(), &made.files.folder).await?)
    }

    /// How long a witness of the sample takes, and its check by `mock`.
    ///
    /// # Errors
    /// If the witness, which has just been proven, does not hold.
    pub async fn time_checks(&self, made: &BuiltCircuit) -> Result<Checks> {
        let circuit = made.predictor.circuit().context("there is no circuit")?;
        let row = self.sample.calibration.first().context("the sample has no row")?;
        let start = Instant::now();
        let witness = self.ezkl.witness(&made.files, &row.input.flat()).await?;
        let took = start.elapsed();
        let start = Instant::now();
        if let Err(reason) = circuit.mock(&witness).await? {
            bail!("EZKL's mock refuses a witness that was proven: {reason}");
        }
        Ok(Checks { witness: took, mock: start.elapsed(), policy: circuit.mock_policy() })
    }

    pub async fn write_verifier(&self, made: &BuiltCircuit) -> Result<()> {
        let files = &made.files;
        let verifier = json!({
            "vk_path": files.verification_key, "settings_path": files.settings, "sol_code_path": files.verifier,
            "srs_path": files.srs,
        });
        self.ezkl.call("create_evm_verifier", verifier).await.map(drop)
    }

    fn files(&self, name: &str) -> Result<ModelFiles> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let (onnx, circuit) = (self.onnx.clone(), self.circuit.clone());
        Ok(ModelFiles { onnx, circuit, ..ModelFiles::in_folder(&folder) })
    }

    /// The visibilities without hashes: these take long, and neither scales nor ranges depend on them.
    fn unhashed(&self) -> Map<String, Value> {
        let plain = |(field, visibility): (&String, &Value)| {
            let is_hashed = visibility.as_str().is_some_and(|name| name.starts_with("hashed"));
            let unhashed = if field == "output_visibility" { "public" } else { "private" };
            (field.clone(), if is_hashed { unhashed.into() } else { visibility.clone() })
        };
        self.visibilities.iter().map(plain).collect()
    }

    async fn write_settings(&self, files: &ModelFiles, choice: &CircuitParams) -> Result<Settings> {
        self.gen_settings(files, run_args(choice)?, &self.visibilities).await?;
        Ok(Settings::read(&files.settings)?)
    }

    async fn gen_settings(
        &self,
        files: &ModelFiles,
        mut run_args: Map<String, Value>,
        visibilities: &Map<String, Value>,
    ) -> Result<()> {
        run_args.extend(visibilities.clone());
        let args = json!({ "model": files.compiled_onnx(), "output": files.settings, "run_args": run_args });
        self.ezkl.call("gen_settings", args).await.map(drop)
    }
}

/// The choice as EZKL's run arguments.
fn run_args(choice: &CircuitParams) -> Result<Map<String, Value>> {
    match serde_json::to_value(choice)? {
        Value::Object(mut fields) => {
            // It is an argument of the keys, and none of the circuit.
            fields.remove("compress_selectors");
            Ok(fields)
        }
        other => bail!("a choice is {other}"),
    }
}
