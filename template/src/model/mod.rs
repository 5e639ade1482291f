//! The model on candle: `load` reads an ONNX file, `graph` puts its nodes in order, `lower` makes each a function on tensors,
//! `plan` runs them.

mod graph;
mod input;
mod load;
mod lower;
mod node;
mod output;
mod plan;
mod tensor;
mod weights;

use anyhow::{Context as _, Result as Anyhow, bail};
use candle_core::Tensor;
use polars::prelude::DataFrame;

pub use input::{InputSpec, ModelInput};
pub use output::ModelOutput;

use crate::fault::{Classify, Result};
use plan::Plan;

/// A model that candle is known to run. `load` makes it.
#[derive(Debug)]
pub struct Model {
    plan: Plan,
    inputs: Vec<InputSpec>,
    outputs: Vec<String>,
}

impl Model {
    /// What the model takes, in its order.
    pub fn inputs(&self) -> &[InputSpec] {
        &self.inputs
    }

    /// The frame that `pre_process` gave, as the model takes it.
    pub fn tensors(&self, frame: &DataFrame) -> Result<ModelInput> {
        input::tensors(&self.inputs, frame).context("the model's input").fail_row()
    }

    /// One run.
    pub fn run(&self, input: &ModelInput) -> Result<ModelOutput> {
        self.evaluate(&input.tensors).and_then(finite).context("the model on candle").fail_row()
    }

    fn evaluate(&self, tensors: &[Tensor]) -> Anyhow<ModelOutput> {
        let (mut shapes, mut values) = (Vec::new(), Vec::new());
        for output in self.plan.run(tensors.to_vec())? {
            shapes.push(output.dims().to_vec());
            values.push(tensor::floats(&output)?);
        }
        Ok(ModelOutput::new(self.outputs.clone(), shapes, values))
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
mod python_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod whole_tests;
