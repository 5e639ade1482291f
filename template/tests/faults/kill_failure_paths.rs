//! SIGKILL before and after every step that is written down: where something goes wrong besides.

use ethers::types::{H256, U256};
use nova::failpoint::Step;
use nova_devnet::Fault;

use crate::common::proxy::{Act, Proxy};
use crate::common::toxic::{Toxic, ToxicProxy};
use crate::kill::{WHEN, start_killed_at};
use crate::scenario::{SLA, Scenario};

/// What cannot be done now is put off or given up.
pub const TROUBLED: &[Step] = &[
    Step::RequestRead,
    Step::RequestFault,
    Step::ChallengeFault,
    Step::ChallengePostponed,
    Step::TxPostponed,
    Step::TxRequeued,
    Step::TxDone,
];
/// What comes too late.
pub const EXPIRES: &[Step] = &[Step::RequestExpired, Step::TxFatal];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_features_fail_and_one_that_cannot_be_paid_for_survive_a_kill() {
    let mut scenario = Scenario::new().await;
    for when in WHEN {
        let daemon = start_killed_at(scenario.run(), Step::RequestFault, when);
        let wallet = scenario.net.fresh_wallets(1).await.unwrap()[0];
        scenario.net.devnet.services.set_fault(wallet, Some(Fault::Error));
        scenario.ask_about(wallet).await;
        daemon.wait_killed().await;
        scenario.net.devnet.services.set_fault(wallet, None);
    }
    let daemon = scenario.run().start();
    scenario.answered(&scenario.requests).await;
    daemon.kill().await;
    for when in WHEN {
        scenario.net.fund(U256::zero()).await;
        let daemon = start_killed_at(scenario.run(), Step::TxPostponed, when);
        scenario.ask(1).await;
        daemon.wait_killed().await;
        scenario.net.fund(U256::exp10(19)).await;
    }
    scenario.finish_and_check().await;
}

/// The node that is asked what was asked does not have the block yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_read_late_survives_a_kill() {
    let mut scenario = Scenario::new().await;
    scenario.net.anvil("anvil_mine", serde_json::json!([150])).await;
    let proxy = ToxicProxy::start(scenario.net.devnet.rpc_url()).await;
    for when in WHEN {
        proxy.rule(|asked| if asked.method == "eth_call" { Toxic::Lag(100) } else { Toxic::Pass });
        let daemon = start_killed_at(scenario.run().env("NOVA_RPC_URLS", proxy.rpc_url()), Step::RequestRead, when);
        let request = scenario.ask(1).await.remove(0);
        scenario.request_row(&request, |row| row.reason.is_some()).await;
        proxy.heal();
        daemon.wait_killed().await;
    }
    scenario.finish_and_check().await;
}

/// The key is used elsewhere while no node takes what was signed: it can never be mined.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_nonce_is_taken_survives_a_kill() {
    let mut scenario = Scenario::new().await;
    let proxy = Proxy::start(scenario.net.devnet.rpc_url()).await;
    for when in WHEN {
        proxy.rule(|method, _| if method == "eth_sendRawTransaction" { Act::Say(503, "") } else { Act::Pass });
        let daemon = start_killed_at(scenario.run().env("NOVA_RPC_URLS", proxy.url()), Step::TxRequeued, when);
        scenario.ask(1).await;
        scenario.a_transaction_is("signed").await;
        scenario.steal_nonce().await;
        daemon.wait_killed().await;
        let daemon = scenario.run().start();
        scenario.answered(&scenario.requests).await;
        daemon.kill().await;
    }
    scenario.finish_and_check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_request_that_fails_or_must_wait_survives_a_kill() {
    let mut scenario = Scenario::new().await;
    let daemon = scenario.run().start().ready().await;
    let request = scenario.ask(1).await.remove(0);
    scenario.answered(&scenario.requests).await;
    let challenge = scenario.challenge(&[request.id]).await;
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    daemon.kill().await;

    for when in WHEN {
        let daemon = start_killed_at(scenario.run(), Step::ChallengeFault, when);
        let unknown = format!("{:?}", H256::random());
        scenario.challenge_with(&unknown).await;
        daemon.wait_killed().await;
    }
    let daemon = scenario.run().start();
    for challenge in &scenario.challenges {
        scenario.challenge_row(challenge, |row| matches!(&*row.state, "final" | "failed")).await;
    }
    daemon.kill().await;
    // One proof was delivered today, and one is allowed.
    for when in WHEN {
        let run = scenario.run().env("NOVA_MAX_PROOFS_PER_DAY", "1");
        let daemon = start_killed_at(run, Step::ChallengePostponed, when);
        let challenge = scenario.challenge(&[request.id]).await;
        scenario.may_wait.insert(challenge.transaction);
        daemon.wait_killed().await;
    }
    let daemon = scenario.run().env("NOVA_MAX_PROOFS_PER_DAY", "1").start().ready().await;
    scenario.check().await;
    daemon.stop().await;
}

/// A newer challenge takes the place of one whose proof is ready: nothing is sent for the older one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_that_nobody_waits_for_any_more_survives_a_kill() {
    let mut scenario = Scenario::new().await;
    let daemon = scenario.run().start().ready().await;
    let requests = scenario.ask(2).await;
    scenario.answered(&requests).await;
    daemon.kill().await;
    for when in WHEN {
        let daemon = start_killed_at(scenario.run(), Step::DeliveryQueued, "after");
        scenario.challenge(&[requests[0].id]).await;
        daemon.wait_killed().await;
        let newer = scenario.challenge(&[requests[1].id]).await;
        start_killed_at(scenario.run(), Step::TxDone, when).wait_killed().await;
        let daemon = scenario.run().start();
        scenario.challenge_row(&newer, |row| row.state == "final").await;
        scenario.settled().await;
        daemon.kill().await;
    }
    let daemon = scenario.run().start().ready().await;
    let tally = scenario.check().await;
    assert_eq!(tally.transactions, 4, "two answers, and the newer challenges'");
    daemon.stop().await;
}

/// One request that never had its features, and one whose answer could not be sent, run out of time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_late_ends_once_whenever_the_daemon_is_killed() {
    let mut scenario = Scenario::new().await;
    for step in EXPIRES {
        for when in WHEN {
            scenario.net.rank(false).await;
            let daemon = scenario.run().start();
            let wallet = scenario.net.fresh_wallets(1).await.unwrap()[0];
            scenario.net.devnet.services.set_fault(wallet, Some(Fault::Error));
            let without_features = scenario.ask_about(wallet).await;
            let unsent = scenario.ask(1).await.remove(0);
            scenario.request_row(&without_features, |row| row.reason.is_some()).await;
            scenario.request_row(&unsent, |row| row.state == "answering").await;
            daemon.kill().await;
            scenario.net.pass(SLA + 100).await;
            start_killed_at(scenario.run(), *step, when).wait_killed().await;
        }
    }
    scenario.net.rank(true).await;
    let daemon = scenario.run().start().ready().await;
    let tally = scenario.check().await;
    assert_eq!((tally.answered, tally.explained, tally.transactions), (0, 8, 0));
    daemon.stop().await;
}
