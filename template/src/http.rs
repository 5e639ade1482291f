//! What the daemon tells over HTTP: `/healthz` (the process is alive) and `/readyz` (it can do its work). Nothing can be
//! changed by it, and whoever holds its connections open holds them for seconds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::body::HttpBody as _;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fault::{Classify as _, Result};
use crate::health::Health;

/// Connections at once. Those that come while so many are open wait until one ends.
const MAX_CONNECTIONS: usize = 512;
/// How long a client may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last, from the first byte to the last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(20);
/// The most that is read of a request. More is refused.
const MAX_HEADERS: usize = 16 << 10;
/// How long answers that are under way may take once the daemon stops.
const GRACE: Duration = Duration::from_secs(2);

/// Binds the address and serves it in the background until `stop`.
pub async fn serve(address: SocketAddr, health: Arc<Health>, stop: CancellationToken) -> Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (NOVA_HTTP_ADDRESS)"))
        .fatal()?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving /healthz and /readyz");
    }
    let router = Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .layer(from_fn(without_body))
        .with_state(health);
    tokio::spawn(accept(listener, router, stop));
    Ok(())
}

/// Takes connections until the stop, then lets those finish that are being answered.
async fn accept(listener: TcpListener, router: Router, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let open = GracefulShutdown::new();
    loop {
        let next = async { (room.clone().acquire_owned().await, listener.accept().await) };
        let accepted = tokio::select! {
            accepted = next => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            (Ok(place), Ok((stream, _))) => {
                let connection = open.watch(connection(stream, router.clone()));
                tokio::spawn(async move {
                    // How a client breaks off concerns nobody.
                    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
                    drop(place);
                });
            }
            (_, Err(error)) => {
                tracing::debug!(%error, "cannot take an HTTP connection");
                // Out of file descriptors, most likely: that passes when some are closed, which nobody tells us.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            (Err(_), _) => break,
        }
    }
    drop(listener);
    let _ = timeout(GRACE, open.shutdown()).await;
}

type Connection = http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>>;

/// One request a connection, with limits on the time and size of what comes.
fn connection(stream: TcpStream, router: Router) -> Connection {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}

/// Nobody has anything to send us.
async fn without_body(request: Request, next: Next) -> Response {
    if request.body().size_hint().exact() != Some(0) {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    }
    next.run(request).await
}

/// 200 if every part is fine, else 503; both with the parts by name.
async fn ready(State(health): State<Arc<Health>>) -> (StatusCode, Json<Value>) {
    let report = health.report().await;
    let ready = report.values().all(std::result::Result::is_ok);
    let parts: Value = report
        .into_iter()
        .map(|(part, state)| (part.to_owned(), Value::from(state.err().unwrap_or_else(|| "ok".to_owned()))))
        .collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "parts": parts })))
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
