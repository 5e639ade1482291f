//! The devnet as the daemon sees it: requests, answers, challenges and proofs, on a real chain.

use std::time::Duration;

use crate::common::{answer, error_of, tiny_model};
use ethers::{
    providers::Middleware as _,
    types::{Address, BlockNumber, H256},
};
use nova_devnet::{CompetitionParams, Devnet, InferenceEncoding, Options, wait::wait_for};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_request_is_answered_and_found_again() {
    for encoding in [InferenceEncoding::Uint256, InferenceEncoding::String] {
        let terms = CompetitionParams { encoding, ..CompetitionParams::default() };
        let devnet = Devnet::start(Options { terms, ..Options::default() }).await.unwrap();
        let network = &devnet.network;
        let wallets = network.fresh_wallets(3).await.unwrap();
        let inputs: Vec<_> = wallets.iter().map(|wallet| format!("{wallet:?}")).collect();
        let requests = network.requests(&inputs).await.unwrap();
        assert_eq!(requests.iter().map(|it| it.input.clone()).collect::<Vec<_>>(), inputs);
        assert!(network.answers(&requests).await.unwrap().is_empty());

        answer(&devnet, requests[1].id, 0.25).await.unwrap();
        let found = network.wait_answer(&requests[1], SOON).await.unwrap();
        assert_eq!((found.request_id, found.value), (requests[1].id, 0.25));
        assert_eq!(found.modeler, network.deployment.modeler);
        assert_eq!(network.answers(&requests).await.unwrap().len(), 1);
        assert_eq!(network.all_requests().await.unwrap().len(), 3);
        assert_ne!(network.fresh_wallets(1).await.unwrap()[0], wallets[0]);
    }
}

#[tokio::test]
async fn a_challenge_by_ipfs_is_answered_with_a_file() {
    let devnet = Devnet::start(Options::default()).await.unwrap();
    let network = &devnet.network;
    let ids = [H256::repeat_byte(1), H256::repeat_byte(2)];
    let challenge = network.challenge(&ids).await.unwrap();
    let document = network.download(&challenge.payload).await.unwrap();
    let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
    assert_eq!(document["request_ids"][1], format!("{:?}", ids[1]));

    let cid = network.upload(b"a proof".to_vec()).await.unwrap();
    crate::common::respond(&devnet, network.parties.validator.address(), &cid).await.unwrap();
    let response = network.wait_response(&challenge, SOON).await.unwrap();
    assert_eq!(network.download(&response.cid).await.unwrap(), b"a proof");
}

#[tokio::test]
async fn the_chain_checks_a_real_proof_and_keeps_its_output() {
    let model = tiny_model(&["0.5,0.25", "-1.5,-2"]);
    let options = Options { model_files: Some(model.folder().to_owned()), ..Options::default() };
    let devnet = Devnet::start(options).await.unwrap();
    let network = &devnet.network;
    for (number, expected) in [(0, -1.0), (1, 5.5)] {
        let request = network.request(&format!("{:?}", Address::from_low_u64_be(number))).await.unwrap();
        let proof = model.proof(number);
        crate::common::commit(&devnet, request.id, &proof.instances).await.unwrap();
        network.request_proof(request.id).await.unwrap();
        crate::common::submit_proof(&devnet, request.id, &proof).await.unwrap();
        let proven = network.wait_proof(request.id, SOON).await.unwrap();
        assert_eq!(proven.value, expected);
    }
    assert_eq!(network.proofs().await.unwrap().len(), 2);
}

#[tokio::test]
async fn blocks_come_by_themselves_and_become_final() {
    let devnet = Devnet::start(Options::default()).await.unwrap();
    let node = &devnet.network.node;
    let number = |tag: BlockNumber| async move { node.get_block(tag).await.unwrap().unwrap().number.unwrap() };
    let head = number(BlockNumber::Latest).await;
    let look = || async { Ok((number(BlockNumber::Finalized).await >= head).then_some(())) };
    wait_for(node, "finality of the head", SOON, look).await.unwrap();
}

#[tokio::test]
async fn a_request_that_cannot_be_made_says_why() {
    let devnet = Devnet::start(Options::default()).await.unwrap();
    devnet.network.set_window(false).await.unwrap();
    let error = error_of(devnet.network.request("0x00").await);
    assert!(error.contains("ConsumptionWindowClosed()"), "{error}");
}
