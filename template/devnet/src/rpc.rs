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
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::Instant;

/// A node as ethers sees it.
pub type Node = Arc<Provider<Rpc>>;

/// A JSON-RPC endpoint.
#[derive(Clone, Debug)]
pub struct Rpc {
    http: reqwest::Client,
    url: Url,
    next_id: Arc<AtomicU64>,
    public: bool,
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

/// How long a public node is asked again for what it may answer later, and how long the pauses are.
const PATIENCE: Duration = Duration::from_secs(20);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Connects to the node at `url`; nothing is sent yet.
pub fn connect(url: &str) -> Result<Node> {
    connect_to(url, false)
}

/// Connects to a public node: several machines behind one URL, some of which are late, and which refuse whom they find to
/// ask too often. What may be for one of these reasons is asked again for a while.
pub fn connect_public(url: &str) -> Result<Node> {
    connect_to(url, true)
}

fn connect_to(url: &str, public: bool) -> Result<Node> {
    // The URL may hold a key: the error does not quote it.
    let url: Url = url.parse().ok().context("the node's URL is none: expected http://… or https://…")?;
    let local = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    let rpc = Rpc { http: http_client()?, url, next_id: Arc::default(), public };
    Ok(Arc::new(Provider::new(rpc).interval(if local && !public { POLL_LOCAL } else { POLL_REMOTE })))
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
        let unreadable = |error| RpcFailure::Result { method: method.to_owned(), error };
        let params = serde_json::to_value(&params).map_err(unreadable)?;
        // ethers hands in `()` for no parameters, which nodes want as an empty list.
        let params = if params.is_null() { json!([]) } else { params };
        let result =
            if self.public { self.ask_patiently(method, &params).await } else { self.ask(method, &params).await };
        serde_json::from_value(result?).map_err(unreadable)
    }
}

/// Whether it is a public node, as `connect_public` takes it.
pub fn is_public(node: &Node) -> bool {
    <Provider<Rpc> as AsRef<Rpc>>::as_ref(node).public
}

impl Rpc {
    async fn ask_patiently(&self, method: &str, params: &Value) -> Result<Value, RpcFailure> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = self.ask(method, params).await;
            if !may_change(method, &answer) || Instant::now() + pause > deadline {
                return answer;
            }
            tokio::time::sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    async fn ask(&self, method: &str, params: &Value) -> Result<Value, RpcFailure> {
        // The URL may hold an API key, so it is taken out of every error.
        let transport = |error: reqwest::Error| RpcFailure::Transport {
            method: method.to_owned(),
            reason: chain(&error.without_url()),
        };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let response = self.http.post(self.url.clone()).json(&call).send().await.map_err(transport)?;
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            return Err(RpcFailure::Transport {
                method: method.to_owned(),
                reason: "429, too many requests".to_owned(),
            });
        }
        let answer: Answer = response.json().await.map_err(transport)?;
        if let Some(error) = answer.error {
            return Err(RpcFailure::Refused { method: method.to_owned(), error });
        }
        Ok(answer.result)
    }
}

/// Whether a public node may answer otherwise in a moment: it was not reached or was asked too often, or the machine that
/// answered is late and does not know what another has said already. (Logs are awaited by whoever reads them.)
fn may_change(method: &str, answer: &Result<Value, RpcFailure>) -> bool {
    match answer {
        Ok(result) => result.is_null() && method == "eth_getBlockByNumber",
        Err(RpcFailure::Refused { error, .. }) => {
            let text = error.message.to_lowercase();
            let too_often = ["rate limit", "too many requests", "exceeded its", "compute units"];
            matches!(method, "eth_call" | "eth_estimateGas") || too_often.iter().any(|words| text.contains(words))
        }
        Err(RpcFailure::Transport { .. }) => true,
        Err(RpcFailure::Result { .. }) => false,
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
