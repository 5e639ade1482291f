//! `circuit.onnx`: what EZKL compiles, written out of `model.onnx`. EZKL reads some of ONNX otherwise than ONNX means it, without a word;
//! here each such operator becomes ones that it computes as ONNX says, or is refused. What EZKL reads rightly stays as it is, so that the
//! verification key does, too.
//!
//! A file of rules is a family of operators; what EZKL 23.0.5 does with each was found by running it beside ONNX Runtime.

mod activation;
mod arithmetic;
mod axes;
mod cast;
mod choice;
mod claimed;
mod conv;
mod facts;
mod guard;
mod mask;
mod movement;
mod norm;
mod pool;
mod precision;
mod product;
mod recurrent;
mod reduce;
mod refused;
mod resize;
mod scale;
mod select;
mod signature;
mod site;
mod unroll;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use candle_onnx::onnx::{GraphProto, ModelProto, NodeProto};
use prost::Message as _;

use super::budget::Budget;
use super::load::{drop_weights, opset, spec};
use super::node::{Node, name_of};
pub use axes::{has_lost_axis, hold_axes, hold_places};
pub use claimed::claimed_operators;
use facts::Facts;
pub use recurrent::write_out_layers;
use site::{Replacement, Site, encoded};

/// What EZKL compiles.
#[derive(Debug)]
pub struct CircuitOnnx {
    /// An ONNX file.
    pub bytes: Vec<u8>,
    /// A line for each change: the operator, the node, and what became of it.
    pub rewritten: Vec<String>,
}

/// What takes a node's place: the values of its outputs, and what is said of it.
struct Change {
    values: Vec<String>,
    what: &'static str,
}

impl Change {
    fn of(value: String, what: &'static str) -> Result<Option<Self>> {
        Self::of_all(vec![value], what)
    }

    /// Outputs that are not wanted may be empty.
    fn of_all(values: Vec<String>, what: &'static str) -> Result<Option<Self>> {
        Ok(Some(Self { values, what }))
    }
}

/// Looks at a node: `None` if EZKL computes it as ONNX says.
type Rule = fn(&Site, &mut Replacement) -> Result<Option<Change>>;

/// The rules of one file.
type Family = &'static [(&'static str, Rule)];

const FAMILIES: &[Family] = &[
    activation::RULES,
    arithmetic::RULES,
    cast::RULES,
    choice::RULES,
    conv::RULES,
    movement::RULES,
    norm::RULES,
    pool::RULES,
    product::RULES,
    recurrent::RULES,
    reduce::RULES,
    refused::RULES,
    resize::RULES,
    select::RULES,
];

static RULES: LazyLock<BTreeMap<&'static str, Rule>> =
    LazyLock::new(|| FAMILIES.iter().copied().flatten().copied().collect());

/// Of constants alone these are computed as ONNX says.
const COMPUTED_BEFORE: [&str; 10] =
    ["Cast", "Clip", "Div", "Equal", "Gather", "Max", "Mul", "Pow", "ReduceMean", "Where"];

/// Operators with graphs inside.
const WITH_GRAPHS: [&str; 3] = ["If", "Loop", "Scan"];

/// Rounds of a loop, and steps of a recurrence, that are written out at most.
const MAX_STEPS: usize = 512;

/// The circuit's ONNX of a model. `outputs` are the names of those to keep; all if nothing is said.
///
/// # Errors
/// All that cannot be rewritten, each with operator, node and the way out; a model that candle cannot run; an output that is not there.
pub fn write(model: &[u8], outputs: Option<&[String]>) -> Result<CircuitOnnx> {
    let mut proto = ModelProto::decode(model).context("is no ONNX file, or is truncated")?;
    let opset = opset(&proto)?;
    let graph = proto.graph.as_mut().context("is truncated or no ONNX file: it holds no graph")?;
    let mut rewritten = Vec::new();
    drop_weights(graph);
    if let Some(wanted) = outputs {
        signature::select_outputs(graph, wanted, &mut rewritten)?;
    }
    signature::cut(graph);
    precision::to_single(graph, &mut rewritten)?;
    let inputs = graph.input.iter().map(spec).collect::<Result<Vec<_>>>()?;
    signature::fix_sizes(graph, &inputs, &mut rewritten)?;
    let mut facts = Facts::of(graph, &inputs, opset)?;
    let mut depth = 0;
    while graph.node.iter().any(|node| WITH_GRAPHS.contains(&node.op_type.as_str())) {
        depth += 1;
        let mut pairs = Vec::new();
        rewrite(graph, &mut rewritten, |node| unroll::written_out(node, &facts, opset, depth, &mut pairs))?;
        signature::cut(graph);
        facts = Facts::of(graph, &inputs, opset)?;
        unroll::check(&pairs, &facts)?;
    }
    let changes = rewritten.len();
    scale::raise(graph, &facts, &mut rewritten)?;
    mask::raise(graph, &facts, &mut rewritten)?;
    if rewritten.len() > changes {
        facts = Facts::of(graph, &inputs, opset)?;
    }
    rewrite(graph, &mut rewritten, |node| replaced(node, &facts, opset))?;
    signature::separate_outputs(graph, &facts, &mut rewritten);
    signature::separate_nodes(graph, &mut rewritten);
    if rewritten.is_empty() {
        return Ok(CircuitOnnx { bytes: model.to_vec(), rewritten });
    }
    signature::cut(graph);
    signature::state_shapes(graph, &facts);
    Ok(CircuitOnnx { bytes: proto.encode_to_vec(), rewritten })
}

/// A circuit's ONNX, read once more, and what is known of it.
fn read_again(circuit: &[u8]) -> Result<(ModelProto, Facts, i64)> {
    let mut proto = ModelProto::decode(circuit).context("is no ONNX file, or is truncated")?;
    let opset = opset(&proto)?;
    let graph = proto.graph.as_mut().context("it holds no graph")?;
    signature::cut(graph);
    let inputs = graph.input.iter().map(spec).collect::<Result<Vec<_>>>()?;
    let facts = Facts::of(graph, &inputs, opset)?;
    Ok((proto, facts, opset))
}

/// What takes a node's place, and what is said of it.
type Replaced = Option<(Replacement, &'static str)>;

/// Puts into each node's place what `replaced` has for it.
///
/// # Errors
/// All nodes that it refuses, each with operator, name and reason.
fn rewrite(
    graph: &mut GraphProto,
    rewritten: &mut Vec<String>,
    mut replaced: impl FnMut(&NodeProto) -> Result<Replaced>,
) -> Result<()> {
    let mut refused = Vec::new();
    let mut nodes = Vec::new();
    for node in std::mem::take(&mut graph.node) {
        let label = format!("{} (node {:?})", node.op_type, name_of(&node));
        match replaced(&node) {
            Ok(None) => nodes.push(node),
            Ok(Some((replacement, what))) => {
                rewritten.push(format!("{label}: {what}"));
                nodes.extend(replacement.nodes);
                graph.initializer.extend(replacement.weights);
            }
            Err(reason) => refused.push(format!("{label}: {reason:#}")),
        }
    }
    graph.node = nodes;
    ensure!(
        refused.is_empty(),
        "EZKL cannot compute what the model says, so no circuit is made: {}",
        refused.join("; ")
    );
    Ok(())
}

/// What takes the place of a node, if EZKL reads it otherwise.
fn replaced(node: &NodeProto, facts: &Facts, opset: i64) -> Result<Replaced> {
    RULES.get(node.op_type.as_str()).map_or(Ok(None), |rule| replaced_by(*rule, node, facts, opset))
}

fn replaced_by(rule: Rule, node: &NodeProto, facts: &Facts, opset: i64) -> Result<Replaced> {
    let budget = Budget::new();
    let site = Site { node: Node::new(node, opset, &budget), facts };
    let mut replacement = Replacement::new(node, opset);
    let change = match rule(&site, &mut replacement) {
        Ok(None) => return Ok(None),
        // What is known is computed before EZKL reads it, where an operator is.
        Ok(Some(_)) if facts.constant(site.output()).is_some() && COMPUTED_BEFORE.contains(&site.operator()) => {
            return Ok(None);
        }
        _ if facts.constant(site.output()).is_some() => {
            return Ok(Some((constants(node, facts)?, "the constant that it is")));
        }
        Ok(Some(change)) => change,
        Err(reason) => return Err(reason),
    };
    replacement.call_all(&change.values, &node.output);
    Ok(Some((replacement, change.what)))
}

fn constants(node: &NodeProto, facts: &Facts) -> Result<Replacement> {
    let mut replacement = Replacement::new(node, 0);
    for output in node.output.iter().filter(|name| !name.is_empty()) {
        let value = facts.constant(output).context("it is no constant")?;
        replacement.weights.push(encoded(output, value)?);
    }
    Ok(replacement)
}

#[cfg(test)]
mod tests;
