//! What making a circuit takes: EZKL's steps, each with the files of one circuit.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use super::choice::Choice;
use super::fidelity::Fidelity;
use super::progress::Progress;
use super::reference;
use super::sample::Sample;
use crate::config::{MockPolicy, ModelFiles};
use crate::ezkl::Ezkl;
use crate::ezkl::files::ModelVersion;
use crate::ezkl::settings::Settings;
use crate::pipeline::circuit::Circuit;
use crate::pipeline::predict::Predictor;
use crate::pipeline::tolerance::Measured;

/// Everything that circuits are made with.
pub struct Workshop {
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
    /// Who sees inputs, outputs and parameters.
    pub visibilities: Map<String, Value>,
    /// Megabytes that the prover may have.
    pub memory_mb: Option<u64>,
    pub witness_workers: usize,
    /// When the daemon will check its witnesses.
    pub mock: MockPolicy,
    pub insecure_srs: bool,
}

/// How EZKL is to calibrate. What is `None` is EZKL's own default.
#[derive(Default)]
pub struct Calibration {
    /// Fields of the run arguments to begin with.
    pub run_args: Map<String, Value>,
    pub scales: Option<Vec<i32>>,
    pub rebase_multipliers: Option<Vec<u32>>,
    pub lookup_margin: Option<f64>,
    /// Calibrate on no more rows than this.
    pub most_rows: Option<usize>,
}

/// What an answer costs before it is given, and when.
pub struct Checks {
    pub witness: Duration,
    pub mock: Duration,
    /// When `mock` runs, for a person.
    pub policy: String,
}

/// A circuit that was compiled, and maybe has keys.
pub struct Made {
    pub choice: Choice,
    pub files: ModelFiles,
    pub settings: Settings,
    predictor: Predictor,
}

impl Workshop {
    /// Lets EZKL calibrate on the sample; the choice that it made.
    pub async fn calibrate(&self, how: Calibration) -> Result<Choice> {
        let files = self.files("calibration")?;
        self.gen_settings(&files, how.run_args).await?;
        let data = files.folder.join("calibration.json");
        let rows = self.sample.calibration_data(how.most_rows.unwrap_or(usize::MAX));
        fs::write(&data, rows.to_string()).context("cannot write the calibration data")?;
        let mut args = json!({ "data": data, "model": files.onnx, "settings": files.settings, "target": "resources" });
        let more = [
            ("scales", how.scales.map(Value::from)),
            ("scale_rebase_multiplier", how.rebase_multipliers.map(Value::from)),
            ("lookup_safety_margin", how.lookup_margin.map(Value::from)),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                args[name] = value;
            }
        }
        self.ezkl.call("calibrate_settings", args).await?;
        Choice::read(&files.settings)
    }

    /// The circuit's size under these settings, without making it.
    pub async fn shape(&self, choice: &Choice) -> Result<Settings> {
        self.write_settings(&self.files("shape")?, choice).await
    }

    /// Compiles the circuit in a folder of this name.
    pub async fn compile(&self, choice: Choice, name: &str) -> Result<Made> {
        let files = self.files(name)?;
        let settings = self.write_settings(&files, &choice).await?;
        let compile =
            json!({ "model": files.onnx, "compiled_circuit": files.compiled, "settings_path": files.settings });
        self.ezkl.call("compile_circuit", compile).await?;
        let version = ModelVersion::with_digests(&files, BTreeMap::new())?;
        let circuit = Circuit::new(self.ezkl.clone(), version, Measured::default(), self.mock)?;
        let predictor = self.predictor.with_circuit(circuit);
        Ok(Made { choice, files, settings, predictor })
    }

    pub async fn fidelity(&self, made: &Made) -> Result<Fidelity> {
        Fidelity::measure(&made.predictor, &self.sample, self.witness_workers).await
    }

    /// The SRS for circuits of this size, made or found once.
    pub async fn srs(&self, made: &Made) -> Result<()> {
        let (wanted, logrows) = (self.srs_of(made), made.choice.logrows);
        if wanted.is_file() {
            return Ok(());
        }
        let (held, settings) = (&self.target.srs, &made.files.settings);
        reference::find(&self.ezkl, &self.progress, held, &wanted, logrows, settings, self.insecure_srs).await
    }

    /// The keys, with an SRS that is there. The prover's memory is counted from here on.
    pub async fn make_keys(&self, made: &Made) -> Result<Duration> {
        let files = &made.files;
        if !files.srs.is_file() {
            // One file for all circuits of this size.
            fs::hard_link(self.srs_of(made), &files.srs).context("cannot link the SRS")?;
        }
        self.ezkl.renew_prover().await;
        let start = Instant::now();
        let keys = json!({
            "model": files.compiled, "vk_path": files.verification_key, "pk_path": files.proving_key, "srs_path": files.srs,
        });
        self.ezkl.call("setup", keys).await?;
        Ok(start.elapsed())
    }

    fn srs_of(&self, made: &Made) -> PathBuf {
        self.folder.join(format!("kzg{}.srs", made.choice.logrows))
    }

    /// Proves a row of the sample and verifies the proof, which stays beside the circuit; how long it took.
    pub async fn prove(&self, made: &Made) -> Result<Duration> {
        let row = self.sample.calibration.first().context("the sample has no row")?;
        Ok(self.ezkl.prove_input(&made.files, &row.input.flat(), &made.files.folder).await?)
    }

    /// How long a witness of the sample takes, and its check by `mock`.
    ///
    /// # Errors
    /// If the witness, which has just been proven, does not hold.
    pub async fn time_checks(&self, made: &Made) -> Result<Checks> {
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

    pub async fn write_verifier(&self, made: &Made) -> Result<()> {
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
        Ok(ModelFiles { onnx: self.onnx.clone(), ..ModelFiles::in_folder(&folder) })
    }

    async fn write_settings(&self, files: &ModelFiles, choice: &Choice) -> Result<Settings> {
        let Value::Object(run_args) = serde_json::to_value(choice)? else { unreachable!("a struct is an object") };
        self.gen_settings(files, run_args).await?;
        Ok(Settings::read(&files.settings)?)
    }

    async fn gen_settings(&self, files: &ModelFiles, mut run_args: Map<String, Value>) -> Result<()> {
        run_args.extend(self.visibilities.clone());
        let args = json!({ "model": files.onnx, "output": files.settings, "run_args": run_args });
        self.ezkl.call("gen_settings", args).await.map(drop)
    }
}
