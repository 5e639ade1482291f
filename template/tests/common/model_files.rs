//! EZKL's model files, made once by `nova setup` and shared by all tests and test processes. Where the circuit is the subject, of the
//! example model; elsewhere, of one that is proven in a fraction of a second, so that provers leave the processor to the tests.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use super::{onnx, python};

/// The project under test.
pub const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

/// What the model files are made of: if one of these changes, they are made anew.
const MADE_OF: [&str; 18] = [
    "assets/sample.parquet",
    "ezkl/requirements.txt",
    "ezkl/worker.py",
    "model_files/model.onnx",
    "model_files/preprocessing.json",
    "src/ezkl/model_version.rs",
    "src/hooks.rs",
    "src/model/circuit/mod.rs",
    "src/preprocess/scale.rs",
    "src/setup/circuit_params.rs",
    "src/setup/install.rs",
    "src/setup/mod.rs",
    "src/setup/reach.rs",
    "src/setup/sample.rs",
    "src/setup/circuit_builder.rs",
    "tests/common/model_files.rs",
    "tests/common/onnx.rs",
    "tests/older-ezkl.txt",
];

/// Which circuit.
#[derive(Clone, Copy)]
enum Circuit {
    /// Of 2^14 rows: a proof takes seconds of a processor, and the prover has more than 100 MB.
    Example,
    /// Of 2^12 rows.
    Small,
    /// The same, made by an EZKL of before.
    Older,
}

/// The folder with `model.onnx`, what preprocessing needs, and all that `nova setup` makes. Not to be written to.
pub fn model_files() -> PathBuf {
    made(if env!("CARGO_CRATE_NAME") == "daemon" { Circuit::Example } else { Circuit::Small })
}

/// The same of the example model, for tests in which a proof must take its time, or need its memory.
pub fn of_the_example() -> PathBuf {
    made(Circuit::Example)
}

/// The same, small, made by the EZKL of `tests/older-ezkl.txt`.
pub fn older_model_files() -> PathBuf {
    made(Circuit::Older)
}

fn made(circuit: Circuit) -> PathBuf {
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(shared).unwrap();
    let lock = File::create(shared.join("model-files.lock")).unwrap();
    lock.lock().unwrap();
    let name = match circuit {
        Circuit::Example => "model-files",
        Circuit::Small => "small-model-files",
        Circuit::Older => "older-model-files",
    };
    let folder = shared.join(format!("{name}-{}", &digest()[..16]));
    if !folder.is_dir() {
        make(circuit, shared, &folder);
    }
    folder
}

/// The files of a later model: other weights, settings, circuit and keys; the same SRS. Not to be written to.
pub fn later_model_files() -> PathBuf {
    let first = model_files();
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let lock = File::create(shared.join("model-files.lock")).unwrap();
    lock.lock().unwrap();
    let folder = shared.join(format!("later-{}", first.file_name().unwrap().to_str().unwrap()));
    if folder.is_dir() {
        return folder;
    }
    let unfinished = tempfile::tempdir_in(shared).unwrap();
    let later = unfinished.path().join("model_files");
    fs::create_dir(&later).unwrap();
    for name in ["preprocessing.json", "settings.json", "kzg.srs"] {
        fs::copy(first.join(name), later.join(name)).unwrap();
    }
    let model = fs::read(first.join("model.onnx")).unwrap();
    fs::write(later.join("model.onnx"), onnx::with_slightly_other_weights(model)).unwrap();
    halve_columns(&later.join("settings.json"));
    python::remake_model(&later);
    fs::rename(later, &folder).unwrap();
    folder
}

/// As tuning may leave the settings: columns of half the length.
fn halve_columns(settings: &Path) {
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(settings).unwrap()).unwrap();
    let rows = &mut value["run_args"]["logrows"];
    *rows = (rows.as_u64().unwrap() - 1).into();
    fs::write(settings, value.to_string()).unwrap();
}

fn digest() -> String {
    let mut hasher = Sha256::new();
    for name in MADE_OF {
        let bytes = fs::read(Path::new(PROJECT).join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        hasher.update(format!("{name} {}\n", bytes.len()));
        hasher.update(bytes);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Made under another name and renamed, so that a folder that is there is whole.
fn make(circuit: Circuit, shared: &Path, folder: &Path) {
    let unfinished = tempfile::tempdir_in(shared).unwrap();
    let model_files = unfinished.path().join("model_files");
    copy_folder(&Path::new(PROJECT).join("model_files"), &model_files);
    let margin = match circuit {
        // The smallest that proves what the sample has, and so what the devnet serves.
        Circuit::Example => "1",
        Circuit::Small | Circuit::Older => {
            let model = model_files.join("model.onnx");
            fs::write(&model, onnx::of_one_quiet_neuron(fs::read(&model).unwrap())).unwrap();
            "2"
        }
    };
    let python = match circuit {
        Circuit::Older => python::older_program(),
        _ => python::program(),
    };
    let done = Command::new(env!("CARGO_BIN_EXE_nova"))
        .args(["setup", "--insecure-srs"])
        .args(["--lookup-margin", margin, "--sample"])
        .arg(Path::new(PROJECT).join("assets/sample.parquet"))
        .current_dir(unfinished.path())
        .env_clear()
        .envs(inherited())
        .env("NOVA_PYTHON", python)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "`nova setup` failed: {said}");
    fs::rename(model_files, folder).unwrap();
}

/// The files of the committed folder, without what `setup` may have made there.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in ["model.onnx", "preprocessing.json"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// What every `nova` gets of this process's environment: none of its settings but the Python that has EZKL.
pub fn inherited() -> BTreeMap<String, String> {
    let kept = ["PATH", "HOME", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "RUST_BACKTRACE"];
    let mut env: BTreeMap<_, _> =
        kept.into_iter().filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))).collect();
    env.insert("NOVA_PYTHON".to_owned(), python::program().display().to_string());
    env
}
