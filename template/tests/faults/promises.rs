//! Whether what was promised can be proven, found out before a validator asks; and that no more is promised where it cannot.

use std::fs;

use nova::failpoint::Step;
use nova_devnet::challenge::Challenge;
use nova_devnet::request::Request;

use crate::common::ledger::ProofAttemptRow;
use crate::common::nova::Nova;
use crate::common::{PROOF_TIMEOUT, assert_contains_all, wait_until};
use crate::kill::start_killed_at;
use crate::pool::asked_with_blocks_stopped;
use crate::scenario::Scenario;
use crate::worker::Wrapper;

/// Longer than any test takes.
const LONG: &str = "36000";

impl Scenario {
    /// Waits until so many attempts to prove have come to this end.
    async fn attempts(&self, count: usize, outcome: &str) -> Vec<ProofAttemptRow> {
        wait_until(format!("{count} attempts to prove that are {outcome}"), PROOF_TIMEOUT, async || {
            let rows = self.project.rows().await.ok_or("there is no ledger")?.proof_attempts;
            let found: Vec<_> = rows.iter().filter(|row| row.outcome == outcome).cloned().collect();
            if found.len() == count { Ok(found) } else { Err(format!("{rows:?}")) }
        })
        .await
    }

    /// Has the validator ask for a proof that EZKL refuses.
    async fn refused(&mut self, python: &Wrapper, request: &Request) -> Challenge {
        python.plan("verify", "refuse", 1);
        let challenge = self.challenge(&[request.id]).await;
        let row = self.challenge_row(&challenge, |row| row.state == "failed").await;
        assert!(row.reason.unwrap().contains("does not verify"));
        challenge
    }

    /// Brings a failed proof request back, and waits for its delivery.
    async fn retried(&self, challenge: &Challenge) {
        self.project.nova(&["retry", &format!("{:?}", challenge.transaction)]).succeed().await;
        self.challenge_row(challenge, |row| row.state == "final").await;
    }
}

fn with_canary(run: Nova) -> Nova {
    run.env("NOVA_CANARY_INTERVAL", LONG)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_is_proven_once_and_nothing_is_sent_for_it() {
    let mut scenario = Scenario::new().await;
    let daemon = with_canary(scenario.run()).start().ready().await;
    let requests = scenario.ask(2).await;
    scenario.answered(&requests).await;
    let before = scenario.net.sent().await;
    let canary = scenario.attempts(1, "verified").await.remove(0);
    assert_eq!(canary.purpose, "canary");
    let proven = requests.iter().find(|request| format!("{:?}", request.id) == canary.request).unwrap();
    assert!(scenario.project.saved(proven.id, "proof.json").is_file());
    daemon.stop().await;

    // The next start finds that one was made, however soon it comes; and the proof, when a validator asks for it.
    let daemon = with_canary(scenario.run()).env("NOVA_MAX_PROOFS_PER_DAY", "1").start().ready().await;
    let more = scenario.ask(1).await;
    scenario.answered(&more).await;
    assert_eq!(scenario.net.sent().await, before + 1, "one answer");
    let asked_for = requests.iter().find(|request| request.id != proven.id).unwrap();
    let challenge = scenario.challenge(&[asked_for.id]).await;
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    let attempts = scenario.attempts(2, "verified").await;
    assert_eq!(attempts[1].purpose, "asked", "the day's only proof was not spent on a canary");
    scenario.check().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_makes_way_for_a_proof_request() {
    let mut scenario = Scenario::new().await;
    let folder = tempfile::tempdir().unwrap();
    let python = Wrapper::middleman(folder.path());
    python.plan("prove", "hang", 1);
    let daemon = with_canary(scenario.run()).env("NOVA_PYTHON", python.path()).start().ready().await;
    let requests = scenario.ask(2).await;
    scenario.answered(&requests).await;
    python.has_gone_wrong(1).await;
    let challenge = scenario.challenge(&[requests[0].id]).await;
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    assert!(daemon.log().contains("canary makes way for a proof request"));
    assert!(!daemon.log().contains("made no progress"), "nothing waited for the guard");
    // It is made up for.
    let attempts = scenario.attempts(2, "verified").await;
    assert_eq!(attempts[1].purpose, "canary");
    scenario.check().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_canary_is_said_until_a_proof_works() {
    let mut scenario = Scenario::new().await;
    let folder = tempfile::tempdir().unwrap();
    let python = Wrapper::middleman(folder.path());
    python.plan("verify", "refuse", 1);
    let run = with_canary(scenario.run()).env("NOVA_PYTHON", python.path());
    let daemon = run.clone().start().ready().await;
    let first = scenario.ask(1).await.remove(0);
    let says = format!("the answer to request {:?} cannot be proven", first.id);
    daemon.is_unready("canary", &says).await;
    daemon.stop().await;

    let daemon = run.start();
    daemon.is_unready("canary", &says).await;
    // One answer that cannot be proven holds up no other.
    let second = scenario.ask(1).await.remove(0);
    scenario.answered(&scenario.requests).await;
    let challenge = scenario.challenge(&[second.id]).await;
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    scenario.check().await;
    daemon.ready().await.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_proofs_of_several_consumers_end_new_promises() {
    let mut scenario = Scenario::new().await;
    let folder = tempfile::tempdir().unwrap();
    let python = Wrapper::middleman(folder.path());
    let run = scenario.run().env("NOVA_PYTHON", python.path());
    let daemon = run.clone().start().ready().await;
    let odd = scenario.ask(3).await;
    scenario.answered(&odd).await;
    let mut failed = Vec::new();
    for request in &odd {
        failed.push(scenario.refused(&python, request).await);
    }
    // All of one consumer: its odd input stops no other.
    let others = scenario.net.ask_as_another().await;
    scenario.requests.push(others.clone());
    scenario.answered(&scenario.requests).await;
    failed.push(scenario.refused(&python, &others).await);

    let says = "the proofs of 4 requests of 2 consumers were refused";
    daemon.is_unready("stop-loss", says).await;
    let waiting = scenario.ask(1).await.remove(0);
    let told =
        |row: &crate::common::ledger::RequestRow| row.reason.as_ref().is_some_and(|reason| reason.contains(says));
    assert_eq!(scenario.request_row(&waiting, told).await.state, "seen");
    daemon.stop().await;

    // It is in the ledger, and proofs go on.
    let daemon = run.start();
    daemon.is_unready("stop-loss", says).await;
    scenario.retried(&failed.pop().unwrap()).await;
    let daemon = daemon.ready().await;
    scenario.answered(&[waiting]).await;
    // The contract answers the newest alone.
    for challenge in &failed {
        scenario.project.nova(&["retry", &format!("{:?}", challenge.transaction)]).succeed().await;
        let superseded = |reason: &str| reason.contains("a newer challenge took its place");
        scenario.challenge_row(challenge, |row| row.reason.as_deref().is_some_and(superseded)).await;
    }
    scenario.check().await;
    daemon.stop().await;
}

/// No validator asks here: the idle prover finds out by itself that proofs do not work, and that they do again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canaries_begin_and_end_the_stop_loss_by_themselves() {
    let mut scenario = Scenario::new().await;
    let folder = tempfile::tempdir().unwrap();
    let python = Wrapper::middleman(folder.path());
    python.plan("verify", "refuse", usize::MAX);
    let run = scenario.run().env("NOVA_PYTHON", python.path()).env("NOVA_CANARY_INTERVAL", "1");
    let daemon = run.start().ready().await;
    scenario.ask(3).await;
    let others = scenario.net.ask_as_another().await;
    scenario.requests.push(others);
    daemon.is_unready("stop-loss", "requests of 2 consumers were refused").await;
    let waiting = scenario.ask(1).await;
    python.plan("verify", "refuse", 0);
    wait_until("a canary that works", PROOF_TIMEOUT, async || {
        if daemon.log().contains("canary verified") { Ok(()) } else { Err("none was verified".to_owned()) }
    })
    .await;
    scenario.answered(&waiting).await;
    scenario.check().await;
    daemon.ready().await.stop().await;
}

/// However many proofs consumers ask of the registry, a quarter of the day's is for validators.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_consumers_leave_validators_their_share_of_the_days_proofs() {
    let mut scenario = Scenario::with_verifier().await;
    let daemon = scenario.run().env("NOVA_MAX_PROOFS_PER_DAY", "4").start().ready().await;
    let requests = scenario.ask(4).await;
    scenario.answered(&requests).await;
    for request in &requests[..3] {
        let asked = scenario.request_proof(request.id).await;
        scenario.challenge_row(&asked, |row| row.state == "final").await;
    }
    let one_more = scenario.request_proof(requests[3].id).await;
    scenario.may_wait.insert(one_more.transaction);
    let row = scenario.challenge_row(&one_more, |row| row.reason.is_some()).await;
    assert!(row.reason.as_ref().unwrap().contains("for validators alone"), "{row:?}");
    let challenge = scenario.challenge(&[requests[3].id]).await;
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    scenario.check().await;
    daemon.stop().await;
}

/// A registry that refuses everything stands where ours was when the commitment is mined: it is sent again, and the answer after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_commitment_that_was_reverted_is_made_again_before_the_answer() {
    let mut scenario = Scenario::with_verifier().await;
    let registry = scenario.net.deployment.proof_registry;
    let (code, refusing) = (scenario.net.code(registry).await, "0x60006000fd".parse().unwrap());
    let daemon = scenario.run().start().ready().await;
    let requests = asked_with_blocks_stopped(&scenario.net, 1).await;
    scenario.requests.extend(requests.clone());
    scenario.project.transactions_in("broadcast", 1).await;
    scenario.net.set_code(registry, &refusing).await;
    scenario.net.anvil("evm_mine", [(); 0]).await;
    scenario.net.set_code(registry, &code).await;
    scenario.reverted += 1;
    scenario.net.go_on_mining().await;
    scenario.answered(&requests).await;
    let asked = scenario.request_proof(requests[0].id).await;
    scenario.challenge_row(&asked, |row| row.state == "final").await;
    scenario.check().await;
    daemon.stop().await;
}

/// A request whose commitment is on the chain, and whose ledger is lost before the answer; its features are others now.
async fn committed_and_forgotten(scenario: &mut Scenario) -> Request {
    let wallets = scenario.net.fresh_wallets(2).await.unwrap();
    let daemon = start_killed_at(scenario.run(), Step::TxMined, "after");
    let request = scenario.ask_about(wallets[0]).await;
    daemon.wait_killed().await;
    // The ledger that comes knows nothing of what was sent.
    scenario.first_nonce = scenario.net.sent().await;
    for file in fs::read_dir(scenario.project.artifacts()).unwrap().flatten() {
        if file.file_name().to_string_lossy().starts_with("ledger") {
            fs::remove_file(file.path()).unwrap();
        }
    }
    scenario.net.devnet.services.set_features_like(wallets[0], wallets[1]);
    request
}

/// What was committed to is answered, and can be proven; whatever would be inferred now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_lost_ledger_answers_what_was_committed_to() {
    let mut scenario = Scenario::with_verifier().await;
    let request = committed_and_forgotten(&mut scenario).await;
    let daemon = scenario.run().start().ready().await;
    scenario.answered(std::slice::from_ref(&request)).await;
    let asked = scenario.request_proof(request.id).await;
    scenario.challenge_row(&asked, |row| row.state == "final").await;
    scenario.check().await;
    daemon.stop().await;
}

/// Where the witness is lost as well nothing can be proven: nothing is answered, unless the owner says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_answers_without_commitment_are_the_owners_choice() {
    let mut scenario = Scenario::with_verifier().await;
    let request = committed_and_forgotten(&mut scenario).await;
    fs::remove_dir_all(scenario.project.artifacts().join("witnesses")).unwrap();
    let daemon = scenario.run().start().ready().await;
    let row = scenario.request_row(&request, |row| row.state == "failed").await;
    let reason = row.reason.unwrap();
    assert_contains_all(&reason, &["another commitment", "NOVA_ANSWER_WITHOUT_COMMITMENT=True"]);
    scenario.net.assert_answers(&request, 0).await;
    daemon.stop().await;

    let daemon = scenario.run().env("NOVA_ANSWER_WITHOUT_COMMITMENT", "True").start().ready().await;
    scenario.project.nova(&["retry", &format!("{:?}", request.id)]).envs(scenario.net.env()).succeed().await;
    scenario.answered(std::slice::from_ref(&request)).await;
    daemon.stop().await;
}
