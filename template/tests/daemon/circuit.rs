//! `circuit.onnx`, with the real EZKL: what it reads otherwise than ONNX says is written so that both agree, and nothing else is.

use std::fs;

use serde_json::Value;

use super::setup::{json, of_four_columns, rows_of_four};
use crate::common::project::Project;
use crate::common::{assert_contains_all, onnx, python};

const SETUP: [&str; 4] = ["setup", "--insecure-srs", "--sample", "rows.csv"];

/// A project with this model, whose columns go from −2 to 2.
fn of(model: Vec<u8>) -> Project {
    of_four_columns(model, rows_of_four(240).map(|row| row.map(|number| (number - 0.5) * 4.0)))
}

async fn predicted(project: &Project) -> Value {
    project.nova(&["predict", "--features", "rows.csv", "--row", "7", "--json"]).json().await
}

/// Case 11 of the public reports.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_batch_of_any_name_is_a_batch_of_one() {
    for name in [Some("N"), Some("batch"), Some("unk__12"), None] {
        let project = of(onnx::with_batch(onnx::of_four_numbers(), name));
        let said = project.nova(&SETUP).succeed().await;
        assert_contains_all(&said, &["circuit.onnx", "input \"x\": its dimension", "is 1"]);
        assert!(predicted(&project).await["divergence"].as_f64().unwrap() < 0.01);
    }
    let project = of(onnx::with_batch(onnx::of_its_own_shape(), Some("batch")));
    project.nova(&SETUP).succeed().await;
    assert!(predicted(&project).await["divergence"].as_f64().unwrap() < 0.01);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_ezkl_reads_otherwise_agrees_with_candle() {
    let project = of(onnx::of_what_ezkl_reads_otherwise());
    // Near a whole number rounding decides how a cast cuts, and such a row is refused.
    let said = project.nova(&[&SETUP[..], &["--max-refused", "0.05"]].concat()).succeed().await;
    let rewritten = ["MaxPool", "AveragePool", "Cast", "Gelu", "Pad", "LayerNormalization", "CumSum"];
    assert_contains_all(&said, &rewritten.map(|operator| format!("{operator} (node ")).each_ref().map(String::as_str));
    let fidelity = json(&project, "setup.json")["making"]["fidelity"].clone();
    assert!(fidelity["max"].as_f64().unwrap() < 0.05, "{fidelity:#}");
}

/// EZKL reads other numbers of the second product than ONNX Runtime.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_product_behind_a_convolution_keeps_its_axes() {
    let project = of(onnx::of_a_convolution_between_products());
    assert_contains_all(&project.nova(&SETUP).succeed().await, &["MatMul (node \"matmul", "its axes held"]);
    let answer = predicted(&project).await;
    assert!(answer["divergence"].as_f64().unwrap() < 0.01, "{answer:#}");
}

/// EZKL's own output would be a place too long, and it would stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_transposed_convolution_with_wide_strides_has_a_circuit() {
    let project = of(onnx::of_a_wide_transposed_convolution());
    assert_contains_all(
        &project.nova(&SETUP).succeed().await,
        &["ConvTranspose (node \"convtranspose", "strides of three"],
    );
    let answer = predicted(&project).await;
    assert!(answer["divergence"].as_f64().unwrap() < 0.01, "{answer:#}");
}

/// tract's pass ChangeAxes stops at the loop that it makes of the layer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_flattened_recurrent_layer_has_a_circuit() {
    let project = of(onnx::of_a_flattened_recurrent_layer());
    assert_contains_all(&project.nova(&SETUP).succeed().await, &["GRU (node \"gru", "written out step by step"]);
    let answer = predicted(&project).await;
    assert!(answer["divergence"].as_f64().unwrap() < 0.01, "{answer:#}");
}

/// EZKL keeps the tables that it makes, and reads torn ones for ever: a worker may be killed while it writes them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_no_table_of_ezkl_is_left_for_others() {
    let project = of(onnx::of_a_flattened_recurrent_layer());
    let home = project.path().join("home");
    fs::create_dir(&home).unwrap();
    for arguments in [&SETUP[..], &["predict", "--features", "rows.csv"]] {
        project.nova(arguments).env("HOME", home.display().to_string()).env("NOVA_MOCK", "always").succeed().await;
    }
    assert!(!home.join(".ezkl/cache").exists());
}

/// EZKL has a witness of such a quotient, and no proof of any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_quotients_of_whole_numbers_by_a_negative_one_are_proven() {
    let rows = rows_of_four(240).map(|row| row.map(|number| (number * 40.0).round() - 20.0));
    let project = of_four_columns(onnx::of_quotients_by_a_negative_number(), rows);
    assert_contains_all(&project.nova(&SETUP).succeed().await, &["Div (node \"div\")", "cut off towards 0"]);
    let answer = predicted(&project).await;
    assert_eq!(answer["circuit"], answer["model"], "{answer:#}");
}

#[tokio::test]
async fn what_no_circuit_computes_is_refused_before_anything_is_made() {
    let project = of(onnx::of_bits());
    project.nova(&SETUP).fail(&["model.onnx", "BitwiseAnd (node \"bitwiseand\")", "pre_process"]).await;
    assert!(!project.model_file("circuit.onnx").exists() && !project.model_file("setup.json").exists());
}

/// What EZKL read rightly before has the key that it had. A folder of then has no circuit.onnx, and is as valid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circuit_that_was_right_keeps_its_key_and_its_folder() {
    for model in [onnx::of_four_numbers(), onnx::with_batch(onnx::of_four_numbers(), Some("batch_size"))] {
        let project = of(model);
        project.nova(&SETUP).succeed().await;
        let (key, circuit) = (project.model_file("model_vk.vk"), project.model_file("circuit.onnx"));
        let digests = json(&project, "setup.json")["digests"].clone();
        assert!(circuit.is_file() && digests["circuit.onnx"].is_string(), "{digests:#}");

        // EZKL's own, of model.onnx, with the same settings and SRS.
        let of_model = tempfile::tempdir().unwrap();
        for name in ["model.onnx", "settings.json", "kzg.srs"] {
            fs::copy(project.model_file(name), of_model.path().join(name)).unwrap();
        }
        python::remake_model(of_model.path());
        assert!(fs::read(of_model.path().join("model_vk.vk")).unwrap() == fs::read(key).unwrap(), "the key is another");

        fs::remove_file(&circuit).unwrap();
        let predict = ["predict", "--features", "rows.csv", "--row", "7"];
        project.nova(&predict).fail(&["circuit.onnx is not the one that `nova setup` made"]).await;
        project.change_json("setup.json", |manifest| {
            manifest["digests"].as_object_mut().unwrap().remove("circuit.onnx");
        });
        project.nova(&predict).succeed().await;
    }
}
