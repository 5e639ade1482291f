//! From a request on chain to an answer on chain, and from a proof request to a proof that others accept.

use std::collections::HashMap;
use std::fs;
use std::io::{Cursor, Read as _};

use ethers::types::{H256, U256};
use nova_devnet::request::{Answer, Request};
use nova_devnet::{CompetitionParams, InferenceEncoding, features};
use serde_json::{Value, json};

use crate::common::net::Net;
use crate::common::project::Project;
use crate::common::{PROOF_TIMEOUT, assert_contains_all, python};

/// The documented contract (`uint256` answers, requests read back flat), through a MultiSig; proofs by every way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_through_a_multisig_are_the_circuits_and_all_ways_to_a_proof_work() {
    let (project, net) = (Project::new(), Net::with_verifier(CompetitionParams::default()).await);
    let daemon = project.nova(&["run"]).envs(net.env()).start().ready().await;
    let requests = ask_in_every_form(&net).await;
    let values = check_answers(&project, &net, &requests).await;
    let [first, second, third] = [0, 1, 2].map(|at: usize| requests[at].id);

    // One request: the response is its proof. Several: a ZIP of them.
    let challenge = net.challenge(&[first]).await.unwrap();
    let response = net.wait_response(&challenge, PROOF_TIMEOUT).await.unwrap();
    let proof = net.download(&response.cid).await.unwrap();
    assert_eq!(check_proof(&project, &proof), values[&first]);
    project.challenge_in(challenge.transaction, "final").await;

    let challenge = net.challenge(&[second, first]).await.unwrap();
    let response = net.wait_response(&challenge, PROOF_TIMEOUT).await.unwrap();
    let proofs = unpack(&net.download(&response.cid).await.unwrap());
    assert_eq!(proofs.len(), 2, "{:?}", proofs.keys());
    for id in [first, second] {
        assert_eq!(check_proof(&project, &proofs[&format!("{id:?}.json")]), values[&id]);
    }
    assert_eq!(proofs[&format!("{first:?}.json")], proof, "a proof is computed once");

    let asked = net.request_proof(second).await.unwrap();
    let proven = net.wait_proof(second, PROOF_TIMEOUT).await.unwrap();
    assert_eq!(proven.value, values[&second]);
    project.challenge_in(asked.transaction, "final").await;

    // By hand, beside the running daemon.
    prove_and_verify_by_hand(&project, third, values[&third]).await;
    daemon.stop().await;
}

/// The newer interface (`string` answers, requests read back as a struct), straight from the wallet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_straight_from_the_wallet_and_as_strings_can_be_proven_too() {
    let terms =
        CompetitionParams { encoding: InferenceEncoding::String, multisig: false, ..CompetitionParams::default() };
    let (project, net) = (Project::new(), Net::with_verifier(terms).await);
    let run = project.nova(&["run"]).envs(net.env());
    let daemon = run.clone().start().ready().await;
    let requests = ask_in_every_form(&net).await;
    let values = check_answers(&project, &net, &requests).await;

    let id = requests[1].id;
    net.request_proof(id).await.unwrap();
    assert_eq!(net.wait_proof(id, PROOF_TIMEOUT).await.unwrap().value, values[&id]);
    let challenge = net.challenge(&[id]).await.unwrap();
    let response = net.wait_response(&challenge, PROOF_TIMEOUT).await.unwrap();
    let proof = net.download(&response.cid).await.unwrap();
    assert_eq!(check_proof(&project, &proof), values[&id]);
    daemon.stop().await;

    // Features that come with the request, and a limit to what others may have proven.
    let run = run.env("NOVA_FEATURE_SOURCE", "inline").env("NOVA_MAX_PROOFS_PER_DAY", "1");
    let _daemon = run.start().ready().await;
    let inline = net.request(&features_of(&requests[0])).await.unwrap();
    assert_eq!(net.answered_once(&[inline]).await.into_values().next().unwrap().value, values[&requests[0].id]);
    let challenge = net.challenge(&[requests[0].id]).await.unwrap();
    let row = project.challenge_row(challenge.transaction, "says why it waits", |row| row.reason.is_some()).await;
    assert_eq!(row.state, "asked");
    assert_contains_all(&row.reason.unwrap(), &["1 proofs were made", "NOVA_MAX_PROOFS_PER_DAY allows 1"]);
}

/// What Plumber serves for the wallet of a request, as a request of its own.
fn features_of(request: &Request) -> String {
    let mut values = features::wallet(request.input.parse().unwrap());
    values.extend(features::market(H256::zero()));
    Value::from(values).to_string()
}

/// Three requests: two that name a wallet as an address, one that does so in JSON.
async fn ask_in_every_form(net: &Net) -> Vec<Request> {
    let wallets = net.fresh_wallets(3).await.unwrap();
    let inputs = [
        format!("{:?}", wallets[0]),
        json!({ "wallet_address": wallets[1] }).to_string(),
        format!("{:?}", wallets[2]).to_uppercase().replace("0X", "0x"),
    ];
    net.requests(&inputs).await.unwrap()
}

/// What is on chain is the circuit's output, and candle's within what the settings allow. Returns it by request.
async fn check_answers(project: &Project, net: &Net, requests: &[Request]) -> HashMap<H256, f64> {
    let answers = net.answered_once(requests).await;
    let settings: Value = serde_json::from_slice(&fs::read(project.model_file("settings.json")).unwrap()).unwrap();
    let step = (-settings["model_output_scales"][0].as_f64().unwrap()).exp2();
    for request in requests {
        let row = project.request_in(request.id, "final").await;
        let (answer, circuit, model) = (&answers[&request.id], row.circuit_value.unwrap(), row.model_value.unwrap());
        assert_eq!(row.submitted_value, Some(circuit));
        assert_eq!(row.transaction, Some(format!("{:?}", answer.transaction)));
        assert_eq!(answer.value, circuit);
        assert_eq!(answer.inference, on_chain(net, answer));
        let in_time = net.consumption().answered_in_time(answer.modeler, request.id.0).call().await.unwrap();
        assert!(in_time, "the chain does not count it as in time: {answer:?}");
        assert!((circuit - model).abs() <= 2.0 * step + 0.01 * model.abs(), "circuit {circuit}, candle {model}");
        assert!((0.0..=1.0).contains(&circuit), "{circuit} is no probability");
    }
    let different: std::collections::HashSet<_> = answers.values().map(|answer| &answer.inference).collect();
    assert!(different.len() > 1, "every wallet has the same answer: {different:?}");
    answers.into_iter().map(|(id, answer)| (id, answer.value)).collect()
}

/// The answer as the contract should hold it.
fn on_chain(net: &Net, answer: &Answer) -> String {
    match net.deployment.encoding {
        InferenceEncoding::String => answer.value.to_string(),
        InferenceEncoding::Uint256 => {
            // The circuit's outputs are whole multiples of a power of two: this product is exact.
            let steps = (answer.value * f64::from(1u32 << 20)) as u128;
            (U256::exp10(18) * U256::from(steps) / U256::from(1u64 << 20)).to_string()
        }
    }
}

/// EZKL's own Python package accepts the proof. Returns the output that it shows.
fn check_proof(project: &Project, proof: &[u8]) -> f64 {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), proof).unwrap();
    python::verify(file.path(), &project.model_files()).unwrap()
}

fn unpack(zip: &[u8]) -> HashMap<String, Vec<u8>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(zip)).unwrap();
    (0..archive.len())
        .map(|at| {
            let mut entry = archive.by_index(at).unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.name().unwrap().into_owned(), bytes)
        })
        .collect()
}

async fn prove_and_verify_by_hand(project: &Project, id: H256, value: f64) {
    let id_text = format!("{id:?}");
    let said = project.nova(&["prove", &id_text, "--output", "third.json"]).succeed().await;
    assert!(said.contains("proved in") && said.contains(&value.to_string()), "{said}");
    let proof = fs::read(project.path().join("third.json")).unwrap();
    assert_eq!(check_proof(project, &proof), value);
    let said = project.nova(&["prove", &id_text]).succeed().await;
    assert!(said.contains("made before"), "{said}");
    let said = project.nova(&["verify", "third.json"]).succeed().await;
    assert!(said.contains("third.json is valid"), "{said}");

    for (what, tampered) in tampered(&proof) {
        fs::write(project.path().join("tampered.json"), tampered).unwrap();
        println!("a proof with {what}");
        project.nova(&["verify", "tampered.json"]).fail(&["tampered.json is no valid proof", "model_vk.vk"]).await;
        python::verify(&project.path().join("tampered.json"), &project.model_files()).unwrap_err();
    }
    project.nova(&["verify", "absent.json"]).fail(&["absent.json is not there"]).await;
    let unknown = format!("0x{}", "5".repeat(64));
    project.nova(&["prove", &unknown]).fail(&["no witness of request", &unknown]).await;
    project.nova(&["prove", "0x55"]).fail(&["\"0x55\" is no request id", "64 hex digits"]).await;
}

/// The proof with another output, with another proof, and not even JSON.
fn tampered(proof: &[u8]) -> [(&'static str, Vec<u8>); 3] {
    let parsed: Value = serde_json::from_slice(proof).unwrap();
    let mut output = parsed.clone();
    let shown = output["instances"][0].as_array_mut().unwrap().last_mut().unwrap();
    *shown = json!(format!("01{}", "0".repeat(62)));
    let mut bytes = parsed;
    let byte = &mut bytes["proof"].as_array_mut().unwrap()[40];
    *byte = json!(byte.as_u64().unwrap() ^ 1);
    [
        ("another output", output.to_string().into_bytes()),
        ("another byte", bytes.to_string().into_bytes()),
        ("half of its text", proof[..proof.len() / 2].to_vec()),
    ]
}
