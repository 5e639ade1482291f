//! RPC providers as they are: dead, limiting, in trouble, and with rules of their own for how many blocks one may ask about.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nova_devnet::CompetitionParams;
use serde_json::{Value, json};

use crate::common::net::Net;
use crate::common::project::Project;
use crate::common::proxy::{Act, Proxy};
use crate::common::{DEFAULT_TIMEOUT, assert_contains_all, wait_until};

/// Where nothing listens.
const DEAD: &str = "http://127.0.0.1:1/v2/rpc-key-77aa02d5";

/// Nodes differ in what they let pass. This one lets nothing pass that JSON-RPC does not allow, as hardhat's does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_every_call_keeps_to_the_rules_of_json_rpc() {
    let (project, net) = (Project::new(), Net::with_verifier(CompetitionParams::default()).await);
    let node = Proxy::start(net.devnet.rpc_url()).await;
    let run = project.nova(&["run"]).envs(net.env()).env("NOVA_RPC_URLS", node.url()).env("NOVA_CLAIM_REWARDS", "true");
    let daemon = run.start().ready().await;
    let requests = net.ask(2).await;
    net.answered_once(&requests).await;
    let asked = net.request_proof(requests[0].id).await.unwrap();
    project.challenge_in(asked.transaction, "final").await;
    let doctor = project.nova(&["doctor"]).envs(net.env()).env("NOVA_RPC_URLS", node.url()).run().await;
    assert_contains_all(&doctor.all(), &["✓ RPC", "✓ contracts"]);
    daemon.stop().await;
    assert_eq!(node.invalid(), Vec::<String>::new());
    assert!(node.count() > 50, "{} calls went through it", node.count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_provider_fails_the_next_one_is_asked_and_when_all_fail_the_daemon_waits() {
    let (project, net) = (Project::new(), Net::start().await);
    let up = Arc::new(AtomicBool::new(true));
    let first = Proxy::start(net.devnet.rpc_url()).await;
    let last = Proxy::start(net.devnet.rpc_url()).await;
    let bad = [
        Proxy::saying(429, r#"{"error": "slow down"}"#).await,
        Proxy::saying(500, "").await,
        Proxy::saying(200, "<!DOCTYPE html><html><h1>We will be back soon</h1></html>").await,
        Proxy::saying(
            200,
            r#"{"jsonrpc": "2.0", "id": 1, "error": {"code": 429, "message": "compute units exceeded"}}"#,
        )
        .await,
    ];
    let mut urls = vec![first.url(), DEAD.to_owned()];
    urls.extend(bad.iter().map(Proxy::url));
    urls.push(last.url());
    let run = project.nova(&["run"]).envs(net.env()).env("NOVA_RPC_URLS", urls.join(","));
    let daemon = run.start().ready().await;

    net.answered_once(&net.ask(1).await).await;
    for proxy in bad.iter().chain([&last]) {
        let heights = proxy.calls("eth_getBlockByNumber").len();
        assert_eq!(
            proxy.count(),
            heights,
            "the first provider is well: every other provider is asked for its newest block alone"
        );
    }

    let before: Vec<_> = bad.iter().map(Proxy::count).collect();
    first.rule(|_, _| Act::Say(503, "unavailable"));
    net.answered_once(&net.ask(1).await).await;
    for (proxy, before) in bad.iter().zip(before) {
        assert!(proxy.count() > before, "every provider has its turn");
    }

    let switch = up.clone();
    last.rule(move |_, _| if switch.load(Ordering::Relaxed) { Act::Pass } else { Act::Say(502, "bad gateway") });
    up.store(false, Ordering::Relaxed);
    wait_until("an unready daemon", DEFAULT_TIMEOUT, async || match daemon.readyz().await {
        Some((503, body)) if body["parts"]["rpc"].as_str().unwrap_or_default().contains("502") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(daemon.is_alive().await);
    let meanwhile = net.ask(1).await;
    up.store(true, Ordering::Relaxed);
    net.answered_once(&meanwhile).await;
    let _daemon = daemon.ready().await;
}

/// The blocks that a provider of this test lets one ask about at once.
const ALLOWED: u64 = 5;

/// As providers refuse a range that is too long: with which status, and in which words.
const REFUSALS: [(u16, &str); 5] = [
    (
        200,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range"}}"#,
    ),
    (
        400,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range"}}"#,
    ),
    (200, r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"query returned more than 10000 results"}}"#),
    (413, r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32614,"message":"eth_getLogs is limited to a 5 range"}}"#),
    (200, r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"exceed maximum block range: 5"}}"#),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_refuses_a_range_of_blocks_is_asked_for_half_until_it_agrees() {
    let (project, net) = (Project::new(), Net::start().await);
    let requests = net.ask(2).await;
    net.pass(1).await;
    let proxy = Proxy::start(net.devnet.rpc_url()).await;
    let refused = AtomicUsize::new(0);
    proxy.rule(move |method, params| {
        if method != "eth_getLogs" || length(params) <= ALLOWED {
            return Act::Pass;
        }
        let (status, body) = REFUSALS[refused.fetch_add(1, Ordering::Relaxed) % REFUSALS.len()];
        Act::Say(status, body)
    });
    let run = project.nova(&["run"]).envs(net.env()).env("NOVA_RPC_URLS", proxy.url());
    // Nothing is read twice, so that what is left out or read twice would show.
    let run = run.env("NOVA_START_BLOCK", "0").env("NOVA_REREAD_BLOCKS", "0");
    let _daemon = run.start().ready().await;
    net.answered_once(&requests).await;

    let of_requests = |params: &Value| params[0]["address"] == format!("{:?}", net.deployment.consumption);
    let asked: Vec<(u64, u64)> =
        proxy.calls("eth_getLogs").iter().filter(|call| of_requests(call)).map(range).collect();
    // Up to the last request: a slow machine is back at the first block by then, because blocks are read again after 20 s.
    let last = requests.iter().map(|request| request.block).max().unwrap();
    let end = asked.iter().position(|(from, to)| to - from < ALLOWED && *to >= last).expect("the requests were read");
    let asked = &asked[..=end];
    let allowed: Vec<_> = asked.iter().filter(|(from, to)| to - from < ALLOWED).collect();
    let refused = asked.len() - allowed.len();
    assert!((1..=8).contains(&refused), "{refused} ranges were refused: {asked:?}");
    assert_eq!(allowed[0].0, 0);
    for pair in allowed.windows(2) {
        assert_eq!(pair[1].0, pair[0].1 + 1, "blocks were left out or read twice: {allowed:?}");
    }
}

/// Nodes keep the newest blocks, and providers sell those who keep all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_node_without_old_blocks_will_do() {
    const KEPT: u64 = 1200;
    let (project, net) = (Project::new(), Net::start().await);
    net.anvil("anvil_mine", json!([3000, 1])).await;
    let oldest = net.head().await - KEPT;
    let proxy = Proxy::start(net.devnet.rpc_url()).await;
    proxy.rule(move |method, params| {
        let number = params[0].as_str().and_then(|number| u64::from_str_radix(number.strip_prefix("0x")?, 16).ok());
        match (method, number) {
            ("eth_getBlockByNumber", Some(number)) if (1..oldest).contains(&number) => {
                Act::Say(200, r#"{"jsonrpc":"2.0","id":1,"result":null}"#)
            }
            _ => Act::Pass,
        }
    });
    let request = net.ask(1).await;
    let daemon = project.nova(&["run"]).envs(net.env()).env("NOVA_RPC_URLS", proxy.url()).start().ready().await;
    net.answered_once(&request).await;
    daemon.stop().await;
}

fn length(params: &Value) -> u64 {
    let (from, to) = range(params);
    to + 1 - from
}

fn range(params: &Value) -> (u64, u64) {
    let block = |name: &str| {
        let text = params[0][name].as_str().unwrap().trim_start_matches("0x");
        u64::from_str_radix(text, 16).unwrap()
    };
    (block("fromBlock"), block("toBlock"))
}
