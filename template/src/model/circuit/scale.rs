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
const AT_SCALE_OF_INPUT: [&str; 42] = [
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "AveragePool",
    "Ceil",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
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
    "Round",
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
/// Operators that bring a scale of their own, or the largest that there is. All others keep that of what they are given.
const GIVING: [&str; 13] = [
    "BatchNormalization",
    "CumSum",
    "GroupNormalization",
    "HardSigmoid",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LeakyRelu",
    "MeanVarianceNormalization",
    "RMSNormalization",
    "Reciprocal",
    "Softsign",
    "ThresholdedRelu",
];
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

/// True if such operators take this value.
pub(super) fn is_for_a_table(facts: &Facts, name: &str) -> bool {
    facts.takers(name).iter().any(|(operator, _)| AT_SCALE_OF_INPUT.contains(&operator.as_str()))
}

/// True if these are whole numbers to EZKL, whatever ONNX calls them, or such numbers divided by a power of two, which gives them no more
/// of a scale than that power.
pub(super) fn has_none(facts: &Facts, name: &str) -> bool {
    if !is_float(facts, name) {
        return facts.is_unscaled(name);
    }
    // A constant of floats has the scale of parameters, an input that of inputs.
    let Some(node) = facts.maker(name).filter(|_| facts.constant(name).is_none()) else { return false };
    let operator = node.op_type.as_str();
    if GIVING.contains(&operator) || AT_SCALE_OF_INPUT.contains(&operator) || divides_otherwise(facts, node) {
        return false;
    }
    let floats = node.input.iter().enumerate().filter(|(_, input)| is_float(facts, input));
    let scaled: Vec<&String> =
        floats.filter(|(at, input)| !is_neutral(facts, operator, *at, input)).map(|(_, input)| input).collect();
    match operator {
        "Cast" if scaled.is_empty() => node.input.first().is_some_and(|input| facts.is_unscaled(input)),
        "OneHot" | "Sign" | "Hardmax" => true,
        _ => !scaled.is_empty() && scaled.into_iter().all(|input| has_none(facts, input)),
    }
}

/// Quotients by what is computed have the largest scale; means of no power of two are products with a constant.
fn divides_otherwise(facts: &Facts, node: &NodeProto) -> bool {
    let size = |name: &str| facts.shape(name).map(|dims| dims.iter().product::<usize>()).unwrap_or(1);
    let count = || size(&node.input[0]) / size(&node.output[0]).max(1);
    match node.op_type.as_str() {
        "Div" => facts.constant(&node.input[1]).is_none(),
        "Mean" => !node.input.len().is_power_of_two(),
        "GlobalAveragePool" | "ReduceMean" => !count().is_power_of_two(),
        _ => false,
    }
}

/// A constant that leaves the scale as it is: zeros, and a factor, or a divisor, that only moves the point.
fn is_neutral(facts: &Facts, operator: &str, at: usize, name: &str) -> bool {
    let Some(all) = facts.constant(name).and_then(|constant| floats(constant).ok()) else { return false };
    let moves_the_point = |power: f64| power.fract() == 0.0 && power <= 0.0;
    match (operator, at, all.as_slice()) {
        ("Mul" | "PRelu", _, [only]) => *only == 0.0 || moves_the_point(only.log2()),
        ("Div", 1, [only]) => moves_the_point(-only.log2()),
        _ => all.iter().all(|one| *one == 0.0),
    }
}
