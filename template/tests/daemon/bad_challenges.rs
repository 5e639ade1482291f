//! Proof requests that cannot be served: each says why, nothing is sent for it, and the next one is served.

use std::fs;

use ethers::types::{Address, H256};
use nova_devnet::services::Services;
use serde_json::json;

use crate::common::net::Net;
use crate::common::project::Project;
use crate::common::{PROOF_TIMEOUT, assert_contains_all};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proof_requests_that_cannot_be_served_say_why_and_hold_up_no_other() {
    let (project, net) = (Project::new(), Net::start().await);
    let requests = net.ask(2).await;
    let daemon = project.nova(&["run"]).envs(net.env()).start().ready().await;
    net.answered_once(&requests).await;
    let [first, second] = [0, 1].map(|at: usize| requests[at].id);
    let before = net.sent().await;

    let to_another = net.challenge_with(Address::repeat_byte(7), &format!("{first:?}")).await.unwrap();
    let unknown = H256::repeat_byte(5);
    let no_document = net.upload(b"[]".to_vec()).await.unwrap();
    let no_ids = net.upload(json!({ "request_ids": ["../../x"] }).to_string().into_bytes()).await.unwrap();
    let unknown_ids = net.challenge_payload(&[first, unknown]).await.unwrap();
    let unknown = format!("{unknown:?}");
    let cases: [(&str, &[&str]); 6] = [
        (&unknown, &["request", &unknown, "is unknown here"]),
        ("please prove", &["\"please prove\" is no CID"]),
        ("../../api/v1/ipfs", &["\"../../api/v1/ipfs\" is no CID"]),
        (&no_document, &["the challenge document", &no_document, r#"is not {"request_ids""#]),
        (&no_ids, &["the challenge document", &no_ids, r#""../../x", which is no request id"#]),
        (&unknown_ids, &["request", &unknown, "is unknown here"]),
    ];
    for (payload, says) in cases {
        let challenge = net.challenge_with(net.deployment.modeler, payload).await.unwrap();
        let row = project.challenge_in(challenge.transaction, "failed").await;
        assert_contains_all(&row.reason.unwrap(), says);
    }
    let attempts = project.rows().await.unwrap().proof_attempts;
    let asked: Vec<_> = attempts.iter().filter(|attempt| attempt.purpose == "asked").collect();
    assert!(asked.is_empty(), "the document with an unknown request has cost a proof of another: {asked:?}");
    assert!(
        project.status().await.challenge(to_another.transaction).is_none(),
        "who else is asked is no matter of ours"
    );

    // A document that the gateway does not have yet may come.
    let document = json!({ "request_ids": [first] }).to_string();
    let cid = Services::start(0, "").await.unwrap().add_file(document.clone());
    let challenge = net.challenge_with(net.deployment.modeler, &cid).await.unwrap();
    let row = project.challenge_row(challenge.transaction, "tried again", |row| row.reason.is_some()).await;
    assert_eq!(row.state, "asked");
    assert_contains_all(&row.reason.unwrap(), &["has no document", &cid]);
    assert_eq!(net.sent().await, before, "nothing was sent so far");
    net.devnet.services.add_file(document);
    net.wait_response(&challenge, PROOF_TIMEOUT).await.unwrap();
    project.challenge_in(challenge.transaction, "final").await;

    a_corrupt_witness_is_never_proven(&project, &net, second).await;
    daemon.stop().await;
    assert_eq!(net.sent().await - before, 2, "the two responses");
}

async fn a_corrupt_witness_is_never_proven(project: &Project, net: &Net, id: H256) {
    let file = project.saved(id, "witness.json");
    let kept = fs::read_to_string(&file).unwrap();
    // Another value for one byte, in the same form.
    let output = kept.find("\"outputs\"").unwrap();
    let digit = output + kept[output..].find(|c: char| c.is_ascii_digit()).unwrap();
    let flipped = if &kept[digit..=digit] == "1" { "2" } else { "1" };
    fs::write(&file, format!("{}{flipped}{}", &kept[..digit], &kept[digit + 1..])).unwrap();

    let challenge = net.challenge(&[id]).await.unwrap();
    let row = project.challenge_in(challenge.transaction, "failed").await;
    assert_contains_all(&row.reason.unwrap(), &["the witness of request", &format!("{id:?}"), "is corrupt", "backup"]);
    project.nova(&["prove", &format!("{id:?}")]).fail(&["is corrupt", "backup"]).await;

    fs::write(&file, kept).unwrap();
    project.nova(&["retry", &format!("{:?}", challenge.transaction)]).succeed().await;
    net.wait_response(&challenge, PROOF_TIMEOUT).await.unwrap();
    project.challenge_in(challenge.transaction, "final").await;
}
