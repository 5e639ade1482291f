//! Operators whose output EZKL claims, and the circuit enforces: where the claim misses by a tie, a witness inside all ranges cannot be
//! proven, and only `mock` knows.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use candle_onnx::onnx::{GraphProto, ModelProto};
use prost::Message as _;

/// Of EZKL 23.0.5: `recip`, `rsqrt`, `percent` and the lookups of `ln` and `atanh` in its src/circuit/ops, and scatters, whose claimed
/// result is looked up. Each was tried on every value of a small scale: 1/x fails at x = 2^(scale + 1), what follows a root on a range
/// of values, Log at what is rounded to 0, Atanh at −1, a scatter at a place that is named twice. Acosh, Pow, Softplus and Sqrt never
/// failed and are here because the next EZKL may compute them so.
const CLAIMED: [&str; 25] = [
    "Acosh",
    "Atanh",
    "Div",
    "Einsum",
    "GroupNormalization",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "Log",
    "LogSoftmax",
    "LpNormalization",
    "MeanVarianceNormalization",
    "Mish",
    "Pow",
    "RMSNormalization",
    "Reciprocal",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
];

/// The operators of the circuit whose output is claimed, sorted, each once.
///
/// # Errors
/// No ONNX file.
pub fn claimed_operators(circuit: &[u8]) -> Result<Vec<String>> {
    let model = ModelProto::decode(circuit).context("the circuit's ONNX is no ONNX file, or is truncated")?;
    let mut found = BTreeSet::new();
    model.graph.iter().for_each(|graph| collect(graph, &mut found));
    Ok(found.into_iter().collect())
}

fn collect(graph: &GraphProto, found: &mut BTreeSet<String>) {
    for node in &graph.node {
        if CLAIMED.contains(&node.op_type.as_str()) {
            found.insert(node.op_type.clone());
        }
        node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()).for_each(|graph| collect(graph, found));
    }
}
