//! An RPC provider that can misbehave: what it is told to, it does to a request; all else it passes on to the chain. It is
//! strict: a call that breaks a rule of JSON-RPC is refused.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use nova_devnet::json_rpc;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::secrets::RPC_KEY;

/// What the proxy does with a call.
#[derive(Clone, Debug)]
pub enum Act {
    Pass,
    /// Answers with this status and body.
    Say(u16, &'static str),
    /// Passes the call on, and never answers.
    PassInSilence,
    /// Passes the call on with these parameters instead.
    Instead(Value),
}

type Rule = Box<dyn Fn(&str, &Value) -> Act + Send + Sync>;

/// It stops when this is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    server: JoinHandle<()>,
}

struct Shared {
    upstream: String,
    client: reqwest::Client,
    rule: Mutex<Rule>,
    seen: Mutex<Vec<(String, Value)>>,
    /// Calls that broke a rule of JSON-RPC, with the rule.
    invalid: Mutex<Vec<String>>,
}

impl Proxy {
    /// Everything is passed on until `rule` is set.
    pub async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            upstream,
            client: nova_devnet::rpc::http_client().unwrap(),
            rule: Mutex::new(Box::new(|_, _| Act::Pass)),
            seen: Mutex::default(),
            invalid: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { shared, port, server }
    }

    /// One that always says the same.
    pub async fn saying(status: u16, body: &'static str) -> Self {
        let proxy = Self::start(String::new()).await;
        proxy.rule(move |_, _| Act::Say(status, body));
        proxy
    }

    /// From now on this decides, by a call's method and parameters.
    pub fn rule(&self, rule: impl Fn(&str, &Value) -> Act + Send + Sync + 'static) {
        *self.shared.rule.lock().unwrap() = Box::new(rule);
    }

    /// Its URL, with a key in it as Alchemy has it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v2/{RPC_KEY}", self.port)
    }

    /// The parameters of all calls of a method so far.
    pub fn calls(&self, method: &str) -> Vec<Value> {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().filter(|(called, _)| called == method).map(|(_, params)| params.clone()).collect()
    }

    /// The calls that broke a rule of JSON-RPC, and the rule.
    pub fn invalid(&self) -> Vec<String> {
        self.shared.invalid.lock().unwrap().clone()
    }

    /// How many calls there were.
    pub fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let call: Value = serde_json::from_slice(&body).unwrap();
    if let Err(rule) = json_rpc::check_call(&call) {
        shared.invalid.lock().unwrap().push(format!("{call}: {rule}"));
        let error = json!({ "code": json_rpc::INVALID_REQUEST, "message": rule });
        return axum::Json(json!({ "jsonrpc": "2.0", "id": call["id"], "error": error })).into_response();
    }
    let (method, params) = (call["method"].as_str().unwrap().to_owned(), call["params"].clone());
    let act = (shared.rule.lock().unwrap())(&method, &params);
    shared.seen.lock().unwrap().push((method, params));
    match act {
        Act::Say(status, body) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
        Act::Pass => pass_on(&shared, body).await,
        Act::Instead(params) => {
            let mut call = call;
            call["params"] = params;
            pass_on(&shared, call.to_string().into()).await
        }
        Act::PassInSilence => {
            pass_on(&shared, body).await;
            std::future::pending().await
        }
    }
}

async fn pass_on(shared: &Shared, body: Bytes) -> Response {
    let sent = shared.client.post(&shared.upstream).header("content-type", "application/json").body(body);
    let answer = sent.send().await.unwrap();
    (answer.status(), answer.bytes().await.unwrap()).into_response()
}
