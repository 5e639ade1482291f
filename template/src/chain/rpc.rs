//! JSON-RPC over HTTP for ethers, on a current reqwest: several endpoints in order, each failure told apart.
//!
//! An endpoint that is behind the others (`heights`) is asked after them. A refusal by the node (a JSON-RPC error) is an answer and is handed on. A time-out, a 429, a 5xx, a broken body, or one
//! with neither result nor error is not: the next endpoint is asked, and after the last one the round starts again, with backoff and jitter, or when they said
//! that they would answer again (`Retry-After`).
//! No error shows a URL, because URLs carry API keys.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable as _};
use ethers::providers::{JsonRpcClient, JsonRpcError, ProviderError, RpcError};
use reqwest::{Client, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::complaint::Complaint;
use crate::http_client;
use crate::scrub::Scrubber;

/// How long one request to one endpoint may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);
/// How long after a failover the first endpoint is tried again.
const PRIMARY_RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// Who asks to be left alone for longer is not asked again by this call: the next look at the chain does.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);
/// The largest answer that is read: the logs of a full range of blocks fit many times over. Several calls are under way at
/// once, and each may be answered so long.
pub(crate) const MAX_BODY: usize = 16 << 20;

/// ethers' way to the chain.
#[derive(Debug)]
pub struct Transport {
    client: Client,
    pub(super) endpoints: Vec<Endpoint>,
    /// The endpoint that answered last, and since when it is not the first one.
    in_use: Mutex<(usize, Instant)>,
    next_id: AtomicU64,
}

pub(super) struct Endpoint {
    url: Url,
    /// The host, which is all of the URL that may be shown.
    pub name: String,
    /// It lacks blocks that another one has.
    pub is_behind: AtomicBool,
    /// What must not be shown of what it says.
    scrubber: Scrubber,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Why a request to the chain has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node understood and refused.
    #[error("{endpoint} refused {method}: {error}")]
    Refused { endpoint: String, method: String, error: JsonRpcError },
    /// No endpoint gave a usable answer.
    #[error("no RPC endpoint answers {method}: {reason}")]
    Unreachable { method: String, reason: String },
    /// The answer was JSON, but not what the method returns.
    #[error("{endpoint} answered {method} with something else: {error}")]
    Decode { endpoint: String, method: String, error: serde_json::Error, text: String },
}

impl RpcError for Error {
    fn as_error_response(&self) -> Option<&JsonRpcError> {
        match self {
            Self::Refused { error, .. } => Some(error),
            _ => None,
        }
    }

    fn as_serde_error(&self) -> Option<&serde_json::Error> {
        match self {
            Self::Decode { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<Error> for ProviderError {
    fn from(error: Error) -> Self {
        match error {
            // ethers reads missing receipts and the like from this form.
            Error::Decode { error, .. } => Self::SerdeJson(error),
            other => Self::JsonRpcClientError(Box::new(other)),
        }
    }
}

#[derive(Serialize)]
struct Call<'a> {
    jsonrpc: &'static str,
    id: u64,
    method: &'a str,
    params: Value,
}

/// A call as JSON-RPC 2.0 has it. Its parameters are always a list: ethers gives `null` for a method that takes none, which the
/// specification does not allow (section 4.2) and strict nodes refuse.
pub(super) fn call_body<T: Serialize>(id: u64, method: &str, params: T) -> serde_json::Result<Vec<u8>> {
    let params = match serde_json::to_value(params)? {
        Value::Null => Value::Array(Vec::new()),
        list @ Value::Array(_) => list,
        one => Value::Array(vec![one]),
    };
    serde_json::to_vec(&Call { jsonrpc: "2.0", id, method, params })
}

/// Either member is there, or it is no answer (section 5).
#[derive(Deserialize)]
struct Answer<'a> {
    /// `null` is a result: there is no such block, no such receipt.
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<JsonRpcError>,
}

fn present<'de, D: Deserializer<'de>>(member: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(member).map(Some)
}

/// What one endpoint made of one request, when it did not answer it.
pub(super) enum Failure {
    /// Another endpoint, or the same one later, may answer; how much later, if it said.
    Passing(String, Option<Duration>),
    /// The node has spoken.
    Final(Error),
}

impl Transport {
    /// # Errors
    /// Names the position of a URL that is none, not the URL.
    pub fn new(urls: &[SecretString]) -> anyhow::Result<Self> {
        let endpoints = urls
            .iter()
            .enumerate()
            .map(|(i, url)| {
                let url: Url = url
                    .expose_secret()
                    .parse()
                    .map_err(|error| anyhow::anyhow!("RPC URL number {} is not a URL: {error}", i + 1))?;
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                let name = format!("{}{port}", url.host_str().unwrap_or_default());
                let scrubber = Scrubber::of_url(&url);
                Ok(Endpoint { url, name, is_behind: AtomicBool::new(false), scrubber })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self {
            client: http_client::client(TIMEOUT),
            endpoints,
            in_use: Mutex::new((0, Instant::now())),
            next_id: AtomicU64::new(1),
        })
    }

    async fn request_any(&self, method: &str, body: &[u8]) -> Result<(usize, Vec<u8>), Failure> {
        let (mut reasons, mut waits) = (Vec::new(), Vec::new());
        for i in self.order() {
            let endpoint = &self.endpoints[i];
            match self.request_one(endpoint, method, body).await {
                Ok(answer) => {
                    self.answered(i);
                    return Ok((i, answer));
                }
                Err(Failure::Final(error)) => {
                    self.answered(i);
                    return Err(Failure::Final(error));
                }
                Err(Failure::Passing(reason, wait)) => {
                    reasons.push(format!("{}: {reason}", endpoint.name));
                    waits.push(wait);
                }
            }
        }
        // One that named no time may answer at any time.
        let wait = waits.into_iter().collect::<Option<Vec<_>>>().and_then(|waits| waits.into_iter().min());
        Err(Failure::Passing(reasons.join("; "), wait))
    }

    /// In which order the endpoints are asked.
    fn order(&self) -> Vec<usize> {
        let (count, first) = (self.endpoints.len(), self.first_to_ask());
        let mut order: Vec<usize> = (0..count).map(|i| (first + i) % count).collect();
        order.sort_by_key(|i| self.endpoints[*i].is_behind.load(Ordering::Relaxed));
        order
    }

    /// The endpoint that answered last, so that one that hangs costs its time-out once; after a while the first one again.
    fn first_to_ask(&self) -> usize {
        let (endpoint, since) = *self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if since.elapsed() < PRIMARY_RETRY_INTERVAL { endpoint } else { 0 }
    }

    fn answered(&self, endpoint: usize) {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if in_use.0 != endpoint {
            tracing::warn!(from = self.endpoints[in_use.0].name, to = self.endpoints[endpoint].name, "RPC failover");
            *in_use = (endpoint, Instant::now());
        } else if in_use.1.elapsed() >= PRIMARY_RETRY_INTERVAL {
            // The first one was tried before this one, in vain: once a minute, not in each call.
            in_use.1 = Instant::now();
        }
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) async fn request_one(&self, endpoint: &Endpoint, method: &str, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let response = self
            .client
            .post(endpoint.url.clone())
            .header("content-type", "application/json")
            .body(body.to_vec())
            .send()
            .await
            .map_err(transport_failure)?;
        let status = response.status();
        let wait = http_client::retry_after(response.headers());
        let passing = |reason: String| Failure::Passing(reason, wait);
        let answer = body_of(response).await?;
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::PAYMENT_REQUIRED | StatusCode::FORBIDDEN => {
                return Err(passing(format!("HTTP {status}: is its key right?")));
            }
            StatusCode::NOT_FOUND | StatusCode::TOO_MANY_REQUESTS => return Err(passing(format!("HTTP {status}"))),
            _ if status.is_server_error() => return Err(passing(format!("HTTP {status}"))),
            _ => {}
        }
        let mut parsed: Answer = serde_json::from_slice(&answer)
            .map_err(|_| passing(format!("HTTP {status}, and the body is no JSON-RPC")))?;
        let complaint = parsed.error.as_ref().map(|error| complaint(method, body, error));
        if let Some(error) = &mut parsed.error {
            error.message = endpoint.scrubber.text(std::mem::take(&mut error.message));
            error.data.iter_mut().for_each(|data| endpoint.scrubber.json(data));
        }
        match (parsed.error, parsed.result) {
            (Some(error), _) if complaint.is_some_and(Complaint::is_passing) => Err(passing(error.to_string())),
            (Some(error), _) => Err(Failure::Final(Error::Refused {
                endpoint: endpoint.name.clone(),
                method: method.to_owned(),
                error,
            })),
            (None, Some(result)) => Ok(result.get().as_bytes().to_vec()),
            (None, None) => Err(passing(format!("HTTP {status}, and the body has neither result nor error"))),
        }
    }
}

/// What an error means for this call.
fn complaint(method: &str, body: &[u8], error: &JsonRpcError) -> Complaint {
    let has = |tag: &[u8]| memchr::memmem::find(body, tag).is_some();
    let by_tag = method == "eth_getBlockByNumber" && (has(b"\"finalized\"") || has(b"\"safe\""));
    if by_tag { Complaint::of_tag(error) } else { Complaint::of(method, error) }
}

async fn body_of(mut response: reqwest::Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(transport_failure)? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(Failure::Passing(format!("the answer is longer than {MAX_BODY} bytes"), None));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// reqwest's own words, without the URL.
fn transport_failure(error: reqwest::Error) -> Failure {
    Failure::Passing(format!("{:#}", anyhow::Error::new(error.without_url())), None)
}

#[async_trait]
impl JsonRpcClient for Transport {
    type Error = Error;

    async fn request<T, R>(&self, method: &str, params: T) -> Result<R, Error>
    where
        T: fmt::Debug + Serialize + Send + Sync,
        R: DeserializeOwned + Send,
    {
        let body = call_body(self.next_id(), method, params).map_err(|error| Error::Decode {
            endpoint: "the request".to_owned(),
            method: method.to_owned(),
            error,
            text: String::new(),
        })?;
        let rounds =
            ExponentialBuilder::default().with_min_delay(Duration::from_millis(250)).with_max_times(3).with_jitter();
        let (endpoint, answer) = (|| self.request_any(method, &body))
            .retry(rounds)
            .when(|failure| matches!(failure, Failure::Passing(..)))
            .adjust(|failure, wait| match (failure, wait) {
                (Failure::Passing(_, Some(asked)), Some(_)) => (*asked <= MAX_RETRY_AFTER).then_some(*asked),
                (_, wait) => wait,
            })
            .await
            .map_err(|failure| match failure {
                Failure::Final(error) => error,
                Failure::Passing(reason, _) => Error::Unreachable { method: method.to_owned(), reason },
            })?;
        let endpoint = &self.endpoints[endpoint];
        serde_json::from_slice(&answer).map_err(|error| Error::Decode {
            endpoint: endpoint.name.clone(),
            method: method.to_owned(),
            error,
            text: endpoint.scrubber.text(String::from_utf8_lossy(&answer).into_owned()).chars().take(200).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::test_server::{Reply, Server};

    const CHAIN_ID: &str = r#"{"jsonrpc": "2.0", "id": 1, "result": "0x7a69"}"#;

    fn over(servers: [&Server; 2]) -> Transport {
        Transport::new(&servers.map(|server| SecretString::from(server.url()))).unwrap()
    }

    async fn asked(server: &Server) -> (Result<Value, Error>, Duration) {
        let transport = Transport::new(&[SecretString::from(server.url())]).unwrap();
        let started = Instant::now();
        let answer = transport.request("eth_chainId", [(); 0]).await;
        (answer, started.elapsed())
    }

    /// Case 06 of the public reports: each provider says in its own way that it will not answer now.
    #[tokio::test]
    async fn regression_who_is_busy_or_broken_is_not_the_last_that_is_asked() {
        for (code, message) in [
            (-32016, "over rate limit"),
            (-32011, "no backend is currently healthy to serve traffic"),
            (-32007, "25/second request limit reached - reduce calls per second"),
            (30, "Request timeout on the free tier, please upgrade to paid"),
            (19, "Temporary internal error. Please retry"),
            (-32001, "Exceeded the quota usage"),
            (-32029, "Too Many Requests"),
            (-32090, "Too many requests, reason: call rate limit exhausted, retry in 10s"),
            (-32000, "Unauthorized: You must authenticate your request with an API key"),
            (-32601, "the method is not available on your plan"),
            (-32000, "capacity exceeded, try again later"),
        ] {
            let body = format!(r#"{{"jsonrpc": "2.0", "id": 1, "error": {{"code": {code}, "message": "{message}"}}}}"#);
            let first = Server::answering(vec![Reply::ok(body)]).await;
            let second = Server::answering(vec![Reply::ok(CHAIN_ID)]).await;
            let transport = over([&first, &second]);
            let answer: Value = transport.request("eth_chainId", [(); 0]).await.unwrap();
            assert_eq!((answer, first.requests().len()), (Value::from("0x7a69"), 1), "{message}");
        }
        // What a contract says is an answer.
        let reverted =
            r#"{"jsonrpc": "2.0", "id": 1, "error": {"code": 3, "message": "execution reverted", "data": "0x"}}"#;
        let first = Server::answering(vec![Reply::ok(reverted)]).await;
        let second = Server::answering(vec![Reply::ok(CHAIN_ID)]).await;
        let transport = over([&first, &second]);
        let answer: Result<Value, Error> = transport.request("eth_call", [(); 0]).await;
        assert!(matches!(answer, Err(Error::Refused { .. })), "{answer:?}");
        assert_eq!(second.requests().len(), 0);
    }

    /// Case 07 of the public reports: plans, limits and gateways that answer JSON, and no JSON-RPC.
    #[tokio::test]
    async fn regression_neither_result_nor_error_is_no_answer() {
        for (status, body) in [
            (200, r#"{"jsonrpc": "2.0", "id": 1}"#),
            (200, r#"{"jsonrpc": "2.0", "id": 1, "error": null}"#),
            (200, r#"{"message": "Too many requests", "statusCode": 429}"#),
            (200, r#"{"code": -32005, "message": "daily limit"}"#),
            (200, "{}"),
            (400, r#"{"message": "this method is not in your plan"}"#),
        ] {
            let first = Server::answering(vec![Reply::status(status).body(body)]).await;
            let second = Server::answering(vec![Reply::ok(CHAIN_ID)]).await;
            let transport = over([&first, &second]);
            let answer: Value = transport.request("eth_chainId", [(); 0]).await.unwrap();
            assert_eq!((answer, first.requests().len()), (Value::from("0x7a69"), 1), "{body}");
        }
        // Whereas this one is: there is no such thing.
        let server = Server::answering(vec![Reply::ok(r#"{"jsonrpc": "2.0", "id": 1, "result": null}"#)]).await;
        assert_eq!(asked(&server).await.0.unwrap(), Value::Null);
        // Where no endpoint has either member, the call fails.
        let server = Server::answering(vec![Reply::ok(r#"{"jsonrpc": "2.0", "id": 1}"#)]).await;
        let (answer, _) = asked(&server).await;
        assert!(answer.unwrap_err().to_string().contains("neither result nor error"));
    }

    #[tokio::test]
    async fn regression_parameters_are_a_list_whatever_ethers_gives() {
        let server = Server::answering(vec![Reply::ok(CHAIN_ID)]).await;
        let transport = Transport::new(&[SecretString::from(server.url())]).unwrap();
        let _: Value = transport.request("eth_chainId", ()).await.unwrap();
        let _: Value = transport.request("eth_call", ("0x1", "latest")).await.unwrap();
        let _: Value = transport.request("eth_getLogs", [serde_json::json!({"fromBlock": "0x1"})]).await.unwrap();
        for request in server.requests() {
            let call: Value = serde_json::from_slice(&request.body).unwrap();
            assert_eq!(nova_devnet::json_rpc::check_call(&call), Ok(()), "{call}");
        }
    }

    /// The first endpoint is tried once a minute, not in each call after a minute.
    #[tokio::test]
    async fn one_that_has_failed_for_long_is_tried_now_and_then() {
        let first = Server::answering(vec![Reply::status(500)]).await;
        let second = Server::answering(vec![Reply::ok(CHAIN_ID)]).await;
        let transport = over([&first, &second]);
        *transport.in_use.lock().unwrap() = (1, Instant::now() - PRIMARY_RETRY_INTERVAL);
        for _ in 0..3 {
            let _: Value = transport.request("eth_chainId", [(); 0]).await.unwrap();
        }
        assert_eq!((first.requests().len(), second.requests().len()), (1, 3));
    }

    #[tokio::test]
    async fn an_endpoint_that_names_a_time_is_left_alone_until_then() {
        let server = Server::answering(vec![Reply::status(429).header("retry-after", "1"), Reply::ok(CHAIN_ID)]).await;
        let (answer, took) = asked(&server).await;
        assert_eq!(answer.unwrap(), "0x7a69");
        assert!(took >= Duration::from_secs(1), "{took:?}");

        let server = Server::answering(vec![Reply::status(429).header("retry-after", "3600")]).await;
        let refused = asked(&server).await.0.unwrap_err().to_string();
        assert!(refused.contains("429"), "{refused}");
        assert_eq!(server.requests().len(), 1);
    }
}
