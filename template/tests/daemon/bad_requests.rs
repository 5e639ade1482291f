//! Requests that cannot be answered: each says why, nothing is sent for it, and those beside it are answered.

use std::fs;

use ethers::types::{Address, H256};
use nova::context::{Context, ContextFiles};
use nova_devnet::{Fault, features};
use serde_json::json;

use crate::common::net::Net;
use crate::common::project::Project;
use crate::common::{assert_says, python};

const SLA: u64 = 600;

/// Inputs that name no wallet.
const NO_WALLETS: [&str; 4] =
    ["vitalik.eth", r#"{"wallet": "0x00000000219ab540356cBB839Cbe05303d7705Fa"}"#, "", "\u{1b}[2J0x12"];

/// Faults that will not pass, and what the reason says of them. `{wallet}` is the wallet's address.
const FINAL: [(Fault, &[&str]); 5] = [
    (Fault::Unknown, &["Plumber has no features of wallet {wallet}"]),
    (Fault::Nan, &[r#"feature "total_balance_eth" is "NaN", expected a number"#]),
    (Fault::String, &[r#"feature "total_balance_eth" is "a lot", expected a number"#]),
    (Fault::Missing, &["features are missing that preprocessing.json names", "total_balance_eth"]),
    (Fault::OutOfRange, &["this answer could not be proven, so it is not given", "lookup inputs", "EZKL: "]),
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
    let wallets = net.fresh_wallets(3 + 5 + 3).await.unwrap();
    let (good, rest) = wallets.split_at(3);
    let (of_final, of_passing) = rest.split_at(FINAL.len());
    let spoil = |wallet: &Address, fault| net.devnet.services.set_fault(*wallet, Some(fault));
    good[1..].iter().for_each(|wallet| spoil(wallet, Fault::Extra));
    of_final.iter().zip(FINAL).for_each(|(wallet, (fault, _))| spoil(wallet, fault));
    of_passing.iter().zip(PASSING).for_each(|(wallet, (fault, _))| spoil(wallet, fault));

    let inputs: Vec<_> = NO_WALLETS.iter().map(ToString::to_string).collect();
    let no_wallets = net.requests(&inputs).await.unwrap();
    let requests = net.ask_about(&wallets).await;
    let daemon = project.nova(&["run"]).envs(net.env()).start().ready().await;
    let (good, rest) = requests.split_at(good.len());
    let (of_final, of_passing) = rest.split_at(FINAL.len());
    net.answered_once(good).await;

    for request in &no_wallets {
        let row = project.request_in(request.id, "failed").await;
        assert_says(&row.reason.unwrap(), &["is no wallet: expected a wallet address"]);
    }
    for (request, (fault, says)) in of_final.iter().zip(FINAL) {
        let row = project.request_in(request.id, "failed").await;
        assert_reason(&request.input, fault, &row.reason.unwrap(), says);
        assert!(!project.saved(request.id, "manifest.json").exists(), "nothing is promised");
    }
    for (request, (fault, says)) in of_passing.iter().zip(PASSING) {
        let row = project.request_row(request.id, "tried again", |row| row.reason.is_some()).await;
        assert_eq!(row.state, "seen");
        assert_reason(&request.input, fault, &row.reason.unwrap(), says);
    }
    assert_eq!(daemon.log().matches("favourite_token_count").count(), 1, "a feature too many is named once");
    assert!(!daemon.log().contains('\u{1b}'), "what a consumer wrote does not reach the terminal");
    assert_eq!(net.sent().await, good.len() as u64);

    let out_of_range = wallets[good.len() + 4];
    let input = project.path().join("out_of_range.json");
    fs::write(&input, json!({ "input_data": model_input(&project, out_of_range) }).to_string()).unwrap();
    let refusal = python::mock(&input, &project.model_files()).unwrap_err();
    assert_says(&refusal, &["Lookup", "is not satisfied"]);

    retry_works_once_the_reason_is_mended(&project, &net, &of_final[3], good[0].id).await;

    net.pass(SLA).await;
    for (request, (fault, says)) in of_passing.iter().zip(PASSING) {
        let row = project.request_in(request.id, "expired").await;
        assert_reason(&request.input, fault, &row.reason.unwrap(), says);
    }
    daemon.stop().await;
    for request in no_wallets.iter().chain(of_passing).chain(&of_final[..3]).chain(&of_final[4..]) {
        net.assert_answers(request, 0).await;
    }
    assert_eq!(net.sent().await, good.len() as u64 + 1);
}

fn assert_reason(wallet: &str, fault: Fault, reason: &str, says: &[&str]) {
    println!("{fault}: {reason}");
    let says: Vec<String> = says.iter().map(|part| part.replace("{wallet}", wallet)).collect();
    assert_says(reason, &says.iter().map(String::as_str).collect::<Vec<_>>());
}

async fn retry_works_once_the_reason_is_mended(
    project: &Project,
    net: &Net,
    failed: &nova_devnet::request::Request,
    answered: H256,
) {
    net.devnet.services.set_fault(failed.input.parse().unwrap(), None);
    let said = project.nova(&["retry", &format!("{:?}", failed.id)]).succeed().await;
    assert_says(&said, &[&format!("{:?} is tried again", failed.id)]);
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
    Fault::OutOfRange.spoil(&mut values);
    values.extend(features::market(H256::zero()));
    let context = Context::new(ContextFiles::new(project.model_files()), "", "");
    let frame = nova::hooks::pre_process(&context, nova::features::frame(&values).unwrap()).unwrap();
    let model = nova::model::Model::load(&project.model_file("model.onnx")).unwrap();
    model.tensors(&frame).unwrap().flat()
}
