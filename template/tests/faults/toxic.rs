//! The chain's RPC endpoint in trouble, in every way that is known of: what is asked meanwhile is answered once, as soon as
//! it is well again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::toxic::{Asked, Toxic, ToxicProxy};
use crate::common::{DEFAULT_TIMEOUT, wait_until};
use crate::scenario::Scenario;

/// MiB that a daemon never needs, whatever it is answered: what it holds when all is well, and a few bodies at their limit.
pub const MEMORY: u64 = 400;

/// What any HTTP server may do to any call.
const HTTP: &[Toxic] = &[
    Toxic::Reset,
    Toxic::ResetInBody,
    Toxic::PassAndReset,
    Toxic::Respond(429, "retry-after: 1", r#"{"error": "slow down"}"#),
    Toxic::Respond(500, "", ""),
    Toxic::Respond(502, "content-type: text/html", "<html><head><title>502 Bad Gateway</title></head></html>"),
    Toxic::Respond(503, "retry-after: 1", "unavailable"),
    Toxic::Respond(200, "content-type: application/json", r#"{"jsonrpc": "2.0", "id": 1, "resu"#),
    Toxic::Respond(200, "content-type: application/json", ""),
    Toxic::Respond(200, "content-type: text/html", "<!DOCTYPE html><h1>We will be back soon</h1>"),
    Toxic::HalfGzip,
    Toxic::Flood(50),
    Toxic::Endless,
];

/// What providers say to any call when they have had enough, or lost the thread.
const REFUSALS: &[Toxic] = &[
    // Alchemy
    Toxic::RpcError(429, 429, "Your app has exceeded its compute units per second capacity."),
    Toxic::RpcError(200, 429, "Your app has exceeded its compute units per second capacity."),
    Toxic::RpcError(500, -32000, "Unable to complete request at this time."),
    // Infura
    Toxic::RpcError(429, -32005, "project ID request rate exceeded"),
    Toxic::RpcError(402, -32005, "daily request count exceeded, request rate limited"),
    // Public endpoints
    Toxic::RpcError(200, -32016, "over rate limit"),
    Toxic::RpcError(200, -32005, "limit exceeded"),
    // Nitro, geth and what stands before them
    Toxic::RpcError(200, -32000, "header not found"),
    Toxic::RpcError(200, -32603, "Internal error"),
    Toxic::RpcError(200, -32000, "missing trie node 3f5a (path ) state 0x3f5a is not available"),
    Toxic::RpcError(200, -32002, "request timed out"),
    Toxic::RpcError(200, -32601, "the method is not available at this time"),
];

/// What nodes say to a transaction: whether they took it or not.
const SENDING: &[Toxic] = &[
    Toxic::PassAndRefuse(-32000, "already known"),
    Toxic::PassAndRefuse(-32000, "ALREADY_EXISTS: already known"),
    Toxic::PassAndRefuse(-32000, "nonce too low: address 0x70997970C51812dc3A010C7d01b50e0d17dc79C8, tx: 3 state: 4"),
    Toxic::PassAndRefuse(-32603, "Internal error"),
    Toxic::PassAndReset,
    Toxic::RpcError(200, -32000, "already known"),
    Toxic::RpcError(200, -32000, "replacement transaction underpriced"),
    Toxic::RpcError(200, -32000, "nonce too high: address 0x70997970C51812dc3A010C7d01b50e0d17dc79C8, tx: 4 state: 3"),
    Toxic::RpcError(
        200,
        -32000,
        "max fee per gas less than block base fee: address 0x7099, maxFeePerGas: 1 baseFee: 2",
    ),
    Toxic::RpcError(200, -32000, "txpool is full"),
];

/// What providers say when too much is asked for at once.
const TOO_WIDE: &[Toxic] = &[
    Toxic::RpcError(200, -32005, "query returned more than 10000 results"),
    Toxic::RpcError(200, -32000, "block range too large"),
    Toxic::RpcError(400, -32600, "You can make eth_getLogs requests with up to a 10 block range."),
    Toxic::RpcError(
        200,
        -32602,
        "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range",
    ),
];

/// Calls in a row that each toxic meets: the tries of one call and more.
const IN_A_ROW: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_endpoints_that_answer_badly_cost_no_request() {
    each_costs_no_request(HTTP, IN_A_ROW, |_| true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_endpoints_that_refuse_cost_no_request() {
    each_costs_no_request(REFUSALS, IN_A_ROW, |_| true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_at_odds_with_a_transaction_cost_no_request() {
    each_costs_no_request(SENDING, 1, |asked| asked.method == "eth_sendRawTransaction").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn providers_that_are_asked_for_too_much_cost_no_request() {
    each_costs_no_request(TOO_WIDE, 2, |asked| asked.method == "eth_getLogs").await;
}

/// The daemon meets each so often, while a request is made.
async fn each_costs_no_request(toxics: &[Toxic], times: usize, concerns: fn(&Asked) -> bool) {
    let mut scenario = Scenario::new().await;
    let proxy = ToxicProxy::start(scenario.net.devnet.rpc_url()).await;
    let daemon = scenario.run().env("NOVA_RPC_URLS", proxy.rpc_url()).start().ready().await;
    for toxic in toxics {
        proxy.course(&vec![*toxic; times], concerns);
        scenario.ask(1).await;
        proxy.has_hit(times).await;
        println!("{toxic:?}");
    }
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    println!("{} MiB at most", daemon.peak_memory());
    assert!(daemon.peak_memory() < MEMORY);
    daemon.ready().await.stop().await;
}

/// Calls that take longer than anybody waits, and an endpoint that is not there at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_endpoints_that_hang_drip_or_refuse_cost_no_request() {
    let mut scenario = Scenario::new().await;
    let proxy = ToxicProxy::start(scenario.net.devnet.rpc_url()).await;
    let daemon = scenario.run().env("NOVA_RPC_URLS", proxy.rpc_url()).start().ready().await;

    proxy.rule(|_| Toxic::Drip);
    scenario.ask(1).await;
    proxy.has_hit(2).await;
    proxy.rule(|_| Toxic::Hang(30));
    scenario.ask(1).await;
    proxy.has_hit(2).await;
    proxy.heal();
    scenario.answered(&scenario.requests).await;

    proxy.refuse().await;
    scenario.ask(1).await;
    wait_until("an unready daemon", DEFAULT_TIMEOUT, async || match daemon.readyz().await {
        Some((503, body)) if body["parts"]["rpc"] != "ok" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    proxy.listen().await;
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    daemon.ready().await.stop().await;
}

/// The node that is asked what was asked is a hundred blocks behind the one that gave the log, for a while that no number of blocks
/// bounds: its ignorance is not the contract's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_request_that_one_node_does_not_know_is_answered() {
    let mut scenario = Scenario::with_usual_sla().await;
    let proxy = ToxicProxy::start(scenario.net.devnet.rpc_url()).await;
    let daemon = scenario.run().env("NOVA_RPC_URLS", proxy.rpc_url()).start().ready().await;
    scenario.net.anvil("anvil_mine", serde_json::json!([400])).await;
    proxy.rule(|asked| if asked.method == "eth_call" { Toxic::Lag(350) } else { Toxic::Pass });
    let request = scenario.ask(1).await.remove(0);
    scenario.net.anvil("anvil_mine", serde_json::json!([80])).await;
    let row = scenario.request_row(&request, |row| row.reason.is_some()).await;
    assert_eq!(row.state, "seen", "{row:?}");
    assert!(row.reason.unwrap().contains("cannot read request"));

    // The node is well again.
    proxy.heal();
    scenario.ask(2).await;
    scenario.answered(&scenario.requests).await;
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    daemon.stop().await;
}

/// The next endpoint has the block.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_one_node_does_not_know_the_next_one_is_asked() {
    let mut scenario = Scenario::with_usual_sla().await;
    let (first, second) = (scenario.net.devnet.rpc_url(), scenario.net.devnet.rpc_url());
    let (first, second) = (ToxicProxy::start(first).await, ToxicProxy::start(second).await);
    scenario.net.anvil("anvil_mine", serde_json::json!([150])).await;
    let urls = format!("{},{}", first.rpc_url(), second.rpc_url());
    let daemon = scenario.run().env("NOVA_RPC_URLS", urls).start().ready().await;
    first.rule(|asked| if asked.method == "eth_call" { Toxic::Lag(100) } else { Toxic::Pass });
    scenario.ask(2).await;
    scenario.answered(&scenario.requests).await;
    assert!(first.hits() > 0);
    scenario.check().await;
    daemon.stop().await;
}

/// The first endpoint answers, and its newest block is minutes old: what is asked since then only the second one knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_an_endpoint_that_is_far_behind_hides_no_request() {
    let mut scenario = Scenario::with_usual_sla().await;
    let first = ToxicProxy::start(scenario.net.devnet.rpc_url()).await;
    let urls = format!("{},{}", first.rpc_url(), scenario.net.devnet.rpc_url());
    let daemon = scenario.run().env("NOVA_RPC_URLS", urls).start().ready().await;
    scenario.net.anvil("anvil_mine", serde_json::json!([400, 1])).await;
    first.rule(|_| Toxic::Lag(350));
    scenario.ask(2).await;
    scenario.answered(&scenario.requests).await;
    daemon.wait_for_log("behind another").await;
    first.heal();
    daemon.wait_for_log("has caught up").await;
    scenario.check().await;
    daemon.stop().await;
}

/// A node that is not in sync knows no contract: that is no wrong address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_node_that_does_not_know_the_contracts_yet_is_waited_for() {
    const TYPE: &str = "content-type: application/json";
    const NOTHING: Toxic = Toxic::Respond(200, TYPE, r#"{"jsonrpc": "2.0", "id": 1, "result": "0x"}"#);
    // As Nitro says it, with other fields than geth.
    const PROGRESS: Toxic =
        Toxic::Respond(200, TYPE, r#"{"jsonrpc": "2.0", "id": 1, "result": {"batchSeen": 7, "msgCount": 9}}"#);
    let mut scenario = Scenario::new().await;
    let proxy = ToxicProxy::start(scenario.net.devnet.rpc_url()).await;
    proxy.rule(|asked| match asked.method {
        "eth_call" => NOTHING,
        "eth_syncing" => PROGRESS,
        _ => Toxic::Pass,
    });
    let daemon = scenario.run().env("NOVA_RPC_URLS", proxy.rpc_url()).start();
    daemon.is_unready("rpc", "not in sync").await;
    // Now two machines, one of which does not know yet that it lags.
    let mut calls = 0;
    proxy.rule(move |asked| {
        calls += u32::from(asked.method == "eth_call");
        if asked.method == "eth_call" && calls % 2 == 1 { NOTHING } else { Toxic::Pass }
    });
    let daemon = daemon.ready().await;
    proxy.heal();
    scenario.ask(1).await;
    scenario.answered(&scenario.requests).await;
    scenario.check().await;
    daemon.stop().await;
}

/// Behind one URL there are several nodes, and some of them are far behind: whoever asks twice goes back in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_lag_cost_no_request() {
    let mut scenario = Scenario::with_verifier().await;
    let proxy = ToxicProxy::start(scenario.net.devnet.rpc_url()).await;
    let daemon = scenario.run().env("NOVA_RPC_URLS", proxy.rpc_url()).start().ready().await;
    for behind in [1, 8, 40] {
        let mut call = 0;
        proxy.rule(move |_| {
            call += 1;
            // Not one in two: calls that come in pairs would always meet the same node.
            if call % 3 == 0 || call % 7 == 0 { Toxic::Lag(behind) } else { Toxic::Pass }
        });
        let requests = scenario.ask(3).await;
        scenario.net.answered_once(&requests).await;
        println!("{behind} blocks behind: {} calls", proxy.hits());
    }
    proxy.heal();
    let requests = scenario.requests.clone();
    scenario.answered(&requests).await;
    scenario.request_proof(requests[0].id).await;
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    assert!(!daemon.log().contains(FORGOTTEN), "the chain forgot nothing");
    daemon.stop().await;
}

/// A node without a pool forgets what it refuses, and every higher nonce waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_no_node_takes_gives_its_nonce_back() {
    let mut scenario = Scenario::with_usual_sla().await;
    let proxy = ToxicProxy::start(scenario.net.devnet.rpc_url()).await;
    let daemon = scenario.run().env("NOVA_RPC_URLS", proxy.rpc_url()).start().ready().await;
    let requests = scenario.ask(1).await;
    scenario.answered(&requests).await;
    let refuses = Arc::new(AtomicBool::new(true));
    let still = refuses.clone();
    proxy.rule(move |asked| match asked.method {
        "eth_sendRawTransaction" if still.load(Ordering::Relaxed) => {
            Toxic::RpcError(200, -32000, "the sequencer does not take reverts")
        }
        _ => Toxic::Pass,
    });
    let challenge = scenario.challenge(&[requests[0].id]).await;
    daemon.wait_for_log("its nonce is free for another").await;
    refuses.store(false, Ordering::Relaxed);
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    let tally = scenario.check().await;
    assert_eq!(tally.transactions, 2);
    daemon.stop().await;
}

/// What the log says where a mined transaction is sent again.
const FORGOTTEN: &str = "the chain forgot the block";

/// A machine that has no receipt says nothing of the block that the receipt is of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_receipt_that_one_machine_lacks_is_no_reorg() {
    let mut scenario = Scenario::new().await;
    let proxy = ToxicProxy::start(scenario.net.devnet.rpc_url()).await;
    let run = scenario.run().env("NOVA_RPC_URLS", proxy.rpc_url()).env("NOVA_FINALITY", "40");
    let daemon = run.start().ready().await;
    scenario.ask(1).await;
    scenario.project.transactions_in("mined", 1).await;
    proxy.rule(|asked| if asked.method == "eth_getTransactionReceipt" { Toxic::Lag(1000) } else { Toxic::Pass });
    proxy.has_hit(3).await;
    proxy.heal();
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    assert!(!daemon.log().contains(FORGOTTEN), "the chain forgot nothing");
    daemon.stop().await;
}
