//! The Consumption and Competition contracts: window, balances, who may answer, the SLA record, rewards.

use crate::common::{answer, as_modeler, as_stranger, error_of, pass_time, stranger};
use ethers::{
    providers::Provider,
    types::{Address, H256, U256},
};
use nova_devnet::{
    CompetitionParams, Devnet, InferenceEncoding, Options,
    contracts::{Competition, ConsumptionString, PaymentToken},
    rpc::Rpc,
    sender::Call,
};

async fn devnet(terms: CompetitionParams) -> Devnet {
    Devnet::start(Options { terms, ..Options::default() }).await.unwrap()
}

fn competition(devnet: &Devnet) -> Competition<Provider<Rpc>> {
    Competition::new(devnet.network.deployment.competition, devnet.network.node.clone())
}

async fn tokens_of(devnet: &Devnet, holder: Address) -> U256 {
    let token = PaymentToken::new(devnet.network.deployment.token, devnet.network.node.clone());
    token.balance_of(holder).call().await.unwrap()
}

#[tokio::test]
async fn requests_need_an_open_window_which_only_the_owner_moves() {
    let devnet = devnet(CompetitionParams::default()).await;
    devnet.network.set_window(false).await.unwrap();
    let error = error_of(devnet.network.request("0x01").await);
    assert!(error.contains("ConsumptionWindowClosed()"), "{error}");
    let open = devnet.network.consumption().toggle_consumption_window(true);
    let error = error_of(as_stranger(&devnet, Call::new("open the window", &open)).await);
    assert!(error.contains("OwnableUnauthorizedAccount("), "{error}");
    devnet.network.set_window(true).await.unwrap();
    devnet.network.request("0x01").await.unwrap();
}

#[tokio::test]
async fn a_request_costs_its_fee_and_the_rest_can_be_withdrawn() {
    let devnet = devnet(CompetitionParams::default()).await;
    let (network, fee) = (&devnet.network, CompetitionParams::default().fee);
    let consumer = network.parties.consumer.address();
    let consumption = network.consumption();
    let deposit = consumption.balances(consumer).call().await.unwrap();
    let owner_before = tokens_of(&devnet, network.parties.admin.address()).await;

    network.request("0x01").await.unwrap();
    assert_eq!(consumption.balances(consumer).call().await.unwrap(), deposit - fee);
    let owner_after = tokens_of(&devnet, network.parties.admin.address()).await;
    assert_eq!(owner_after - owner_before, fee * 15 / 100, "what the hosts do not get");

    let withdraw = || Call::new("withdraw", &consumption.withdraw_payment_token());
    network.parties.consumer.send(withdraw()).await.unwrap();
    assert_eq!(tokens_of(&devnet, consumer).await, deposit - fee);
    let error = error_of(network.parties.consumer.send(withdraw()).await);
    assert!(error.contains("NothingToWithdraw("), "{error}");
    let error = error_of(network.request("0x02").await);
    assert!(error.contains(&format!("InsufficientBalance({consumer:?}, 0, {fee})")), "{error}");
}

#[tokio::test]
async fn the_id_is_the_hash_of_input_second_and_sender_so_equal_requests_collide() {
    let devnet = devnet(CompetitionParams::default()).await;
    let request = devnet.network.request("0x01").await.unwrap();
    let id =
        devnet.network.consumption().generate_request_id(request.input.clone(), request.time.into(), request.consumer);
    assert_eq!(H256(id.call().await.unwrap()), request.id);
    let twins = ["0x02".to_owned(), "0x02".to_owned()];
    let error = error_of(devnet.network.requests(&twins).await);
    assert!(error.contains("reverted"), "{error}");
}

#[tokio::test]
async fn only_a_top_n_modeler_answers_and_each_request_once() {
    for encoding in [InferenceEncoding::Uint256, InferenceEncoding::String] {
        let devnet = devnet(CompetitionParams { encoding, ..CompetitionParams::default() }).await;
        let (network, modeler) = (&devnet.network, devnet.network.deployment.modeler);
        let request = network.request("0x01").await.unwrap();

        let error = error_of(answer(&devnet, H256::repeat_byte(7), 1.0).await);
        assert!(error.contains("UnknownRequest(0x0707"), "{error}");
        devnet.network.set_top_n(vec![]).await.unwrap();
        let error = error_of(answer(&devnet, request.id, 1.0).await);
        assert!(error.contains(&format!("NotTopNModeler({modeler:?})")), "{error}");

        devnet.network.set_top_n(vec![modeler]).await.unwrap();
        let responded = network.consumption().modeler_has_responded(modeler, request.id.0);
        assert!(!responded.call().await.unwrap());
        answer(&devnet, request.id, 0.5).await.unwrap();
        assert!(responded.call().await.unwrap());
        let error = error_of(answer(&devnet, request.id, 0.5).await);
        assert!(error.contains("AlreadyResponded("), "{error}");
    }
}

#[tokio::test]
async fn responses_are_kept_in_the_form_of_each_contract() {
    let devnet = devnet(CompetitionParams::default()).await;
    let request = devnet.network.request("0x01").await.unwrap();
    answer(&devnet, request.id, 0.5).await.unwrap();
    let responses = devnet.network.consumption().get_all_responses(request.id.0);
    let responses = responses.call().await.unwrap();
    assert_eq!(responses[0].modeler, devnet.network.deployment.modeler);
    assert_eq!(responses[0].inference_data, U256::exp10(17) * 5);

    let terms = CompetitionParams { encoding: InferenceEncoding::String, ..CompetitionParams::default() };
    let devnet = self::devnet(terms).await;
    let request = devnet.network.request("0x01").await.unwrap();
    answer(&devnet, request.id, -0.5).await.unwrap();
    let address = devnet.network.deployment.consumption;
    let contract = ConsumptionString::new(address, devnet.network.node.clone());
    let responses = contract.get_all_responses(request.id.0).call().await.unwrap();
    assert_eq!(responses[0].inference_data, "-0.5");
}

#[tokio::test]
async fn the_sla_is_recorded_by_the_chains_clock() {
    for (sla_seconds, effective) in [(60, 60), (0, 600)] {
        let devnet = devnet(CompetitionParams { sla_seconds, ..CompetitionParams::default() }).await;
        let (network, modeler) = (&devnet.network, devnet.network.deployment.modeler);
        let inputs = ["0x01".to_owned(), "0x02".to_owned()];
        let requests = network.requests(&inputs).await.unwrap();
        pass_time(&devnet, effective - 30).await;
        answer(&devnet, requests[0].id, 1.0).await.unwrap();
        pass_time(&devnet, 31).await;
        answer(&devnet, requests[1].id, 1.0).await.unwrap();

        let record = |id: H256| network.consumption().answered_in_time(modeler, id.0);
        assert!(record(requests[0].id).call().await.unwrap());
        assert!(!record(requests[1].id).call().await.unwrap());
        let status = network.status().await.unwrap();
        assert_eq!(status.requests[0].answer.as_ref().unwrap().request_id, requests[0].id);
        assert!(status.requests[0].in_time && !status.requests[1].in_time);
    }
}

#[tokio::test]
async fn answers_in_time_share_the_epochs_fees_once_it_is_over() {
    let devnet = devnet(CompetitionParams { multisig: false, ..CompetitionParams::default() }).await;
    let (network, modeler) = (&devnet.network, devnet.network.deployment.modeler);
    let other = stranger(&devnet);
    devnet.network.set_top_n(vec![modeler, other.address()]).await.unwrap();
    let inputs: Vec<_> = (1..=3).map(|number| format!("0x0{number}")).collect();
    let requests = network.requests(&inputs).await.unwrap();
    for request in &requests {
        answer(&devnet, request.id, 1.0).await.unwrap();
    }
    let submit = network.consumption().submit_inference(requests[0].id.0, U256::one());
    other.send(Call::new("answer", &submit)).await.unwrap();

    let claim = || Call::new("claim", &network.consumption().claim_reward(U256::zero()));
    let error = error_of(as_modeler(&devnet, claim()).await);
    assert!(error.contains("EpochNotOver(0, "), "{error}");
    pass_time(&devnet, 7 * 24 * 3600 + 600).await;
    as_modeler(&devnet, claim()).await.unwrap();
    // Three fees, of which the hosts get 85 %; three of the four answers in time are ours.
    let hosts = CompetitionParams::default().fee * 3 * 85 / 100;
    assert_eq!(tokens_of(&devnet, modeler).await, hosts * 3 / 4);
    let error = error_of(as_modeler(&devnet, claim()).await);
    assert!(error.contains("NothingToClaim("), "{error}");
}

#[tokio::test]
async fn the_competition_names_its_contracts_terms_and_at_most_ten_modelers() {
    let devnet = devnet(CompetitionParams::default()).await;
    let (competition, deployment) = (competition(&devnet), &devnet.network.deployment);
    let consumption = competition.consumption_contract().call().await.unwrap();
    assert_eq!(consumption, deployment.consumption);
    let modeler_contract = competition.modeler_contract().call().await.unwrap();
    assert_eq!(modeler_contract, deployment.modeler_contract);
    let params = competition.get_sa_params().call().await.unwrap();
    assert_eq!(params.request_expiration_time, 600.into());
    assert_eq!(params.competition_contract_address, deployment.competition);
    let top_n = competition.get_top_n_modelers().call().await.unwrap();
    assert_eq!(top_n, vec![deployment.modeler]);

    let eleven = (1..=11).map(Address::from_low_u64_be).collect();
    let error = error_of(devnet.network.set_top_n(eleven).await);
    assert!(error.contains("TooManyModelers(11, 10)"), "{error}");
    let error = error_of(devnet.network.set_top_n(vec![deployment.modeler; 2]).await);
    assert!(error.contains("ModelerNamedTwice("), "{error}");
    let again = competition.set_contracts(deployment.token, deployment.token);
    let again = devnet.network.parties.admin.send(Call::new("name the contracts", &again)).await;
    assert!(error_of(again).contains("ContractsAlreadySet()"));
}
