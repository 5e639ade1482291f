//! The preprocessing of `src/preprocess/` against scikit-learn itself: `cases.py` fits every transformer on generated data
//! and exports it with `tools/export_preprocessing.py`; the daemon's side must make the same of the same frames.

#[path = "../common/mod.rs"]
mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use nova::context::{Context, ContextFiles};
use nova::preprocess::Preprocessor;
use polars::prelude::{Column, DataFrame, NamedFrom, Series};
use serde::Deserialize;
use serde_json::{Map, Value};

use common::model_files::PROJECT;
use common::{assert_contains_all, python};

/// How far from scikit-learn a number may be, as a share of it where it is above 1.
const TOLERANCE: f64 = 1e-9;

/// A line of `cases.py`.
#[derive(Deserialize)]
struct Case {
    name: String,
    exported: Value,
    frame: Map<String, Value>,
    /// The names of scikit-learn's columns, where it knows them.
    names: Option<Vec<String>>,
    /// scikit-learn's columns; `None` where it refuses the frame.
    expected: Option<Vec<Vec<Value>>>,
    /// Where another than the usual.
    tolerance: Option<f64>,
}

/// A line of `exports.py`.
#[derive(Deserialize)]
struct Export {
    /// What the refusal must say; nothing where there must be none.
    says: Vec<String>,
    /// What it said.
    said: Option<String>,
    /// The file that was written.
    file: Option<String>,
}

/// What a script of this folder printed; it must end well.
fn printed(script: &str, arguments: &[&Path]) -> String {
    let project = Path::new(PROJECT);
    let mut command = Command::new(python::program());
    command.arg("-I").arg(project.join("tests/preprocessing").join(script)).arg(project.join("tools")).args(arguments);
    let done = command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// A number, which JSON may not have: `{"number": "nan"}`.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value["number"].as_str()?.parse().ok())
}

fn column(name: &str, values: &[Value]) -> Column {
    if values.iter().any(|value| value.is_string()) {
        let texts: Vec<Option<&str>> = values.iter().map(Value::as_str).collect();
        return Series::new(name.into(), texts).into();
    }
    let numbers: Vec<Option<f64>> = values.iter().map(number).collect();
    Series::new(name.into(), numbers).into()
}

impl Case {
    fn frame(&self) -> DataFrame {
        let columns: Vec<_> =
            self.frame.iter().map(|(name, values)| column(name, values.as_array().unwrap())).collect();
        let height = columns.first().map_or(0, Column::len);
        DataFrame::new(height, columns).unwrap()
    }

    /// Why what Rust makes is not what scikit-learn makes.
    fn check(&self) -> Result<(), String> {
        let preprocessor = Preprocessor::from_json("pipeline.json", &self.exported.to_string())
            .map_err(|error| format!("cannot be read: {error:#}"))?;
        let made = preprocessor.transform(&self.frame());
        let (made, expected) = match (made, &self.expected) {
            (Ok(made), Some(expected)) => (made, expected),
            (Err(error), None) => {
                let told = format!("{error:#}");
                let names_all = ["pipeline.json: ", "step \"", "column \""].iter().all(|part| told.contains(part));
                return if names_all { Ok(()) } else { Err(format!("file, step and column are missing in: {told}")) };
            }
            (Err(error), Some(_)) => return Err(format!("refused, unlike by scikit-learn: {error:#}")),
            (Ok(_), None) => return Err("taken, and scikit-learn refuses it".to_owned()),
        };
        if let Some(names) = &self.names
            && preprocessor.output() != names
        {
            return Err(format!("the columns are {:?}, expected {names:?}", preprocessor.output()));
        }
        if made.width() != expected.len() {
            return Err(format!("{} columns, expected {}", made.width(), expected.len()));
        }
        let tolerance = self.tolerance.unwrap_or(TOLERANCE);
        made.columns().iter().zip(expected).try_for_each(|(made, expected)| same(made, expected, tolerance))
    }
}

/// The difference of a column, if there is one.
fn same(made: &Column, expected: &[Value], tolerance: f64) -> Result<(), String> {
    let expected = column(made.name(), expected);
    if made.len() != expected.len() {
        return Err(format!("column {:?} has {} rows, expected {}", made.name(), made.len(), expected.len()));
    }
    if made.dtype().is_string() {
        return if *made == expected { Ok(()) } else { Err(format!("column {:?} differs", made.name())) };
    }
    let expected = expected.f64().map_err(|error| error.to_string())?;
    for (row, (made_number, expected)) in made.f64().unwrap().iter().zip(expected.iter()).enumerate() {
        let (Some(made_number), Some(expected)) = (made_number, expected) else {
            return Err(format!("column {:?} has a gap in row {row}", made.name()));
        };
        let equal = made_number == expected || made_number.is_nan() && expected.is_nan();
        let near = (made_number - expected).abs() <= tolerance * expected.abs().max(1.0);
        if !equal && !near {
            return Err(format!("column {:?}, row {row}: {made_number:e}, expected {expected:e}", made.name()));
        }
    }
    Ok(())
}

#[test]
fn every_transformer_makes_what_scikit_learn_makes() {
    let lines = printed("cases.py", &[]);
    let mut wrong = Vec::new();
    let mut refused = 0;
    for line in lines.lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        refused += usize::from(case.expected.is_none());
        wrong.extend(case.check().err().map(|why| format!("{}: {why}", case.name)));
    }
    let all = lines.lines().count();
    println!("{all} cases, {refused} of them refused by scikit-learn, {} wrong", wrong.len());
    assert!(all > 100, "{all} cases");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_export_refuses_what_it_does_not_know_by_name_and_hooks_load_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let files = ContextFiles::new(folder.path());
    let mut taken = 0;
    for line in printed("exports.py", &[folder.path()]).lines() {
        let Export { says, said, file } = serde_json::from_str(line).unwrap();
        if says.is_empty() {
            assert_eq!(said, None);
            let ctx = Context::new(files.clone(), "0x01", "");
            assert_eq!(ctx.preprocessor(&file.unwrap()).unwrap().columns().len(), 9);
            taken += 1;
        } else {
            assert_eq!(file, None, "{says:?}");
            assert_contains_all(&said.unwrap(), &says.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
    assert_eq!(taken, 5);
}
