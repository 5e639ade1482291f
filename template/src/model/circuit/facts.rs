//! What is known of a graph's values before it is compiled: shapes and types, found by running it once, and the constants.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, Result};
use candle_core::{DType, Tensor};
use candle_onnx::onnx::{GraphProto, NodeProto};

use crate::model::budget::Budget;
use crate::model::graph::{dependencies, order};
use crate::model::input::InputSpec;
use crate::model::lower::lower;
use crate::model::node::{Args, Node};
use crate::model::plan::Plan;
use crate::model::tensor::floats;
use crate::model::weights;

/// Operators whose output follows from the shape of their input.
const OF_SHAPES: [&str; 2] = ["Shape", "Size"];
/// Operators that give whole numbers, whatever they are given.
const WHOLE: [&str; 8] = ["ArgMax", "ArgMin", "Ceil", "Floor", "Hardmax", "OneHot", "Round", "Sign"];
/// Operators that give nothing below zero.
const NON_NEGATIVE: [&str; 17] = [
    "Abs",
    "ArgMax",
    "ArgMin",
    "Exp",
    "HardSigmoid",
    "Hardmax",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "Relu",
    "Shape",
    "Sigmoid",
    "Size",
    "Softmax",
    "Softplus",
    "Sqrt",
    "ThresholdedRelu",
];
/// Operators that give some of the elements that they are given, or zeros.
const CHOOSING: [&str; 16] = [
    "Concat",
    "DepthToSpace",
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "MaxPool",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

/// What is known of each value of a graph, by its name.
pub(super) struct Facts {
    shapes: HashMap<String, (Vec<usize>, DType)>,
    constants: HashMap<String, Tensor>,
    makers: HashMap<String, NodeProto>,
    /// Who takes each value: the operator, and as which input.
    takers: HashMap<String, Vec<(String, usize)>>,
    outputs: HashSet<String>,
}

impl Facts {
    /// Of a graph whose inputs have fixed sizes.
    ///
    /// # Errors
    /// A graph that does not run on candle.
    pub(super) fn of(graph: &GraphProto, inputs: &[InputSpec], opset: i64) -> Result<Self> {
        let given: HashSet<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
        let weights = graph.initializer.iter().map(|weight| weight.name.as_str());
        let there: HashSet<&str> = given.iter().copied().chain(weights).collect();
        let nodes = order(graph, &there)?;
        let made: Vec<String> =
            nodes.iter().flat_map(|node| &node.output).filter(|name| !name.is_empty()).cloned().collect();
        let names: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
        let all = with_outputs(graph, &made);
        let plan = Plan::build(&all, &names, opset)?;
        // Whole numbers may be places, of which the first is always there, or what is divided by.
        let values = run(&plan, inputs, 0).or_else(|error| run(&plan, inputs, 1).map_err(|_| error))?;
        let mut facts = Self {
            shapes: HashMap::new(),
            constants: HashMap::new(),
            makers: HashMap::new(),
            takers: HashMap::new(),
            outputs: graph.output.iter().map(|output| output.name.clone()).collect(),
        };
        for weight in &graph.initializer {
            facts.add_constant(&weight.name, weights::named(weight)?);
        }
        for input in inputs {
            let tensor = input.dummy_input(0)?;
            facts.shapes.insert(input.name.clone(), (tensor.dims().to_vec(), tensor.dtype()));
        }
        let mut values: HashMap<String, Tensor> = made.into_iter().zip(values).collect();
        for node in nodes {
            let of_constants =
                dependencies(node).iter().all(|name| name.is_empty() || facts.constants.contains_key(name));
            let is_constant = of_constants || OF_SHAPES.contains(&node.op_type.as_str());
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                let tensor = values.remove(name).with_context(|| format!("{name:?} was not computed"))?;
                facts.shapes.insert(name.clone(), (tensor.dims().to_vec(), tensor.dtype()));
                if is_constant {
                    facts.add_constant(name, tensor);
                }
                facts.makers.insert(name.clone(), node.clone());
            }
            for (at, name) in dependencies(node).into_iter().enumerate() {
                facts.takers.entry(name).or_default().push((node.op_type.clone(), at));
            }
        }
        Ok(facts)
    }

    fn add_constant(&mut self, name: &str, tensor: Tensor) {
        self.shapes.insert(name.to_owned(), (tensor.dims().to_vec(), tensor.dtype()));
        self.constants.insert(name.to_owned(), tensor);
    }

    pub(super) fn shape(&self, name: &str) -> Result<&[usize]> {
        self.shapes
            .get(name)
            .map(|(shape, _)| shape.as_slice())
            .with_context(|| format!("nothing is known of {name:?}"))
    }

    pub(super) fn dtype(&self, name: &str) -> Result<DType> {
        self.shapes.get(name).map(|(_, dtype)| *dtype).with_context(|| format!("nothing is known of {name:?}"))
    }

    /// The value of what depends on no input.
    pub(super) fn constant(&self, name: &str) -> Option<&Tensor> {
        self.constants.get(name)
    }

    pub(super) fn is_output(&self, name: &str) -> bool {
        self.outputs.contains(name)
    }

    /// The node that makes this value.
    pub(super) fn maker(&self, name: &str) -> Option<&NodeProto> {
        self.makers.get(name)
    }

    /// The operators that take this value, and as which of their inputs.
    pub(super) fn takers(&self, name: &str) -> &[(String, usize)] {
        self.takers.get(name).map_or(&[], Vec::as_slice)
    }

    /// True if all that this value can be is whole: such numbers have the scale 0 in the circuit or are left alone by rounding.
    pub(super) fn is_whole(&self, name: &str) -> bool {
        if self.dtype(name).is_ok_and(|dtype| !dtype.is_float()) {
            return true;
        }
        match self.maker(name) {
            Some(node) if WHOLE.contains(&node.op_type.as_str()) => true,
            Some(node) if node.op_type == "Cast" => node.input.first().is_some_and(|input| self.is_whole(input)),
            _ => false,
        }
    }

    /// True if these whole numbers have no digits behind the point in EZKL: a cast from floats keeps theirs, though they are zeros.
    pub(super) fn is_unscaled(&self, name: &str) -> bool {
        !self.any_behind(name, |name| {
            if self.constant(name).is_some() {
                return Look::Nothing;
            }
            if self.dtype(name).is_ok_and(|dtype| dtype.is_float()) {
                return Look::Found;
            }
            let Some(node) = self.maker(name) else { return Look::Nothing };
            match node.op_type.as_str() {
                "ArgMax" | "ArgMin" | "And" | "Or" | "Xor" | "Not" | "Equal" | "Less" | "LessOrEqual" | "Greater"
                | "GreaterOrEqual" => Look::Nothing,
                "Gather" | "GatherElements" | "GatherND" => Look::In(first(node, 1)),
                _ => Look::In(&node.input),
            }
        })
    }

    /// True if whole numbers are these for EZKL, too: those of inputs and what is computed of them are floats for it, until a cast.
    pub(super) fn is_cast_to_whole(&self, name: &str) -> bool {
        self.any_behind(name, |name| {
            let is_whole = self.dtype(name).is_ok_and(|dtype| !dtype.is_float());
            match self.maker(name).filter(|_| is_whole && self.constant(name).is_none()) {
                Some(node) if node.op_type == "Cast" => Look::Found,
                Some(node) => Look::In(&node.input),
                None => Look::Nothing,
            }
        })
    }

    /// True if nothing below zero can be this value, as far as the operators before it say so.
    pub(super) fn is_non_negative(&self, name: &str) -> bool {
        !self.any_behind(name, |name| {
            if self.dtype(name).is_ok_and(|dtype| dtype == DType::U8) {
                return Look::Nothing;
            }
            let unless = |is_non_negative: bool| if is_non_negative { Look::Nothing } else { Look::Found };
            if let Some(constant) = self.constant(name) {
                return unless(floats(constant).is_ok_and(|all| all.iter().all(|one| *one >= 0.0)));
            }
            let Some(node) = self.maker(name) else { return Look::Found };
            match node.op_type.as_str() {
                "Cast" | "Ceil" | "Floor" | "Round" | "AveragePool" | "GlobalAveragePool" | "GlobalMaxPool" => {
                    Look::In(first(node, 1))
                }
                "Concat" => Look::In(&node.input),
                "Add" | "Mul" | "Div" => Look::In(first(node, 2)),
                // Its least value.
                "Clip" => node.input.get(1..2).map_or(Look::Found, Look::In),
                operator if CHOOSING.contains(&operator) => Look::In(first(node, 1)),
                operator => unless(NON_NEGATIVE.contains(&operator)),
            }
        })
    }

    /// True if `look` finds what it looks for in this value, or in one that it is made of. Each is looked at once: values that are taken
    /// twice are as many as their sums are deep, and not two to that power.
    fn any_behind<'a>(&'a self, name: &'a str, look: impl Fn(&'a str) -> Look<'a>) -> bool {
        let (mut seen, mut left) = (HashSet::new(), vec![name]);
        while let Some(name) = left.pop() {
            if !seen.insert(name) {
                continue;
            }
            match look(name) {
                Look::Found => return true,
                Look::Nothing => {}
                Look::In(inputs) => left.extend(inputs.iter().map(String::as_str)),
            }
        }
        false
    }
}

/// What a look at one value shows.
enum Look<'a> {
    Found,
    Nothing,
    /// These values tell.
    In(&'a [String]),
}

fn first(node: &NodeProto, count: usize) -> &[String] {
    &node.input[..count.min(node.input.len())]
}

/// What a node gives of these tensors on candle.
pub(super) fn evaluate(node: &NodeProto, inputs: &[Option<&Tensor>], opset: i64) -> Result<Vec<Tensor>> {
    let budget = Budget::new();
    let kernel = lower(&Node::new(node, opset, &budget))?;
    kernel(&Args { inputs, budget: &budget })
}

fn with_outputs(graph: &GraphProto, names: &[String]) -> GraphProto {
    let mut all = graph.clone();
    all.output = names.iter().map(|name| super::signature::unnamed_shape(name)).collect();
    all
}

fn run(plan: &Plan, inputs: &[InputSpec], whole: i64) -> Result<Vec<Tensor>> {
    let tensors = inputs.iter().map(|input| input.dummy_input(whole)).collect::<Result<Vec<_>>>()?;
    plan.run(tensors).context("the model does not run on candle")
}
