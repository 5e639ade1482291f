//! `nova setup` on raw numbers, and what is said where they do not fit, with the real EZKL.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;

use serde_json::Value;

use crate::common::{assert_contains_all, onnx};
use crate::setup::{json, of_four_columns, rows_of_four};

const SETUP: [&str; 4] = ["setup", "--insecure-srs", "--sample", "rows.csv"];

/// The first of four columns is a time in seconds, around the threshold of `onnx::of_branches`.
fn rows_with_times(count: usize) -> impl Iterator<Item = [f64; 4]> {
    rows_of_four(count).map(|row| [(1.5e9 + row[0] * 2e8).round(), row[1], row[2], row[3]])
}

/// Case 17 of the public reports: the scaler was forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_unscaled_feature_is_named() {
    let rows = rows_of_four(240).map(|row| [(row[0] - 0.5) * 3.4e9, row[1], row[2], row[3]]);
    let project = of_four_columns(onnx::of_a_sum(), rows);
    for more in [&[][..], &["--tune"]] {
        let ended = project
            .nova(&[&SETUP[..], more].concat())
            .fail(&["column \"a\" reaches", "e9: scale it in pre_process"])
            .await;
        let said = ended.all();
        assert_contains_all(&said, &["Sigmoid is computed by lookup, in a table of", "rows"]);
        assert!(!said.contains("General synthesis error") && !said.contains('\u{1b}'), "{said}");
        assert!(!said.contains("could not find any suitable parameters"), "{said}");
    }
    assert!(!project.model_file("model.ezkl").exists());
}

/// Raw times are compared with thresholds, as trees do; one that is far beyond the sample fails alone, by its column.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_raw_times_are_compared_and_proven() {
    let project = of_four_columns(onnx::of_branches(), rows_with_times(240));
    project.nova(&SETUP).succeed().await;
    let settings = json(&project, "settings.json");
    let digits = ["decomp_base", "decomp_legs"].map(|field| settings["run_args"][field].as_f64().unwrap());
    assert!(digits[0].powf(digits[1]) > 2.0 * 1.7e9 * 2048.0, "{digits:?}");
    let predicted: Value = project.nova(&["predict", "--features", "rows.csv", "--row", "7", "--json"]).json().await;
    assert!(predicted["divergence"].as_f64().unwrap() < 0.01, "{predicted}");
    fs::write(project.path().join("far.csv"), "a,b,c,d\n0.5,0.5,3e17,0.5\n").unwrap();
    let far = project.nova(&["predict", "--features", "far.csv", "--row", "0"]);
    let ended = far.fail(&["column \"c\" reaches 3.0e17: scale it in pre_process", "steps of its fixed point"]).await;
    assert!(!ended.all().contains("General synthesis error"), "{}", ended.all());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_times_can_be_tuned() {
    let project = of_four_columns(onnx::of_branches(), rows_with_times(240));
    project.nova(&[&SETUP[..], &["--tune"]].concat()).succeed().await;
    assert!(json(&project, "tuning.json")["tried"].as_array().unwrap().len() > 1);
}

/// EZKL writes lookups and range checks in another order in each process, and the keys follow that order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_setup_makes_the_same_keys_each_time() {
    let project = of_four_columns(onnx::of_many_functions(), rows_of_four(240));
    let mut made = Vec::new();
    for _ in 0..3 {
        project.nova(&SETUP).succeed().await;
        made.push(["model_vk.vk", "settings.json"].map(|name| fs::read(project.model_file(name)).unwrap()));
    }
    let settings = json(&project, "settings.json");
    let count = |field: &str| settings[field].as_array().unwrap().len();
    assert!(count("required_lookups") >= 3 && count("required_range_checks") >= 2, "{settings:#}");
    assert!(made.iter().all(|other| *other == made[0]), "keys or settings differ");
}

/// A search that knows no error would choose the coarsest circuit.
#[tokio::test]
async fn regression_tuning_without_candle_is_refused_at_once() {
    let project = of_four_columns(onnx::with_unsupported_op(onnx::of_a_sum()), rows_of_four(240));
    let tune = [&SETUP[..], &["--tune", "--tolerance", "1"]].concat();
    let tune = project.nova(&tune).env("NOVA_ALLOW_CIRCUIT_ONLY", "true");
    let ended = tune.fail(&["--tune", "candle cannot run this model", "without --tune"]).await;
    assert!(!ended.all().contains("pre_process and candle on the sample"), "it began: {}", ended.all());
}

/// The SRS is downloaded through the proxy that the environment names, whose password nothing shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn srs_is_downloaded_through_the_proxy() {
    let project = of_four_columns(onnx::of_a_sum(), rows_of_four(240));
    for name in ["HTTPS_PROXY", "https_proxy"] {
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = proxy.local_addr().unwrap();
        let asked = std::thread::spawn(move || {
            let mut line = String::new();
            BufReader::new(proxy.accept().unwrap().0).read_line(&mut line).unwrap();
            line
        });
        let setup = project.nova(&["setup", "--sample", "rows.csv"]);
        let setup = setup.env(name, format!("http://modeler:open-sesame@{address}"));
        let setup = setup.env("EZKL_REPO_PATH", project.path().display().to_string());
        let ended = setup.fail(&["the public SRS", "cannot be downloaded"]).await;
        assert!(!ended.all().contains("open-sesame"), "{}", ended.all());
        assert!(asked.join().unwrap().starts_with("CONNECT "), "{name}");
    }
}
