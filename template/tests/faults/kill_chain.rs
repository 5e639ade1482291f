//! SIGKILL before and after every step that is written down: where the chain forgets an answer, or was never what an
//! endpoint said.

use nova::failpoint::Step;
use nova_devnet::Fault;
use serde_json::json;

use crate::common::toxic::{Toxic, ToxicProxy};
use crate::kill::{WHEN, start_killed_at};
use crate::scenario::Scenario;

/// What the chain forgets.
pub const FORGOTTEN: &[Step] = &[Step::TxUnmined];

/// The block of the answer is reorganised away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_the_chain_forgot_survives_a_kill() {
    const DEPTH: u64 = 60;
    let mut scenario = Scenario::new().await;
    let run = scenario.run().env("NOVA_CONFIRMATIONS", DEPTH.to_string()).env("NOVA_FINALITY", DEPTH.to_string());
    for when in WHEN {
        let daemon = start_killed_at(run.clone(), Step::TxUnmined, when);
        let request = scenario.ask(1).await;
        scenario.net.anvil("anvil_mine", [DEPTH]).await;
        let answer = scenario.net.answered_once(&request).await.into_values().next().unwrap();
        scenario.net.stop_mining().await;
        scenario.a_transaction_is("mined").await;
        let depth = scenario.net.head().await - answer.block + 1;
        assert!(depth < DEPTH, "the request would be gone too");
        scenario.net.anvil("anvil_reorg", json!([depth, []])).await;
        daemon.wait_killed().await;
        scenario.net.go_on_mining().await;

        let daemon = run.clone().start();
        scenario.net.answered_once(&request).await;
        scenario.net.anvil("anvil_mine", [DEPTH + 1]).await;
        scenario.answered(&request).await;
        daemon.kill().await;
    }
    scenario.finish_and_check().await;
}

/// The endpoint was on another branch for a moment: the request is there, and its block is another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_read_from_another_branch_survives_a_kill() {
    let mut scenario = Scenario::new().await;
    let proxy = ToxicProxy::start(scenario.net.devnet.rpc_url()).await;
    for when in WHEN {
        let daemon = start_killed_at(scenario.run().env("NOVA_RPC_URLS", proxy.rpc_url()), Step::ReorgOrphaned, when);
        proxy.rule(|asked| if asked.method == "eth_getLogs" { Toxic::OtherBranch } else { Toxic::Pass });
        // Not answered before it is noticed.
        let wallet = scenario.net.fresh_wallets(1).await.unwrap()[0];
        scenario.net.devnet.services.set_fault(wallet, Some(Fault::Error));
        let request = scenario.ask_about(wallet).await;
        scenario.request_row(&request, |_| true).await;
        proxy.heal();
        daemon.wait_killed().await;
        scenario.net.devnet.services.set_fault(wallet, None);
        // Else the next one dies of this request's block before it reads of its own.
        scenario.recovers().await;
    }
    scenario.finish_and_check().await;
}
