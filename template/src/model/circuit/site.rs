//! A node that is looked at, and what takes its place.

use anyhow::{Context as _, Result};
use candle_core::{DType, Tensor};
use candle_onnx::onnx::attribute_proto::AttributeType;
use candle_onnx::onnx::tensor_proto::DataType;
use candle_onnx::onnx::{AttributeProto, NodeProto, TensorProto};

use super::facts::Facts;
use crate::model::node::Node;
use crate::model::tensor::{elements, tensor};

/// A node, and what is known of the graph around it.
pub(super) struct Site<'a> {
    pub(super) node: Node<'a>,
    pub(super) facts: &'a Facts,
}

impl<'a> Site<'a> {
    pub(super) fn operator(&self) -> &'a str {
        &self.node.proto().op_type
    }

    /// The name of an input; `None` where it is left out.
    pub(super) fn optional(&self, at: usize) -> Option<&'a str> {
        self.node.proto().input.get(at).map(String::as_str).filter(|name| !name.is_empty())
    }

    pub(super) fn input(&self, at: usize) -> Result<&'a str> {
        self.optional(at).with_context(|| format!("its input {at} is missing"))
    }

    pub(super) fn shape(&self, at: usize) -> Result<&'a [usize]> {
        self.facts.shape(self.input(at)?)
    }

    pub(super) fn dtype(&self, at: usize) -> Result<DType> {
        self.facts.dtype(self.input(at)?)
    }

    /// The value of an input that depends on none of the model's.
    pub(super) fn constant(&self, at: usize) -> Option<&'a Tensor> {
        self.optional(at).and_then(|name| self.facts.constant(name))
    }

    /// The numbers of an input that must be known.
    pub(super) fn known(&self, at: usize, what: &str) -> Result<Vec<f64>> {
        let known = self.constant(at).with_context(|| format!("{what} is computed: the circuit needs it fixed"))?;
        crate::model::tensor::floats(known)
    }

    pub(super) fn output(&self) -> &'a str {
        &self.node.proto().output[0]
    }

    pub(super) fn output_shape(&self) -> Result<&'a [usize]> {
        self.facts.shape(self.output())
    }
}

/// Nodes and constants that take a node's place.
pub(super) struct Replacement {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) weights: Vec<TensorProto>,
    /// What new names begin with: no other node's are alike.
    pub(super) prefix: String,
    names: usize,
    opset: i64,
}

impl Replacement {
    pub(super) fn new(node: &NodeProto, opset: i64) -> Self {
        Self { nodes: Vec::new(), weights: Vec::new(), prefix: format!("circuit/{}", own_name(node)), names: 0, opset }
    }

    /// With names of another kind: a node that takes its place may give the same output, and be replaced again.
    pub(super) fn of_kind(node: &NodeProto, opset: i64, kind: &str) -> Self {
        Self { prefix: format!("circuit/{}/{kind}", own_name(node)), ..Self::new(node, opset) }
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("{}/{}", self.prefix, self.names)
    }

    /// A constant.
    pub(super) fn constant(&mut self, value: &Tensor) -> Result<String> {
        let name = self.name();
        self.weights.push(encoded(&name, value)?);
        Ok(name)
    }

    /// A number, in a tensor without axes.
    pub(super) fn number(&mut self, number: f64, dtype: DType) -> Result<String> {
        let value = crate::model::tensor::tensor_of(vec![number], Vec::new(), dtype)?;
        self.constant(&value)
    }

    pub(super) fn whole(&mut self, numbers: &[usize]) -> Result<String> {
        let value = tensor(numbers.iter().map(|one| *one as i64).collect(), [numbers.len()])?;
        self.constant(&value)
    }

    /// A node with one output, whose name it gives.
    pub(super) fn op(&mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = self.name();
        self.nodes.push(NodeProto {
            op_type: operator.to_owned(),
            name: output.clone(),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.clone()],
            attribute: attributes,
            ..NodeProto::default()
        });
        output
    }

    /// The node as it was, with another attribute or input.
    pub(super) fn keep(&mut self, node: &NodeProto, change: impl FnOnce(&mut NodeProto)) -> String {
        let mut changed = node.clone();
        change(&mut changed);
        let output = self.name();
        changed.output = vec![output.clone()];
        self.nodes.push(changed);
        output
    }

    /// A second output of a node that has one, for an operator that must name it.
    pub(super) fn add_output(&mut self, value: &str, name: &str) {
        for node in self.nodes.iter_mut().filter(|node| node.output[0] == value) {
            node.output.push(format!("{value}/{name}"));
        }
    }

    /// `value` under the name that the others know.
    fn call(&mut self, value: &str, output: &str) {
        match self.nodes.iter_mut().find(|node| node.output[0] == value) {
            Some(maker) => {
                maker.output[0] = output.to_owned();
                for input in self.nodes.iter_mut().flat_map(|node| &mut node.input).filter(|input| *input == value) {
                    *input = output.to_owned();
                }
            }
            None => {
                let name = self.name();
                self.nodes.push(NodeProto {
                    op_type: "Identity".to_owned(),
                    name,
                    input: vec![value.to_owned()],
                    output: vec![output.to_owned()],
                    ..NodeProto::default()
                });
            }
        }
    }

    /// All values of a node under the names of its outputs. Those that are not wanted may be empty.
    pub(super) fn call_all(&mut self, values: &[String], outputs: &[String]) {
        for (value, output) in
            values.iter().zip(outputs).filter(|(value, output)| !value.is_empty() && !output.is_empty())
        {
            self.call(value, output);
        }
    }

    pub(super) fn add(&mut self, a: &str, b: &str) -> String {
        self.op("Add", &[a, b], Vec::new())
    }

    pub(super) fn sub(&mut self, a: &str, b: &str) -> String {
        self.op("Sub", &[a, b], Vec::new())
    }

    pub(super) fn mul(&mut self, a: &str, b: &str) -> String {
        self.op("Mul", &[a, b], Vec::new())
    }

    /// An operator of one input.
    pub(super) fn one(&mut self, operator: &str, x: &str) -> String {
        self.op(operator, &[x], Vec::new())
    }

    pub(super) fn times(&mut self, x: &str, number: f64) -> Result<String> {
        let number = self.number(number, DType::F32)?;
        Ok(self.mul(x, &number))
    }

    pub(super) fn plus(&mut self, x: &str, number: f64) -> Result<String> {
        let number = self.number(number, DType::F32)?;
        Ok(self.add(x, &number))
    }

    pub(super) fn cast(&mut self, x: &str, to: DType) -> Result<String> {
        Ok(self.op("Cast", &[x], vec![int("to", i64::from(onnx_type(to)?))]))
    }

    /// What is computed of floats, of whole numbers that are cast to them, and cast back.
    pub(super) fn as_floats(
        &mut self,
        whole: &str,
        dtype: DType,
        compute: impl FnOnce(&mut Self, &str) -> Result<String>,
    ) -> Result<String> {
        let floats = self.cast(whole, DType::F32)?;
        let value = compute(self, &floats)?;
        self.cast(&value, dtype)
    }

    pub(super) fn reshape(&mut self, x: &str, dims: &[usize]) -> Result<String> {
        let dims = self.whole(dims)?;
        Ok(self.op("Reshape", &[x, &dims], Vec::new()))
    }

    pub(super) fn gather(&mut self, x: &str, places: &[usize], axis: usize) -> Result<String> {
        let places = self.whole(places)?;
        Ok(self.op("Gather", &[x, &places], vec![int("axis", axis as i64)]))
    }

    /// A reduction over these axes, which stay with a size of 1. Axes became an input with opset 18, of ReduceSum with 13.
    pub(super) fn reduce(&mut self, operator: &str, x: &str, axes: &[usize]) -> Result<String> {
        let keep = int("keepdims", 1);
        if self.opset >= if operator == "ReduceSum" { 13 } else { 18 } {
            let axes = self.whole(axes)?;
            return Ok(self.op(operator, &[x, &axes], vec![keep]));
        }
        let axes: Vec<i64> = axes.iter().map(|axis| *axis as i64).collect();
        Ok(self.op(operator, &[x], vec![ints("axes", &axes), keep]))
    }
}

impl Replacement {
    /// x / number. EZKL rounds constants to steps of its scale, in which a small factor has few digits or none: it gets one between 1 and 2,
    /// and a power of two, which is exact.
    pub(super) fn divided(&mut self, x: &str, number: f64) -> Result<String> {
        let power = number.abs().log2().ceil().max(0.0);
        let large = self.times(x, power.exp2() / number)?;
        if power == 0.0 { Ok(large) } else { self.times(&large, (-power).exp2()) }
    }

    /// The mean over the last axes of these dimensions, which stay with a size of 1, as an average over one window: that division is
    /// exact, where `ReduceMean` multiplies by a rounded 1/n.
    pub(super) fn mean(&mut self, x: &str, dims: &[usize], last: usize) -> Result<String> {
        let (outer, inner) = dims.split_at(dims.len() - last);
        let (rows, count): (usize, usize) = (outer.iter().product(), inner.iter().product());
        let flat = self.reshape(x, &[1, rows, count])?;
        let window = [count as i64];
        let mean = self.op("AveragePool", &[&flat], vec![ints("kernel_shape", &window), ints("strides", &window)]);
        self.reshape(&mean, &[outer, vec![1; last].as_slice()].concat())
    }

    /// e^x of what is not above zero. Below −12 it is less than half a step of any scale: no table needs to reach further.
    pub(super) fn exp_below_zero(&mut self, x: &str) -> Result<String> {
        let least = self.number(-12.0, DType::F32)?;
        let near = self.op("Max", &[x, &least], Vec::new());
        Ok(self.one("Exp", &near))
    }

    /// A product with a float next to 1: whole numbers get a scale, which EZKL computes averages at.
    pub(super) fn raised(&mut self, x: &str) -> Result<String> {
        self.times(x, f64::from(super::scale::NEXT_TO_ONE))
    }

    /// No more than this and no less than its negative.
    pub(super) fn within(&mut self, x: &str, limit: f64) -> Result<String> {
        let (least, most) = (self.number(-limit, DType::F32)?, self.number(limit, DType::F32)?);
        let above = self.op("Max", &[x, &least], Vec::new());
        Ok(self.op("Min", &[&above, &most], Vec::new()))
    }

    /// Each line of a value of this rank along the axis, times a matrix: rows of the matrix are places of the line.
    pub(super) fn along(&mut self, x: &str, axis: usize, rank: usize, matrix: &Tensor) -> Result<String> {
        let matrix = self.constant(matrix)?;
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(axis, rank - 1);
        if axis == rank - 1 {
            return Ok(self.op("MatMul", &[x, &matrix], Vec::new()));
        }
        let turned = self.transpose(x, &order);
        let product = self.op("MatMul", &[&turned, &matrix], Vec::new());
        Ok(self.transpose(&product, &order))
    }

    pub(super) fn transpose(&mut self, x: &str, order: &[usize]) -> String {
        let order: Vec<i64> = order.iter().map(|axis| *axis as i64).collect();
        self.op("Transpose", &[x], vec![ints("perm", &order)])
    }
}

/// What no other node of its graph is called: names of nodes may be there twice, those of values are not.
pub(super) fn own_name(node: &NodeProto) -> &str {
    node.output.iter().map(String::as_str).find(|output| !output.is_empty()).unwrap_or(&node.name)
}

pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: AttributeType::Int as i32, i: value, ..AttributeProto::default() }
}

pub(super) fn float(name: &str, value: f64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Float as i32,
        f: value as f32,
        ..AttributeProto::default()
    }
}

pub(super) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Ints as i32,
        ints: values.to_vec(),
        ..AttributeProto::default()
    }
}

/// Sets an attribute, whatever it was before.
pub(super) fn set(node: &mut NodeProto, attribute: AttributeProto) {
    remove(node, &attribute.name);
    node.attribute.push(attribute);
}

pub(super) fn remove(node: &mut NodeProto, name: &str) {
    node.attribute.retain(|attribute| attribute.name != name);
}

fn onnx_type(dtype: DType) -> Result<i32> {
    let onnx = match dtype {
        DType::U8 => DataType::Bool,
        DType::I32 => DataType::Int32,
        DType::I64 => DataType::Int64,
        DType::F32 => DataType::Float,
        other => anyhow::bail!("elements of type {} are not written into a circuit", other.as_str()),
    };
    Ok(onnx as i32)
}

/// A tensor as a weight of this name.
pub(super) fn encoded(name: &str, value: &Tensor) -> Result<TensorProto> {
    let raw_data = match value.dtype() {
        DType::U8 => elements::<u8>(value)?,
        DType::I32 => elements::<i32>(value)?.iter().flat_map(|one| one.to_le_bytes()).collect(),
        DType::I64 => elements::<i64>(value)?.iter().flat_map(|one| one.to_le_bytes()).collect(),
        _ => elements::<f32>(&value.to_dtype(DType::F32)?)?.iter().flat_map(|one| one.to_le_bytes()).collect(),
    };
    Ok(TensorProto {
        name: name.to_owned(),
        data_type: onnx_type(value.dtype())?,
        dims: value.dims().iter().map(|dim| *dim as i64).collect(),
        raw_data,
        ..TensorProto::default()
    })
}
