//! The contracts' bindings, made from the committed artifacts, and their errors by name.

use ethers::{
    abi::{Abi, Token},
    providers::{ProviderError, RpcError as _},
    types::Bytes,
};

pub use bindings::*;

mod bindings {
    #![allow(missing_docs, clippy::all)]

    ethers::prelude::abigen!(
        Competition, "contracts/artifacts/Competition.json";
        Consumption, "contracts/artifacts/Consumption.json";
        ConsumptionString, "contracts/artifacts/ConsumptionString.json";
        Modeler, "contracts/artifacts/Modeler.json";
        PaymentToken, "contracts/artifacts/PaymentToken.json";
        ProofRegistry, "contracts/artifacts/ProofRegistry.json";
        WalletSimple, "contracts/artifacts/WalletSimple.json";
    );
}

/// What a failed call says, with the contract's own error where the node returned one.
pub fn explain(error: &ProviderError) -> String {
    revert_data(error).and_then(|data| revert_name(&data)).unwrap_or_else(|| error.to_string())
}

/// The bytes that a contract reverted with.
fn revert_data(error: &ProviderError) -> Option<Bytes> {
    let data = error.as_error_response()?.data.as_ref()?;
    // Nodes wrap them differently: as the data itself, or in an object.
    let data = data.as_str().or_else(|| data.get("data")?.as_str())?;
    data.parse().ok()
}

/// `NotTopNModeler(0x…)` for the bytes of such an error.
pub fn revert_name(data: &[u8]) -> Option<String> {
    let (selector, arguments) = data.split_at_checked(4)?;
    let error =
        all_abis().into_iter().flat_map(Abi::errors).find(|error| error.signature().as_bytes()[..4] == *selector)?;
    let tokens = error.decode(arguments).ok()?;
    let arguments: Vec<_> = tokens.iter().map(show).collect();
    Some(format!("{}({})", error.name, arguments.join(", ")))
}

fn all_abis() -> [&'static Abi; 7] {
    [
        &COMPETITION_ABI,
        &CONSUMPTION_ABI,
        &CONSUMPTIONSTRING_ABI,
        &MODELER_ABI,
        &PAYMENTTOKEN_ABI,
        &PROOFREGISTRY_ABI,
        &WALLETSIMPLE_ABI,
    ]
}

fn show(token: &Token) -> String {
    match token {
        Token::Address(address) => format!("{address:?}"),
        Token::Uint(number) => number.to_string(),
        Token::FixedBytes(bytes) => Bytes::from(bytes.clone()).to_string(),
        other => other.to_string(),
    }
}
