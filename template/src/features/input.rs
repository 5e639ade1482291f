//! What a consumer may ask for: a wallet, or features of its own.

use anyhow::{Result as Anyhow, bail, ensure};
use serde_json::{Map, Value};

use super::WALLET;
use crate::address::is_address;
use crate::config::FeatureSource;
use crate::fault::{Classify, Result};

/// More than any request needs: consumers write what they like.
pub(crate) const MAX_INPUT_BYTES: usize = 64 * 1024;

/// A request's input, understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Features of this wallet (0x and 40 hex digits, lower case) are asked of Plumber.
    Wallet(String),
    /// The input is the features.
    Inline(Map<String, Value>),
}

/// Reads a request's input: a wallet address, or `{"wallet_address": "0x…"}`; with inline features a JSON object of them.
pub fn parse_input(source: FeatureSource, raw: &str) -> Result<Input> {
    let understood = match source {
        _ if raw.len() > MAX_INPUT_BYTES => too_long(raw.len()),
        FeatureSource::Plumber => wallet(raw.trim()).map(Input::Wallet),
        FeatureSource::Inline => inline(raw).map(Input::Inline),
    };
    understood.permanent()
}

fn too_long(bytes: usize) -> Anyhow<Input> {
    bail!("the input is {bytes} bytes long, and at most {MAX_INPUT_BYTES} are read")
}

fn wallet(raw: &str) -> Anyhow<String> {
    const EXPECTED: &str = r#"expected a wallet address (0x and 40 hex digits) or {"wallet_address": "0x…"}"#;
    let address = match serde_json::from_str(raw) {
        Ok(Value::Object(object)) => match (object.get(WALLET), object.len()) {
            (Some(Value::String(address)), 1) => address.trim().to_string(),
            _ => bail!("the input {} is no wallet: {EXPECTED}", shown(raw)),
        },
        // An address in quotes is a JSON string.
        Ok(Value::String(address)) => address.trim().to_string(),
        _ => raw.to_string(),
    };
    ensure!(is_address(&address), "the input {} is no wallet: {EXPECTED}", shown(raw));
    Ok(address.to_ascii_lowercase())
}

fn inline(raw: &str) -> Anyhow<Map<String, Value>> {
    match serde_json::from_str(raw) {
        Ok(Value::Object(features)) if !features.is_empty() => Ok(features),
        Ok(_) => bail!("the input {} is no JSON object of features: expected {{\"name\": number, …}}", shown(raw)),
        Err(error) => bail!("the input {} is no JSON object of features: {error}", shown(raw)),
    }
}

/// As much of the input as a log line bears.
fn shown(raw: &str) -> String {
    let short: String = raw.chars().take(80).collect();
    let more = if short.len() < raw.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    const ADDRESS: &str = "0x00000000219ab540356cBB839Cbe05303d7705Fa";

    fn refused(source: FeatureSource, raw: &str) -> String {
        match parse_input(source, raw) {
            Err(Fault::Permanent(error)) => error.to_string(),
            other => panic!("{raw:?} gave {other:?}"),
        }
    }

    #[test]
    fn a_wallet_is_read_bare_and_from_json() {
        let wallet = Input::Wallet(ADDRESS.to_ascii_lowercase());
        for raw in [
            ADDRESS.to_string(),
            format!(" {ADDRESS}\n"),
            format!("\"{ADDRESS}\""),
            format!(r#"{{"wallet_address": "{ADDRESS}"}}"#),
        ] {
            let input = parse_input(FeatureSource::Plumber, &raw).unwrap();
            assert_eq!(input, wallet, "{raw}");
        }
    }

    #[test]
    fn what_is_no_wallet_fails_the_request_and_says_why() {
        for raw in [
            "",
            "hello",
            "0x123",
            "vitalik.eth",
            "0xzz000000219ab540356cBB839Cbe05303d7705Fa",
            "00000000219ab540356cBB839Cbe05303d7705Fa00",
            r#"{"wallet_address": 5}"#,
            r#"{"wallet": "0x00000000219ab540356cBB839Cbe05303d7705Fa"}"#,
            r#"{"wallet_address": "0x00000000219ab540356cBB839Cbe05303d7705Fa", "x": 1}"#,
            "[]",
            "\u{0}../../etc/passwd",
        ] {
            let reason = refused(FeatureSource::Plumber, raw);
            assert!(reason.contains("is no wallet: expected"), "{reason}");
        }
        let long = refused(FeatureSource::Plumber, &"é".repeat(100));
        assert!(long.contains("…") && long.len() < 400, "{long}");
        let huge = refused(FeatureSource::Plumber, &"0".repeat(70_000));
        assert!(huge.contains("70000 bytes"), "{huge}");
    }

    #[test]
    fn inline_features_keep_their_order() {
        let Input::Inline(features) = parse_input(FeatureSource::Inline, r#"{"b": 1, "a": 2.5}"#).unwrap() else {
            panic!("no inline features")
        };
        assert_eq!(features.keys().collect::<Vec<_>>(), ["b", "a"]);
    }

    #[test]
    fn what_is_no_object_of_features_fails_the_request() {
        for raw in ["", ADDRESS, "[1]", "{}", r#"{"a": 1"#, r#"{"a": NaN}"#] {
            let reason = refused(FeatureSource::Inline, raw);
            assert!(reason.contains("is no JSON object of features"), "{reason}");
        }
    }
}
