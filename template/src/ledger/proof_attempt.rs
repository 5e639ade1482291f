//! Attempts to prove: when the last canary was, and which answers cannot be proven. `begun → verified | refused | failed`.

use sqlx::FromRow;

use super::db::ExecuteExt as _;
use super::{Ledger, RequestKey, db_fault, now};
use crate::failpoint::{Step, around};
use crate::fault::Result;

/// The newest answers among which a canary is chosen.
const CANARY_CHOICE: i64 = 100;

/// Why a proof was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(rename_all = "lowercase")]
enum ProofPurpose {
    Asked,
    Canary,
}

/// How an attempt to prove ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(rename_all = "lowercase")]
pub enum ProofOutcome {
    Verified,
    /// EZKL refuses to prove, or its proof does not verify.
    Refused,
    /// It did not come to that: the witness is lost, say.
    Failed,
}

/// A canary that has begun.
#[derive(Debug, Clone, FromRow)]
pub struct BegunCanary {
    id: i64,
    pub contract: String,
    pub request: String,
}

impl BegunCanary {
    fn key(&self) -> RequestKey {
        RequestKey { contract: self.contract.clone(), id: self.request.clone() }
    }
}

/// The answers of a model that were refused a proof since one was last made.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Refusals {
    /// Distinct requests, and the consumers that made them.
    pub requests: i64,
    pub consumers: i64,
    /// The last of the requests, and why its proof was refused. `None` if there is none.
    pub request: Option<String>,
    pub reason: Option<String>,
}

/// What is refused counts from the last proof of that model that was made and verified.
macro_rules! since_the_last_proof {
    () => {
        "proof_attempt.id > (SELECT coalesce(max(id), 0) FROM proof_attempt WHERE model_digest = ?1 AND outcome = 'verified')"
    };
}

/// One of the newest promises of a model that have no proof, unless a canary was begun after `?3`. One that is in the future was
/// written before the clock was put back, and counts for nothing.
const BEGIN: &str = "INSERT INTO proof_attempt (contract, request, model_digest, purpose, outcome, begun_at)
     SELECT contract, id, ?1, 'canary', 'begun', ?2 FROM (
         SELECT contract, id FROM request
         WHERE model_digest = ?1 AND state IN ('answering', 'final')
             AND NOT EXISTS (SELECT 1 FROM proof WHERE proof.contract = request.contract AND proof.request = request.id)
         ORDER BY deadline DESC LIMIT ?4)
     WHERE NOT EXISTS (SELECT 1 FROM proof_attempt WHERE purpose = 'canary' AND begun_at > ?3 AND begun_at <= ?2)
     ORDER BY random() LIMIT 1
     RETURNING id, contract, request";

impl Ledger {
    /// Chooses an answer of this model for a canary and writes down that it has begun, if none has for `interval` seconds: by
    /// whichever process, and whether or not it lived to see the end.
    pub async fn begin_canary(&self, model: &str, interval: i64) -> Result<Option<BegunCanary>> {
        let now = now();
        sqlx::query_as(BEGIN)
            .bind(model)
            .bind(now)
            .bind(now - interval)
            .bind(CANARY_CHOICE)
            .fetch_optional(&self.pool)
            .await
            .map_err(db_fault)
    }

    /// As if it had never begun: it made way for something else.
    pub async fn forget_canary(&self, canary: &BegunCanary) -> Result<()> {
        sqlx::query("DELETE FROM proof_attempt WHERE id = ?").bind(canary.id).run(&self.pool).await.map(drop)
    }

    /// `begun → verified`, and keeps that there is a proof.
    pub async fn canary_verified(&self, canary: &BegunCanary, vk_digest: &str, seconds: f64) -> Result<()> {
        let mut db = self.begin().await?;
        insert_proof(&canary.key(), vk_digest, seconds).run(&mut *db).await?;
        end(canary, ProofOutcome::Verified, None).run(&mut *db).await?;
        db.commit().await.map_err(db_fault)
    }

    /// `begun → refused | failed`, with the reason.
    pub async fn canary_failed(&self, canary: &BegunCanary, outcome: ProofOutcome, reason: &str) -> Result<()> {
        end(canary, outcome, Some(reason)).run(&self.pool).await.map(drop)
    }

    /// Keeps that a proof that was asked for was made and verified.
    pub async fn proof_made(&self, request: &RequestKey, model: &str, vk_digest: &str, seconds: f64) -> Result<()> {
        around(Step::ProofMade, async {
            let mut db = self.begin().await?;
            insert_proof(request, vk_digest, seconds).run(&mut *db).await?;
            insert_asked(request, model, ProofOutcome::Verified, None).run(&mut *db).await?;
            db.commit().await.map_err(db_fault)
        })
        .await
    }

    /// Keeps that EZKL refuses a proof that was asked for.
    pub async fn proof_refused(&self, request: &RequestKey, model: &str, reason: &str) -> Result<()> {
        insert_asked(request, model, ProofOutcome::Refused, Some(reason)).run(&self.pool).await.map(drop)
    }

    /// Why the last canary of this model failed, if it did and no proof has worked since.
    pub async fn canary_trouble(&self, model: &str) -> Result<Option<(String, String)>> {
        let failed = concat!(
            "SELECT request, reason FROM proof_attempt
             WHERE model_digest = ?1 AND purpose = 'canary' AND outcome IN ('refused', 'failed') AND ",
            since_the_last_proof!(),
            " ORDER BY id DESC LIMIT 1"
        );
        sqlx::query_as(failed).bind(model).fetch_optional(&self.pool).await.map_err(db_fault)
    }

    /// True if an attempt to prove an answer of this model has failed, and none has worked since.
    pub async fn has_failed_attempt(&self, model: &str) -> Result<bool> {
        let failed = concat!(
            "SELECT EXISTS (SELECT 1 FROM proof_attempt WHERE model_digest = ?1 AND outcome IN ('refused', 'failed') AND ",
            since_the_last_proof!(),
            ")"
        );
        sqlx::query_scalar(failed).bind(model).fetch_one(&self.pool).await.map_err(db_fault)
    }

    /// What was refused a proof since one of this model was last made, within `window` seconds before the last refusal.
    pub async fn refusals(&self, model: &str, window: i64) -> Result<Refusals> {
        let refusals = concat!(
            "WITH refused AS (SELECT * FROM proof_attempt WHERE model_digest = ?1 AND outcome = 'refused' AND ",
            since_the_last_proof!(),
            "), last AS (SELECT * FROM refused ORDER BY id DESC LIMIT 1)
             SELECT count(DISTINCT refused.request) AS requests, count(DISTINCT request.consumer) AS consumers,
                 (SELECT request FROM last) AS request, (SELECT reason FROM last) AS reason
             FROM refused LEFT JOIN request ON request.contract = refused.contract AND request.id = refused.request
             WHERE refused.ended_at >= (SELECT ended_at FROM last) - ?2"
        );
        sqlx::query_as(refusals).bind(model).bind(window).fetch_one(&self.pool).await.map_err(db_fault)
    }

    /// Tells the rows of requests that wait why they do.
    pub async fn explain_waiting(&self, reason: &str) -> Result<()> {
        let waits = "SELECT EXISTS (SELECT 1 FROM request WHERE state = 'seen' AND owner IS NULL AND reason IS NOT ?1)";
        if !sqlx::query_scalar(waits).bind(reason).fetch_one(&self.pool).await.map_err(db_fault)? {
            return Ok(());
        }
        sqlx::query("UPDATE request SET reason = ?1 WHERE state = 'seen' AND owner IS NULL AND reason IS NOT ?1")
            .bind(reason)
            .run(&self.pool)
            .await
            .map(drop)
    }
}

fn insert_proof<'q>(request: &'q RequestKey, vk_digest: &'q str, seconds: f64) -> super::db::Update<'q> {
    sqlx::query("INSERT INTO proof VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(&request.contract)
        .bind(&request.id)
        .bind(vk_digest)
        .bind(seconds)
        .bind(now())
}

fn insert_asked<'q>(
    request: &'q RequestKey,
    model: &'q str,
    outcome: ProofOutcome,
    reason: Option<&'q str>,
) -> super::db::Update<'q> {
    sqlx::query(
        "INSERT INTO proof_attempt (contract, request, model_digest, purpose, outcome, reason, begun_at, ended_at)
         VALUES (?, ?, ?, ?, ?, ?, ?7, ?7)",
    )
    .bind(&request.contract)
    .bind(&request.id)
    .bind(model)
    .bind(ProofPurpose::Asked)
    .bind(outcome)
    .bind(reason)
    .bind(now())
}

fn end<'q>(canary: &BegunCanary, outcome: ProofOutcome, reason: Option<&'q str>) -> super::db::Update<'q> {
    sqlx::query("UPDATE proof_attempt SET outcome = ?, reason = ?, ended_at = ? WHERE id = ? AND outcome = 'begun'")
        .bind(outcome)
        .bind(reason)
        .bind(now())
        .bind(canary.id)
}
