//! SIGKILL before and after every step that is written down: where the sender replaces, cancels, fills, begins again, finds
//! its work done, and claims.

use nova::failpoint::Step;

use crate::common::nova::Nova;
use crate::kill::{WHEN, doomed};
use crate::nonces::{an_answer_above_a_payment, take_the_payment_back};
use crate::pool::{PATIENCE, attempts, max_fee, pooled};
use crate::rewards::{EPOCH, claimed};
use crate::scene::{SLA, Scene};

/// What the sender does besides signing and waiting.
pub const SENDING: &[Step] =
    &[Step::TxReplaced, Step::TxCancelling, Step::FillQueued, Step::TxVoid, Step::TxDone, Step::ClaimQueued];

fn run(scene: &Scene) -> Nova {
    scene.run().env("NOVA_REPLACE_AFTER", PATIENCE)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_outbid_survives_a_kill() {
    let mut scene = Scene::new().await;
    for when in WHEN {
        let daemon = doomed(run(&scene), Step::TxReplaced, when);
        let request = pooled(&scene.project, &scene.net, 1).await.remove(0);
        let offered = max_fee(&attempts(&scene.project, &scene.net, &request).await[0]);
        scene.requests.push(request);
        scene.net.mine_at(offered * 10).await;
        daemon.dies().await;
        scene.net.go_on_mining().await;
        let daemon = run(&scene).start();
        scene.answered(&scene.requests).await;
        daemon.kill().await;
    }
    let daemon = run(&scene).start().ready().await;
    let tally = scene.check().await;
    assert_eq!((tally.answered, tally.transactions), (2, 2));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_cancelled_survives_a_kill() {
    let mut scene = Scene::new().await;
    for when in WHEN {
        let daemon = run(&scene).start();
        let late = pooled(&scene.project, &scene.net, 1).await.remove(0);
        daemon.kill().await;
        let hash = attempts(&scene.project, &scene.net, &late).await[0].hash.clone();
        scene.net.drop_from_pool(&hash).await;
        scene.net.pass(SLA + 100).await;
        doomed(run(&scene), Step::TxCancelling, when).dies().await;
        scene.net.go_on_mining().await;
        let daemon = run(&scene).start();
        scene.request_row(&late, |row| row.state == "expired").await;
        daemon.kill().await;
        scene.requests.push(late);
    }
    let daemon = run(&scene).start().ready().await;
    let tally = scene.check().await;
    assert_eq!((tally.explained, tally.transactions), (2, 2), "each nonce was taken by a transfer to ourselves");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_filled_whenever_the_daemon_is_killed() {
    let mut scene = Scene::new().await;
    for when in WHEN {
        let daemon = run(&scene).start();
        let requests = an_answer_above_a_payment(&scene.project, &scene.net).await;
        daemon.kill().await;
        take_the_payment_back(&scene.net, &requests[0]).await;
        doomed(run(&scene), Step::FillQueued, when).dies().await;
        scene.net.go_on_mining().await;
        let daemon = run(&scene).start();
        scene.answered(&requests).await;
        daemon.kill().await;
        scene.requests.extend(requests);
    }
    let daemon = run(&scene).start().ready().await;
    let tally = scene.check().await;
    assert_eq!((tally.answered, tally.transactions), (2, 4));
    daemon.stop().await;
}

/// The contract refuses an answer that it would have taken a block earlier: gas was spent, and there is time to try again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_mined_for_nothing_survives_a_kill() {
    let scene = Scene::new().await;
    let consumption = scene.net.deployment.consumption;
    let code = scene.net.code(consumption).await;
    for when in WHEN {
        let daemon = run(&scene).start();
        let requests = pooled(&scene.project, &scene.net, 1).await;
        daemon.kill().await;
        // Every call reverts.
        scene.net.set_code(consumption, &"0x60006000fd".parse().unwrap()).await;
        scene.net.anvil("evm_mine", [(); 0]).await;
        scene.net.set_code(consumption, &code).await;
        scene.net.go_on_mining().await;
        doomed(run(&scene), Step::TxVoid, when).dies().await;
        let daemon = run(&scene).start();
        scene.net.answered_once(&requests).await;
        scene.answered(&requests).await;
        daemon.kill().await;
    }
    assert_eq!(scene.net.sent().await - scene.first_nonce, 4, "two were reverted, two answer");
}

/// A challenge whose place in the contract a newer one took: there is nothing to answer it with. The newer one is answered
/// with its own proof.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_nobody_takes_any_more_survives_a_kill() {
    let mut scene = Scene::new().await;
    let daemon = run(&scene).start().ready().await;
    let requests = scene.ask(2).await;
    scene.answered(&requests).await;
    daemon.kill().await;
    for when in WHEN {
        let old = scene.challenge(&[requests[0].id]).await;
        let new = scene.challenge(&[requests[1].id]).await;
        doomed(run(&scene), Step::TxDone, when).dies().await;
        let daemon = run(&scene).start();
        let row = scene.challenge_row(&old, |row| row.state == "final").await;
        assert!(row.reason.unwrap().contains("a newer challenge took its place"));
        let row = scene.challenge_row(&new, |row| row.state == "final").await;
        assert_eq!(row.reason, None);
        daemon.kill().await;
    }
    let daemon = run(&scene).start().ready().await;
    let tally = scene.check().await;
    assert_eq!((tally.answered, tally.transactions), (2, 4));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reward_is_claimed_once_whenever_the_daemon_is_killed() {
    let mut scene = Scene::new().await;
    let run = run(&scene).env("NOVA_CLAIM_REWARDS", "True");
    for (count, when) in WHEN.into_iter().enumerate() {
        let daemon = run.clone().start().ready().await;
        let asked = scene.ask(1).await;
        scene.answered(&asked).await;
        daemon.kill().await;
        scene.net.pass(EPOCH + SLA + 100).await;
        doomed(run.clone(), Step::ClaimQueued, when).dies().await;
        let daemon = run.clone().start().ready().await;
        claimed(&scene.net, count + 1).await;
        daemon.kill().await;
    }
    let daemon = run.start().ready().await;
    let tally = scene.check().await;
    assert_eq!((tally.answered, tally.transactions), (2, 4));
    daemon.stop().await;
}
