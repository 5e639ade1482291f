//! One inference, without chain and ledger: features → `pre_process` → candle → circuit → checks → `post_process`.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use polars::prelude::DataFrame;
use tokio::sync::Semaphore;

use crate::config::{Config, Inference, InferenceSource};
use crate::context::{Context, ContextFiles};
use crate::ezkl::Ezkl;
use crate::ezkl::files::ModelVersion;
use crate::ezkl::witness::Witness;
use crate::fault::{Classify as _, Fault, Result};
use crate::features::FeatureRow;
use crate::hook_runner::run_hook;
use crate::hooks;
use crate::model::{Model, ModelInput, ModelOutput};
use crate::times::Times;

/// The default of `NOVA_MAX_DIVERGENCE_ABS`, in steps of the circuit's output: what rounding at both ends explains.
const STEPS_OF_DIVERGENCE: f64 = 2.0;
/// A float output that is a whole number up to here is a class, a label or a count, as exporters write them that know no other
/// type: that candle and the circuit both give a whole number, and not the same, is no rounding of a real one.
const LARGEST_LABEL: f64 = 65_536.0;
/// How far single precision in another order of additions may be off, as a share: seven digits, and room for a deep model.
const OF_ROUNDING: f64 = 1e-5;

/// Everything that an inference needs.
#[derive(Clone)]
pub struct Predictor {
    model: Arc<Model>,
    circuit: Option<Circuit>,
    settings: Inference,
    files: Arc<ContextFiles>,
    /// A hook's deadline begins when there is a core for it.
    cores: Arc<Semaphore>,
}

/// What is lost with candle, told wherever such a model is used.
pub fn circuit_only(refusal: &str) -> String {
    format!(
        "NOVA_ALLOW_CIRCUIT_ONLY: candle cannot run the model, so the circuit alone answers, and NOTHING CHECKS its answers \
         against the model: what calibration got wrong, or a circuit of another model, is submitted and proven all the \
         same. candle: {refusal}"
    )
}

/// The circuit, as the model files have it.
#[derive(Clone)]
pub struct Circuit {
    pub ezkl: Ezkl,
    pub version: ModelVersion,
}

/// What an inference found, each part as far as the model files allow.
pub struct Prediction {
    pub input: ModelInput,
    /// Candle's output. `None` where candle cannot run the model, and the circuit alone answers.
    pub model: Option<ModelOutput>,
    /// The circuit's output and witness. `None` without EZKL's model files.
    pub circuit: Option<(ModelOutput, Witness)>,
    /// What `post_process` made of it.
    pub submitted: f64,
    pub times: Times,
}

impl Predictor {
    /// # Errors
    /// `Stop`: an ONNX file that is absent, damaged, or uses an op that cannot run.
    pub fn new(config: &Config, circuit: Option<Circuit>) -> Result<Self> {
        // The daemon's own copies, where it has them: a hook reads a file when it is first asked for one.
        let files = circuit.as_ref().map_or(&config.model_files, |circuit| &circuit.version.files);
        let model = if config.inference.allow_circuit_only {
            Model::load_for_circuit(&files.onnx)?
        } else {
            Model::load(&files.onnx)?
        };
        if let Some(refusal) = model.refusal() {
            if config.inference.source == InferenceSource::Model {
                let both = "NOVA_INFERENCE_SOURCE=model submits candle's value, and candle cannot run this model";
                return Err(Fault::Stop(anyhow!("{both}: {refusal}")));
            }
            tracing::warn!("{}", circuit_only(refusal));
        }
        Ok(Self {
            model: Arc::new(model),
            files: ContextFiles::new(files.folder.clone()),
            circuit,
            settings: config.inference.clone(),
            cores: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))),
        })
    }

    /// The same model and hooks with another circuit.
    pub fn with_circuit(&self, circuit: Circuit) -> Self {
        Self { circuit: Some(circuit), ..self.clone() }
    }

    pub fn circuit(&self) -> Option<&Circuit> {
        self.circuit.as_ref()
    }

    /// Runs the owner's `pre_process` and checks its frame against the model's inputs.
    ///
    /// # Errors
    /// `Row`, with an [`IncompleteFeatures`](crate::features::IncompleteFeatures) where the model's input would depend on features
    /// that hold no number.
    pub async fn model_input(&self, request_id: &str, raw_input: &str, features: FeatureRow) -> Result<ModelInput> {
        features.apply(|frame| self.pre_processed(request_id, raw_input, frame), ModelInput::flat).await
    }

    async fn pre_processed(&self, request_id: &str, raw_input: &str, features: DataFrame) -> Result<ModelInput> {
        let context = self.context(request_id, raw_input);
        let _core = self.cores.acquire().await.context("the hooks have ended").stop()?;
        let frame =
            run_hook("pre_process", self.settings.hook_timeout, move || hooks::pre_process(&context, features)).await?;
        self.model
            .tensors(&frame)
            .map_err(|fault| fault.context("pre_process returned a frame that the model cannot take"))
    }

    /// One inference. `raw_input` is the request's input as the hooks may see it.
    ///
    /// # Errors
    /// `Row` where the answer would be wrong or unprovable: nothing may be sent then.
    pub async fn predict(&self, request_id: &str, raw_input: &str, features: FeatureRow) -> Result<Prediction> {
        let mut times = Times::default();
        let input = times.stage("pre_process", self.model_input(request_id, raw_input, features)).await?;
        if let (Some(refusal), None) = (self.model.refusal(), &self.circuit) {
            return Err(Fault::Row(anyhow!("there is no circuit, and candle cannot run the model: {refusal}")));
        }
        let model = times.stage("candle", self.candle(input.clone())).await?;
        let circuit = match &self.circuit {
            None => None,
            Some(circuit) => {
                let witness =
                    times.stage("witness", circuit.ezkl.witness(&circuit.version.files, &input.flat())).await?;
                let outputs = witness.outputs(&circuit.version.settings).fail_row()?;
                let outputs = match &model {
                    Some(model) => {
                        self.check_agreement(model, &outputs)?;
                        model.with_values(outputs)
                    }
                    None => self.model.outputs_of(outputs)?,
                };
                times.stage("provable", circuit.check_provable(&witness)).await?;
                Some((outputs, witness))
            }
        };
        let answered = match (&circuit, &model, self.settings.source) {
            (Some((output, _)), _, InferenceSource::Circuit) => output.clone(),
            (_, Some(output), _) => output.clone(),
            _ => return Err(Fault::Row(anyhow!("neither candle nor the circuit has an output"))),
        };
        let submitted = times.stage("post_process", self.post_process(request_id, raw_input, answered)).await?;
        Ok(Prediction { input, model, circuit, submitted, times })
    }

    /// What candle says, unless the circuit answers alone.
    pub async fn candle(&self, input: ModelInput) -> Result<Option<ModelOutput>> {
        if self.model.refusal().is_some() {
            return Ok(None);
        }
        let model = self.model.clone();
        let run = tokio::task::spawn_blocking(move || model.run(&input)).await;
        run.context("candle's thread was ended").retry()?.map(Some)
    }

    async fn post_process(&self, request_id: &str, raw_input: &str, output: ModelOutput) -> Result<f64> {
        let context = self.context(request_id, raw_input);
        let _core = self.cores.acquire().await.context("the hooks have ended").stop()?;
        let value =
            run_hook("post_process", self.settings.hook_timeout, move || hooks::post_process(&context, &output))
                .await?;
        if !value.is_finite() {
            return Err(Fault::Row(anyhow!("post_process returned {value}, which is not a number to submit")));
        }
        Ok(value)
    }

    /// How far from `value` another may be: `NOVA_MAX_DIVERGENCE_ABS` + `NOVA_MAX_DIVERGENCE` × |value|. The first is by
    /// default a few steps of that output of the circuit. Candle alone differs from others by their rounding only. Whole
    /// numbers are equal or wrong.
    pub fn allowed_divergence(&self, output: usize, value: f64) -> f64 {
        if self.model.is_integer_output(output) {
            return 0.0;
        }
        let Some(circuit) = &self.circuit else { return OF_ROUNDING * value.abs().max(1.0) };
        let scale = circuit.version.settings.model_output_scales.get(output);
        let step = scale.map_or(0.0, |scale| (-f64::from(*scale)).exp2());
        let absolute = self.settings.max_divergence_abs.unwrap_or(STEPS_OF_DIVERGENCE * step);
        absolute + self.settings.max_divergence * value.abs()
    }

    /// Every value of the circuit is as near to candle's as is allowed.
    pub fn check_agreement(&self, model: &ModelOutput, circuit: &[Vec<f64>]) -> Result<()> {
        let same_shape = model.values.len() == circuit.len()
            && model.values.iter().zip(circuit).all(|(model, circuit)| model.len() == circuit.len());
        if !same_shape {
            return Err(Fault::Row(anyhow!(
                "candle and the circuit have outputs of different shapes: the circuit was made of another model; run `nova setup`"
            )));
        }
        for (i, (model, circuit)) in model.values.iter().zip(circuit).enumerate() {
            for (model, circuit) in model.iter().zip(circuit) {
                let allowed = self.allowed_divergence(i, *model);
                let is_integer = self.model.is_integer_output(i) || (is_label(*model) && is_label(*circuit));
                if circuit != model && is_integer {
                    return Err(Fault::Row(anyhow!(
                        "candle says {model}, the circuit {circuit}: whole numbers must be equal; the input lies so near a boundary \
                         between them that the circuit's rounding crosses it, or the circuit is of another model"
                    )));
                }
                if (circuit - model).abs() > allowed {
                    return Err(Fault::Row(anyhow!(
                        "candle says {model}, the circuit {circuit}: they differ by {:.3e}, {allowed:.3e} is allowed \
                         (NOVA_MAX_DIVERGENCE, NOVA_MAX_DIVERGENCE_ABS); the input is outside what the circuit was calibrated \
                         for, or the circuit is of another model",
                        (circuit - model).abs()
                    )));
                }
            }
        }
        Ok(())
    }

    fn context(&self, request_id: &str, raw_input: &str) -> Context {
        Context::new(self.files.clone(), request_id, raw_input)
    }
}

fn is_label(value: f64) -> bool {
    value.fract() == 0.0 && value.abs() <= LARGEST_LABEL
}

impl Circuit {
    /// The circuit of the model files, with an EZKL of their version.
    ///
    /// # Errors
    /// `Stop`: files that are missing or do not belong together, another version of EZKL, visibilities that no answer can be
    /// proven with.
    pub async fn load(config: &Config) -> Result<Self> {
        let version = ModelVersion::read(&config.model_files)?;
        version.settings.check_visibilities(&version.files.settings)?;
        let ezkl = Ezkl::new(&config.ezkl)?;
        version.settings.check_version(&ezkl.version().await?, &version.files.settings)?;
        Ok(Self { ezkl, version })
    }

    /// A witness whose values lie inside the circuit's ranges is provable. For one whose values do not, the circuit's own
    /// constraints decide, in `mock`.
    pub async fn check_provable(&self, witness: &Witness) -> Result<()> {
        if witness.is_inside(&self.version.settings) {
            return Ok(());
        }
        let saved = self.ezkl.scratch().file().retry()?;
        tokio::fs::write(saved.path(), &witness.json).await.context("cannot write a temporary file").retry()?;
        match self.ezkl.mock(&self.version.files, saved.path()).await? {
            Ok(()) => Ok(()),
            Err(reason) => Err(Fault::Row(anyhow!(
                "this answer could not be proven, so it is not given: {}; EZKL: {}",
                witness.describe_ranges(&self.version.settings),
                reason.lines().next().unwrap_or_default()
            ))),
        }
    }
}
