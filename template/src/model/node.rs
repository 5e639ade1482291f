//! A node of the graph while it is lowered, and what its step is given when it runs.

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use candle_core::Tensor;
use candle_onnx::onnx::attribute_proto::AttributeType;
use candle_onnx::onnx::{AttributeProto, GraphProto, NodeProto, TensorProto};

use super::budget::Budget;
use super::tensor::{floats, whole_numbers};

/// A node, with the version of ONNX's operators that its model is written in.
pub struct Node<'a> {
    proto: &'a NodeProto,
    pub opset: i64,
    /// Of the load.
    pub budget: &'a Budget,
}

impl<'a> Node<'a> {
    pub fn new(proto: &'a NodeProto, opset: i64, budget: &'a Budget) -> Self {
        Self { proto, opset, budget }
    }

    pub fn proto(&self) -> &'a NodeProto {
        self.proto
    }

    /// How many outputs someone may use.
    pub fn outputs(&self) -> usize {
        self.proto.output.len()
    }

    /// Whether the output at this place is wanted.
    pub fn wants(&self, output: usize) -> bool {
        self.proto.output.get(output).is_some_and(|name| !name.is_empty())
    }

    /// How many inputs are named.
    pub fn inputs(&self) -> usize {
        self.proto.input.len()
    }

    fn attribute(&self, name: &str, r#type: AttributeType) -> Result<Option<&'a AttributeProto>> {
        let Some(found) = self.proto.attribute.iter().find(|attribute| attribute.name == name) else {
            return Ok(None);
        };
        // Models of before 2017 leave the type out.
        let is = found.r#type();
        let fits = is == r#type || is == AttributeType::Undefined;
        ensure!(fits, "its attribute {name:?} is {}, not {}", is.as_str_name(), r#type.as_str_name());
        Ok(Some(found))
    }

    pub fn int(&self, name: &str) -> Result<Option<i64>> {
        Ok(self.attribute(name, AttributeType::Int)?.map(|attribute| attribute.i))
    }

    pub fn int_or(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.int_or(name, i64::from(default))? != 0)
    }

    pub fn float(&self, name: &str) -> Result<Option<f64>> {
        Ok(self.attribute(name, AttributeType::Float)?.map(|attribute| f64::from(attribute.f)))
    }

    pub fn float_or(&self, name: &str, default: f64) -> Result<f64> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>> {
        Ok(self.attribute(name, AttributeType::Ints)?.map(|attribute| attribute.ints.clone()))
    }

    pub fn floats(&self, name: &str) -> Result<Option<Vec<f64>>> {
        let found = self.attribute(name, AttributeType::Floats)?;
        Ok(found.map(|attribute| attribute.floats.iter().map(|one| f64::from(*one)).collect()))
    }

    pub fn text(&self, name: &str) -> Result<Option<&'a str>> {
        let found = self.attribute(name, AttributeType::String)?;
        let text = found.map(|attribute| std::str::from_utf8(&attribute.s));
        text.transpose().with_context(|| format!("its attribute {name:?} is no text"))
    }

    pub fn text_or(&self, name: &str, default: &'a str) -> Result<&'a str> {
        Ok(self.text(name)?.unwrap_or(default))
    }

    pub fn texts(&self, name: &str) -> Result<Option<Vec<String>>> {
        let found = self.attribute(name, AttributeType::Strings)?;
        Ok(found
            .map(|attribute| attribute.strings.iter().map(|one| String::from_utf8_lossy(one).into_owned()).collect()))
    }

    pub fn tensor(&self, name: &str) -> Result<Option<&'a TensorProto>> {
        Ok(self.attribute(name, AttributeType::Tensor)?.and_then(|attribute| attribute.t.as_ref()))
    }

    pub fn graph(&self, name: &str) -> Result<&'a GraphProto> {
        let found = self.attribute(name, AttributeType::Graph)?.and_then(|attribute| attribute.g.as_ref());
        found.with_context(|| format!("it has no graph {name:?}"))
    }

    /// The one of `choices` that an attribute names; the first is the default.
    pub fn choice<T: Copy>(&self, name: &str, choices: &[(&'static str, T)]) -> Result<T> {
        let chosen = self.text_or(name, choices[0].0)?;
        let found = choices.iter().find(|(text, _)| *text == chosen);
        found
            .map(|(_, choice)| *choice)
            .ok_or_else(|| anyhow!("its attribute {name:?} is {chosen:?}, which is not known"))
    }

    /// Whole numbers that older operators have as an attribute, newer ones as an input.
    pub fn ints_or_input(&self, name: &str, input: usize) -> Result<Ints> {
        Ok(match self.ints(name)? {
            Some(ints) => Ints::Fixed(ints),
            None => Ints::Input(input),
        })
    }
}

/// A node's name for people; exporters may leave it empty, then what it computes.
pub fn name_of(node: &NodeProto) -> String {
    match node.output.iter().find(|output| !output.is_empty()) {
        Some(output) if node.name.is_empty() => output.clone(),
        _ => node.name.clone(),
    }
}

/// Whole numbers that are known at load, or are given at each run.
#[derive(Debug, Clone)]
pub enum Ints {
    Fixed(Vec<i64>),
    Input(usize),
}

impl Ints {
    /// The numbers; none where an optional input is left out.
    pub fn get(&self, args: &Args) -> Result<Option<Vec<i64>>> {
        match self {
            Self::Fixed(ints) => Ok(Some(ints.clone())),
            Self::Input(at) => args.ints(*at),
        }
    }

    pub fn required(&self, args: &Args) -> Result<Vec<i64>> {
        match self {
            Self::Fixed(ints) => Ok(ints.clone()),
            Self::Input(at) => whole_numbers(args.get(*at)?),
        }
    }
}

/// The inputs of one step of a run.
pub struct Args<'a> {
    pub inputs: &'a [Option<&'a Tensor>],
    /// Of the run.
    pub budget: &'a Budget,
}

impl<'a> Args<'a> {
    pub fn get(&self, at: usize) -> Result<&'a Tensor> {
        self.optional(at).with_context(|| format!("its input {at} is missing"))
    }

    pub fn optional(&self, at: usize) -> Option<&'a Tensor> {
        self.inputs.get(at).copied().flatten()
    }

    /// All inputs; none of them is optional.
    pub fn all(&self) -> Result<Vec<&'a Tensor>> {
        (0..self.inputs.len()).map(|at| self.get(at)).collect()
    }

    /// The whole numbers of an optional input.
    pub fn ints(&self, at: usize) -> Result<Option<Vec<i64>>> {
        self.optional(at).map(whole_numbers).transpose()
    }

    /// The one whole number of an optional input.
    pub fn int(&self, at: usize) -> Result<Option<i64>> {
        self.ints(at)?.map(|ints| only(&ints, at)).transpose()
    }

    /// The one number of an optional input.
    pub fn float(&self, at: usize) -> Result<Option<f64>> {
        self.optional(at).map(|x| only(&floats(x)?, at)).transpose()
    }
}

fn only<T: Copy>(numbers: &[T], at: usize) -> Result<T> {
    match numbers {
        [one] => Ok(*one),
        several => bail!("its input {at} must be one number, and has {}", several.len()),
    }
}
