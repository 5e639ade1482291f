//! Other models than the one that the circuit was made of.

use candle_onnx::onnx::tensor_proto::DataType;
use candle_onnx::onnx::tensor_shape_proto::Dimension;
use candle_onnx::onnx::tensor_shape_proto::dimension::Value::{DimParam, DimValue};
use candle_onnx::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, attribute_proto, type_proto,
};
use prost::Message as _;

/// The same network with other weights: its answers differ, its shapes do not.
pub fn with_other_weights(model: Vec<u8>) -> Vec<u8> {
    changed(&model, |model| {
        let graph = model.graph.as_mut().unwrap();
        let weights = graph.initializer.iter_mut().max_by_key(|tensor| tensor.raw_data.len()).unwrap();
        for value in weights.raw_data.as_chunks_mut::<4>().0 {
            *value = (-f32::from_le_bytes(*value)).to_le_bytes();
        }
    })
}

/// The same network, trained a little longer: its answers differ a little, its circuit's constants with them.
pub fn with_slightly_other_weights(model: Vec<u8>) -> Vec<u8> {
    changed(&model, |model| {
        let graph = model.graph.as_mut().unwrap();
        let weights = graph.initializer.iter_mut().max_by_key(|tensor| tensor.raw_data.len()).unwrap();
        for value in weights.raw_data.as_chunks_mut::<4>().0 {
            *value = (f32::from_le_bytes(*value) * 0.9).to_le_bytes();
        }
    })
}

/// The same network with an op that nobody can repeat.
pub fn with_unsupported_op(model: Vec<u8>) -> Vec<u8> {
    changed(&model, |model| {
        let graph = model.graph.as_mut().unwrap();
        let sigmoid = graph.node.iter_mut().find(|node| node.op_type == "Sigmoid").unwrap();
        sigmoid.op_type = "Bernoulli".to_owned();
        sigmoid.name = "last_layer".to_owned();
    })
}

/// The sigmoid of the network's first hidden value: as many inputs, and a circuit that is proven in no time.
pub fn of_one_neuron(model: Vec<u8>) -> Vec<u8> {
    neuron(&model, 1.0)
}

/// The same of a sixteenth of that value, so that the sigmoid's table is small, too.
pub fn of_one_quiet_neuron(model: Vec<u8>) -> Vec<u8> {
    neuron(&model, 1.0 / 16.0)
}

fn neuron(model: &[u8], share: f32) -> Vec<u8> {
    changed(model, |model| {
        let graph = model.graph.as_mut().unwrap();
        let (input, output) = (graph.input[0].name.clone(), graph.output[0].name.clone());
        let weights = graph.initializer.iter_mut().max_by_key(|tensor| tensor.raw_data.len()).unwrap();
        let (inputs, neurons) = (weights.dims[0] as usize, weights.dims[1] as usize);
        weights.raw_data = (0..inputs).flat_map(|row| weights.raw_data[row * neurons * 4..][..4].to_vec()).collect();
        for value in weights.raw_data.as_chunks_mut::<4>().0 {
            *value = (f32::from_le_bytes(*value) * share).to_le_bytes();
        }
        weights.dims[1] = 1;
        let weights = weights.clone();
        graph.node = vec![node("MatMul", &[&input, &weights.name], "neuron"), node("Sigmoid", &["neuron"], &output)];
        graph.initializer = vec![weights];
        graph.value_info.clear();
    })
}

/// `sigmoid(x · w)` of four whole numbers, as categories and counts come: `x` is int64, and all weights are small.
pub fn of_whole_numbers() -> Vec<u8> {
    let mut cast = node("Cast", &["x"], "floats");
    cast.attribute.push(integer("to", DataType::Float as i64));
    let nodes = vec![cast, node("MatMul", &["floats", "w"], "margin"), node("Sigmoid", &["margin"], "y")];
    let weights = floats("w", &[4, 1], &[0.31, -0.27, 0.123, 0.045]);
    model(nodes, ("x", DataType::Int64, &[1, 4]), ("y", DataType::Float, &[1, 1]), vec![weights])
}

/// `x · w`, as regressions around zero, logits and margins are.
pub fn of_margins(w: &[f32; 4]) -> Vec<u8> {
    let nodes = vec![node("MatMul", &["x", "w"], "y")];
    model(nodes, ("x", DataType::Float, &[1, 4]), ("y", DataType::Float, &[1, 1]), vec![floats("w", &[4, 1], w)])
}

/// One by the first number: the prover claims a reciprocal, and the circuit does not hold for each.
pub fn of_a_reciprocal() -> Vec<u8> {
    let nodes = vec![node("MatMul", &["x", "w"], "first"), node("Reciprocal", &["first"], "y")];
    let weights = floats("w", &[4, 1], &[1.0, 0.0, 0.0, 0.0]);
    model(nodes, ("x", DataType::Float, &[1, 4]), ("y", DataType::Float, &[1, 1]), vec![weights])
}

/// `sigmoid(a + b + c + d)`: a number as large as a time in seconds asks for a table of as many rows.
pub fn of_a_sum() -> Vec<u8> {
    let nodes = vec![node("MatMul", &["x", "w"], "sum"), node("Sigmoid", &["sum"], "y")];
    let weights = vec![floats("w", &[4, 1], &[1.0; 4])];
    model(nodes, ("x", DataType::Float, &[1, 4]), ("y", DataType::Float, &[1, 1]), weights)
}

/// Branches of a tree over raw numbers: the first is a time in seconds.
pub fn of_branches() -> Vec<u8> {
    let mut cast = node("Cast", &["branches"], "taken");
    cast.attribute.push(integer("to", DataType::Float as i64));
    let nodes = vec![node("Greater", &["x", "thresholds"], "branches"), cast, node("MatMul", &["taken", "w"], "y")];
    let thresholds = floats("thresholds", &[1, 4], &[1.6e9, 0.5, 0.25, 0.75]);
    let weights = floats("w", &[4, 1], &[0.1, 0.2, 0.3, 0.4]);
    model(nodes, ("x", DataType::Float, &[1, 4]), ("y", DataType::Float, &[1, 1]), vec![thresholds, weights])
}

/// Three functions that are looked up in tables, and others with range checks of several sizes.
pub fn of_many_functions() -> Vec<u8> {
    let mut cast = node("Cast", &["above"], "step");
    cast.attribute.push(integer("to", DataType::Float as i64));
    let mut nodes = vec![
        node("MatMul", &["x", "w"], "s"),
        node("Sigmoid", &["s"], "sigmoid"),
        node("Tanh", &["s"], "tanh"),
        node("Exp", &["s"], "exp"),
        node("Relu", &["s"], "relu"),
        node("Sqrt", &["exp"], "sqrt"),
        node("Greater", &["s", "zero"], "above"),
        cast,
    ];
    let mut sum = "sigmoid".to_owned();
    for (at, term) in ["tanh", "exp", "relu", "sqrt", "step"].into_iter().enumerate() {
        let next = if term == "step" { "y".to_owned() } else { format!("sum{at}") };
        nodes.push(node("Add", &[&sum, term], &next));
        sum = next;
    }
    // EZKL refuses two nodes of one name.
    for node in &mut nodes {
        node.name = node.output[0].clone();
    }
    let weights = floats("w", &[4, 2], &[0.3, -0.2, 0.1, 0.4, -0.5, 0.2, 0.25, 0.15]);
    let zero = floats("zero", &[1, 2], &[0.0, 0.0]);
    model(nodes, ("x", DataType::Float, &[1, 4]), ("y", DataType::Float, &[1, 2]), vec![weights, zero])
}

/// The class of four numbers, out of three, two of which are nearly the same: an int64, as ArgMax gives it.
pub fn of_classes() -> Vec<u8> {
    let mut class = node("ArgMax", &["scores"], "class");
    class.attribute.extend([integer("axis", 1), integer("keepdims", 0)]);
    let mut nodes = scores();
    nodes.push(class);
    model(nodes, ("x", DataType::Float, &[1, 4]), ("class", DataType::Int64, &[1]), class_weights())
}

/// The same as a float, as exporters write it that know no other type.
pub fn of_classes_as_floats() -> Vec<u8> {
    let mut class = node("ArgMax", &["scores"], "class");
    class.attribute.extend([integer("axis", 1), integer("keepdims", 1)]);
    let mut cast = node("Cast", &["class"], "y");
    cast.attribute.push(integer("to", DataType::Float as i64));
    let mut nodes = scores();
    nodes.extend([class, cast]);
    model(nodes, ("x", DataType::Float, &[1, 4]), ("y", DataType::Float, &[1, 1]), class_weights())
}

/// The same class, and beside it a margin.
pub fn of_classes_and_a_margin() -> Vec<u8> {
    changed(&of_classes(), |model| {
        let graph = model.graph.as_mut().unwrap();
        graph.node.push(node("MatMul", &["x", "v"], "margin"));
        graph.initializer.push(floats("v", &[4, 1], &[0.5, -0.25, 0.125, -1.0]));
        graph.output.push(value_info(("margin", DataType::Float, &[1, 1])));
    })
}

/// The model with this said of the batch of its input and output: a name, or nothing.
pub fn with_batch(model: Vec<u8>, name: Option<&str>) -> Vec<u8> {
    changed(&model, |model| {
        let graph = model.graph.as_mut().unwrap();
        for value in graph.input.iter_mut().chain(&mut graph.output) {
            let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_mut().unwrap().value.as_mut() else {
                panic!("{} is no tensor", value.name)
            };
            tensor.shape.as_mut().unwrap().dim[0].value = name.map(|name| DimParam(name.to_owned()));
        }
    })
}

/// `sigmoid(x · w)` of four numbers.
pub fn of_four_numbers() -> Vec<u8> {
    let nodes = vec![node("MatMul", &["x", "w"], "margin"), node("Sigmoid", &["margin"], "y")];
    model(nodes, ("x", DataType::Float, &[1, 4]), ("y", DataType::Float, &[1, 1]), vec![four_weights()])
}

/// `x · w`, through a Reshape to a shape that is asked for, as some exporters write it.
pub fn of_its_own_shape() -> Vec<u8> {
    let mut shape = node("Concat", &["batch", "four"], "shape");
    shape.attribute.push(integer("axis", 0));
    let nodes = vec![
        node("Shape", &["x"], "sizes"),
        node("Gather", &["sizes", "zero"], "batch"),
        shape,
        node("Reshape", &["x", "shape"], "rows"),
        node("MatMul", &["rows", "w"], "y"),
    ];
    let weights = vec![four_weights(), whole("zero", &[0]), whole("four", &[4])];
    model(nodes, ("x", DataType::Float, &[1, 4]), ("y", DataType::Float, &[1, 1]), weights)
}

fn four_weights() -> TensorProto {
    floats("w", &[4, 1], &[1.0, -1.0, 0.5, 0.25])
}

/// Of four numbers what EZKL reads otherwise than ONNX says, or refuses, side by side: pools that pad, a cast of what is below zero,
/// Gelu, a padding with 1.5, a normalisation, sums after a Reshape.
pub fn of_what_ezkl_reads_otherwise() -> Vec<u8> {
    let with = |op: &str, input: &[&str], output: &str, attributes: Vec<AttributeProto>| {
        let mut node = node(op, input, output);
        node.attribute = attributes;
        node
    };
    let window = || vec![integers("kernel_shape", &[2, 2]), integers("pads", &[1, 1, 1, 1])];
    let nodes = vec![
        node("Reshape", &["x", "square"], "image"),
        with("MaxPool", &["image"], "greatest", window()),
        with("AveragePool", &["image"], "average", window()),
        node("Reshape", &["greatest", "nine"], "greatest row"),
        node("Reshape", &["average", "nine"], "average row"),
        with("Cast", &["x"], "cut", vec![integer("to", DataType::Int64 as i64)]),
        with("Cast", &["cut"], "cut row", vec![integer("to", DataType::Float as i64)]),
        node("Gelu", &["x"], "gelu"),
        node("Pad", &["x", "pads", "value"], "padded"),
        node("LayerNormalization", &["x", "scale"], "normal"),
        node("CumSum", &["greatest row", "one"], "sums"),
        with(
            "Concat",
            &["greatest row", "average row", "cut row", "gelu", "padded", "normal", "sums"],
            "y",
            vec![integer("axis", 1)],
        ),
    ];
    let weights = vec![
        whole("square", &[1, 1, 2, 2]),
        whole("nine", &[1, 9]),
        whole("pads", &[0, 1, 0, 1]),
        floats("value", &[], &[1.5]),
        floats("scale", &[4], &[1.0; 4]),
        TensorProto { dims: Vec::new(), ..whole("one", &[1]) },
    ];
    let model = model(nodes, ("x", DataType::Float, &[1, 4]), ("y", DataType::Float, &[1, 45]), weights);
    changed(&model, |model| model.opset_import[0].version = 20)
}

/// A model with an operator that no circuit computes, after one that candle runs.
pub fn of_bits() -> Vec<u8> {
    let nodes = vec![node("BitwiseAnd", &["x", "x"], "bits"), node("Neg", &["bits"], "y")];
    let model = model(nodes, ("x", DataType::Int64, &[1, 4]), ("y", DataType::Int64, &[1, 4]), Vec::new());
    changed(&model, |model| model.opset_import[0].version = 18)
}

/// Four numbers spread to eight, of which a convolution makes three, and these one.
pub fn of_a_convolution_between_products() -> Vec<u8> {
    let mut conv = node("Conv", &["rows", "kernel"], "places");
    conv.attribute = vec![integers("kernel_shape", &[2]), integers("strides", &[1])];
    let nodes = vec![
        node("MatMul", &["x", "spread"], "eight"),
        node("Reshape", &["eight", "two rows"], "rows"),
        conv,
        node("Flatten", &["places"], "three"),
        node("MatMul", &["three", "w"], "y"),
    ];
    let spread: Vec<f32> = (0..32).map(|at| ((at * 7) % 11) as f32 / 8.0 - 0.6).collect();
    let weights = vec![
        floats("spread", &[4, 8], &spread),
        whole("two rows", &[1, 2, 4]),
        floats("kernel", &[1, 2, 2], &[0.5, -1.0, 0.25, 0.75]),
        floats("w", &[3, 1], &[1.0, -0.5, 2.0]),
    ];
    model(nodes, ("x", DataType::Float, &[1, 4]), ("y", DataType::Float, &[1, 1]), weights)
}

/// Four numbers three places apart, of which a kernel as long makes eleven, and these one.
pub fn of_a_wide_transposed_convolution() -> Vec<u8> {
    let mut conv = node("ConvTranspose", &["row", "kernel"], "places");
    conv.attribute = vec![integers("kernel_shape", &[3]), integers("strides", &[3]), integers("pads", &[1, 0])];
    let nodes = vec![
        node("Reshape", &["x", "a row"], "row"),
        conv,
        node("Flatten", &["places"], "eleven"),
        node("MatMul", &["eleven", "w"], "y"),
    ];
    let weights = vec![
        whole("a row", &[1, 1, 4]),
        floats("kernel", &[1, 1, 3], &[0.5, -1.0, 0.75]),
        floats("w", &[11, 1], &[1.0, -0.5, 2.0, 0.25, 1.5, -1.0, 0.5, 0.75, -2.0, 1.0, 0.5]),
    ];
    model(nodes, ("x", DataType::Float, &[1, 4]), ("y", DataType::Float, &[1, 1]), weights)
}

/// Two steps of a GRU, whose states are reshaped.
pub fn of_a_flattened_recurrent_layer() -> Vec<u8> {
    let mut layer = node("GRU", &["steps", "w", "r"], "states");
    layer.attribute = vec![integer("hidden_size", 2)];
    let nodes = vec![
        node("MatMul", &["x", "mixed"], "product"),
        node("Reshape", &["product", "two steps"], "steps"),
        layer,
        node("Reshape", &["states", "a row"], "four"),
        node("MatMul", &["four", "v"], "y"),
    ];
    let numbers = |count: usize| (0..count).map(|at| ((at * 37) % 19) as f32 / 10.0 - 0.9).collect::<Vec<_>>();
    let weights = vec![
        floats("mixed", &[4, 4], &numbers(16)),
        whole("two steps", &[2, 1, 2]),
        floats("w", &[1, 6, 2], &numbers(12)),
        floats("r", &[1, 6, 2], &numbers(12)),
        whole("a row", &[1, 4]),
        floats("v", &[4, 1], &[1.0, -0.5, 0.75, 2.0]),
    ];
    model(nodes, ("x", DataType::Float, &[1, 4]), ("y", DataType::Float, &[1, 1]), weights)
}

/// The sum of four whole numbers, each divided by −3 and cut off.
pub fn of_quotients_by_a_negative_number() -> Vec<u8> {
    let nodes = vec![node("Div", &["x", "d"], "quotients"), node("ReduceSum", &["quotients"], "y")];
    model(nodes, ("x", DataType::Int64, &[1, 4]), ("y", DataType::Int64, &[1, 1]), vec![whole("d", &[-3])])
}

fn integers(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: attribute_proto::AttributeType::Ints as i32,
        ints: values.to_vec(),
        ..AttributeProto::default()
    }
}

fn whole(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type: DataType::Int64 as i32,
        dims: vec![values.len() as i64],
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

fn scores() -> Vec<NodeProto> {
    vec![node("MatMul", &["x", "w"], "products"), node("Add", &["products", "b"], "scores")]
}

fn class_weights() -> Vec<TensorProto> {
    let weights = [1.0, 0.999, 0.5, 0.5, 0.501, 0.25, 0.25, 0.2499, 0.1, 0.125, 0.1251, 0.05];
    vec![floats("w", &[4, 3], &weights), floats("b", &[1, 3], &[0.0, 0.0001, 0.0])]
}

fn node(op: &str, input: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        name: op.to_lowercase(),
        input: input.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: attribute_proto::AttributeType::Int as i32,
        i: value,
        ..AttributeProto::default()
    }
}

fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type: DataType::Float as i32,
        dims: dims.to_vec(),
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

/// A value of the graph: its name, type and shape.
type Port<'a> = (&'a str, DataType, &'a [i64]);

fn model(node: Vec<NodeProto>, input: Port, output: Port, initializer: Vec<TensorProto>) -> Vec<u8> {
    let graph = GraphProto {
        name: "graph".to_owned(),
        node,
        input: vec![value_info(input)],
        output: vec![value_info(output)],
        initializer,
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() };
    ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
}

fn value_info((name, element, shape): Port) -> ValueInfoProto {
    let dim = shape.iter().map(|size| Dimension { value: Some(DimValue(*size)), ..Dimension::default() }).collect();
    let tensor = type_proto::Tensor { elem_type: element as i32, shape: Some(TensorShapeProto { dim }) };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), r#type: Some(r#type), ..ValueInfoProto::default() }
}

pub fn truncated(mut model: Vec<u8>) -> Vec<u8> {
    model.truncate(model.len() / 2);
    model
}

fn changed(model: &[u8], change: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    let mut model = ModelProto::decode(model).unwrap();
    change(&mut model);
    model.encode_to_vec()
}
