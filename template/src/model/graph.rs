//! The order in which a graph's nodes can run, and which of them are needed.

use std::collections::{HashMap, HashSet, VecDeque};

use anyhow::{Result, bail, ensure};
use candle_onnx::onnx::{GraphProto, NodeProto};

use super::node::name_of;

/// How many names an error lists.
const SHOWN: usize = 10;

/// The names that a node takes from around it: its inputs, then what the graphs inside it capture.
pub fn dependencies(node: &NodeProto) -> Vec<String> {
    node.input.iter().cloned().chain(captured(node)).collect()
}

/// The names that the graphs inside a node take from outside, each once.
pub fn captured(node: &NodeProto) -> Vec<String> {
    let mut names = Vec::new();
    for graph in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
        names.extend(free_names(graph));
    }
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// The names that a graph uses and does not make.
fn free_names(graph: &GraphProto) -> Vec<String> {
    let inputs = graph.input.iter().map(|input| &input.name);
    let weights = graph.initializer.iter().map(|weight| &weight.name);
    let made: HashSet<&String> = inputs.chain(weights).chain(graph.node.iter().flat_map(|node| &node.output)).collect();
    let outputs = graph.output.iter().map(|output| output.name.clone());
    let used = graph.node.iter().flat_map(dependencies).chain(outputs);
    used.filter(|name| !name.is_empty() && !made.contains(name)).collect()
}

/// The nodes that the outputs need, each after those that it takes from. `given` are the names that are there before.
///
/// # Errors
/// Two nodes of the same output, an input that nothing gives, nodes that wait for each other.
pub fn order<'a>(graph: &'a GraphProto, given: &HashSet<&str>) -> Result<Vec<&'a NodeProto>> {
    let nodes = &graph.node;
    let makers = producers(nodes, given)?;
    let takes: Vec<Vec<String>> = nodes.iter().map(dependencies).collect();
    let needed = needed(graph, &makers, &takes, given)?;
    // Kahn's algorithm: a node is ready when all that it waits for have run.
    let mut waiting: Vec<usize> = vec![0; nodes.len()];
    let mut followers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for at in (0..nodes.len()).filter(|at| needed[*at]) {
        for maker in takes[at].iter().filter_map(|name| makers.get(name.as_str())) {
            waiting[at] += 1;
            followers[*maker].push(at);
        }
    }
    let mut ready: VecDeque<usize> = (0..nodes.len()).filter(|at| needed[*at] && waiting[*at] == 0).collect();
    let mut ordered = Vec::new();
    while let Some(at) = ready.pop_front() {
        ordered.push(&nodes[at]);
        for follower in &followers[at] {
            waiting[*follower] -= 1;
            if waiting[*follower] == 0 {
                ready.push_back(*follower);
            }
        }
    }
    match (0..nodes.len()).find(|at| waiting[*at] > 0) {
        None => Ok(ordered),
        Some(stuck) => bail!("its nodes wait for each other: {}", cycle(nodes, &makers, &takes, &waiting, stuck)),
    }
}

/// Which node makes each name.
fn producers<'a>(nodes: &'a [NodeProto], given: &HashSet<&str>) -> Result<HashMap<&'a str, usize>> {
    let mut makers = HashMap::new();
    for (at, node) in nodes.iter().enumerate() {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            let again = makers.insert(name.as_str(), at).is_some() || given.contains(name.as_str());
            ensure!(!again, "the node {:?} ({}) makes {name:?}, which is there already", name_of(node), node.op_type);
        }
    }
    Ok(makers)
}

/// Whether the outputs need each node, found from the outputs backwards.
fn needed(
    graph: &GraphProto,
    makers: &HashMap<&str, usize>,
    takes: &[Vec<String>],
    given: &HashSet<&str>,
) -> Result<Vec<bool>> {
    let mut needed = vec![false; graph.node.len()];
    let mut open = Vec::new();
    for output in &graph.output {
        match makers.get(output.name.as_str()) {
            Some(maker) => open.push(*maker),
            None if given.contains(output.name.as_str()) => {}
            None => bail!("no node makes its output {:?}", output.name),
        }
    }
    let mut missing = Vec::new();
    while let Some(at) = open.pop() {
        if std::mem::replace(&mut needed[at], true) {
            continue;
        }
        for name in takes[at].iter().filter(|name| !name.is_empty() && !given.contains(name.as_str())) {
            match makers.get(name.as_str()) {
                Some(maker) => open.push(*maker),
                None => missing.push(format!("{name:?} (for {:?})", name_of(&graph.node[at]))),
            }
        }
    }
    ensure!(missing.is_empty(), "neither a weight nor a node nor an input is {}", shown(&missing));
    Ok(needed)
}

/// The names of nodes that wait for each other, found by walking backwards from one that never ran.
fn cycle(
    nodes: &[NodeProto],
    makers: &HashMap<&str, usize>,
    takes: &[Vec<String>],
    waiting: &[usize],
    stuck: usize,
) -> String {
    let before = |at: usize| {
        let makers = takes[at].iter().filter_map(|name| makers.get(name.as_str()).copied());
        makers.into_iter().find(|maker| waiting[*maker] > 0).unwrap_or(at)
    };
    let before: Vec<usize> = (0..nodes.len()).map(before).collect();
    // After as many steps as there are nodes, the walk is inside the circle.
    let inside = (0..nodes.len()).fold(stuck, |at, _| before[at]);
    let mut names = vec![name_of(&nodes[inside])];
    let mut at = before[inside];
    while at != inside {
        names.push(name_of(&nodes[at]));
        at = before[at];
    }
    shown(&names)
}

fn shown(names: &[String]) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let listed = names[..names.len().min(SHOWN)].join(", ");
    if more == 0 { listed } else { format!("{listed}, and {more} more") }
}
