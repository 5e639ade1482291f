//! Programs that are no EZKL, in Python's place: whatever a worker does, its caller is told in time, and clearly.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use super::*;

/// Far above what any of these takes, and far below a test's patience.
const DEADLINE: Duration = Duration::from_secs(20);

/// A worker whose program is this shell script.
fn worker(folder: &Path, script: &str) -> Result<Worker, Failure> {
    let python = folder.join("python");
    fs::write(&python, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    Worker::start(&kind(python))
}

fn kind(python: PathBuf) -> WorkerSpec {
    let scratch = Arc::new(Scratch::new().unwrap());
    WorkerSpec {
        python,
        scratch,
        background: false,
        threads: 1,
        downloads: false,
        memory_mb: None,
        patience: Patience::default(),
    }
}

/// What becomes of a call to a worker that may sleep for a fifth of a second.
async fn impatient_call(script: &str, function: &'static str, deadline: Duration) -> Failure {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker(folder.path(), script).unwrap();
    worker.patience = Patience { interval: Duration::from_millis(50), looks: 4 };
    worker.call(function, json!({}), deadline).await.unwrap_err()
}

async fn failure(script: &str, deadline: Duration) -> Failure {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker(folder.path(), script).unwrap();
    let started = Instant::now();
    let failure = worker.call("version", json!({}), deadline).await.unwrap_err();
    assert!(started.elapsed() < DEADLINE, "{failure} came after {:?}", started.elapsed());
    failure
}

#[tokio::test]
async fn rubbish_is_quoted_and_harmless() {
    for (script, says) in [
        (r"printf 'Traceback\033[31m\n'", r#"answered version with "Traceback\u{1b}[31m""#),
        (r"printf '\377\376\n'", "answered version with"),
        ("echo '{\"id\": 7, \"value\": 1}'", "answered version with"),
        ("echo '[]'", r#"answered version with "[]""#),
    ] {
        let told = failure(&format!("{script}; exec sleep 60"), DEADLINE).await.to_string();
        assert!(told.contains(says) && told.contains("was ended"), "{told}");
    }
}

#[tokio::test]
async fn one_that_dies_leaves_its_last_words_and_how_it_ended() {
    let told = failure("echo first >&2; printf 'out of\\tluck\\n\\n' >&2; exit 3", DEADLINE).await.to_string();
    assert_eq!(told, r"the EZKL worker died (exit status: 3): out of\tluck");
    let told = failure("kill -KILL $$", DEADLINE).await.to_string();
    assert!(told.contains("signal: 9") && told.contains("when memory runs out"), "{told}");
    // Half a line is no answer.
    let told = failure("printf '{\"id\": 1, \"value\"'", DEADLINE).await.to_string();
    assert!(told.contains("exit status: 0"), "{told}");
}

#[tokio::test]
async fn one_that_closes_its_output_and_stays_is_ended() {
    let told = failure("echo 'I stay' >&2; exec >&- 2>&-; sleep 600", DEADLINE).await.to_string();
    assert!(told.contains("signal: 9") && told.contains("I stay"), "{told}");
}

#[tokio::test]
async fn one_that_hangs_is_ended_at_the_deadline() {
    let told = failure("exec sleep 600", Duration::from_millis(200)).await.to_string();
    assert_eq!(told, "the EZKL worker took longer than 200ms for version and was ended");
    // It reads nothing, so that not even the call gets through.
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker(folder.path(), "exec sleep 600").unwrap();
    let large = json!({ "data": "x".repeat(1 << 20) });
    let failure = worker.call("gen_witness", large, Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(failure, Failure::TimedOut(..)), "{failure}");
}

#[tokio::test]
async fn one_that_sleeps_is_ended_before_its_deadline() {
    let failure = impatient_call("exec sleep 600", "prove", DEADLINE).await;
    let told = "the EZKL worker made no progress in prove for 200ms: it used no processor and was ended";
    assert_eq!(failure.to_string(), told);
    assert!(matches!(failure.into_request_fault(), Fault::Transient(_)), "it may work the next time");
}

#[tokio::test]
async fn one_that_computes_has_until_its_deadline() {
    let failure = impatient_call("while :; do :; done", "prove", Duration::from_secs(1)).await;
    assert!(matches!(failure, Failure::TimedOut(..)), "{failure}");
}

#[tokio::test]
async fn one_that_downloads_has_until_its_deadline() {
    let failure = impatient_call("exec sleep 600", "get_srs", Duration::from_secs(1)).await;
    assert!(matches!(failure, Failure::TimedOut(..)), "{failure}");
}

#[tokio::test]
async fn one_that_is_missing_says_how_to_get_it() {
    let Err(failure) = Worker::start(&kind("/nowhere/python".into())) else { panic!("it started") };
    let told = failure.to_string();
    assert!(told.contains("/nowhere/python") && told.contains("NOVA_PYTHON"), "{told}");
}

#[tokio::test]
async fn an_idle_one_that_ended_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker(folder.path(), "exit 0").unwrap();
    worker.child.wait().await.unwrap();
    assert!(!worker.is_alive());
}

#[tokio::test]
async fn a_line_without_end_is_read_up_to_its_limit() {
    let endless = vec![b'x'; 100];
    let mut endless = endless.as_slice();
    assert!(matches!(read_line(&mut endless, 10).await.unwrap(), Line::Part(part) if part.len() == 10));
    let mut lines: &[u8] = b"a\n\nb";
    assert!(matches!(read_line(&mut lines, 10).await.unwrap(), Line::Whole(line) if line == b"a"));
    assert!(matches!(read_line(&mut lines, 10).await.unwrap(), Line::Whole(line) if line.is_empty()));
    assert!(matches!(read_line(&mut lines, 10).await.unwrap(), Line::Part(part) if part == b"b"));
    assert!(matches!(read_line(&mut lines, 10).await.unwrap(), Line::End));
}

/// A worker that refuses every call, and writes these words before each reply.
fn refusing(words: &str) -> String {
    let refuse = |id: u32| {
        format!(
            "read -r call; {}; printf '\\n\\036call {id}\\n' >&2; echo '{{\"id\": {id}, \"error\": \"General synthesis error\"}}'",
            words.replace("ID", &id.to_string())
        )
    };
    format!("{}\n{}\nexec sleep 60", refuse(1), refuse(2))
}

#[tokio::test]
async fn refusal_holds_what_its_own_call_logged() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker =
        worker(folder.path(), &refusing("echo 'reason ID' >&2; sleep 0.2; echo 'more of ID' >&2")).unwrap();
    for (own, other) in [("reason 1; more of 1", "2"), ("reason 2; more of 2", "1")] {
        let told = worker.call("version", json!({}), DEADLINE).await.unwrap_err().to_string();
        assert!(told.contains(own) && !told.contains(other), "{told}");
    }
}

#[tokio::test]
async fn refusal_without_a_mark_holds_what_came_before_it() {
    let refuses =
        "echo 'Unknown op: Rem' >&2; echo '{\"id\": 1, \"error\": \"General synthesis error\"}'; exec sleep 60";
    let told = failure(refuses, DEADLINE).await.to_string();
    assert!(told.contains("operator Rem"), "{told}");
}

#[tokio::test]
async fn refusal_is_of_bounded_length() {
    let endless = "i=0; while [ $i -lt 5000 ]; do echo \"line $i of a long story\" >&2; i=$((i+1)); done";
    let told = failure(&refusing(endless), DEADLINE).await.to_string();
    assert!(told.chars().count() < 1_000 && told.contains("line 49"), "{told}");
}

/// The environment of a worker, as the process itself has it.
#[tokio::test]
async fn a_worker_gets_none_of_our_environment_but_what_is_listed() {
    let told = failure("env | cut -d= -f1 | sort | tr '\\n' ' ' >&2; exit 1", DEADLINE).await.to_string();
    let names: Vec<&str> = told.split("): ").nth(1).unwrap().split_whitespace().collect();
    for name in names {
        // What the shell itself sets.
        let of_the_shell = ["_", "PWD", "SHLVL", "OLDPWD"].contains(&name);
        let given = ["EZKL_REPO_PATH", "RAYON_NUM_THREADS", "TMPDIR"].contains(&name) || ENVIRONMENT.contains(&name);
        assert!(of_the_shell || given, "{name} in {told}");
    }
}
