//! A graph as it runs: steps in order, on tensors in numbered places.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use candle_core::Tensor;
use candle_onnx::onnx::{GraphProto, NodeProto};

use super::graph::{needs, order};
use super::lower::{Kernel, UNKNOWN, lower};
use super::node::{Args, Node, name_of};
use super::weights;
use crate::panics;

/// The most elements of all that is computed once, at load, from constants alone. More is computed at each run.
const MAX_FOLDED: usize = 1 << 22;
/// The most elements of all tensors that a run holds at once, besides the constants.
pub const MAX_HELD: usize = 1 << 26;
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
        ensure!(graph.sparse_initializer.is_empty(), "it has sparse weights, which are not supported");
        let mut building = Building::new(inputs);
        for weight in &graph.initializer {
            building.constant(&weight.name, weights::named(weight)?);
        }
        let given: HashSet<&str> = building.places.keys().map(String::as_str).collect();
        let nodes = order(graph, &given)?;
        let mut refused = Refused::default();
        for node in nodes {
            match lowered(node, opset) {
                Ok(kernel) => building.step(node, kernel)?,
                Err(reason) => refused.add(node, &reason),
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
        ensure!(inputs.len() == self.inputs, "it takes {} inputs, and is given {}", self.inputs, inputs.len());
        let mut values: Vec<Option<Tensor>> = inputs.into_iter().map(Some).collect();
        let mut held: usize = values.iter().flatten().map(Tensor::elem_count).sum();
        values.resize(self.values, None);
        for step in &self.steps {
            let made = self.run_step(step, &values).with_context(|| step.label.clone())?;
            for (place, tensor) in step.outputs.iter().zip(made) {
                if let Some(place) = place {
                    held += tensor.elem_count();
                    values[*place] = Some(tensor);
                }
            }
            ensure!(
                held <= MAX_HELD,
                "{}: the model holds {held} elements at once, {MAX_HELD} are the most",
                step.label
            );
            for place in &step.last_used {
                held -= values[*place].take().map_or(0, |tensor| tensor.elem_count());
            }
        }
        let outputs = self.outputs.iter().map(|source| self.tensor(&values, *source).cloned());
        outputs.collect::<Option<_>>().context("an output was not computed")
    }

    fn tensor<'a>(&'a self, values: &'a [Option<Tensor>], source: Source) -> Option<&'a Tensor> {
        match source {
            Source::Constant(place) => self.constants.get(place),
            Source::Value(place) => values[place].as_ref(),
        }
    }

    fn run_step(&self, step: &Step, values: &[Option<Tensor>]) -> Result<Vec<Tensor>> {
        let inputs: Vec<Option<&Tensor>> =
            step.inputs.iter().map(|source| source.and_then(|source| self.tensor(values, source))).collect();
        call(&step.kernel, &inputs, step.outputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1))
    }
}

/// Runs a kernel. Where candle lacks something it panics; it shares nothing with us that a panic could leave half done.
fn call(kernel: &Kernel, inputs: &[Option<&Tensor>], outputs: usize) -> Result<Vec<Tensor>> {
    let made = catch_unwind(AssertUnwindSafe(|| kernel(&Args(inputs))));
    let made = made.map_err(|panic| anyhow!("panicked: {}", panics::message(&*panic)))??;
    ensure!(made.len() >= outputs, "it has {outputs} outputs, and {} are computed", made.len());
    Ok(made)
}

fn lowered(node: &NodeProto, opset: i64) -> Result<Kernel> {
    if !matches!(node.domain.as_str(), "" | "ai.onnx") {
        bail!(UNKNOWN);
    }
    lower(&Node::new(node, opset))
}

/// `Elu` or `com.microsoft.Gelu`.
fn operator(node: &NodeProto) -> String {
    match node.domain.as_str() {
        "" | "ai.onnx" => node.op_type.clone(),
        foreign => format!("{foreign}.{}", node.op_type),
    }
}

/// What cannot run, with the nodes that it is in, in the order in which it was found.
#[derive(Default)]
struct Refused {
    found: Vec<(String, Vec<String>)>,
    places: HashMap<String, usize>,
}

impl Refused {
    fn add(&mut self, node: &NodeProto, reason: &anyhow::Error) {
        let complaint = format!("{}: {reason:#}", operator(node));
        let place = *self.places.entry(complaint.clone()).or_insert(self.found.len());
        if place == self.found.len() {
            self.found.push((complaint, Vec::new()));
        }
        self.found[place].1.push(name_of(node));
    }

    fn check(&self) -> Result<()> {
        let all = self.found.iter().map(|(complaint, nodes)| {
            let listed = nodes[..nodes.len().min(SHOWN)].join(", ");
            let more = nodes.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{complaint} (nodes: {listed}{more})")
        });
        let all: Vec<String> = all.collect();
        ensure!(all.is_empty(), "uses what cannot run: {}", all.join("; "));
        Ok(())
    }
}

/// A plan while its steps are added.
struct Building {
    plan: Plan,
    places: HashMap<String, Source>,
    /// How many elements were computed at load.
    folded: usize,
}

impl Building {
    fn new(inputs: &[String]) -> Self {
        let places = inputs.iter().enumerate().map(|(at, name)| (name.clone(), Source::Value(at))).collect();
        let plan = Plan {
            constants: Vec::new(),
            steps: Vec::new(),
            values: inputs.len(),
            inputs: inputs.len(),
            outputs: Vec::new(),
        };
        Self { plan, places, folded: 0 }
    }

    fn constant(&mut self, name: &str, tensor: Tensor) {
        self.places.insert(name.to_owned(), Source::Constant(self.plan.constants.len()));
        self.plan.constants.push(tensor);
    }

    /// Adds a step, or what it computes if that never changes.
    fn step(&mut self, node: &NodeProto, kernel: Kernel) -> Result<()> {
        let needs = needs(node);
        let inputs: Vec<Option<Source>> =
            needs.iter().map(|name| if name.is_empty() { None } else { self.places.get(name).copied() }).collect();
        if let Some(made) = self.fold(&kernel, &inputs, node) {
            for (name, tensor) in node.output.iter().zip(made).filter(|(name, _)| !name.is_empty()) {
                self.folded += tensor.elem_count();
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
        let made = call(kernel, &constants, node.output.len()).ok()?;
        let size: usize = made.iter().map(Tensor::elem_count).sum();
        (self.folded + size <= MAX_FOLDED).then_some(made)
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
