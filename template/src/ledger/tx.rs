//! What must happen on chain: `queued → signed → broadcast → mined → final`, or `fatal` with the reason.
//!
//! An attempt's signed bytes are here before any node sees them, and every hash ever signed is kept.

use sqlx::FromRow;

use super::{Ledger, broken, now};
use crate::fault::{Fault, Result};

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
}

/// What the owner lets us send.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    pub answers: bool,
    pub proofs: bool,
}

/// Where calls go that are not the request's own contract.
#[derive(Debug, Clone)]
pub struct Targets {
    pub modeler_contract: String,
    pub registry: Option<String>,
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
    pub mined_block: Option<i64>,
    pub mined_time: Option<i64>,
    pub gas_used: Option<i64>,
    pub tries: i64,
}

impl Tx {
    pub fn purpose(&self) -> Purpose {
        match self.purpose.as_str() {
            "commit" => Purpose::Commit,
            "answer" => Purpose::Answer,
            "respond" => Purpose::Respond,
            _ => Purpose::Prove,
        }
    }
}

/// A signed transaction to be written before it is sent.
#[derive(Debug, Clone)]
pub struct NewAttempt {
    pub hash: String,
    pub sender: String,
    pub nonce: u64,
    pub sequence_id: Option<u64>,
    pub expires: Option<u64>,
    pub raw: Vec<u8>,
    pub max_fee_wei: String,
    pub gas: u64,
}

/// A signed transaction as the ledger holds it.
#[derive(Debug, Clone, FromRow)]
pub struct Attempt {
    pub hash: String,
    pub nonce: i64,
    /// When the MultiSig refuses it, on the chain's clock.
    pub expires: Option<i64>,
    pub raw: Vec<u8>,
}

/// Where and when an attempt was mined.
#[derive(Debug, Clone)]
pub struct Mined {
    pub hash: String,
    pub block: u64,
    /// The block's time, on the chain's clock.
    pub time: u64,
    pub gas_used: u64,
}

impl Ledger {
    /// `inferred → answering` for every answer that is ready, each with its transactions. Returns how many.
    pub async fn queue_answers(&self, targets: &Targets) -> Result<u64> {
        let mut db = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(broken)?;
        if let Some(registry) = &targets.registry {
            sqlx::query(
                "INSERT INTO tx (key, purpose, contract, request, target, calldata, deadline, queued_at, changed_at)
                 SELECT 'commit:' || contract || ':' || id, 'commit', contract, id, ?1, commitment, deadline, ?2, ?2
                 FROM request WHERE state = 'inferred' AND commitment IS NOT NULL ON CONFLICT DO NOTHING",
            )
            .bind(registry)
            .bind(now())
            .execute(&mut *db)
            .await
            .map_err(broken)?;
        }
        sqlx::query(
            "INSERT INTO tx (key, purpose, contract, request, target, calldata, deadline, after, queued_at, changed_at)
             SELECT 'answer:' || contract || ':' || id, 'answer', contract, id, contract, answer, deadline,
                    (SELECT key FROM tx WHERE key = 'commit:' || request.contract || ':' || request.id), ?1, ?1
             FROM request WHERE state = 'inferred' ON CONFLICT DO NOTHING",
        )
        .bind(now())
        .execute(&mut *db)
        .await
        .map_err(broken)?;
        let queued = sqlx::query("UPDATE request SET state = 'answering', changed_at = ? WHERE state = 'inferred'")
            .bind(now())
            .execute(&mut *db)
            .await
            .map_err(broken)?;
        db.commit().await.map_err(broken)?;
        Ok(queued.rows_affected())
    }

    /// `proved | uploaded → sending` for every proof whose delivery is ready, each with its transaction.
    pub async fn queue_deliveries(&self, targets: &Targets) -> Result<u64> {
        let mut db = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(broken)?;
        sqlx::query(
            "INSERT INTO tx (key, purpose, transaction_hash, log_index, target, calldata, queued_at, changed_at)
             SELECT 'deliver:' || transaction_hash || ':' || log_index, iif(route = 'ipfs', 'respond', 'prove'),
                    transaction_hash, log_index, iif(route = 'ipfs', ?1, asker), delivery, ?2, ?2
             FROM challenge WHERE state = 'uploaded' OR (state = 'proved' AND route = 'chain') ON CONFLICT DO NOTHING",
        )
        .bind(&targets.modeler_contract)
        .bind(now())
        .execute(&mut *db)
        .await
        .map_err(broken)?;
        let queued = sqlx::query(
            "UPDATE challenge SET state = 'sending', changed_at = ?
             WHERE state = 'uploaded' OR (state = 'proved' AND route = 'chain')",
        )
        .bind(now())
        .execute(&mut *db)
        .await
        .map_err(broken)?;
        db.commit().await.map_err(broken)?;
        Ok(queued.rows_affected())
    }

    /// Transactions whose turn it is to be signed: answers by deadline, then proofs.
    pub async fn sendable(&self, limit: usize, allowed: Allowed) -> Result<Vec<Tx>> {
        sqlx::query_as(
            "SELECT * FROM tx WHERE state = 'queued' AND next_try <= ?
                 AND iif(purpose IN ('commit', 'answer'), ?, ?)
                 AND (after IS NULL OR (SELECT state FROM tx AS earlier WHERE earlier.key = tx.after) <> 'queued')
             ORDER BY deadline IS NULL, deadline, queued_at, key LIMIT ?",
        )
        .bind(now())
        .bind(allowed.answers)
        .bind(allowed.proofs)
        .bind(limit as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(broken)
    }

    /// Transactions that a node has or should have: `signed`, `broadcast` or `mined`, lowest nonce first.
    pub async fn in_flight(&self) -> Result<Vec<Tx>> {
        sqlx::query_as(
            "SELECT tx.* FROM tx JOIN attempt ON attempt.tx = tx.key AND attempt.state <> 'lost'
             WHERE tx.state IN ('signed', 'broadcast', 'mined') GROUP BY tx.key ORDER BY min(attempt.nonce)",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(broken)
    }

    /// One transaction by its idempotency key.
    pub async fn tx(&self, key: &str) -> Result<Option<Tx>> {
        sqlx::query_as("SELECT * FROM tx WHERE key = ?").bind(key).fetch_optional(&self.pool).await.map_err(broken)
    }

    /// The attempts of a transaction that may be or were mined, newest first.
    pub async fn attempts(&self, key: &str) -> Result<Vec<Attempt>> {
        sqlx::query_as("SELECT * FROM attempt WHERE tx = ? AND state <> 'lost' ORDER BY signed_at DESC, nonce DESC")
            .bind(key)
            .fetch_all(&self.pool)
            .await
            .map_err(broken)
    }

    /// One more than the highest nonce of `sender` that is still of use, if there is any.
    pub async fn next_nonce(&self, sender: &str) -> Result<Option<u64>> {
        self.next("SELECT max(nonce) + 1 FROM attempt WHERE sender = ? AND state <> 'lost'", sender).await
    }

    /// One more than the highest sequence id that `sender` ever signed, if there is any.
    pub async fn next_sequence_id(&self, sender: &str) -> Result<Option<u64>> {
        self.next("SELECT max(sequence_id) + 1 FROM attempt WHERE sender = ?", sender).await
    }

    async fn next(&self, query: &'static str, sender: &str) -> Result<Option<u64>> {
        sqlx::query_scalar::<_, Option<i64>>(query)
            .bind(sender)
            .fetch_one(&self.pool)
            .await
            .map(|next| next.map(|n| n as u64))
            .map_err(broken)
    }

    /// `queued → signed`, with the signed bytes: both are in the ledger before a node sees them.
    pub async fn signed(&self, key: &str, attempt: &NewAttempt) -> Result<()> {
        let mut db = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(broken)?;
        sqlx::query(
            "INSERT INTO attempt (hash, tx, sender, nonce, sequence_id, expires, raw, max_fee_wei, gas, signed_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&attempt.hash)
        .bind(key)
        .bind(&attempt.sender)
        .bind(attempt.nonce as i64)
        .bind(attempt.sequence_id.map(|id| id as i64))
        .bind(attempt.expires.map(|time| time as i64))
        .bind(&attempt.raw)
        .bind(&attempt.max_fee_wei)
        .bind(attempt.gas as i64)
        .bind(now())
        .execute(&mut *db)
        .await
        .map_err(broken)?;
        let moved = sqlx::query("UPDATE tx SET state = 'signed', reason = NULL, tries = tries + 1, changed_at = ? WHERE key = ? AND state = 'queued'")
            .bind(now())
            .bind(key)
            .execute(&mut *db)
            .await
            .map_err(broken)?;
        if moved.rows_affected() == 0 {
            return Err(Fault::Retry(anyhow::anyhow!("transaction {key} is no longer waiting to be signed")));
        }
        db.commit().await.map_err(broken)
    }

    /// `signed → broadcast`: a node has it.
    pub async fn broadcast(&self, key: &str) -> Result<()> {
        sqlx::query("UPDATE tx SET state = 'broadcast', changed_at = ? WHERE key = ? AND state = 'signed'")
            .bind(now())
            .bind(key)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(broken)
    }

    /// `signed | broadcast → mined`.
    pub async fn mined(&self, key: &str, mined: &Mined) -> Result<()> {
        let mut db = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(broken)?;
        sqlx::query(
            "UPDATE tx SET state = 'mined', mined_hash = ?, mined_block = ?, mined_time = ?, gas_used = ?, changed_at = ?
             WHERE key = ? AND state IN ('signed', 'broadcast', 'mined')",
        )
        .bind(&mined.hash)
        .bind(mined.block as i64)
        .bind(mined.time as i64)
        .bind(mined.gas_used as i64)
        .bind(now())
        .bind(key)
        .execute(&mut *db)
        .await
        .map_err(broken)?;
        sqlx::query("UPDATE attempt SET state = iif(hash = ?1, 'mined', 'lost') WHERE tx = ?2")
            .bind(&mined.hash)
            .bind(key)
            .execute(&mut *db)
            .await
            .map_err(broken)?;
        db.commit().await.map_err(broken)
    }

    /// `mined → broadcast`: the chain forgot the block, every attempt is live again.
    pub async fn unmined(&self, key: &str) -> Result<()> {
        let mut db = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(broken)?;
        sqlx::query("UPDATE tx SET state = 'broadcast', changed_at = ? WHERE key = ? AND state = 'mined'")
            .bind(now())
            .bind(key)
            .execute(&mut *db)
            .await
            .map_err(broken)?;
        sqlx::query("UPDATE attempt SET state = 'live' WHERE tx = ?")
            .bind(key)
            .execute(&mut *db)
            .await
            .map_err(broken)?;
        db.commit().await.map_err(broken)
    }

    /// `mined → final`, and with it what the transaction served.
    pub async fn finalized(&self, tx: &Tx) -> Result<()> {
        let mut db = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(broken)?;
        sqlx::query("UPDATE tx SET state = 'final', changed_at = ? WHERE key = ? AND state = 'mined'")
            .bind(now())
            .bind(&tx.key)
            .execute(&mut *db)
            .await
            .map_err(broken)?;
        end_what_it_serves(&mut db, tx, "final", None).await?;
        db.commit().await.map_err(broken)
    }

    /// `signed | broadcast → queued`: what was signed cannot be mined any more, or was mined for nothing.
    pub async fn sign_anew(&self, key: &str, reason: &str) -> Result<()> {
        let mut db = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(broken)?;
        sqlx::query("UPDATE attempt SET state = 'lost' WHERE tx = ?")
            .bind(key)
            .execute(&mut *db)
            .await
            .map_err(broken)?;
        sqlx::query(
            "UPDATE tx SET state = 'queued', reason = ?, changed_at = ? WHERE key = ? AND state IN ('signed', 'broadcast')",
        )
        .bind(reason)
        .bind(now())
        .bind(key)
        .execute(&mut *db)
        .await
        .map_err(broken)?;
        db.commit().await.map_err(broken)
    }

    /// The row stays `queued` and says why; it is tried again after `seconds`.
    pub async fn postpone_tx(&self, key: &str, reason: &str, seconds: i64) -> Result<()> {
        sqlx::query("UPDATE tx SET reason = ?, next_try = ?, tries = tries + 1, changed_at = ? WHERE key = ? AND state = 'queued'")
            .bind(reason)
            .bind(now() + seconds)
            .bind(now())
            .bind(key)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(broken)
    }

    /// `→ fatal`: it will not be sent (again). What it served ends as `end`: `failed`, `answered` or `expired`.
    pub async fn fatal(&self, tx: &Tx, end: &'static str, reason: &str) -> Result<()> {
        let mut db = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(broken)?;
        sqlx::query("UPDATE tx SET state = 'fatal', reason = ?, changed_at = ? WHERE key = ? AND state <> 'final'")
            .bind(reason)
            .bind(now())
            .bind(&tx.key)
            .execute(&mut *db)
            .await
            .map_err(broken)?;
        end_what_it_serves(&mut db, tx, end, Some(reason)).await?;
        db.commit().await.map_err(broken)
    }
}

/// Ends the request or challenge behind a transaction. A commitment's end decides nothing: its answer does.
async fn end_what_it_serves(
    db: &mut sqlx::SqliteConnection,
    tx: &Tx,
    end: &'static str,
    reason: Option<&str>,
) -> Result<()> {
    let update = match tx.purpose() {
        Purpose::Commit => return Ok(()),
        Purpose::Answer => sqlx::query(
            "UPDATE request SET state = ?, reason = ?, changed_at = ? WHERE contract = ? AND id = ? AND state = 'answering'",
        )
        .bind(end)
        .bind(reason)
        .bind(now())
        .bind(&tx.contract)
        .bind(&tx.request),
        Purpose::Respond | Purpose::Prove => sqlx::query(
            "UPDATE challenge SET state = ?, reason = ?, changed_at = ?
             WHERE transaction_hash = ? AND log_index = ? AND state = 'sending'",
        )
        .bind(end)
        .bind(reason)
        .bind(now())
        .bind(&tx.transaction_hash)
        .bind(tx.log_index),
    };
    update.execute(db).await.map(drop).map_err(broken)
}
