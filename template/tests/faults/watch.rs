//! No request is overlooked: not when the provider is late with its logs, not after hours offline, and with a WebSocket
//! none waits for the next look.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ethers::contract::EthEvent as _;
use nova_devnet::contracts::ZkmlchallengeGivenFilter;
use nova_devnet::request::Request;
use serde_json::{Value, json};

use crate::common::net::Net;
use crate::common::nova::Nova;
use crate::common::project::Project;
use crate::common::proxy::{Act, Proxy};
use crate::common::secrets::RPC_KEY;
use crate::common::{DEFAULT_TIMEOUT, PROOF_TIMEOUT, assert_contains_all, wait_until};
use crate::wire::Wire;

const NO_LOGS: Act = Act::Say(200, r#"{"jsonrpc":"2.0","id":1,"result":[]}"#);

/// As some providers are: the newest blocks have no logs, although they have some.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_that_a_provider_gives_late_are_read_all_the_same() {
    logs_are_late(1, "20").await;
}

/// As a node that is far behind: when it has the logs, no pass reads those blocks again as a matter of course.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_that_a_provider_gives_very_late_are_found_by_looking_back() {
    logs_are_late(40, "2").await;
}

/// Logs of two requests come when so many blocks are on top of theirs and were read.
async fn logs_are_late(blocks: u64, reread: &str) {
    let (project, net) = (Project::new(), Net::start().await);
    let proxy = Proxy::start(net.devnet.rpc_url()).await;
    let first_hidden = Arc::new(AtomicU64::new(u64::MAX));
    let hidden = first_hidden.clone();
    proxy.rule(move |method, params| {
        let hidden = hidden.load(Ordering::Relaxed);
        if method != "eth_getLogs" || range(params).1 < hidden {
            Act::Pass
        } else if range(params).0 >= hidden {
            NO_LOGS
        } else {
            let mut params = params.clone();
            params[0]["toBlock"] = json!(format!("{:#x}", hidden - 1));
            Act::Instead(params)
        }
    });
    let run = project.nova(&["run"]).envs(net.env()).env("NOVA_RPC_URLS", proxy.url());
    let _daemon = run.env("NOVA_REREAD_BLOCKS", reread).start().ready().await;
    let before = net.ask(1).await;
    project.request_in(before[0].id, "final").await;

    first_hidden.store(net.height().await, Ordering::Relaxed);
    let late = net.ask(2).await;
    net.stop_mining().await;
    net.anvil("anvil_mine", json!([blocks])).await;
    let newest = net.height().await;
    wait_until("a look at the blocks without logs", DEFAULT_TIMEOUT, async || {
        let looked = proxy.calls("eth_getLogs").iter().any(|params| range(params).1 == newest);
        if looked { Ok(()) } else { Err(format!("none up to block {newest}")) }
    })
    .await;
    assert!(late.iter().all(|request| request.block >= first_hidden.load(Ordering::Relaxed)));
    first_hidden.store(u64::MAX, Ordering::Relaxed);
    net.go_on_mining().await;
    net.answered_once(&late).await;
    assert_eq!(net.sent().await, 3);
}

/// A stream that is read once an hour reads the hour, and minutes before it; not the hours before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_hourly_looks_read_minutes_again_and_no_hours() {
    let (project, net) = (Project::new(), Net::start().await);
    let proxy = Proxy::start(net.devnet.rpc_url()).await;
    let run = project.nova(&["run"]).envs(net.env()).env("NOVA_RPC_URLS", proxy.url());
    let daemon = run.env("NOVA_PROOF_POLLING_INTERVAL", "1").env("NOVA_REREAD_BLOCKS", "8").start().ready().await;
    net.stop_mining().await;
    let event = format!("{:?}", ZkmlchallengeGivenFilter::signature());
    let looks = || {
        let calls = proxy.calls("eth_getLogs").into_iter();
        let of_challenges = calls.filter(|params| params[0]["topics"].to_string().contains(&event));
        of_challenges.map(|params| range(&params)).collect::<Vec<_>>()
    };
    let mut before = net.height().await;
    for hour in 0..4 {
        // A block every ten seconds, an hour long: the next look is an hour after the last one by the chain's clock.
        net.anvil("anvil_mine", json!([360, 10])).await;
        let newest = net.height().await;
        wait_until(format!("a look up to block {newest}"), DEFAULT_TIMEOUT, async || {
            if looks().iter().any(|(_, last)| *last == newest) { Ok(()) } else { Err(format!("{:?}", looks())) }
        })
        .await;
        let first = looks().iter().filter(|(_, last)| *last > before).map(|(first, _)| *first).min().unwrap();
        // The first look of a daemon goes back as far as the SLA, and the next one may go back to blocks of a second.
        if hour > 1 {
            assert!(before - first <= 240 / 10 + 8, "hour {hour}: {first} to {newest}, {before} was the newest");
        }
        before = newest;
    }
    net.go_on_mining().await;
    let requests = net.ask(1).await;
    net.answered_once(&requests).await;
    daemon.stop().await;
}

/// Hours offline. What can still be answered is; what came before is in the ledger as expired; and while the provider
/// cannot even serve the old blocks, new requests do not wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_hours_offline_fresh_requests_are_answered_first_and_stale_ones_expire() {
    let (project, net) = (Project::new(), Net::start().await);
    let proxy = Proxy::start(net.devnet.rpc_url()).await;
    let run = project.nova(&["run"]).envs(net.env()).env("NOVA_RPC_URLS", proxy.url());
    let run = run.env("NOVA_LOG_RANGE", "20");
    let daemon = run.clone().start().ready().await;
    let old = net.ask(1).await;
    project.request_in(old[0].id, "final").await;
    daemon.stop().await;

    let mut stale = Vec::new();
    for _ in 0..4 {
        stale.extend(net.ask(2).await);
        net.pass(3600).await;
        net.anvil("anvil_mine", json!([150])).await;
    }
    let fresh = net.ask(2).await;
    let (oldest, readable) = (stale[0].block, Arc::new(AtomicBool::new(false)));
    let open = readable.clone();
    proxy.rule(move |method, params| {
        let covers = method == "eth_getLogs" && range(params).0 <= oldest && oldest <= range(params).1;
        if covers && !open.load(Ordering::Relaxed) { Act::Say(503, "") } else { Act::Pass }
    });
    let daemon = run.clone().start().ready().await;
    net.answered_once(&fresh).await;
    for request in &stale[2..] {
        assert_expired(&project, request).await;
    }
    wait_until("the trouble with the old blocks in /readyz", DEFAULT_TIMEOUT, async || {
        let (_, body) = daemon.readyz().await.ok_or("it does not listen")?;
        let says = body["parts"]["catch-up"].as_str().is_some_and(|says| says.contains("logs of blocks"));
        if says { Ok(()) } else { Err(body.to_string()) }
    })
    .await;
    let meanwhile = net.ask(2).await;
    net.answered_once(&meanwhile).await;
    assert!(project.status().await.request(stale[0].id).is_none(), "its block cannot be read yet");

    // What is left to read is in the ledger.
    daemon.kill().await;
    readable.store(true, Ordering::Relaxed);
    let _daemon = run.start().ready().await;
    for request in &stale {
        assert_expired(&project, request).await;
        net.assert_answers(request, 0).await;
    }
    let status = project.status().await;
    let known: HashSet<_> = status.requests.iter().map(|row| &row.id).collect();
    assert_eq!(known.len(), 1 + 8 + 2 + 2, "{status:?}");
    assert_eq!(net.sent().await, 5);
}

async fn assert_expired(project: &Project, request: &Request) {
    let row = project.request_in(request.id, "expired").await;
    assert_contains_all(&row.reason.unwrap(), &["after its deadline"]);
}

/// A daemon that would look once an hour, with a WebSocket at the end of this wire.
fn listening(project: &Project, net: &Net, wire: &Wire) -> Nova {
    let run = project.nova(&["run"]).envs(net.env());
    let run = run.env("NOVA_INFERENCE_POLLING_INTERVAL", "3600").env("NOVA_PROOF_POLLING_INTERVAL", "3600");
    run.env("NOVA_RPC_WS_URL", format!("ws://127.0.0.1:{}/?key={RPC_KEY}", wire.port()))
}

fn port(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_wakes_the_watchers_and_when_it_is_cut_it_is_made_again() {
    let (project, net) = (Project::new(), Net::start().await);
    let wire = Wire::to(port(&net.devnet.rpc_url())).await;
    // With confirmations a log is not to be read when it is told of.
    let run = listening(&project, &net, &wire).env("NOVA_CONFIRMATIONS", "3");
    let daemon = run.start().ready().await;
    daemon.wait_for_log("the WebSocket tells of new blocks").await;
    let first = net.ask(2).await;
    net.answered_once(&first).await;
    project.request_in(first[0].id, "final").await;
    let challenge = net.challenge(&[first[0].id]).await.unwrap();
    net.wait_response(&challenge, PROOF_TIMEOUT).await.unwrap();

    wire.cut();
    let meanwhile = net.ask(2).await;
    daemon.wait_for_log("the WebSocket does not work").await;
    net.assert_answers(&meanwhile[0], 0).await;
    wire.mend();
    net.answered_once(&meanwhile).await;
    net.answered_once(&net.ask(1).await).await;
    daemon.stop().await;
}

/// The connection stands, and nothing comes: a minute later it is made anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_that_tells_of_no_block_for_a_minute_is_made_again() {
    let (project, net) = (Project::new(), Net::start().await);
    let wire = Wire::to(port(&net.devnet.rpc_url())).await;
    let daemon = listening(&project, &net, &wire).start().ready().await;
    daemon.wait_for_log("the WebSocket tells of new blocks").await;
    net.stop_mining().await;
    wait_until("a second connection", DEFAULT_TIMEOUT, async || {
        if wire.made() > 1 { Ok(()) } else { Err("there is one".to_owned()) }
    })
    .await;
    daemon.wait_for_log("it told of no block for 60 s").await;
    net.go_on_mining().await;
    net.answered_once(&net.ask(1).await).await;
    daemon.stop().await;
}

fn range(params: &Value) -> (u64, u64) {
    let block = |name: &str| {
        let text = params[0][name].as_str().unwrap().trim_start_matches("0x");
        u64::from_str_radix(text, 16).unwrap()
    };
    (block("fromBlock"), block("toBlock"))
}
