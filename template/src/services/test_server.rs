//! A real HTTP server on loopback that answers as a test tells it to, in turn, and keeps what it was asked.
//! Its last answer is repeated.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

#[derive(Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Never answers: the connection stays open.
    hangs: bool,
    /// Its body comes a byte now and then, without end.
    drips: bool,
}

impl Reply {
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into(), hangs: false, drips: false }
    }

    pub fn status(status: u16) -> Self {
        Self { status, ..Self::ok("said no") }
    }

    pub fn redirect(to: &str) -> Self {
        Self::status(302).header("location", to)
    }

    pub fn hanging() -> Self {
        Self { hangs: true, ..Self::ok("") }
    }

    pub fn dripping() -> Self {
        Self { drips: true, ..Self::ok("") }
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub authorization: String,
    pub body: Vec<u8>,
}

#[derive(Clone, Default)]
struct Script {
    replies: Arc<Mutex<Vec<Reply>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// Stops when dropped.
pub struct Server {
    address: std::net::SocketAddr,
    script: Script,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub async fn answering(replies: Vec<Reply>) -> Self {
        let script = Script::default();
        *script.replies.lock().unwrap() = replies;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app =
            Router::new().fallback(answer).layer(axum::extract::DefaultBodyLimit::disable()).with_state(script.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, script, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Asked> {
        self.script.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(script): State<Script>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let authorization = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
    script.asked.lock().unwrap().push(Asked {
        path: uri.path().to_string(),
        authorization: authorization.to_string(),
        body: body.to_vec(),
    });
    let reply = {
        let mut replies = script.replies.lock().unwrap();
        match replies.len() {
            0 => Reply::status(500).body("nothing was to be asked"),
            1 => replies[0].clone(),
            _ => replies.remove(0),
        }
    };
    if reply.hangs {
        std::future::pending::<()>().await;
    }
    if reply.drips {
        let byte = async |()| {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            Some((Ok::<_, std::convert::Infallible>(Bytes::from_static(b"x")), ()))
        };
        return Body::from_stream(futures::stream::unfold((), byte)).into_response();
    }
    let mut response = (StatusCode::from_u16(reply.status).unwrap(), reply.body).into_response();
    for (name, value) in reply.headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}
