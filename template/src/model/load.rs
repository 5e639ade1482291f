//! An ONNX file → a model that is known to run: what it takes is fixed, its graph is in order, all of its operators are ones
//! that can run, and it has run once.

use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context as _, Result as Anyhow, anyhow, bail, ensure};
use candle_core::Tensor;
use candle_onnx::onnx::tensor_proto::DataType;
use candle_onnx::onnx::tensor_shape_proto::Dimension;
use candle_onnx::onnx::tensor_shape_proto::dimension::Value::DimValue;
use candle_onnx::onnx::type_proto;
use candle_onnx::onnx::{GraphProto, ModelProto, ValueInfoProto};
use prost::Message;

use super::input::InputSpec;
use super::plan::Plan;
use super::tensor::{bounded, dtype};
use super::{Model, OutputSpec};
use crate::fault::{Classify, Result};

/// The versions of ONNX's operators that are known: 7 brought today's broadcasting, the last is that of the conformance
/// cases that are tested.
const OPSETS: RangeInclusive<i64> = 7..=28;

impl Model {
    /// Reads and checks the model, of whose outputs only those named are computed, or all if none is. Whatever is wrong with it, no
    /// request could be answered: that is for a person.
    pub fn load(path: &Path, outputs: &[String]) -> Result<Self> {
        read(path, |bytes| Self::described(bytes, outputs).and_then(Self::that_runs))
    }

    /// The same, but a model that candle cannot run is kept for what it takes and gives: its circuit alone will answer.
    pub fn load_for_circuit(path: &Path, outputs: &[String]) -> Result<Self> {
        read(path, |bytes| Self::described(bytes, outputs))
    }

    /// The model out of an ONNX file's bytes.
    ///
    /// # Errors
    /// No ONNX file, one that is not whole, or one that uses what cannot run.
    pub fn from_bytes(bytes: &[u8]) -> Anyhow<Self> {
        Self::described(bytes, &[]).and_then(Self::that_runs)
    }

    fn that_runs(self) -> Anyhow<Self> {
        match &self.plan {
            Ok(_) => Ok(self),
            Err(reason) => bail!("{reason}"),
        }
    }

    fn described(bytes: &[u8], outputs: &[String]) -> Anyhow<Self> {
        let mut proto = ModelProto::decode(bytes).context("is no ONNX file, or is truncated")?;
        let opset = opset(&proto);
        let Some(graph) = proto.graph.as_mut() else {
            bail!("is truncated or no ONNX file: it holds no graph");
        };
        drop_weights(graph);
        graph.output.retain(|output| outputs.is_empty() || outputs.contains(&output.name));
        let inputs = graph.input.iter().map(spec).collect::<Anyhow<Vec<InputSpec>>>()?;
        ensure!(!inputs.is_empty(), "takes no input");
        ensure!(!graph.output.is_empty(), "gives no output");
        let elements: Vec<usize> = inputs.iter().map(InputSpec::elements).collect();
        bounded(&[elements.iter().sum()]).context("its inputs together")?;
        let names: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
        let mut model = Self {
            plan: opset.and_then(|opset| Plan::build(graph, &names, opset)).map_err(|error| format!("{error:#}")),
            outputs: graph.output.iter().map(output).collect(),
            inputs,
        };
        if let Err(error) = model.smoke_run() {
            model.plan = model.plan.and(Err(format!("{error:#}")));
        }
        Ok(model)
    }

    /// Runs the model once: some of what it cannot do shows only then.
    fn smoke_run(&self) -> Anyhow<()> {
        let with = |whole: i64| {
            let tensors: Anyhow<Vec<Tensor>> = self.inputs.iter().map(|input| input.dummy_input(whole)).collect();
            self.evaluate(&tensors?).map(|_| ()).context("does not run on candle")
        };
        // Whole numbers may be places, of which the first is always there, or what is divided by.
        with(0).or_else(|error| with(1).map_err(|_| error))
    }
}

fn read(path: &Path, parse: impl FnOnce(&[u8]) -> Anyhow<Model>) -> Result<Model> {
    let bytes = std::fs::read(path).context("cannot be read");
    bytes.and_then(|bytes| parse(&bytes)).with_context(|| format!("the model {}", path.display())).fatal()
}

/// The names of the outputs of an ONNX file.
pub fn output_names(onnx: &[u8]) -> Anyhow<Vec<String>> {
    let proto = ModelProto::decode(onnx).context("is no ONNX file, or is truncated")?;
    let graph = proto.graph.context("is truncated or no ONNX file: it holds no graph")?;
    Ok(graph.output.into_iter().map(|output| output.name).collect())
}

/// The version of ONNX's own operators that the model is written in.
pub(super) fn opset(proto: &ModelProto) -> Anyhow<i64> {
    let of_onnx = proto.opset_import.iter().find(|opset| matches!(opset.domain.as_str(), "" | "ai.onnx"));
    let version = of_onnx.context("is truncated or no ONNX file: it names no opset")?.version;
    let (first, last) = (OPSETS.start(), OPSETS.end());
    ensure!(OPSETS.contains(&version), "is written in opset {version}: {first} to {last} are known");
    Ok(version)
}

/// Old exporters list the weights among the inputs as well.
pub(super) fn drop_weights(graph: &mut GraphProto) {
    let weights: std::collections::HashSet<_> = graph.initializer.iter().map(|weight| weight.name.as_str()).collect();
    graph.input.retain(|input| !weights.contains(input.name.as_str()));
}

/// What an input takes. A batch dimension without a size is a batch of one.
pub(super) fn spec(input: &ValueInfoProto) -> Anyhow<InputSpec> {
    let name = &input.name;
    let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|r#type| r#type.value.as_ref())
    else {
        bail!("the input {name:?} is no tensor");
    };
    let dtype = dtype(tensor.elem_type).with_context(|| format!("the input {name:?}"))?;
    let Some(shape) = &tensor.shape else {
        bail!("the input {name:?} has no shape: export the model with one");
    };
    let sizes = shape.dim.iter().enumerate().map(|(at, dim)| {
        size(dim)
            .or((at == 0).then_some(1))
            .ok_or_else(|| anyhow!("dimension {at} of the input {name:?} has no fixed size: export the model with one"))
    });
    let sizes = sizes.collect::<Anyhow<Vec<_>>>()?;
    bounded(&sizes).with_context(|| format!("the input {name:?}"))?;
    Ok(InputSpec::new(name.clone(), sizes, dtype))
}

/// What the model says of an output.
fn output(output: &ValueInfoProto) -> OutputSpec {
    let r#type = output.r#type.as_ref().and_then(|r#type| r#type.value.as_ref());
    let tensor = match r#type {
        Some(type_proto::Value::TensorType(tensor)) => Some(tensor),
        _ => None,
    };
    let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
    let sizes = shape
        .and_then(|shape| shape.dim.iter().enumerate().map(|(at, dim)| size(dim).or((at == 0).then_some(1))).collect());
    let element = tensor.and_then(|tensor| DataType::try_from(tensor.elem_type).ok());
    let is_integer = element.is_some_and(|element| {
        use DataType::{Bool, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64};
        matches!(element, Bool | Int8 | Int16 | Int32 | Int64 | Uint8 | Uint16 | Uint32 | Uint64)
    });
    OutputSpec { name: output.name.clone(), shape: sizes, is_integer }
}

/// A dimension's size, if it has one; some exporters write 0 or −1 for "any".
fn size(dim: &Dimension) -> Option<usize> {
    match dim.value {
        Some(DimValue(size)) => usize::try_from(size).ok().filter(|size| *size > 0),
        _ => None,
    }
}
