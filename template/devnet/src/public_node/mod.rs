//! A chain of ours behind what public providers put before theirs, so that whoever works on it works on a public one too:
//! nothing but the usual methods, in calls that keep to JSON-RPC's rules, so many requests a second, so many blocks a question for logs, and behind one URL two
//! machines, one of which is some blocks late.

mod manners;
mod sequencer;

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
pub use manners::{Finalized, KINDS, Kind, Manners, Pool};
use sequencer::Sequencer;

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
    manners: Manners,
    sequencer: Sequencer,
    /// What was `finalized` when that was first asked for.
    first_finalized: Mutex<Option<Value>>,
    /// Ranges that were refused.
    too_wide: AtomicUsize,
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
    pub async fn start(upstream: &str, port: u16, manners: Manners) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.with_context(|| format!("the public node cannot listen on port {port}"))?;
        let address = listener.local_addr()?;
        let provider = Arc::new(Provider {
            upstream: upstream.to_owned(),
            http: rpc::http_client()?,
            manners,
            sequencer: Sequencer::default(),
            first_finalized: Mutex::default(),
            too_wide: AtomicUsize::new(0),
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
        tokio::time::sleep(self.manners.round_trip).await;
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
        let may = recent.len() < self.manners.requests_per_second;
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
        if method == "eth_sendRawTransaction" {
            return self.send(params).await;
        }
        let head = self.head().await?;
        let known = if late { head.saturating_sub(self.manners.lag) } else { head };
        if method == "eth_getLogs" {
            self.check_range(&params, known)?;
        }
        let params = self.tagged(method, params).await?;
        let result = match late {
            true => self.serve_late(method, params.clone(), known).await?,
            false => self.pass_on(method, params.clone()).await?,
        };
        let is_whole_block = matches!(method, "eth_getBlockByNumber" | "eth_getBlockByHash") && params[1] == true;
        Ok(if is_whole_block && self.manners.odd_transactions { with_odd_transaction(result) } else { result })
    }

    /// The parameters with a block in the place of a tag that means another one here.
    async fn tagged(&self, method: &str, mut params: Value) -> Result<Value, Refusal> {
        if method != "eth_getBlockByNumber" {
            return Ok(params);
        }
        match (params[0].as_str(), self.manners.finalized) {
            (Some("earliest"), _) => params[0] = hex(self.manners.earliest),
            (Some("finalized"), Finalized::Unknown) => return Err(refusal(-39001, "Unknown block")),
            (Some("finalized"), Finalized::Still) => {
                let found = self.pass_on(method, params.clone()).await?["number"].take();
                let mut first = self.first_finalized.lock().unwrap_or_else(PoisonError::into_inner);
                params[0] = first.get_or_insert(found).clone();
            }
            _ => {}
        }
        Ok(params)
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

    /// `head` is that of the machine that answers.
    fn check_range(&self, params: &Value, head: u64) -> Result<(), Refusal> {
        let (from, to) = (block_of(&params[0]["fromBlock"], head), block_of(&params[0]["toBlock"], head));
        if to.saturating_sub(from) >= self.manners.log_range {
            let at = self.too_wide.fetch_add(1, Ordering::Relaxed) % self.manners.range_words.len().max(1);
            let (code, words) =
                self.manners.range_words.get(at).copied().unwrap_or((-32600, "block range is too wide"));
            return Err(refusal(code, &words.replace("{n}", &self.manners.log_range.to_string())));
        }
        if self.manners.refuses_beyond_head && params[0]["blockHash"].is_null() && to > head {
            return Err(refusal(-32602, "block range extends beyond current head block"));
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

/// A block as Arbitrum has it: its first transaction is the chain's own (type 0x6a), without signature and price.
fn with_odd_transaction(mut block: Value) -> Value {
    if block.is_null() {
        return block;
    }
    let (hash, number) = (block["hash"].clone(), block["number"].clone());
    if let Some(transactions) = block["transactions"].as_array_mut() {
        let arbos = "0x00000000000000000000000000000000000a4b05";
        transactions.insert(
            0,
            json!({
                "blockHash": hash, "blockNumber": number, "transactionIndex": "0x0", "type": "0x6a", "chainId": "0xa4b1",
                "hash": format!("0x{}", "6a".repeat(32)), "from": arbos, "to": arbos, "input": "0x6bf6a42d", "nonce": "0x0",
                "gas": "0x0", "gasPrice": "0x0", "value": "0x0", "v": "0x0", "r": "0x0", "s": "0x0",
            }),
        );
    }
    block
}
