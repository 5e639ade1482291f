//! Inference requests: `seen → inferred → answering → final`, or an end that says why not.

use std::collections::HashMap;

use sqlx::FromRow;

use super::cursor::advance_cursor;
use super::db::ExecuteExt as _;
use super::lease::LEASE_SECS;
use super::{Ledger, ScannedRange, backoff, db_fault, now};
use crate::failpoint::{Step, around};
use crate::fault::{Fault, Result};

/// What identifies a request on one chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// The Consumption contract, `0x…`.
    pub contract: String,
    /// `0x` and 64 hex digits.
    pub id: String,
}

/// A request as the watcher read it.
#[derive(Debug, Clone)]
pub struct NewRequest {
    pub key: RequestKey,
    pub block: u64,
    pub block_hash: String,
    pub reading: Reading,
}

/// What is known of a request when it is first seen.
#[derive(Debug, Clone)]
pub enum Reading {
    Terms(RequestTerms),
    /// The log alone: the contract did not tell what was asked. It is asked again until the deadline.
    Failed {
        consumer: String,
        deadline: u64,
        reason: String,
    },
}

impl NewRequest {
    fn terms(&self) -> (RequestTerms, Option<&str>) {
        match &self.reading {
            Reading::Terms(terms) => (terms.clone(), None),
            Reading::Failed { consumer, deadline, reason } => {
                let terms = RequestTerms {
                    input: String::new(),
                    consumer: consumer.clone(),
                    requested: UNREAD as u64,
                    deadline: *deadline,
                };
                (terms, Some(reason))
            }
        }
    }
}

/// A request as the ledger holds it.
#[derive(Debug, Clone, FromRow)]
pub struct Request {
    pub contract: String,
    pub id: String,
    pub input: String,
    pub consumer: String,
    pub block: i64,
    pub block_hash: String,
    pub requested: i64,
    pub deadline: i64,
    pub state: String,
    pub reason: Option<String>,
    pub model_value: Option<f64>,
    pub circuit_value: Option<f64>,
    pub submitted_value: Option<f64>,
    pub model_digest: Option<String>,
    /// SHA-256 of the witness that the answer came from.
    pub witness: Option<String>,
    pub tries: i64,
}

impl Request {
    pub fn key(&self) -> RequestKey {
        RequestKey { contract: self.contract.clone(), id: self.id.clone() }
    }

    /// False while only its log is known: what was asked is read from the contract before it is answered.
    pub fn is_read(&self) -> bool {
        self.requested != UNREAD
    }
}

/// `requested` of a request whose log is known, and which the contract has not told yet. No chain's clock began so early.
const UNREAD: i64 = 0;

/// What the contract tells of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestTerms {
    pub input: String,
    pub consumer: String,
    /// When it was made, on the chain's clock.
    pub requested: u64,
    /// Until when an answer counts, on the chain's clock.
    pub deadline: u64,
}

/// What an inference leaves behind, with the calls that will carry it to the chain.
#[derive(Debug, Clone)]
pub struct Inferred {
    pub model_value: Option<f64>,
    pub circuit_value: f64,
    pub submitted_value: f64,
    pub model_digest: String,
    /// SHA-256 of the witness.
    pub witness: String,
    pub answer: Vec<u8>,
    pub commitment: Option<Vec<u8>>,
}

/// A request that is new, or that comes from another block than before. One that was `orphaned` is to be worked on again,
/// with its answer if it has one.
const UPSERT_REQUEST: &str = "INSERT INTO request
         (contract, id, input, consumer, block, block_hash, requested, deadline, seen_at, changed_at, reason, state)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9,
         coalesce(?10, iif(?8 < ?11, 'it was first seen after its deadline', NULL)),
         iif(?8 < ?11, 'expired', 'seen'))
     ON CONFLICT (contract, id) DO UPDATE SET
         -- What was read once stays, where it cannot be read again now: the id is the digest of what was asked.
         input = iif(excluded.requested = 0, input, excluded.input),
         requested = iif(excluded.requested = 0, requested, excluded.requested),
         deadline = iif(excluded.requested = 0 AND requested <> 0, deadline, excluded.deadline),
         consumer = excluded.consumer, block = excluded.block, block_hash = excluded.block_hash,
         state = iif(state <> 'orphaned', state,
                     iif(excluded.state = 'seen' AND answer IS NOT NULL, 'inferred', excluded.state)),
         reason = iif(state <> 'orphaned', reason, iif(requested <> 0 AND excluded.requested = 0, NULL, excluded.reason)),
         tries = iif(state <> 'orphaned', tries, 0),
         next_try = iif(state <> 'orphaned', next_try, 0),
         changed_at = excluded.changed_at
     WHERE state = 'orphaned' OR block_hash <> excluded.block_hash";

impl Ledger {
    /// Writes the requests of a range of blocks and that it was read, both or neither. Returns how many are new or come
    /// from another block than before. A request whose deadline has passed at `chain_time` is `expired` from the start.
    pub async fn insert_requests(
        &self,
        read: &ScannedRange<'_>,
        requests: &[NewRequest],
        chain_time: u64,
    ) -> Result<u64> {
        around(Step::RequestSeen, async {
            let mut db = self.begin().await?;
            let mut new = 0;
            for request in requests {
                let (terms, reason) = request.terms();
                new += sqlx::query(UPSERT_REQUEST)
                    .bind(&request.key.contract)
                    .bind(&request.key.id)
                    .bind(&terms.input)
                    .bind(&terms.consumer)
                    .bind(request.block as i64)
                    .bind(&request.block_hash)
                    .bind(terms.requested as i64)
                    .bind(terms.deadline as i64)
                    .bind(now())
                    .bind(reason)
                    .bind(chain_time as i64)
                    .run(&mut *db)
                    .await?;
            }
            advance_cursor(&mut db, read).await?;
            db.commit().await.map_err(db_fault)?;
            Ok(new)
        })
        .await
    }

    /// Which of these requests the ledger has, each with the hash of the block that it comes from.
    pub async fn known_requests(&self, contract: &str, ids: &[String]) -> Result<HashMap<String, String>> {
        let ids = serde_json::Value::from(ids).to_string();
        sqlx::query_as(
            "SELECT id, block_hash FROM request
             WHERE contract = ? AND state <> 'orphaned' AND id IN (SELECT value FROM json_each(?))",
        )
        .bind(contract)
        .bind(ids)
        .fetch_all(&self.pool)
        .await
        .map(|known: Vec<(String, String)>| known.into_iter().collect())
        .map_err(db_fault)
    }

    /// Takes up to `limit` requests to work on, newest first: where time is short the freshest can still be answered.
    pub async fn claim_requests(&self, limit: usize) -> Result<Vec<Request>> {
        sqlx::query_as(
            "UPDATE request SET owner = ?1, lease_until = ?2 + ?3, tries = tries + 1, changed_at = ?2
             WHERE (contract, id) IN (
                 SELECT contract, id FROM request
                 WHERE state = 'seen' AND (next_try <= ?2 OR changed_at > ?2)
                     AND (owner IS NULL OR (owner <> ?1 AND (lease_until <= ?2 OR lease_until > ?2 + ?3)))
                 ORDER BY deadline DESC LIMIT ?4)
             RETURNING *",
        )
        .bind(self.owner())
        .bind(now())
        .bind(LEASE_SECS)
        .bind(limit as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(db_fault)
    }

    /// `seen | inferred → expired`, at once, for all whose deadline has passed at `chain_time`. Returns how many.
    pub async fn expire_requests(&self, chain_time: u64) -> Result<u64> {
        let late = sqlx::query(
            "UPDATE request SET state = 'expired', reason = coalesce(reason, 'no answer was ready before the deadline'),
                 owner = NULL, lease_until = 0, changed_at = ?
             WHERE state IN ('seen', 'inferred') AND deadline < ?",
        )
        .bind(now())
        .bind(chain_time as i64);
        around(Step::RequestExpired, late.run(&self.pool)).await
    }

    /// What the contract has told of a claimed request, of which only the log was known. The row as it is then.
    pub async fn request_read(&self, request: &Request, terms: &RequestTerms) -> Result<Request> {
        let update = sqlx::query_as(
            "UPDATE request SET input = ?, consumer = ?, requested = ?, deadline = ?, reason = NULL, changed_at = ?
             WHERE contract = ? AND id = ? AND state IN ('seen', 'orphaned') AND owner = ? RETURNING *",
        )
        .bind(&terms.input)
        .bind(&terms.consumer)
        .bind(terms.requested as i64)
        .bind(terms.deadline as i64)
        .bind(now())
        .bind(&request.contract)
        .bind(&request.id)
        .bind(self.owner());
        let read =
            around(Step::RequestRead, async { update.fetch_optional(&self.pool).await.map_err(db_fault) }).await?;
        read.ok_or_else(|| Fault::Transient(anyhow::anyhow!("request {} is no longer ours to answer", request.id)))
    }

    /// `seen → inferred`, with everything that sending needs. An `orphaned` request keeps it until it comes back.
    pub async fn mark_inferred(&self, key: &RequestKey, inferred: &Inferred) -> Result<()> {
        let update = sqlx::query(
            "UPDATE request SET state = iif(state = 'seen', 'inferred', state), reason = iif(state = 'seen', NULL, reason),
                 model_value = ?, circuit_value = ?, submitted_value = ?, model_digest = ?, witness = ?, answer = ?,
                 commitment = ?, owner = NULL, lease_until = 0, changed_at = ?
             WHERE contract = ? AND id = ? AND state IN ('seen', 'orphaned') AND owner = ?",
        )
        .bind(inferred.model_value)
        .bind(inferred.circuit_value)
        .bind(inferred.submitted_value)
        .bind(&inferred.model_digest)
        .bind(&inferred.witness)
        .bind(&inferred.answer)
        .bind(&inferred.commitment)
        .bind(now())
        .bind(&key.contract)
        .bind(&key.id)
        .bind(self.owner());
        let moved = around(Step::RequestInferred, update.run(&self.pool)).await?;
        if moved == 0 {
            return Err(Fault::Transient(anyhow::anyhow!("request {} is no longer ours to answer", key.id)));
        }
        Ok(())
    }

    /// Gives a claimed request back: it is tried again after a while (`retry`), or has `failed` for good. One that was
    /// `orphaned` meanwhile stays so.
    pub async fn record_request_failure(&self, request: &Request, fault: &Fault) -> Result<()> {
        let state = if matches!(fault, Fault::Permanent(_)) { "failed" } else { "seen" };
        let update = sqlx::query(
            "UPDATE request SET state = iif(state = 'seen', ?, state), reason = iif(state = 'seen', ?, reason),
                 owner = NULL, lease_until = 0, next_try = ?, changed_at = ?
             WHERE contract = ? AND id = ? AND state IN ('seen', 'orphaned') AND owner = ?",
        )
        .bind(state)
        .bind(fault.to_string())
        .bind(now() + backoff(request.tries))
        .bind(now())
        .bind(&request.contract)
        .bind(&request.id)
        .bind(self.owner());
        around(Step::RequestFault, update.run(&self.pool)).await.map(drop)
    }

    /// One request by its id, whichever contract it came from.
    pub async fn request(&self, id: &str) -> Result<Option<Request>> {
        sqlx::query_as("SELECT * FROM request WHERE id = ?").bind(id).fetch_optional(&self.pool).await.map_err(db_fault)
    }
}
