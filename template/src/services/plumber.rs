//! Plumber: the features of wallets, and uploads to IPFS.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Result as Anyhow, anyhow, bail, ensure};
use reqwest::Client;
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::http_service::{Absence, HttpService};
use super::ipfs_gateway::is_cid;
use super::python_json;
use crate::address::is_address;
use crate::fault::{Fault, Result};
use crate::features::WALLET;
use crate::sanitize;

/// The features of one wallet: name → value, in Plumber's order.
pub type Features = Map<String, Value>;

/// Plumber takes up to so many wallets in one call.
const BATCH: usize = 4_000;
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);
/// Of several wallets at once; where that is not enough each is asked for alone.
pub(crate) const BATCH_TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const UPLOAD_TIMEOUT: Duration = Duration::from_secs(180);
pub(crate) const MAX_FEATURES: usize = 1024 * 1024;
/// What an answer about several wallets may hold for each of them, and for all.
pub(crate) const MAX_ROW: usize = 64 * 1024;
/// More features than any model takes: each is held once for every wallet that is asked about.
pub(crate) const MAX_NAMES: usize = 10_000;
pub(crate) const MAX_CID: usize = 4 * 1024;

/// Plumber on its host, with our key.
#[derive(Debug, Clone)]
pub struct Plumber(HttpService);

impl Plumber {
    /// Plumber at `https://…`.
    pub fn new(host: &str, key: SecretString) -> Self {
        Self(HttpService::new("Plumber", host, TIMEOUT).with_key(key))
    }

    /// Why it does not work, if it has not for a while.
    pub fn failure_reason(&self) -> Option<String> {
        self.0.failure_reason()
    }

    /// One wallet's features, at least one of which is a number.
    ///
    /// # Errors
    /// [`Absence`] where Plumber has none of this wallet: what it says then (404, an error in the body, nothing but nulls) it also
    /// says of a wallet that it has yet to index.
    pub async fn features(&self, wallet: &str) -> Result<Features> {
        checked(wallet)?;
        let found = self
            .0
            .call(
                &format!("/api/v1/{wallet}/features"),
                MAX_FEATURES,
                |client, url| client.get(url),
                |body| features_of(wallet, body),
            )
            .await?;
        match found {
            Some(features) if has_number(&features) => Ok(features),
            Some(other) if !other.is_empty() => Err(absent(wallet).context(format!("Plumber says {}", quoted(&other)))),
            _ => Err(absent(wallet)),
        }
    }

    /// Several wallets' features in few calls, each tried once and not for long: where one fails the wallets are asked for one by one,
    /// and a wallet that Plumber is slow about holds up no other.
    ///
    /// By wallet in lower case. A wallet is left out of which Plumber has none now.
    pub async fn features_batch(&self, wallets: &[String]) -> Result<HashMap<String, Features>> {
        let mut found = HashMap::with_capacity(wallets.len());
        for some in wallets.chunks(BATCH) {
            some.iter().try_for_each(|wallet| checked(wallet))?;
            found.extend(self.batch(some).await?);
        }
        Ok(found)
    }

    /// Rows by wallet in lower case.
    async fn batch(&self, wallets: &[String]) -> Result<HashMap<String, Features>> {
        const PATH: &str = "/api/v1/features_batch";
        let body = json!({ "wallet_addresses": wallets });
        let asked: HashSet<String> = wallets.iter().map(|wallet| wallet.to_ascii_lowercase()).collect();
        let limit = MAX_FEATURES + wallets.len() * MAX_ROW;
        let request = |client: &Client, url: &str| client.post(url).timeout(BATCH_TIMEOUT).json(&body);
        let rows = self.0.tried_once().call(PATH, limit, request, |answer| rows_of(&asked, answer)).await?;
        rows.ok_or_else(|| Fault::Transient(anyhow!("Plumber does not know {PATH} (404)")))
    }

    /// Puts the bytes on IPFS and gives their CID.
    pub async fn upload(&self, bytes: Vec<u8>) -> Result<String> {
        const PATH: &str = "/api/v1/ipfs";
        let cid = self
            .0
            .call(
                PATH,
                MAX_CID,
                |client, url| {
                    client
                        .post(url)
                        .timeout(UPLOAD_TIMEOUT)
                        .header("content-type", "application/octet-stream")
                        .body(bytes.clone())
                },
                cid_of,
            )
            .await?;
        cid.ok_or_else(|| Fault::Transient(anyhow!("Plumber does not know {PATH} (404)")))
    }
}

/// A wallet becomes part of a path: only an address may.
fn checked(wallet: &str) -> Result<()> {
    if is_address(wallet) {
        return Ok(());
    }
    Err(Fault::Permanent(anyhow!("{wallet:?} is no wallet address")))
}

/// What a wallet's features fail with that Plumber has not got now.
pub fn absent(wallet: &str) -> Fault {
    Fault::Transient(Absence(format!("Plumber has no features of wallet {wallet}")).into())
}

/// Where no value is a number, it is an error or a promise that came as features.
fn has_number(features: &Features) -> bool {
    features.values().any(Value::is_number)
}

/// As much of what came in place of features as an error bears.
fn quoted(features: &Features) -> String {
    sanitize::truncate(&json!(features).to_string(), 160).into_owned()
}

/// One wallet's features, if they are its own.
pub fn features_of(wallet: &str, body: &[u8]) -> Anyhow<Features> {
    let Value::Object(features) = python_json::parse(body)? else {
        bail!("expected a JSON object of features");
    };
    if let Some(other) = features.get(WALLET).and_then(Value::as_str) {
        ensure!(other.eq_ignore_ascii_case(wallet), "these are the features of wallet {other}");
    }
    Ok(features)
}

/// The rows that were asked for, each merged with what holds for all. What the row itself says wins.
pub fn rows_of(asked: &HashSet<String>, body: &[u8]) -> Anyhow<HashMap<String, Features>> {
    let answer = python_json::parse(body)?;
    let (Some(market), Some(rows)) =
        (answer["market_data"].as_object(), answer["wallets_addresses_features"].as_array())
    else {
        bail!(r#"expected {{"market_data": {{…}}, "wallets_addresses_features": [{{…}}]}}"#);
    };
    let market: Vec<(&String, Value)> = market.iter().map(|(name, value)| (name, shortened(value))).collect();
    let mut found = HashMap::with_capacity(asked.len());
    for row in rows {
        let row = row.as_object();
        let wallet = row.and_then(|row| row.get(WALLET)?.as_str());
        let (Some(row), Some(wallet)) = (row, wallet) else {
            bail!("a row of wallets_addresses_features has no {WALLET}");
        };
        let wallet = wallet.to_ascii_lowercase();
        if !asked.contains(&wallet) {
            continue;
        }
        let names = row.len() + market.len();
        ensure!(names <= MAX_NAMES, "{names} features of a wallet are more than the {MAX_NAMES} that are read");
        // Nothing of the wallet's own is nothing yet, whatever the market does.
        if !has_number(row) {
            continue;
        }
        let mut merged = row.clone();
        for (name, value) in &market {
            merged.entry(*name).or_insert_with(|| value.clone());
        }
        found.insert(wallet, merged);
    }
    Ok(found)
}

/// What is copied to every wallet: no list, no object and no long text, which might fill the memory and is no number.
fn shortened(value: &Value) -> Value {
    match value {
        Value::Array(_) => Value::Array(Vec::new()),
        Value::Object(_) => Value::Object(Map::new()),
        Value::String(text) => sanitize::truncate(text, 100).into(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// The CID as text, in quotes or without.
pub fn cid_of(body: &[u8]) -> Anyhow<String> {
    let text = std::str::from_utf8(body)?.trim().trim_matches('"');
    ensure!(is_cid(text), "expected a CID");
    Ok(text.to_string())
}

#[cfg(test)]
#[path = "plumber_tests.rs"]
mod tests;
