//! Circuits know one kind of floats: double and half precision become single.

use anyhow::{Context as _, Result, ensure};
use candle_core::{DType, Device, Tensor};
use candle_onnx::onnx::tensor_proto::{DataLocation, DataType};
use candle_onnx::onnx::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto};

use super::site::encoded;
use crate::model::tensor::{elements, tensor};
use crate::model::weights;

/// Attributes that name a type.
const TYPES: [&str; 2] = ["to", "dtype"];

/// Writes single precision into inputs, outputs, weights and attributes.
///
/// # Errors
/// A weight that single precision cannot hold, by its name.
pub(super) fn to_single(graph: &mut GraphProto, changes: &mut Vec<String>) -> Result<()> {
    for (what, values) in [("input", &mut graph.input), ("output", &mut graph.output)] {
        for value in values.iter_mut() {
            if let Some(was) = retype(value) {
                changes.push(format!("{what} {:?}: float instead of {was}", value.name));
            }
        }
    }
    graph.value_info.iter_mut().for_each(|value| {
        retype(value);
    });
    let mut weights = 0;
    for weight in &mut graph.initializer {
        weights += usize::from(convert(weight)?);
    }
    if weights > 0 {
        changes.push(format!("weights: {weights} are float instead of double or half, rounded to 24 bits"));
    }
    for node in &mut graph.node {
        attributes(node, changes)?;
    }
    Ok(())
}

fn is_other(element: i32) -> bool {
    matches!(DataType::try_from(element), Ok(DataType::Double | DataType::Float16 | DataType::Bfloat16))
}

/// The type that it had, if that was another kind of float.
fn retype(value: &mut ValueInfoProto) -> Option<&'static str> {
    let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|r#type| r#type.value.as_mut())
    else {
        return None;
    };
    if !is_other(tensor.elem_type) {
        return None;
    }
    let was = match DataType::try_from(tensor.elem_type) {
        Ok(DataType::Double) => "double",
        Ok(DataType::Bfloat16) => "bfloat16",
        _ => "float16",
    };
    tensor.elem_type = DataType::Float as i32;
    Some(was)
}

fn attributes(node: &mut NodeProto, changes: &mut Vec<String>) -> Result<()> {
    let (operator, name) = (node.op_type.clone(), crate::model::node::name_of(node));
    for attribute in &mut node.attribute {
        let changed = single(attribute).with_context(|| format!("{operator} (node {name:?})"))?;
        if changed {
            changes.push(format!("{operator} (node {name:?}): float instead of double or half"));
        }
        if let Some(graph) = attribute.g.as_mut() {
            to_single(graph, changes)?;
        }
    }
    Ok(())
}

fn single(attribute: &mut AttributeProto) -> Result<bool> {
    if let Some(tensor) = attribute.t.as_mut() {
        return convert(tensor);
    }
    let element = i32::try_from(attribute.i).unwrap_or_default();
    let names_other = TYPES.contains(&attribute.name.as_str()) && is_other(element);
    if names_other {
        attribute.i = DataType::Float as i64;
    }
    Ok(names_other)
}

fn convert(proto: &mut TensorProto) -> Result<bool> {
    if !is_other(proto.data_type) {
        return Ok(false);
    }
    let name = proto.name.clone();
    let value = if proto.data_type == DataType::Double as i32 { weights::named(proto)? } else { half(proto)? };
    let single = value.to_dtype(DType::F32)?;
    let finite = elements::<f32>(&single)?
        .iter()
        .zip(elements::<f64>(&value.to_dtype(DType::F64)?)?)
        .all(|(single, exact)| single.is_finite() || !exact.is_finite());
    ensure!(finite, "the weight {name:?} holds a number that float cannot: 3.4e38 is the largest");
    *proto = encoded(&name, &single)?;
    Ok(true)
}

/// The float side knows no half precision, so its bits are read here.
fn half(proto: &TensorProto) -> Result<Tensor> {
    let inside = proto.data_location() != DataLocation::External;
    ensure!(inside, "the weight {:?} is in another file: save the model with its weights inside", proto.name);
    let bits: Vec<u8> = if proto.raw_data.is_empty() {
        proto.int32_data.iter().flat_map(|one| (*one as u16).to_le_bytes()).collect()
    } else {
        proto.raw_data.to_vec()
    };
    let dims: Vec<usize> = proto.dims.iter().map(|dim| *dim as usize).collect();
    let count: usize = dims.iter().product();
    ensure!(bits.len() == 2 * count, "the weight {:?} has not as many numbers as its shape", proto.name);
    if count == 0 {
        return tensor::<f32>(Vec::new(), dims);
    }
    let dtype = if proto.data_type == DataType::Float16 as i32 { DType::F16 } else { DType::BF16 };
    Ok(Tensor::from_raw_buffer(&bits, dtype, &dims, &Device::Cpu)?.to_dtype(DType::F32)?)
}
