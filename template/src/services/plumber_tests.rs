//! Against a real HTTP server on loopback, with every answer that Plumber should not give.

use polars::df;

use super::super::test_server::{Reply, Server};
use super::*;
use crate::features::frame;

const KEY: &str = "spectral-secret";
const A: &str = "0x00000000219ab540356cbb839cbe05303d7705fa";
const B: &str = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";
const CID: &str = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG";

fn plumber(server: &Server, timeout: Duration) -> Plumber {
    let service = HttpService::new("Plumber", &server.url(), timeout)
        .with_key(SecretString::from(KEY))
        .with_first_wait(Duration::from_millis(1));
    Plumber(service)
}

async fn answering(replies: Vec<Reply>) -> (Server, Plumber) {
    let server = Server::answering(replies).await;
    let plumber = plumber(&server, TIMEOUT);
    (server, plumber)
}

/// What features end with when every try is answered so, and how many tries there were.
async fn refused(reply: Reply) -> (Fault, usize) {
    let (server, plumber) = answering(vec![reply]).await;
    let fault = plumber.features(A).await.unwrap_err();
    let shown = format!("{fault:?} {fault}");
    assert!(!shown.contains(KEY), "{shown}");
    (fault, server.requests().len())
}

#[tokio::test]
async fn one_wallets_features_are_asked_for_with_the_key() {
    let body = format!(r#"{{"wallet_address": "{A}", "wallet_age": 5, "risk": 0.5}}"#);
    let (server, plumber) = answering(vec![Reply::ok(body)]).await;
    let features = plumber.features(A).await.unwrap();
    let names: Vec<_> = features.keys().collect();
    assert_eq!(names, ["wallet_address", "wallet_age", "risk"]);
    let asked = &server.requests()[0];
    assert_eq!(asked.path, format!("/api/v1/{A}/features"));
    assert_eq!(asked.authorization, format!("Bearer {KEY}"));
}

#[tokio::test]
async fn an_unknown_wallet_may_be_known_later() {
    let (fault, tries) = refused(Reply::status(404)).await;
    assert!(matches!(fault, Fault::Transient(_)) && fault.error().is::<Absence>(), "{fault}");
    assert_eq!(fault.to_string(), format!("Plumber has no features of wallet {A}"));
    assert_eq!(tries, 1, "its row comes back later");
}

/// Case 10 of the public reports: status 200, and an error, a promise or nothing in the body.
#[tokio::test]
async fn regression_an_answer_without_features_is_not_yet_one() {
    for body in [
        r#"{"error": "wallet is not indexed yet, try again in a minute"}"#.to_owned(),
        r#"{"detail": "features are being computed"}"#.to_owned(),
        format!(r#"{{"wallet_address": "{A}", "status": "pending"}}"#),
        format!(r#"{{"wallet_address": "{A}", "wallet_age": null, "risk": null}}"#),
        format!(r#"{{"wallet_address": "{A}", "wallet_age": NaN}}"#),
        format!(r#"{{"wallet_address": "{A}"}}"#),
        "{}".to_owned(),
    ] {
        let (fault, tries) = refused(Reply::ok(body.clone())).await;
        assert!(matches!(fault, Fault::Transient(_)) && fault.error().is::<Absence>(), "{body}: {fault}");
        assert_eq!(tries, 1, "{body}");
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_then_left_to_the_row() {
    for (reply, reason) in [
        (Reply::status(500), "500 Internal Server Error"),
        (Reply::status(503), "503"),
        (Reply::status(429), "429 Too Many Requests"),
        (Reply::ok("<html>maintenance</html>"), "<html>maintenance"),
        (Reply::ok(r#"{"wallet_age": 5, "ri"#), "EOF while parsing"),
        (Reply::ok("[]"), "expected a JSON object of features"),
        (Reply::ok(""), "EOF while parsing"),
        (Reply::ok(format!(r#"{{"wallet_address": "{B}"}}"#)), "these are the features of wallet"),
    ] {
        let (fault, tries) = refused(reply).await;
        assert!(matches!(fault, Fault::Transient(_)), "{fault}");
        let text = fault.to_string();
        assert!(text.contains("Plumber (http://127.0.0.1:") && text.contains(reason), "{text}");
        assert_eq!(tries, 4, "{text}");
    }
}

#[tokio::test]
async fn a_passing_trouble_is_not_noticed() {
    let (server, plumber) = answering(vec![
        Reply::status(502),
        Reply::ok("{"),
        Reply::status(429).header("retry-after", "0"),
        Reply::ok(r#"{"a": 1}"#),
    ])
    .await;
    assert_eq!(plumber.features(A).await.unwrap()["a"], 1);
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let (_server, waiting) =
        answering(vec![Reply::status(503).header("retry-after", "1"), Reply::ok(r#"{"a": 1}"#)]).await;
    let start = std::time::Instant::now();
    waiting.features(A).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));

    // Longer than a call should take: the row comes back later.
    let (fault, tries) = refused(Reply::status(429).header("retry-after", "3600")).await;
    assert!(matches!(fault, Fault::Transient(_)), "{fault}");
    assert_eq!(tries, 1);
}

#[tokio::test]
async fn a_refused_key_is_said_and_not_shown() {
    for status in [401, 403] {
        let (fault, tries) = refused(Reply::status(status).body(format!("bad token {KEY}"))).await;
        assert!(matches!(fault, Fault::Transient(_)), "{fault}");
        let text = fault.to_string();
        assert!(text.contains("the key was refused") && text.contains("bad token [key]"), "{text}");
        assert_eq!(tries, 1);
    }
}

/// An error that came as features, or in place of them, is told: without the key that it echoes.
#[tokio::test]
async fn a_key_that_is_echoed_in_a_body_reaches_no_error() {
    for body in [format!(r#"{{"error": "bad token {KEY}"}}"#), format!(r#"{{"error": "bad token {KEY}", "code": 17}}"#)]
    {
        let (_server, plumber) = answering(vec![Reply::ok(body)]).await;
        let told = match plumber.features(A).await {
            Err(fault) => fault.to_string(),
            Ok(features) => format!("{features:?} {:?}", frame(&features)),
        };
        assert!(told.contains("bad token [key]") && !told.contains(KEY), "{told}");
    }
}

/// A deploy, an ingress without a backend, a validator of inputs that is too strict for a day.
#[tokio::test]
async fn regression_a_refusal_of_plumber_may_pass() {
    for status in [400, 402, 405, 409, 410, 422] {
        let (server, plumber) = answering(vec![Reply::status(status).body("no such chain")]).await;
        for _ in 0..5 {
            let fault = plumber.features(A).await.unwrap_err();
            assert!(matches!(fault, Fault::Transient(_)) && fault.error().is::<Absence>(), "{fault}");
            assert!(
                fault.to_string().contains("no such chain") && fault.to_string().contains(&status.to_string()),
                "{fault}"
            );
        }
        assert_eq!(server.requests().len(), 5, "once each: its row comes back later");
        assert_eq!(plumber.failure_reason(), None, "a no is an answer");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let (fault, tries) = refused(Reply::ok(" ".repeat(MAX_FEATURES + 1))).await;
    assert!(matches!(fault, Fault::Transient(_)), "Plumber may be well again before the deadline: {fault}");
    assert_eq!(tries, 1, "not read again at once");
    assert!(fault.to_string().contains("longer than"), "{fault}");
}

#[tokio::test]
async fn no_answer_in_time_is_said_so() {
    let server = Server::answering(vec![Reply::hanging()]).await;
    let plumber = plumber(&server, Duration::from_millis(50));
    let fault = plumber.features(A).await.unwrap_err();
    assert!(matches!(fault, Fault::Transient(_)), "{fault}");
    assert!(fault.to_string().contains("no answer in time"), "{fault}");
}

#[tokio::test]
async fn a_host_that_is_away_is_tried_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let service = HttpService::new("Plumber", &host, TIMEOUT).with_first_wait(Duration::from_millis(1));
    let fault = Plumber(service).features(A).await.unwrap_err();
    assert!(matches!(fault, Fault::Transient(_)), "{fault}");
    assert!(fault.to_string().contains(&host), "{fault}");
}

#[tokio::test]
async fn a_gap_is_null_and_a_string_stays_one() {
    let gap = df!("ok" => [1.0], "risk" => [None::<f64>]).unwrap();
    for (body, expected) in [
        (r#"{"ok": 1, "risk": NaN}"#, &gap),
        (r#"{"ok": 1, "risk": null}"#, &gap),
        (r#"{"ok": 1, "risk": "0.5"}"#, &df!("ok" => [1.0], "risk" => ["0.5"]).unwrap()),
        (r#"{"ok": 1, "risk": -Infinity}"#, &df!("ok" => [1.0]).unwrap()),
    ] {
        let (_server, plumber) = answering(vec![Reply::ok(body)]).await;
        let row = frame(&plumber.features(A).await.unwrap());
        assert!(row.frame().equals_missing(expected), "{body}: {row:?}");
    }
}

#[tokio::test]
async fn a_batch_merges_the_market_and_each_wallet_stands_alone() {
    let checksummed = "0x00000000219ab540356cBB839Cbe05303d7705Fa";
    let body = format!(
        r#"{{"market_data": {{"market_adx": 1, "risk": 9}},
            "wallets_addresses_features": [{{"wallet_address": "{checksummed}", "risk": NaN, "age": 2}},
                {{"wallet_address": "{B}", "status": "pending"}}]}}"#
    );
    let (server, plumber) = answering(vec![Reply::ok(body)]).await;
    let mut found = plumber.features_batch(&[A, B].map(str::to_string)).await.unwrap();
    let features = found.remove(A).unwrap();
    let expected = json!({"wallet_address": checksummed, "risk": "NaN", "age": 2, "market_adx": 1});
    assert_eq!(Value::Object(features), expected);
    assert!(found.is_empty(), "the market's features alone are none of a wallet");
    assert!(matches!(plumber.features_batch(&["nonsense".to_owned()]).await, Err(Fault::Permanent(_))));

    let asked = &server.requests()[0];
    assert_eq!(asked.path, "/api/v1/features_batch");
    let mut body: Value = serde_json::from_slice(&asked.body).unwrap();
    let sent = body["wallet_addresses"].as_array_mut().unwrap();
    sent.sort_by_key(Value::to_string);
    assert_eq!(sent, &[json!(A), json!(B)]);
}

#[tokio::test]
async fn a_batch_that_is_none_is_tried_again() {
    for body in ["{}", r#"{"market_data": {}, "wallets_addresses_features": [{}]}"#] {
        let (_server, plumber) = answering(vec![Reply::ok(body)]).await;
        let fault = plumber.features_batch(&[A.to_string()]).await.unwrap_err();
        assert!(matches!(fault, Fault::Transient(_)), "{fault}");
    }
    let (server, plumber) = answering(vec![]).await;
    assert!(plumber.features_batch(&[]).await.unwrap().is_empty());
    assert!(server.requests().is_empty());
}

/// A feature that nothing uses spoils no batch, and does not fill the memory.
#[test]
fn a_long_value_of_the_market_is_not_copied_to_every_wallet() {
    let asked = HashSet::from([A.to_owned()]);
    for value in [json!(vec![1; 1000]), json!({"a": "b".repeat(1000)}), json!("1".repeat(1000))] {
        let rows = json!([{"wallet_address": A, "age": 1}]);
        let answer = json!({"market_data": {"adx": value, "dx": 2}, "wallets_addresses_features": rows}).to_string();
        let row = rows_of(&asked, answer.as_bytes()).unwrap().remove(A).unwrap();
        assert!(row["adx"].to_string().len() < 200 && row["dx"] == 2, "{row:?}");
    }
}

#[tokio::test]
async fn more_wallets_than_a_batch_holds_are_asked_for_in_several() {
    let body = r#"{"market_data": {}, "wallets_addresses_features": []}"#;
    let (server, plumber) = answering(vec![Reply::ok(body)]).await;
    let wallets: Vec<_> = (0..BATCH + 1).map(|at| format!("0x{at:040x}")).collect();
    assert!(plumber.features_batch(&wallets).await.unwrap().is_empty());
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn an_upload_gives_a_cid() {
    for body in [CID.to_string(), format!("\"{CID}\"\n")] {
        let (server, plumber) = answering(vec![Reply::status(500), Reply::ok(body)]).await;
        assert_eq!(plumber.upload(b"proof".to_vec()).await.unwrap(), CID);
        assert!(server.requests().iter().all(|asked| asked.body == b"proof"));
    }
    let (_server, plumber) = answering(vec![Reply::ok("<html>")]).await;
    let fault = plumber.upload(b"proof".to_vec()).await.unwrap_err();
    assert!(matches!(fault, Fault::Transient(_)), "{fault}");
    assert!(fault.to_string().contains("expected a CID"), "{fault}");
}

/// The service runs every call in a task.
#[test]
fn calls_can_be_spawned() {
    fn spawnable<T: Send>(_: T) {}
    let plumber = Plumber::new("http://127.0.0.1:9", SecretString::from(KEY));
    spawnable(plumber.features(A));
    spawnable(plumber.features_batch(&[]));
    spawnable(plumber.upload(Vec::new()));
    spawnable(super::super::pulse::Pulse::new("http://127.0.0.1:9").multisig(A));
    spawnable(super::super::ipfs_gateway::IpfsGateway::new("http://127.0.0.1:9").fetch(CID));
}
