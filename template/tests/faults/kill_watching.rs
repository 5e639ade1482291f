//! SIGKILL before and after every step that is written down: where the chain is reorganised, and after an absence.

use nova::failpoint::Step;
use nova_devnet::request::Request;
use serde_json::json;

use crate::common::proxy::Proxy;
use crate::fork::{Asked, orphaned, serve};
use crate::kill::{WHEN, doomed};
use crate::reorg::passes;
use crate::scene::{SLA, Scene};

/// What the watchers do besides reading new blocks.
pub const WATCHING: &[Step] = &[Step::ReorgRewound, Step::ReorgOrphaned, Step::GapLeft];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorg_is_followed_whenever_the_daemon_is_killed() {
    let mut scene = Scene::new().await;
    for when in WHEN {
        let gone = waits_for_features(&mut scene).await;
        scene.net.remake(gone.block, &[]).await;
        doomed(scene.run(), Step::ReorgRewound, when).dies().await;
        orphaned_after_all(&scene, &gone).await;
    }
    // The chain goes back to a snapshot and on from there: a row can be above the head when the reorg is noticed.
    for when in WHEN {
        let daemon = scene.run().start().ready().await;
        let asked = scene.ask(1).await;
        scene.answered(&asked).await;
        daemon.kill().await;
        scene.net.anvil("anvil_mine", [10]).await;
        let (height, snapshot) = (scene.net.height().await, scene.net.anvil("evm_snapshot", [(); 0]).await);
        let gone = waits_for_features(&mut scene).await;
        scene.net.anvil("evm_revert", [snapshot]).await;
        scene.net.mine_to(height + 8).await;
        let daemon = doomed(scene.run(), Step::ReorgOrphaned, when);
        daemon.says("the chain was reorganised").await;
        scene.net.mine_to(gone.block + 5).await;
        daemon.dies().await;
        orphaned_after_all(&scene, &gone).await;
    }
    let daemon = scene.run().start().ready().await;
    let tally = scene.check().await;
    assert_eq!((tally.answered, tally.explained), (2, 4));
    daemon.stop().await;
}

/// A request that the daemon has seen and cannot answer yet. The daemon is dead then, and no block is made.
async fn waits_for_features(scene: &mut Scene) -> Request {
    let proxy = Proxy::start(scene.net.devnet.rpc_url()).await;
    let daemon = scene.run().env("NOVA_RPC_URLS", proxy.url()).start().ready().await;
    // The heads that it sees here are of the branch that goes.
    passes(&proxy, 3).await;
    let request = Asked::unserved(&scene.net).await.request;
    scene.requests.push(request.clone());
    scene.request_row(&request, |row| row.reason.is_some()).await;
    daemon.kill().await;
    scene.net.stop_mining().await;
    request
}

async fn orphaned_after_all(scene: &Scene, request: &Request) {
    scene.net.go_on_mining().await;
    let daemon = scene.run().start().ready().await;
    orphaned(&scene.project, request).await;
    daemon.kill().await;
    serve(&scene.net, request);
    // A request of the same second would have the same id.
    scene.net.pass_by(request.time).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_absence_left_is_read_whenever_the_daemon_is_killed() {
    let mut scene = Scene::new().await;
    let run = scene.run().env("NOVA_LOG_RANGE", "20");
    let daemon = run.clone().start().ready().await;
    let asked = scene.ask(1).await;
    scene.answered(&asked).await;
    daemon.kill().await;
    for when in WHEN {
        scene.ask(2).await;
        scene.net.pass(SLA + 100).await;
        scene.net.anvil("anvil_mine", json!([100])).await;
        doomed(run.clone(), Step::GapLeft, when).dies().await;
    }
    let daemon = run.start().ready().await;
    let tally = scene.check().await;
    assert_eq!((tally.answered, tally.explained), (1, 4));
    daemon.stop().await;
}
