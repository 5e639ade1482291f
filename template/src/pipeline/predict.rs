//! One inference, without chain and ledger: features → `pre_process` → candle → circuit → checks → `post_process`.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use polars::prelude::DataFrame;
use tokio::sync::Semaphore;

use super::circuit::Circuit;
use super::tolerance::{Coarse, Disagreement, Measured, Tolerance};
use crate::config::{Config, Inference, InferenceSource};
use crate::context::{Context, ContextFiles};
use crate::ezkl::model_version::SetupRecord;
use crate::ezkl::witness::Witness;
use crate::fault::{Classify as _, Fault, Result};
use crate::features::{Expectation, FeatureRow};
use crate::hook_runner::run_hook;
use crate::hooks;
use crate::model::{InputSpec, Model, ModelInput, ModelOutput};
use crate::preprocess::gap;
use crate::timing::StageTimings;

/// Everything that an inference needs.
#[derive(Clone)]
pub struct Predictor {
    model: Arc<Model>,
    circuit: Option<Circuit>,
    tolerance: Arc<Tolerance>,
    settings: Inference,
    files: Arc<ContextFiles>,
    /// What rows may hold: as `setup`'s sample shows it. Before `setup` there is nothing to hold them to.
    expectation: Expectation,
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

/// What `post_process` makes of each engine's output, as far as there is one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answers {
    pub model: Option<f64>,
    pub circuit: Option<f64>,
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
    pub times: StageTimings,
}

impl Predictor {
    /// # Errors
    /// `Fatal`: an ONNX file that is absent, damaged, or uses an op that cannot run.
    pub fn new(config: &Config, circuit: Option<Circuit>) -> Result<Self> {
        let outputs = circuit.as_ref().map(|circuit| circuit.outputs.clone()).unwrap_or_default();
        Self::with_outputs(config, circuit, &outputs)
    }

    /// The model alone, of whose outputs the circuit will have these (all, if there is none), for rows that hold whatever they hold:
    /// a sample shows what may be missing.
    ///
    /// # Errors
    /// As `new`.
    pub fn of_a_sample(config: &Config, outputs: &[String]) -> Result<Self> {
        Ok(Self { expectation: Expectation::Anything, ..Self::with_outputs(config, None, outputs)? })
    }

    fn with_outputs(config: &Config, circuit: Option<Circuit>, outputs: &[String]) -> Result<Self> {
        // The daemon's own copies, where it has them: a hook reads a file when it is first asked for one.
        let files = circuit.as_ref().map_or(&config.model_files, |circuit| &circuit.version.files);
        let model = if config.inference.allow_circuit_only {
            Model::load_for_circuit(&files.onnx, outputs)?
        } else {
            Model::load(&files.onnx, outputs)?
        };
        if let Some(refusal) = model.unsupported_reason() {
            if config.inference.source == InferenceSource::Model {
                let both = "NOVA_INFERENCE_SOURCE=model submits candle's value, and candle cannot run this model";
                return Err(Fault::Fatal(anyhow!("{both}: {refusal}")));
            }
            tracing::warn!("{}", circuit_only(refusal));
        }
        Ok(Self {
            files: ContextFiles::new(files.folder.clone()),
            tolerance: Arc::new(tolerance(&model, circuit.as_ref(), &config.inference)),
            expectation: if circuit.is_some() { expectation(config)? } else { Expectation::Anything },
            model: Arc::new(model),
            circuit,
            settings: config.inference.clone(),
            cores: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))),
        })
    }

    /// Why candle cannot run the model, where the circuit alone answers.
    pub fn candle_refusal(&self) -> Option<&str> {
        self.model.unsupported_reason()
    }

    /// The same model and hooks with another circuit.
    pub fn with_circuit(&self, circuit: Circuit) -> Self {
        let tolerance = Arc::new(tolerance(&self.model, Some(&circuit), &self.settings));
        Self { circuit: Some(circuit), tolerance, ..self.clone() }
    }

    pub fn circuit(&self) -> Option<&Circuit> {
        self.circuit.as_ref()
    }

    /// Of each output of the model, whether it is of a type of whole numbers.
    pub fn integer_outputs(&self) -> Vec<bool> {
        self.model.integer_outputs()
    }

    /// Runs the owner's `pre_process` and checks its frame against the model's inputs.
    ///
    /// # Errors
    /// `Permanent`, with an [`IncompleteFeatures`](crate::features::IncompleteFeatures) where the model's input would depend on features
    /// that are absent, or hold what they never held in `setup`'s sample.
    pub async fn model_input(&self, request_id: &str, raw_input: &str, features: FeatureRow) -> Result<ModelInput> {
        let hook = |frame| self.pre_processed(request_id, raw_input, frame);
        features.apply(&self.expectation, hook, ModelInput::flat).await
    }

    /// The features of a row of the sample that are missing and on which its `input` depends. `known` are some of which that is known.
    pub async fn used_gaps(
        &self,
        row: &FeatureRow,
        input: &ModelInput,
        known: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>> {
        row.used_gaps(known, |frame| self.pre_processed("sample", "", frame), ModelInput::flat, input).await
    }

    async fn pre_processed(&self, request_id: &str, raw_input: &str, features: DataFrame) -> Result<ModelInput> {
        let context = self.context(request_id, raw_input);
        let _core = self.cores.acquire().await.context("the hooks have ended").fatal()?;
        let hook = move || Ok((hooks::pre_process(&context, features)?, gap::take()));
        let (frame, gaps) = run_hook("pre_process", self.settings.hook_timeout, hook).await?;
        self.model.tensors(&frame).map_err(|fault| {
            let told = format!("{:#}", fault.error());
            let origin = gaps.iter().find(|(column, _)| told.contains(&format!("{column:?}")));
            let origin = origin.map_or_else(String::new, |(_, origin)| format!(" ({origin})"));
            fault.context(format!("pre_process returned a frame that the model cannot take{origin}"))
        })
    }

    /// One inference. `raw_input` is the request's input as the hooks may see it.
    ///
    /// # Errors
    /// `Permanent` where the answer would be wrong or unprovable: nothing may be sent then.
    pub async fn predict(&self, request_id: &str, raw_input: &str, features: FeatureRow) -> Result<Prediction> {
        let mut times = StageTimings::default();
        let input = times.stage("pre_process", self.model_input(request_id, raw_input, features)).await?;
        if let (Some(refusal), None) = (self.model.unsupported_reason(), &self.circuit) {
            return Err(Fault::Permanent(anyhow!("there is no circuit, and candle cannot run the model: {refusal}")));
        }
        let model = times.stage("candle", self.run_float_model(input.clone())).await?;
        let circuit = match &self.circuit {
            None => None,
            Some(circuit) => {
                let found = times.stage("witness", self.witness(circuit, &input, model.as_ref())).await?;
                if let Some(model) = &model {
                    self.check_agreement(model, &found.0)?;
                }
                times.stage("provable", circuit.check_provable(&found.1, &input)).await?;
                Some(found)
            }
        };
        let circuits = circuit.as_ref().map(|(output, _)| output);
        let answers =
            times.stage("post_process", self.answers(request_id, raw_input, model.as_ref(), circuits)).await?;
        if let (Some(model), Some(circuit)) = (answers.model, answers.circuit) {
            self.check_answers(model, circuit)?;
        }
        let submitted = match self.settings.source {
            InferenceSource::Circuit => answers.circuit.or(answers.model),
            InferenceSource::Model => answers.model,
        };
        let submitted = submitted.context("neither candle nor the circuit has an output").permanent()?;
        Ok(Prediction { input, model, circuit, submitted, times })
    }

    /// The circuit's witness of an input, and its output, named as candle's is.
    pub async fn witness(
        &self,
        circuit: &Circuit,
        input: &ModelInput,
        model: Option<&ModelOutput>,
    ) -> Result<(ModelOutput, Witness)> {
        let witness = circuit.witness(input).await?;
        let outputs = witness.outputs(&circuit.version.settings).permanent()?;
        let outputs = match model {
            Some(model) => model.with_values(outputs),
            None => self.model.outputs_of(outputs)?,
        };
        Ok((outputs, witness))
    }

    /// What `post_process` makes of both outputs. Hooks are pure: run on equal outputs they give equal answers.
    pub async fn answers(
        &self,
        request_id: &str,
        raw_input: &str,
        model: Option<&ModelOutput>,
        circuit: Option<&ModelOutput>,
    ) -> Result<Answers> {
        let mut answers = Answers::default();
        if let Some(circuit) = circuit {
            answers.circuit = Some(self.post_process(request_id, raw_input, circuit.clone()).await?);
        }
        if let Some(model) = model {
            answers.model = Some(self.post_process(request_id, raw_input, model.clone()).await?);
        }
        Ok(answers)
    }

    /// # Errors
    /// `Permanent` where `post_process` makes something else of the circuit's output than of candle's: a threshold lies between them.
    pub fn check_answers(&self, model: f64, circuit: f64) -> Result<()> {
        self.tolerance.check_answer(model, circuit).map_err(|apart| {
            Fault::Permanent(anyhow!("what post_process makes of both outputs: {apart}{}", advice(&apart)))
        })
    }

    /// What candle says, unless the circuit answers alone.
    pub async fn run_float_model(&self, input: ModelInput) -> Result<Option<ModelOutput>> {
        if self.model.unsupported_reason().is_some() {
            return Ok(None);
        }
        let model = self.model.clone();
        let run = tokio::task::spawn_blocking(move || model.run(&input)).await;
        run.context("candle's thread was ended").transient()?.map(Some)
    }

    async fn post_process(&self, request_id: &str, raw_input: &str, output: ModelOutput) -> Result<f64> {
        let context = self.context(request_id, raw_input);
        let _core = self.cores.acquire().await.context("the hooks have ended").fatal()?;
        let value =
            run_hook("post_process", self.settings.hook_timeout, move || hooks::post_process(&context, &output))
                .await?;
        if !value.is_finite() {
            return Err(Fault::Permanent(anyhow!("post_process returned {value}, which is not a number to submit")));
        }
        Ok(value)
    }

    /// How far the circuit may be from candle.
    pub fn tolerance(&self) -> &Tolerance {
        &self.tolerance
    }

    /// # Errors
    /// `Permanent` if a value of the circuit is not as near to candle's as is allowed.
    pub fn check_agreement(&self, model: &ModelOutput, circuit: &ModelOutput) -> Result<()> {
        let same_shape = model.values.len() == circuit.values.len()
            && model.values.iter().zip(&circuit.values).all(|(model, circuit)| model.len() == circuit.len());
        if !same_shape {
            return Err(Fault::Permanent(anyhow!(
                "candle and the circuit have outputs of different shapes: the circuit was made of another model; run `nova setup`"
            )));
        }
        for (at, (model, circuit)) in model.values.iter().zip(&circuit.values).enumerate() {
            for (model, circuit) in model.iter().zip(circuit) {
                self.tolerance.check_output(at, *model, *circuit).map_err(|apart| {
                    Fault::Permanent(anyhow!("{}: {apart}{}", self.model.output_name(at), advice(&apart)))
                })?;
            }
        }
        Ok(())
    }

    /// Why the circuit of which this was measured is too coarse, for a person; `None` if it is not, or a limit is set that says so.
    pub fn too_coarse(&self, measured: &Measured) -> Option<String> {
        let Coarse { output, spread } = measured.too_coarse().filter(|_| self.settings.max_divergence_abs.is_none())?;
        let what =
            output.map_or_else(|| "what post_process makes of the output".to_owned(), |at| self.model.output_name(at));
        Some(format!(
            "the circuit is too coarse for {what}: |circuit − candle| is up to {:.2e} in 99 % of the held-out rows, and 1 % of its range \
             is {:.2e}. Bring the inputs to one order of magnitude in pre_process, and weights and outputs to one in the model; what is a \
             class should be a whole number; NOVA_MAX_DIVERGENCE_ABS sets another limit",
            spread.error_p99,
            spread.cap()
        ))
    }

    fn context(&self, request_id: &str, raw_input: &str) -> Context {
        Context::new(self.files.clone(), request_id, raw_input)
    }
}

/// What `setup` has found in its sample. Files of another making allow no gap and no string.
fn expectation(config: &Config) -> Result<Expectation> {
    let making = SetupRecord::beside(&config.model_files)?;
    Ok(Expectation::AsIn(making.map(|making| making.features).unwrap_or_default()))
}

/// The limits of a model and its circuit, or of candle alone.
fn tolerance(model: &Model, circuit: Option<&Circuit>, settings: &Inference) -> Tolerance {
    let integers = model.integer_outputs();
    match circuit {
        None => Tolerance::without_circuit(&integers),
        Some(Circuit { version, measured, .. }) => {
            let has_float_input = model.inputs().iter().any(InputSpec::is_float);
            Tolerance::of(&integers, has_float_input, &version.settings, measured, settings)
        }
    }
}

/// What two values mean that are too far apart.
fn advice(apart: &Disagreement) -> &'static str {
    match apart {
        Disagreement::Labels { .. } => {
            "; the input lies so near a boundary between them that the circuit's rounding crosses it, or the circuit is of another model"
        }
        Disagreement::Apart { .. } => {
            " (NOVA_MAX_DIVERGENCE, NOVA_MAX_DIVERGENCE_ABS); the input is outside what the circuit was calibrated for, or the circuit \
             is of another model"
        }
    }
}
