//! Each rewritten graph beside the original, both on candle: what became of a model means what the model says. That EZKL computes
//! it so is for tests/daemon/circuit.rs.

use candle_onnx::onnx::attribute_proto::AttributeType;
use candle_onnx::onnx::tensor_proto::DataType;
use candle_onnx::onnx::tensor_shape_proto::Dimension;
use candle_onnx::onnx::tensor_shape_proto::dimension::Value::{DimParam, DimValue};
use candle_onnx::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};
use polars::prelude::{Column, DataFrame};
use prost::Message as _;

use crate::model::Model;
use crate::model::circuit::{
    CircuitOnnx, claimed_operators, has_lost_axis, hold_axes, hold_places, write, write_out_layers,
};

/// How far the numbers of both may be apart, as a share: the formulas round in single precision, each in its own order.
const ROUNDING: f64 = 2e-4;

/// A graph of one input `x` and of nodes in the form `y, z = Operator(x, w; size=3, pads=[1, 1], mode='edge', alpha=0.5)`.
#[derive(Clone)]
struct Graph {
    input: ValueInfoProto,
    outputs: Vec<ValueInfoProto>,
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
    opset: i64,
    /// What its inputs are drawn from.
    range: (f64, f64),
}

fn graph(dims: &[i64], nodes: &[&str]) -> Graph {
    let mut names = std::collections::HashSet::new();
    let mut named = |mut node: NodeProto| {
        if !names.insert(node.name.clone()) {
            node.name = format!("{} of {}", node.name, node.output[0]);
        }
        node
    };
    let nodes: Vec<NodeProto> = nodes.iter().map(|text| named(parsed(text))).collect();
    Graph {
        input: value("x", DataType::Float, dims),
        outputs: vec![value("y", DataType::Float, &[])],
        nodes,
        weights: Vec::new(),
        opset: 18,
        range: (-3.0, 3.0),
    }
}

impl Graph {
    fn floats(mut self, name: &str, dims: &[i64], numbers: &[f32]) -> Self {
        self.weights.push(weight(
            name,
            DataType::Float,
            dims,
            numbers.iter().flat_map(|one| one.to_le_bytes()).collect(),
        ));
        self
    }

    fn whole(mut self, name: &str, numbers: &[i64]) -> Self {
        let bytes = numbers.iter().flat_map(|one| one.to_le_bytes()).collect();
        self.weights.push(weight(name, DataType::Int64, &[numbers.len() as i64], bytes));
        self
    }

    fn number(mut self, name: &str, number: i64) -> Self {
        self.weights.push(weight(name, DataType::Int64, &[], number.to_le_bytes().to_vec()));
        self
    }

    fn truth(mut self, name: &str, truth: bool) -> Self {
        self.weights.push(weight(name, DataType::Bool, &[], vec![u8::from(truth)]));
        self
    }

    fn of_whole_numbers(mut self) -> Self {
        retype(&mut self.input, DataType::Int64);
        self
    }

    fn giving(mut self, outputs: &[(&str, DataType)]) -> Self {
        self.outputs = outputs.iter().map(|(name, dtype)| value(name, *dtype, &[])).collect();
        self
    }

    fn giving_whole(self) -> Self {
        self.giving(&[("y", DataType::Int64)])
    }

    fn opset(mut self, opset: i64) -> Self {
        self.opset = opset;
        self
    }

    fn within(mut self, least: f64, most: f64) -> Self {
        self.range = (least, most);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let graph = GraphProto {
            name: "graph".to_owned(),
            input: vec![self.input.clone()],
            output: self.outputs.clone(),
            node: self.nodes.clone(),
            initializer: self.weights.clone(),
            ..GraphProto::default()
        };
        let opset = OperatorSetIdProto { version: self.opset, ..OperatorSetIdProto::default() };
        ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..ModelProto::default() }
            .encode_to_vec()
    }

    fn written(&self) -> CircuitOnnx {
        write(&self.bytes(), None).unwrap()
    }

    /// Writes the circuit, and compares both on inputs that look drawn at random; what was changed.
    #[track_caller]
    fn means_the_same(&self) -> Vec<String> {
        let made = self.written();
        let (model, circuit) = (Model::from_bytes(&self.bytes()).unwrap(), Model::from_bytes(&made.bytes).unwrap());
        let mut random = 1u64;
        for round in 0..12 {
            let count = model.inputs()[0].elements();
            let numbers = (0..count).map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let share = (random >> 40) as f64 / f64::from(1 << 24);
                let number = self.range.0 + share * (self.range.1 - self.range.0);
                // Whole numbers and halves are where roundings and comparisons differ.
                if round % 3 == 0 || model.inputs()[0].dtype() == "i64" { (number * 2.0).round() / 2.0 } else { number }
            });
            let numbers = numbers.map(|one| if model.inputs()[0].dtype() == "i64" { one.round() } else { one });
            compared(&model, &circuit, &numbers.collect::<Vec<_>>(), &made.rewritten);
        }
        made.rewritten
    }

    /// The same, and that something was changed: a line names the operator.
    #[track_caller]
    fn is_rewritten(&self, operator: &str) {
        let changes = self.means_the_same();
        assert!(
            changes.iter().any(|change| change.starts_with(&format!("{operator} (node"))),
            "{operator}: {changes:?}"
        );
    }

    /// That nothing is changed, to the byte.
    #[track_caller]
    fn is_kept(&self) {
        let made = self.written();
        assert!(made.rewritten.is_empty(), "{:?}", made.rewritten);
        assert!(made.bytes == self.bytes());
    }

    #[track_caller]
    fn is_refused(&self, says: &[&str]) {
        let error = format!("{:#}", write(&self.bytes(), None).unwrap_err());
        assert!(says.iter().all(|say| error.contains(say)), "{error}\nlacks one of {says:?}");
    }
}

#[track_caller]
fn compared(model: &Model, circuit: &Model, numbers: &[f64], changes: &[String]) {
    let columns = numbers.iter().enumerate().map(|(at, one)| Column::new(format!("c{at}").into(), [*one]));
    let frame = DataFrame::new(1, columns.collect()).unwrap();
    let run = |model: &Model| {
        model.run(&model.tensors(&frame).unwrap()).unwrap_or_else(|fault| panic!("{fault}: {changes:?}"))
    };
    let (wanted, found) = (run(model), run(circuit));
    assert_eq!(wanted.shapes, found.shapes, "{changes:?}");
    for (wanted, found) in wanted.values.iter().flatten().zip(found.values.iter().flatten()) {
        let near = (wanted - found).abs() <= ROUNDING * wanted.abs().max(1.0);
        assert!(near, "{wanted} became {found} of {numbers:?}: {changes:?}");
    }
}

fn weight(name: &str, dtype: DataType, dims: &[i64], raw_data: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type: dtype as i32,
        dims: dims.to_vec(),
        raw_data,
        ..TensorProto::default()
    }
}

fn value(name: &str, dtype: DataType, dims: &[i64]) -> ValueInfoProto {
    let dim = dims.iter().map(|size| Dimension { value: Some(DimValue(*size)), ..Dimension::default() }).collect();
    // An output may leave its shape open.
    let shape = (!dims.is_empty()).then_some(TensorShapeProto { dim });
    let tensor = type_proto::Tensor { elem_type: dtype as i32, shape };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), r#type: Some(r#type), ..ValueInfoProto::default() }
}

fn tensor_type(value: &mut ValueInfoProto) -> &mut type_proto::Tensor {
    match value.r#type.as_mut().and_then(|r#type| r#type.value.as_mut()) {
        Some(type_proto::Value::TensorType(tensor)) => tensor,
        _ => panic!("it is no tensor"),
    }
}

fn retype(value: &mut ValueInfoProto, dtype: DataType) {
    tensor_type(value).elem_type = dtype as i32;
}

fn parsed(text: &str) -> NodeProto {
    let (outputs, call) = text.split_once(" = ").unwrap();
    let (operator, rest) = call.split_once('(').unwrap();
    let (inputs, attributes) =
        rest.strip_suffix(')').unwrap().split_once(';').unwrap_or((rest.strip_suffix(')').unwrap(), ""));
    let names = |text: &str| text.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>();
    let (mut depth, mut is_quoted) = (0, false);
    let split = attributes.split(|letter: char| {
        depth += i32::from(letter == '[') - i32::from(letter == ']');
        is_quoted ^= letter == '\'';
        letter == ',' && depth == 0 && !is_quoted
    });
    NodeProto {
        op_type: operator.to_owned(),
        name: format!("the {operator}"),
        input: if inputs.trim().is_empty() { Vec::new() } else { names(inputs) },
        output: names(outputs),
        attribute: split.filter(|text| !text.trim().is_empty()).map(attribute).collect(),
        ..NodeProto::default()
    }
}

fn attribute(text: &str) -> AttributeProto {
    let (name, value) = text.trim().split_once('=').unwrap();
    let mut made = AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
    let mut set = |r#type: AttributeType| made.r#type = r#type as i32;
    if let Some(list) = value.strip_prefix('[') {
        let parts: Vec<&str> = list.trim_end_matches(']').split(',').map(str::trim).collect();
        if parts[0].starts_with('\'') {
            set(AttributeType::Strings);
            made.strings = parts.iter().map(|part| part.trim_matches('\'').as_bytes().to_vec()).collect();
        } else if parts[0].contains('.') {
            set(AttributeType::Floats);
            made.floats = parts.iter().map(|part| part.parse().unwrap()).collect();
        } else {
            set(AttributeType::Ints);
            made.ints = parts.iter().map(|part| part.parse().unwrap()).collect();
        }
    } else if value.starts_with('\'') {
        set(AttributeType::String);
        made.s = value.trim_matches('\'').as_bytes().to_vec();
    } else if value.contains('.') {
        set(AttributeType::Float);
        made.f = value.parse().unwrap();
    } else {
        set(AttributeType::Int);
        made.i = value.parse().unwrap();
    }
    made
}

mod families;
mod inside;
mod signatures;
