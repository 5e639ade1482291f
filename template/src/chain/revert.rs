//! What contracts say when they refuse: the words, and what they mean for the row that hears them.

use ethers::abi::{self, AbiDecode as _, HumanReadableParser, Token};
use ethers::providers::{ProviderError, RpcError as _};
use ethers::types::{Bytes, U256};
use ethers::utils::keccak256;

/// A refusal by a contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revert {
    pub kind: RevertKind,
    /// In the contract's words.
    pub reason: String,
}

/// What a refusal means for the transaction that meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevertKind {
    /// The chain holds our answer.
    AlreadyAnswered,
    /// What was to be brought about is there.
    AlreadyDone,
    /// We are not among those who may, at present.
    NotTopN,
    /// The request is not there: a replica lags, or a reorg took it.
    UnknownRequest,
    /// The MultiSig wants another sequence id or a later expiry, which the next attempt has.
    StaleSequenceId,
    /// The reward of this epoch cannot be claimed yet.
    EpochNotOver,
    /// There is no reward in this epoch, or it was claimed.
    NothingToClaim,
    /// The node could not carry the call out, and does not say that it reverts.
    Unknown,
    Other,
}

impl Revert {
    /// What the node says of a call that reverts; `None` if that is not what it says.
    pub fn from_provider_error(error: &ProviderError) -> Option<Self> {
        let response = error.as_error_response()?;
        match response.as_revert_data() {
            Some(data) if !data.is_empty() => Some(Self::decode(&data)),
            // No data: all there is to read is the message.
            Some(_) => Some(Self::from_message(&response.message)),
            None => response.data.as_ref().and_then(revert_data).map(|data| Self::decode(&data)),
        }
    }

    /// The bytes that a contract reverted with: `Error(string)`, `Panic(uint256)`, or a custom error.
    pub fn decode(data: &[u8]) -> Self {
        match data.get(..4) {
            Some([0x08, 0xc3, 0x79, 0xa0]) => {
                Self::from_message(&String::decode(&data[4..]).unwrap_or_else(|_| "an unreadable reason".to_owned()))
            }
            Some([0x4e, 0x48, 0x7b, 0x71]) => Self::from_message(&match U256::decode(&data[4..]) {
                Ok(code) => format!("panic {code:#04x}"),
                Err(_) => "panic".to_owned(),
            }),
            Some(selector) => Self::custom(selector, &data[4..]),
            None => Self::from_message("no reason given"),
        }
    }

    /// A reason in words: contracts other than ours may have no errors with names.
    fn from_message(reason: &str) -> Self {
        let words = reason.to_lowercase();
        let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
        let meaning = if has(&["already responded", "already answered", "already submitted"]) {
            RevertKind::AlreadyAnswered
        } else if has(&["not a top", "not top", "not in top", "not among the top"]) {
            RevertKind::NotTopN
        } else if has(&["unknown request", "request not found", "request does not exist", "no such request"]) {
            RevertKind::UnknownRequest
        } else if has(&["not over", "not ended", "not finished", "not yet"]) {
            RevertKind::EpochNotOver
        } else {
            RevertKind::Other
        };
        Self { kind: meaning, reason: reason.to_owned() }
    }

    fn custom(selector: &[u8], arguments: &[u8]) -> Self {
        let known = CUSTOM_ERRORS.iter().find(|(_, signature)| keccak256(signature.as_bytes())[..4] == *selector);
        let Some((meaning, signature)) = known else {
            return Self { kind: RevertKind::Other, reason: format!("custom error 0x{}", hex::encode(selector)) };
        };
        Self { kind: *meaning, reason: with_arguments(signature, arguments).unwrap_or_else(|| (*signature).to_owned()) }
    }
}

/// Some nodes put the data where ethers does not look for it, because their message has no "revert" in it.
fn revert_data(value: &serde_json::Value) -> Option<Bytes> {
    let data: Bytes = data_text(value)?.parse().ok()?;
    (data.len() >= 4).then_some(data)
}

/// Where nodes put what a contract says: the data of the error, or what is called so in it.
pub(super) fn data_text(value: &serde_json::Value) -> Option<&str> {
    let text = value.as_str().or_else(|| value.get("data")?.as_str())?;
    Some(text.strip_prefix("Reverted ").unwrap_or(text))
}

/// `NotTopNModeler(0x…)` for the signature of an error and its arguments.
fn with_arguments(signature: &str, arguments: &[u8]) -> Option<String> {
    let error = HumanReadableParser::parse_error(&format!("error {signature}")).ok()?;
    let types: Vec<_> = error.inputs.iter().map(|input| input.kind.clone()).collect();
    let tokens = abi::decode(&types, arguments).ok()?;
    let shown: Vec<_> = tokens.iter().map(show).collect();
    Some(format!("{}({})", error.name, shown.join(", ")))
}

fn show(token: &Token) -> String {
    match token {
        Token::Address(address) => format!("{address:?}"),
        Token::Uint(number) => number.to_string(),
        Token::FixedBytes(bytes) => format!("0x{}", hex::encode(bytes)),
        other => other.to_string(),
    }
}

use RevertKind::{
    AlreadyAnswered, AlreadyDone, EpochNotOver, NotTopN, NothingToClaim, Other, StaleSequenceId, UnknownRequest,
};

/// The custom errors of the contracts in `devnet/contracts`, and what they mean.
const CUSTOM_ERRORS: [(RevertKind, &str); 37] = [
    (AlreadyAnswered, "AlreadyAnswered(bytes32,address)"),
    (AlreadyDone, "AlreadyCommitted(bytes32,address)"),
    (AlreadyAnswered, "AlreadyResponded(address,bytes32)"),
    (Other, "CallFailed(address)"),
    (AlreadyDone, "ChallengeAlreadyAnswered(address,address)"),
    (Other, "ConsumptionWindowClosed()"),
    (Other, "ERC20InsufficientBalance(address,uint256,uint256)"),
    (Other, "EmptyChallenge()"),
    (Other, "EmptyResponse()"),
    (EpochNotOver, "EpochNotOver(uint256,uint256)"),
    (StaleSequenceId, "Expired(uint256,uint256)"),
    (Other, "InstancesDoNotMatchCommitment(bytes32,bytes32,bytes32)"),
    (Other, "InsufficientBalance(address,uint256,uint256)"),
    (Other, "NotAContract(address)"),
    (Other, "NotChallenged(address,address)"),
    (Other, "NotCommitted(bytes32,address)"),
    (Other, "NotConsumerOrValidator(address)"),
    (Other, "NotSigner(address)"),
    (NotTopN, "NotTopNModeler(address)"),
    (Other, "NotValidator(address)"),
    (NothingToClaim, "NothingToClaim(address,uint256)"),
    (Other, "NothingToWithdraw(address)"),
    (Other, "OutputIndexOutOfRange(uint256,uint256)"),
    (Other, "OutputNotInField(uint256)"),
    (Other, "OwnableUnauthorizedAccount(address)"),
    (Other, "ProofAlreadyRequested(bytes32,address)"),
    (AlreadyDone, "ProofAlreadyVerified(bytes32,address)"),
    (Other, "ProofRejected(bytes32,address)"),
    (Other, "RequestAlreadyMade(bytes32)"),
    (Other, "SafeERC20FailedOperation(address)"),
    (StaleSequenceId, "SequenceIdTooHigh(uint256,uint256)"),
    (StaleSequenceId, "SequenceIdTooLow(uint256,uint256)"),
    (StaleSequenceId, "SequenceIdUsed(uint256)"),
    (Other, "SignatureNotAccepted()"),
    (UnknownRequest, "UnknownRequest(bytes32)"),
    (Other, "VerifierAlreadyRegistered(address,address)"),
    (Other, "VerifierNotRegistered(address,address)"),
];

#[cfg(test)]
mod tests {
    use ethers::providers::JsonRpcError;
    use ethers::types::Address;
    use serde_json::json;

    use super::*;

    fn error(name: &str, arguments: &[Token]) -> Vec<u8> {
        [&keccak256(name.as_bytes())[..4], &abi::encode(arguments)].concat()
    }

    #[test]
    fn reverts_are_named() {
        let text = [&[0x08, 0xc3, 0x79, 0xa0][..], &abi::encode(&[Token::String("window closed".to_owned())])].concat();
        let panic = [&[0x4e, 0x48, 0x7b, 0x71][..], &abi::encode(&[Token::Uint(0x11.into())])].concat();
        let custom = error("NotTopNModeler(address)", &[Token::Address(Address::repeat_byte(7))]);
        for (data, reason) in [
            (text, "window closed"),
            (panic, "panic 0x11"),
            (custom, "NotTopNModeler(0x0707070707070707070707070707070707070707)"),
            (error("AlreadyResponded(address,bytes32)", &[]), "AlreadyResponded(address,bytes32)"),
            (vec![1, 2, 3, 4], "custom error 0x01020304"),
            (vec![], "no reason given"),
        ] {
            assert_eq!(Revert::decode(&data).reason, reason);
        }
    }

    #[test]
    fn every_custom_error_can_be_parsed() {
        for (_, signature) in CUSTOM_ERRORS {
            assert!(HumanReadableParser::parse_error(&format!("error {signature}")).is_ok(), "{signature}");
        }
    }

    #[test]
    fn a_revert_is_found_where_nodes_put_it() {
        let data = format!("0x{}", hex::encode(error("ProofAlreadyVerified(bytes32,address)", &[])));
        for (message, data) in [
            ("execution reverted", json!(data)),
            ("execution reverted", json!({ "originalError": { "data": data } })),
            ("VM execution error.", json!(format!("Reverted {data}"))),
        ] {
            let response = JsonRpcError { code: 3, message: message.to_owned(), data: Some(data) };
            let error = ProviderError::JsonRpcClientError(Box::new(crate::chain::rpc::Error::Refused {
                endpoint: "node".to_owned(),
                method: "eth_call".to_owned(),
                error: response,
            }));
            assert_eq!(Revert::from_provider_error(&error).unwrap().kind, RevertKind::AlreadyDone, "{message}");
        }
    }

    #[test]
    fn words_are_understood_too() {
        for (words, meaning) in [
            ("execution reverted: Modeler already responded", RevertKind::AlreadyAnswered),
            ("Not a top N modeler", RevertKind::NotTopN),
            ("Epoch not over", RevertKind::EpochNotOver),
            ("paused", RevertKind::Other),
        ] {
            assert_eq!(Revert::from_message(words).kind, meaning, "{words}");
        }
    }
}
