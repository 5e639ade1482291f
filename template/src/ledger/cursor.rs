//! Where the watchers are on the chain: what each stream of logs has read, what it left for later, and the blocks that
//! were seen, by which a reorg is noticed.

use sqlx::{FromRow, SqliteConnection};

use super::db::ExecuteExt as _;
use super::{Ledger, db_fault, now};
use crate::failpoint::{Step, around};
use crate::fault::{Fault, Result};

/// Below the head, every head that was seen is kept this far, of older ones one in `SPARSE` blocks, until `WINDOW`: hours
/// on Arbitrum, longer than a block there can take to become final.
const DENSE: u64 = 256;
const SPARSE: u64 = 64;
const WINDOW: u64 = 100_000;

/// The answer that the chain held may be what a reorg took.
const REOPEN_ANSWERED: &str =
    "UPDATE request SET state = iif(answer IS NULL, 'seen', 'inferred'), reason = NULL, tries = 0,
         next_try = 0, changed_at = ?1
     WHERE state = 'answered' AND deadline >= ?2";

/// A block as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Block {
    pub number: u64,
    pub hash: String,
}

impl FromRow<'_, sqlx::sqlite::SqliteRow> for Block {
    fn from_row(row: &sqlx::sqlite::SqliteRow) -> sqlx::Result<Self> {
        use sqlx::Row as _;
        Ok(Self { number: row.try_get::<i64, _>("number")? as u64, hash: row.try_get("hash")? })
    }
}

/// Blocks that a stream has still to read; both ends are part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub from: u64,
    pub to: u64,
}

/// Blocks that were read, first to last. Written in one transaction with what was in them.
#[derive(Debug, Clone, Copy)]
pub struct ScannedRange<'a> {
    pub stream: &'a str,
    pub first: u64,
    pub last: u64,
    /// What `Ledger::reorgs` said before they were read.
    pub reorgs: i64,
}

/// What a log becomes a row of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    Requests,
    Challenges,
}

impl Ledger {
    /// The next block to read for `stream`, if any was read before.
    pub async fn cursor(&self, stream: &str) -> Result<Option<u64>> {
        sqlx::query_scalar::<_, i64>("SELECT block FROM cursor WHERE stream = ?")
            .bind(stream)
            .fetch_optional(&self.pool)
            .await
            .map(|block| block.map(|b| b as u64))
            .map_err(db_fault)
    }

    /// What `stream` left for later, the newest part of it.
    pub async fn gap(&self, stream: &str) -> Result<Option<Gap>> {
        sqlx::query_as::<_, (i64, i64)>(
            "SELECT from_block, to_block FROM gap WHERE stream = ? ORDER BY to_block DESC LIMIT 1",
        )
        .bind(stream)
        .fetch_optional(&self.pool)
        .await
        .map(|gap| gap.map(|(from, to)| Gap { from: from as u64, to: to as u64 }))
        .map_err(db_fault)
    }

    /// Moves the cursor of `stream` over a gap, which is left for later. Nothing happens if the cursor is no longer where
    /// the gap begins.
    pub async fn leave_gap(&self, stream: &str, gap: Gap) -> Result<()> {
        around(Step::GapLeft, async {
            let mut db = self.begin().await?;
            let moved = sqlx::query(
                "INSERT INTO cursor (stream, block) VALUES (?1, ?2)
                 ON CONFLICT (stream) DO UPDATE SET block = excluded.block WHERE block = ?3",
            )
            .bind(stream)
            .bind(gap.to as i64 + 1)
            .bind(gap.from as i64)
            .run(&mut *db)
            .await?;
            if moved == 0 {
                return Ok(());
            }
            sqlx::query(
                "INSERT INTO gap (stream, from_block, to_block) VALUES (?, ?, ?)
                 ON CONFLICT (stream, from_block) DO UPDATE SET to_block = max(to_block, excluded.to_block)",
            )
            .bind(stream)
            .bind(gap.from as i64)
            .bind(gap.to as i64)
            .run(&mut *db)
            .await?;
            db.commit().await.map_err(db_fault)
        })
        .await
    }

    /// How many reorgs were noticed so far: who reads blocks keeps it, for `Read`.
    pub async fn reorgs(&self) -> Result<i64> {
        sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM reorg").fetch_one(&self.pool).await.map_err(db_fault)
    }

    /// The newest block that was seen at `height` or below.
    pub async fn newest_block(&self, height: u64) -> Result<Option<Block>> {
        sqlx::query_as("SELECT number, hash FROM block WHERE number <= ? ORDER BY number DESC LIMIT 1")
            .bind(height as i64)
            .fetch_optional(&self.pool)
            .await
            .map_err(db_fault)
    }

    /// The blocks that were seen at `height` or below, lowest first.
    pub async fn blocks(&self, height: u64) -> Result<Vec<Block>> {
        sqlx::query_as("SELECT number, hash FROM block WHERE number <= ? ORDER BY number")
            .bind(height as i64)
            .fetch_all(&self.pool)
            .await
            .map_err(db_fault)
    }

    /// Keeps that these blocks were seen, and of those before them as many as finding a fork needs.
    pub async fn record_blocks(&self, blocks: &[Block]) -> Result<()> {
        let Some(newest) = blocks.iter().map(|block| block.number).max() else { return Ok(()) };
        let mut db = self.begin().await?;
        for block in blocks {
            sqlx::query("INSERT INTO block (number, hash) VALUES (?, ?) ON CONFLICT DO NOTHING")
                .bind(block.number as i64)
                .bind(&block.hash)
                .run(&mut *db)
                .await?;
        }
        sqlx::query(
            "DELETE FROM block WHERE number < ?1 AND number NOT IN (SELECT max(number) FROM block GROUP BY number / ?2)",
        )
        .bind(newest.saturating_sub(DENSE) as i64)
        .bind(SPARSE as i64)
        .run(&mut *db).await?;
        // One at the window's lower end or below it always stays: there may be no other.
        sqlx::query("DELETE FROM block WHERE number < (SELECT max(number) FROM block WHERE number <= ?)")
            .bind(newest.saturating_sub(WINDOW) as i64)
            .run(&mut *db)
            .await?;
        db.commit().await.map_err(db_fault)
    }

    /// The blocks from `first` to `last` that rows of this kind come from which a reorg would concern.
    pub async fn blocks_of(&self, rows: Rows, first: u64, last: u64) -> Result<Vec<Block>> {
        let query = match rows {
            Rows::Requests => {
                "SELECT DISTINCT block AS number, block_hash AS hash FROM request
                 WHERE block BETWEEN ?1 AND ?2 AND state NOT IN ('final', 'orphaned')"
            }
            Rows::Challenges => {
                "SELECT DISTINCT block AS number, block_hash AS hash FROM challenge
                 WHERE block BETWEEN ?1 AND ?2 AND state NOT IN ('final', 'orphaned')"
            }
        };
        sqlx::query_as(query)
            .bind(first as i64)
            .bind(last.min(i64::MAX as u64) as i64)
            .fetch_all(&self.pool)
            .await
            .map_err(db_fault)
    }

    /// The chain forgot `gone`, and everything above `fork` has to be read again: rows of the blocks in `forgotten` are
    /// `orphaned`, all cursors go back, and whether a request is `answered` whose deadline has not passed at `chain_time` is
    /// found out anew. False if another watcher has done it.
    pub async fn rewind(&self, gone: &Block, fork: u64, forgotten: &[Block], chain_time: u64) -> Result<bool> {
        around(Step::ReorgRewound, async {
            let mut db = self.begin().await?;
            let dropped = sqlx::query("DELETE FROM block WHERE number = ? AND hash = ?")
                .bind(gone.number as i64)
                .bind(&gone.hash)
                .run(&mut *db)
                .await?;
            if dropped == 0 {
                return Ok(false);
            }
            orphan(&mut db, forgotten).await?;
            for query in [
                "DELETE FROM block WHERE number > ?1",
                "UPDATE cursor SET block = ?1 + 1 WHERE block > ?1 + 1",
                "INSERT INTO reorg (fork, noticed_at) VALUES (?1, ?2)",
            ] {
                sqlx::query(query).bind(fork as i64).bind(now()).run(&mut *db).await?;
            }
            sqlx::query(REOPEN_ANSWERED).bind(now()).bind(chain_time as i64).run(&mut *db).await?;
            db.commit().await.map_err(db_fault)?;
            Ok(true)
        })
        .await
    }

    /// Rows of blocks that the chain has not (any more) are `orphaned`. The cursors go back to these blocks: what was in
    /// them may be in others now, and is read again even by the successor of a daemon that dies here.
    pub async fn orphan_blocks(&self, forgotten: &[Block]) -> Result<()> {
        let Some(lowest) = forgotten.iter().map(|block| block.number).min() else { return Ok(()) };
        around(Step::ReorgOrphaned, async {
            let mut db = self.begin().await?;
            orphan(&mut db, forgotten).await?;
            sqlx::query("UPDATE cursor SET block = ?1 WHERE block > ?1").bind(lowest as i64).run(&mut *db).await?;
            db.commit().await.map_err(db_fault)
        })
        .await
    }
}

/// `→ orphaned`, but for what is `final`. Whoever works on such a row may finish: what was inferred is kept, for the row
/// may come back.
async fn orphan(db: &mut SqliteConnection, forgotten: &[Block]) -> Result<()> {
    for block in forgotten {
        for query in [
            "UPDATE request SET state = 'orphaned', reason = ?1, changed_at = ?2
             WHERE block = ?3 AND block_hash = ?4 AND state NOT IN ('final', 'orphaned')",
            "UPDATE challenge SET state = 'orphaned', reason = ?1, changed_at = ?2
             WHERE block = ?3 AND block_hash = ?4 AND state NOT IN ('final', 'orphaned')",
        ] {
            sqlx::query(query)
                .bind(format!("its block {} ({}) was reorganised away", block.number, block.hash))
                .bind(now())
                .bind(block.number as i64)
                .bind(&block.hash)
                .run(&mut *db)
                .await?;
        }
    }
    Ok(())
}

/// Inside a transaction that also writes what was read: the cursor moves past the blocks if it was at them, and gaps lose
/// them from their upper end.
///
/// # Errors
/// `Transient` if a reorg was noticed since they were read: they have to be read again.
pub(super) async fn advance_cursor(db: &mut SqliteConnection, read: &ScannedRange<'_>) -> Result<()> {
    let reorgs: i64 =
        sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM reorg").fetch_one(&mut *db).await.map_err(db_fault)?;
    if reorgs != read.reorgs {
        let blocks = format!("blocks {} to {}", read.first, read.last);
        return Err(Fault::Transient(anyhow::anyhow!("the chain was reorganised while {blocks} were read: once more")));
    }
    for query in [
        "INSERT INTO cursor (stream, block) VALUES (?1, ?3 + 1)
         ON CONFLICT (stream) DO UPDATE SET block = excluded.block WHERE block BETWEEN ?2 AND ?3",
        "DELETE FROM gap WHERE stream = ?1 AND from_block >= ?2 AND to_block <= ?3",
        "UPDATE gap SET to_block = ?2 - 1 WHERE stream = ?1 AND from_block < ?2 AND to_block BETWEEN ?2 AND ?3",
    ] {
        sqlx::query(query).bind(read.stream).bind(read.first as i64).bind(read.last as i64).run(&mut *db).await?;
    }
    Ok(())
}
