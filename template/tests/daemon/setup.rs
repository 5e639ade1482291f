//! `nova setup`, with the real EZKL on a model that is proven in no time: what it makes, measures, tunes and refuses.

use std::fs::{self, File};

use polars::prelude::{CsvWriter, ParquetReader, SerReader as _, SerWriter as _};
use serde_json::Value;

use crate::common::project::Project;
use crate::common::secrets::PRIVATE_KEY;
use crate::common::{assert_contains_all, onnx};

/// A project with the small model, and `rows.csv` of 200 rows.
fn small() -> Project {
    let project = Project::without_setup();
    project.change_model_file("model.onnx", onnx::of_one_neuron);
    let sample = File::open(project.path().join("assets/sample.parquet")).unwrap();
    let mut rows = ParquetReader::new(sample).finish().unwrap().head(Some(200));
    CsvWriter::new(File::create(project.path().join("rows.csv")).unwrap()).finish(&mut rows).unwrap();
    project
}

/// A project with this model of four columns, which takes them as they are, and a sample of `rows`.
pub(super) fn of_four_columns(model: Vec<u8>, rows: impl Iterator<Item = [f64; 4]>) -> Project {
    let project = Project::without_setup();
    project.change_model_file("model.onnx", |_| model);
    project.change_json("preprocessing.json", |file| {
        file["columns"] = serde_json::json!(["a", "b", "c", "d"]);
        file["steps"] = serde_json::json!([]);
    });
    let rows = rows.map(|row| row.map(|number| number.to_string()).join(",") + "\n").collect::<String>();
    fs::write(project.path().join("rows.csv"), format!("a,b,c,d\n{rows}")).unwrap();
    project
}

/// Numbers from 0 to 1 that look drawn at random, and are the same in each run.
fn scattered(seed: u64) -> impl Iterator<Item = f64> {
    let next =
        |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
    std::iter::successors(Some(seed), next).map(|state| (state >> 40) as f64 / f64::from(1 << 24)).skip(1)
}

pub(super) fn rows_of_four(count: usize) -> impl Iterator<Item = [f64; 4]> {
    let mut numbers = scattered(5);
    std::iter::repeat_with(move || std::array::from_fn(|_| numbers.next().unwrap())).take(count)
}

/// Where all inputs are whole numbers EZKL gives them scale 0. The weights and the output keep theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_model_of_whole_numbers_keeps_its_precision() {
    let counts = rows_of_four(240).map(|row| row.map(|number| (number * 12.0).floor()));
    let project = of_four_columns(onnx::of_whole_numbers(), counts);
    project.nova(&["setup", "--insecure-srs", "--sample", "rows.csv"]).succeed().await;
    let settings = json(&project, "settings.json");
    assert!(settings["run_args"]["param_scale"].as_i64().unwrap() >= 7, "{settings:#}");
    let fidelity = json(&project, "setup.json")["making"]["fidelity"].clone();
    assert!(fidelity["max"].as_f64().unwrap() < 0.01 && fidelity["rows"] == 60, "{fidelity:#}");
    let predicted: Value = project.nova(&["predict", "--features", "rows.csv", "--row", "7", "--json"]).json().await;
    assert!(predicted["divergence"].as_f64().unwrap() < 0.01, "{predicted}");
}

/// Case 02 of the public reports: near the boundary between two classes rounding makes another one of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_class_that_is_off_by_one_is_never_submitted() {
    for model in [onnx::of_classes(), onnx::of_classes_as_floats()] {
        let project = of_four_columns(model, rows_of_four(400));
        let setup = ["setup", "--insecure-srs", "--sample", "rows.csv"];
        project.nova(&[&setup[..], &["--max-refused", "1"]].concat()).succeed().await;
        let fidelity = json(&project, "setup.json")["making"]["fidelity"].clone();
        let refused = fidelity["refused"].as_array().unwrap();
        assert!(fidelity["over_limit"].as_f64().unwrap() > 0.0 && !refused.is_empty(), "{fidelity:#}");
        for refused in refused {
            let row = refused["row"].to_string();
            let predict = ["predict", "--features", "rows.csv", "--row", &row];
            project.nova(&predict).fail(&["candle says", "the circuit", "whole numbers must be equal"]).await;
        }
        let row = (0..400).step_by(4).find(|row| refused.iter().all(|refused| refused["row"] != *row)).unwrap();
        project.nova(&["predict", "--features", "rows.csv", "--row", &row.to_string()]).succeed().await;
    }
}

/// A label that no answer needs is left out of the circuit, by the next `setup` too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_that_are_left_out_are_not_in_the_circuit() {
    let project = of_four_columns(onnx::of_classes_and_a_margin(), rows_of_four(400));
    let setup = ["setup", "--insecure-srs", "--sample", "rows.csv"];
    let unknown = [&setup[..], &["--output", "odds"]].concat();
    project.nova(&unknown).fail(&["--output", "odds", r#"["class", "margin"]"#]).await;
    // The hook takes one number: with both it has no answer yet.
    let says = ["has no answer yet", "post_process", "class [1], margin [1, 1]"];
    assert_contains_all(&project.nova(&[&setup[..], &["--max-refused", "1"]].concat()).succeed().await, &says);
    for arguments in [&["--output", "margin"][..], &[]] {
        project.nova(&[&setup[..], arguments].concat()).succeed().await;
        let making = json(&project, "setup.json")["making"].clone();
        assert_eq!(
            (&making["fidelity"]["over_limit"], making["outputs"].to_string().as_str()),
            (&0.0.into(), r#"["margin"]"#)
        );
        let row: Value = project.nova(&["predict", "--features", "rows.csv", "--json"]).json().await;
        assert_eq!(
            (row["model"].as_array().unwrap().len(), row["circuit"].as_array().unwrap().len()),
            (1, 1),
            "{row:#}"
        );
    }
}

/// The output's scale is 26 here: two of its steps are 3e-8, and the errors are those of the inputs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_outputs_around_zero_are_answered() {
    let project = of_four_columns(onnx::of_margins(&[0.05, -0.05, 0.03, -0.02]), rows_of_four(400));
    let said = project.nova(&["setup", "--insecure-srs", "--sample", "rows.csv"]).succeed().await;
    assert_contains_all(&said, &["a witness took", "its check by mock", "mock checks one answer in 20"]);
    let making = json(&project, "setup.json")["making"].clone();
    let measured = &making["fidelity"]["measured"]["outputs"][0];
    assert!(making["fidelity"]["over_limit"] == 0.0 && making["mock_seconds"].as_f64() > Some(0.0), "{making:#}");
    assert!(measured["error_p99"].as_f64().unwrap() < 1e-3 && measured["p1"].as_f64().unwrap() < 0.0, "{measured:#}");
    for row in ["0", "1", "2", "3"] {
        project.nova(&["predict", "--features", "rows.csv", "--row", row]).succeed().await;
    }
}

/// The weights are less than half a step of any scale that is tried: every answer would be 0, and off by less than a step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setup_refuses_a_circuit_too_coarse_for_its_output() {
    let project = of_four_columns(onnx::of_margins(&[1e-9, -1e-9, 2e-9, 1e-9]), rows_of_four(200));
    let says = ["the circuit is too coarse for output \"y\"", "99 % of the held-out rows", "NOVA_MAX_DIVERGENCE_ABS"];
    project.nova(&["setup", "--insecure-srs", "--sample", "rows.csv"]).fail(&says).await;
}

/// At 2^(scale + 1) EZKL 23.0.5 makes a witness inside all ranges that has no proof.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_witness_without_a_proof_is_refused() {
    let project = of_four_columns(
        onnx::of_a_reciprocal(),
        rows_of_four(240).map(|[first, rest @ ..]| [1.0 + first * 40_000.0, rest[0], rest[1], rest[2]]),
    );
    let wide = |args: &[&str]| project.nova(args).env("NOVA_MAX_DIVERGENCE_ABS", "0.01");
    let said = wide(&["setup", "--insecure-srs", "--sample", "rows.csv"]).succeed().await;
    assert_contains_all(&said, &["mock checks every answer, because the circuit holds Reciprocal"]);
    let scale = json(&project, "settings.json")["run_args"]["input_scale"].as_u64().unwrap();
    fs::write(project.path().join("tie.csv"), format!("a,b,c,d\n{},0,0,0\n", 2_u64 << scale)).unwrap();
    let predict = ["predict", "--features", "tie.csv"];
    wide(&predict).fail(&["could not be proven", "Reciprocal", "EZKL:"]).await;
    wide(&predict).env("NOVA_MOCK", "always").fail(&["could not be proven", "EZKL:"]).await;
    wide(&["predict", "--features", "rows.csv"]).succeed().await;
}

/// Each combination that is offered is proven: `setup` and `doctor` compare the proof's instances with what would be committed to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_every_visibility_that_is_offered_can_be_proven() {
    let project = of_four_columns(onnx::of_whole_numbers(), rows_of_four(200).map(|row| row.map(f64::round)));
    for [input, output, parameters] in [
        ["public", "public", "hashed/public"],
        ["private", "hashed/public", "fixed"],
        ["hashed/public", "public", "private"],
        ["hashed/public", "hashed/public", "hashed/public"],
    ] {
        let asked = ["--input-visibility", input, "--output-visibility", output, "--param-visibility", parameters];
        project.nova(&[&["setup", "--insecure-srs", "--sample", "rows.csv"], &asked[..]].concat()).succeed().await;
        let doctor = project.nova(&["doctor", "--sample", "rows.csv"]).run().await.all();
        assert_contains_all(&doctor, &["✓ hooks and circuit", "✓ prover: a row of the sample was proved and verified"]);
    }
}

#[tokio::test]
async fn regression_a_visibility_that_cannot_be_served_is_not_offered() {
    let project = Project::new();
    for (option, refused) in [
        ("--input-visibility", ["fixed", "polycommit", "hashed/private/0"]),
        ("--output-visibility", ["private", "fixed", "polycommit"]),
        ("--param-visibility", ["public", "polycommit", "hashed/private/0"]),
    ] {
        for refused in refused {
            let ended = project.nova(&["setup", option, refused]).run().await;
            assert_eq!(ended.status.code(), Some(2), "{option} {refused}: {}", ended.all());
            assert_contains_all(&ended.stderr, &["possible values", option]);
        }
    }
    // What was made before they were refused is served no more.
    for (field, held) in [("output_visibility", "Private"), ("input_visibility", "KZGCommit")] {
        let project = Project::new();
        project.remove_model_file("setup.json");
        project.change_json("settings.json", |settings| settings["run_args"][field] = held.into());
        let option = format!("nova setup --{}", field.replace('_', "-"));
        let says = ["settings.json", field, "cannot be proven", &option];
        project.nova(&["predict", "--row", "3"]).fail(&says).await;
        // Whatever the chain is: it stops before it asks.
        let away = "http://127.0.0.1:1";
        let settings = [
            ("NOVA_NETWORK", "devnet"),
            ("NOVA_SPECTRAL_API_KEY", "k"),
            ("NOVA_CLI_WALLET_PRIVATE_KEY", PRIVATE_KEY),
            ("NOVA_RPC_URLS", away),
            ("NOVA_PLUMBER_HOST", away),
            ("NOVA_PULSE_HOST", away),
        ];
        let run = settings.into_iter().fold(project.nova(&["run"]), |run, (name, value)| run.env(name, value));
        run.env("NOVA_CHALLENGE_ADDRESS", format!("0x{}", "5".repeat(40))).fail(&says).await;
    }
}

pub(super) fn json(project: &Project, file: &str) -> Value {
    serde_json::from_slice(&fs::read(project.model_file(file)).unwrap()).unwrap()
}

/// All that a modeler is told is measured: the error of both, what was refused, the proofs' times, and which is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tuning_finds_a_faster_proof_at_no_greater_error_and_shows_it() {
    let project = small();
    let said = project.nova(&["setup", "--insecure-srs", "--sample", "rows.csv", "--tune"]).run().await;
    assert!(said.status.success(), "{}", said.all());
    assert_contains_all(
        &said.stderr,
        &["pre_process and candle on the sample … (then: calibration)", "✓ EZKL's own settings", "INSECURE"],
    );
    assert_contains_all(&said.stdout, &["EZKL's own", "→", "held-out rows: mean"]);

    let tuning = json(&project, "tuning.json");
    let tried = tuning["tried"].as_array().unwrap();
    let chosen = &tried[tuning["chosen"].as_u64().unwrap() as usize];
    let default = tried.iter().find(|trial| trial["is_default"] == true).unwrap();
    let fastest = |trial: &Value| {
        let seconds = trial["prove_seconds"].as_array().unwrap().iter().filter_map(Value::as_f64);
        // A larger proving key must be worth it: it must save a twentieth.
        let larger_key = trial["choice"]["compress_selectors"] == false;
        seconds.fold(f64::INFINITY, f64::min) / if larger_key { 0.95 } else { 1.0 }
    };
    // One row in a hundred may be refused, and is then not in the mean.
    for (error, slack) in [("mean", 1.0 / 0.99), ("p99", 1.0), ("max", 1.0)] {
        let of = |trial: &Value| trial["fidelity"][error].as_f64().unwrap();
        assert!(of(chosen) <= of(default) * slack, "{tuning:#}");
    }
    assert!(tried.iter().all(|trial| !trial["dropped"].is_null() || fastest(chosen) <= fastest(trial)), "{tuning:#}");
    assert!(chosen["peak_memory_mb"].as_u64().unwrap() > 10, "{chosen:#}");
    let picture = fs::read_to_string(project.model_file("tuning.svg")).unwrap();
    assert_contains_all(&picture, &["<svg", "chosen: ", "EZKL"]);

    let manifest = json(&project, "setup.json");
    assert_eq!(manifest["making"]["choice"], chosen["choice"]);
    assert_eq!(manifest["making"]["fidelity"]["rows"], 50);
    assert_eq!(manifest["making"]["calibration_rows"], 150);
    let settings = json(&project, "settings.json");
    assert_eq!(settings["run_args"]["lookup_range"], chosen["choice"]["lookup_range"]);
    // What the daemon needs is there and of one making.
    let predicted: Value = project.nova(&["predict", "--features", "rows.csv", "--row", "7", "--json"]).json().await;
    assert!(predicted["divergence"].as_f64().unwrap() < 0.01, "{predicted}");
}

/// Rows beyond what the circuit was calibrated for are named, and nothing is put into place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circuit_that_cannot_hold_the_held_out_rows_is_not_made() {
    let project = small();
    let text = fs::read_to_string(project.path().join("rows.csv")).unwrap();
    // Rows 0 and 4 are held out. Such values are nowhere in the rows that calibrate.
    let far = text.lines().enumerate().map(|(at, line)| match at {
        1 | 5 => line
            .split(',')
            .enumerate()
            .map(|(at, cell)| if at == 0 { cell } else { "1e10" })
            .collect::<Vec<_>>()
            .join(","),
        _ => line.to_owned(),
    });
    fs::write(project.path().join("far.csv"), far.map(|line| line + "\n").collect::<String>()).unwrap();
    let setup = project.nova(&["setup", "--insecure-srs", "--sample", "far.csv"]);
    let says = [
        "the circuit cannot hold 4.0 % of the 50 rows of far.csv",
        "row 0: ",
        "row 4: ",
        "--max-refused",
        "--lookup-margin",
    ];
    setup.fail(&says).await;
    assert!(!project.model_file("model.ezkl").exists() && !project.model_file("setup.json").exists());
}

/// Who sees the inputs is the owner's choice: a new setup keeps it, and one that cannot tell it makes nothing. A file may
/// have its place on another disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_inputs_stay_private_and_the_proving_key_may_be_elsewhere() {
    let project = small();
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let key = elsewhere.path().join("proving.key");
    let setup = |more: &[&str]| {
        let arguments = [&["setup", "--insecure-srs", "--sample", "rows.csv"], more].concat();
        project.nova(&arguments).env("NOVA_PROVING_KEY_PATH", key.display().to_string())
    };
    setup(&["--input-visibility", "private"]).succeed().await;
    setup(&[]).succeed().await;
    assert_eq!(json(&project, "settings.json")["run_args"]["input_visibility"], "Private");
    assert!(key.is_file() && !project.model_file("model_pk.pk").exists());
    let left = fs::read_dir(project.model_file(".")).unwrap().flatten().map(|entry| entry.file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with('.')), "hidden files are left");

    let key_before = fs::read(&key).unwrap();
    fs::write(project.model_file("settings.json"), "{").unwrap();
    setup(&[]).fail(&["settings.json", "--input-visibility", "--param-visibility"]).await;
    assert_eq!(fs::read(&key).unwrap(), key_before, "what was there is as it was");
}

/// What the prover may have is never exceeded: the search says what it would have needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_without_enough_memory_ends_and_says_so() {
    let project = small();
    let search = project.nova(&["setup", "--insecure-srs", "--sample", "rows.csv", "--tune", "--max-memory", "70"]);
    search.fail(&["no settings are good enough", "--max-memory"]).await;
    assert!(!project.model_file("tuning.json").exists() && !project.model_file("setup.json").exists());
}

/// Every sample that is none ends with the file, the row and the column.
#[tokio::test]
async fn a_bad_sample_is_named_with_row_and_column() {
    let project = small();
    let text = fs::read_to_string(project.path().join("rows.csv")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let second = lines[0].split(',').nth(1).unwrap();
    let with = |cell: &str| {
        let mut cells: Vec<&str> = lines[4].split(',').collect();
        cells[1] = cell;
        [&lines[..4], &[cells.join(",").as_str()], &lines[5..]].concat().join("\n")
    };
    let without: String = lines
        .iter()
        .map(|line| {
            line.split(',').enumerate().filter(|(at, _)| *at != 1).map(|(_, cell)| cell).collect::<Vec<_>>().join(",")
                + "\n"
        })
        .collect();
    let cases = [
        ("strings.csv", with("plenty"), vec![second, "row 3", "\"plenty\""]),
        ("nan.csv", with("NaN"), vec![second, "row 3", "NaN"]),
        ("infinite.csv", with("inf"), vec![second, "row 3", "inf"]),
        ("gap.csv", with(""), vec![second, "row 3", "empty"]),
        ("missing.csv", without, vec!["row 0", second, "preprocessing.json"]),
        ("head.csv", lines[0].to_owned(), vec!["holds no row"]),
        ("one.csv", lines[..2].join("\n"), vec!["has 1 rows", "at least 200"]),
        ("empty.csv", String::new(), vec![]),
        ("no.parquet", text.clone(), vec!["no parquet file"]),
    ];
    for (name, content, mut says) in cases {
        fs::write(project.path().join(name), content).unwrap();
        says.push(name);
        project.nova(&["setup", "--insecure-srs", "--sample", name]).fail(&says).await;
    }
}
