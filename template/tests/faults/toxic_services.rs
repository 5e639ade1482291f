//! Plumber, Pulse and the IPFS gateway in trouble: what needs them waits, and is done once they are well again.

use std::time::Duration;

use crate::common::toxic::{Asked, Toxic, ToxicProxy};
use crate::common::{DEFAULT_TIMEOUT, PROOF_TIMEOUT, wait_until};
use crate::scenario::Scenario;
use crate::toxic::MEMORY;

/// What a server in trouble does; it passes.
const TROUBLE: &[Toxic] = &[
    Toxic::Reset,
    Toxic::ResetInBody,
    Toxic::PassAndReset,
    Toxic::Respond(429, "retry-after: 1", "slow down"),
    Toxic::Respond(500, "", "Internal Server Error"),
    Toxic::Respond(502, "content-type: text/html", "<html><head><title>502 Bad Gateway</title></head></html>"),
    Toxic::Respond(503, "retry-after: Wed, 21 Oct 2015 07:28:00 GMT", "unavailable"),
    Toxic::HalfGzip,
];
/// Answers that are no JSON, where JSON is expected.
const NO_JSON: &[Toxic] = &[
    Toxic::Respond(200, "content-type: application/json", r#"{"wallet_addr"#),
    Toxic::Respond(200, "content-type: text/html", "<!DOCTYPE html><h1>We will be back soon</h1>"),
    Toxic::Respond(200, "content-type: application/json", ""),
    Toxic::Respond(200, "content-type: application/json", "null"),
];
const TOO_LONG: &[Toxic] = &[Toxic::Flood(50), Toxic::Endless];

const HANGS_SECS: u64 = 15;

const FEATURES: fn(&Asked) -> bool = |asked| asked.path.ends_with("/features");
const BATCH: fn(&Asked) -> bool = |asked| asked.path.ends_with("/features_batch");
const UPLOAD: fn(&Asked) -> bool = |asked| asked.path.ends_with("/ipfs");
const DOCUMENT: fn(&Asked) -> bool = |asked| asked.path.starts_with("/ipfs/");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plumber_in_trouble_costs_no_request() {
    let mut scenario = Scenario::new().await;
    let proxy = ToxicProxy::start(scenario.net.devnet.services.url()).await;
    let daemon = scenario.run().env("NOVA_PLUMBER_HOST", proxy.url()).start().ready().await;
    let all = [TROUBLE, NO_JSON, TOO_LONG].concat();

    proxy.course(&all, FEATURES);
    scenario.ask(1).await;
    proxy.has_hit(all.len()).await;
    scenario.answered(&scenario.requests).await;

    // Where the batch fails each wallet is asked for: no request waits for it.
    for trouble in [TROUBLE, NO_JSON, TOO_LONG].concat() {
        proxy.course(&[trouble], BATCH);
        scenario.ask(2).await;
        proxy.has_hit(1).await;
        scenario.answered(&scenario.requests).await;
    }

    // One slow wallet holds up no other: where the batch takes long, too, each is asked for.
    proxy.rule(|asked| if BATCH(asked) { Toxic::Hang(HANGS_SECS) } else { Toxic::Pass });
    let requests = scenario.ask(3).await;
    scenario.net.wait_answers(&requests, PROOF_TIMEOUT).await.unwrap();
    assert!(proxy.hits() <= 1, "the batch was asked for {} times before each wallet was", proxy.hits());
    scenario.answered(&scenario.requests).await;

    proxy.course(&[Toxic::Hang(30), Toxic::Drip], FEATURES);
    scenario.ask(1).await;
    proxy.has_hit(2).await;
    scenario.answered(&scenario.requests).await;

    proxy.refuse().await;
    let request = scenario.ask(1).await.remove(0);
    let row = scenario.request_row(&request, |row| row.reason.is_some()).await;
    assert!(row.reason.unwrap().contains("Plumber"));
    proxy.listen().await;

    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    println!("{} MiB at most", daemon.peak_memory());
    assert!(daemon.peak_memory() < MEMORY);
    daemon.stop().await;
}

/// What a service says that has nothing yet: it is deploying, its index lags, it knows the wallet in a minute.
const NOT_YET: &[Toxic] = &[
    Toxic::Respond(404, "", "default backend - 404"),
    Toxic::Respond(400, "", "bad request"),
    Toxic::Respond(409, "", "conflict"),
    Toxic::Respond(422, "", r#"{"detail": "unprocessable"}"#),
    Toxic::Respond(200, "content-type: application/json", r#"{"error": "wallet is not indexed yet"}"#),
    Toxic::Respond(200, "content-type: application/json", r#"{"detail": "features are being computed", "code": 17}"#),
    Toxic::Respond(200, "content-type: application/json", r#"{"status": "pending", "total_balance_eth": null}"#),
    Toxic::Respond(200, "content-type: application/json", "{}"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_plumber_that_has_nothing_yet_costs_no_request() {
    let mut scenario = Scenario::with_usual_sla().await;
    let proxy = ToxicProxy::start(scenario.net.devnet.services.url()).await;
    let daemon = scenario.run().env("NOVA_PLUMBER_HOST", proxy.url()).start().ready().await;
    for some in NOT_YET.chunks(4) {
        proxy.course(some, FEATURES);
        scenario.ask(1).await;
        proxy.has_hit(some.len()).await;
        scenario.answered(&scenario.requests).await;
    }
    // Several wallets in one call, of which each is asked for alone then.
    proxy.course(&NOT_YET[..4], |asked| FEATURES(asked) || BATCH(asked));
    scenario.ask(4).await;
    proxy.has_hit(4).await;
    scenario.answered(&scenario.requests).await;
    // An upload that is refused is made again, too.
    proxy.course(
        &[Toxic::Respond(404, "", "default backend - 404"), Toxic::Respond(413, "", "too large today")],
        UPLOAD,
    );
    let challenge = scenario.challenge(&[scenario.requests[0].id]).await;
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    daemon.stop().await;
}

/// Plumber says how long to wait, and is not asked before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plumber_that_names_a_time_is_left_alone_until_then() {
    let mut scenario = Scenario::new().await;
    let proxy = ToxicProxy::start(scenario.net.devnet.services.url()).await;
    let daemon = scenario.run().env("NOVA_PLUMBER_HOST", proxy.url()).start().ready().await;
    proxy.course(&[Toxic::Respond(429, "retry-after: 3", ""), Toxic::Respond(503, "retry-after: 3", "")], FEATURES);
    scenario.ask(1).await;
    proxy.has_hit(2).await;
    let times = proxy.hit_times();
    assert!(times[1] - times[0] >= Duration::from_secs(3), "{:?}", times[1] - times[0]);
    scenario.check().await;
    daemon.stop().await;
}

/// The proof is made once, and delivered once the gateway has the document and Plumber takes the upload.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_and_uploads_in_trouble_cost_no_proof() {
    let mut scenario = Scenario::new().await;
    let plumber = ToxicProxy::start(scenario.net.devnet.services.url()).await;
    let gateway = ToxicProxy::start(scenario.net.devnet.services.url()).await;
    let run = scenario.run().env("NOVA_PLUMBER_HOST", plumber.url()).env("NOVA_IPFS_GATEWAY", gateway.url());
    let daemon = run.start().ready().await;
    let requests = scenario.ask(2).await;
    scenario.answered(&requests).await;

    gateway.course(&[TROUBLE, &[Toxic::Respond(404, "", "not yet")]].concat(), DOCUMENT);
    plumber.course(TROUBLE, UPLOAD);
    let challenge = scenario.challenge(&[requests[0].id, requests[1].id]).await;
    gateway.has_hit(TROUBLE.len()).await;
    plumber.has_hit(TROUBLE.len()).await;
    scenario.challenge_row(&challenge, |row| row.state == "final").await;

    // A document far longer than any is not what a validator wrote.
    gateway.course(TOO_LONG, DOCUMENT);
    for _ in TOO_LONG {
        let challenge = scenario.challenge(&[requests[0].id, requests[1].id]).await;
        let row = scenario.challenge_row(&challenge, |row| row.state == "failed").await;
        assert!(row.reason.unwrap().contains("longer than"));
    }
    scenario.check().await;
    assert!(daemon.peak_memory() < MEMORY);
    daemon.stop().await;
}

/// The gateway looks for documents that nobody has until it is given up on; and nobody waits for them once a newer challenge is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_gateway_that_hangs_holds_up_no_other_document() {
    let mut scenario = Scenario::new().await;
    let gateway = ToxicProxy::start(scenario.net.devnet.services.url()).await;
    let daemon = scenario.run().env("NOVA_IPFS_GATEWAY", gateway.url()).start().ready().await;
    let requests = scenario.ask(2).await;
    scenario.answered(&requests).await;

    gateway
        .rule(|asked| if asked.path.starts_with("/ipfs/bafybeidead") { Toxic::Hang(HANGS_SECS) } else { Toxic::Pass });
    let mut dead = Vec::new();
    for letter in ["a", "b", "c", "d"] {
        let cid = format!("bafybeidead{}", letter.repeat(48));
        dead.push(scenario.challenge_with(&cid).await);
        gateway.has_hit(dead.len()).await;
    }
    let challenge = scenario.challenge(&[requests[0].id, requests[1].id]).await;
    scenario.net.wait_response(&challenge, PROOF_TIMEOUT).await.unwrap();
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    // The gateway gave none of the other documents: those challenges end because the validator has made a newer one.
    gateway.heal();
    for challenge in &dead {
        let row = scenario.challenge_row(challenge, |row| row.state == "failed").await;
        assert!(row.reason.as_ref().unwrap().contains("a newer challenge took its place"), "{row:?}");
    }
    scenario.check().await;
    daemon.stop().await;
}

/// Pulse is asked at the start: the daemon comes up when Pulse does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pulse_in_trouble_holds_up_the_start_and_nothing_else() {
    let mut scenario = Scenario::new().await;
    let proxy = ToxicProxy::start(scenario.net.devnet.services.url()).await;
    let all = [TROUBLE, NO_JSON].concat();
    proxy.course(&all, |_| true);
    let daemon = scenario.run().env("NOVA_PULSE_HOST", proxy.url()).start();
    scenario.ask(1).await;
    wait_until("a daemon that says why it waits", DEFAULT_TIMEOUT, async || match daemon.readyz().await {
        Some((503, body)) if body["parts"]["rpc"].as_str().unwrap_or_default().contains("Pulse") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    proxy.has_hit(all.len()).await;
    let daemon = daemon.ready().await;
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    daemon.stop().await;
}

/// The ledger says who we are: whatever has become of Pulse, the modeler is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_pulse_that_forgets_or_is_gone_stops_no_restart() {
    let mut scenario = Scenario::new().await;
    let proxy = ToxicProxy::start(scenario.net.devnet.services.url()).await;
    let run = scenario.run().env("NOVA_PULSE_HOST", proxy.url());
    let daemon = run.clone().start().ready().await;
    scenario.ask(1).await;
    daemon.stop().await;
    const TYPE: &str = "content-type: application/json";
    for forgotten in [
        Toxic::Respond(404, TYPE, "{}"),
        Toxic::Respond(200, TYPE, "[]"),
        Toxic::Respond(200, TYPE, r#"{"message": "No data found"}"#),
    ] {
        proxy.rule(move |_| forgotten);
        let daemon = run.clone().start().ready().await;
        scenario.ask(1).await;
        daemon.stop().await;
    }
    proxy.refuse().await;
    let daemon = run.start().ready().await;
    scenario.ask(1).await;
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    daemon.stop().await;
}
