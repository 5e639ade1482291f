//! The scale of whole numbers. EZKL computes tables, roots and averages at the scale of what they are given, and whole numbers that are
//! cast to floats have none: the sigmoid of a flag would be 0 or 1. A product with a float that is next to 1 gives them one.

use anyhow::Result;
use candle_core::{DType, Tensor};
use candle_onnx::onnx::{GraphProto, NodeProto};

use super::facts::Facts;
use super::site::{encoded, own_name};
use crate::model::node::name_of;
use crate::model::tensor::floats;

/// Operators whose output has the scale of their input.
const AT_SCALE_OF_INPUT: [&str; 39] = [
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "AveragePool",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "GRU",
    "Gelu",
    "GlobalLpPool",
    "HardSwish",
    "LSTM",
    "Log",
    "LogSoftmax",
    "LpNormalization",
    "LpPool",
    "Mish",
    "Pow",
    "RNN",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "Selu",
    "Sigmoid",
    "Sin",
    "Sinh",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
];
/// Operators that keep the scale of their first input.
const KEEPING_ONE: [&str; 24] = [
    "Abs",
    "Cast",
    "DepthToSpace",
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "MaxPool",
    "Neg",
    "Pad",
    "ReduceMax",
    "ReduceMin",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
];
/// Operators that bring all their inputs to one scale.
const KEEPING_ALL: [&str; 9] = ["Add", "Concat", "Max", "Mean", "Min", "Mul", "Sub", "Sum", "Where"];
/// The float that follows 1: EZKL rounds it to 1 at its scale. A product with 1 itself would be left out.
pub(super) const NEXT_TO_ONE: f32 = 1.0 + f32::EPSILON;

/// Gives a scale to what such operators are given, where it has none.
pub(super) fn raise(graph: &mut GraphProto, facts: &Facts, changes: &mut Vec<String>) -> Result<()> {
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut node in std::mem::take(&mut graph.node) {
        let label = format!("{} (node {:?})", node.op_type, name_of(&node));
        let given = node.input.first().cloned().unwrap_or_default();
        if AT_SCALE_OF_INPUT.contains(&node.op_type.as_str()) && has_none(facts, &given) && is_float(facts, &given) {
            let name = format!("circuit/{}/raised", own_name(&node));
            let factor = format!("{name}/factor");
            graph.initializer.push(encoded(&factor, &Tensor::new(NEXT_TO_ONE, &candle_core::Device::Cpu)?)?);
            node.input[0].clone_from(&name);
            nodes.push(NodeProto {
                op_type: "Mul".to_owned(),
                name: name.clone(),
                input: vec![given, factor],
                output: vec![name],
                ..NodeProto::default()
            });
            changes.push(format!(
                "{label}: of numbers with a scale: EZKL would round what it gives of whole numbers to whole numbers"
            ));
        }
        nodes.push(node);
    }
    graph.node = nodes;
    Ok(())
}

fn is_float(facts: &Facts, name: &str) -> bool {
    facts.dtype(name).is_ok_and(|dtype| dtype == DType::F32)
}

/// True if these are whole numbers to EZKL, whatever ONNX calls them.
pub(super) fn has_none(facts: &Facts, name: &str) -> bool {
    if !is_float(facts, name) {
        return facts.is_unscaled(name);
    }
    // A constant of floats has the scale of parameters; of zeros alone Max and Min make no use.
    let Some(node) = facts.maker(name).filter(|_| facts.constant(name).is_none()) else { return false };
    let inputs = node.input.iter().filter(|input| !input.is_empty());
    match node.op_type.as_str() {
        "Sign" | "OneHot" | "Hardmax" => true,
        "Where" => inputs.skip(1).all(|input| has_none(facts, input)),
        "Max" | "Min" => inputs.filter(|input| !is_zero(facts, input)).all(|input| has_none(facts, input)),
        operator if KEEPING_ALL.contains(&operator) => inputs.into_iter().all(|input| has_none(facts, input)),
        operator if KEEPING_ONE.contains(&operator) => node.input.first().is_some_and(|input| has_none(facts, input)),
        _ => false,
    }
}

fn is_zero(facts: &Facts, name: &str) -> bool {
    facts.constant(name).and_then(|constant| floats(constant).ok()).is_some_and(|all| all.iter().all(|one| *one == 0.0))
}
