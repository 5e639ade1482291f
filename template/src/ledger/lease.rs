//! Who works on which rows: claims are renewed while their process works, and freed when it stops or dies.
//!
//! Claims and waits are on this machine's clock, which may be put back. A row that was changed later than now waits for
//! nothing, and a claim that ends later than any claim made now does not count; a process never takes what it has.

use super::db::ExecuteExt as _;
use super::{Ledger, db_fault, now};
use crate::fault::Result;

/// Seconds after which a claim that nobody renews is free again. Workers renew theirs each minute.
pub(super) const LEASE_SECS: i64 = 300;

impl Ledger {
    /// Keeps the claims of this process, which works on them, and frees those of processes that have died beside it.
    pub async fn renew_leases(&self) -> Result<()> {
        for renew in [
            "UPDATE request SET lease_until = ? WHERE owner = ?",
            "UPDATE challenge SET lease_until = ? WHERE owner = ?",
        ] {
            sqlx::query(renew).bind(now() + LEASE_SECS).bind(self.owner()).run(&self.pool).await?;
        }
        self.release_stale_leases().await
    }

    /// Gives what this process had claimed back untouched: its turn comes again after a restart.
    pub async fn release_leases(&self) -> Result<()> {
        self.free_claims_of(self.owner()).await
    }

    /// Frees what processes had claimed that are dead.
    pub(super) async fn release_stale_leases(&self) -> Result<()> {
        let owners: Vec<String> = sqlx::query_scalar(
            "SELECT owner FROM request WHERE owner IS NOT NULL UNION SELECT owner FROM challenge WHERE owner IS NOT NULL",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(db_fault)?;
        for dead in owners.iter().filter(|owner| !self.owner.is_alive(owner)) {
            self.free_claims_of(dead).await?;
        }
        Ok(())
    }

    async fn free_claims_of(&self, owner: &str) -> Result<()> {
        for free in [
            "UPDATE request SET owner = NULL, lease_until = 0 WHERE owner = ?",
            "UPDATE challenge SET owner = NULL, lease_until = 0 WHERE owner = ?",
        ] {
            sqlx::query(free).bind(owner).run(&self.pool).await?;
        }
        Ok(())
    }
}
