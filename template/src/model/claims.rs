//! Operators whose outputs the prover claims and the circuit enforces.

use anyhow::{Context as _, Result};
use candle_onnx::onnx::{GraphProto, ModelProto};
use prost::Message as _;

/// EZKL 23.0.5.
const CLAIMED: &[&str] = &["Div", "Reciprocal", "Sqrt"];

/// The operators of a model whose outputs the prover claims, sorted.
pub fn claimed_operators(onnx: &[u8]) -> Result<Vec<String>> {
    let proto = ModelProto::decode(onnx).context("is no ONNX file, or is truncated")?;
    let mut found = Vec::new();
    collect(proto.graph.as_ref().context("holds no graph")?, &mut found);
    found.sort();
    found.dedup();
    Ok(found)
}

fn collect(graph: &GraphProto, found: &mut Vec<String>) {
    for node in &graph.node {
        if CLAIMED.contains(&node.op_type.as_str()) {
            found.push(node.op_type.clone());
        }
        for attribute in &node.attribute {
            attribute.g.iter().chain(&attribute.graphs).for_each(|graph| collect(graph, found));
        }
    }
}
