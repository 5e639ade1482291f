//! The Modeler contract: who may challenge, who may respond, and the one slot.

use crate::common::{as_stranger, error_of, respond};
use ethers::types::{Address, Bytes, U256};
use nova_devnet::{
    Devnet, Options,
    contracts::{DrandProof, Modeler},
    sender::Call,
};

#[tokio::test]
async fn only_a_validator_challenges() {
    let devnet = Devnet::start(Options::default()).await.unwrap();
    let deployment = &devnet.network.deployment;
    let contract = Modeler::new(deployment.modeler_contract, devnet.network.node.clone());
    let validator = devnet.network.parties.validator.address();
    assert!(contract.is_validator(validator).call().await.unwrap());
    let proof = DrandProof {
        submitter: validator,
        round: U256::one(),
        randomness: [0; 32],
        signature: Bytes::new(),
        previous_signature: Bytes::new(),
    };
    let call = contract.zkml_challenge_modeler(deployment.modeler, "anything".to_owned(), proof);
    let error = error_of(as_stranger(&devnet, Call::new("challenge", &call)).await);
    assert!(error.contains("NotValidator("), "{error}");
    let error = error_of(devnet.network.challenge_with(deployment.modeler, "").await);
    assert!(error.contains("EmptyChallenge()"), "{error}");
}

#[tokio::test]
async fn a_challenge_is_answered_once_by_whom_it_names_and_the_next_one_overwrites_it() {
    let devnet = Devnet::start(Options::default()).await.unwrap();
    let (network, deployment) = (&devnet.network, &devnet.network.deployment);
    let contract = Modeler::new(deployment.modeler_contract, network.node.clone());
    let validator = network.parties.validator.address();
    let slot = || contract.zkml_challenges(deployment.modeler);

    let error = error_of(respond(&devnet, validator, "early").await);
    assert!(error.contains("NotChallenged("), "{error}");
    network.challenge_with(Address::from_low_u64_be(1), "for another").await.unwrap();
    let error = error_of(respond(&devnet, validator, "for another").await);
    assert!(error.contains("NotChallenged("), "{error}");

    network.challenge_with(deployment.modeler, "first").await.unwrap();
    let error = error_of(respond(&devnet, deployment.signer, "to another validator").await);
    assert!(error.contains("NotChallenged("), "{error}");
    let error = error_of(respond(&devnet, validator, "").await);
    assert!(error.contains("EmptyResponse()"), "{error}");
    respond(&devnet, validator, "answer").await.unwrap();
    let (challenge, response, ..) = slot().call().await.unwrap();
    assert_eq!((challenge.as_str(), response.as_str()), ("first", "answer"));
    let error = error_of(respond(&devnet, validator, "again").await);
    assert!(error.contains("ChallengeAlreadyAnswered("), "{error}");

    network.challenge_with(deployment.modeler, "second").await.unwrap();
    let (challenge, response, ..) = slot().call().await.unwrap();
    assert_eq!((challenge.as_str(), response.as_str()), ("second", ""));
}
