//! An ONNX file → a model that is known to run: what it takes is fixed, its weights are parsed once, all of its ops are
//! ones that candle has, and it has run once.

use std::collections::HashMap;
use std::panic::catch_unwind;
use std::path::Path;

use anyhow::{Context as _, Result as Anyhow, anyhow, bail, ensure};
use candle_core::Tensor;
use candle_onnx::onnx::tensor_proto::{DataLocation, DataType};
use candle_onnx::onnx::tensor_shape_proto::Dimension;
use candle_onnx::onnx::tensor_shape_proto::dimension::Value::DimValue;
use candle_onnx::onnx::type_proto;
use candle_onnx::onnx::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use prost::Message;

use super::input::InputSpec;
use super::{Model, ops};
use crate::fault::{Classify, Result};
use crate::panics;

impl Model {
    /// Reads and checks the model. Whatever is wrong with it, no request could be answered: that is for a person.
    pub fn load(path: &Path) -> Result<Self> {
        let read = || {
            let bytes = std::fs::read(path).context("cannot be read")?;
            Self::from_bytes(&bytes)
        };
        read().with_context(|| format!("the model {}", path.display())).stop()
    }

    /// The model out of an ONNX file's bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Anyhow<Self> {
        let mut proto = ModelProto::decode(bytes).context("is no ONNX file, or is truncated")?;
        ensure!(!proto.opset_import.is_empty(), "is truncated or no ONNX file: it names no opset");
        let Some(graph) = proto.graph.as_mut() else {
            bail!("is truncated or no ONNX file: it holds no graph");
        };
        let unsupported = ops::unsupported(graph);
        ensure!(unsupported.is_empty(), "uses what candle cannot evaluate: {}", unsupported.join("; "));
        let constants = take_constants(graph)?;
        graph.input.retain(|input| !constants.contains_key(&input.name));
        let inputs: Anyhow<Vec<InputSpec>> = graph.input.iter().map(spec).collect();
        let outputs: Vec<_> = graph.output.iter().map(|output| output.name.clone()).collect();
        ensure!(!graph.input.is_empty(), "takes no input");
        ensure!(!outputs.is_empty(), "gives no output");
        // The shapes are ours to check from here on: a batch of any size is a batch of one.
        graph.input.iter_mut().for_each(|input| input.r#type = None);

        let model = Self { proto, constants, inputs: inputs?, outputs };
        model.try_out()?;
        Ok(model)
    }

    /// Runs the model once: some of what candle lacks shows only then.
    fn try_out(&self) -> Anyhow<()> {
        let tensors: Anyhow<Vec<Tensor>> = self.inputs.iter().map(InputSpec::trial).collect();
        self.evaluate(&tensors?).map(|_| ()).context("does not run on candle")
    }
}

/// The weights as tensors, out of the graph: candle would parse them again for every row.
fn take_constants(graph: &mut GraphProto) -> Anyhow<HashMap<String, Tensor>> {
    let mut constants = HashMap::with_capacity(graph.initializer.len());
    for initializer in std::mem::take(&mut graph.initializer) {
        let tensor = tensor_of(&initializer).with_context(|| format!("the weight {:?}", initializer.name))?;
        constants.insert(initializer.name, tensor);
    }
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        match (constant_of(&node), node.output.first()) {
            (Some(value), Some(output)) => {
                let tensor = tensor_of(value).with_context(|| format!("the constant {:?}", ops::name_of(&node)))?;
                constants.insert(output.clone(), tensor);
            }
            _ => nodes.push(node),
        }
    }
    graph.node = nodes;
    Ok(constants)
}

fn constant_of(node: &NodeProto) -> Option<&TensorProto> {
    let constant = node.op_type == "Constant";
    let value = node.attribute.iter().find(|attribute| attribute.name == "value");
    value.filter(|_| constant)?.t.as_ref()
}

fn tensor_of(proto: &TensorProto) -> Anyhow<Tensor> {
    ensure!(
        proto.data_location() != DataLocation::External,
        "is in another file: save the model with its weights inside"
    );
    let dims: Anyhow<Vec<usize>> =
        proto.dims.iter().map(|dim| usize::try_from(*dim).map_err(|_| anyhow!("has a dimension of {dim}"))).collect();
    let dims = dims?;
    // Too few bytes make candle panic.
    let parsed = catch_unwind(|| candle_onnx::eval::get_tensor(proto, &proto.name));
    let tensor = parsed.map_err(|panic| anyhow!("cannot be parsed: {}", panics::message(&*panic)))??;
    // candle gives 32-bit integers without their shape.
    Ok(tensor.reshape(dims)?)
}

/// What an input takes. A batch dimension without a size is a batch of one.
fn spec(input: &ValueInfoProto) -> Anyhow<InputSpec> {
    let name = &input.name;
    let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|r#type| r#type.value.as_ref())
    else {
        bail!("the input {name:?} is no tensor");
    };
    let dtype = DataType::try_from(tensor.elem_type).ok();
    let Some(dtype) = dtype.and_then(candle_onnx::dtype) else {
        bail!("the input {name:?} holds elements of a type that candle does not have: {dtype:?}");
    };
    let Some(shape) = &tensor.shape else {
        bail!("the input {name:?} has no shape: export the model with one");
    };
    let sizes = shape.dim.iter().enumerate().map(|(at, dim)| {
        size(dim)
            .or((at == 0).then_some(1))
            .ok_or_else(|| anyhow!("dimension {at} of the input {name:?} has no fixed size: export the model with one"))
    });
    Ok(InputSpec::new(name.clone(), sizes.collect::<Anyhow<_>>()?, dtype))
}

/// A dimension's size, if it has one; some exporters write 0 or −1 for "any".
fn size(dim: &Dimension) -> Option<usize> {
    match dim.value {
        Some(DimValue(size)) => usize::try_from(size).ok().filter(|size| *size > 0),
        _ => None,
    }
}
