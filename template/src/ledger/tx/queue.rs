//! What the stages leave to be sent. Queueing twice adds nothing; what ended without being done is queued again when the
//! stage that wants it says so a second time.

use super::super::db::ExecuteExt as _;
use super::super::{Ledger, db_fault, now};
use crate::failpoint::{Step, around};
use crate::fault::Result;

/// Where calls go that are not the request's own contract.
#[derive(Debug, Clone)]
pub struct Targets {
    pub modeler_contract: String,
    pub registry: Option<String>,
}

/// The end of an INSERT into `tx`: a row that ended without being done begins again.
macro_rules! upsert_failed {
    ($insert:literal) => {
        concat!(
            $insert,
            " ON CONFLICT (key) DO UPDATE SET state = 'queued', reason = NULL, target = excluded.target,
                  calldata = excluded.calldata, deadline = excluded.deadline, tries = 0, next_try = 0,
                  changed_at = excluded.changed_at
              WHERE tx.state = 'fatal'"
        )
    };
}

const COMMITMENTS: &str = upsert_failed!(
    "INSERT INTO tx (key, purpose, contract, request, target, calldata, deadline, queued_at, changed_at)
     SELECT 'commit:' || contract || ':' || id, 'commit', contract, id, ?1, commitment, deadline, ?2, ?2
     FROM request WHERE state = 'inferred' AND commitment IS NOT NULL"
);
const ANSWERS: &str = upsert_failed!(
    "INSERT INTO tx (key, purpose, contract, request, target, calldata, deadline, after, queued_at, changed_at)
     SELECT 'answer:' || contract || ':' || id, 'answer', contract, id, contract, answer, deadline,
            (SELECT key FROM tx WHERE key = 'commit:' || request.contract || ':' || request.id), ?1, ?1
     FROM request WHERE state = 'inferred'"
);
const DELIVERIES: &str = upsert_failed!(
    "INSERT INTO tx (key, purpose, transaction_hash, log_index, target, calldata, queued_at, changed_at)
     SELECT 'deliver:' || transaction_hash || ':' || log_index, iif(route = 'ipfs', 'respond', 'prove'),
            transaction_hash, log_index, iif(route = 'ipfs', coalesce(contract, ?1), asker), delivery, ?2, ?2
     FROM challenge WHERE state = 'uploaded' OR (state = 'proved' AND route = 'chain')"
);
const CLAIM: &str = upsert_failed!(
    "INSERT INTO tx (key, purpose, target, calldata, queued_at, changed_at)
     SELECT 'claim:' || ?1 || ':' || ?2, 'claim', ?1, ?3, ?4, ?4 WHERE true"
);

impl Ledger {
    /// `inferred → answering` for every answer that is ready, each with its transactions. Returns how many.
    pub async fn queue_answers(&self, targets: &Targets) -> Result<u64> {
        if !self.exists("SELECT EXISTS (SELECT 1 FROM request WHERE state = 'inferred')").await? {
            return Ok(0);
        }
        around(Step::AnswerQueued, async {
            let mut db = self.begin().await?;
            if let Some(registry) = &targets.registry {
                sqlx::query(COMMITMENTS).bind(registry).bind(now()).run(&mut *db).await?;
            }
            sqlx::query(ANSWERS).bind(now()).run(&mut *db).await?;
            // A request that a reorg took and gave back may have been answered in between.
            let queued = sqlx::query(
                "UPDATE request SET changed_at = ?, state = iif(
                     (SELECT state FROM tx WHERE key = 'answer:' || contract || ':' || id) = 'final', 'final', 'answering')
                 WHERE state = 'inferred'",
            )
            .bind(now())
            .run(&mut *db).await?;
            db.commit().await.map_err(db_fault)?;
            Ok(queued)
        })
        .await
    }

    /// `proved | uploaded → sending` for every proof whose delivery is ready, each with its transaction.
    pub async fn queue_deliveries(&self, targets: &Targets) -> Result<u64> {
        let ready = "SELECT EXISTS (SELECT 1 FROM challenge WHERE state = 'uploaded' OR (state = 'proved' AND route = 'chain'))";
        if !self.exists(ready).await? {
            return Ok(0);
        }
        around(Step::DeliveryQueued, async {
            let mut db = self.begin().await?;
            sqlx::query(DELIVERIES)
                .bind(&targets.modeler_contract)
                .bind(now())
                .run(&mut *db).await?;
            let queued = sqlx::query(
                "UPDATE challenge SET changed_at = ?, state = iif(
                     (SELECT state FROM tx WHERE key = 'deliver:' || challenge.transaction_hash || ':' || challenge.log_index)
                         = 'final', 'final', 'sending')
                 WHERE state = 'uploaded' OR (state = 'proved' AND route = 'chain')",
            )
            .bind(now())
            .run(&mut *db).await?;
            db.commit().await.map_err(db_fault)?;
            Ok(queued)
        })
        .await
    }

    /// Queues the claim of an epoch's reward. False if that was done before and has not failed.
    pub async fn queue_claim(&self, contract: &str, epoch: u64, calldata: &[u8]) -> Result<bool> {
        around(Step::ClaimQueued, async {
            let queued =
                sqlx::query(CLAIM).bind(contract).bind(epoch as i64).bind(calldata).bind(now()).run(&self.pool).await?;
            Ok(queued > 0)
        })
        .await
    }

    /// The highest epoch of `contract` whose reward was claimed or is being claimed.
    pub async fn last_claim(&self, contract: &str) -> Result<Option<u64>> {
        let prefix = format!("claim:{contract}:");
        sqlx::query_scalar::<_, Option<i64>>(
            "SELECT max(CAST(substr(key, length(?1) + 1) AS INTEGER)) FROM tx
             WHERE purpose = 'claim' AND state <> 'fatal' AND substr(key, 1, length(?1)) = ?1",
        )
        .bind(prefix)
        .fetch_one(&self.pool)
        .await
        .map(|epoch| epoch.map(|n| n as u64))
        .map_err(db_fault)
    }

    /// Queues a transfer to ourselves that takes the free nonce below others, unless one waits already.
    pub async fn queue_nonce_fill(&self, sender: &str, nonce: u64) -> Result<()> {
        around(Step::FillQueued, async {
            sqlx::query(
                "INSERT INTO tx (key, purpose, target, calldata, queued_at, changed_at)
                 SELECT 'fill:' || ?1 || ':' || (SELECT count(*) FROM tx WHERE purpose = 'fill'), 'fill', ?3, x'', ?2, ?2
                 WHERE NOT EXISTS (SELECT 1 FROM tx WHERE purpose = 'fill' AND state = 'queued')",
            )
            .bind(nonce as i64)
            .bind(now())
            .bind(sender)
            .run(&self.pool).await.map(drop)
        })
        .await
    }

    async fn exists(&self, query: &'static str) -> Result<bool> {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.map_err(db_fault)
    }
}
