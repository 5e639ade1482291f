//! How the ledger is written to: one way to begin a transaction, one to run an update, and both say what a failure means.

use sqlx::sqlite::SqliteArguments;
use sqlx::{Executor, Sqlite, Transaction};

use super::{Ledger, db_fault};
use crate::fault::Result;

pub(super) type Update<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

impl Ledger {
    /// Begins a transaction that writes: it waits for its turn at once, not at its first update.
    pub(super) async fn begin(&self) -> Result<Transaction<'_, Sqlite>> {
        self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(db_fault)
    }
}

pub(super) trait ExecuteExt {
    /// Runs an update. Returns how many rows it changed.
    async fn run<'e>(self, db: impl Executor<'e, Database = Sqlite>) -> Result<u64>;
}

impl ExecuteExt for Update<'_> {
    async fn run<'e>(self, db: impl Executor<'e, Database = Sqlite>) -> Result<u64> {
        self.execute(db).await.map(|done| done.rows_affected()).map_err(db_fault)
    }
}
