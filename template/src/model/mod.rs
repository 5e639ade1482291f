//! The model on candle.

mod input;
mod load;
mod ops;
mod output;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context as _, Result as Anyhow, anyhow, bail};
use candle_core::{DType, Tensor};
use candle_onnx::onnx::ModelProto;
use polars::prelude::DataFrame;

pub use input::{InputSpec, ModelInput};
pub use output::ModelOutput;

use crate::fault::{Classify, Result};
use crate::panics;

/// A model that candle is known to run. `load` makes it.
#[derive(Debug)]
pub struct Model {
    /// The graph without its weights.
    proto: ModelProto,
    constants: HashMap<String, Tensor>,
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
        let mut values = self.constants.clone();
        for (spec, tensor) in self.inputs.iter().zip(tensors) {
            values.insert(spec.name.clone(), tensor.clone());
        }
        // candle panics where it lacks something. It shares nothing with us that a panic could leave half done.
        let run = AssertUnwindSafe(|| candle_onnx::simple_eval(&self.proto, values));
        let mut found = catch_unwind(run).map_err(|panic| anyhow!("panicked: {}", panics::message(&*panic)))??;
        let (mut shapes, mut values) = (Vec::new(), Vec::new());
        for name in &self.outputs {
            let tensor = found.remove(name);
            let tensor = tensor.with_context(|| format!("gave no output {name:?}"))?;
            shapes.push(tensor.dims().to_vec());
            values.push(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?);
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
mod tests;
