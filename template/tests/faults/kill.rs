//! SIGKILL before and after every step that is written down: on the straight way of an answer and of a proof. Each time the
//! daemon comes back to what was left.

use nova::failpoint::Step;

use crate::common::daemon::Daemon;
use crate::common::nova::Nova;
use crate::kill_chain::FORGOTTEN;
use crate::kill_failure_paths::{EXPIRES, TROUBLED};
use crate::kill_pool::POOL;
use crate::kill_watching::WATCHING;
use crate::scenario::Scenario;

pub const WHEN: [&str; 2] = ["before", "after"];

/// From a request to its answer.
const ANSWERS: &[Step] = &[
    Step::RequestSeen,
    Step::WitnessSaved,
    Step::RequestInferred,
    Step::AnswerQueued,
    Step::TxSigned,
    Step::TxBroadcast,
    Step::TxMined,
    Step::TxFinal,
];
/// From a validator's challenge to the CID of the proof.
const PROOF_STEPS: &[Step] = &[
    Step::ChallengeSeen,
    Step::ChallengeNamed,
    Step::ProofSaved,
    Step::ProofMade,
    Step::ChallengeProved,
    Step::ChallengeUploaded,
    Step::DeliveryQueued,
];
/// What is different where the chain itself checks the proof.
const PROVES_ON_CHAIN: &[Step] = &[Step::ChallengeProved, Step::DeliveryQueued];

#[test]
fn every_step_there_is_belongs_to_a_scenario() {
    let reached = [ANSWERS, PROOF_STEPS, PROVES_ON_CHAIN, TROUBLED, EXPIRES, FORGOTTEN, POOL, WATCHING].concat();
    let missing: Vec<_> = Step::ALL.iter().filter(|step| !reached.contains(step)).collect();
    assert!(missing.is_empty(), "no scenario kills the daemon at {missing:?}");
}

/// A daemon that dies when it comes to a step.
pub fn start_killed_at(run: Nova, step: Step, when: &str) -> Daemon {
    println!("killed {when} {}", step.name());
    run.env("FAILPOINTS", format!("{}.{when}=return", step.name())).start()
}

/// Each daemon finds what the one before it left, and dies one step further on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_survives_a_kill_at_each_of_its_steps() {
    let mut scenario = Scenario::with_verifier().await;
    for step in ANSWERS {
        for when in WHEN {
            let daemon = start_killed_at(scenario.run(), *step, when);
            scenario.ask(1).await;
            daemon.wait_killed().await;
        }
    }
    scenario.finish_and_check().await;
}

/// A modeler has one slot for challenges: the next one is given when the last one is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_survives_a_kill_at_each_of_its_steps() {
    let mut scenario = Scenario::new().await;
    let daemon = scenario.run().start().ready().await;
    let mut unproven = scenario.ask(6).await;
    scenario.answered(&unproven).await;
    daemon.kill().await;
    let (proven, also_proven) = (unproven.remove(0), unproven.remove(0));
    for step in PROOF_STEPS {
        for when in WHEN {
            let computed = matches!(step, Step::ProofSaved | Step::ProofMade);
            let request = if computed { unproven.pop().unwrap() } else { proven.clone() };
            let daemon = start_killed_at(scenario.run(), *step, when);
            // One that names several is a document, which is read first.
            let ids = if *step == Step::ChallengeNamed { vec![request.id, also_proven.id] } else { vec![request.id] };
            let challenge = scenario.challenge(&ids).await;
            daemon.wait_killed().await;

            let daemon = scenario.run().start();
            scenario.challenge_row(&challenge, |row| row.state == "final").await;
            daemon.kill().await;
        }
    }
    let daemon = scenario.run().start().ready().await;
    scenario.check().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_on_chain_survives_a_kill_at_each_of_its_steps() {
    let mut scenario = Scenario::with_verifier().await;
    let daemon = scenario.run().start().ready().await;
    let mut requests = scenario.ask(PROVES_ON_CHAIN.len() as u64 * 2).await;
    scenario.answered(&requests).await;
    daemon.kill().await;
    for step in PROVES_ON_CHAIN {
        for when in WHEN {
            let daemon = start_killed_at(scenario.run(), *step, when);
            scenario.request_proof(requests.pop().unwrap().id).await;
            daemon.wait_killed().await;
        }
    }
    let daemon = scenario.run().start().ready().await;
    scenario.check().await;
    let proven = scenario.net.proofs().await.unwrap();
    assert_eq!(proven.len(), scenario.challenges.len(), "{proven:?}");
    daemon.stop().await;
}
