//! Signed transactions: written down before a node sees them, and kept for ever.

use std::collections::BTreeSet;

use anyhow::anyhow;
use sqlx::{FromRow, SqliteConnection};

use super::super::db::ExecuteExt as _;
use super::super::{Ledger, db_fault, now};
use crate::failpoint::{Step, around};
use crate::fault::{Fault, Result};

/// What an attempt does on its nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptKind {
    /// What the transaction is for.
    Work,
    /// A transfer to ourselves, so that the work is never done.
    Cancel,
}

/// A signed transaction to be written before it is sent.
#[derive(Debug, Clone)]
pub struct NewAttempt {
    pub hash: String,
    pub kind: AttemptKind,
    pub sender: String,
    pub nonce: u64,
    pub sequence_id: Option<u64>,
    pub expires: Option<u64>,
    pub raw: Vec<u8>,
    pub max_fee_wei: String,
    /// With a gas price of before EIP-1559: that price.
    pub priority_fee_wei: String,
    pub gas: u64,
    /// The newest block's time.
    pub chain_time: u64,
}

/// A signed transaction as the ledger holds it.
#[derive(Debug, Clone, FromRow)]
pub struct Attempt {
    pub hash: String,
    kind: String,
    pub nonce: i64,
    pub sequence_id: Option<i64>,
    /// When the MultiSig refuses it, on the chain's clock.
    pub expires: Option<i64>,
    pub raw: Vec<u8>,
    pub max_fee_wei: String,
    pub priority_fee_wei: String,
    pub gas: i64,
    /// `live`, `mined`, `lost` or `void`.
    pub state: String,
    /// The newest block's time when it was signed.
    pub chain_time: i64,
    pub signed_at: i64,
}

impl Attempt {
    pub fn kind(&self) -> AttemptKind {
        if self.kind == "work" { AttemptKind::Work } else { AttemptKind::Cancel }
    }

    /// True if it may be mined next.
    pub fn is_live(&self) -> bool {
        self.state == "live"
    }

    /// True if it was mined and did not do what it was for.
    pub fn is_ineffective(&self) -> bool {
        self.state == "void"
    }
}

impl Ledger {
    /// Every attempt of a transaction, newest first.
    pub async fn attempts(&self, key: &str) -> Result<Vec<Attempt>> {
        sqlx::query_as("SELECT * FROM attempt WHERE tx = ? ORDER BY rowid DESC")
            .bind(key)
            .fetch_all(&self.pool)
            .await
            .map_err(db_fault)
    }

    /// True if we signed the transaction of this hash.
    pub async fn is_ours(&self, hash: &str) -> Result<bool> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM attempt WHERE hash = ?)")
            .bind(hash)
            .fetch_one(&self.pool)
            .await
            .map_err(db_fault)
    }

    /// The nonces of `sender` from `least` on that are taken by what may be mined, or was and is not final.
    pub async fn reserved_nonces(&self, sender: &str, least: u64) -> Result<BTreeSet<u64>> {
        let nonces: Vec<i64> = sqlx::query_scalar(
            "SELECT DISTINCT nonce FROM attempt JOIN tx ON tx.key = attempt.tx
             WHERE sender = ? AND nonce >= ? AND attempt.state IN ('live', 'mined') AND tx.state NOT IN ('final', 'fatal')",
        )
        .bind(sender)
        .bind(least as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(db_fault)?;
        Ok(nonces.into_iter().map(|nonce| nonce as u64).collect())
    }

    /// One more than the highest sequence id that `sender` ever signed, if there is any.
    pub async fn next_sequence_id(&self, sender: &str) -> Result<Option<u64>> {
        sqlx::query_scalar::<_, Option<i64>>("SELECT max(sequence_id) + 1 FROM attempt WHERE sender = ?")
            .bind(sender)
            .fetch_one(&self.pool)
            .await
            .map(|next| next.map(|n| n as u64))
            .map_err(db_fault)
    }

    /// `queued → signed`, with the signed bytes: both are in the ledger before a node sees them.
    pub async fn mark_signed(&self, key: &str, attempt: &NewAttempt) -> Result<()> {
        around(Step::TxSigned, async {
            let mut db = self.begin().await?;
            insert(&mut db, key, attempt).await?;
            let moved = sqlx::query(
                "UPDATE tx SET state = 'signed', reason = NULL, changed_at = ?
                 WHERE key = ? AND state = 'queued'",
            )
            .bind(now())
            .bind(key)
            .run(&mut *db)
            .await?;
            if moved == 0 {
                return Err(Fault::Transient(anyhow!("transaction {key} is no longer waiting to be signed")));
            }
            db.commit().await.map_err(db_fault)
        })
        .await
    }

    /// Another attempt of a transaction that is in flight, on the same nonce: whichever is mined counts.
    pub async fn mark_replaced(&self, key: &str, attempt: &NewAttempt) -> Result<()> {
        around(Step::TxReplaced, async {
            let mut db = self.begin().await?;
            insert(&mut db, key, attempt).await?;
            let moved = sqlx::query(
                "UPDATE tx SET reason = iif(state = 'cancelling', reason, NULL), changed_at = ?
                 WHERE key = ? AND state IN ('signed', 'broadcast', 'cancelling')",
            )
            .bind(now())
            .bind(key)
            .run(&mut *db)
            .await?;
            if moved == 0 {
                return Err(Fault::Transient(anyhow!("transaction {key} is no longer waiting to be mined")));
            }
            db.commit().await.map_err(db_fault)
        })
        .await
    }

    /// `signed → broadcast`: a node has it.
    pub async fn mark_broadcast(&self, key: &str) -> Result<()> {
        around(Step::TxBroadcast, async {
            sqlx::query(
                "UPDATE tx SET state = 'broadcast', reason = NULL, changed_at = ? WHERE key = ? AND state = 'signed'",
            )
            .bind(now())
            .bind(key)
            .run(&self.pool)
            .await
            .map(drop)
        })
        .await
    }

    /// `signed | broadcast → cancelling`: nobody wants it any more, and a node may have it.
    pub async fn mark_cancelling(&self, key: &str, reason: &str) -> Result<()> {
        around(Step::TxCancelling, async {
            sqlx::query(
                "UPDATE tx SET state = 'cancelling', reason = ?, changed_at = ?
                 WHERE key = ? AND state IN ('signed', 'broadcast')",
            )
            .bind(reason)
            .bind(now())
            .bind(key)
            .run(&self.pool)
            .await
            .map(drop)
        })
        .await
    }

    /// `signed | broadcast → queued`: what was signed cannot be mined any more, as far as anyone can tell. It stays in
    /// view: should it be mined after all, it counts.
    pub async fn requeue(&self, key: &str, reason: &str) -> Result<()> {
        around(Step::TxRequeued, async {
            let mut db = self.begin().await?;
            let moved = sqlx::query(
                "UPDATE tx SET state = 'queued', reason = ?, next_try = 0, changed_at = ?
                 WHERE key = ? AND state IN ('signed', 'broadcast', 'cancelling')",
            )
            .bind(reason)
            .bind(now())
            .bind(key)
            .run(&mut *db)
            .await?;
            if moved == 0 {
                return Ok(());
            }
            supersede_live(&mut db, key).await?;
            db.commit().await.map_err(db_fault)
        })
        .await
    }

    /// `→ queued`: the attempt of this hash was mined and did not do what it was for. It is tried again after `seconds`.
    pub async fn mark_ineffective(&self, key: &str, hash: &str, reason: &str, seconds: i64) -> Result<()> {
        around(Step::TxVoid, async {
            let mut db = self.begin().await?;
            let moved = sqlx::query(
                "UPDATE tx SET state = 'queued', reason = ?, next_try = ?, changed_at = ?
                 WHERE key = ? AND state NOT IN ('final', 'fatal')",
            )
            .bind(reason)
            .bind(now() + seconds)
            .bind(now())
            .bind(key)
            .run(&mut *db)
            .await?;
            if moved == 0 {
                return Ok(());
            }
            supersede_live(&mut db, key).await?;
            sqlx::query("UPDATE attempt SET state = 'void' WHERE hash = ?").bind(hash).run(&mut *db).await?;
            db.commit().await.map_err(db_fault)
        })
        .await
    }
}

/// The same call on the same nonce at the same price has the same bytes: signed again after it was given up, it is live again.
async fn insert(db: &mut SqliteConnection, key: &str, attempt: &NewAttempt) -> Result<()> {
    let written = sqlx::query(
        "INSERT INTO attempt (hash, tx, kind, sender, nonce, sequence_id, expires, raw, max_fee_wei, priority_fee_wei, gas,
             chain_time, signed_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (hash) DO UPDATE SET state = 'live', chain_time = excluded.chain_time, signed_at = excluded.signed_at
             WHERE tx = excluded.tx AND state = 'lost'",
    )
    .bind(&attempt.hash)
    .bind(key)
    .bind(match attempt.kind {
        AttemptKind::Work => "work",
        AttemptKind::Cancel => "cancel",
    })
    .bind(&attempt.sender)
    .bind(attempt.nonce as i64)
    .bind(attempt.sequence_id.map(|id| id as i64))
    .bind(attempt.expires.map(|time| time as i64))
    .bind(&attempt.raw)
    .bind(&attempt.max_fee_wei)
    .bind(&attempt.priority_fee_wei)
    .bind(attempt.gas as i64)
    .bind(attempt.chain_time as i64)
    .bind(now())
    .run(db).await?;
    match written {
        0 => Err(Fault::Transient(anyhow!("{} was signed before, on the nonce {}", attempt.hash, attempt.nonce))),
        _ => Ok(()),
    }
}

async fn supersede_live(db: &mut SqliteConnection, key: &str) -> Result<()> {
    sqlx::query("UPDATE attempt SET state = 'lost' WHERE tx = ? AND state IN ('live', 'mined')")
        .bind(key)
        .run(db)
        .await
        .map(drop)
}
