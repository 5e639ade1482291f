//! What the daemon tells over HTTP: `/healthz` (the process is alive) and `/readyz` (it can do its work).

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::fault::{Classify as _, Result};
use crate::health::Health;

/// Binds the address and serves it in the background until `stop`.
pub async fn serve(address: SocketAddr, health: Arc<Health>, stop: CancellationToken) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (NOVA_HTTP_ADDRESS)"))
        .stop()?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving /healthz and /readyz");
    }
    let router =
        Router::new().route("/healthz", get(async || "alive\n")).route("/readyz", get(ready)).with_state(health);
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "the HTTP server has ended");
        }
    });
    Ok(())
}

/// 200 if every part is fine, else 503; both with the parts by name.
async fn ready(State(health): State<Arc<Health>>) -> (StatusCode, Json<Value>) {
    let report = health.report().await;
    let ready = report.values().all(Result::is_ok);
    let parts: Value = report
        .into_iter()
        .map(|(part, state)| (part.to_owned(), Value::from(state.err().unwrap_or_else(|| "ok".to_owned()))))
        .collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "parts": parts })))
}
