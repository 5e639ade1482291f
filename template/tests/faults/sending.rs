//! Transactions that do not go through: dropped, too cheap, too late, refused, forgotten. Each is answered once all the
//! same, or its row says why not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ethers::providers::Middleware as _;
use ethers::types::{H256, U256};
use nova::ledger::AttemptKind;
use nova_devnet::sender::Call;
use serde_json::json;

use crate::common::net::Net;
use crate::common::nova::Nova;
use crate::common::project::Project;
use crate::common::proxy::{Act, Proxy};
use crate::common::{DEFAULT_TIMEOUT, assert_contains_all, wait_until};
use crate::pool::{PATIENCE, answer_row, asked_with_blocks_stopped, attempts, bumped, gwei, max_fee, pooled, signed};

/// The SLA on the devnet.
const SLA: u64 = 600;

fn run(project: &Project, net: &Net) -> Nova {
    project.nova(&["run"]).envs(net.env()).env("NOVA_REPLACE_AFTER", PATIENCE)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_the_pool_dropped_is_sent_again() {
    let (project, net) = (Project::new(), Net::start().await);
    let _daemon = run(&project, &net).start().ready().await;
    let requests = pooled(&project, &net, 2).await;
    for request in &requests {
        net.drop_from_pool(&attempts(&project, &net, request).await[0].hash).await;
    }
    net.go_on_mining().await;
    net.answered_once(&requests).await;
    for request in &requests {
        project.request_in(request.id, "final").await;
    }
    assert_eq!(net.sent().await, 2);
}

/// The base fee rises beyond what was offered, and stays there. Each replacement pays an eighth more at least, and three
/// times as much at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_base_fee_has_outrun_is_replaced_until_it_is_mined() {
    let (project, net) = (Project::new(), Net::start().await);
    let _daemon = run(&project, &net).start().ready().await;
    let request = pooled(&project, &net, 1).await.remove(0);
    let base_fee = max_fee(&attempts(&project, &net, &request).await[0]) * 10;
    wait_until("an answer", DEFAULT_TIMEOUT, async || {
        net.mine_at(base_fee).await;
        let answers = net.answers(std::slice::from_ref(&request)).await.unwrap();
        if answers.is_empty() { Err("none".to_owned()) } else { Ok(()) }
    })
    .await;
    let signed = attempts(&project, &net, &request).await;
    assert!(signed.len() >= 3, "ten times the fee takes several steps: {}", signed.len());
    for pair in signed.windows(2) {
        let (old, new) = (max_fee(&pair[0]), max_fee(&pair[1]));
        assert!(new >= bumped(old) && new <= old * 3, "{old} was replaced by {new}");
        assert_eq!((pair[0].nonce, pair[0].sequence_id), (pair[1].nonce, pair[1].sequence_id));
    }
    net.go_on_mining().await;
    net.answered_once(std::slice::from_ref(&request)).await;
    project.request_in(request.id, "final").await;
    assert_eq!(net.sent().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_cap_forbids_more_the_row_waits_and_says_so() {
    const CAP: u64 = 3;
    let (project, net) = (Project::new(), Net::start().await);
    let run = run(&project, &net).env("NOVA_MAX_FEE_GWEI", CAP.to_string());
    let _daemon = run.start().ready().await;
    let request = pooled(&project, &net, 1).await.remove(0);
    let says = |reason: &Option<String>| reason.as_ref().is_some_and(|it| it.contains("NOVA_MAX_FEE_GWEI"));
    let row = wait_until("a row that says what it waits for", DEFAULT_TIMEOUT, async || {
        net.mine_at(gwei(100)).await;
        let status = project.status().await;
        let row = status.request(request.id).cloned();
        row.filter(|row| says(&row.reason)).ok_or_else(|| format!("{status:?}"))
    })
    .await;
    assert_eq!(row.state, "answering");
    assert_eq!(answer_row(&project, &net, &request).await.state, "broadcast");
    net.assert_answers(&request, 0).await;

    net.go_on_mining().await;
    net.answered_once(std::slice::from_ref(&request)).await;
    project.request_in(request.id, "final").await;
    for attempt in attempts(&project, &net, &request).await {
        assert!(max_fee(&attempt) <= gwei(CAP), "{attempt:?}");
    }
    assert_eq!(net.sent().await, 1);
}

/// Where the order of transactions is sold, nothing is the least that can be offered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_priority_fee_of_the_settings_is_offered() {
    let (project, net) = (Project::new(), Net::start().await);
    let _daemon = run(&project, &net).env("NOVA_PRIORITY_FEE_GWEI", "0.25").start().ready().await;
    let requests = net.ask(1).await;
    net.answered_once(&requests).await;
    let attempts = attempts(&project, &net, &requests[0]).await;
    assert_eq!(attempts[0].priority_fee_wei, "250000000");
}

/// No block for a minute: nothing that is offered changes that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_no_blocks_are_made_nothing_is_replaced() {
    let (project, net) = (Project::new(), Net::start().await);
    let _daemon = run(&project, &net).start().ready().await;
    let requests = pooled(&project, &net, 2).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    for request in &requests {
        assert_eq!(attempts(&project, &net, request).await.len(), 1);
    }
    net.go_on_mining().await;
    net.answered_once(&requests).await;
    for request in &requests {
        project.request_in(request.id, "final").await;
    }
    assert_eq!(net.sent().await, 2);
}

/// One answer in the pool, and one that no node took, as far as we know: when the deadline passes neither is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_deadline_has_passed_is_cancelled_on_its_nonce() {
    let (project, net) = (Project::new(), Net::start().await);
    let proxy = Proxy::start(net.devnet.rpc_url()).await;
    let _daemon = run(&project, &net).env("NOVA_RPC_URLS", proxy.url()).start().ready().await;
    let mut requests = pooled(&project, &net, 1).await;
    proxy.rule(|method, _| if method == "eth_sendRawTransaction" { Act::Say(200, REFUSALS[6]) } else { Act::Pass });
    net.drop_from_pool(&attempts(&project, &net, &requests[0]).await[0].hash).await;
    net.go_on_mining().await;
    requests.extend(asked_with_blocks_stopped(&net, 1).await);
    signed(&project, &net, &requests[1], 1).await;
    net.pass(SLA + 100).await;
    proxy.rule(|_, _| Act::Pass);
    net.go_on_mining().await;

    for request in &requests {
        let row = project.request_in(request.id, "expired").await;
        assert_contains_all(&row.reason.unwrap(), &["cancelled", "deadline"]);
        let tx = answer_row(&project, &net, request).await;
        assert_eq!(tx.state, "fatal");
        let mined = net.transaction(tx.mined_hash.unwrap().parse().unwrap()).await;
        assert_eq!((mined.to, mined.input.len()), (Some(net.deployment.signer), 0), "a transfer to ourselves");
        let attempts = attempts(&project, &net, request).await;
        let cancel = attempts.iter().find(|it| it.kind() == AttemptKind::Cancel).unwrap();
        assert!(max_fee(cancel) >= bumped(max_fee(&attempts[0])));
        assert_eq!(cancel.nonce, attempts[0].nonce);
        net.assert_answers(request, 0).await;
    }
    // The nonces are free of it, and the key goes on.
    net.answered_once(&net.ask(1).await).await;
    assert_eq!(net.sent().await, 3);
}

/// What a node may say to a transaction that it does not take, truly or not.
const REFUSALS: [&str; 8] = [
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"already known"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"nonce too low: next nonce 9, tx nonce 0"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"replacement transaction underpriced"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"transaction underpriced: gas tip cap 1, minimum needed 2"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"max fee per gas less than block base fee: address 0x00, maxFeePerGas: 1, baseFee: 2"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"insufficient funds for gas * price + value"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"txpool is full"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"nonce too high"}}"#,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_a_node_refuses_a_transaction_it_is_offered_again() {
    let (project, net) = (Project::new(), Net::start().await);
    let proxy = Proxy::start(net.devnet.rpc_url()).await;
    let refused = AtomicUsize::new(0);
    proxy.rule(move |method, _| match method {
        "eth_sendRawTransaction" => {
            let refusal = REFUSALS.get(refused.fetch_add(1, Ordering::Relaxed));
            refusal.map_or(Act::Pass, |body| Act::Say(200, body))
        }
        _ => Act::Pass,
    });
    let _daemon = run(&project, &net).env("NOVA_RPC_URLS", proxy.url()).start().ready().await;
    let requests = net.ask(1).await;
    net.answered_once(&requests).await;
    project.request_in(requests[0].id, "final").await;
    assert!(proxy.calls("eth_sendRawTransaction").len() > REFUSALS.len());
    assert_eq!(net.sent().await, 1);
}

/// Three reorgs: before the answer reaches a node, while it is in the pool, and after it was mined.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorg_at_any_step_of_an_answer_loses_nothing_and_doubles_nothing() {
    const FINALITY: u64 = 1000;
    let (project, net) = (Project::new(), Net::start().await);
    let proxy = Proxy::start(net.devnet.rpc_url()).await;
    let run = run(&project, &net).env("NOVA_RPC_URLS", proxy.url()).env("NOVA_FINALITY", FINALITY.to_string());
    let _daemon = run.start().ready().await;

    proxy.rule(|method, _| if method == "eth_sendRawTransaction" { Act::Say(503, "") } else { Act::Pass });
    let mut requests = net.ask(1).await;
    signed(&project, &net, &requests[0], 1).await;
    forget_all_after(&net, requests[0].block).await;
    proxy.rule(|_, _| Act::Pass);
    net.answered_once(&requests).await;

    let in_the_pool = pooled(&project, &net, 1).await;
    // Empty blocks to forget: the pool is kept out of them by their price.
    net.mine_at(gwei(1000)).await;
    net.mine_at(gwei(1000)).await;
    forget_all_after(&net, in_the_pool[0].block).await;
    net.go_on_mining().await;
    net.answered_once(&in_the_pool).await;
    requests.extend(in_the_pool);

    let mined = net.ask(1).await;
    net.answered_once(&mined).await;
    project.transactions_in("mined", 3).await;
    forget_all_after(&net, mined[0].block).await;
    requests.extend(mined);
    net.answered_once(&requests).await;
    net.anvil("anvil_mine", [FINALITY]).await;
    for request in &requests {
        project.request_in(request.id, "final").await;
    }
    assert_eq!(net.sent().await, 3);
}

/// A reorg takes back not only the answers, but that the modeler is among the top N: sent again, they would be reverted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_a_reorg_took_is_not_sent_again_while_it_would_be_reverted() {
    const FINALITY: u64 = 60;
    let (project, net) = (Project::new(), Net::start().await);
    net.rank(false).await;
    let _daemon = run(&project, &net).env("NOVA_FINALITY", FINALITY.to_string()).start().ready().await;
    let requests = net.ask(3).await;
    project.transactions_in("queued", 3).await;
    let unranked = net.head().await;
    net.rank(true).await;
    net.answered_once(&requests).await;
    net.stop_mining().await;
    project.transactions_in("mined", 3).await;
    forget_all_after(&net, unranked).await;
    net.go_on_mining().await;
    project.transactions_in("queued", 3).await;
    for request in &requests {
        let reason = answer_row(&project, &net, request).await.reason.unwrap();
        assert_contains_all(&reason, &["it was cancelled, and is wanted again"]);
    }

    net.rank(true).await;
    net.answered_once(&requests).await;
    net.anvil("anvil_mine", [FINALITY]).await;
    for request in &requests {
        project.request_in(request.id, "final").await;
        for attempt in attempts(&project, &net, request).await {
            let hash = attempt.hash.parse::<H256>().unwrap();
            let receipt = net.node.get_transaction_receipt(hash).await.unwrap();
            assert!(receipt.is_none_or(|receipt| receipt.status == Some(1.into())), "{attempt:?} was reverted");
        }
    }
    assert_eq!(net.sent().await, 6, "three cancellations, three answers");
}

/// Replaces all blocks after this one by empty ones.
async fn forget_all_after(net: &Net, block: u64) {
    let head = net.head().await;
    if head > block {
        net.anvil("anvil_reorg", json!([head - block, []])).await;
    }
}

/// The chain is restarted from a snapshot: it has the request, and not its answer, which it had before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_a_restored_chain_has_forgotten_is_sent_again() {
    let (project, net) = (Project::new(), Net::start().await);
    let _daemon = run(&project, &net).env("NOVA_FINALITY", "1000").start().ready().await;
    let requests = asked_with_blocks_stopped(&net, 2).await;
    let snapshot = net.anvil("evm_snapshot", [(); 0]).await;
    net.go_on_mining().await;
    net.answered_once(&requests).await;
    project.transactions_in("mined", 2).await;
    net.anvil("evm_revert", [snapshot]).await;
    net.answered_once(&requests).await;
    net.anvil("anvil_mine", [1000]).await;
    for request in &requests {
        project.request_in(request.id, "final").await;
    }
    assert_eq!(net.sent().await, 2);
}

/// A contract that takes every call and does nothing stands where the Consumption contract was when the answer is mined.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_success_without_the_event_is_none() {
    let (project, net) = (Project::new(), Net::start().await);
    let _daemon = run(&project, &net).start().ready().await;
    let request = pooled(&project, &net, 1).await.remove(0);
    mine_onto(&net, "0x00").await;
    net.go_on_mining().await;
    let row = project.request_in(request.id, "failed").await;
    assert_contains_all(&row.reason.unwrap(), &["mined, but the contract", "logged no InferenceSubmitted"]);
    assert_eq!(answer_row(&project, &net, &request).await.state, "fatal");

    // A person has looked into it.
    project.nova(&["retry", &format!("{:#x}", request.id)]).succeed().await;
    net.answered_once(std::slice::from_ref(&request)).await;
    project.request_in(request.id, "final").await;
}

/// The same, and the daemon is killed once the block is written down: the next one looks at the logs too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_success_without_the_event_is_none_for_the_next_process_either() {
    let (project, net) = (Project::new(), Net::start().await);
    let run = run(&project, &net).env("NOVA_FINALITY", "5");
    let daemon = run.clone().env("FAILPOINTS", "tx.mined.after=return").start();
    let request = pooled(&project, &net, 1).await.remove(0);
    mine_onto(&net, "0x00").await;
    daemon.wait_killed().await;
    project.transactions_in("mined", 1).await;
    net.anvil("anvil_mine", [10]).await;
    net.go_on_mining().await;
    let _daemon = run.start().ready().await;
    let row = project.request_in(request.id, "failed").await;
    assert_contains_all(&row.reason.unwrap(), &["mined, but the contract", "logged no InferenceSubmitted"]);
}

/// What was reverted is forgotten in a reorg, another takes its nonce, and then it is mined once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reverted_transaction_that_is_mined_again_takes_no_answer_with_it() {
    const REFUSES: &str = "0x60006000fd";
    let (project, net) = (Project::new(), Net::start().await);
    let proxy = Proxy::start(net.devnet.rpc_url()).await;
    let without =
        |method: &'static str| proxy.rule(move |it, _| if it == method { Act::Say(503, "") } else { Act::Pass });
    let _daemon = run(&project, &net).env("NOVA_RPC_URLS", proxy.url()).start().ready().await;
    let request = pooled(&project, &net, 1).await.remove(0);
    // Nothing is signed in its place before it is forgotten, and what is signed then reaches no node before it is back.
    without("eth_estimateGas");
    mine_onto(&net, REFUSES).await;
    let void = wait_until("a reverted attempt", DEFAULT_TIMEOUT, async || {
        let attempt = attempts(&project, &net, &request).await.remove(0);
        if attempt.is_ineffective() { Ok(attempt) } else { Err(attempt.state) }
    })
    .await;
    let own = net.code(net.deployment.consumption).await;
    net.anvil("anvil_reorg", json!([1, []])).await;
    // The chain is as it was before that block.
    net.set_code(net.deployment.consumption, &own).await;
    without("eth_sendRawTransaction");
    let second = signed(&project, &net, &request, 2).await.remove(1);
    assert_eq!(second.nonce, void.nonce);
    net.node.send_raw_transaction(void.raw.into()).await.unwrap();
    mine_onto(&net, REFUSES).await;
    assert_eq!(net.sent().await, 1, "the reverted one is mined");

    proxy.rule(|_, _| Act::Pass);
    net.go_on_mining().await;
    net.answered_once(std::slice::from_ref(&request)).await;
    project.request_in(request.id, "final").await;
    assert_eq!(net.sent().await, 2);
}

/// What a node says about one call that nobody understands is no reason to send nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_a_node_will_not_estimate_holds_up_no_other() {
    // An answer of the node, and one that another machine or a later call may better.
    const ODD: [(&str, &str); 2] = [
        (
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"execution aborted (timeout = 5s)"}}"#,
            "execution aborted",
        ),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Internal error"}}"#, "Internal error"),
    ];
    let (project, net) = (Project::new(), Net::start().await);
    let proxy = Proxy::start(net.devnet.rpc_url()).await;
    let _daemon = run(&project, &net).env("NOVA_RPC_URLS", proxy.url()).start().ready().await;
    for (said, reason) in ODD {
        let requests = asked_with_blocks_stopped(&net, 3).await;
        let odd = format!("{:x}", requests[1].id);
        proxy.rule(move |method, params| match method {
            "eth_estimateGas" if params.to_string().contains(&odd) => Act::Say(200, said),
            _ => Act::Pass,
        });
        net.go_on_mining().await;
        let others = [requests[0].clone(), requests[2].clone()];
        net.answered_once(&others).await;
        let row = project.request_row(requests[1].id, "says why it waits", |row| row.reason.is_some()).await;
        assert_contains_all(&row.reason.unwrap(), &[reason]);
        proxy.rule(|_, _| Act::Pass);
        net.answered_once(&requests).await;
    }
    assert_eq!(net.sent().await, 3 * ODD.len() as u64);
}

/// Behind a load balancer one machine has a receipt, and the next one not the block that it is in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_receipt_whose_block_is_not_there_yet_holds_up_no_answer() {
    let (project, net) = (Project::new(), Net::start().await);
    let proxy = Proxy::start(net.devnet.rpc_url()).await;
    let _daemon = run(&project, &net).env("NOVA_RPC_URLS", proxy.url()).start().ready().await;
    proxy.rule(|method, _| match method {
        "eth_getBlockByHash" => Act::Say(200, r#"{"jsonrpc":"2.0","id":1,"result":null}"#),
        _ => Act::Pass,
    });
    let mut requests = Vec::new();
    for _ in 0..3 {
        requests.extend(net.ask(1).await);
        net.answered_once(&requests).await;
    }
    project.transactions_in("broadcast", 3).await;
    proxy.rule(|_, _| Act::Pass);
    for request in &requests {
        project.request_in(request.id, "final").await;
    }
    assert_eq!(net.sent().await, 3);
}

/// Makes a block while this code stands where the Consumption contract was.
async fn mine_onto(net: &Net, code: &str) {
    let consumption = net.deployment.consumption;
    let own = net.code(consumption).await;
    net.set_code(consumption, &code.parse().unwrap()).await;
    net.anvil("evm_mine", [(); 0]).await;
    net.set_code(consumption, &own).await;
}

/// Out of funds and with a closed window the daemon says so, and is well again by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_window_and_an_empty_wallet_are_said_until_they_pass() {
    let (project, net) = (Project::new(), Net::start().await);
    let toggle = async |open: bool| {
        let call = net.consumption().toggle_consumption_window(open);
        net.parties.admin.send(Call::new("toggle the window", &call)).await.unwrap();
    };
    toggle(false).await;
    net.fund(U256::zero()).await;
    let daemon = run(&project, &net).start();
    wait_until("a daemon in trouble", DEFAULT_TIMEOUT, async || {
        let Some((503, body)) = daemon.readyz().await else { return Err("no 503".to_owned()) };
        let says = |part: &str, what: &str| body["parts"][part].as_str().unwrap_or_default().contains(what);
        let both = says("funds", "pays for no answer") && says("window", "window is closed");
        if both { Ok(()) } else { Err(body.to_string()) }
    })
    .await;
    net.fund(U256::exp10(18)).await;
    toggle(true).await;
    let _daemon = daemon.ready().await;
    net.answered_once(&net.ask(1).await).await;
}
