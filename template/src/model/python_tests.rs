//! Python for the tests that need one: with the packages of `tests/requirements.txt`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a script of `tests/common/scripts`; it must end well.
pub fn script(name: &str, arguments: &[&Path]) {
    let path = project().join("tests/common/scripts").join(name);
    let done = Command::new(program()).arg("-I").arg(path).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
}

/// `NOVA_PYTHON`, else the project's own environment, else `python3`: as the daemon looks for it.
fn program() -> PathBuf {
    let own = project().join("ezkl/.venv/bin/python");
    match std::env::var_os("NOVA_PYTHON") {
        Some(program) => program.into(),
        None if own.is_file() => own,
        None => "python3".into(),
    }
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
