//! Checks from outside: EZKL's own Python package, asked without a line of the daemon's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::model_files::PROJECT;

/// `NOVA_PYTHON`, else the project's own environment, else `python3`: as the daemon looks for it.
pub fn program() -> PathBuf {
    let own = Path::new(PROJECT).join("ezkl/.venv/bin/python");
    match std::env::var_os("NOVA_PYTHON").map(PathBuf::from) {
        // A path is one from here; commands are run elsewhere.
        Some(path) if path.components().count() > 1 => std::path::absolute(path).unwrap(),
        Some(program) => program,
        None if own.is_file() => own,
        None => "python3".into(),
    }
}

/// `NOVA_OLDER_PYTHON`, else `ezkl/older/.venv/bin/python`: a Python with the EZKL of `tests/older-ezkl.txt`.
pub fn older_program() -> PathBuf {
    let named = std::env::var_os("NOVA_OLDER_PYTHON").map(PathBuf::from);
    let older =
        std::path::absolute(named.unwrap_or_else(|| Path::new(PROJECT).join("ezkl/older/.venv/bin/python"))).unwrap();
    assert!(
        older.is_file(),
        "{} is not there: python3 -m venv ezkl/older/.venv && ezkl/older/.venv/bin/pip install --require-hashes -r tests/older-ezkl.txt",
        older.display()
    );
    older
}

/// The version that it has.
pub fn older_version() -> String {
    let pinned = std::fs::read_to_string(Path::new(PROJECT).join("tests/older-ezkl.txt")).unwrap();
    let line = pinned.lines().find_map(|line| line.strip_prefix("ezkl==")).unwrap();
    line.trim_end_matches('\\').trim().to_owned()
}

pub fn script(name: &str) -> PathBuf {
    Path::new(PROJECT).join("tests/common/scripts").join(name)
}

/// What the script printed; it must end well.
fn run(name: &str, arguments: &[&Path]) -> String {
    run_with(&program(), name, arguments)
}

fn run_with(python: &Path, name: &str, arguments: &[&Path]) -> String {
    let done = Command::new(python).arg("-I").arg(script(name)).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// The output that a proof shows, if `ezkl.verify` accepts it under the verification key in `model_files`.
pub fn verify(proof: &Path, model_files: &Path) -> Result<f64, String> {
    let said = run("verify_proof.py", &[proof, model_files]);
    said.parse().map_err(|_| said)
}

/// The same, asked of the EZKL of before.
pub fn verify_with_older(proof: &Path, model_files: &Path) -> Result<f64, String> {
    let said = run_with(&older_program(), "verify_proof.py", &[proof, model_files]);
    said.parse().map_err(|_| said)
}

/// What `ezkl.mock` says of the witness that `ezkl.gen_witness` makes of this input.
pub fn mock(input: &Path, model_files: &Path) -> Result<(), String> {
    match run("mock_witness.py", &[input, model_files]).as_str() {
        "satisfied" => Ok(()),
        refusal => Err(refusal.to_owned()),
    }
}

/// Makes preprocessing.json, model.onnx, rows.csv and rows.json of features with gaps and strings in a folder; gives what scikit-learn's
/// pipeline and the model say of each row.
pub fn mixed_project(folder: &Path) -> Vec<f64> {
    let said = run("mixed_project.py", &[&Path::new(PROJECT).join("tools"), folder]);
    serde_json::from_str(&said).unwrap()
}

/// Makes circuit and keys of the `model.onnx` in a folder anew, with the settings and the SRS that are there.
pub fn remake_model(model_files: &Path) {
    run("remake_model.py", &[model_files]);
}
