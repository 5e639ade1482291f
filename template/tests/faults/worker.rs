//! The EZKL worker in trouble: it dies, hangs, runs out of memory, talks rubbish, cannot be started, or makes a proof that
//! does not hold. Answers and proofs come once it is well again, or their rows say why not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nova_devnet::request::Request;
use serde_json::json;

use crate::common::daemon::{Daemon, signal};
use crate::common::ledger::RequestRow;
use crate::common::{DEFAULT_TIMEOUT, python, wait_until};
use crate::scenario::Scenario;

/// A program that is run in place of Python.
pub struct Wrapper(PathBuf);

impl Wrapper {
    /// Stands between the daemon and its workers, and does what it is told.
    pub fn middleman(folder: &Path) -> Self {
        let (python, script) = (python::program(), python::script("middleman.py"));
        let (python, script) = (python.display(), script.display());
        Self::write(folder, &format!("exec '{python}' -I '{script}' '{}' '{python}' \"$@\"", folder.display()))
    }

    /// The prover may have so many KiB of address space while the folder holds a file `tight`.
    fn short_of_memory(folder: &Path, kibibytes: u32) -> Self {
        let (python, tight) = (python::program(), folder.join("tight"));
        let (python, tight) = (python.display(), tight.display());
        Self::write(
            folder,
            &format!(
                "case \"$*\" in *'--background'*) [ ! -e '{tight}' ] || ulimit -v {kibibytes};; esac\nexec '{python}' \"$@\""
            ),
        )
    }

    /// The first process is killed before it says anything, as when memory runs out.
    fn killed_at_first(folder: &Path) -> Self {
        let (python, tried) = (python::program(), folder.join("tried"));
        let (python, tried) = (python.display(), tried.display());
        Self::write(
            folder,
            &format!("if [ ! -e '{tried}' ]; then touch '{tried}'; kill -KILL $$; fi\nexec '{python}' \"$@\""),
        )
    }

    fn write(folder: &Path, commands: &str) -> Self {
        let wrapper = Self(folder.join("python"));
        fs::write(&wrapper.0, format!("#!/bin/sh\n{commands}\n")).unwrap();
        wrapper.allow(true);
        wrapper
    }

    /// Whether it can be run.
    fn allow(&self, allowed: bool) {
        fs::set_permissions(&self.0, fs::Permissions::from_mode(if allowed { 0o755 } else { 0o644 })).unwrap();
    }

    pub fn path(&self) -> String {
        self.0.display().to_string()
    }

    /// From now on so many calls of this name go wrong.
    pub fn plan(&self, call: &str, what: &str, times: usize) {
        let folder = self.0.parent().unwrap();
        // Absent where nothing has gone wrong yet.
        let _ = fs::remove_file(folder.join("done"));
        let unfinished = folder.join("plan.unfinished");
        fs::write(&unfinished, json!({ "call": call, "do": what, "times": times }).to_string()).unwrap();
        fs::rename(unfinished, folder.join("plan.json")).unwrap();
    }

    /// Waits until so many calls went wrong.
    pub async fn has_gone_wrong(&self, times: usize) {
        wait_until(format!("{times} calls that go wrong"), DEFAULT_TIMEOUT, async || {
            let done = fs::read_to_string(self.0.with_file_name("done")).unwrap_or_default();
            if done.lines().count() >= times { Ok(()) } else { Err(done) }
        })
        .await;
    }
}

/// The worker processes that are the prover's, or those that are not.
fn workers(daemon: &Daemon, provers: bool) -> Vec<u32> {
    let of_kind = daemon.workers().into_iter().filter(|(_, command)| command.contains("--background") == provers);
    of_kind.map(|(id, _)| id).collect()
}

/// What a worker does instead of answering, and whether the next try finds a new one at once.
const WAYS: [&str; 5] = ["die", "rubbish", "other", "long", "hang"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_die_hang_or_talk_rubbish_cost_nothing() {
    let mut scenario = Scenario::new().await;
    let folder = tempfile::tempdir().unwrap();
    let python = Wrapper::middleman(folder.path());
    let run = scenario.run().env("NOVA_PYTHON", python.path());
    let run = run.env("NOVA_WITNESS_TIMEOUT", "5").env("NOVA_PROVE_TIMEOUT", "120");
    let daemon = run.start().ready().await;
    for what in WAYS {
        python.plan("gen_witness", what, 2);
        scenario.ask(1).await;
        python.has_gone_wrong(2).await;
        scenario.answered(&scenario.requests).await;
        println!("gen_witness: {what}");
    }
    let requests = scenario.requests.clone();
    for (what, request) in WAYS.iter().zip(&requests) {
        python.plan("prove", what, 1);
        let challenge = scenario.challenge(&[request.id]).await;
        python.has_gone_wrong(1).await;
        // Answers do not wait for it.
        let meanwhile = scenario.ask(1).await;
        scenario.answered(&meanwhile).await;
        scenario.challenge_row(&challenge, |row| row.state == "final").await;
        println!("prove: {what}");
    }
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    println!("{} MiB at most", daemon.peak_memory());
    assert!(daemon.peak_memory() < crate::toxic::MEMORY);
    daemon.stop().await;
}

/// A prover that waits for a lock was seen to wait for ever. No deadline is near: a proof may take an hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prover_that_sleeps_is_ended_and_the_proof_is_made() {
    let mut scenario = Scenario::new().await;
    let folder = tempfile::tempdir().unwrap();
    let python = Wrapper::middleman(folder.path());
    let daemon = scenario.run().env("NOVA_PYTHON", python.path()).start().ready().await;
    let request = scenario.ask(1).await.remove(0);
    scenario.answered(&scenario.requests).await;
    python.plan("prove", "hang", 1);
    let challenge = scenario.challenge(&[request.id]).await;
    let row = scenario.challenge_row(&challenge, |row| row.reason.is_some()).await;
    assert!(row.reason.unwrap().contains("made no progress in prove"));
    assert_eq!(row.state, "asked", "it is tried again");
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    scenario.check().await;
    daemon.stop().await;
}

/// SIGSTOP: the process is there and does nothing; the deadline finds out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_stopped_or_killed_are_replaced() {
    let mut scenario = Scenario::of_the_example().await;
    let run = scenario.run().env("NOVA_WITNESS_TIMEOUT", "5").env("NOVA_PROVE_TIMEOUT", "120");
    let daemon = run.start().ready().await;
    let first = scenario.ask(1).await;
    scenario.answered(&first).await;
    for worker in workers(&daemon, false) {
        signal("STOP", worker).await;
    }
    let second = scenario.ask(1).await;
    scenario.answered(&second).await;

    for (name, request) in [("STOP", &first[0]), ("KILL", &second[0])] {
        let challenge = scenario.challenge(&[request.id]).await;
        daemon.wait_proving().await;
        for worker in workers(&daemon, true) {
            signal(name, worker).await;
        }
        let meanwhile = scenario.ask(1).await;
        scenario.answered(&meanwhile).await;
        scenario.challenge_row(&challenge, |row| row.state == "final").await;
    }
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    daemon.stop().await;
}

/// A real limit: the prover cannot have the memory that the proving key needs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prover_that_runs_out_of_memory_takes_nothing_with_it() {
    let mut scenario = Scenario::of_the_example().await;
    let folder = tempfile::tempdir().unwrap();
    let python = Wrapper::short_of_memory(folder.path(), 200 << 10);
    let daemon = scenario.run().env("NOVA_PYTHON", python.path()).start().ready().await;
    let request = scenario.ask(1).await.remove(0);
    scenario.answered(&scenario.requests).await;
    fs::write(folder.path().join("tight"), "").unwrap();
    let challenge = scenario.challenge(&[request.id]).await;
    let row = scenario.challenge_row(&challenge, |row| row.reason.is_some()).await;
    assert_eq!(row.state, "asked", "it may have the memory later: {row:?}");
    let meanwhile = scenario.ask(2).await;
    scenario.answered(&meanwhile).await;
    fs::remove_file(folder.path().join("tight")).unwrap();
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    daemon.stop().await;
}

/// Python is gone, as while somebody upgrades it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_no_worker_can_be_started_requests_wait() {
    let mut scenario = Scenario::new().await;
    let folder = tempfile::tempdir().unwrap();
    let python = Wrapper::middleman(folder.path());
    let daemon = scenario.run().env("NOVA_PYTHON", python.path()).start().ready().await;
    let first = scenario.ask(1).await;
    scenario.answered(&first).await;
    python.allow(false);
    daemon.kill_workers().await;
    let request = scenario.ask(1).await.remove(0);
    let says = |row: &RequestRow| row.reason.as_ref().is_some_and(|text| text.contains("cannot start the EZKL worker"));
    scenario.request_row(&request, says).await;
    assert!(daemon.is_alive().await);
    wait_until("an unready daemon", DEFAULT_TIMEOUT, async || match daemon.readyz().await {
        Some((503, body)) if body["parts"]["worker"] != "ok" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    python.allow(true);
    let tally = scenario.check().await;
    assert_eq!(tally.answered, 2);
    daemon.ready().await.stop().await;
}

/// A proof that the daemon's own check refuses is not delivered: the row says so, and a person decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_that_does_not_hold_is_never_delivered() {
    let mut scenario = Scenario::new().await;
    let folder = tempfile::tempdir().unwrap();
    let python = Wrapper::middleman(folder.path());
    let daemon = scenario.run().env("NOVA_PYTHON", python.path()).start().ready().await;
    let request: Request = scenario.ask(1).await.remove(0);
    scenario.answered(&scenario.requests).await;
    let before = scenario.net.sent().await;
    python.plan("verify", "refuse", 1);
    let challenge = scenario.challenge(&[request.id]).await;
    let row = scenario.challenge_row(&challenge, |row| row.state == "failed").await;
    assert!(row.reason.unwrap().contains("does not verify"));
    assert!(!scenario.project.saved(request.id, "proof.json").exists(), "what does not hold is not kept");
    assert_eq!(scenario.net.sent().await, before, "nothing was sent for it");
    scenario.project.nova(&["retry", &format!("{:?}", challenge.transaction)]).succeed().await;
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    scenario.check().await;
    daemon.stop().await;
}

/// Nobody starts the daemon again who does not look: what passes by itself is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_while_the_daemon_starts_is_replaced() {
    let mut scenario = Scenario::new().await;
    let wrapper = Wrapper::killed_at_first(scenario.project.path());
    let daemon = scenario.run().env("NOVA_PYTHON", wrapper.path()).start().ready().await;
    assert!(daemon.log().contains("the EZKL worker died (signal: 9"), "{}", daemon.log());
    let requests = scenario.ask(1).await;
    scenario.answered(&requests).await;
    daemon.stop().await;
}
