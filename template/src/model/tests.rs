//! Models built here, node by node, and the example model where it is present.

use candle_onnx::onnx::attribute_proto::AttributeType;
use candle_onnx::onnx::tensor_proto::{DataLocation, DataType};
use candle_onnx::onnx::tensor_shape_proto::Dimension;
use candle_onnx::onnx::tensor_shape_proto::dimension::Value::{DimParam, DimValue};
use candle_onnx::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};
use polars::df;
use polars::prelude::{IntoLazy, col, concat_list};
use prost::Message;

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::context::{Context, ContextFiles};
use crate::fault::Fault;

pub(super) const ANY: Option<i64> = None;

pub(super) fn value(name: &str, dtype: DataType, dims: &[Option<i64>]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|size| Dimension { value: Some(size.map_or(DimParam("n".into()), DimValue)), ..Default::default() })
        .collect();
    let tensor = type_proto::Tensor { elem_type: dtype as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.to_string(),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}

pub(super) fn floats(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_string(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        float_data: data.to_vec(),
        ..Default::default()
    }
}

pub(super) fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.to_string(),
        input: inputs.iter().map(|name| name.to_string()).collect(),
        output: vec![output.to_string()],
        name: format!("{op}_{output}"),
        ..Default::default()
    }
}

pub(super) fn proto(inputs: Vec<ValueInfoProto>, weights: Vec<TensorProto>, nodes: Vec<NodeProto>) -> ModelProto {
    let graph = GraphProto {
        input: inputs,
        initializer: weights,
        node: nodes,
        output: vec![value("y", DataType::Float, &[ANY, Some(1)])],
        ..Default::default()
    };
    ModelProto {
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 18 }],
        ..Default::default()
    }
}

/// y = x · (1, 10, 100)ᵀ + 0.5, the 0.5 from a Constant node.
pub(super) fn linear() -> ModelProto {
    let mut half = node("Constant", &[], "half");
    half.attribute.push(AttributeProto {
        name: "value".to_string(),
        r#type: AttributeType::Tensor as i32,
        t: Some(floats("", &[1], &[0.5])),
        ..Default::default()
    });
    proto(
        vec![value("x", DataType::Float, &[ANY, Some(3)])],
        vec![floats("w", &[3, 1], &[1.0, 10.0, 100.0])],
        vec![half, node("MatMul", &["x", "w"], "xw"), node("Add", &["xw", "half"], "y")],
    )
}

/// Casts to float.
pub(super) fn to_float(from: &str, to: &str) -> NodeProto {
    let mut cast = node("Cast", &[from], to);
    cast.attribute.push(AttributeProto {
        name: "to".to_string(),
        r#type: AttributeType::Int as i32,
        i: DataType::Float as i64,
        ..Default::default()
    });
    cast
}

/// z = a + b, of [1, 2] floats and two whole numbers.
fn two_inputs() -> ModelProto {
    proto(
        vec![value("a", DataType::Float, &[ANY, Some(2)]), value("b", DataType::Int64, &[Some(2)])],
        vec![],
        vec![to_float("b", "bf"), node("Add", &["a", "bf"], "y")],
    )
}

pub(super) fn model(proto: &ModelProto) -> Model {
    Model::from_bytes(&proto.encode_to_vec()).unwrap()
}

pub(super) fn refused(proto: &ModelProto) -> String {
    format!("{:#}", Model::from_bytes(&proto.encode_to_vec()).unwrap_err())
}

fn row_error<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Err(fault @ Fault::Permanent(_)) => fault.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_row_goes_through_the_model() {
    let model = model(&linear());
    assert_eq!(model.inputs()[0].name, "x");
    assert_eq!(model.inputs()[0].shape, [1, 3]);
    assert_eq!(model.inputs()[0].dtype(), "f32");
    let frame = df!("c" => [1.0], "a" => [2i64], "b" => [0.1]).unwrap();
    let input = model.tensors(&frame).unwrap();
    assert_eq!(input.flat(), [[1.0, 2.0, f64::from(0.1f32)]]);
    let output = model.run(&input).unwrap();
    assert_eq!(
        (output.names.as_slice(), output.shapes[0].as_slice()),
        (["y".to_string()].as_slice(), [1, 1].as_slice())
    );
    assert!((output.scalar().unwrap() - 31.5).abs() < 1e-5, "{output:?}");
}

#[test]
fn several_inputs_come_from_list_columns_of_their_names() {
    let model = model(&two_inputs());
    let frame = df!("i" => [1.0], "j" => [2.0])
        .unwrap()
        .lazy()
        .select([
            concat_list([col("j"), col("i")]).unwrap().alias("b"),
            concat_list([col("i"), col("j")]).unwrap().alias("a"),
        ])
        .collect()
        .unwrap();
    let input = model.tensors(&frame).unwrap();
    assert_eq!(input.flat(), [[1.0, 2.0], [2.0, 1.0]]);
    assert_eq!(model.run(&input).unwrap().values, [[3.0, 3.0]]);

    let missing = row_error(model.tensors(&frame.drop("b").unwrap()));
    assert!(missing.contains(r#"input "b" (i64 [2]) has no column"#), "{missing}");
    let mut extra = frame.clone();
    extra.rename("b", "c".into()).unwrap();
    let extra = row_error(model.tensors(&extra));
    assert!(extra.contains(r#"column "c" is none of the model's inputs ["a", "b"]"#), "{extra}");

    let list = |values: [f64; 2]| {
        df!("i" => [values[0]], "j" => [values[1]])
            .unwrap()
            .lazy()
            .select([
                concat_list([col("i"), col("j")]).unwrap().alias("a"),
                concat_list([col("i"), col("j")]).unwrap().alias("b"),
            ])
            .collect()
            .unwrap()
    };
    let nan = row_error(model.tensors(&list([1.0, f64::NAN])));
    assert!(nan.contains(r#"place 1 of column "a" is NaN"#), "{nan}");
    let half = row_error(model.tensors(&list([1.0, 2.5])));
    assert!(half.contains(r#"place 1 of column "b" is 2.5"#) && half.contains("whole numbers"), "{half}");
}

#[test]
fn frames_that_do_not_fit_are_refused_with_column_and_shape() {
    let model = model(&linear());
    let refused = |frame: DataFrame| row_error(model.tensors(&frame));
    for (frame, reason) in [
        (df!("a" => [1.0], "b" => [1.0]), r#"input "x" (f32 [1, 3]) takes 3 numbers, and the frame gives 2"#),
        (
            df!("a" => [1.0], "b" => [f64::NAN], "c" => [1.0]),
            r#"column "b" is NaN: the model's input "x" (f32 [1, 3]) takes finite numbers"#,
        ),
        (df!("a" => [1.0], "b" => [1e39], "c" => [1.0]), "that is too large for"),
        (df!("a" => [1.0], "b" => ["x"], "c" => [1.0]), r#"column "b" holds str, expected numbers"#),
        (df!("a" => [1.0], "b" => [None::<f64>], "c" => [1.0]), r#"column "b" is empty (null)"#),
        (df!("a" => [1.0, 2.0], "b" => [1.0, 2.0], "c" => [1.0, 2.0]), "2 rows, expected one"),
    ] {
        let error = refused(frame.unwrap());
        assert!(error.contains(reason), "{error}");
    }
    assert!(refused(DataFrame::empty()).contains("0 rows"));
}

#[test]
fn an_answer_that_is_no_number_is_refused() {
    let model =
        model(&proto(vec![value("x", DataType::Float, &[ANY, Some(1)])], vec![], vec![node("Div", &["x", "x"], "y")]));
    let input = model.tensors(&df!("a" => [0.0]).unwrap()).unwrap();
    let error = row_error(model.run(&input));
    assert!(error.contains(r#"its output "y" is NaN at place 0"#), "{error}");
}

#[test]
fn what_depends_on_the_row_fails_the_row_and_names_the_node() {
    // 0, which is tried at load, is fine; dividing by 0 is not.
    let whole = |name: &str, number| TensorProto {
        name: name.to_string(),
        dims: vec![1],
        data_type: DataType::Int64 as i32,
        int64_data: vec![number],
        ..Default::default()
    };
    let mut model_proto = proto(
        vec![value("x", DataType::Int64, &[Some(1)])],
        vec![whole("one", 1)],
        vec![node("Sub", &["x", "one"], "d"), node("Div", &["one", "d"], "y")],
    );
    model_proto.graph.as_mut().unwrap().output = vec![value("y", DataType::Int64, &[Some(1)])];
    let model = model(&model_proto);
    let row = |number: f64| model.tensors(&df!("a" => [number]).unwrap()).unwrap();
    assert_eq!(model.run(&row(2.0)).unwrap().scalar().unwrap(), 1.0);
    let error = row_error(model.run(&row(1.0)));
    assert!(error.contains(r#"Div (node "Div_y"): divides a whole number by zero"#), "{error}");
}

#[test]
fn what_cannot_run_is_listed_at_load_with_all_its_nodes() {
    let mut foreign = node("Gelu", &["f"], "g");
    foreign.domain = "com.microsoft".to_string();
    let mut mode = node("Pad", &["g"], "p");
    mode.attribute.push(AttributeProto {
        name: "mode".to_string(),
        r#type: AttributeType::String as i32,
        s: b"spiral".to_vec(),
        ..Default::default()
    });
    let error = refused(&proto(
        vec![value("x", DataType::Float, &[ANY, Some(3)])],
        vec![],
        vec![
            node("Unique", &["x"], "e"),
            node("Elu", &["e"], "f"),
            foreign,
            mode,
            node("RandomNormalLike", &["p"], "r"),
            node("Unique", &["r"], "y"),
        ],
    ));
    assert_eq!(
        error,
        "uses what cannot run: Unique: the operator is not supported (nodes: Unique_e, Unique_y); \
         com.microsoft.Gelu: the operator is not supported (nodes: Gelu_g); \
         Pad: its attribute \"mode\" is \"spiral\", which is not known (nodes: Pad_p); \
         RandomNormalLike: the operator is not supported (nodes: RandomNormalLike_r)"
    );
}

#[test]
fn what_shows_only_in_a_run_is_found_at_load() {
    let error = refused(&proto(
        vec![value("x", DataType::Float, &[ANY, Some(3)])],
        vec![floats("w", &[2, 1], &[1.0, 1.0])],
        vec![node("MatMul", &["x", "w"], "y")],
    ));
    assert!(error.starts_with("does not run on candle: "), "{error}");
}

#[test]
fn files_that_are_no_model_stop_the_daemon_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let stopped = || match Model::load(&path, &[]) {
        Err(fault @ Fault::Fatal(_)) => fault.to_string(),
        other => panic!("{other:?}"),
    };
    let absent = stopped();
    assert!(absent.contains("model.onnx: cannot be read"), "{absent}");
    let whole = linear().encode_to_vec();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let truncated = stopped();
        assert!(truncated.contains("is truncated"), "{length}: {truncated}");
    }
    std::fs::write(&path, "<html>").unwrap();
    assert!(stopped().contains("no ONNX file"));
    std::fs::write(&path, whole).unwrap();
    Model::load(&path, &[]).unwrap();
}

#[test]
fn inputs_and_weights_that_cannot_be_used_are_named() {
    let with_input = |input| refused(&proto(vec![input], vec![], vec![node("Relu", &["x"], "y")]));
    let open = with_input(value("x", DataType::Float, &[ANY, ANY]));
    assert!(open.contains(r#"dimension 1 of the input "x" has no fixed size"#), "{open}");
    let text = with_input(value("x", DataType::String, &[ANY]));
    assert!(text.contains(r#"the input "x": elements of type string are not supported"#), "{text}");
    let mut shapeless = value("x", DataType::Float, &[]);
    if let Some(type_proto::Value::TensorType(tensor)) = &mut shapeless.r#type.as_mut().unwrap().value {
        tensor.shape = None;
    }
    assert!(with_input(shapeless).contains(r#"the input "x" has no shape"#));

    let with_weight = |weight| {
        refused(&proto(
            vec![value("x", DataType::Float, &[ANY, Some(1)])],
            vec![weight],
            vec![node("Mul", &["x", "w"], "y")],
        ))
    };
    let mut elsewhere = floats("w", &[1], &[1.0]);
    elsewhere.data_location = DataLocation::External as i32;
    assert!(with_weight(elsewhere).contains(r#"the weight "w": is in "another file": save the model"#));
    let short = with_weight(floats("w", &[2], &[1.0]));
    assert!(short.contains(r#"the weight "w""#), "{short}");
    let negative = with_weight(floats("w", &[-1], &[1.0]));
    assert!(negative.contains(r#"the weight "w": a dimension of -1 is not possible"#), "{negative}");
}

/// Old exporters list the weights among the inputs as well; 32-bit integers among them keep their shape.
#[test]
fn old_exports_run_too() {
    let mut model_proto = linear();
    let graph = model_proto.graph.as_mut().unwrap();
    graph.input.push(value("w", DataType::Float, &[Some(3), Some(1)]));
    assert_eq!(model(&model_proto).inputs().len(), 1);

    let shape = TensorProto {
        name: "s".to_string(),
        dims: vec![1, 2],
        data_type: DataType::Int32 as i32,
        int32_data: vec![5, 6],
        ..Default::default()
    };
    model_proto.graph.as_mut().unwrap().initializer.push(shape);
    model(&model_proto);
}

/// The model in the model folder, where it is there: the sample runs through the hooks and it.
#[test]
fn the_model_of_the_project_answers_its_sample() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (files, sample) = (root.join("model_files"), root.join("assets/sample.parquet"));
    if !files.join("model.onnx").exists() || !sample.exists() {
        return;
    }
    let model = Model::load(&files.join("model.onnx"), &[]).unwrap();
    let rows = crate::features::load(&sample).unwrap();
    let context_files = ContextFiles::new(&files);
    for at in 0..rows.height().min(50) {
        let ctx = Context::new(Arc::clone(&context_files), "0x00", "");
        let row = rows.row(at).unwrap();
        let input = model.tensors(&crate::hooks::pre_process(&ctx, row.frame().clone()).unwrap());
        let output = model.run(&input.unwrap()).unwrap();
        let answer = crate::hooks::post_process(&ctx, &output).unwrap();
        assert!(answer.is_finite(), "row {at}: {answer}");
    }
}
