//! Plumber: features of wallets, and uploads to IPFS.

use axum::{
    Router,
    body::Bytes,
    extract::{Path, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use ethers::types::Address;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Shared, ipfs, read};
use crate::{
    fault::{self, Fault},
    features,
};

/// The most wallets in one batch.
const MAX_BATCH: usize = 4_000;

/// Plumber's routes, all of which want the key.
pub fn routes(shared: &Shared) -> Router<Shared> {
    Router::new()
        .route("/api/v1/{wallet}/features", get(features))
        .route("/api/v1/features_batch", post(features_batch))
        .route("/api/v1/ipfs", post(upload))
        .route_layer(middleware::from_fn_with_state(shared.clone(), authorize))
}

async fn authorize(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION);
    let given = given.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if given == Some(shared.0.api_key.as_str()) {
        return next.run(request).await;
    }
    message(StatusCode::UNAUTHORIZED, "Unauthorized")
}

/// `GET /api/v1/{wallet}/features`
async fn features(State(shared): State<Shared>, Path(wallet): Path<String>) -> Response {
    let Ok(address) = wallet.parse::<Address>() else {
        return message(StatusCode::BAD_REQUEST, &format!("`{wallet}` is no wallet"));
    };
    let fault = fault_of(&shared, address);
    if fault == Some(Fault::Unknown) {
        return message(StatusCode::NOT_FOUND, "No data found");
    }
    let mut row = row(&shared, &wallet, address, fault);
    row.extend(shared.0.market.clone());
    answer(fault, row)
}

#[derive(Deserialize)]
struct Batch {
    wallet_addresses: Vec<String>,
}

/// `POST /api/v1/features_batch`
///
/// Wallets that Plumber does not know are left out; a fault of one wallet's whole answer is one of the whole batch.
async fn features_batch(State(shared): State<Shared>, body: Bytes) -> Response {
    let batch: Batch = match serde_json::from_slice(&body) {
        Ok(batch) => batch,
        Err(error) => return message(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    if batch.wallet_addresses.len() > MAX_BATCH {
        return message(StatusCode::BAD_REQUEST, &format!("more than {MAX_BATCH} wallets"));
    }
    let mut rows = Vec::with_capacity(batch.wallet_addresses.len());
    let mut whole = None;
    for wallet in &batch.wallet_addresses {
        let Ok(address) = wallet.parse::<Address>() else {
            return message(StatusCode::BAD_REQUEST, &format!("`{wallet}` is no wallet"));
        };
        let fault = fault_of(&shared, address);
        match fault {
            Some(Fault::Unknown) => continue,
            Some(Fault::Error | Fault::Html | Fault::HalfJson) => whole = fault,
            _ => {}
        }
        rows.push(Value::Object(row(&shared, wallet, address, fault)));
    }
    let mut document = Map::new();
    document.insert("market_data".to_owned(), shared.0.market.clone().into());
    document.insert("wallets_addresses_features".to_owned(), rows.into());
    answer(whole, document)
}

/// `POST /api/v1/ipfs`
async fn upload(State(shared): State<Shared>, body: Bytes) -> Response {
    if body.is_empty() {
        return message(StatusCode::BAD_REQUEST, "the body is empty");
    }
    ipfs::add(&shared, body).into_response()
}

/// A wallet's own features, with its address as it was asked for.
fn row(shared: &Shared, wallet: &str, address: Address, fault: Option<Fault>) -> Map<String, Value> {
    let address = read(&shared.0.likenesses).get(&address).copied().unwrap_or(address);
    let mut row = Map::new();
    row.insert("wallet_address".to_owned(), json!(wallet));
    row.extend(features::wallet(address));
    if let Some(fault) = fault {
        fault.corrupt(&mut row);
    }
    row
}

fn fault_of(shared: &Shared, wallet: Address) -> Option<Fault> {
    read(&shared.0.faults).get(&wallet).copied()
}

/// Writes an answer, unless the fault is one of the whole answer.
fn answer(fault: Option<Fault>, document: Map<String, Value>) -> Response {
    let mut text = fault::to_text(&Value::Object(document));
    match fault {
        Some(Fault::Error) => {
            return message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
        }
        Some(Fault::Html) => {
            let page = "<!DOCTYPE html><html><body><h1>We will be back soon</h1></body></html>";
            return ([(header::CONTENT_TYPE, "text/html")], page).into_response();
        }
        Some(Fault::HalfJson) => text.truncate(text.len() / 2),
        _ => {}
    }
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn message(status: StatusCode, text: &str) -> Response {
    (status, axum::Json(json!({ "message": text }))).into_response()
}
