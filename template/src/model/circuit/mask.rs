//! Masks: constants far below zero that are added to the input of a Softmax, or chosen for it. No range check of EZKL reaches −1e9, and
//! what is a thousand below the others has no share either.

use anyhow::Result;
use candle_onnx::onnx::{GraphProto, NodeProto};

use super::facts::Facts;
use super::site::encoded;
use crate::model::node::name_of;
use crate::model::tensor::{floats, tensor_of};

/// A constant this far below zero is a mask.
const MASK: f64 = -1000.0;

/// Brings masks nearer that nothing but a Softmax takes.
pub(super) fn raise(graph: &mut GraphProto, facts: &Facts, changes: &mut Vec<String>) -> Result<()> {
    let softmaxes = graph.node.iter().filter(|node| node.op_type == "Softmax");
    let found: Vec<(String, usize)> = softmaxes.flat_map(|node| masks(facts, &node.input[0])).collect();
    for (output, at) in found {
        let Some(node) = graph.node.iter_mut().find(|node| node.output[0] == output) else { continue };
        let Some(mask) = facts.constant(&node.input[at]) else { continue };
        let name = format!("circuit/{output}/mask");
        let near = floats(mask)?.into_iter().map(|one| one.max(MASK)).collect();
        graph.initializer.push(encoded(&name, &tensor_of(near, mask.dims(), mask.dtype())?)?);
        node.input[at] = name;
        changes.push(format!(
            "{} (node {:?}): its mask is {MASK}: EZKL's range checks end before what is lower",
            node.op_type,
            name_of(node)
        ));
    }
    Ok(())
}

/// The nodes, by their output, and which of their inputs is a mask, on the way to a value that nothing else takes.
fn masks(facts: &Facts, name: &str) -> Vec<(String, usize)> {
    let is_taken_once = facts.takers(name).len() == 1 && !facts.is_output(name);
    let Some(maker) = facts.maker(name).filter(|_| is_taken_once) else { return Vec::new() };
    let branches: &[usize] = match maker.op_type.as_str() {
        "Add" => &[0, 1],
        "Where" => &[1, 2],
        "Identity" | "Reshape" | "Transpose" | "Unsqueeze" => &[0],
        _ => &[],
    };
    branches
        .iter()
        .flat_map(|at| {
            if is_mask(facts, maker, *at) { vec![(name.to_owned(), *at)] } else { masks(facts, &maker.input[*at]) }
        })
        .collect()
}

fn is_mask(facts: &Facts, node: &NodeProto, at: usize) -> bool {
    let numbers = facts.constant(&node.input[at]).and_then(|constant| floats(constant).ok());
    ["Add", "Where"].contains(&node.op_type.as_str()) && numbers.is_some_and(|all| all.iter().any(|one| *one <= MASK))
}

/// True if a mask is among what this value is made of.
pub(super) fn is_masked(facts: &Facts, name: &str) -> bool {
    !masks(facts, name).is_empty()
}
