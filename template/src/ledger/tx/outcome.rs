//! How transactions end, and with them what they serve.

use sqlx::SqliteConnection;

use super::super::db::ExecuteExt as _;
use super::super::{Ledger, db_fault, now};
use super::{Purpose, Tx};
use crate::failpoint::{Step, around};
use crate::fault::Result;

/// Where and when an attempt was mined.
#[derive(Debug, Clone)]
pub struct Mined {
    pub hash: String,
    pub block: u64,
    pub block_hash: String,
    /// The block's time, on the chain's clock.
    pub time: u64,
    pub gas_used: u64,
}

/// Each moves its row only from where it may come from; else nothing happens at all.
impl Ledger {
    /// `→ mined`: an attempt is in a block, be it one that was given up. What else was signed is out of the race.
    pub async fn mark_mined(&self, key: &str, mined: &Mined) -> Result<()> {
        around(Step::TxMined, async {
            let mut db = self.begin().await?;
            let moved = sqlx::query(
                "UPDATE tx SET state = 'mined', mined_hash = ?1, mined_block = ?2, mined_block_hash = ?3, mined_time = ?4,
                     gas_used = ?5, changed_at = ?6,
                     reason = iif((SELECT kind FROM attempt WHERE hash = ?1) = 'work', NULL, reason)
                 WHERE key = ?7 AND state NOT IN ('final', 'fatal')",
            )
            .bind(&mined.hash)
            .bind(mined.block as i64)
            .bind(&mined.block_hash)
            .bind(mined.time as i64)
            .bind(mined.gas_used as i64)
            .bind(now())
            .bind(key)
            .run(&mut *db).await?;
            if moved == 0 {
                return Ok(());
            }
            sqlx::query(
                "UPDATE attempt SET state = iif(hash = ?1, 'mined', 'lost') WHERE tx = ?2 AND (state <> 'void' OR hash = ?1)",
            )
            .bind(&mined.hash)
            .bind(key)
            .run(&mut *db).await?;
            db.commit().await.map_err(db_fault)
        })
        .await
    }

    /// `mined → broadcast | cancelling`: the chain forgot the block. Every attempt on that nonce is live again.
    pub async fn mark_unmined(&self, key: &str) -> Result<()> {
        around(Step::TxUnmined, async {
            let mut db = self.begin().await?;
            let moved = sqlx::query(
                "UPDATE tx SET changed_at = ?1,
                     state = iif(EXISTS (SELECT 1 FROM attempt WHERE tx = ?2 AND kind = 'cancel' AND state <> 'void'
                                     AND nonce = (SELECT nonce FROM attempt WHERE tx = ?2 AND state = 'mined')),
                         'cancelling', 'broadcast'),
                     reason = coalesce(reason, 'the chain forgot its block')
                 WHERE key = ?2 AND state = 'mined'",
            )
            .bind(now())
            .bind(key)
            .run(&mut *db)
            .await?;
            if moved == 0 {
                return Ok(());
            }
            sqlx::query(
                "UPDATE attempt SET state = 'live' WHERE tx = ?1 AND state <> 'void'
                     AND nonce = (SELECT nonce FROM attempt WHERE tx = ?1 AND state = 'mined')",
            )
            .bind(key)
            .run(&mut *db)
            .await?;
            db.commit().await.map_err(db_fault)
        })
        .await
    }

    /// `mined → final`, and with it what the transaction served.
    pub async fn mark_final(&self, tx: &Tx) -> Result<()> {
        around(Step::TxFinal, async {
            let mut db = self.begin().await?;
            let moved = sqlx::query(
                "UPDATE tx SET state = 'final', reason = NULL, changed_at = ? WHERE key = ? AND state = 'mined'",
            )
            .bind(now())
            .bind(&tx.key)
            .run(&mut *db)
            .await?;
            if moved == 0 {
                return Ok(());
            }
            finish_subject(&mut db, tx, "final", None).await?;
            db.commit().await.map_err(db_fault)
        })
        .await
    }

    /// `→ final`: the chain holds already what it was to bring about.
    pub async fn mark_already_done(&self, tx: &Tx, reason: &str) -> Result<()> {
        around(Step::TxDone, async {
            let mut db = self.begin().await?;
            let moved = sqlx::query(
                "UPDATE tx SET state = 'final', reason = ?, changed_at = ? WHERE key = ? AND state NOT IN ('final', 'fatal')",
            )
            .bind(reason)
            .bind(now())
            .bind(&tx.key)
            .run(&mut *db).await?;
            if moved == 0 {
                return Ok(());
            }
            finish_subject(&mut db, tx, "final", Some(reason)).await?;
            db.commit().await.map_err(db_fault)
        })
        .await
    }

    /// The row stays `queued` and says why; it is tried again after `seconds`.
    pub async fn postpone(&self, key: &str, reason: &str, seconds: i64) -> Result<()> {
        self.postpone_by(key, reason, seconds, 0).await
    }

    /// The same, because the call would revert: that is tried so often and no more.
    pub async fn postpone_and_count(&self, key: &str, reason: &str, seconds: i64) -> Result<()> {
        self.postpone_by(key, reason, seconds, 1).await
    }

    async fn postpone_by(&self, key: &str, reason: &str, seconds: i64, tries: i64) -> Result<()> {
        let update = sqlx::query(
            "UPDATE tx SET reason = ?, next_try = ?, tries = tries + ?, changed_at = ? WHERE key = ? AND state = 'queued'",
        )
        .bind(reason)
        .bind(now() + seconds)
        .bind(tries)
        .bind(now())
        .bind(key);
        around(Step::TxPostponed, update.run(&self.pool)).await.map(drop)
    }

    /// What a transaction in flight waits for. Its state stays; that of one that is given up keeps the reason for that.
    pub async fn set_reason(&self, key: &str, reason: &str) -> Result<()> {
        sqlx::query(
            "UPDATE tx SET reason = ?1 WHERE key = ?2 AND state IN ('signed', 'broadcast') AND reason IS NOT ?1",
        )
        .bind(reason)
        .bind(key)
        .run(&self.pool)
        .await
        .map(drop)
    }

    /// `→ fatal`: it will not be sent (again). What it served ends as `end`: `failed`, `answered` or `expired`.
    pub async fn mark_failed(&self, tx: &Tx, end: &'static str, reason: &str) -> Result<()> {
        around(Step::TxFatal, async {
            let mut db = self.begin().await?;
            let moved = sqlx::query("UPDATE tx SET state = 'fatal', reason = ?, changed_at = ? WHERE key = ? AND state NOT IN ('final', 'fatal')")
                .bind(reason)
                .bind(now())
                .bind(&tx.key)
                .run(&mut *db).await?;
            if moved == 0 {
                return Ok(());
            }
            // Should somebody want it again, what was mined has not done it.
            sqlx::query(
                "UPDATE attempt SET state = iif(state = 'mined', 'void', 'lost') WHERE tx = ? AND state IN ('live', 'mined')",
            )
            .bind(&tx.key)
            .run(&mut *db).await?;
            finish_subject(&mut db, tx, end, Some(reason)).await?;
            db.commit().await.map_err(db_fault)
        })
        .await
    }
}

/// Ends the request or challenge behind a transaction. A commitment's end decides nothing: its answer does.
async fn finish_subject(db: &mut SqliteConnection, tx: &Tx, end: &'static str, reason: Option<&str>) -> Result<()> {
    let update = match tx.purpose() {
        Purpose::Commit | Purpose::Claim | Purpose::NonceFill => return Ok(()),
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
    update.run(db).await.map(drop)
}
