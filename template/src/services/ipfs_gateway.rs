//! Documents of proof requests, read through an IPFS gateway.

use std::time::Duration;

use anyhow::anyhow;
use reqwest::StatusCode;

use super::http_service::HttpService;
use crate::fault::{Fault, Result};
use crate::sanitize;

/// A document of request ids is far below this.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;
/// A gateway may have to look for the document first.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// A gateway that looks for a document in vain gives up with 504: that is no fault of its own.
const ABSENT: [StatusCode; 3] = [StatusCode::NOT_FOUND, StatusCode::GONE, StatusCode::GATEWAY_TIMEOUT];

/// A CID is the digest of what it names.
fn service(host: &str) -> HttpService {
    HttpService::new("IPFS gateway", host, TIMEOUT).of_immutable_content().with_absent(&ABSENT)
}

/// An IPFS gateway.
#[derive(Debug, Clone)]
pub struct IpfsGateway(HttpService);

impl IpfsGateway {
    /// The gateway at `https://…`.
    pub fn new(host: &str) -> Self {
        Self(service(host))
    }

    /// Why it does not work, if it has not for a while.
    pub fn failure_reason(&self) -> Option<String> {
        self.0.failure_reason()
    }

    /// The document of that CID. 404 is tried again later: a document that was just written takes time to be found.
    pub async fn fetch(&self, cid: &str) -> Result<Vec<u8>> {
        if !is_cid(cid) {
            return Err(Fault::Permanent(anyhow!("{:?} is no CID", sanitize::truncate(cid, 80))));
        }
        let path = format!("/ipfs/{cid}");
        let document = self.0.call(&path, MAX_BYTES, |client, url| client.get(url), |body| Ok(body.to_vec())).await?;
        document.ok_or_else(|| Fault::Transient(anyhow!("the IPFS gateway has no document {cid}")))
    }
}

/// Whether this has the form of a CID, and with it nothing that could lead a path elsewhere.
pub fn is_cid(text: &str) -> bool {
    let all = |fits: fn(u8) -> bool| text.bytes().skip(1).all(fits);
    match (text.as_bytes().first(), text.len()) {
        // Version 0: a SHA-256 multihash in base58.
        (Some(b'Q'), 46) => text.starts_with("Qm") && all(is_base58),
        // Version 1: the first letter names the base.
        (Some(b'b'), 50..=120) => all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7')),
        (Some(b'z'), 46..=120) => all(is_base58),
        (Some(b'k'), 46..=120) => all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9')),
        (Some(b'f'), 64..=160) => all(|byte| matches!(byte, b'a'..=b'f' | b'0'..=b'9')),
        _ => false,
    }
}

fn is_base58(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() && !matches!(byte, b'0' | b'O' | b'I' | b'l')
}

#[cfg(test)]
mod tests {
    use super::super::test_server::{Reply, Server};
    use super::*;

    const CID: &str = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG";

    #[test]
    fn cids_are_told_from_other_texts() {
        for cid in [
            CID,
            "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
            "zb2rhe5P4gXftAwvA4eXQ5HJwsER2owDyS9sKaQRRVQPn93bA",
        ] {
            assert!(is_cid(cid), "{cid}");
        }
        for other in [
            "",
            "../../etc/passwd",
            "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbd/",
            "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPb0l",
            "bafy",
            "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbz?a",
            "0x5FbDB2315678afecb367f032d93F642f64180aa3",
        ] {
            assert!(!is_cid(other), "{other}");
        }
    }

    #[tokio::test]
    async fn a_document_is_fetched_by_its_cid() {
        let server = Server::answering(vec![Reply::ok(r#"{"request_ids": []}"#)]).await;
        let document = IpfsGateway::new(&server.url()).fetch(CID).await.unwrap();
        assert_eq!(document, br#"{"request_ids": []}"#);
        assert_eq!(server.requests()[0].path, format!("/ipfs/{CID}"));
    }

    #[tokio::test]
    async fn what_is_no_cid_is_never_asked_for() {
        let server = Server::answering(vec![]).await;
        let error = IpfsGateway::new(&server.url()).fetch("../api/v0/config").await.unwrap_err();
        assert!(matches!(error, Fault::Permanent(_)), "{error}");
        assert!(error.to_string().contains("is no CID"), "{error}");
        assert!(server.requests().is_empty());
    }

    #[tokio::test]
    async fn a_document_too_long_is_refused_and_a_missing_one_tried_again() {
        let server = Server::answering(vec![Reply::ok("x".repeat(MAX_BYTES + 1))]).await;
        let error = IpfsGateway::new(&server.url()).fetch(CID).await.unwrap_err();
        assert!(matches!(error, Fault::Permanent(_)), "{error}");
        assert!(error.to_string().contains("longer than the 1048576 bytes"), "{error}");

        for status in [404, 504] {
            let server = Server::answering(vec![Reply::status(status)]).await;
            let gateway = IpfsGateway::new(&server.url());
            for _ in 0..4 {
                let error = gateway.fetch(CID).await.unwrap_err();
                assert!(
                    matches!(error, Fault::Transient(_)) && error.to_string().contains("has no document"),
                    "{error}"
                );
            }
            assert_eq!(gateway.failure_reason(), None, "a document that nobody has says nothing about the gateway");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_followed_within_the_host_only() {
        let elsewhere = Server::answering(vec![Reply::ok("theirs")]).await;
        let here = Server::answering(vec![
            Reply::redirect("/ipfs/moved"),
            Reply::ok("ours"),
            Reply::redirect(&elsewhere.url()),
        ])
        .await;
        let gateway = IpfsGateway(service(&here.url()).with_first_wait(Duration::from_millis(1)));
        assert_eq!(gateway.fetch(CID).await.unwrap(), b"ours");
        let error = gateway.fetch(CID).await.unwrap_err();
        assert!(error.to_string().contains("another host"), "{error}");
        assert!(elsewhere.requests().is_empty());
    }
}
