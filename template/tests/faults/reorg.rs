//! The chain is reorganised: rows go back and the work is done again if, and only if, the chain forgot it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ethers::providers::Middleware as _;
use serde_json::json;

use crate::common::net::Net;
use crate::common::project::Project;
use crate::common::proxy::{Act, Proxy};
use crate::common::{DEFAULT_TIMEOUT, PROOF_TIMEOUT, wait_until};
use crate::fork::{Asked, orphaned, serve};

/// Before the inference. The request's block goes, as deep as is said, and with it the request. Its consumer's wallet
/// offers the transaction again, and it is another request then, for it is made in another second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_gone_is_an_orphan_and_made_again_it_is_answered_as_a_new_one() {
    let (project, net) = (Project::new(), Net::start().await);
    let _daemon = project.nova(&["run"]).envs(net.env()).start().ready().await;
    for depth in [1, 2, 7, 20] {
        let Asked { request, raw } = Asked::unserved(&net).await;
        project.request_row(request.id, "waits for features", |row| row.reason.is_some()).await;
        net.stop_mining().await;
        net.mine_to(request.block + depth - 1).await;
        net.remake(request.block, &[]).await;
        net.go_on_mining().await;
        orphaned(&project, &request).await;
        net.assert_answers(&request, 0).await;

        net.pass(2).await;
        serve(&net, &request);
        let made = net.node.send_raw_transaction(raw).await.unwrap().tx_hash();
        let again = wait_until("the request's new block", DEFAULT_TIMEOUT, async || {
            let receipt = net.node.get_transaction_receipt(made).await.unwrap();
            let block = receipt.and_then(|receipt| receipt.block_number).ok_or("it is in no block")?.as_u64();
            let all = net.all_requests().await.unwrap();
            all.into_iter().find(|made| made.block == block).ok_or("it is not read yet".to_owned())
        })
        .await;
        assert_ne!(again.id, request.id);
        net.answered_once(std::slice::from_ref(&again)).await;
        project.request_in(again.id, "final").await;
        orphaned(&project, &request).await;
        println!("{depth} blocks: orphaned, and answered as a new request");
    }
}

/// Before the inference. The blocks are others now, but the request is in one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_in_the_new_blocks_too_is_answered_once() {
    let (project, net) = (Project::new(), Net::start().await);
    let _daemon = project.nova(&["run"]).envs(net.env()).start().ready().await;
    for (depth, later) in [(1, 0), (3, 2), (20, 0), (20, 19)] {
        let Asked { request, raw } = Asked::unserved(&net).await;
        project.request_row(request.id, "waits for features", |row| row.reason.is_some()).await;
        net.stop_mining().await;
        net.mine_to(request.block + depth - 1).await;
        net.remake(request.block, &[(request.block + later, &raw)]).await;
        net.go_on_mining().await;
        serve(&net, &request);
        net.answered_once(std::slice::from_ref(&request)).await;
        project.request_in(request.id, "final").await;
        println!("{depth} blocks, the request {later} blocks later: answered once");
    }
}

/// Between the inference and the sending; and a proof request that waits, likewise. Both go, both come back as they were,
/// and each is done once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_inferred_when_its_request_goes_is_sent_when_it_comes_back() {
    let (project, net) = (Project::new(), Net::start().await);
    let run = project.nova(&["run"]).envs(net.env());
    let daemon = run.clone().start().ready().await;
    let old = net.ask(1).await;
    project.request_in(old[0].id, "final").await;
    daemon.stop().await;

    let held = run.clone().env("NOVA_INFERENCE_SUBMISSION_ENABLED", "False");
    let daemon = held.env("NOVA_PROOF_SUBMISSION_ENABLED", "False").start().ready().await;
    let Asked { request, raw } = Asked::unserved(&net).await;
    serve(&net, &request);
    let challenge = net.challenge(&[old[0].id]).await.unwrap();
    project.request_in(request.id, "inferred").await;
    project.challenge_in(challenge.transaction, "asked").await;
    let challenged = net.raw(challenge.transaction).await;

    net.stop_mining().await;
    net.remake(request.block, &[]).await;
    orphaned(&project, &request).await;
    project.challenge_in(challenge.transaction, "orphaned").await;
    net.remake(request.block, &[(request.block, &raw), (challenge.block, &challenged)]).await;
    project.request_in(request.id, "inferred").await;
    project.challenge_in(challenge.transaction, "asked").await;
    net.go_on_mining().await;
    daemon.stop().await;

    let _daemon = run.start().ready().await;
    net.answered_once(std::slice::from_ref(&request)).await;
    project.request_in(request.id, "final").await;
    net.wait_response(&challenge, PROOF_TIMEOUT).await.unwrap();
    project.challenge_in(challenge.transaction, "final").await;
    assert_eq!(net.sent().await, 3, "two answers and the proof");
}

/// After the answer was mined, and before it is final. The blocks of both go; the request is in the new ones, be it a while
/// later, and the answer is on chain once again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_goes_with_its_request_is_sent_again_when_that_comes_back() {
    let (project, net) = (Project::new(), Net::start().await);
    let _daemon = project.nova(&["run"]).envs(net.env()).env("NOVA_FINALITY", "60").start().ready().await;
    for (more, gone_for_a_while) in [(0, false), (10, false), (0, true), (10, true)] {
        let Asked { request, raw } = Asked::unserved(&net).await;
        serve(&net, &request);
        net.answered_once(std::slice::from_ref(&request)).await;
        project.transactions_in("mined", 1).await;
        net.stop_mining().await;
        net.mine_to(net.height().await + more).await;
        if gone_for_a_while {
            net.remake(request.block, &[]).await;
            orphaned(&project, &request).await;
            net.assert_answers(&request, 0).await;
        }
        net.remake(request.block, &[(request.block, &raw)]).await;
        net.go_on_mining().await;
        net.answered_once(std::slice::from_ref(&request)).await;
        net.anvil("anvil_mine", [70]).await;
        project.request_in(request.id, "final").await;
        net.assert_answers(&request, 1).await;
        println!("{more} blocks more, gone for a while: {gone_for_a_while}: answered once");
    }
}

/// The daemon is down while the chain is reorganised, deeper than the last head that it saw.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorg_that_happened_while_the_daemon_was_down_is_noticed_at_the_start() {
    let (project, net) = (Project::new(), Net::start().await);
    let run = project.nova(&["run"]).envs(net.env());
    let daemon = run.clone().start().ready().await;
    let gone = Asked::unserved(&net).await.request;
    project.request_row(gone.id, "waits for features", |row| row.reason.is_some()).await;
    daemon.kill().await;
    net.stop_mining().await;
    net.remake(gone.block - 3, &[]).await;
    net.go_on_mining().await;
    // In another second, for it is about the same wallet.
    net.pass(2).await;
    let there = net.ask(1).await;
    serve(&net, &gone);
    let _daemon = run.start().ready().await;
    net.answered_once(&there).await;
    orphaned(&project, &gone).await;
}

/// A replica that lags goes back in height, and knows none of the newest blocks. That is no reorg.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_goes_back_in_height_changes_nothing() {
    let (project, net) = (Project::new(), Net::start().await);
    let proxy = Proxy::start(net.devnet.rpc_url()).await;
    let newest = Arc::new(AtomicU64::new(u64::MAX));
    let at = newest.clone();
    proxy.rule(move |method, params| lagging(at.load(Ordering::Relaxed), method, params));
    let _daemon = project.nova(&["run"]).envs(net.env()).env("NOVA_RPC_URLS", proxy.url()).start().ready().await;
    let asked = Asked::unserved(&net).await.request;
    project.request_row(asked.id, "waits for features", |row| row.reason.is_some()).await;

    newest.store(asked.block - 10, Ordering::Relaxed);
    passes(&proxy, 4).await;
    assert_eq!(project.request_in(asked.id, "seen").await.state, "seen");
    let meanwhile = net.ask(1).await;
    passes(&proxy, 2).await;
    assert!(project.status().await.request(meanwhile[0].id).is_none(), "the replica does not have it");

    newest.store(u64::MAX, Ordering::Relaxed);
    serve(&net, &asked);
    let requests = [asked, meanwhile[0].clone()];
    net.answered_once(&requests).await;
    for request in &requests {
        project.request_in(request.id, "final").await;
    }
    assert_eq!(net.sent().await, 2);
}

/// What a replica whose newest block is this one makes of a call.
fn lagging(newest: u64, method: &str, params: &serde_json::Value) -> Act {
    let number = |value: &serde_json::Value| {
        value.as_str().and_then(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok())
    };
    if newest == u64::MAX {
        return Act::Pass;
    }
    match method {
        "eth_getBlockByNumber" => match number(&params[0]) {
            Some(asked) if asked > newest => Act::Say(200, r#"{"jsonrpc":"2.0","id":1,"result":null}"#),
            Some(_) => Act::Pass,
            None => Act::Instead(json!([format!("{newest:#x}"), params[1]])),
        },
        "eth_getLogs" if number(&params[0]["toBlock"]).is_some_and(|to| to > newest) => {
            Act::Say(200, r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"block not found"}}"#)
        }
        _ => Act::Pass,
    }
}

/// Waits until the watcher has looked so often.
pub async fn passes(proxy: &Proxy, count: usize) {
    let looks = || proxy.calls("eth_getLogs").len();
    let before = looks();
    wait_until(format!("{count} looks"), DEFAULT_TIMEOUT, async || {
        // Two streams.
        if looks() >= before + 2 * count { Ok(()) } else { Err(format!("{} calls", looks() - before)) }
    })
    .await;
}
