//! A graph as it runs: steps in order, on tensors in numbered places.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use candle_core::Tensor;
use candle_onnx::onnx::{GraphProto, NodeProto};

use super::budget::Budget;
use super::graph::{dependencies, order};
use super::lower::{Kernel, UNKNOWN, lower};
use super::node::{Args, Node, name_of};
use super::tensor::tensor;
use super::weights;
use crate::panics;

/// How many nodes of one complaint an error lists.
const SHOWN: usize = 10;

/// A graph that is ready to run.
pub struct Plan {
    constants: Vec<Tensor>,
    steps: Vec<Step>,
    /// How many values a run has, its inputs first.
    values: usize,
    inputs: usize,
    outputs: Vec<Source>,
}

/// Where a tensor is.
#[derive(Debug, Clone, Copy)]
enum Source {
    Constant(usize),
    Value(usize),
}

struct Step {
    /// Operator and node, for errors.
    label: String,
    kernel: Kernel,
    inputs: Vec<Option<Source>>,
    outputs: Vec<Option<usize>>,
    /// Values that nobody takes after this step.
    last_used: Vec<usize>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|step| &step.label)).finish()
    }
}

impl Plan {
    /// The plan of a graph with these inputs. Weights among the inputs keep their values.
    ///
    /// # Errors
    /// All that cannot run, with the nodes that it is in; a graph that is no graph.
    pub fn build(graph: &GraphProto, inputs: &[String], opset: i64) -> Result<Self> {
        Self::build_within(graph, inputs, opset, &Budget::new())
    }

    /// The same of a graph inside a node.
    pub fn build_within(graph: &GraphProto, inputs: &[String], opset: i64, budget: &Budget) -> Result<Self> {
        ensure!(graph.sparse_initializer.is_empty(), "it has sparse weights, which are not supported");
        let mut building = PlanBuilder::new(inputs, budget);
        let mut refused = UnsupportedNodes::default();
        for weight in &graph.initializer {
            let tensor = match weights::named(weight) {
                Ok(tensor) => tensor,
                Err(reason) => {
                    refused.weights.push(format!("{reason:#}"));
                    // In its place, so that the nodes are looked at all the same.
                    tensor::<f32>(Vec::new(), [0])?
                }
            };
            building.constant(&weight.name, tensor);
        }
        let given: HashSet<&str> = building.places.keys().map(String::as_str).collect();
        let nodes = order(graph, &given)?;
        for node in nodes {
            match lowered(node, opset, budget) {
                Ok(kernel) => building.step(node, kernel)?,
                Err(reason) => refused.add_node(node, &reason),
            }
        }
        refused.check()?;
        building.finish(graph)
    }

    /// How many outputs it has.
    pub fn outputs(&self) -> usize {
        self.outputs.len()
    }

    /// The outputs, of inputs in the order that they were named in.
    pub fn run(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        self.run_within(inputs, &Budget::new())
    }

    /// The same of a graph inside a node.
    pub fn run_within(&self, inputs: Vec<Tensor>, budget: &Budget) -> Result<Vec<Tensor>> {
        ensure!(inputs.len() == self.inputs, "it takes {} inputs, and is given {}", self.inputs, inputs.len());
        let mut values: Vec<Option<Tensor>> = inputs.into_iter().map(Some).collect();
        values.resize(self.values, None);
        budget.meanwhile(|| {
            self.steps
                .iter()
                .try_for_each(|step| self.run_step(step, &mut values, budget).with_context(|| step.label.clone()))
        })?;
        let outputs = self.outputs.iter().map(|source| self.tensor(&values, *source).cloned());
        outputs.collect::<Option<_>>().context("an output was not computed")
    }

    fn tensor<'a>(&'a self, values: &'a [Option<Tensor>], source: Source) -> Option<&'a Tensor> {
        match source {
            Source::Constant(place) => self.constants.get(place),
            Source::Value(place) => values[place].as_ref(),
        }
    }

    fn run_step(&self, step: &Step, values: &mut [Option<Tensor>], budget: &Budget) -> Result<()> {
        let inputs: Vec<Option<&Tensor>> =
            step.inputs.iter().map(|source| source.and_then(|source| self.tensor(values, source))).collect();
        let wanted = step.outputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let made = call(&step.kernel, &Args { inputs: &inputs, budget }, wanted)?;
        for (place, tensor) in step.outputs.iter().zip(made) {
            if let Some(place) = place {
                budget.hold(tensor.elem_count())?;
                values[*place] = Some(tensor);
            }
        }
        for place in &step.last_used {
            // The inputs are not of the budget.
            let left = values[*place].take().filter(|_| *place >= self.inputs);
            budget.release(left.map_or(0, |tensor| tensor.elem_count()));
        }
        Ok(())
    }
}

/// Runs a kernel. Where candle lacks something it panics; it shares nothing with us that a panic could leave half done.
fn call(kernel: &Kernel, args: &Args, outputs: usize) -> Result<Vec<Tensor>> {
    let guarded = || catch_unwind(AssertUnwindSafe(|| kernel(args)));
    let made =
        args.budget.meanwhile(|| guarded().map_err(|panic| anyhow!("panicked: {}", panics::message(&*panic)))?)?;
    args.budget.spend_step(made.iter().map(Tensor::elem_count).sum())?;
    ensure!(made.len() >= outputs, "it has {outputs} outputs, and {} are computed", made.len());
    Ok(made)
}

fn lowered(node: &NodeProto, opset: i64, budget: &Budget) -> Result<Kernel> {
    if !matches!(node.domain.as_str(), "" | "ai.onnx") {
        bail!(UNKNOWN);
    }
    lower(&Node::new(node, opset, budget))
}

/// `Elu` or `com.microsoft.Gelu`.
fn operator(node: &NodeProto) -> String {
    match node.domain.as_str() {
        "" | "ai.onnx" => node.op_type.clone(),
        foreign => format!("{foreign}.{}", node.op_type),
    }
}

/// What cannot run: weights, and what nodes ask for, with the nodes that do, in the order in which it was found.
#[derive(Default)]
struct UnsupportedNodes {
    weights: Vec<String>,
    found: Vec<(String, Vec<String>)>,
    places: HashMap<String, usize>,
}

impl UnsupportedNodes {
    fn add_node(&mut self, node: &NodeProto, reason: &anyhow::Error) {
        let complaint = format!("{}: {reason:#}", operator(node));
        let place = *self.places.entry(complaint.clone()).or_insert(self.found.len());
        if place == self.found.len() {
            self.found.push((complaint, Vec::new()));
        }
        self.found[place].1.push(name_of(node));
    }

    fn check(&self) -> Result<()> {
        let found =
            self.found.iter().map(|(complaint, nodes)| format!("{complaint} (nodes: {})", join_truncated(nodes, ", ")));
        let found: Vec<String> = found.collect();
        let nodes = (!found.is_empty()).then(|| format!("uses what cannot run: {}", found.join("; ")));
        let weights = (!self.weights.is_empty()).then(|| join_truncated(&self.weights, "; "));
        match (weights, nodes) {
            (None, None) => Ok(()),
            (Some(one), None) | (None, Some(one)) => bail!(one),
            (Some(weights), Some(nodes)) => bail!("{weights}; and it {nodes}"),
        }
    }
}

/// The first of these, and how many there are besides.
fn join_truncated(all: &[String], between: &str) -> String {
    let listed = all[..all.len().min(SHOWN)].join(between);
    let more = all.len().saturating_sub(SHOWN);
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}

/// A plan while its steps are added.
struct PlanBuilder<'a> {
    plan: Plan,
    places: HashMap<String, Source>,
    budget: &'a Budget,
}

impl<'a> PlanBuilder<'a> {
    fn new(inputs: &[String], budget: &'a Budget) -> Self {
        let places = inputs.iter().enumerate().map(|(at, name)| (name.clone(), Source::Value(at))).collect();
        let plan = Plan {
            constants: Vec::new(),
            steps: Vec::new(),
            values: inputs.len(),
            inputs: inputs.len(),
            outputs: Vec::new(),
        };
        Self { plan, places, budget }
    }

    fn constant(&mut self, name: &str, tensor: Tensor) {
        self.places.insert(name.to_owned(), Source::Constant(self.plan.constants.len()));
        self.plan.constants.push(tensor);
    }

    /// Adds a step, or what it computes if that never changes.
    fn step(&mut self, node: &NodeProto, kernel: Kernel) -> Result<()> {
        let needed = dependencies(node);
        let inputs: Vec<Option<Source>> =
            needed.iter().map(|name| if name.is_empty() { None } else { self.places.get(name).copied() }).collect();
        if let Some(made) = self.fold(&kernel, &inputs, node) {
            for (name, tensor) in node.output.iter().zip(made).filter(|(name, _)| !name.is_empty()) {
                self.constant(name, tensor);
            }
            return Ok(());
        }
        let mut outputs = Vec::with_capacity(node.output.len());
        for name in &node.output {
            outputs.push((!name.is_empty()).then_some(self.plan.values));
            if !name.is_empty() {
                self.places.insert(name.clone(), Source::Value(self.plan.values));
                self.plan.values += 1;
            }
        }
        let label = format!("{} (node {:?})", operator(node), name_of(node));
        self.plan.steps.push(Step { label, kernel, inputs, outputs, last_used: Vec::new() });
        Ok(())
    }

    /// What a node computes of constants alone. What fails here may never run: it is left to a run to say so.
    fn fold(&self, kernel: &Kernel, inputs: &[Option<Source>], node: &NodeProto) -> Option<Vec<Tensor>> {
        let constants = inputs.iter().map(|source| match source {
            None => Some(None),
            Some(Source::Constant(place)) => self.plan.constants.get(*place).map(Some),
            Some(Source::Value(_)) => None,
        });
        let constants: Vec<Option<&Tensor>> = constants.collect::<Option<_>>()?;
        let args = Args { inputs: &constants, budget: self.budget };
        let made = call(kernel, &args, node.output.len()).ok()?;
        self.budget.may_fold(made.iter().map(Tensor::elem_count).sum()).then_some(made)
    }

    fn finish(mut self, graph: &GraphProto) -> Result<Plan> {
        for output in &graph.output {
            let source = self.places.get(&output.name).copied();
            self.plan.outputs.push(source.with_context(|| format!("no node makes its output {:?}", output.name))?);
        }
        let mut kept: HashSet<usize> = self.plan.outputs.iter().filter_map(|source| value(*source)).collect();
        for step in self.plan.steps.iter_mut().rev() {
            let taken = step.inputs.iter().flatten().filter_map(|source| value(*source));
            let made = step.outputs.iter().flatten().copied();
            step.last_used = taken.chain(made).filter(|place| kept.insert(*place)).collect();
        }
        Ok(self.plan)
    }
}

fn value(source: Source) -> Option<usize> {
    match source {
        Source::Constant(_) => None,
        Source::Value(place) => Some(place),
    }
}
