//! Graphs inside nodes, written out: each round of a loop and each branch becomes nodes of the graph around it, which the rules of the
//! other files then look at. EZKL reads no If and no Loop; a Scan it refuses beside a Reshape, and takes states of one scale for those of
//! another.

use std::collections::HashMap;

use anyhow::{Result, bail, ensure};
use candle_core::{Device, Tensor};
use candle_onnx::onnx::{GraphProto, NodeProto, TensorProto};

use super::facts::Facts;
use super::site::{Replacement, Site, int};
use super::{Change, MAX_STEPS, Replaced};
use crate::model::budget::Budget;
use crate::model::lower::control::{truth, walks};
use crate::model::node::{Node, name_of};
use crate::model::tensor::{axis, dim, floats};
use crate::model::weights;

/// Values that take each other's place: what both branches of an If give.
type Pair = (String, String);

/// Writes out what stands in the node, but not what stands deeper, and adds what both branches of an If give.
///
/// # Errors
/// What depends on the input in a way that no circuit can follow.
pub(super) fn written_out(
    node: &NodeProto,
    facts: &Facts,
    opset: i64,
    depth: usize,
    pairs: &mut Vec<Pair>,
) -> Result<Replaced> {
    let budget = Budget::new();
    let site = Site { node: Node::new(node, opset, &budget), facts };
    let mut to = Replacement::of_kind(node, opset, &format!("inside {depth}"));
    let Change { values, what } = match node.op_type.as_str() {
        "If" => branches(&site, &mut to, pairs)?,
        "Loop" => rounds(&site, &mut to)?,
        "Scan" => scan(&site, &mut to)?,
        _ => return Ok(None),
    };
    to.call_all(&values, &node.output);
    Ok(Some((to, what)))
}

/// # Errors
/// Branches of different shapes: a circuit has fixed sizes.
pub(super) fn check(pairs: &[Pair], facts: &Facts) -> Result<()> {
    for (yes, no) in pairs {
        let (a, b) = (facts.shape(yes)?, facts.shape(no)?);
        ensure!(
            a == b,
            "EZKL cannot compute what the model says: the branches of an If give {a:?} and {b:?}, and a circuit has fixed sizes"
        );
    }
    Ok(())
}

/// Both branches, and a choice between what they give; the one that is taken, where that is known.
fn branches(site: &Site, to: &mut Replacement, pairs: &mut Vec<Pair>) -> Result<Change> {
    let condition = site.input(0)?;
    if let Some(known) = site.constant(0) {
        let taken = if truth(known)? { "then_branch" } else { "else_branch" };
        let values = inlined(site.node.graph(taken)?, &[], "taken", to)?;
        return Ok(Change { values, what: "the branch that is always taken" });
    }
    let yes = inlined(site.node.graph("then_branch")?, &[], "then", to)?;
    let no = inlined(site.node.graph("else_branch")?, &[], "else", to)?;
    let chosen = |(yes, no): (&String, &String)| to.op("Where", &[condition, yes, no], Vec::new());
    let values = yes.iter().zip(&no).map(chosen).collect();
    pairs.extend(yes.into_iter().zip(no));
    Ok(Change { values, what: "both branches, and Where: EZKL does not know it" })
}

fn rounds(site: &Site, to: &mut Replacement) -> Result<Change> {
    let body = site.node.graph("body")?;
    let Some(most) = site.constant(0).map(floats).transpose()?.and_then(|most| most.first().copied()) else {
        bail!("how many rounds it has depends on the input: give it a number of rounds that is fixed");
    };
    let mut count = (most.max(0.0)) as usize;
    if let Some(going) = site.optional(1) {
        let Some(known) = site.facts.constant(going) else {
            bail!("whether it runs depends on the input: use Where, or a number of rounds alone");
        };
        ensure!(
            ends_never(body, site),
            "when it ends depends on what it computes: use Where on its states, and a number of rounds alone"
        );
        count = if truth(known)? { count } else { 0 };
    }
    ensure!(count <= MAX_STEPS, "it has {count} rounds: a circuit writes out {MAX_STEPS} at most");
    let mut carried: Vec<String> =
        (2..site.node.proto().input.len()).map(|at| site.input(at).map(str::to_owned)).collect::<Result<_>>()?;
    let states = carried.len();
    let mut left = vec![Vec::new(); body.output.len().saturating_sub(1 + states)];
    let going = to.constant(&Tensor::new(1u8, &Device::Cpu)?)?;
    for round in 0..count {
        let number = to.constant(&Tensor::new(round as i64, &Device::Cpu)?)?;
        let given = [vec![number, going.clone()], carried].concat();
        let mut made = inlined(body, &given, &format!("round {round}"), to)?.into_iter().skip(1);
        carried = made.by_ref().take(states).collect();
        left.iter_mut().zip(made).for_each(|(all, one)| all.push(one));
    }
    let along = vec![(0, false); left.len()];
    carried.extend(stacked(left, &along, states, site, to)?);
    Ok(Change { values: carried, what: "its rounds written out: EZKL does not know it" })
}

fn scan(site: &Site, to: &mut Replacement) -> Result<Change> {
    let (node, body) = (&site.node, site.node.graph("body")?);
    ensure!(node.opset >= 9, "before opset 9 it has a batch of its own: export the model with a later opset");
    let inputs = node.proto().input.len();
    let scanned = dim(node.int("num_scan_inputs")?.unwrap_or_default())?;
    let states = inputs.saturating_sub(scanned);
    let mut walked = Vec::new();
    for (at, (along, backwards)) in walks(node, "input", scanned)?.into_iter().enumerate() {
        let along = axis(along, site.shape(states + at)?.len())?;
        walked.push((site.input(states + at)?, site.shape(states + at)?, along, backwards));
    }
    let count = walked.first().map_or(0, |(_, dims, along, _)| dims[*along]);
    ensure!(count <= MAX_STEPS, "it has {count} rounds: a circuit writes out {MAX_STEPS} at most");
    let mut carried: Vec<String> = (0..states).map(|at| site.input(at).map(str::to_owned)).collect::<Result<_>>()?;
    let leaves = walks(node, "output", body.output.len().saturating_sub(states))?;
    let mut left = vec![Vec::new(); leaves.len()];
    for round in 0..count {
        let mut given = carried;
        for (x, dims, along, backwards) in &walked {
            let slice = to.gather(x, &[if *backwards { count - 1 - round } else { round }], *along)?;
            let rest: Vec<usize> = [&dims[..*along], &dims[*along + 1..]].concat();
            given.push(to.reshape(&slice, &rest)?);
        }
        let mut made = inlined(body, &given, &format!("round {round}"), to)?.into_iter();
        carried = made.by_ref().take(states).collect();
        left.iter_mut().zip(made).for_each(|(all, one)| all.push(one));
    }
    carried.extend(stacked(left, &leaves, states, site, to)?);
    Ok(Change { values: carried, what: "its rounds written out: EZKL would ignore directions, and mix up scales" })
}

/// What each round left, along an axis of its own; from the last round on, if so.
fn stacked(
    left: Vec<Vec<String>>,
    along: &[(i64, bool)],
    states: usize,
    site: &Site,
    to: &mut Replacement,
) -> Result<Vec<String>> {
    let mut values = Vec::new();
    for (at, (mut all, (along, backwards))) in left.into_iter().zip(along).enumerate() {
        let name = site.node.proto().output.get(states + at).map_or("", String::as_str);
        if name.is_empty() {
            values.push(String::new());
            continue;
        }
        ensure!(!all.is_empty(), "it has no round, and its output {name:?} nothing to hold");
        let mut dims = site.facts.shape(name)?.to_vec();
        let along = axis(*along, dims.len())?;
        dims[along] = 1;
        if *backwards {
            all.reverse();
        }
        let slices = all.iter().map(|one| to.reshape(one, &dims)).collect::<Result<Vec<_>>>()?;
        let slices: Vec<&str> = slices.iter().map(String::as_str).collect();
        values.push(to.op("Concat", &slices, vec![int("axis", along as i64)]));
    }
    Ok(values)
}

/// The nodes of a graph inside the node, with names of their own; what its outputs are called then. `given` are the values of its inputs.
fn inlined(graph: &GraphProto, given: &[String], round: &str, to: &mut Replacement) -> Result<Vec<String>> {
    let prefix = format!("{}/{round}", to.prefix);
    let mut names: HashMap<String, String> =
        graph.input.iter().zip(given).map(|(input, given)| (input.name.clone(), given.clone())).collect();
    for weight in &graph.initializer {
        let mut own = weight.clone();
        own.name = format!("{prefix}/{}", weight.name);
        names.insert(weight.name.clone(), own.name.clone());
        to.weights.push(own);
    }
    for output in graph.node.iter().flat_map(|node| &node.output).filter(|name| !name.is_empty()) {
        names.insert(output.clone(), format!("{prefix}/{output}"));
    }
    for node in &graph.node {
        let mut own = node.clone();
        own.name = format!("{}/{round}", name_of(node));
        rename(&mut own, &names);
        to.nodes.push(own);
    }
    let called = |name: &String| names.get(name).unwrap_or(name).clone();
    Ok(graph.output.iter().map(|output| called(&output.name)).collect())
}

/// Gives values their new names, in the graphs inside the node too: there none may have a name of outside.
fn rename(node: &mut NodeProto, names: &HashMap<String, String>) {
    for name in node.input.iter_mut().chain(&mut node.output) {
        if let Some(new) = names.get(name) {
            name.clone_from(new);
        }
    }
    for graph in node.attribute.iter_mut().filter_map(|attribute| attribute.g.as_mut()) {
        graph.node.iter_mut().for_each(|inner| rename(inner, names));
        for output in &mut graph.output {
            if let Some(new) = names.get(&output.name) {
                output.name.clone_from(new);
            }
        }
    }
}

/// True if the loop's body never says that it ends: it passes its condition on, or says true.
fn ends_never(body: &GraphProto, site: &Site) -> bool {
    let (Some(given), Some(said)) = (body.input.get(1), body.output.first()) else { return false };
    let is_true = |known: &TensorProto| weights::named(known).and_then(|known| truth(&known)).unwrap_or(false);
    let mut name = said.name.as_str();
    while let Some(node) = body.node.iter().find(|node| node.output.iter().any(|output| output == name)) {
        match (node.op_type.as_str(), node.input.first()) {
            ("Identity" | "Cast", Some(input)) => name = input,
            ("Constant", _) => {
                let node = Node::new(node, site.node.opset, site.node.budget);
                return node.tensor("value").ok().flatten().is_some_and(is_true);
            }
            _ => return false,
        }
    }
    name == given.name || body.initializer.iter().any(|weight| weight.name == name && is_true(weight))
}
