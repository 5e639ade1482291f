//! Graphs inside nodes: `https://onnx.ai/onnx/operators/onnx__If.html`, `onnx__Loop.html`, `onnx__Scan.html`.
//!
//! A graph inside a node sees the names around it. What it takes from there comes as further inputs of the node, after its
//! own, in the order of `captured`.

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use candle_onnx::onnx::tensor_shape_proto::dimension::Value::DimValue;
use candle_onnx::onnx::{ValueInfoProto, type_proto};

use super::{Family, Kernel, Node, multi_output_kernel};
use crate::model::budget::Budget;
use crate::model::graph::captured;
use crate::model::node::Args;
use crate::model::plan::Plan;
use crate::model::tensor::{axis, bounded, dim, dtype, each_type, elements, tensor};

pub(super) const OPS: Family = &[("If", if_op), ("Loop", loop_op), ("Scan", scan)];

/// The most rounds of a loop: a circuit unrolls them all.
const MAX_ROUNDS: i64 = 1 << 16;

/// The plan of a graph inside a node. Its inputs are the graph's own, then all that the node captures.
fn inner(node: &Node, name: &str) -> Result<Plan> {
    let graph = node.graph(name)?;
    let own = graph.input.iter().map(|input| input.name.clone());
    let names: Vec<String> = own.chain(captured(node.proto())).collect();
    Plan::build_within(graph, &names, node.opset, node.budget).with_context(|| format!("its graph {name:?}"))
}

/// What the node captures, after its own inputs.
fn captured_values(args: &Args, own: usize) -> Result<Vec<Tensor>> {
    (own..args.inputs.len()).map(|at| args.get(at).cloned()).collect()
}

pub(in crate::model) fn truth(x: &Tensor) -> Result<bool> {
    match each_type!(x.dtype(), T => elements::<T>(x)?.iter().map(|one| *one != T::default()).collect::<Vec<_>>())
        .as_slice()
    {
        [one] => Ok(*one),
        several => bail!("its condition must be one truth, and has {}", several.len()),
    }
}

fn if_op(node: &Node) -> Result<Kernel> {
    let (yes, no) = (inner(node, "then_branch")?, inner(node, "else_branch")?);
    let own = node.inputs();
    multi_output_kernel(move |args| {
        let chosen = if truth(args.get(0)?)? { &yes } else { &no };
        chosen.run_within(captured_values(args, own)?, args.budget)
    })
}

/// Rounds of a graph with state: what it carries on, and what it leaves behind in each round. Where the node is given no
/// condition, the one that the body gives does not count: `https://onnx.ai/onnx/operators/onnx__Loop.html`.
fn loop_op(node: &Node) -> Result<Kernel> {
    let body = inner(node, "body")?;
    let (own, states) = (node.inputs(), node.inputs().saturating_sub(2));
    let conditional = node.proto().input.get(1).is_some_and(|name| !name.is_empty());
    let none: Vec<_> = node.graph("body")?.output.iter().skip(1 + states).map(empty).collect();
    multi_output_kernel(move |args| {
        let most = args.int(0)?.unwrap_or(MAX_ROUNDS + 1);
        let mut going = args.optional(1).map_or(Ok(true), truth)?;
        let mut carried: Vec<Tensor> = (2..own).map(|at| args.get(at).cloned()).collect::<Result<_>>()?;
        let around = captured_values(args, own)?;
        let mut held = 0;
        let mut left: Vec<Vec<Tensor>> = vec![Vec::new(); body.outputs().saturating_sub(1 + states)];
        let mut round = 0;
        while going && round < most {
            ensure!(round < MAX_ROUNDS, "its loop has more than {MAX_ROUNDS} rounds");
            let condition = tensor(vec![1u8], [])?;
            let inputs = [vec![tensor(vec![round], [])?, condition], carried, around.clone()].concat();
            let mut outputs = body.run_within(inputs, args.budget)?.into_iter();
            going = truth(&outputs.next().context("its body gives no condition")?)? || !conditional;
            carried = outputs.by_ref().take(states).collect();
            hold_instead(&mut held, &carried, args.budget)?;
            keep(&mut left, outputs, args.budget)?;
            round += 1;
        }
        let left = left.iter().zip(&none).map(|(all, none)| match none {
            Some((dims, dtype)) if all.is_empty() => Ok(Tensor::zeros(dims.as_slice(), *dtype, &Device::Cpu)?),
            _ => stacked(all, 0),
        });
        let left = left.collect::<Result<Vec<_>>>()?;
        Ok([carried, left].concat())
    })
}

/// The shape and type of what no round leaves behind, where the body states those of one round.
fn empty(output: &ValueInfoProto) -> Option<(Vec<usize>, DType)> {
    let Some(type_proto::Value::TensorType(tensor)) = output.r#type.as_ref()?.value.as_ref() else { return None };
    let sizes = tensor.shape.as_ref()?.dim.iter().map(|dim| match dim.value {
        Some(DimValue(size)) => usize::try_from(size).ok(),
        _ => None,
    });
    let dims: Vec<usize> = std::iter::once(Some(0)).chain(sizes).collect::<Option<_>>()?;
    bounded(&dims).ok()?;
    Some((dims, dtype(tensor.elem_type).ok()?))
}

/// The states of a round take the place of those of the one before.
fn hold_instead(held: &mut usize, states: &[Tensor], budget: &Budget) -> Result<()> {
    budget.release(*held);
    *held = states.iter().map(Tensor::elem_count).sum();
    budget.hold(*held)
}

/// Keeps what a round leaves behind, until all rounds' are joined.
fn keep(left: &mut [Vec<Tensor>], outputs: impl Iterator<Item = Tensor>, budget: &Budget) -> Result<()> {
    for (all, one) in left.iter_mut().zip(outputs) {
        let alike = all.first().is_none_or(|first| first.dims() == one.dims());
        ensure!(alike, "its rounds give outputs of different shapes");
        budget.hold(one.elem_count())?;
        all.push(one);
    }
    Ok(())
}

/// What was left in each round, joined along a new axis.
fn stacked(all: &[Tensor], along: usize) -> Result<Tensor> {
    let Some(first) = all.first() else { bail!("its loop has no round, so its outputs have no shape") };
    bounded(&[first.elem_count(), all.len()])?;
    Ok(Tensor::stack(all, along)?)
}

/// One round for each slice of its inputs.
struct Scan {
    body: Plan,
    inputs: usize,
    scanned: usize,
    /// For each input: the axis, and whether it is walked backwards.
    walks: Vec<(i64, bool)>,
    /// The same of the outputs.
    leaves: Vec<(i64, bool)>,
}

/// For each of what a Scan walks ("input") or leaves ("output"): the axis, and whether it goes backwards.
pub(in crate::model) fn walks(node: &Node, kind: &str, count: usize) -> Result<Vec<(i64, bool)>> {
    let axes = node.ints(&format!("scan_{kind}_axes"))?.unwrap_or_else(|| vec![0; count]);
    let backwards = node.ints(&format!("scan_{kind}_directions"))?.unwrap_or_else(|| vec![0; count]);
    ensure!(axes.len() == count && backwards.len() == count, "its axes or directions are not {count}");
    Ok(axes.into_iter().zip(backwards).map(|(axis, backwards)| (axis, backwards != 0)).collect())
}

fn scan(node: &Node) -> Result<Kernel> {
    ensure!(node.opset >= 9, "Scan before opset 9, which has a batch of its own, is not supported");
    let scanned = dim(node.int("num_scan_inputs")?.context("its attribute \"num_scan_inputs\" is missing")?)?;
    let body = inner(node, "body")?;
    let states = node.inputs().checked_sub(scanned).context("it has fewer inputs than it scans")?;
    let left = body.outputs().checked_sub(states).context("its body gives fewer outputs than it has states")?;
    let (walks, leaves) = (walks(node, "input", scanned)?, walks(node, "output", left)?);
    let scan = Scan { body, inputs: node.inputs(), scanned, walks, leaves };
    multi_output_kernel(move |args| scan.run(args))
}

impl Scan {
    fn run(&self, args: &Args) -> Result<Vec<Tensor>> {
        let states = self.inputs - self.scanned;
        let mut carried: Vec<Tensor> = (0..states).map(|at| args.get(at).cloned()).collect::<Result<_>>()?;
        let walked = self.walks.iter().enumerate().map(|(at, (along, backwards))| {
            let x = args.get(states + at)?;
            Ok((x, axis(*along, x.rank())?, *backwards))
        });
        let walked = walked.collect::<Result<Vec<_>>>()?;
        let (first, along, _) = walked.first().context("it scans no input")?;
        let rounds = first.dims()[*along];
        ensure!(walked.iter().all(|(x, along, _)| x.dims()[*along] == rounds), "it scans axes of different lengths");
        ensure!(rounds as i64 <= MAX_ROUNDS, "its loop has more than {MAX_ROUNDS} rounds");
        let around = captured_values(args, self.inputs)?;
        let mut held = 0;
        let mut left: Vec<Vec<Tensor>> = vec![Vec::new(); self.leaves.len()];
        for round in 0..rounds {
            let slices = walked.iter().map(|(x, along, backwards)| {
                let at = if *backwards { rounds - 1 - round } else { round };
                Ok(x.narrow(*along, at, 1)?.squeeze(*along)?)
            });
            let inputs = [carried, slices.collect::<Result<_>>()?, around.clone()].concat();
            let mut outputs = self.body.run_within(inputs, args.budget)?.into_iter();
            carried = outputs.by_ref().take(states).collect();
            hold_instead(&mut held, &carried, args.budget)?;
            keep(&mut left, outputs, args.budget)?;
        }
        let left = left.iter_mut().zip(&self.leaves).map(|(all, (along, backwards))| {
            if *backwards {
                all.reverse();
            }
            stacked(all, axis(*along, all.first().map_or(1, |one| one.rank() + 1))?)
        });
        let left = left.collect::<Result<Vec<_>>>()?;
        Ok([carried, left].concat())
    }
}
