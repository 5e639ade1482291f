//! What a graph takes and gives: sizes are written out, outputs that are not wanted are cut, and none is there twice.

use std::collections::HashSet;

use anyhow::{Context as _, Result, bail, ensure};
use candle_onnx::onnx::tensor_shape_proto::Dimension;
use candle_onnx::onnx::tensor_shape_proto::dimension::Value::{DimParam, DimValue};
use candle_onnx::onnx::{GraphProto, NodeProto, TensorShapeProto, ValueInfoProto, type_proto};

use super::facts::Facts;
use crate::model::graph::dependencies;
use crate::model::input::InputSpec;

/// An output of which nothing but its name is said.
pub(super) fn unnamed_shape(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.to_owned(), ..ValueInfoProto::default() }
}

/// Leaves these outputs only, in the order of the model.
pub(super) fn select_outputs(graph: &mut GraphProto, wanted: &[String], changes: &mut Vec<String>) -> Result<()> {
    let there: Vec<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    let unknown: Vec<&String> = wanted.iter().filter(|name| !there.contains(name)).collect();
    ensure!(unknown.is_empty(), "the model has no output {unknown:?}: its outputs are {there:?}");
    ensure!(!wanted.is_empty(), "no output is wanted: the model's are {there:?}");
    graph.output.retain(|output| wanted.contains(&output.name));
    changes.extend(there.iter().filter(|name| !wanted.contains(name)).map(|name| format!("output {name:?}: left out")));
    Ok(())
}

/// Drops the nodes and weights that no output needs.
pub(super) fn cut(graph: &mut GraphProto) {
    let mut needed: HashSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    loop {
        let before = needed.len();
        for node in graph.node.iter().rev() {
            if makes(node, &needed) {
                needed.extend(dependencies(node));
            }
        }
        if needed.len() == before {
            break;
        }
    }
    graph.node.retain(|node| makes(node, &needed));
    graph.initializer.retain(|weight| needed.contains(&weight.name));
}

fn makes(node: &NodeProto, needed: &HashSet<String>) -> bool {
    node.output.iter().any(|output| needed.contains(output))
}

/// Writes the sizes of inputs where the model leaves them open.
pub(super) fn fix_sizes(graph: &mut GraphProto, inputs: &[InputSpec], changes: &mut Vec<String>) -> Result<()> {
    for (input, spec) in graph.input.iter_mut().zip(inputs) {
        let Some(shape) = shape_of(input) else { bail!("the input {:?} has no shape", spec.name) };
        for (dim, size) in shape.dim.iter_mut().zip(&spec.shape) {
            let size = i64::try_from(*size).context("a dimension is too large")?;
            if dim.value != Some(DimValue(size)) {
                changes.push(format!("input {:?}: its dimension {} is {size}", spec.name, said(dim)));
                *dim = fixed(size);
            }
        }
    }
    Ok(())
}

/// What the model says of a dimension that it leaves open.
fn said(dim: &Dimension) -> String {
    match &dim.value {
        Some(DimParam(name)) => format!("{name:?}"),
        Some(DimValue(size)) => size.to_string(),
        None => "without a size".to_owned(),
    }
}

fn fixed(size: i64) -> Dimension {
    Dimension { value: Some(DimValue(size)), ..Dimension::default() }
}

fn shape_of(value: &mut ValueInfoProto) -> Option<&mut TensorShapeProto> {
    match value.r#type.as_mut()?.value.as_mut()? {
        type_proto::Value::TensorType(tensor) => tensor.shape.as_mut(),
        _ => None,
    }
}

/// Writes the shapes of outputs, and drops what is said of the values between: exporters leave it as it was for other sizes.
pub(super) fn state_shapes(graph: &mut GraphProto, facts: &Facts) {
    for output in &mut graph.output {
        let Ok(dims) = facts.shape(&output.name).map(<[usize]>::to_vec) else { continue };
        let Some(type_proto::Value::TensorType(tensor)) =
            output.r#type.as_mut().and_then(|r#type| r#type.value.as_mut())
        else {
            continue;
        };
        tensor.shape = Some(TensorShapeProto { dim: dims.into_iter().map(|size| fixed(size as i64)).collect() });
    }
    graph.value_info.clear();
}

/// EZKL takes nodes of one name for one node, and a node for the input of its name (tract, in 23.0.5: "Translating node").
pub(super) fn separate_nodes(graph: &mut GraphProto, changes: &mut Vec<String>) {
    let mut taken: HashSet<String> = graph.input.iter().map(|input| input.name.clone()).collect();
    for (at, node) in graph.node.iter_mut().enumerate() {
        if node.name.is_empty() || taken.insert(node.name.clone()) {
            continue;
        }
        let name = format!("circuit/node/{at}");
        changes.push(format!("{} (node {:?}): named {name:?}, because its name is taken", node.op_type, node.name));
        taken.insert(name.clone());
        node.name = name;
    }
}

/// EZKL takes neither an output that is an input nor two that are one value under two names. The first becomes a node of its own, the
/// others name that value again.
pub(super) fn separate_outputs(graph: &mut GraphProto, facts: &Facts, changes: &mut Vec<String>) {
    let inputs: HashSet<String> = graph.input.iter().map(|input| input.name.clone()).collect();
    let mut first: Vec<((String, Vec<usize>), String)> = Vec::new();
    let mut added = Vec::new();
    for output in &mut graph.output {
        let shape = facts.shape(&output.name).map(<[usize]>::to_vec).unwrap_or_default();
        let source = (source(&graph.node, &output.name), shape);
        if let Some((_, earlier)) = first.iter().find(|(known, _)| *known == source) {
            if *earlier != output.name {
                changes.push(format!("output {:?}: {earlier:?} once more, which it is", output.name));
                output.name.clone_from(earlier);
            }
            continue;
        }
        if inputs.contains(&output.name) {
            let name = format!("circuit/output/{}", output.name);
            changes.push(format!("output {:?}: Identity of the input of that name", output.name));
            added.push(NodeProto {
                op_type: "Identity".to_owned(),
                name: name.clone(),
                input: vec![output.name.clone()],
                output: vec![name.clone()],
                ..NodeProto::default()
            });
            output.name = name;
        }
        first.push((source, output.name.clone()));
    }
    graph.node.extend(added);
}

/// Operators that change nothing, or nothing but the shape.
const SAME_ELEMENTS: [&str; 6] = ["Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"];

/// The value whose elements an output has.
fn source(nodes: &[NodeProto], name: &str) -> String {
    let mut name = name.to_owned();
    while let Some(node) = nodes.iter().find(|node| node.output.first() == Some(&name)) {
        if !SAME_ELEMENTS.contains(&node.op_type.as_str()) || node.input.is_empty() {
            break;
        }
        name.clone_from(&node.input[0]);
    }
    name
}
