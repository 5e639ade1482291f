//! A program that is no EZKL, in Python's place: which calls wait for which.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// Answers `version`, and sleeps over anything else.
const SLEEPS: &str = r#"#!/bin/sh
while read -r line; do
    case "$line" in
        *'"version"'*) echo '{"id": 1, "value": "23.0.5"}' ;;
        *) exec sleep 600 ;;
    esac
done
"#;

/// One worker of each kind, and so long for a mock.
fn ezkl(folder: &Path, mock_timeout: Duration) -> Ezkl {
    let python = folder.join("python");
    fs::write(&python, SLEEPS).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let hour = Duration::from_secs(3600);
    Ezkl::new(&config::Ezkl {
        mock: config::MockPolicy::Auto,
        python,
        pythons: BTreeMap::new(),
        witness_workers: 1,
        mock_threads: 1,
        prover_threads: 1,
        witness_timeout: hour,
        mock_timeout,
        prove_timeout: hour,
        memory_mb: None,
    })
    .unwrap()
}

fn nothing() -> ModelFiles {
    ModelFiles::in_folder(&PathBuf::from("nothing"))
}

#[tokio::test]
async fn a_mock_that_takes_too_long_may_pass_and_names_its_variable() {
    let folder = tempfile::tempdir().unwrap();
    let ezkl = ezkl(folder.path(), Duration::from_millis(300));
    let fault = ezkl.mock(&nothing(), Path::new("witness.json")).await.unwrap_err();
    assert!(matches!(fault, Fault::Transient(_)), "{fault:?}");
    let told = fault.to_string();
    assert!(told.contains("longer than 300ms for mock") && told.contains("NOVA_MOCK_TIMEOUT"), "{told}");
    assert!(ezkl.failure_reason().is_some_and(|trouble| trouble == told), "{:?}", ezkl.failure_reason());
}

#[tokio::test]
async fn a_mock_that_takes_long_keeps_no_witness_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let ezkl = ezkl(folder.path(), Duration::from_secs(3600));
    let mock = tokio::spawn({
        let ezkl = ezkl.clone();
        async move { ezkl.mock(&nothing(), Path::new("witness.json")).await }
    });
    while ezkl.mocks.process.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    // The version is asked of the only witness worker.
    assert_eq!(ezkl.version().await.unwrap(), "23.0.5");
    assert!(!mock.is_finished());
    mock.abort();
}
