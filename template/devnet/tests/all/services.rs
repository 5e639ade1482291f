//! Plumber, Pulse and the gateway over HTTP, well and ill.

use ethers::types::Address;
use nova_devnet::{Fault, fault::CORRUPTED_FEATURE, features::NAMES, rpc::http_client, services::Services};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};

const KEY: &str = "123456";

async fn services() -> Services {
    Services::start(0, KEY).await.unwrap()
}

fn wallet(number: u64) -> Address {
    Address::from_low_u64_be(number)
}

fn get_features(services: &Services, wallet: Address) -> RequestBuilder {
    let url = format!("{}/api/v1/{wallet:?}/features", services.url());
    http_client().unwrap().get(url).bearer_auth(KEY)
}

fn post_batch(services: &Services, wallets: &[Address]) -> RequestBuilder {
    let wallets: Vec<_> = wallets.iter().map(|wallet| format!("{wallet:?}")).collect();
    let url = format!("{}/api/v1/features_batch", services.url());
    http_client().unwrap().post(url).bearer_auth(KEY).json(&json!({ "wallet_addresses": wallets }))
}

async fn json_of(request: RequestBuilder) -> Value {
    request.send().await.unwrap().json().await.unwrap()
}

async fn text_of(request: RequestBuilder) -> String {
    request.send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn one_wallet_has_all_features_as_numbers_and_its_address() {
    let services = services().await;
    let row = json_of(get_features(&services, wallet(1))).await;
    assert_eq!(row["wallet_address"], format!("{:?}", wallet(1)));
    assert!(NAMES.iter().all(|name| row[name].is_number()), "{row}");
    assert_eq!(row.as_object().unwrap().len(), NAMES.len() + 1);
}

#[tokio::test]
async fn a_batch_row_with_the_market_is_what_the_single_answer_is() {
    let services = services().await;
    services.set_fault(wallet(2), Some(Fault::Unknown));
    let batch = json_of(post_batch(&services, &[wallet(1), wallet(2), wallet(3)])).await;
    let rows = batch["wallets_addresses_features"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "the unknown wallet is left out");
    for (row, number) in rows.iter().zip([1, 3]) {
        let mut row = row.as_object().unwrap().clone();
        row.extend(batch["market_data"].as_object().unwrap().clone());
        let single = json_of(get_features(&services, wallet(number))).await;
        assert_eq!(single, Value::Object(row));
    }
}

#[tokio::test]
async fn without_the_key_plumber_says_no() {
    let services = services().await;
    let url = format!("{}/api/v1/{:?}/features", services.url(), wallet(1));
    let bare = http_client().unwrap().get(&url);
    let wrong = http_client().unwrap().get(&url).bearer_auth("654321");
    for request in [bare, wrong] {
        let status = request.send().await.unwrap().status();
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn each_fault_is_what_its_name_says_until_it_is_taken_away() {
    let services = services().await;
    let wallet = wallet(1);
    let well = json_of(get_features(&services, wallet)).await;
    let with = |fault| {
        services.set_fault(wallet, Some(fault));
        get_features(&services, wallet)
    };
    let status = with(Fault::Unknown).send().await.unwrap().status();
    assert_eq!(status, StatusCode::NOT_FOUND);
    let status = with(Fault::Error).send().await.unwrap().status();
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text_of(with(Fault::Html)).await.starts_with("<!DOCTYPE html>"));
    let half = text_of(with(Fault::HalfJson)).await;
    assert!(half.starts_with('{') && serde_json::from_str::<Value>(&half).is_err());
    assert!(text_of(with(Fault::Nan)).await.contains(&format!("\"{CORRUPTED_FEATURE}\":NaN")));
    assert!(json_of(with(Fault::String)).await[CORRUPTED_FEATURE].is_string());
    assert!(json_of(with(Fault::Missing)).await.get(CORRUPTED_FEATURE).is_none());
    assert_eq!(json_of(with(Fault::Extra)).await.as_object().unwrap().len(), NAMES.len() + 5);
    let far = json_of(with(Fault::OutOfRange)).await;
    assert_eq!(far[CORRUPTED_FEATURE].as_f64(), well[CORRUPTED_FEATURE].as_f64().map(|value| value * 1000.0));

    services.set_fault(wallet, None);
    assert_eq!(json_of(get_features(&services, wallet)).await, well);
}

#[tokio::test]
async fn pulse_names_the_multisig_of_a_wallet_that_has_one() {
    let services = services().await;
    services.set_multisig(wallet(1), Some(wallet(9)));
    let ask = |wallet: Address| http_client().unwrap().get(format!("{}/getMultiSigAddress/{wallet:?}", services.url()));
    assert_eq!(json_of(ask(wallet(1))).await[0]["contract_address"], format!("{:?}", wallet(9)));
    assert_eq!(json_of(ask(wallet(2))).await, json!({ "message": "No data found" }));
}

#[tokio::test]
async fn an_upload_is_found_under_its_cid() {
    let services = services().await;
    let proof = vec![7u8; 3 << 20];
    let upload = http_client().unwrap().post(format!("{}/api/v1/ipfs", services.url()));
    let cid = text_of(upload.bearer_auth(KEY).body(proof.clone())).await;
    let found = http_client().unwrap().get(format!("{}/ipfs/{cid}", services.url()));
    assert_eq!(found.send().await.unwrap().bytes().await.unwrap(), proof);
    assert_eq!(services.file(&cid).unwrap(), proof);
    let missing = http_client().unwrap().get(format!("{}/ipfs/bafkreinothere", services.url()));
    assert_eq!(missing.send().await.unwrap().status(), StatusCode::NOT_FOUND);
}
