//! What a circuit takes and gives.

use super::*;

fn sigmoid() -> Graph {
    graph(&[1, 4], &["s = MatMul(x, w)", "y = Sigmoid(s)"]).floats("w", &[4, 1], &[1.0, -1.0, 0.5, 0.25])
}

#[test]
fn write_of_what_ezkl_reads_rightly_keeps_every_byte() {
    sigmoid().is_kept();
    graph(
        &[1, 2, 4, 4],
        &[
            "c = Conv(x, w; strides=[1, 1], pads=[1, 1, 1, 1])",
            "r = Relu(c)",
            "y = MaxPool(r; kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])",
        ],
    )
    .floats("w", &[1, 2, 3, 3], &[0.1; 18])
    .is_kept();
    graph(&[1, 4], &["r = Relu(x)", "c = Cast(r; to=7)", "y = Cast(c; to=1)"]).is_kept();
    graph(&[2, 3, 2], &["a, y = GRU(x, w, r; hidden_size=2)"])
        .floats("w", &[1, 6, 2], &[0.3; 12])
        .floats("r", &[1, 6, 2], &[0.2; 12])
        .is_kept();
}

/// Exporters of layers that are used twice name them alike, and some name a node after the input.
#[test]
fn write_gives_nodes_of_one_name_other_names() {
    let mut model =
        graph(&[1, 4], &["s = MatMul(x, w)", "t = Relu(s)", "y = Sigmoid(t)"]).floats("w", &[4, 1], &[0.5; 4]);
    for (at, name) in ["layer", "layer", "x"].into_iter().enumerate() {
        model.nodes[at].name = name.to_owned();
    }
    let changes = model.means_the_same();
    assert!(changes.len() == 2 && changes.iter().all(|change| change.contains("its name is taken")), "{changes:?}");
}

#[test]
fn write_of_an_open_batch_states_a_batch_of_one() {
    for open in
        [Some(DimParam("N".into())), Some(DimParam("unk__12".into())), Some(DimValue(0)), Some(DimValue(-1)), None]
    {
        let mut model = sigmoid();
        tensor_type(&mut model.input).shape.as_mut().unwrap().dim[0].value = open;
        let changes = model.means_the_same();
        assert!(changes.len() == 1 && changes[0].starts_with("input \"x\": its dimension"), "{changes:?}");
        let made = ModelProto::decode(model.written().bytes.as_slice()).unwrap().graph.unwrap();
        let dims = |mut value: ValueInfoProto| {
            tensor_type(&mut value)
                .shape
                .clone()
                .unwrap()
                .dim
                .iter()
                .map(|dim| dim.value.clone().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(dims(made.input[0].clone()), [DimValue(1), DimValue(4)]);
        assert_eq!(dims(made.output[0].clone()), [DimValue(1), DimValue(1)]);
    }
}

#[test]
fn write_of_a_shape_that_is_asked_for_means_the_same() {
    let mut model = graph(
        &[1, 4],
        &[
            "sh = Shape(x)",
            "n = Gather(sh, zero)",
            "to = Concat(n, four; axis=0)",
            "r = Reshape(x, to)",
            "y = MatMul(r, w)",
        ],
    )
    .whole("zero", &[0])
    .whole("four", &[4])
    .floats("w", &[4, 1], &[1.0, -1.0, 0.5, 0.25]);
    tensor_type(&mut model.input).shape.as_mut().unwrap().dim[0].value = Some(DimParam("batch".into()));
    assert_eq!(model.means_the_same().len(), 1);
}

/// Exporters may call several nodes the same.
#[test]
fn write_of_nodes_of_one_name_makes_none_twice() {
    let mut model =
        graph(&[1, 4], &["a = Gelu(x)", "b = Gelu(a)", "c = Cast(b; to=7)", "d = Cast(c; to=1)", "y = Softplus(d)"])
            .opset(20);
    model.nodes.iter_mut().for_each(|node| node.name = "node".to_owned());
    assert!(model.means_the_same().len() >= 4);
}

#[test]
fn write_drops_what_is_said_of_values_between() {
    let mut model = sigmoid();
    tensor_type(&mut model.input).shape.as_mut().unwrap().dim[0].value = Some(DimParam("N".into()));
    let mut proto = ModelProto::decode(model.bytes().as_slice()).unwrap();
    proto.graph.as_mut().unwrap().value_info.push(value("s", DataType::Float, &[32, 1]));
    let made = write(&proto.encode_to_vec(), None).unwrap();
    assert!(ModelProto::decode(made.bytes.as_slice()).unwrap().graph.unwrap().value_info.is_empty());
}

#[test]
fn write_leaves_out_outputs_that_are_not_wanted() {
    let model = graph(&[1, 4], &["s = MatMul(x, w)", "y = Sigmoid(s)", "places = NonZero(s)"])
        .floats("w", &[4, 2], &[1.0, -1.0, 0.5, 0.25, 0.1, 0.2, 0.3, 0.4])
        .giving(&[("y", DataType::Float), ("places", DataType::Int64)]);
    model.is_refused(&["NonZero (node \"the NonZero\")", "fixed sizes", "Where"]);
    let made = write(&model.bytes(), Some(&["y".to_owned()])).unwrap();
    assert_eq!(made.rewritten, ["output \"places\": left out"]);
    let left = ModelProto::decode(made.bytes.as_slice()).unwrap().graph.unwrap();
    assert_eq!(left.node.iter().map(|node| node.op_type.as_str()).collect::<Vec<_>>(), ["MatMul", "Sigmoid"]);
    let unknown = write(&model.bytes(), Some(&["z".to_owned()])).unwrap_err().to_string();
    assert!(unknown.contains("no output [\"z\"]") && unknown.contains("places"), "{unknown}");
}

#[test]
fn write_of_an_output_under_two_names_gives_one_value_twice() {
    let model = graph(&[1, 4], &["y = Relu(x)", "z = Identity(y)"]);
    let changes = model.giving(&[("y", DataType::Float), ("z", DataType::Float)]).means_the_same();
    assert_eq!(changes, ["output \"z\": \"y\" once more, which it is"]);
    let model = graph(
        &[1, 4],
        &["r = Relu(x)", "y = Reshape(r, s)", "z = Reshape(r, s)", "a = Reshape(y, s)", "b = Reshape(a, t)"],
    );
    let model = model.whole("s", &[2, 2]).whole("t", &[4]);
    let changes =
        model.giving(&[("y", DataType::Float), ("z", DataType::Float), ("b", DataType::Float)]).means_the_same();
    assert_eq!(changes, ["output \"z\": \"y\" once more, which it is"]);
    let model = graph(&[1, 4], &["y = Relu(x)"]).giving(&[("y", DataType::Float), ("x", DataType::Float)]);
    assert_eq!(model.means_the_same(), ["output \"x\": Identity of the input of that name"]);
}

#[test]
fn write_of_doubles_and_halves_is_of_floats() {
    let mut model =
        graph(&[1, 2], &["s = Mul(x, w)", "c = Cast(s; to=11)", "y = Relu(c)"]).giving(&[("y", DataType::Double)]);
    retype(&mut model.input, DataType::Double);
    model.weights.push(weight(
        "w",
        DataType::Double,
        &[2],
        [0.1f64, 3.5].iter().flat_map(|one| one.to_le_bytes()).collect(),
    ));
    let changes = model.means_the_same();
    assert!(changes.iter().any(|change| change == "input \"x\": float instead of double"), "{changes:?}");
    assert!(changes.iter().any(|change| change.starts_with("weights: 1 are float")), "{changes:?}");

    // The float side refuses half precision; what is written is float.
    let half = graph(&[1, 2], &["y = Mul(x, w)"]);
    let half = Graph {
        weights: vec![weight(
            "w",
            DataType::Float16,
            &[2],
            [0x3800u16, 0x4100].iter().flat_map(|one| one.to_le_bytes()).collect(),
        )],
        ..half
    };
    let made = ModelProto::decode(half.written().bytes.as_slice()).unwrap().graph.unwrap();
    assert_eq!(
        made.initializer[0].raw_data,
        [0.5f32, 2.5].iter().flat_map(|one| one.to_le_bytes()).collect::<Vec<_>>()
    );

    let mut large = graph(&[1, 2], &["y = Mul(x, w)"]);
    large.weights.push(weight("w", DataType::Double, &[1], 1e300f64.to_le_bytes().to_vec()));
    large.is_refused(&["the weight \"w\"", "3.4e38"]);
}

#[test]
fn claimed_operators_are_listed_once_and_sorted() {
    let model = graph(&[1, 4], &["a = Sqrt(x)", "b = Sqrt(a)", "c = Relu(b)", "d = Reciprocal(c)", "y = Add(c, d)"]);
    assert_eq!(claimed_operators(&model.bytes()).unwrap(), ["Reciprocal", "Sqrt"]);
    assert!(claimed_operators(b"no model").is_err());
    // What is claimed is what EZKL gets, not what the model says.
    let norm = graph(&[1, 4], &["y = LayerNormalization(x, s)"]).floats("s", &[4], &[1.0; 4]);
    assert_eq!(claimed_operators(&norm.written().bytes).unwrap(), ["Div", "Sqrt"]);
}

#[test]
fn places_that_are_held_are_the_same() {
    let nodes = ["r = Reshape(x, s)", "c = Conv(r, k; kernel_shape=[2, 2])", "f = Flatten(c)", "y = MatMul(f, v)"];
    let model = graph(&[1, 9], &nodes)
        .whole("s", &[1, 1, 3, 3])
        .floats("k", &[1, 1, 2, 2], &[0.5, -1.0, 0.25, 2.0])
        .floats("v", &[4, 3], &[0.25; 12])
        .bytes();
    let held = hold_places(&model).unwrap();
    assert!(held.rewritten.len() == 1 && held.rewritten[0].starts_with("Conv (node"), "{:?}", held.rewritten);
    let (model, held) = (Model::from_bytes(&model).unwrap(), Model::from_bytes(&held.bytes).unwrap());
    compared(&model, &held, &[1.0, -2.0, 3.5, 0.0, 0.25, -1.0, 2.0, 0.5, -0.75], &[]);
    assert!(hold_places(&graph(&[1, 4], &["y = Relu(x)"]).bytes()).unwrap().rewritten.is_empty());
}

#[test]
fn products_whose_axes_are_held_are_the_same() {
    assert!(has_lost_axis("ak,kn->mn") && !has_lost_axis("mak,kn->mn") && !has_lost_axis("k,kn->n"));
    let of = |middle: &str| {
        let nodes = ["a = MatMul(x, w)", "r = Reshape(a, s)", middle, "f = Flatten(p)", "y = MatMul(f, v)"];
        graph(&[1, 6], &nodes)
            .floats("w", &[6, 4], &[0.5; 24])
            .whole("s", &[1, 2, 2])
            .floats("v", &[4, 3], &[0.25; 12])
            .bytes()
    };
    assert!(hold_axes(&of("p = Relu(r)")).unwrap().rewritten.is_empty());
    let model = of("p = MaxPool(r; kernel_shape=[1], strides=[1])");
    let held = hold_axes(&model).unwrap();
    assert_eq!(held.rewritten.len(), 2, "{:?}", held.rewritten);
    assert!(hold_axes(&held.bytes).unwrap().rewritten.is_empty());
    let (model, held) = (Model::from_bytes(&model).unwrap(), Model::from_bytes(&held.bytes).unwrap());
    compared(&model, &held, &[1.0, -2.0, 3.5, 0.0, 0.25, -1.0], &[]);
}
