//! Data as it comes, gaps and strings among it: from the sample through `setup` to answers, and what is never answered.

use std::fs::{self, File};

use nova_devnet::Fault;
use polars::prelude::{CsvWriter, IntoLazy as _, ParquetReader, SerReader as _, SerWriter as _, col, lit, when};
use serde_json::{Value, json};

use crate::common::net::Net;
use crate::common::project::Project;
use crate::common::{assert_contains_all, onnx, python};

fn json_of(project: &Project, file: &str) -> Value {
    serde_json::from_slice(&fs::read(project.path().join(file)).unwrap()).unwrap()
}

/// scikit-learn's imputers, indicators and encoders of strings, equal from each form of file; more gaps than the sample shows are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gaps_and_strings_go_from_file_to_answer() {
    let project = Project::without_setup();
    let folder = tempfile::tempdir().unwrap();
    let expected = python::mixed_project(folder.path());
    for name in ["model.onnx", "preprocessing.json"] {
        project.change_model_file(name, |_| fs::read(folder.path().join(name)).unwrap());
    }
    for name in ["rows.csv", "rows.json"] {
        fs::copy(folder.path().join(name), project.path().join(name)).unwrap();
    }
    // Before `setup` there is nothing to hold a row to.
    let both = json!({"age": 5, "region": "1", "defi_user": true});
    fs::write(project.path().join("both.json"), both.to_string()).unwrap();
    let predict = |file: &str, row: usize, expect: f64| {
        let row = row.to_string();
        project.nova(&["predict", "--features", file, "--row", &row, "--expect", &expect.to_string()])
    };
    project.nova(&["predict", "--features", "both.json"]).fail(&["features are missing", "debt", "tier"]).await;
    predict("rows.csv", 0, expected[0]).succeed().await;

    project.nova(&["setup", "--insecure-srs", "--sample", "rows.csv"]).succeed().await;
    let features = json_of(&project, "model_files/setup.json")["making"]["features"].clone();
    assert_eq!(features["gaps"], json!({"columns": ["debt", "tier"], "most_at_once": 1}));
    assert_eq!(features["texts"], json!(["note", "region", "tier", "wallet_address"]));
    for (row, expected) in expected.iter().enumerate().filter(|(row, _)| [0, 1, 5, 7].contains(row)) {
        for file in ["rows.csv", "rows.json"] {
            predict(file, row, *expected).succeed().await;
        }
    }
    // A field that is not there is a gap.
    let mut row = json_of(&project, "rows.json")[5].clone();
    assert!(row.as_object_mut().unwrap().shift_remove("debt").unwrap().is_null());
    fs::write(project.path().join("absent.json"), row.to_string()).unwrap();
    predict("absent.json", 0, expected[5]).succeed().await;

    let change = |name: &str, value: Value| {
        let mut row = row.clone();
        row[name] = value;
        fs::write(project.path().join("changed.json"), row.to_string()).unwrap();
        project.nova(&["predict", "--features", "changed.json"])
    };
    change("tier", Value::Null).fail(&["\"debt\"", "\"tier\"", "2 features are missing at once", "more than 1"]).await;
    change("age", Value::Null).fail(&[r#"feature "age" is null, expected a number"#]).await;
    change("age", json!("old")).fail(&[r#"feature "age" is "old", expected a number"#]).await;
    change("unused", json!([1])).succeed().await;
    change("note", Value::Null).succeed().await;
    let doctor = project.nova(&["doctor", "--sample", "rows.csv"]).run().await.all();
    assert_contains_all(&doctor, &["✓ hooks and circuit", "✓ prover"]);
}

/// What Plumber lacks is imputed where the sample lacks it too; a string in its place is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_of_plumber_is_answered_as_in_the_sample() {
    let project = Project::without_setup();
    project.change_model_file("model.onnx", onnx::of_one_neuron);
    project.change_json("preprocessing.json", |file| {
        let (columns, mean) = (file["columns"].clone(), file["steps"][0]["mean"].clone());
        let imputer = json!({"class": "SimpleImputer", "name": "impute", "missing": null, "fill": mean, "indicator": [],
            "output": columns});
        file["steps"].as_array_mut().unwrap().insert(0, imputer);
    });
    let sample = File::open(project.path().join("assets/sample.parquet")).unwrap();
    let rows = ParquetReader::new(sample).finish().unwrap().head(Some(240)).lazy().with_row_index("row", None);
    let gap =
        when((col("row") % lit(5)).eq(lit(0))).then(lit(polars::prelude::NULL)).otherwise(col("total_balance_eth"));
    let mut rows = rows.with_column(gap.alias("total_balance_eth")).collect().unwrap().drop("row").unwrap();
    CsvWriter::new(File::create(project.path().join("rows.csv")).unwrap()).finish(&mut rows).unwrap();
    project.nova(&["setup", "--insecure-srs", "--lookup-margin", "2", "--sample", "rows.csv"]).succeed().await;

    let net = Net::start().await;
    let wallets = net.fresh_wallets(4).await.unwrap();
    for (wallet, fault) in wallets[1..].iter().zip([Fault::Nan, Fault::Missing, Fault::String]) {
        net.devnet.services.set_fault(*wallet, Some(fault));
    }
    let requests = net.ask_about(&wallets).await;
    let daemon = project.nova(&["run"]).envs(net.env()).start().ready().await;
    net.answered_once(&requests[..3]).await;
    let row = project.request_row(requests[3].id, "tried again", |row| row.reason.is_some()).await;
    assert_contains_all(&row.reason.unwrap(), &[r#"feature "total_balance_eth" is "a lot", expected a number"#]);
    assert_eq!(row.state, "seen");
    net.devnet.services.set_fault(wallets[3], None);
    net.answered_once(&requests[3..]).await;
    daemon.stop().await;
}

/// A few rows that the hooks do not take are named and left out; where they are many, nothing is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_sample_that_cannot_be_used_are_named() {
    let project = Project::without_setup();
    project.change_model_file("model.onnx", onnx::of_one_neuron);
    let sample = File::open(project.path().join("assets/sample.parquet")).unwrap();
    let rows = ParquetReader::new(sample).finish().unwrap().head(Some(240));
    for (name, bad) in [("few.csv", vec![3, 9]), ("many.csv", (0..20).collect())] {
        let row = rows.clone().lazy().with_row_index("row", None);
        let is_bad = bad.iter().fold(lit(false), |any, at| any.or(col("row").eq(lit(*at))));
        let gap = when(is_bad).then(lit(polars::prelude::NULL)).otherwise(col("total_balance_eth"));
        let mut rows = row.with_column(gap.alias("total_balance_eth")).collect().unwrap().drop("row").unwrap();
        CsvWriter::new(File::create(project.path().join(name)).unwrap()).finish(&mut rows).unwrap();
    }
    let setup = |name| project.nova(&["setup", "--insecure-srs", "--sample", name]);
    let says = ["more than 5 % of the 240 rows of many.csv", "20 rows", "row 0: ", "\"total_balance_eth\" is empty"];
    setup("many.csv").fail(&says).await;
    let ended = setup("few.csv").run().await;
    assert!(ended.status.success(), "{}", ended.all());
    assert_contains_all(
        &ended.stderr,
        &["2 rows of few.csv cannot be used: row 3: ", "row 9: ", "no step fills the gap"],
    );
    assert_eq!(json_of(&project, "model_files/setup.json")["making"]["unusable_rows"], 2);
    // Such a row of a request is none that the sample shows.
    project.nova(&["predict", "--features", "few.csv", "--row", "3"]).fail(&[r#""total_balance_eth" is empty"#]).await;
}
