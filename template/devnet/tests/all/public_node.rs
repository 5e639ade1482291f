//! A node that looks like a public one, and what works on it all the same.

use std::{fmt::Debug, time::Duration};

use crate::common::error_of;
use ethers::{
    signers::{LocalWallet, Signer as _},
    types::{BlockNumber, Filter, TransactionRequest, U64, U256, transaction::eip2718::TypedTransaction},
};
use nova_devnet::{
    CompetitionParams, Network,
    anvil::{Anvil, AnvilOptions},
    contracts::Consumption,
    deploy,
    keys::{Accounts, anvil_account},
    public_node::{Manners, PublicNode},
    request::nth_wallet,
    rpc::{self, Node},
    sender::{Call, Sender},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

const CHAIN: u64 = 421_614;

async fn public(limits: Manners) -> (Anvil, PublicNode) {
    let chain = Anvil::start(&AnvilOptions { chain_id: CHAIN, ..AnvilOptions::default() }).unwrap();
    let node = PublicNode::start(&chain.url(), 0, limits).await.unwrap();
    (chain, node)
}

async fn ask<T: Debug + serde::Serialize + Send + Sync>(node: &Node, method: &str, params: T) -> anyhow::Result<Value> {
    Ok(node.request(method, params).await?)
}

#[tokio::test]
async fn it_is_what_public_nodes_are() {
    let (_chain, public) = public(Manners::default()).await;
    let node = rpc::connect(&public.url()).unwrap();
    assert_eq!(ask(&node, "eth_chainId", ()).await.unwrap(), json!("0x66eee"));
    for method in ["anvil_mine", "evm_increaseTime", "hardhat_setBalance", "eth_sendTransaction"] {
        let error = error_of(ask(&node, method, [1]).await);
        assert!(error.contains("does not exist/is not available"), "{method}: {error}");
    }
    let logs = |blocks: u64| ask_for_logs(&node, blocks);
    assert!(logs(1_000).await.is_ok());
    let error = error_of(logs(1_001).await);
    assert!(error.contains("exceeds the range of 1000 blocks"), "{error}");
}

async fn ask_for_logs(node: &Node, blocks: u64) -> anyhow::Result<Value> {
    let filter = Filter::new().from_block(BlockNumber::Number(U64::zero())).to_block(U64::from(blocks - 1));
    ask(node, "eth_getLogs", [filter]).await
}

#[tokio::test]
async fn it_refuses_who_asks_too_often() {
    let (_chain, public) = public(Manners { requests_per_second: 5, ..Manners::default() }).await;
    let http = rpc::http_client().unwrap();
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": [] });
    let mut refused = 0;
    for _ in 0..10 {
        let status = http.post(public.url()).json(&call).send().await.unwrap().status();
        refused += usize::from(status == StatusCode::TOO_MANY_REQUESTS);
    }
    // Fewer on a machine so slow that a second passes meanwhile.
    assert!(refused > 0);
    let patient = rpc::connect_public(&public.url()).unwrap();
    for _ in 0..10 {
        ask(&patient, "eth_chainId", ()).await.unwrap();
    }
}

#[tokio::test]
async fn every_other_answer_is_late() {
    let (_chain, public) = public(Manners { requests_per_second: 1_000, ..Manners::default() }).await;
    let node = rpc::connect(&public.url()).unwrap();
    let number = |answer: Value| u64::from_str_radix(&answer.as_str().unwrap()[2..], 16).unwrap();
    while number(ask(&node, "eth_blockNumber", ()).await.unwrap()) < 10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut heads = Vec::new();
    for _ in 0..10 {
        heads.push(number(ask(&node, "eth_blockNumber", ()).await.unwrap()));
    }
    let backwards = heads.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!(backwards >= 4, "{heads:?}");
    // One of the two machines does not know the newest block.
    let newest = format!("{:#x}", heads.iter().max().unwrap());
    let mut unknown = 0;
    for _ in 0..2 {
        unknown += usize::from(ask(&node, "eth_getBlockByNumber", json!([newest, false])).await.unwrap().is_null());
    }
    assert_eq!(unknown, 1, "{newest}");
}

/// The bytes of a transfer that an account signs.
async fn signed(key: &LocalWallet, nonce: u64) -> String {
    let transfer =
        TransactionRequest::pay(key.address(), 1).nonce(nonce).gas(21_000).gas_price(U256::exp10(10)).chain_id(CHAIN);
    let transfer: TypedTransaction = transfer.into();
    transfer.rlp_signed(&key.sign_transaction(&transfer).await.unwrap()).to_string()
}

#[tokio::test]
async fn a_nonce_above_the_next_waits_a_second_and_no_longer() {
    let (_chain, public) = public(Manners::like("nitro").unwrap()).await;
    let node = rpc::connect(&public.url()).unwrap();
    let key = anvil_account(4, CHAIN).unwrap();
    let send = async |nonce: u64| ask(&node, "eth_sendRawTransaction", [signed(&key, nonce).await]).await;
    let (above, next) = tokio::join!(send(1), send(0));
    assert!(above.is_ok() && next.is_ok(), "{above:?}, {next:?}");
    let error = error_of(send(9).await);
    assert!(error.contains("nonce too high: address 0x") && error.contains("tx: 9 state: 2"), "{error}");
}

#[tokio::test]
async fn it_is_like_what_is_named() {
    let (_chain, public) = public(Manners::like("nitro,alchemy-free,no-finalized,intrinsic").unwrap()).await;
    let node = rpc::connect(&public.url()).unwrap();
    let error = error_of(ask_for_logs(&node, 11).await);
    assert!(error.contains("up to a 10 block range"), "{error}");
    let beyond = json!([{ "fromBlock": "0xffff0", "toBlock": "0xffff8" }]);
    let error = error_of(ask(&node, "eth_getLogs", beyond).await);
    assert!(error.contains("extends beyond current head"), "{error}");
    let error = error_of(ask(&node, "eth_getBlockByNumber", json!(["finalized", false])).await);
    assert!(error.contains("Unknown block"), "{error}");
    let block = ask(&node, "eth_getBlockByNumber", json!(["0x0", true])).await.unwrap();
    assert_eq!(block["transactions"][0]["type"], "0x6a", "{block}");
    let key = anvil_account(4, CHAIN).unwrap();
    for refused in [true, true, true, false] {
        let sent = ask(&node, "eth_sendRawTransaction", [signed(&key, 0).await]).await;
        assert_eq!(sent.is_err(), refused, "{sent:?}");
    }
}

#[tokio::test]
async fn contracts_are_deployed_and_requests_answered_on_it() {
    let (_chain, public) = public(Manners::default()).await;
    let node = rpc::connect_public(&public.url()).unwrap();
    let parties = Accounts::of_anvil(&node, CHAIN).unwrap();
    let key = anvil_account(3, CHAIN).unwrap();
    let terms = CompetitionParams { multisig: false, ..CompetitionParams::default() };
    let validator = parties.validator.address();
    let deployed = deploy::deploy(&node, &parties.admin, &parties.consumer, validator, key.address(), &terms).await;
    let network = Network { node: node.clone(), deployment: deployed.unwrap(), parties, services: None };

    let inputs: Vec<_> = (0..2).map(|number| format!("{:?}", nth_wallet(number))).collect();
    let requests = network.requests(&inputs).await.unwrap();
    let signer = Sender::new(node.clone(), key);
    let consumption = Consumption::new(network.deployment.consumption, node);
    for request in &requests {
        let answer = consumption.submit_inference(request.id.0, U256::exp10(17));
        signer.send(Call::new("answer", &answer)).await.unwrap();
    }
    let answers = network.wait_answers(&requests, Duration::from_secs(60)).await.unwrap();
    assert_eq!(answers.iter().map(|answer| answer.value).collect::<Vec<_>>(), [0.1, 0.1]);
    let spent = signer.spent();
    assert!(spent.len() == 2 && spent.iter().all(|it| it.what == "answer" && !it.wei.is_zero()), "{spent:?}");
}
