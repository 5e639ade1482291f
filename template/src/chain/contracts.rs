//! The contracts the daemon talks to, and how values are written for them.

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use ethers::abi::{self, AbiEncode as _, ParamType, Token};
use ethers::contract::abigen;
use ethers::types::{Address, Bytes, H256, U256};
use ethers::utils::keccak256;

use crate::config::InferenceEncoding;

abigen!(
    Competition,
    r#"[
        struct SAParams { uint256 bountyAmount; uint256 requestPaymentAmount; uint256 requestExpirationTime; string responseDataType; uint256 endAt; address competitionContractAddress; address stakedToken; uint256 stakedAmount; uint256 disputeStake; uint256 slashAmount; }
        function modelerContract() external view returns (address)
        function consumptionContract() external view returns (address)
        function isTopNModeler(address) external view returns (bool)
        function getSAParams() external view returns (SAParams)
    ]"#
);

abigen!(
    Consumption,
    r#"[
        event ConsumerRequestMade(address indexed consumer, bytes32 requestId)
        event InferenceSubmitted(address indexed modeler, bytes32 indexed requestId, uint256 inference)
        function submitInference(bytes32 requestId, uint256 inference) external
        function claimReward(uint256 rewardEpoch) external
        function inferenceRequests(bytes32 requestId) external view
        function modelerHasResponded(address modeler, bytes32 requestId) external view returns (bool)
        function consumptionWindow() external view returns (bool)
    ]"#
);

abigen!(
    ConsumptionOfStrings,
    r#"[
        event InferenceSubmitted(address indexed modeler, bytes32 indexed requestId, string inference)
        function submitInference(bytes32 requestId, string inference) external
    ]"#
);

abigen!(
    Modeler,
    r#"[
        event ZKMLChallengeGiven(address indexed validator, address indexed modeler, string ipfsChallenge)
        event ZKMLChallengeResponse(address indexed validator, address indexed modeler, string ipfsResponse)
        function respondToZKMLChallenge(address validator, string ipfsResponse) external
        function ZKMLChallenges(address modeler) external view returns (string ipfsChallenge, string ipfsResponse, string ipfsGraded, string ipfsGradeDetailLink, uint256 performanceResult)
    ]"#
);

abigen!(
    MultiSig,
    r#"[
        function sendMultiSig(address to, uint256 value, bytes data, uint256 expireTime, uint256 sequenceId, bytes signature) external
        function getNextSequenceId() external view returns (uint256)
        function isSigner(address) external view returns (bool)
    ]"#
);

abigen!(
    ProofRegistry,
    r#"[
        event ProofRequested(bytes32 indexed requestId, address indexed modeler)
        event Committed(bytes32 indexed requestId, address indexed modeler, address verifier, bytes32 instancesHash)
        event ProofVerified(bytes32 indexed requestId, address indexed modeler, int256 output, uint8 scale)
        function commitments(bytes32 requestId, address modeler) external view returns (address verifier, bytes32 instancesHash, uint256 committedAt)
        function commit(bytes32 requestId, address verifier, bytes32 instancesHash) external
        function submitProof(bytes32 requestId, bytes proof, uint256[] instances) external
        function getVerifiers(address modeler) external view returns (address[])
    ]"#
);

abigen!(
    Verifier,
    r#"[
        function verifyProof(bytes proof, uint256[] instances) external returns (bool)
    ]"#
);

/// The input and time of a request, as the Consumption contract holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InferenceRequest {
    pub requested: u64,
    pub consumer: Address,
    pub input: String,
}

/// Reads what `inferenceRequests` returns in either encoding: older deployments return the four values flat, newer ones
/// one struct, which puts an offset of 32 in front. A flat answer begins with the request id itself.
///
/// `None` where the contract knows no such request (all zero).
pub fn decode_inference_request(id: H256, answer: &[u8]) -> Result<Option<InferenceRequest>> {
    let fields = [ParamType::FixedBytes(32), ParamType::Uint(256), ParamType::Address, ParamType::String];
    let first = answer.get(..32).context("inferenceRequests returned less than a word")?;
    let values = if U256::from_big_endian(first) == U256::from(32) {
        match abi::decode(&[ParamType::Tuple(fields.to_vec())], answer)?.pop() {
            Some(Token::Tuple(values)) => values,
            _ => bail!("inferenceRequests returned no struct"),
        }
    } else {
        abi::decode(&fields, answer)?
    };
    let mut values = values.into_iter();
    let mut next = || values.next().context("inferenceRequests returned too few values");
    let held = next()?.into_fixed_bytes().context("requestId is no bytes32")?;
    let requested = next()?.into_uint().context("requestTime is no uint256")?;
    let consumer = next()?.into_address().context("consumer is no address")?;
    let input = next()?.into_string().context("input is no string")?;
    if requested.is_zero() && consumer.is_zero() {
        return Ok(None);
    }
    ensure!(held == id.as_bytes(), "inferenceRequests returned another request: 0x{}", hex::encode(held));
    let requested = u64::try_from(requested).map_err(|_| anyhow!("requestTime {requested} is no time"))?;
    Ok(Some(InferenceRequest { requested, consumer, input }))
}

/// The call that submits `value` as the answer to a request.
///
/// # Errors
/// A value that the encoding cannot hold: not finite, negative (`uint256`), or beyond 2^256.
pub fn answer_calldata(id: H256, value: f64, encoding: InferenceEncoding) -> Result<Bytes> {
    ensure!(value.is_finite(), "{value} cannot be submitted: it is not a finite number");
    let id = id.into();
    Ok(match encoding {
        InferenceEncoding::Uint256 { decimals } => {
            let inference = fixed_point(value, decimals)?;
            consumption::SubmitInferenceCall { request_id: id, inference }.encode().into()
        }
        InferenceEncoding::String => {
            consumption_of_strings::SubmitInferenceCall { request_id: id, inference: value.to_string() }.encode().into()
        }
    })
}

/// `value` × 10^`decimals`, rounded as decimal text is: exact in the shortest decimal that reads back to `value`.
fn fixed_point(value: f64, decimals: u8) -> Result<U256> {
    // -0.0 is zero too, but prints with its sign.
    let value = value + 0.0;
    ensure!(
        value >= 0.0,
        "{value} cannot be submitted as uint256: it is negative (NOVA_INFERENCE_ENCODING=string can hold it)"
    );
    let text = format!("{value:.*}", usize::from(decimals));
    // `{:.n}` prints the exact binary value; the shortest decimal is what a person and a proof's reader expect.
    let shortest = value.to_string();
    let text = match shortest.split_once('.') {
        Some((whole, fraction)) if fraction.len() <= usize::from(decimals) => {
            format!("{whole}{fraction}{}", "0".repeat(usize::from(decimals) - fraction.len()))
        }
        None => format!("{shortest}{}", "0".repeat(usize::from(decimals))),
        Some(_) => text.replace('.', ""),
    };
    U256::from_dec_str(&text).map_err(|_| anyhow!("{value} with {decimals} decimals does not fit a uint256"))
}

/// keccak256 of the ABI-encoded instances, as `ProofRegistry` computes it. Instances are big-endian field elements.
pub fn instances_hash(instances: &[[u8; 32]]) -> [u8; 32] {
    keccak256(abi::encode(&[instances_token(instances)]))
}

/// The call that binds a request to the circuit's inputs and outputs before it is answered.
pub fn commit_calldata(id: H256, verifier: Address, instances: &[[u8; 32]]) -> Bytes {
    CommitCall { request_id: id.into(), verifier, instances_hash: instances_hash(instances) }.encode().into()
}

/// The call that has the chain check a proof.
pub fn submit_proof_calldata(id: H256, proof: Vec<u8>, instances: &[[u8; 32]]) -> Bytes {
    let instances = instances.iter().map(|felt| U256::from_big_endian(felt)).collect();
    SubmitProofCall { request_id: id.into(), proof: proof.into(), instances }.encode().into()
}

/// The call that answers a validator's challenge with the CID of the proof.
pub fn respond_calldata(validator: Address, cid: &str) -> Bytes {
    RespondToZKMLChallengeCall { validator, ipfs_response: cid.to_owned() }.encode().into()
}

fn instances_token(instances: &[[u8; 32]]) -> Token {
    Token::Array(instances.iter().map(|felt| Token::Uint(U256::from_big_endian(felt))).collect())
}

#[cfg(test)]
mod tests {
    use ethers::abi::AbiDecode as _;

    use super::*;

    const UINT: InferenceEncoding = InferenceEncoding::Uint256 { decimals: 18 };

    fn id() -> H256 {
        H256::repeat_byte(0xab)
    }

    fn flat() -> Vec<u8> {
        abi::encode(&[
            Token::FixedBytes(id().as_bytes().to_vec()),
            Token::Uint(1_700_000_000.into()),
            Token::Address(Address::repeat_byte(1)),
            Token::String("0xwallet".to_owned()),
        ])
    }

    #[test]
    fn both_encodings_of_a_request_read_the_same() {
        let expected = InferenceRequest {
            requested: 1_700_000_000,
            consumer: Address::repeat_byte(1),
            input: "0xwallet".to_owned(),
        };
        let mut as_struct = [0; 32].to_vec();
        as_struct[31] = 32;
        as_struct.extend(flat());
        assert_eq!(decode_inference_request(id(), &flat()).unwrap(), Some(expected.clone()));
        assert_eq!(decode_inference_request(id(), &as_struct).unwrap(), Some(expected));
    }

    #[test]
    fn an_unknown_request_is_none_and_another_one_an_error() {
        let none = abi::encode(&[
            Token::FixedBytes(vec![0; 32]),
            Token::Uint(0.into()),
            Token::Address(Address::zero()),
            Token::String(String::new()),
        ]);
        assert_eq!(decode_inference_request(id(), &none).unwrap(), None);
        assert!(decode_inference_request(H256::zero(), &flat()).is_err());
        assert!(decode_inference_request(id(), &flat()[..100]).is_err());
    }

    #[test]
    fn values_become_fixed_point_as_their_shortest_decimal() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (0.1, "100000000000000000"),
            (0.26611328125, "266113281250000000"),
            (1.0, "1000000000000000000"),
            (1e-18, "1"),
            (1e30, "1000000000000000000000000000000000000000000000000"),
            // More decimals than 18: rounded to the nearest.
            (1.0000000000000002e-10, "100000000"),
        ] {
            assert_eq!(fixed_point(value, 18).unwrap(), U256::from_dec_str(expected).unwrap(), "{value}");
        }
    }

    #[test]
    fn what_cannot_be_encoded_is_refused() {
        for value in [-0.5, f64::NAN, f64::INFINITY, 1e70] {
            assert!(answer_calldata(id(), value, UINT).is_err(), "{value}");
        }
        assert!(answer_calldata(id(), -0.5, InferenceEncoding::String).is_ok());
    }

    #[test]
    fn an_answer_as_text_reads_back_to_the_same_number() {
        let calldata = answer_calldata(id(), 0.1 + 0.2, InferenceEncoding::String).unwrap();
        let call = consumption_of_strings::SubmitInferenceCall::decode(&calldata).unwrap();
        assert_eq!(call.inference.parse::<f64>().unwrap(), 0.1 + 0.2);
    }

    #[test]
    fn instances_are_hashed_as_solidity_encodes_them() {
        let mut one = [0; 32];
        one[31] = 1;
        let mut two = [0; 32];
        two[31] = 2;
        let encoded = [&word(32)[..], &word(2), &one, &two].concat();
        assert_eq!(instances_hash(&[one, two]), keccak256(encoded));
    }

    fn word(value: u8) -> [u8; 32] {
        let mut word = [0; 32];
        word[31] = value;
        word
    }
}
