//! What the ledger holds, read past the daemon: SQLite alone.

use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, FromRow};

use super::project::Project;

/// Everything that the guarantees are about.
#[derive(Debug)]
pub struct Rows {
    pub requests: Vec<RequestRow>,
    pub challenges: Vec<ChallengeRow>,
    pub transactions: Vec<TransactionRow>,
    pub attempts: Vec<AttemptRow>,
    pub proof_attempts: Vec<ProofAttemptRow>,
}

#[derive(Debug, Clone, FromRow)]
pub struct RequestRow {
    pub id: String,
    pub state: String,
    pub reason: Option<String>,
    pub requested: i64,
    pub deadline: i64,
}

#[derive(Debug, Clone, FromRow)]
pub struct ChallengeRow {
    pub transaction_hash: String,
    pub state: String,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, FromRow)]
pub struct TransactionRow {
    pub key: String,
    pub purpose: String,
    pub state: String,
    pub reason: Option<String>,
    pub mined_hash: Option<String>,
}

#[derive(Debug, Clone, FromRow)]
pub struct AttemptRow {
    pub hash: String,
    pub tx: String,
    pub nonce: i64,
    pub state: String,
}

#[derive(Debug, Clone, FromRow)]
pub struct ProofAttemptRow {
    pub request: String,
    pub purpose: String,
    pub outcome: String,
}

impl Project {
    /// The ledger as it is now; `None` while there is none.
    pub async fn rows(&self) -> Option<Rows> {
        let file = self.artifacts().join("ledger.sqlite");
        if !file.is_file() {
            return None;
        }
        let options = SqliteConnectOptions::new().filename(file).read_only(true).busy_timeout(Duration::from_secs(60));
        let mut db = SqliteConnection::connect_with(&options).await.unwrap();
        // One moment for all tables.
        let mut moment = db.begin().await.unwrap();
        let rows = Rows {
            requests: all(
                &mut moment,
                "SELECT id, state, reason, requested, deadline FROM request ORDER BY requested, id",
            )
            .await?,
            challenges: all(&mut moment, "SELECT transaction_hash, state, reason FROM challenge ORDER BY block")
                .await?,
            transactions: all(
                &mut moment,
                "SELECT key, purpose, state, reason, mined_hash FROM tx ORDER BY queued_at, key",
            )
            .await?,
            attempts: all(&mut moment, "SELECT hash, tx, nonce, state FROM attempt ORDER BY nonce").await?,
            proof_attempts: all(&mut moment, "SELECT request, purpose, outcome FROM proof_attempt ORDER BY id").await?,
        };
        moment.rollback().await.unwrap();
        db.close().await.unwrap();
        Some(rows)
    }
}

/// `None` while the tables are not made yet.
async fn all<T>(db: &mut SqliteConnection, query: &'static str) -> Option<Vec<T>>
where
    T: for<'r> FromRow<'r, sqlx::sqlite::SqliteRow> + Send + Unpin,
{
    match sqlx::query_as(query).fetch_all(db).await {
        Ok(rows) => Some(rows),
        Err(sqlx::Error::Database(error)) if error.message().contains("no such table") => None,
        Err(error) => panic!("{query}: {error}"),
    }
}
