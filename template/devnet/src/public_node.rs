//! A chain of ours behind what public providers put before theirs, so that whoever works on it works on a public one too:
//! nothing but the usual methods, in calls that keep to JSON-RPC's rules, so many requests a second, so many blocks a question for logs, and behind one URL two
//! machines, one of which is some blocks late.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};

use crate::{json_rpc, rpc};

/// What nodes of one's own answer, and public ones do not: what changes them, and what signs with keys that they have.
const PRIVATE: [&str; 9] =
    ["anvil_", "debug_", "eth_accounts", "eth_sendTransaction", "eth_sign", "evm_", "hardhat_", "miner_", "txpool_"];

/// Where a method says which block's state it means, among its parameters.
const STATE_OF: [(&str, usize); 6] = [
    ("eth_call", 1),
    ("eth_estimateGas", 1),
    ("eth_getBalance", 1),
    ("eth_getCode", 1),
    ("eth_getStorageAt", 2),
    ("eth_getTransactionCount", 1),
];

/// What the provider allows, and how well its machines keep up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub requests_per_second: usize,
    /// Blocks in one question for logs.
    pub log_range: u64,
    /// Blocks that the second machine is behind the first.
    pub lag: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests_per_second: 25, log_range: 1_000, lag: 3 }
    }
}

/// A running provider. It stops when this is dropped; its chain is somebody else's.
#[derive(Debug)]
pub struct PublicNode {
    address: SocketAddr,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Provider {
    /// The chain's endpoint.
    upstream: String,
    http: reqwest::Client,
    limits: Limits,
    /// When the requests of the last second came.
    recent: Mutex<VecDeque<Instant>>,
    served: AtomicUsize,
}

/// Why a call got no result: JSON-RPC's object for it.
type Refusal = Value;

fn refusal(code: i64, message: &str) -> Refusal {
    json!({ "code": code, "message": message })
}

impl PublicNode {
    /// Serves the chain at `upstream` on a free port of the loopback.
    pub async fn start(upstream: &str, port: u16, limits: Limits) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.with_context(|| format!("the public node cannot listen on port {port}"))?;
        let address = listener.local_addr()?;
        let provider = Arc::new(Provider {
            upstream: upstream.to_owned(),
            http: rpc::http_client()?,
            limits,
            recent: Mutex::default(),
            served: AtomicUsize::new(0),
        });
        let router = Router::new().route("/", post(answer)).with_state(provider);
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!("the public node stopped: {error}");
            }
        });
        Ok(Self { address, server })
    }

    /// The endpoint.
    pub fn url(&self) -> String {
        rpc::url_of(self.address)
    }
}

impl Drop for PublicNode {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// One call, or several in a list, each of which counts.
async fn answer(State(provider): State<Arc<Provider>>, Json(body): Json<Value>) -> Response {
    let Value::Array(calls) = body else {
        return match provider.call(body).await {
            Some(answer) => Json(answer).into_response(),
            None => too_many(),
        };
    };
    let mut answers = Vec::with_capacity(calls.len());
    for call in calls {
        match provider.call(call).await {
            Some(answer) => answers.push(answer),
            None => return too_many(),
        }
    }
    Json(Value::Array(answers)).into_response()
}

fn too_many() -> Response {
    (StatusCode::TOO_MANY_REQUESTS, "Too many requests, slow down\n").into_response()
}

impl Provider {
    /// Answers a call; nothing where there were too many of them.
    async fn call(&self, call: Value) -> Option<Value> {
        if !self.may_ask() {
            return None;
        }
        let id = call["id"].clone();
        if let Err(rule) = json_rpc::check_call(&call) {
            let error = refusal(json_rpc::INVALID_REQUEST, &format!("Invalid Request: {rule}"));
            return Some(json!({ "jsonrpc": "2.0", "id": id, "error": error }));
        }
        let method = call["method"].as_str().unwrap_or_default().to_owned();
        // Every other call goes to the machine that is late.
        let late = self.served.fetch_add(1, Ordering::Relaxed) % 2 == 1;
        Some(match self.serve(&method, call["params"].clone(), late).await {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(refusal) => json!({ "jsonrpc": "2.0", "id": id, "error": refusal }),
        })
    }

    fn may_ask(&self) -> bool {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while recent.front().is_some_and(|then| now.duration_since(*then) >= Duration::from_secs(1)) {
            recent.pop_front();
        }
        let may = recent.len() < self.limits.requests_per_second;
        if may {
            recent.push_back(now);
        }
        may
    }

    async fn serve(&self, method: &str, params: Value, late: bool) -> Result<Value, Refusal> {
        if PRIVATE.iter().any(|prefix| method.starts_with(prefix)) {
            return Err(refusal(-32601, &format!("the method {method} does not exist/is not available")));
        }
        if matches!(method, "eth_getBlockByNumber" | "eth_getLogs") && params[0].is_null() {
            return Err(refusal(-32602, "missing value for required argument 0"));
        }
        let head = self.head().await?;
        if method == "eth_getLogs" {
            self.check_range(&params, head)?;
        }
        if late {
            return self.serve_late(method, params, head.saturating_sub(self.limits.lag)).await;
        }
        self.pass_on(method, params).await
    }

    /// As a machine answers that knows no block after `head`.
    async fn serve_late(&self, method: &str, mut params: Value, head: u64) -> Result<Value, Refusal> {
        if let Some((_, at)) = STATE_OF.iter().find(|(name, _)| *name == method) {
            if let Some(hash) = params[*at]["blockHash"].as_str() {
                let block = self.pass_on("eth_getBlockByHash", json!([hash, false])).await?;
                if unless_after(head, block, "number").is_null() {
                    return Err(refusal(-32000, "header for hash not found"));
                }
                return self.pass_on(method, params).await;
            }
            let block = block_of(&params[*at], head).min(head);
            if let Some(params) = params.as_array_mut() {
                params.resize(params.len().max(at + 1), Value::Null);
                params[*at] = hex(block);
            }
            return self.pass_on(method, params).await;
        }
        match method {
            "eth_blockNumber" => Ok(hex(head)),
            "eth_getBlockByNumber" => {
                let block = match params[0].as_str() {
                    // Two blocks behind the newest, as on our chain.
                    Some("finalized" | "safe") => head.saturating_sub(2),
                    _ => block_of(&params[0], head),
                };
                if block > head {
                    return Ok(Value::Null);
                }
                params[0] = hex(block);
                self.pass_on(method, params).await
            }
            "eth_getLogs" if params[0]["blockHash"].is_null() => {
                if block_of(&params[0]["fromBlock"], head) > head {
                    return Ok(json!([]));
                }
                // It has no logs of later blocks, and does not say so.
                params[0]["toBlock"] = hex(block_of(&params[0]["toBlock"], head).min(head));
                self.pass_on(method, params).await
            }
            "eth_getTransactionReceipt" | "eth_getTransactionByHash" => {
                Ok(unless_after(head, self.pass_on(method, params).await?, "blockNumber"))
            }
            "eth_getBlockByHash" => Ok(unless_after(head, self.pass_on(method, params).await?, "number")),
            _ => self.pass_on(method, params).await,
        }
    }

    fn check_range(&self, params: &Value, head: u64) -> Result<(), Refusal> {
        let (from, to) = (block_of(&params[0]["fromBlock"], head), block_of(&params[0]["toBlock"], head));
        if to.saturating_sub(from) >= self.limits.log_range {
            return Err(refusal(-32600, &format!("query exceeds the range of {} blocks", self.limits.log_range)));
        }
        Ok(())
    }

    async fn head(&self) -> Result<u64, Refusal> {
        Ok(number_of(&self.pass_on("eth_blockNumber", json!([])).await?).unwrap_or_default())
    }

    async fn pass_on(&self, method: &str, params: Value) -> Result<Value, Refusal> {
        let unreached = |error: reqwest::Error| refusal(-32000, &format!("the chain does not answer: {error}"));
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let answer = self.http.post(&self.upstream).json(&call).send().await.map_err(unreached)?;
        let mut answer: Value = answer.json().await.map_err(unreached)?;
        match answer.get_mut("error") {
            Some(error) => Err(error.take()),
            None => Ok(answer["result"].take()),
        }
    }
}

/// The block that a parameter names: a number, or what stands for the newest.
fn block_of(parameter: &Value, head: u64) -> u64 {
    match parameter.as_str() {
        Some("earliest") => 0,
        _ => number_of(parameter).unwrap_or(head),
    }
}

fn number_of(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}

fn hex(number: u64) -> Value {
    json!(format!("{number:#x}"))
}

/// What is in a block, if the block is not after `head`.
fn unless_after(head: u64, result: Value, block: &str) -> Value {
    if number_of(&result[block]).is_some_and(|number| number > head) { Value::Null } else { result }
}
