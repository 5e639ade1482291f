//! Axes that EZKL loses. Before it reads a model, tract moves and drops axes of one element, as far as operators let it; a product of
//! matrices behind an operator with places may then have an output axis that none of its inputs has, and EZKL reads wrong numbers for it.
//! A gather of all elements in their order costs nothing and lets no axis pass.

use std::collections::HashSet;

use anyhow::Result;
use candle_onnx::onnx::{GraphProto, NodeProto};
use prost::Message as _;

use super::facts::Facts;
use super::site::Replacement;
use super::{CircuitOnnx, Replaced, read_again, rewrite};

/// In the names of what is held already.
const HELD: &str = "held";

/// What tract makes products of.
const PRODUCTS: [&str; 3] = ["Einsum", "Gemm", "MatMul"];

/// Operators that keep an axis for the batch and one for channels before their places.
const WITH_PLACES: [&str; 7] =
    ["AveragePool", "Conv", "ConvTranspose", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "MaxPool"];

/// True if EZKL has lost an axis: the equation gives one that it is not given.
pub fn has_lost_axis(equation: &str) -> bool {
    equation.split_once("->").is_some_and(|(given, made)| made.chars().any(|axis| !given.contains(axis)))
}

/// A circuit's ONNX whose products keep their axes; as it is, where they are held already, or no operator with places stands behind a
/// product: what is lost then is an axis of one element at the edge of the model, and does no harm.
///
/// # Errors
/// What is no circuit's ONNX.
pub fn hold_axes(circuit: &[u8]) -> Result<CircuitOnnx> {
    let (mut proto, facts, opset) = read_again(circuit)?;
    let graph = proto.graph.get_or_insert_default();
    let mut rewritten = Vec::new();
    if !has_places_behind_a_product(graph, &facts) {
        return Ok(CircuitOnnx { bytes: circuit.to_vec(), rewritten });
    }
    rewrite(graph, &mut rewritten, |node| held(node, &facts, opset))?;
    Ok(CircuitOnnx { bytes: proto.encode_to_vec(), rewritten })
}

/// A circuit's ONNX in which what operators with places give goes through a gather: behind some of them tract drops axes, or takes an
/// addition for a convolution's own, and EZKL stops at a sum or a product that no longer fits.
///
/// # Errors
/// What is no circuit's ONNX.
pub fn hold_places(circuit: &[u8]) -> Result<CircuitOnnx> {
    let (mut proto, facts, opset) = read_again(circuit)?;
    let graph = proto.graph.get_or_insert_default();
    let mut rewritten = Vec::new();
    rewrite(graph, &mut rewritten, |node| with_held_output(node, &facts, opset))?;
    Ok(CircuitOnnx { bytes: proto.encode_to_vec(), rewritten })
}

/// An operator with places whose output goes through a gather, along its last axis of more than one element.
fn with_held_output(node: &NodeProto, facts: &Facts, opset: i64) -> Result<Replaced> {
    let [output] = node.output.as_slice() else { return Ok(None) };
    if !WITH_PLACES.contains(&node.op_type.as_str()) || facts.constant(output).is_some() {
        return Ok(None);
    }
    let dims = facts.shape(output)?;
    let Some(axis) = dims.iter().rposition(|size| *size > 1) else { return Ok(None) };
    let (mut to, mut kept) = (Replacement::of_kind(node, opset, HELD), node.clone());
    let whole = format!("{output}/{HELD}");
    kept.output = vec![whole.clone()];
    to.nodes.push(kept);
    let places: Vec<usize> = (0..dims[axis]).collect();
    let held = to.gather(&whole, &places, axis)?;
    to.call_all(&[held], &node.output);
    Ok(Some((to, "its output held: EZKL would not get past it")))
}

/// The nodes are in an order in which they can run.
fn has_places_behind_a_product(graph: &GraphProto, facts: &Facts) -> bool {
    let mut behind: HashSet<&str> = HashSet::new();
    for node in &graph.node {
        let is_behind = node.input.iter().any(|input| behind.contains(input.as_str()));
        if is_behind && WITH_PLACES.contains(&node.op_type.as_str()) {
            return true;
        }
        let is_product = PRODUCTS.contains(&node.op_type.as_str());
        if is_behind || is_product && node.output.first().is_some_and(|output| facts.constant(output).is_none()) {
            behind.extend(node.output.iter().map(String::as_str));
        }
    }
    false
}

/// A product whose computed inputs go through a gather, along their last axis of more than one element.
fn held(node: &NodeProto, facts: &Facts, opset: i64) -> Result<Replaced> {
    if !PRODUCTS.contains(&node.op_type.as_str()) {
        return Ok(None);
    }
    let (mut to, mut product) = (Replacement::of_kind(node, opset, HELD), node.clone());
    let is_free = |input: &&mut String| {
        !input.is_empty() && !input.contains(&format!("/{HELD}/")) && facts.constant(input).is_none()
    };
    for input in product.input.iter_mut().filter(is_free) {
        let dims = facts.shape(input)?;
        if let Some(axis) = dims.iter().rposition(|size| *size > 1) {
            let places: Vec<usize> = (0..dims[axis]).collect();
            *input = to.gather(input, &places, axis)?;
        }
    }
    if to.nodes.is_empty() {
        return Ok(None);
    }
    to.nodes.push(product);
    Ok(Some((to, "its axes held: EZKL would lose one of them")))
}
