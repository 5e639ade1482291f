//! JSON-RPC for ethers over the workspace's reqwest. ethers' own HTTPS is end-of-life, so its `rustls` feature is
//! off and this takes its place.

use std::{
    fmt::Debug,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use ethers::providers::{JsonRpcClient, JsonRpcError, Provider, ProviderError, RpcError};
use reqwest::Url;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// A node as ethers sees it.
pub type Node = Arc<Provider<Rpc>>;

/// A JSON-RPC endpoint.
#[derive(Clone, Debug)]
pub struct Rpc {
    http: reqwest::Client,
    url: Url,
    next_id: Arc<AtomicU64>,
}

/// Why a call got no result.
#[derive(Debug, thiserror::Error)]
pub enum RpcFailure {
    /// The node was not reached, or did not speak JSON-RPC.
    #[error("the node did not answer {method}: {reason}")]
    Transport { method: String, reason: String },
    /// The node refused.
    #[error("{method}: {error}")]
    Refused { method: String, error: JsonRpcError },
    /// The result is not of the type that was asked for.
    #[error("the node's answer to {method} makes no sense: {error}")]
    Result { method: String, error: serde_json::Error },
}

/// How often a node of our own is asked for what is awaited, and one of others, which counts our calls.
const POLL_LOCAL: Duration = Duration::from_millis(50);
const POLL_REMOTE: Duration = Duration::from_secs(1);

/// Connects to the node at `url`; nothing is sent yet.
pub fn connect(url: &str) -> Result<Node> {
    let url: Url = url.parse().with_context(|| format!("`{url}` is not a URL"))?;
    let local = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    let rpc = Rpc { http: http_client()?, url, next_id: Arc::default() };
    Ok(Arc::new(Provider::new(rpc).interval(if local { POLL_LOCAL } else { POLL_REMOTE })))
}

/// Where this machine reaches what listens at an address, which may be all that the machine has.
pub fn url_of(address: SocketAddr) -> String {
    let ip = if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

/// An HTTP client, for http:// and https://.
pub fn http_client() -> Result<reqwest::Client> {
    // An error means that the process has a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let timeout = Duration::from_secs(60);
    reqwest::Client::builder().timeout(timeout).build().context("cannot set up HTTP")
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    result: Value,
    error: Option<JsonRpcError>,
}

#[async_trait]
impl JsonRpcClient for Rpc {
    type Error = RpcFailure;

    async fn request<T, R>(&self, method: &str, params: T) -> Result<R, RpcFailure>
    where
        T: Debug + Serialize + Send + Sync,
        R: DeserializeOwned + Send,
    {
        // The URL may hold an API key, so it is taken out of every error.
        let transport = |error: reqwest::Error| RpcFailure::Transport {
            method: method.to_owned(),
            reason: chain(&error.without_url()),
        };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let params =
            serde_json::to_value(&params).map_err(|error| RpcFailure::Result { method: method.to_owned(), error })?;
        // ethers hands in `()` for no parameters, which nodes want as an empty list.
        let params = if params.is_null() { json!([]) } else { params };
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let response = self.http.post(self.url.clone()).json(&call).send().await.map_err(transport)?;
        let answer: Answer = response.json().await.map_err(transport)?;
        if let Some(error) = answer.error {
            return Err(RpcFailure::Refused { method: method.to_owned(), error });
        }
        serde_json::from_value(answer.result).map_err(|error| RpcFailure::Result { method: method.to_owned(), error })
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl RpcError for RpcFailure {
    fn as_error_response(&self) -> Option<&JsonRpcError> {
        match self {
            Self::Refused { error, .. } => Some(error),
            _ => None,
        }
    }

    fn as_serde_error(&self) -> Option<&serde_json::Error> {
        match self {
            Self::Result { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<RpcFailure> for ProviderError {
    fn from(failure: RpcFailure) -> Self {
        Self::JsonRpcClientError(Box::new(failure))
    }
}
