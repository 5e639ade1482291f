//! Files that are no models, or models that would take the machine with them: each a clear error, soon.

use std::time::{Duration, Instant};

use candle_onnx::onnx::attribute_proto::AttributeType;
use candle_onnx::onnx::tensor_proto::{DataLocation, DataType};
use candle_onnx::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, ValueInfoProto,
};
use prost::Message;

use super::tests::{ANY, floats, linear, node, proto, refused, value};
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
