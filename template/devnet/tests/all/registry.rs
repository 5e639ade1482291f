//! The ProofRegistry, with real proofs of EZKL: what binds a proof to its request, and who may do what.

use crate::common::{
    Proof, TinyModel, answer, as_modeler, as_stranger, commit, error_of, instances_hash, submit_proof, tiny_model,
};
use ethers::types::{Address, Bytes, H256, U256};
use nova_devnet::{CompetitionParams, Devnet, InferenceEncoding, Options, sender::Call};

async fn devnet(model: &TinyModel, encoding: InferenceEncoding) -> Devnet {
    let terms = CompetitionParams { encoding, ..CompetitionParams::default() };
    let model_files = Some(model.folder().to_owned());
    Devnet::start(Options { terms, model_files, ..Options::default() }).await.unwrap()
}

#[tokio::test]
async fn verifiers_are_contracts_registered_once_and_for_all() {
    let model = tiny_model(&[]);
    let devnet = devnet(&model, InferenceEncoding::Uint256).await;
    let (registry, modeler) = (devnet.network.proof_registry(), devnet.network.deployment.modeler);
    let verifier = devnet.verifier.unwrap();
    assert_eq!(registry.get_verifiers(modeler).call().await.unwrap(), vec![verifier]);
    let (code_hash, _, output_index, scale) = registry.verifiers(modeler, verifier).call().await.unwrap();
    assert_ne!(code_hash, [0; 32]);
    assert_eq!((output_index, scale), (2, 7), "two inputs come before the output");

    let register = |verifier| {
        let call = registry.register_verifier(verifier, 0, 7);
        as_modeler(&devnet, Call::new("register", &call))
    };
    let error = error_of(register(verifier).await);
    assert!(error.contains("VerifierAlreadyRegistered("), "{error}");
    let error = error_of(register(Address::from_low_u64_be(1000)).await);
    assert!(error.contains("NotAContract("), "{error}");
}

#[tokio::test]
async fn a_commitment_is_made_once_for_a_known_request_with_a_registered_verifier() {
    let model = tiny_model(&["1,1"]);
    // Both encodings of a request must be understood.
    for encoding in [InferenceEncoding::Uint256, InferenceEncoding::String] {
        let devnet = devnet(&model, encoding).await;
        let registry = devnet.network.proof_registry();
        let Proof { instances, .. } = model.proof(0);
        let error = error_of(commit(&devnet, H256::repeat_byte(7), &instances).await);
        assert!(error.contains("UnknownRequest(0x0707"), "{error}");

        let id = devnet.network.request("0x01").await.unwrap().id;
        let other = registry.commit(id.0, Address::from_low_u64_be(1), instances_hash(&instances));
        let error = error_of(as_modeler(&devnet, Call::new("commit", &other)).await);
        assert!(error.contains("VerifierNotRegistered("), "{error}");
        commit(&devnet, id, &instances).await.unwrap();
        let error = error_of(commit(&devnet, id, &instances).await);
        assert!(error.contains("AlreadyCommitted("), "{error}");
    }
}

#[tokio::test]
async fn a_commitment_comes_before_the_answer_or_not_at_all() {
    let model = tiny_model(&["1,1"]);
    let devnet = devnet(&model, InferenceEncoding::Uint256).await;
    let id = devnet.network.request("0x01").await.unwrap().id;
    answer(&devnet, id, 0.5).await.unwrap();
    let error = error_of(commit(&devnet, id, &model.proof(0).instances).await);
    assert!(error.contains("AlreadyAnswered("), "{error}");
}

#[tokio::test]
async fn the_consumer_or_a_validator_asks_for_a_proof_once() {
    let model = tiny_model(&["1,1"]);
    for encoding in [InferenceEncoding::Uint256, InferenceEncoding::String] {
        let devnet = devnet(&model, encoding).await;
        let network = &devnet.network;
        let request = network.request("0x01").await.unwrap().id;
        let error = error_of(network.request_proof(request).await);
        assert!(error.contains("NotCommitted("), "{error}");
        commit(&devnet, request, &model.proof(0).instances).await.unwrap();

        let registry = network.proof_registry();
        let ask = |id: H256| registry.request_proof(id.0, network.deployment.modeler);
        let error = error_of(as_stranger(&devnet, Call::new("ask", &ask(request))).await);
        assert!(error.contains("NotConsumerOrValidator("), "{error}");
        network.request_proof(request).await.unwrap();
        let validator = &network.parties.validator;
        let error = error_of(validator.send(Call::new("ask", &ask(request))).await);
        assert!(error.contains("ProofAlreadyRequested("), "{error}");

        let second = network.request("0x02").await.unwrap().id;
        commit(&devnet, second, &model.proof(0).instances).await.unwrap();
        validator.send(Call::new("ask", &ask(second))).await.unwrap();
    }
}

#[tokio::test]
async fn only_the_committed_instances_with_a_true_proof_are_kept_and_only_once() {
    let model = tiny_model(&["0.5,0.25", "1,1"]);
    let devnet = devnet(&model, InferenceEncoding::Uint256).await;
    let (honest, other) = (model.proof(0), model.proof(1));
    let id = devnet.network.request("0x01").await.unwrap().id;
    let error = error_of(submit_proof(&devnet, id, &honest).await);
    assert!(error.contains("NotCommitted("), "{error}");
    commit(&devnet, id, &honest.instances).await.unwrap();

    // A true proof of something else.
    let error = error_of(submit_proof(&devnet, id, &other).await);
    assert!(error.contains("InstancesDoNotMatchCommitment("), "{error}");
    // The proof of something else, passed off as that of what was committed.
    let mixed = Proof { bytes: other.bytes.clone(), ..honest.clone() };
    let error = error_of(submit_proof(&devnet, id, &mixed).await);
    assert!(error.contains("ProofRejected("), "{error}");
    let mut broken = honest.bytes.to_vec();
    broken[100] ^= 1;
    for bytes in [Bytes::from(broken), Bytes::new()] {
        let error = error_of(submit_proof(&devnet, id, &Proof { bytes, ..honest.clone() }).await);
        assert!(error.contains("ProofRejected("), "{error}");
    }
    let registry = devnet.network.proof_registry();
    let by_another = registry.submit_proof(id.0, honest.bytes.clone(), honest.instances.clone());
    let error = error_of(as_stranger(&devnet, Call::new("submit", &by_another)).await);
    assert!(error.contains("NotCommitted("), "{error}");

    submit_proof(&devnet, id, &honest).await.unwrap();
    let modeler = devnet.network.deployment.modeler;
    let (output, scale, verified_at) = registry.proofs(id.0, modeler).call().await.unwrap();
    assert_eq!((output.as_i64(), scale), (-128, 7), "-1 as a fixed-point number");
    assert!(verified_at > U256::zero());
    let error = error_of(submit_proof(&devnet, id, &honest).await);
    assert!(error.contains("ProofAlreadyVerified("), "{error}");
}
