//! Requests that cannot be answered: each says why, nothing is sent for it, and those beside it are answered.

use std::fs;

use ethers::types::{Address, H256};
use nova::context::{Context, ContextFiles};
use nova_devnet::{Fault, features};
use serde_json::json;

use crate::common::net::Net;
use crate::common::project::Project;
use crate::common::{assert_contains_all, python};

const SLA: u64 = 600;

/// Inputs that name no wallet.
const NO_WALLETS: [&str; 4] =
    ["vitalik.eth", r#"{"wallet": "0x00000000219ab540356cBB839Cbe05303d7705Fa"}"#, "", "\u{1b}[2J0x12"];

/// A fault that will not pass, and what the reason says of it.
const FINAL: (Fault, &[&str]) = (
    Fault::OutOfRange,
    &["this answer could not be proven, so it is not given", "lookup inputs", "EZKL: ", "column \"", "reaches"],
);

/// What Plumber may have later, and what the reason says of it. `{wallet}` is the wallet's address.
const NOT_YET: [(Fault, &[&str]); 4] = [
    (Fault::Missing, &["features are missing that preprocessing.json names", "total_balance_eth"]),
    (Fault::Unknown, &["Plumber has no features of wallet {wallet}"]),
    (Fault::Nan, &[r#"feature "total_balance_eth" is "NaN", expected a number"#]),
    (Fault::String, &[r#"feature "total_balance_eth" is "a lot", expected a number"#]),
];

/// Faults that may pass.
const PASSING: [(Fault, &[&str]); 3] = [
    (Fault::Error, &["Plumber", "{wallet}", "500"]),
    (Fault::Html, &["Plumber", "{wallet}", "We will be back soon"]),
    (Fault::HalfJson, &["Plumber", "{wallet}", "cannot use the answer"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_cannot_be_answered_say_why_and_hold_up_no_other() {
    let (project, net) = (Project::new(), Net::start().await);
    let wallets = net.fresh_wallets(3 + 1 + 4 + 3).await.unwrap();
    let spoil = |wallet: &Address, fault| net.devnet.services.set_fault(*wallet, Some(fault));
    wallets[1..3].iter().for_each(|wallet| spoil(wallet, Fault::Extra));
    let out_of_range = wallets[3];
    spoil(&out_of_range, FINAL.0);
    let faults = NOT_YET.iter().chain(&PASSING);
    wallets[4..].iter().zip(faults.clone()).for_each(|(wallet, (fault, _))| spoil(wallet, *fault));

    let inputs: Vec<_> = NO_WALLETS.iter().map(ToString::to_string).collect();
    let no_wallets = net.requests(&inputs).await.unwrap();
    let requests = net.ask_about(&wallets).await;
    let daemon = project.nova(&["run"]).envs(net.env()).start().ready().await;
    let (good, rest) = requests.split_at(3);
    let (of_final, waiting) = rest.split_first().unwrap();
    let (not_yet, of_passing) = waiting.split_at(NOT_YET.len());
    net.answered_once(good).await;

    for request in &no_wallets {
        let row = project.request_in(request.id, "failed").await;
        assert_contains_all(&row.reason.unwrap(), &["is no wallet: expected a wallet address"]);
    }
    let row = project.request_in(of_final.id, "failed").await;
    assert_reason(&of_final.input, FINAL.0, &row.reason.unwrap(), FINAL.1);
    assert!(!project.saved(of_final.id, "manifest.json").exists(), "nothing is promised");
    for (request, (fault, says)) in waiting.iter().zip(faults) {
        let row = project.request_row(request.id, "tried again", |row| row.reason.is_some()).await;
        assert_eq!(row.state, "seen");
        assert_reason(&request.input, *fault, &row.reason.unwrap(), says);
    }
    let log = daemon.log();
    for extra in ["favourite_token_count", "ens_name", "new_score"] {
        assert!(log.matches(extra).count() <= 1, "{extra}: a feature too many is named at most once");
    }
    assert!(log.contains("favourite_token_count"));
    assert!(!log.contains('\u{1b}'), "what a consumer wrote does not reach the terminal");
    assert_eq!(net.sent().await, good.len() as u64);

    let input = project.path().join("out_of_range.json");
    fs::write(&input, json!({ "input_data": model_input(&project, out_of_range) }).to_string()).unwrap();
    let refusal = python::mock(&input, &project.model_files()).unwrap_err();
    assert_contains_all(&refusal, &["Lookup", "is not satisfied"]);

    // The features are there before the deadline.
    net.devnet.services.set_fault(not_yet[0].input.parse().unwrap(), None);
    net.answered_once(&not_yet[..1]).await;
    let not_yet = &not_yet[1..];

    retry_works_once_the_reason_is_mended(&project, &net, of_final, good[0].id).await;

    // There is no time left to do the rest: what is not there by now fails with its reason.
    net.pass(SLA - 60).await;
    for (request, (fault, says)) in not_yet.iter().zip(&NOT_YET[1..]) {
        let row = project.request_in(request.id, "failed").await;
        assert_reason(&request.input, *fault, &row.reason.unwrap(), says);
    }
    net.pass(SLA).await;
    for (request, (fault, says)) in of_passing.iter().zip(PASSING) {
        let row = project.request_in(request.id, "expired").await;
        assert_reason(&request.input, fault, &row.reason.unwrap(), says);
    }
    daemon.stop().await;
    for request in no_wallets.iter().chain(of_passing).chain(not_yet) {
        net.assert_answers(request, 0).await;
    }
    assert_eq!(net.sent().await, good.len() as u64 + 2);
}

fn assert_reason(wallet: &str, fault: Fault, reason: &str, says: &[&str]) {
    println!("{fault}: {reason}");
    let says: Vec<String> = says.iter().map(|part| part.replace("{wallet}", wallet)).collect();
    assert_contains_all(reason, &says.iter().map(String::as_str).collect::<Vec<_>>());
}

async fn retry_works_once_the_reason_is_mended(
    project: &Project,
    net: &Net,
    failed: &nova_devnet::request::Request,
    answered: H256,
) {
    net.devnet.services.set_fault(failed.input.parse().unwrap(), None);
    let said = project.nova(&["retry", &format!("{:?}", failed.id)]).succeed().await;
    assert_contains_all(&said, &[&format!("{:?} is tried again", failed.id)]);
    net.answered_once(std::slice::from_ref(failed)).await;
    for not_failed in [format!("{answered:?}"), format!("0x{}", "5".repeat(64))] {
        project
            .nova(&["retry", &not_failed])
            .fail(&["nothing that failed has the id", &not_failed, "nova status"])
            .await;
    }
}

/// The model's input for a wallet whose features are out of range, as the owner's own hook makes it.
fn model_input(project: &Project, wallet: Address) -> Vec<Vec<f64>> {
    let mut values = features::wallet(wallet);
    values.insert("wallet_address".to_owned(), json!(wallet));
    Fault::OutOfRange.corrupt(&mut values);
    values.extend(features::market(H256::zero()));
    let context = Context::new(ContextFiles::new(project.model_files()), "", "");
    let frame = nova::hooks::pre_process(&context, nova::features::frame(&values).frame().clone()).unwrap();
    let model = nova::model::Model::load(&project.model_file("model.onnx"), &[]).unwrap();
    model.tensors(&frame).unwrap().flat()
}
