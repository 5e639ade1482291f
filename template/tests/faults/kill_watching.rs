//! SIGKILL before and after every step that is written down: where the chain is reorganised, and after an absence.

use nova::failpoint::Step;
use nova_devnet::request::Request;
use serde_json::json;

use crate::common::proxy::Proxy;
use crate::fork::{Asked, orphaned, serve};
use crate::kill::{WHEN, start_killed_at};
use crate::reorg::passes;
use crate::scenario::{SLA, Scenario};

/// What the watchers do besides reading new blocks.
pub const WATCHING: &[Step] = &[Step::ReorgRewound, Step::ReorgOrphaned, Step::GapLeft];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorg_is_followed_whenever_the_daemon_is_killed() {
    let mut scenario = Scenario::new().await;
    for when in WHEN {
        let gone = waits_for_features(&mut scenario).await;
        scenario.net.remake(gone.block, &[]).await;
        start_killed_at(scenario.run(), Step::ReorgRewound, when).wait_killed().await;
        orphaned_after_all(&scenario, &gone).await;
    }
    // The chain goes back to a snapshot and on from there: a row can be above the head when the reorg is noticed.
    for when in WHEN {
        let daemon = scenario.run().start().ready().await;
        let asked = scenario.ask(1).await;
        scenario.answered(&asked).await;
        daemon.kill().await;
        scenario.net.anvil("anvil_mine", [10]).await;
        let (height, snapshot) = (scenario.net.height().await, scenario.net.anvil("evm_snapshot", [(); 0]).await);
        let gone = waits_for_features(&mut scenario).await;
        scenario.net.anvil("evm_revert", [snapshot]).await;
        scenario.net.mine_to(height + 8).await;
        let daemon = start_killed_at(scenario.run(), Step::ReorgOrphaned, when);
        daemon.wait_for_log("the chain was reorganised").await;
        scenario.net.mine_to(gone.block + 5).await;
        daemon.wait_killed().await;
        orphaned_after_all(&scenario, &gone).await;
    }
    let daemon = scenario.run().start().ready().await;
    let tally = scenario.check().await;
    assert_eq!((tally.answered, tally.explained), (2, 4));
    daemon.stop().await;
}

/// A request that the daemon has seen and cannot answer yet. The daemon is dead then, and no block is made.
async fn waits_for_features(scenario: &mut Scenario) -> Request {
    let proxy = Proxy::start(scenario.net.devnet.rpc_url()).await;
    let daemon = scenario.run().env("NOVA_RPC_URLS", proxy.url()).start().ready().await;
    // The heads that it sees here are of the branch that goes.
    passes(&proxy, 3).await;
    let request = Asked::unserved(&scenario.net).await.request;
    scenario.requests.push(request.clone());
    scenario.request_row(&request, |row| row.reason.is_some()).await;
    daemon.kill().await;
    scenario.net.stop_mining().await;
    request
}

async fn orphaned_after_all(scenario: &Scenario, request: &Request) {
    scenario.net.go_on_mining().await;
    let daemon = scenario.run().start().ready().await;
    orphaned(&scenario.project, request).await;
    daemon.kill().await;
    serve(&scenario.net, request);
    // A request of the same second would have the same id.
    scenario.net.pass_by(request.time).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_absence_left_is_read_whenever_the_daemon_is_killed() {
    let mut scenario = Scenario::new().await;
    let run = scenario.run().env("NOVA_LOG_RANGE", "20");
    let daemon = run.clone().start().ready().await;
    let asked = scenario.ask(1).await;
    scenario.answered(&asked).await;
    daemon.kill().await;
    for when in WHEN {
        scenario.ask(2).await;
        scenario.net.pass(SLA + 100).await;
        scenario.net.anvil("anvil_mine", json!([100])).await;
        start_killed_at(run.clone(), Step::GapLeft, when).wait_killed().await;
    }
    let daemon = run.start().ready().await;
    let tally = scenario.check().await;
    assert_eq!((tally.answered, tally.explained), (1, 4));
    daemon.stop().await;
}
