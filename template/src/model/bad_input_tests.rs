//! Files that are no models, or models that would take the machine with them: each a clear error, soon.

use std::time::{Duration, Instant};

use candle_onnx::onnx::attribute_proto::AttributeType;
use candle_onnx::onnx::tensor_proto::{DataLocation, DataType};
use candle_onnx::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, ValueInfoProto,
};
use prost::Message;

use super::budget::Budget;
use super::tests::{ANY, floats, linear, node, proto, refused, to_float, value};
use super::*;

/// What a test build takes for the largest of these, with room.
const SOON: Duration = Duration::from_secs(30);

fn input() -> Vec<ValueInfoProto> {
    vec![value("x", DataType::Float, &[ANY, Some(4)])]
}

fn ints(name: &str, numbers: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_string(),
        dims: vec![numbers.len() as i64],
        data_type: DataType::Int64 as i32,
        int64_data: numbers.to_vec(),
        ..Default::default()
    }
}

fn scalar(mut tensor: TensorProto) -> TensorProto {
    tensor.dims.clear();
    tensor
}

fn with_ints(mut node: NodeProto, name: &str, numbers: &[i64]) -> NodeProto {
    node.attribute.push(AttributeProto {
        name: name.to_string(),
        r#type: AttributeType::Ints as i32,
        ints: numbers.to_vec(),
        ..Default::default()
    });
    node
}

fn soon<T>(f: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = f();
    assert!(started.elapsed() < SOON, "it took {:?}", started.elapsed());
    done
}

#[test]
fn nodes_that_wait_for_each_other_are_named() {
    let nodes = vec![node("Relu", &["x"], "a"), node("Add", &["a", "d"], "b"), node("Neg", &["b"], "c")];
    let nodes = [nodes, vec![node("Abs", &["c"], "d"), node("Exp", &["d"], "y")]].concat();
    let error = refused(&proto(input(), vec![], nodes));
    assert_eq!(error, "its nodes wait for each other: Neg_c, Add_b, Abs_d");
    let error = refused(&proto(input(), vec![], vec![node("Add", &["x", "y"], "y")]));
    assert_eq!(error, "its nodes wait for each other: Add_y");
}

#[test]
fn nodes_run_in_an_order_that_works_whatever_the_file_has() {
    let nodes = vec![node("Neg", &["a"], "y"), node("Relu", &["x"], "a")];
    super::tests::model(&proto(input(), vec![], nodes));
}

#[test]
fn what_nothing_gives_is_named_with_who_needs_it() {
    let error = refused(&proto(input(), vec![], vec![node("MatMul", &["x", "w"], "a"), node("Add", &["a", "b"], "y")]));
    assert_eq!(error, r#"neither a weight nor a node nor an input is "b" (for "Add_y"), "w" (for "MatMul_a")"#);
    let error = refused(&proto(input(), vec![], vec![node("Relu", &["x"], "z")]));
    assert_eq!(error, r#"no node makes its output "y""#);
    let error = refused(&proto(input(), vec![], vec![node("Relu", &["x"], "y"), node("Neg", &["x"], "y")]));
    assert_eq!(error, r#"the node "Neg_y" (Neg) makes "y", which is there already"#);
}

/// What no output needs does not run, so it need not be able to.
#[test]
fn what_is_not_needed_is_left_out() {
    let nodes = vec![node("Relu", &["x"], "y"), node("Unique", &["x"], "z"), node("Neg", &["nowhere"], "v")];
    super::tests::model(&proto(input(), vec![], nodes));
}

#[test]
fn shapes_that_no_memory_holds_are_refused_before_any_is_taken() {
    const MILLION: i64 = 1_000_000;
    let huge = ints("huge", &[MILLION, MILLION]);
    let shape = || vec![huge.clone(), floats("one", &[1], &[1.0])];
    let cases = [
        (vec![node("ConstantOfShape", &["huge"], "y")], shape()),
        (vec![node("Expand", &["one", "huge"], "y")], shape()),
        (vec![node("Tile", &["x", "huge"], "y")], shape()),
        (vec![node("Reshape", &["x", "huge"], "y")], shape()),
        (vec![node("Pad", &["x", "pads"], "y")], vec![ints("pads", &[0, i64::MAX, 0, 1])]),
        (vec![node("Resize", &["x", "", "by"], "y")], vec![floats("by", &[2], &[1e6, 1e6])]),
        (vec![node("Upsample", &["x", "by"], "y")], vec![floats("by", &[2], &[1e6, 1e6])]),
        (
            vec![node("Range", &["from", "to", "step"], "y")],
            vec![scalar(ints("from", &[i64::MIN])), scalar(ints("to", &[i64::MAX])), scalar(ints("step", &[1]))],
        ),
        (vec![node("OneHot", &["x", "depth", "two"], "y")], vec![ints("depth", &[1 << 40]), ints("two", &[0, 1])]),
        // Both operands are small; only the product is not.
        (
            vec![node("Transpose", &["row"], "column"), node("MatMul", &["column", "row"], "y")],
            vec![floats("row", &[1, 5000], &[1.0; 5000])],
        ),
        (
            vec![node("Transpose", &["row"], "column"), node("Mul", &["column", "row"], "y")],
            vec![floats("row", &[1, 5000], &[1.0; 5000])],
        ),
        (
            vec![node("Gather", &["row", "all"], "y")],
            vec![floats("row", &[1, 5000], &[1.0; 5000]), ints("all", &[0; 5000])],
        ),
        // The product is small; a copy of the matrix for each of the batch is not.
        (
            vec![
                node("Expand", &["one", "matrix"], "a"),
                node("Expand", &["one", "batch"], "b"),
                node("MatMul", &["a", "b"], "y"),
            ],
            vec![floats("one", &[1], &[1.0]), ints("matrix", &[2048, 2048]), ints("batch", &[8, 2048, 1])],
        ),
        // Twice as much in each step.
        (
            (0..60)
                .map(|at| {
                    let name = |at: i64| {
                        if at == 0 {
                            "x".to_owned()
                        } else if at == 60 {
                            "y".to_owned()
                        } else {
                            format!("v{at}")
                        }
                    };
                    let mut twice = node("Concat", &[&name(at), &name(at)], &name(at + 1));
                    twice.attribute.push(AttributeProto {
                        name: "axis".to_string(),
                        r#type: AttributeType::Int as i32,
                        i: 1,
                        ..Default::default()
                    });
                    twice
                })
                .collect(),
            vec![],
        ),
        (
            vec![with_ints(node("ConvTranspose", &["image", "kernel"], "y"), "strides", &[1 << 20, 1 << 20])],
            vec![floats("image", &[1, 1, 2, 2], &[1.0; 4]), floats("kernel", &[1, 1, 2, 2], &[1.0; 4])],
        ),
    ];
    for (nodes, weights) in cases {
        let name = nodes.last().unwrap().op_type.clone();
        let error = soon(|| refused(&proto(input(), weights, nodes)));
        assert!(error.contains("too large") || error.contains("long"), "{name}: {error}");
        assert!(error.contains(&name), "{name}: {error}");
    }
}

#[test]
fn scales_that_would_enlarge_what_they_scale_are_refused() {
    let weights = || {
        vec![floats("one", &[1], &[1.0]), ints("tall", &[5000, 1]), ints("image", &[1, 1, 4, 4]), ints("many", &[5000])]
    };
    let scales = || vec![node("Expand", &["one", "many"], "scale")];
    let layer =
        [scales(), vec![node("Expand", &["one", "tall"], "data"), node("LayerNormalization", &["data", "scale"], "y")]];
    let data = || vec![node("Expand", &["one", "image"], "data")];
    let instance = [scales(), data(), vec![node("InstanceNormalization", &["data", "scale", "scale"], "y")]];
    let slope = [scales(), vec![node("Expand", &["one", "tall"], "data"), node("PRelu", &["data", "scale"], "y")]];
    for nodes in [layer.concat(), instance.concat(), slope.concat()] {
        let error = soon(|| refused(&proto(input(), weights(), nodes)));
        assert!(error.contains("does not fit the shape") || error.contains("1 are needed"), "{error}");
    }
}

#[test]
fn axes_that_are_named_twice_or_without_end_are_refused() {
    let weights = || {
        let twice = ints("twice", &[1, 1]);
        let (zeros, ones) = (ints("zeros", &[0, 0]), ints("ones", &[1, 1]));
        let pads = ints("pads", &[-5, 5, 0, 0]);
        vec![
            twice,
            zeros,
            ones,
            pads,
            scalar(ints("from", &[0])),
            scalar(ints("to", &[1 << 20])),
            scalar(ints("by", &[1])),
        ]
    };
    let cases = [
        (vec![node("Range", &["from", "to", "by"], "all"), node("Unsqueeze", &["x", "all"], "y")], "32 are the most"),
        (vec![node("Slice", &["x", "zeros", "ones", "twice"], "y")], "name one twice"),
        (vec![node("Pad", &["x", "pads", "", "twice"], "y")], "name one twice"),
        (vec![with_ints(node("Resize", &["x", "", "", "ones"], "y"), "axes", &[1, 1])], "name one twice"),
    ];
    for (nodes, expected) in cases {
        let error = soon(|| refused(&proto(input(), weights(), nodes)));
        assert!(error.contains(expected), "{error}");
    }
}

/// The output of one run.
fn answer(nodes: Vec<NodeProto>, x: Tensor) -> Anyhow<Vec<f64>> {
    let graph = proto(input(), vec![], nodes).graph.unwrap();
    let outputs = plan::Plan::build(&graph, &["x".to_owned()], 20)?.run(vec![x])?;
    tensor::floats(&outputs[0])
}

/// As an ordinary number it would pass for an answer.
#[test]
fn what_is_no_number_stays_none() {
    for op in ["Relu", "Celu", "ThresholdedRelu", "Shrink", "GlobalMaxPool"] {
        let x = Tensor::new(&[[[f32::NAN, -1.0]]], &candle_core::Device::Cpu).unwrap();
        let found = answer(vec![node(op, &["x"], "y")], x).unwrap();
        assert!(found[0].is_nan() && !found[1..].iter().any(|one| one.is_nan()), "{op}: {found:?}");
    }
    for places in [false, true] {
        let x = Tensor::new(&[[[f32::NAN, 1.0]]], &candle_core::Device::Cpu).unwrap();
        let mut pool = with_ints(node("MaxPool", &["x"], "y"), "kernel_shape", &[2]);
        pool.output.extend(places.then(|| "places".to_owned()));
        assert!(answer(vec![pool], x).unwrap()[0].is_nan(), "places: {places}");
    }
}

/// So many rounds of a Loop that is given no condition, whose body says at once that it is over: the state, or what the
/// rounds leave behind.
fn rounds(most: i64, outputs: [&str; 2]) -> Anyhow<Vec<f64>> {
    let graph = proto(input(), vec![scalar(ints("most", &[most]))], vec![counting(outputs)]).graph.unwrap();
    let x = Tensor::new(&[[1.0f32]], &candle_core::Device::Cpu)?;
    tensor::floats(&plan::Plan::build(&graph, &["x".to_owned()], 20)?.run(vec![x])?[0])
}

/// The Loop of `rounds`: from `most` and `x`, the outputs.
fn counting(outputs: [&str; 2]) -> NodeProto {
    let nodes = vec![node("Not", &["c"], "over"), node("Add", &["v", "x"], "w"), node("Identity", &["w"], "left")];
    looping(nodes, "over", outputs)
}

/// A Loop over these nodes, which make of the state `v` the next, `w`, and leave `left` behind.
fn looping(nodes: Vec<NodeProto>, condition: &str, outputs: [&str; 2]) -> NodeProto {
    let one = [Some(1), Some(1)];
    let (truth, float) = (|name| value(name, DataType::Bool, &[]), |name| value(name, DataType::Float, &one));
    let body = GraphProto {
        input: vec![value("i", DataType::Int64, &[]), truth("c"), float("v")],
        node: nodes,
        output: vec![truth(condition), float("w"), float("left")],
        ..Default::default()
    };
    let mut repeat = node("Loop", &["most", "", "x"], outputs[0]);
    repeat.output.push(outputs[1].to_owned());
    repeat.attribute.push(AttributeProto {
        name: "body".to_string(),
        r#type: AttributeType::Graph as i32,
        g: Some(body),
        ..Default::default()
    });
    repeat
}

/// As many rounds inside each round.
fn rounds_in_rounds(most: i64, budget: &Budget) -> Anyhow<Vec<Tensor>> {
    let nodes = vec![counting(["inner", "left"]), node("Identity", &["inner"], "w")];
    let weights = vec![scalar(ints("most", &[most]))];
    let graph = proto(input(), weights, vec![looping(nodes, "c", ["y", "z"])]).graph.unwrap();
    let x = Tensor::new(&[[1.0f32]], &candle_core::Device::Cpu)?;
    plan::Plan::build(&graph, &["x".to_owned()], 20)?.run_within(vec![x], budget)
}

#[test]
fn rounds_in_rounds_have_one_budget() {
    // Each of 3 · 3 rounds has three steps.
    assert_eq!(tensor::floats(&rounds_in_rounds(3, &Budget::of_work(1 << 18)).unwrap()[0]).unwrap(), [4.0]);
    let error = format!("{:#}", rounds_in_rounds(30, &Budget::of_work(1 << 18)).unwrap_err());
    assert!(error.starts_with("Loop") && error.contains("too long"), "{error}");
}

#[test]
fn a_loop_without_a_condition_has_all_its_rounds_even_none() {
    assert_eq!(rounds(3, ["y", "z"]).unwrap(), [4.0]);
    assert_eq!(rounds(3, ["z", "y"]).unwrap(), [2.0, 3.0, 4.0]);
    assert_eq!(rounds(0, ["y", "z"]).unwrap(), [1.0]);
    assert!(rounds(0, ["z", "y"]).unwrap().is_empty());
}

#[test]
fn all_weights_and_nodes_that_cannot_be_used_are_named_at_once() {
    let half = |name: &str| TensorProto { data_type: DataType::Float16 as i32, ..floats(name, &[1], &[1.0]) };
    let nodes = vec![node("Mul", &["x", "v"], "a"), node("Mul", &["a", "w"], "b"), node("MaxRoiPool", &["b"], "y")];
    let error = refused(&proto(input(), vec![half("v"), half("w")], nodes));
    assert!(error.starts_with(r#"the weight "v": elements of type float16"#), "{error}");
    assert!(error.contains(r#"; the weight "w": elements of type float16"#), "{error}");
    assert!(error.contains("; and it uses what cannot run: MaxRoiPool: the operator is not supported"), "{error}");
}

#[test]
fn a_model_may_divide_by_a_whole_number_that_it_is_given() {
    let inputs = vec![value("x", DataType::Int64, &[ANY, Some(1)])];
    let nodes = vec![node("Div", &["whole", "x"], "shares"), to_float("shares", "y")];
    let model = super::tests::model(&proto(inputs, vec![ints("whole", &[10])], nodes));
    let run = |x: i64| {
        let frame = polars::df!("a" => [x]).unwrap();
        model.run(&model.tensors(&frame).unwrap())
    };
    assert_eq!(run(4).unwrap().values, [[2.0]]);
    assert!(run(0).is_err());
}

#[test]
fn a_model_of_an_unknown_opset_may_be_its_circuit_s() {
    let mut old = linear();
    old.opset_import[0].version = 6;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), old.encode_to_vec()).unwrap();
    let model = Model::load_for_circuit(file.path(), &[]).unwrap();
    assert_eq!(model.inputs()[0].shape, [1, 3]);
    assert!(model.unsupported_reason().unwrap().contains("opset 6"), "{:?}", model.unsupported_reason());
    assert!(Model::load(file.path(), &[]).is_err());
}

#[test]
fn the_extreme_of_nothing_is_its_type_s_own() {
    let empty = |dtype| Tensor::zeros((0, 1), dtype, &candle_core::Device::Cpu).unwrap();
    let reduce = |op| vec![node(op, &["x"], "y")];
    let (int32, truth) = (candle_core::DType::I32, candle_core::DType::U8);
    assert_eq!(answer(reduce("ReduceMax"), empty(int32)).unwrap(), [f64::from(i32::MIN)]);
    assert_eq!(answer(reduce("ReduceMin"), empty(int32)).unwrap(), [f64::from(i32::MAX)]);
    assert_eq!(answer(reduce("ReduceMax"), empty(truth)).unwrap(), [0.0]);
    assert_eq!(answer(reduce("ReduceMin"), empty(truth)).unwrap(), [1.0]);
}

#[test]
fn inputs_and_weights_larger_than_what_is_there_are_refused() {
    let huge = vec![value("x", DataType::Float, &[ANY, Some(1 << 40)])];
    let error = refused(&proto(huge, vec![], vec![node("Relu", &["x"], "y")]));
    assert!(error.contains(r#"the input "x": a tensor of shape [1, 1099511627776] is too large"#), "{error}");
    for dims in [vec![1 << 40], vec![1 << 20, 1 << 20], vec![i64::MAX, i64::MAX]] {
        let error = refused(&proto(input(), vec![floats("w", &dims, &[1.0])], vec![node("Mul", &["x", "w"], "y")]));
        assert!(error.contains(r#"the weight "w": a tensor of shape"#) && error.contains("too large"), "{error}");
    }
    let error = refused(&proto(input(), vec![floats("w", &[1 << 20], &[1.0])], vec![node("Mul", &["x", "w"], "y")]));
    assert_eq!(error, r#"the weight "w": has 1 elements of float, and its shape [1048576] needs 1048576"#);
}

#[test]
fn a_window_that_would_take_for_ever_is_refused() {
    let long = 1 << 22;
    let nodes = vec![with_ints(node("AveragePool", &["x"], "y"), "kernel_shape", &[long / 2])];
    let wide = vec![value("x", DataType::Float, &[ANY, Some(1), Some(long)])];
    let error = soon(|| refused(&proto(wide, vec![], nodes)));
    assert!(error.contains("AveragePool") && error.contains("too long"), "{error}");
}

#[test]
fn weights_in_other_files_are_refused_by_name() {
    let mut elsewhere = floats("w", &[1], &[]);
    elsewhere.data_location = DataLocation::External as i32;
    elsewhere.external_data =
        vec![StringStringEntryProto { key: "location".to_string(), value: "../../etc/passwd".to_string() }];
    let error = refused(&proto(input(), vec![elsewhere], vec![node("Mul", &["x", "w"], "y")]));
    assert_eq!(
        error,
        r#"the weight "w": is in "../../etc/passwd": save the model with its weights inside, in one file"#
    );
}

fn chain(op: &str, length: usize, last: &str) -> Vec<NodeProto> {
    let name = |at: usize| match at {
        0 => "x".to_owned(),
        at if at == length => last.to_owned(),
        at => format!("v{at}"),
    };
    (0..length).map(|at| node(op, &[&name(at)], &name(at + 1))).collect()
}

#[test]
fn a_hundred_thousand_nodes_are_no_trouble() {
    const MANY: usize = 100_000;
    let long = proto(input(), vec![], chain("Relu", MANY, "y"));
    soon(|| super::tests::model(&long));
    let unsupported = soon(|| refused(&proto(input(), vec![], chain("Unique", MANY, "y"))));
    assert!(unsupported.contains("and 99990 more") && unsupported.len() < 1000, "{unsupported}");
    let mut circle = chain("Relu", MANY, "y");
    circle[0].input = vec!["y".to_string()];
    let circle = soon(|| refused(&proto(input(), vec![], circle)));
    assert!(circle.contains("wait for each other") && circle.contains("and 99990 more"), "{circle}");
    let missing = (0..MANY).map(|at| node("Add", &["x", &format!("w{at}")], &format!("v{at}"))).collect::<Vec<_>>();
    let all: Vec<&str> = missing.iter().map(|node| node.output[0].as_str()).collect();
    let sum = node("Sum", &all, "y");
    let missing = soon(|| refused(&proto(input(), vec![], [missing.clone(), vec![sum]].concat())));
    assert!(missing.contains("and 99990 more") && missing.len() < 1000, "{missing}");
}

#[test]
fn graphs_inside_graphs_without_end_are_refused() {
    let mut inner = GraphProto { output: vec![value("x", DataType::Float, &[ANY])], ..Default::default() };
    for _ in 0..200 {
        let mut branch = node("If", &["x"], "y");
        for name in ["then_branch", "else_branch"] {
            branch.attribute.push(AttributeProto {
                name: name.to_string(),
                r#type: AttributeType::Graph as i32,
                g: (name == "then_branch").then(|| inner.clone()).or(Some(GraphProto::default())),
                ..Default::default()
            });
        }
        inner = GraphProto { node: vec![branch], ..Default::default() };
    }
    let deep = ModelProto { graph: Some(inner), ..linear() };
    let error = soon(|| refused(&deep));
    assert!(error.contains("is no ONNX file"), "{error}");
}

#[test]
fn an_opset_that_is_not_known_is_refused() {
    for version in [0, 6, 29, i64::MAX] {
        let mut model = linear();
        model.opset_import[0].version = version;
        let error = refused(&model);
        assert_eq!(error, format!("is written in opset {version}: 7 to 28 are known"));
    }
}

/// Cut anywhere, a model is refused, and does not say less than that.
#[test]
fn a_model_that_is_cut_off_is_refused() {
    let whole = linear().encode_to_vec();
    for length in 0..whole.len() {
        let error = format!("{:#}", Model::from_bytes(&whole[..length]).unwrap_err());
        assert!(!error.contains("panicked"), "{length}: {error}");
    }
}
