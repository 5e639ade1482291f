//! What must happen on chain: `queued → signed → broadcast → mined → final`, or `fatal` with the reason.
//!
//! An attempt's signed bytes are here before any node sees them, and every hash ever signed is kept. This file has the
//! rows and finds them; `queue` adds them, `attempt` signs and replaces, `outcome` takes them to their end.

mod attempt;
mod outcome;
mod queue;
#[cfg(test)]
mod tests;

use sqlx::FromRow;

pub use attempt::{Attempt, AttemptKind, NewAttempt};
pub use outcome::Mined;
pub use queue::Targets;

use super::{ChallengeKey, Ledger, db_fault, now};
use crate::fault::Result;

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `ProofRegistry.commit`, before its answer.
    Commit,
    /// `Consumption.submitInference`.
    Answer,
    /// `Modeler.respondToZKMLChallenge`.
    Respond,
    /// `ProofRegistry.submitProof`.
    Prove,
    /// `Consumption.claimReward`.
    Claim,
    /// A transfer to ourselves on a nonce that was left free below others.
    NonceFill,
}

/// What the owner lets us send.
#[derive(Debug, Clone, Copy)]
pub struct SubmissionPolicy {
    pub answers: bool,
    pub proofs: bool,
}

/// A transaction as the ledger holds it.
#[derive(Debug, Clone, FromRow)]
pub struct Tx {
    pub key: String,
    purpose: String,
    pub contract: Option<String>,
    pub request: Option<String>,
    pub transaction_hash: Option<String>,
    pub log_index: Option<i64>,
    pub target: String,
    pub calldata: Vec<u8>,
    pub deadline: Option<i64>,
    pub state: String,
    pub reason: Option<String>,
    pub mined_hash: Option<String>,
    /// The key of the transaction that goes before it.
    pub after: Option<String>,
    pub mined_block: Option<i64>,
    pub mined_block_hash: Option<String>,
    pub mined_time: Option<i64>,
    pub gas_used: Option<i64>,
    /// How often its call would have reverted, where that counts.
    pub tries: i64,
    pub changed_at: i64,
    /// The state of the request or challenge that it serves.
    pub served: Option<String>,
}

impl Tx {
    pub fn purpose(&self) -> Purpose {
        match self.purpose.as_str() {
            "commit" => Purpose::Commit,
            "answer" => Purpose::Answer,
            "respond" => Purpose::Respond,
            "prove" => Purpose::Prove,
            "claim" => Purpose::Claim,
            _ => Purpose::NonceFill,
        }
    }

    /// The challenge that it delivers a proof to.
    pub fn challenge(&self) -> Option<ChallengeKey> {
        let transaction_hash = self.transaction_hash.clone()?;
        Some(ChallengeKey { transaction_hash, log_index: self.log_index? as u64 })
    }

    /// True if the deadline has passed at `chain_time`.
    pub fn is_late(&self, chain_time: u64) -> bool {
        self.deadline.is_some_and(|deadline| chain_time > deadline as u64)
    }

    /// Why nobody wants it any more; `None` while somebody does.
    pub fn obsolete_reason(&self, chain_time: u64) -> Option<String> {
        let served = self.served.as_deref()?;
        let what = if self.request.is_some() { "request" } else { "proof request" };
        match served {
            "orphaned" => Some(format!("its {what} was reorganised away")),
            "expired" | "answered" | "failed" => Some(format!("its {what} is {served}")),
            _ if self.is_late(chain_time) => Some("the deadline has passed".to_owned()),
            _ => None,
        }
    }
}

/// Transactions, each with the state of what it serves.
macro_rules! select_tx {
    ($rest:literal) => {
        concat!(
            "SELECT tx.*, CASE
                 WHEN tx.request IS NOT NULL THEN
                     (SELECT state FROM request WHERE request.contract = tx.contract AND request.id = tx.request)
                 WHEN tx.transaction_hash IS NOT NULL THEN
                     (SELECT state FROM challenge WHERE challenge.transaction_hash = tx.transaction_hash
                          AND challenge.log_index = tx.log_index)
             END AS served
             FROM tx ",
            $rest
        )
    };
}

impl Ledger {
    /// Transactions whose turn it is to be signed: answers by deadline, then the rest.
    pub async fn sendable(&self, limit: usize, allowed: SubmissionPolicy) -> Result<Vec<Tx>> {
        sqlx::query_as(select_tx!(
            "WHERE tx.state = 'queued' AND (next_try <= ?1 OR tx.changed_at > ?1)
                 AND CASE WHEN purpose IN ('commit', 'answer') THEN ?2 WHEN purpose IN ('respond', 'prove') THEN ?3 ELSE 1 END
                 AND (after IS NULL OR (SELECT state FROM tx AS earlier WHERE earlier.key = tx.after) IN ('mined', 'final', 'fatal'))
             ORDER BY deadline IS NULL, deadline, queued_at, key LIMIT ?4"
        ))
        .bind(now())
        .bind(allowed.answers)
        .bind(allowed.proofs)
        .bind(limit as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(db_fault)
    }

    /// Transactions that a node has, should have, or may still have: `signed`, `broadcast`, `cancelling`, `mined`, and
    /// what is queued again after it was signed. Lowest nonce first.
    pub async fn in_flight(&self) -> Result<Vec<Tx>> {
        sqlx::query_as(select_tx!(
            "WHERE tx.state IN ('queued', 'signed', 'broadcast', 'cancelling', 'mined')
                 AND EXISTS (SELECT 1 FROM attempt WHERE attempt.tx = tx.key)
             ORDER BY (SELECT max(nonce) FROM attempt WHERE attempt.tx = tx.key)"
        ))
        .fetch_all(&self.pool)
        .await
        .map_err(db_fault)
    }

    /// The transfers that wait to take a free nonce.
    pub async fn nonce_fills(&self) -> Result<Vec<Tx>> {
        sqlx::query_as(select_tx!(
            "WHERE tx.purpose = 'fill' AND tx.state = 'queued' AND (next_try <= ?1 OR tx.changed_at > ?1)"
        ))
        .bind(now())
        .fetch_all(&self.pool)
        .await
        .map_err(db_fault)
    }

    /// One transaction by its idempotency key.
    pub async fn tx(&self, key: &str) -> Result<Option<Tx>> {
        sqlx::query_as(select_tx!("WHERE tx.key = ?")).bind(key).fetch_optional(&self.pool).await.map_err(db_fault)
    }
}
