//! The ledger: what was asked, what was answered, what is on its way. It is the only queue between the stages, so a
//! restart is nothing special: every stage finds its work here, as it was left.
//!
//! Rows are claimed with an owner and a lease, and moved by guarded updates (`UPDATE … WHERE state = … RETURNING`):
//! a row that is no longer where the caller thinks it is stays as it is, and the caller is told.

mod challenge;
mod cursor;
#[cfg(test)]
mod cursor_tests;
mod db;
mod lease;
#[cfg(test)]
mod old_ledger_tests;
mod process_lock;
mod proof_attempt;
#[cfg(test)]
mod proof_attempt_tests;
mod request;
mod retry;
#[cfg(test)]
mod state_machine_tests;
mod status;
#[cfg(test)]
mod tests;
mod tx;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, SqlitePool};

pub use challenge::{Challenge, ChallengeKey, DeliveryChannel, NewChallenge};
pub use cursor::{Block, Gap, Rows, ScannedRange};
pub use proof_attempt::{BegunCanary, ProofOutcome, Refusals};
pub use request::{Inferred, NewRequest, Reading, Request, RequestKey, RequestTerms};
pub use status::{StateCount, Status};
pub use tx::{Attempt, AttemptKind, Mined, NewAttempt, Purpose, SubmissionPolicy, Targets, Tx};

use crate::fault::{Classify as _, Fault, Result};
use crate::machine;
use crate::secure_fs;
use db::ExecuteExt as _;
use process_lock::ProcessLock;

/// The ledger of one modeler on one chain, kept in SQLite.
#[derive(Clone)]
pub struct Ledger {
    pool: SqlitePool,
    owner: std::sync::Arc<ProcessLock>,
}

const MODELER: &str = "modeler";
const CONSUMPTION: &str = "Consumption contract";
const COMPETITION: &str = "Competition contract";

/// Whose ledger it is. Every field must be the same each time it is opened, but for the Consumption contract: the same Competition may
/// name another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub chain_id: u64,
    /// Of a chain that may be made anew under the same id, as a devnet is.
    pub genesis_hash: Option<String>,
    pub competition: String,
    pub consumption: String,
    pub modeler: String,
}

impl Ledger {
    /// Opens `<artifacts>/ledger.sqlite`, making it if it is not there, and frees what dead processes had claimed.
    ///
    /// # Errors
    /// `Fatal` where it cannot be written, or lies on another machine.
    pub async fn open(artifacts: &Path) -> Result<Self> {
        machine::refuse_network(artifacts).fatal()?;
        secure_fs::create_own_folder(artifacts)
            .with_context(|| format!("cannot make the artifacts folder {}", artifacts.display()))
            .fatal()?;
        let path = artifacts.join("ledger.sqlite");
        // SQLite gives its other files the mode of this one.
        secure_fs::ensure_file(&path).with_context(|| format!("cannot write {}", path.display())).fatal()?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(30));
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            // Where SQLite has rolled back by itself (disk full, I/O error), sqlx believes that the transaction goes on, and the
            // connection is of no further use. The ping waits until sqlx has tried its own rollback.
            .after_release(|connection, _| {
                Box::pin(async move {
                    connection.ping().await?;
                    Ok(!connection.is_in_transaction())
                })
            })
            .connect_with(options)
            .await
            .with_context(|| format!("cannot open the ledger {}", path.display()))
            .fatal()?;
        migrate(&pool, &path).await.fatal()?;
        let owner = ProcessLock::register(artifacts)?;
        let ledger = Self { pool, owner: std::sync::Arc::new(owner) };
        ledger.release_stale_leases().await?;
        Ok(ledger)
    }

    /// Writes whose ledger this is, or checks that it is the same as ever.
    pub async fn identify(&self, identity: &Identity) -> Result<()> {
        let chain_id = identity.chain_id.to_string();
        self.check_identity("chain id", &chain_id).await?;
        if let Some(hash) = &identity.genesis_hash {
            self.check_identity("genesis hash", hash).await?;
        }
        self.check_identity(MODELER, &identity.modeler).await?;
        if self.identity(COMPETITION).await?.as_ref() == Some(&identity.competition) {
            self.follow(&identity.consumption).await?;
        }
        self.check_identity(CONSUMPTION, &identity.consumption).await?;
        // Ledgers of 0.1 know of none, and learn it here.
        self.check_identity(COMPETITION, &identity.competition).await
    }

    /// Writes down what this ledger is of, or checks that it is the same as ever.
    async fn check_identity(&self, name: &str, value: &str) -> Result<()> {
        let learnt = sqlx::query("INSERT INTO identity (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING");
        learnt.bind(name).bind(value).run(&self.pool).await?;
        let held = self.identity(name).await?.unwrap_or_default();
        if held != value {
            return Err(Fault::Fatal(anyhow!(
                "this ledger is of another daemon: its {name} is {held}, here it is {value}; set NOVA_ARTIFACTS_PATH to a folder of \
                 its own"
            )));
        }
        Ok(())
    }

    /// From now on requests come from this Consumption contract. What was promised on the one before is sent and proven as ever: its rows
    /// name their contract.
    async fn follow(&self, consumption: &str) -> Result<()> {
        let followed = sqlx::query("UPDATE identity SET value = ?1 WHERE name = ?2 AND value <> ?1");
        if followed.bind(consumption).bind(CONSUMPTION).run(&self.pool).await? > 0 {
            tracing::warn!(
                consumption,
                "the Competition names another Consumption contract than before: its requests are answered now"
            );
        }
        Ok(())
    }

    /// The modeler whose ledger it is, as `identify` wrote it.
    pub async fn modeler(&self) -> Result<Option<String>> {
        self.identity(MODELER).await
    }

    async fn identity(&self, name: &str) -> Result<Option<String>> {
        let held = sqlx::query_scalar("SELECT value FROM identity WHERE name = ?").bind(name);
        held.fetch_optional(&self.pool).await.map_err(db_fault)
    }

    /// True if the ledger can be written to: part of `/readyz`.
    pub async fn writable(&self) -> Result<()> {
        sqlx::query("UPDATE identity SET value = value WHERE name = 'chain id'").run(&self.pool).await.map(drop)
    }

    /// Who claims rows in this process.
    fn owner(&self) -> &str {
        self.owner.name()
    }
}

/// Brings the tables to this version. Who opens a new ledger at the same moment waits, and finds that all is done: sqlx itself
/// would only look first, and then make what another has just made.
async fn migrate(pool: &SqlitePool, path: &Path) -> anyhow::Result<()> {
    let locked = || format!("cannot write to the ledger {}", path.display());
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.with_context(locked)?;
    let done = sqlx::migrate!().run(&mut *transaction).await;
    done.with_context(|| format!("the ledger {} was written by another version", path.display()))?;
    transaction.commit().await.with_context(locked)
}

/// A ledger that is busy or on a full disk may come back; anything else needs a person.
fn db_fault(error: sqlx::Error) -> Fault {
    // SQLite's primary result codes: 5 BUSY, 6 LOCKED, 10 IOERR, 13 FULL.
    let passing = match &error {
        sqlx::Error::Database(database) => database
            .code()
            .and_then(|code| code.parse::<u32>().ok())
            .is_some_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13)),
        sqlx::Error::PoolTimedOut => true,
        _ => false,
    };
    let error = anyhow::Error::new(error).context("the ledger does not answer");
    if passing { Fault::Transient(error) } else { Fault::Fatal(error) }
}

/// Seconds since 1970 on this machine's clock.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// Seconds to wait after the nth try: 1, 2, 4 … at most 32.
fn backoff(tries: i64) -> i64 {
    1 << (tries - 1).clamp(0, 5)
}
