//! The model on candle: `load` reads an ONNX file, `graph` puts its nodes in order, `lower` makes each a function on tensors,
//! `plan` runs them.

mod budget;
pub mod circuit;
mod graph;
mod input;
mod load;
mod lower;
mod node;
mod output;
mod plan;
mod tensor;
mod weights;

use anyhow::{Context as _, Result as Anyhow, anyhow, bail, ensure};
use candle_core::Tensor;
use polars::prelude::DataFrame;

pub use circuit::claimed_operators;
pub use input::{InputSpec, ModelInput, Rounded};
pub use load::output_names;
#[cfg(test)]
pub use lower::operators;
pub use output::ModelOutput;

use crate::fault::{Classify, Result};
use plan::Plan;

/// A model that candle is known to run: `load` makes it. Or what is known of one that it cannot run.
#[derive(Debug)]
pub struct Model {
    /// Or why it cannot run.
    plan: std::result::Result<Plan, String>,
    inputs: Vec<InputSpec>,
    outputs: Vec<OutputSpec>,
}

/// What the model says of one of its outputs.
#[derive(Debug)]
struct OutputSpec {
    name: String,
    /// With a batch of one, where the model states all sizes.
    shape: Option<Vec<usize>>,
    /// A type of whole numbers, or of truth values.
    is_integer: bool,
}

impl Model {
    /// What the model takes, in its order.
    pub fn inputs(&self) -> &[InputSpec] {
        &self.inputs
    }

    /// Of each output, whether it is of a type of whole numbers, or of truth values: a class, a label, a count.
    pub fn integer_outputs(&self) -> Vec<bool> {
        self.outputs.iter().map(|output| output.is_integer).collect()
    }

    /// An output's name, for errors.
    pub fn output_name(&self, at: usize) -> String {
        self.outputs.get(at).map_or_else(|| format!("output {at}"), |output| format!("output {:?}", output.name))
    }

    /// The frame that `pre_process` gave, as the model takes it.
    pub fn tensors(&self, frame: &DataFrame) -> Result<ModelInput> {
        input::tensors(&self.inputs, frame).context("the model's input").permanent()
    }

    /// One run.
    pub fn run(&self, input: &ModelInput) -> Result<ModelOutput> {
        self.evaluate(&input.tensors).and_then(finite).context("the model on candle").permanent()
    }

    /// Why candle cannot run it, of a model that was loaded for its circuit alone.
    pub fn unsupported_reason(&self) -> Option<&str> {
        self.plan.as_ref().err().map(String::as_str)
    }

    /// The circuit's numbers as the model's outputs, where candle has none.
    pub fn outputs_of(&self, values: Vec<Vec<f64>>) -> Result<ModelOutput> {
        self.named(values).context("the circuit's output").permanent()
    }

    fn named(&self, values: Vec<Vec<f64>>) -> Anyhow<ModelOutput> {
        ensure!(
            values.len() == self.outputs.len(),
            "the model has {} outputs, the circuit {}: it was made of another model; run `nova setup`",
            self.outputs.len(),
            values.len()
        );
        let shapes = self.outputs.iter().zip(&values).map(|(output, values)| match &output.shape {
            Some(shape) if shape.iter().product::<usize>() == values.len() => shape.clone(),
            _ => vec![values.len()],
        });
        let shapes = shapes.collect();
        finite(ModelOutput::new(self.names(), shapes, values))
    }

    fn names(&self) -> Vec<String> {
        self.outputs.iter().map(|output| output.name.clone()).collect()
    }

    fn evaluate(&self, tensors: &[Tensor]) -> Anyhow<ModelOutput> {
        let plan = self.plan.as_ref().map_err(|reason| anyhow!("cannot run: {reason}"))?;
        let (mut shapes, mut values) = (Vec::new(), Vec::new());
        for output in plan.run(tensors.to_vec())? {
            shapes.push(output.dims().to_vec());
            values.push(tensor::floats(&output)?);
        }
        Ok(ModelOutput::new(self.names(), shapes, values))
    }
}

/// A model that divides by zero has no answer.
fn finite(output: ModelOutput) -> Anyhow<ModelOutput> {
    for (name, values) in output.names.iter().zip(&output.values) {
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            bail!("its output {name:?} is {} at place {at}", values[at]);
        }
    }
    Ok(output)
}

#[cfg(test)]
mod bad_input_tests;
#[cfg(test)]
mod conformance_tests;
#[cfg(test)]
mod onnxruntime_parity_tests;
#[cfg(test)]
mod python_tests;
#[cfg(test)]
mod tests;
