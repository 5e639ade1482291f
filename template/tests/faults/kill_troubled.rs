//! SIGKILL before and after every step that is written down: where something goes wrong besides.

use ethers::types::{H256, U256};
use nova::failpoint::Step;
use nova_devnet::Fault;

use crate::common::proxy::{Act, Proxy};
use crate::common::toxic::{Toxic, ToxicProxy};
use crate::kill::{WHEN, doomed};
use crate::scene::{SLA, Scene};

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
    let mut scene = Scene::new().await;
    for when in WHEN {
        let daemon = doomed(scene.run(), Step::RequestFault, when);
        let wallet = scene.net.fresh_wallets(1).await.unwrap()[0];
        scene.net.devnet.services.set_fault(wallet, Some(Fault::Error));
        scene.ask_about(wallet).await;
        daemon.dies().await;
        scene.net.devnet.services.set_fault(wallet, None);
    }
    let daemon = scene.run().start();
    scene.answered(&scene.requests).await;
    daemon.kill().await;
    for when in WHEN {
        scene.net.fund(U256::zero()).await;
        let daemon = doomed(scene.run(), Step::TxPostponed, when);
        scene.ask(1).await;
        daemon.dies().await;
        scene.net.fund(U256::exp10(19)).await;
    }
    scene.all_answered_at_last().await;
}

/// The node that is asked what was asked does not have the block yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_read_late_survives_a_kill() {
    let mut scene = Scene::new().await;
    scene.net.anvil("anvil_mine", serde_json::json!([150])).await;
    let proxy = ToxicProxy::start(scene.net.devnet.rpc_url()).await;
    for when in WHEN {
        proxy.rule(|asked| if asked.method == "eth_call" { Toxic::Lag(100) } else { Toxic::Pass });
        let daemon = doomed(scene.run().env("NOVA_RPC_URLS", proxy.rpc_url()), Step::RequestRead, when);
        let request = scene.ask(1).await.remove(0);
        scene.request_row(&request, |row| row.reason.is_some()).await;
        proxy.heal();
        daemon.dies().await;
    }
    scene.all_answered_at_last().await;
}

/// The key is used elsewhere while no node takes what was signed: it can never be mined.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_nonce_is_taken_survives_a_kill() {
    let mut scene = Scene::new().await;
    let proxy = Proxy::start(scene.net.devnet.rpc_url()).await;
    for when in WHEN {
        proxy.rule(|method, _| if method == "eth_sendRawTransaction" { Act::Say(503, "") } else { Act::Pass });
        let daemon = doomed(scene.run().env("NOVA_RPC_URLS", proxy.url()), Step::TxRequeued, when);
        scene.ask(1).await;
        scene.a_transaction_is("signed").await;
        scene.steal_nonce().await;
        daemon.dies().await;
        let daemon = scene.run().start();
        scene.answered(&scene.requests).await;
        daemon.kill().await;
    }
    scene.all_answered_at_last().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_request_that_fails_or_must_wait_survives_a_kill() {
    let mut scene = Scene::new().await;
    let daemon = scene.run().start().ready().await;
    let request = scene.ask(1).await.remove(0);
    scene.answered(&scene.requests).await;
    let challenge = scene.challenge(&[request.id]).await;
    scene.challenge_row(&challenge, |row| row.state == "final").await;
    daemon.kill().await;

    for when in WHEN {
        let daemon = doomed(scene.run(), Step::ChallengeFault, when);
        let unknown = format!("{:?}", H256::random());
        scene.challenge_with(&unknown).await;
        daemon.dies().await;
    }
    let daemon = scene.run().start();
    for challenge in &scene.challenges {
        scene.challenge_row(challenge, |row| matches!(&*row.state, "final" | "failed")).await;
    }
    daemon.kill().await;
    // One proof was delivered today, and one is allowed.
    for when in WHEN {
        let run = scene.run().env("NOVA_MAX_PROOFS_PER_DAY", "1");
        let daemon = doomed(run, Step::ChallengePostponed, when);
        let challenge = scene.challenge(&[request.id]).await;
        scene.may_wait.insert(challenge.transaction);
        daemon.dies().await;
    }
    let daemon = scene.run().env("NOVA_MAX_PROOFS_PER_DAY", "1").start().ready().await;
    scene.check().await;
    daemon.stop().await;
}

/// A newer challenge takes the place of one whose proof is ready: nothing is sent for the older one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_that_nobody_waits_for_any_more_survives_a_kill() {
    let mut scene = Scene::new().await;
    let daemon = scene.run().start().ready().await;
    let requests = scene.ask(2).await;
    scene.answered(&requests).await;
    daemon.kill().await;
    for when in WHEN {
        let daemon = doomed(scene.run(), Step::DeliveryQueued, "after");
        scene.challenge(&[requests[0].id]).await;
        daemon.dies().await;
        let newer = scene.challenge(&[requests[1].id]).await;
        doomed(scene.run(), Step::TxDone, when).dies().await;
        let daemon = scene.run().start();
        scene.challenge_row(&newer, |row| row.state == "final").await;
        scene.settled().await;
        daemon.kill().await;
    }
    let daemon = scene.run().start().ready().await;
    let tally = scene.check().await;
    assert_eq!(tally.transactions, 4, "two answers, and the newer challenges'");
    daemon.stop().await;
}

/// One request that never had its features, and one whose answer could not be sent, run out of time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_late_ends_once_whenever_the_daemon_is_killed() {
    let mut scene = Scene::new().await;
    for step in EXPIRES {
        for when in WHEN {
            scene.net.rank(false).await;
            let daemon = scene.run().start();
            let wallet = scene.net.fresh_wallets(1).await.unwrap()[0];
            scene.net.devnet.services.set_fault(wallet, Some(Fault::Error));
            let without_features = scene.ask_about(wallet).await;
            let unsent = scene.ask(1).await.remove(0);
            scene.request_row(&without_features, |row| row.reason.is_some()).await;
            scene.request_row(&unsent, |row| row.state == "answering").await;
            daemon.kill().await;
            scene.net.pass(SLA + 100).await;
            doomed(scene.run(), *step, when).dies().await;
        }
    }
    scene.net.rank(true).await;
    let daemon = scene.run().start().ready().await;
    let tally = scene.check().await;
    assert_eq!((tally.answered, tally.explained, tally.transactions), (0, 8, 0));
    daemon.stop().await;
}
