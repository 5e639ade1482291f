//! What the ledger holds, for people: `nova status`.

use serde::Serialize;
use sqlx::FromRow;

use super::{Ledger, db_fault};
use crate::fault::Result;

/// Everything `nova status` shows.
#[derive(Debug, Serialize)]
pub struct Status {
    pub requests: Vec<RequestSummary>,
    pub challenges: Vec<ChallengeSummary>,
    pub counts: Vec<StateCount>,
}

/// How many rows of a kind are in a state.
#[derive(Debug, Serialize, FromRow)]
pub struct StateCount {
    pub kind: String,
    pub state: String,
    pub rows: i64,
}

/// One request with its answer. Times are unix seconds on the chain's clock.
#[derive(Debug, Serialize, FromRow)]
pub struct RequestSummary {
    pub id: String,
    pub state: String,
    pub reason: Option<String>,
    pub requested: i64,
    pub mined: Option<i64>,
    pub model_value: Option<f64>,
    pub circuit_value: Option<f64>,
    pub submitted_value: Option<f64>,
    pub transaction: Option<String>,
    pub gas_used: Option<i64>,
}

/// One proof request with its delivery.
#[derive(Debug, Serialize, FromRow)]
pub struct ChallengeSummary {
    pub asked_in: String,
    pub route: String,
    pub payload: String,
    pub state: String,
    pub reason: Option<String>,
    pub cid: Option<String>,
    pub transaction: Option<String>,
    pub gas_used: Option<i64>,
}

impl Ledger {
    /// Counts by state, and the newest `limit` requests and challenges.
    pub async fn status(&self, limit: u32) -> Result<Status> {
        let requests = sqlx::query_as(
            "SELECT request.id, request.state, coalesce(request.reason, tx.reason) AS reason, request.requested,
                 tx.mined_time AS mined, request.model_value, request.circuit_value, request.submitted_value,
                 tx.mined_hash AS \"transaction\", tx.gas_used
             FROM request LEFT JOIN tx ON tx.key = 'answer:' || request.contract || ':' || request.id
             ORDER BY request.deadline DESC, request.id LIMIT ?",
        )
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(db_fault)?;
        let challenges = sqlx::query_as(
            "SELECT challenge.transaction_hash AS asked_in, route, payload, challenge.state,
                 coalesce(challenge.reason, tx.reason) AS reason, cid, tx.mined_hash AS \"transaction\", tx.gas_used
             FROM challenge LEFT JOIN tx
                 ON tx.key = 'deliver:' || challenge.transaction_hash || ':' || challenge.log_index
             ORDER BY block DESC, challenge.log_index DESC LIMIT ?",
        )
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(db_fault)?;
        let counts = sqlx::query_as(
            "SELECT 'request' AS kind, state, count(*) AS rows FROM request GROUP BY state
             UNION ALL SELECT 'challenge', state, count(*) FROM challenge GROUP BY state
             UNION ALL SELECT 'transaction', state, count(*) FROM tx GROUP BY state",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(db_fault)?;
        Ok(Status { requests, challenges, counts })
    }
}
