//! Services that mean it ill, or that somebody has taken over: whatever they answer costs a bounded amount of time and
//! memory, and is told without harm.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::Value;

use super::ipfs_gateway::IpfsGateway;
use super::plumber::Plumber;
use super::pulse::Pulse;
use super::python_json;
use super::test_server::{Reply, Server};
use crate::fault::Fault;

const A: &str = "0x00000000219ab540356cbb839cbe05303d7705fa";
const B: &str = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";
const CID: &str = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG";

fn plumber(server: &Server) -> Plumber {
    Plumber::new(&server.url(), SecretString::from("key"))
}

/// What features, a batch, an upload, a MultiSig and a document end with where every answer is this one.
async fn all_refuse(reply: Reply) -> Vec<Fault> {
    let server = Server::answering(vec![reply]).await;
    let plumber = plumber(&server);
    let (pulse, gateway) = (Pulse::new(&server.url()), IpfsGateway::new(&server.url()));
    let wallets = [A.to_owned(), B.to_owned()];
    let (features, batch, upload, multisig, document) = tokio::join!(
        plumber.features(A),
        plumber.features_batch(&wallets),
        plumber.upload(b"proof".to_vec()),
        pulse.multisig(A),
        gateway.fetch(CID),
    );
    [features.err(), batch.err(), upload.err(), multisig.err(), document.err()].into_iter().flatten().collect()
}

/// What gzip makes of it.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, bytes) = (gzip.stdin.take().unwrap(), bytes.to_owned());
    let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let output = gzip.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

#[tokio::test]
async fn eight_megabytes_are_not_read_to_their_end_plain_or_packed() {
    let huge = vec![b' '; 8 << 20];
    let packed = Reply::ok(gzip(&huge)).header("content-encoding", "gzip");
    for reply in [Reply::ok(huge), packed] {
        let faults = all_refuse(reply).await;
        assert_eq!(faults.len(), 5);
        for fault in faults {
            assert!(fault.to_string().contains("longer than the"), "{fault}");
        }
    }
}

#[tokio::test]
async fn json_that_is_nested_without_end_is_refused_and_not_followed() {
    for bomb in ["[".repeat(500_000), r#"{"a":"#.repeat(150_000), format!("{}1{}", "[".repeat(200), "]".repeat(200))] {
        assert!(python_json::parse(bomb.as_bytes()).is_err());
        let error = serde_json::from_str::<Value>(&bomb).unwrap_err();
        assert!(error.to_string().contains("recursion limit"), "{error}");
    }
}

#[tokio::test]
async fn odd_json_has_one_meaning_or_none() {
    // The last of two names counts, here as in Python.
    assert_eq!(python_json::parse(br#"{"a": 1, "a": 2}"#).unwrap()["a"], 2);
    // A number beyond f64 is damage, one with many digits is the nearest.
    assert!(python_json::parse(br#"{"a": 1e999}"#).is_err());
    let digits = format!(r#"{{"a": 0.{}}}"#, "3".repeat(100_000));
    let nearest = python_json::parse(digits.as_bytes()).unwrap()["a"].as_f64().unwrap();
    assert!((nearest - 1.0 / 3.0).abs() <= f64::EPSILON, "{nearest}");
}

/// What holds for all wallets is held once for each of them: an answer must not multiply.
#[tokio::test]
async fn a_batch_does_not_multiply() {
    let market: String = (0..20_000).map(|at| format!(r#""m{at}": 1,"#)).collect();
    let row = |wallet: &str| format!(r#"{{"wallet_address": "{wallet}"}}"#);
    let strangers: Vec<_> = (0..5_000).map(|at| row(&format!("0x{at:040x}"))).collect();
    let body = |market: &str, rows: &str| {
        format!(r#"{{"market_data": {{{market}"m": 1}}, "wallets_addresses_features": [{rows}]}}"#)
    };
    let wallets = [A.to_owned(), B.to_owned()];

    let nobody_asked = Server::answering(vec![Reply::ok(body(&market, &strangers.join(",")))]).await;
    let found = plumber(&nobody_asked).features_batch(&wallets).await.unwrap();
    assert!(found.is_empty(), "strangers' rows are passed over");

    let too_many = Server::answering(vec![Reply::ok(body(&market, &row(A)))]).await;
    let fault = plumber(&too_many).features_batch(&wallets).await.unwrap_err();
    assert!(fault.to_string().contains("20002 features of a wallet are more than the 10000"), "{fault}");
}

#[tokio::test]
async fn no_redirect_leads_to_another_host_another_port_or_another_scheme() {
    let inside = Server::answering(vec![Reply::ok("what only this machine should see")]).await;
    for to in [&inside.url(), "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "gopher://127.0.0.1:1/"]
    {
        let faults = all_refuse(Reply::redirect(to)).await;
        assert_eq!(faults.len(), 5, "{to}");
    }
    assert!(inside.requests().is_empty());
}

#[tokio::test]
async fn what_they_say_is_told_on_one_line() {
    let hostile = "no\u{1b}[2J\nERROR all funds are lost\u{202e}";
    for reply in [Reply::ok(hostile), Reply::status(400).body(hostile), Reply::status(500).body(hostile)] {
        for fault in all_refuse(reply).await {
            let told = fault.to_string();
            assert!(told.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{told:?}");
        }
    }
}

#[tokio::test]
async fn one_that_drips_is_given_up() {
    let server = Server::answering(vec![Reply::dripping()]).await;
    let client = crate::http_client::client(Duration::from_millis(300));
    let asked = Instant::now();
    let read = async { client.get(server.url()).send().await?.bytes().await };
    assert!(read.await.unwrap_err().is_timeout());
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn nothing_but_a_wallet_and_a_cid_becomes_part_of_a_path() {
    let server = Server::answering(vec![Reply::ok("{}")]).await;
    let (plumber, pulse, gateway) = (plumber(&server), Pulse::new(&server.url()), IpfsGateway::new(&server.url()));
    for hostile in [
        "",
        "../admin",
        "..%2fadmin",
        "0x00000000219ab540356cbb839cbe05303d7705fa/../../admin",
        "0x00000000219ab540356cbb839cbe05303d7705f?",
        "0x00000000219ab540356cbb839cbe05303d7705f#",
        "@evil.example/",
        "//evil.example/",
        "http://169.254.169.254/",
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbd@",
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbd\n",
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdé",
    ] {
        assert!(matches!(plumber.features(hostile).await, Err(Fault::Permanent(_))), "{hostile}");
        assert!(matches!(pulse.multisig(hostile).await, Err(Fault::Permanent(_))), "{hostile}");
        assert!(matches!(gateway.fetch(hostile).await, Err(Fault::Permanent(_))), "{hostile}");
    }
    assert!(server.requests().is_empty(), "{:?}", server.requests());
}
