//! Pulse, the subscription library: which MultiSig wallet is whose.

use std::time::Duration;

use anyhow::{Result as Anyhow, anyhow, bail, ensure};
use serde_json::Value;

use super::http_service::HttpService;
use crate::address::is_address;
use crate::fault::{Fault, Result};

pub(crate) const MAX_BYTES: usize = 64 * 1024;
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Pulse on its host.
#[derive(Debug, Clone)]
pub struct Pulse(HttpService);

impl Pulse {
    /// Pulse at `https://…`. It wants no key.
    pub fn new(host: &str) -> Self {
        Self(HttpService::new("Pulse", host, TIMEOUT))
    }

    /// The wallet's MultiSig; `None` if it has none.
    pub async fn multisig(&self, wallet: &str) -> Result<Option<String>> {
        if !is_address(wallet) {
            return Err(Fault::Permanent(anyhow!("{wallet:?} is no wallet address")));
        }
        let found = self
            .0
            .call(&format!("/getMultiSigAddress/{wallet}"), MAX_BYTES, |client, url| client.get(url), multisig_of)
            .await?;
        Ok(found.flatten())
    }
}

/// `[{"contract_address": "0x…"}]`, or `{"message": "No data found"}`.
fn multisig_of(body: &[u8]) -> Anyhow<Option<String>> {
    let answer: Value = serde_json::from_slice(body)?;
    if answer["message"] == "No data found" || answer == Value::Array(Vec::new()) {
        return Ok(None);
    }
    let Some(address) = answer[0]["contract_address"].as_str() else {
        bail!(r#"expected [{{"contract_address": "0x…"}}]"#);
    };
    ensure!(is_address(address), "{address:?} is no address");
    Ok(Some(address.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::test_server::{Reply, Server};
    use super::*;

    const WALLET: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
    const MULTISIG: &str = "0x5FbDB2315678afecb367f032d93F642f64180aa3";

    async fn asked(reply: Reply) -> Result<Option<String>> {
        let server = Server::answering(vec![reply]).await;
        let service = HttpService::new("Pulse", &server.url(), TIMEOUT);
        let pulse = Pulse(service.with_first_wait(Duration::from_millis(1)));
        let found = pulse.multisig(WALLET).await;
        assert_eq!(server.requests()[0].path, format!("/getMultiSigAddress/{WALLET}"));
        found
    }

    #[tokio::test]
    async fn a_wallets_multisig_is_found() {
        let answer = format!(r#"[{{"contract_address": "{MULTISIG}"}}]"#);
        let found = asked(Reply::ok(answer)).await.unwrap();
        assert_eq!(found.as_deref(), Some(MULTISIG));
    }

    #[tokio::test]
    async fn a_wallet_without_one_is_no_error() {
        for reply in [Reply::ok(r#"{"message": "No data found"}"#), Reply::ok("[]"), Reply::status(404)] {
            assert_eq!(asked(reply).await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn another_answer_is_tried_again_and_quoted() {
        for (body, reason) in [
            (r#"[{"contract_address": "0x12"}]"#, r#""0x12" is no address"#),
            (r#"{"message": "maintenance"}"#, "maintenance"),
            ("<html>", "<html>"),
        ] {
            let error = asked(Reply::ok(body)).await.unwrap_err();
            assert!(matches!(error, Fault::Transient(_)), "{error}");
            assert!(error.to_string().contains(reason), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_no_wallet_is_never_asked_for() {
        let error = Pulse::new("http://127.0.0.1:9").multisig("../x").await.unwrap_err();
        assert!(matches!(error, Fault::Permanent(_)), "{error}");
    }
}
