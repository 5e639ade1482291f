//! Pulse, the subscription library: which MultiSig belongs to a wallet.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use ethers::types::Address;
use serde_json::json;

use super::{Shared, read};

/// `GET /getMultiSigAddress/{wallet}`
pub async fn multisig_address(State(shared): State<Shared>, Path(wallet): Path<String>) -> Response {
    let Ok(wallet) = wallet.parse::<Address>() else {
        let reason = format!("`{wallet}` is no wallet");
        return (StatusCode::BAD_REQUEST, Json(json!({ "message": reason }))).into_response();
    };
    match read(&shared.0.multisigs).get(&wallet) {
        Some(multisig) => Json(json!([{ "contract_address": format!("{multisig:?}") }])).into_response(),
        None => Json(json!({ "message": "No data found" })).into_response(),
    }
}
