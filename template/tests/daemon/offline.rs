//! What needs no key and no chain.

use std::fs;

use serde_json::{Value, json};

use crate::common::project::Project;
use crate::common::{assert_contains_all, onnx};

#[tokio::test]
async fn a_fresh_folder_has_an_empty_ledger() {
    let project = Project::without_setup();
    assert_eq!(project.nova(&["status"]).succeed().await, "no request has been seen yet\n");
    let status = project.status().await;
    assert!(status.requests.is_empty() && status.challenges.is_empty() && status.counts.is_empty(), "{status:?}");
    let id = format!("0x{}", "5".repeat(64));
    project.nova(&["retry", &id]).fail(&["nothing that failed has the id", &id]).await;
    project
        .nova(&["run"])
        .fail(&["NOVA_SPECTRAL_API_KEY", "NOVA_CLI_WALLET_PRIVATE_KEY", "NOVA_ALCHEMY_API_KEY"])
        .await;
}

#[tokio::test]
async fn predict_shows_candle_alone_before_setup_and_both_engines_after_it() {
    let sample = ["predict", "--features", "assets/sample.parquet", "--row", "3", "--json"];
    let stamped = Project::without_setup();
    let before: Value = stamped.nova(&sample).json().await;
    let absent = ["circuit", "divergence", "expected"].map(|name| &before[name]);
    assert_eq!(absent, [&Value::Null; 3]);
    assert_eq!(before["submitted"], before["model"][0][0]);

    let project = Project::new();
    let after: Value = project.nova(&sample).json().await;
    assert_eq!(after["model"], before["model"]);
    assert_eq!(after["submitted"], after["circuit"][0][0], "what is submitted is the circuit's");
    let (model, circuit) = (after["model"][0][0].as_f64().unwrap(), after["circuit"][0][0].as_f64().unwrap());
    assert_eq!(after["divergence"], json!((model - circuit).abs()));
    let table = project.nova(&sample[..5]).succeed().await;
    assert_contains_all(&table, &["candle's output", "circuit's output", "would be submitted", "times"]);

    let of_the_model = project.nova(&sample).env("NOVA_INFERENCE_SOURCE", "model").json::<Value>().await;
    assert_eq!(of_the_model["submitted"], of_the_model["model"][0][0]);
    project.nova(&["predict", "--row", "100000"]).fail(&["assets/sample.parquet", "100000"]).await;
    project.nova(&["predict", "--features", "absent.parquet"]).fail(&["absent.parquet"]).await;
    project.remove_model_file("setup.json");
    project.change_model_file("model.onnx", onnx::with_other_weights);
    project.nova(&sample).fail(&["candle says", "the circuit is of another model"]).await;
}

/// A modeler's own number, from the notebook that the model comes from.
#[tokio::test]
async fn predict_compares_what_would_be_submitted_with_what_is_expected() {
    let project = Project::new();
    let sample = |more: &[&str]| project.nova(&[&["predict", "--row", "3"], more].concat());
    let found: Value = sample(&["--json"]).json().await;
    let submitted = found["submitted"].as_f64().unwrap();
    let model = found["model"][0][0].to_string();

    // The notebook's number is the float model's, and within the circuit's limits of the submitted one.
    let near: Value = sample(&["--json", "--expect", &model]).json().await;
    let (divergence, tolerance) = (&near["expected"]["divergence"], &near["expected"]["tolerance"]);
    assert_eq!(divergence, &found["divergence"]);
    assert!(divergence.as_f64() <= tolerance.as_f64(), "{near}");
    let table = sample(&["--expect", &model]).succeed().await;
    assert_contains_all(&table, &["expected", &model, "is allowed"]);

    let far = (submitted + 0.1).to_string();
    let says = [&format!("{submitted} would be submitted, and {far} is expected"), "differ by 1.000e-1", "--tolerance"];
    sample(&["--expect", &far]).fail(&says).await;
    sample(&["--expect", &far, "--tolerance", "0.11"]).succeed().await;
    sample(&["--expect", "-1", "--tolerance", "0.11"]).fail(&["and -1 is expected"]).await;
    sample(&["--expect", &far]).env("NOVA_MAX_DIVERGENCE_ABS", "0.2").succeed().await;
    for wrong in [["--expect", "half"], ["--expect", "NaN"], ["--tolerance", "1"]] {
        let ended = sample(&wrong).run().await;
        assert!(!ended.status.success() && ended.stderr.contains("--expect"), "{wrong:?}: {}", ended.all());
    }
}

#[tokio::test]
async fn setup_says_what_it_lacks_and_leaves_what_is_there() {
    let project = Project::new();
    let row = json!({ "wallet_age": 1.0 });
    fs::write(project.path().join("few.json"), json!([row, row, row]).to_string()).unwrap();
    fs::write(project.path().join("other.json"), Value::from(vec![row; 200]).to_string()).unwrap();
    let setup = |sample: &str| project.nova(&["setup", "--insecure-srs", "--sample", sample]);
    let settings = fs::read(project.model_file("settings.json")).unwrap();

    setup("few.json").fail(&["few.json has 3 rows, calibration needs at least 200", "--sample"]).await;
    setup("absent.parquet").fail(&["absent.parquet"]).await;
    let says = [
        "200 rows of other.json cannot be used: row 0",
        "pre_process",
        "features are missing that preprocessing.json names",
    ];
    setup("other.json").fail(&says).await;
    project.change_model_file("model.onnx", onnx::with_unsupported_op);
    setup("assets/sample.parquet").fail(&["model.onnx", "uses what cannot run: Bernoulli"]).await;
    project.change_model_file("model.onnx", onnx::truncated);
    setup("assets/sample.parquet").fail(&["model.onnx", "truncated"]).await;
    project.remove_model_file("model.onnx");
    setup("assets/sample.parquet").fail(&["model.onnx is not there: put your model into"]).await;
    assert_eq!(fs::read(project.model_file("settings.json")).unwrap(), settings);
    let left: Vec<_> = fs::read_dir(project.model_files()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "unfinished files are left: {left:?}");
}

/// A model that candle cannot run is refused, unless its owner says that the circuit alone will do.
#[tokio::test]
async fn a_circuit_answers_alone_only_where_the_owner_says_so() {
    let sample = ["predict", "--features", "assets/sample.parquet", "--row", "3", "--json"];
    let project = Project::new();
    let both: Value = project.nova(&sample).json().await;
    project.remove_model_file("setup.json");
    project.change_model_file("model.onnx", onnx::with_unsupported_op);
    project.nova(&sample).fail(&["uses what cannot run: Bernoulli", "last_layer"]).await;

    let allowed = || project.nova(&sample).env("NOVA_ALLOW_CIRCUIT_ONLY", "true");
    let alone: Value = allowed().json().await;
    assert_eq!((&alone["model"], &alone["divergence"]), (&Value::Null, &Value::Null));
    assert_eq!((&alone["circuit"], &alone["submitted"]), (&both["circuit"], &both["submitted"]));
    let warning = allowed().run().await.all();
    assert_contains_all(&warning, &["NOTHING CHECKS", "uses what cannot run: Bernoulli", "last_layer"]);
    allowed().env("NOVA_INFERENCE_SOURCE", "model").fail(&["NOVA_INFERENCE_SOURCE=model", "Bernoulli"]).await;

    let doctor = project.nova(&["doctor"]).env("NOVA_ALLOW_CIRCUIT_ONLY", "true").run().await.all();
    assert_contains_all(&doctor, &["✓ ONNX model", "NOTHING CHECKS", "rows of", "was proved and verified"]);
}
