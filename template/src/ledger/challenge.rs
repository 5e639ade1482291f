//! Proof requests: `asked → proved (→ uploaded) → sending → final`, or `failed` with the reason.

use sqlx::FromRow;

use super::cursor::advance_cursor;
use super::db::{ExecuteExt as _, Update};
use super::lease::LEASE_SECS;
use super::{Ledger, RequestKey, ScannedRange, backoff, db_fault, now};
use crate::failpoint::{Step, around};
use crate::fault::{Fault, Result};

/// The log that asked, which no other log shares.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChallengeKey {
    pub transaction_hash: String,
    pub log_index: u64,
}

/// How a proof reaches who asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryChannel {
    /// `ZKMLChallengeGiven`: upload to IPFS, then `respondToZKMLChallenge(validator, CID)`.
    Ipfs,
    /// `ProofRequested`: `submitProof`, checked by the chain itself.
    Chain,
}

impl DeliveryChannel {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ipfs => "ipfs",
            Self::Chain => "chain",
        }
    }
}

/// A proof request as the watcher read it.
#[derive(Debug, Clone)]
pub struct NewChallenge {
    pub key: ChallengeKey,
    /// Which contract asked, and wants the answer, `0x…`.
    pub contract: String,
    pub route: DeliveryChannel,
    /// The validator (`Route::Ipfs`) or the registry (`Route::Chain`), `0x…`.
    pub requester: String,
    /// A request id, or the CID of a document that names several.
    pub payload: String,
    pub block: u64,
    pub block_hash: String,
}

/// A proof request as the ledger holds it.
#[derive(Debug, Clone, FromRow)]
pub struct Challenge {
    pub transaction_hash: String,
    pub log_index: i64,
    route: String,
    pub asker: String,
    pub payload: String,
    pub state: String,
    pub reason: Option<String>,
    pub cid: Option<String>,
    /// Which contract asked. Versions before 0.2 did not write it down.
    pub contract: Option<String>,
    pub tries: i64,
    seen_at: i64,
}

impl Challenge {
    pub fn key(&self) -> ChallengeKey {
        ChallengeKey { transaction_hash: self.transaction_hash.clone(), log_index: self.log_index as u64 }
    }

    pub fn route(&self) -> DeliveryChannel {
        if self.route == "ipfs" { DeliveryChannel::Ipfs } else { DeliveryChannel::Chain }
    }
}

/// Seconds for which a proof request that cannot be served is tried again.
const RETRY_WINDOW_SECS: i64 = 24 * 60 * 60;
/// Proofs have days where answers have minutes: they are tried again this much more slowly.
const BACKOFF_FACTOR: i64 = 8;

/// A challenge that is new, or that comes from another block than before. One that was `orphaned` goes on where it was. In
/// another block the same place among the logs may be another challenge of the same transaction: then nothing is done yet.
const UPSERT_CHALLENGE: &str = "INSERT INTO challenge
         (transaction_hash, log_index, route, asker, payload, block, block_hash, seen_at, changed_at, contract)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?8, ?8, ?9)
     ON CONFLICT (transaction_hash, log_index) DO UPDATE SET
         block = excluded.block, block_hash = excluded.block_hash,
         state = CASE WHEN (asker, payload) <> (excluded.asker, excluded.payload) THEN 'asked'
                      WHEN state <> 'orphaned' THEN state
                      WHEN cid IS NOT NULL THEN 'uploaded' WHEN delivery IS NOT NULL THEN 'proved' ELSE 'asked' END,
         cid = iif((asker, payload) <> (excluded.asker, excluded.payload), NULL, cid),
         delivery = iif((asker, payload) <> (excluded.asker, excluded.payload), NULL, delivery),
         asker = excluded.asker, payload = excluded.payload,
         reason = iif(state <> 'orphaned', reason, NULL),
         tries = iif(state <> 'orphaned', tries, 0),
         next_try = iif(state <> 'orphaned', next_try, 0),
         seen_at = iif(state <> 'orphaned', seen_at, excluded.seen_at),
         contract = excluded.contract, changed_at = excluded.changed_at
     WHERE state = 'orphaned' OR block_hash <> excluded.block_hash";
/// What waits for this process (`?1`) at this time (`?2`), where a lease lasts so long (`?3`).
macro_rules! waits {
    () => {
        "(next_try <= ?2 OR changed_at > ?2)
             AND (owner IS NULL OR (owner <> ?1 AND (lease_until <= ?2 OR lease_until > ?2 + ?3)))"
    };
}
/// The beginning of a claim: which challenges, and how many, is to follow.
macro_rules! claimed {
    () => {
        "UPDATE challenge SET owner = ?1, lease_until = ?2 + ?3, tries = tries + 1, changed_at = ?2
             WHERE (transaction_hash, log_index) IN (SELECT transaction_hash, log_index FROM challenge WHERE "
    };
}
/// Whether it is known which requests a challenge asks about: its document was read, or it needs none.
macro_rules! is_named {
    () => {
        "(ltrim(payload) LIKE '0x%' OR EXISTS (SELECT 1 FROM challenge_request AS named
             WHERE named.transaction_hash = challenge.transaction_hash AND named.log_index = challenge.log_index))"
    };
}
/// What can be proven, or uploaded.
macro_rules! claimable {
    () => {
        concat!("(state = 'proved' AND route = 'ipfs' OR state = 'asked' AND ", is_named!(), ") AND ", waits!())
    };
}
/// Which requests were named by what stood in this place before.
const CLEAR_REQUESTS: &str = "DELETE FROM challenge_request WHERE transaction_hash = ?1 AND log_index = ?2 AND EXISTS (
         SELECT 1 FROM challenge WHERE challenge.transaction_hash = ?1 AND challenge.log_index = ?2
             AND (asker, payload) <> (?3, ?4))";

impl Ledger {
    /// Writes the challenges of a range of blocks and that it was read, both or neither. Returns how many are new or come
    /// from another block than before.
    pub async fn insert_challenges(&self, read: &ScannedRange<'_>, challenges: &[NewChallenge]) -> Result<u64> {
        around(Step::ChallengeSeen, async {
            let mut db = self.begin().await?;
            let mut new = 0;
            for challenge in challenges {
                sqlx::query(CLEAR_REQUESTS)
                    .bind(&challenge.key.transaction_hash)
                    .bind(challenge.key.log_index as i64)
                    .bind(&challenge.requester)
                    .bind(&challenge.payload)
                    .run(&mut *db)
                    .await?;
                new += sqlx::query(UPSERT_CHALLENGE)
                    .bind(&challenge.key.transaction_hash)
                    .bind(challenge.key.log_index as i64)
                    .bind(challenge.route.as_str())
                    .bind(&challenge.requester)
                    .bind(&challenge.payload)
                    .bind(challenge.block as i64)
                    .bind(&challenge.block_hash)
                    .bind(now())
                    .bind(&challenge.contract)
                    .run(&mut *db)
                    .await?;
            }
            advance_cursor(&mut db, read).await?;
            db.commit().await.map_err(db_fault)?;
            Ok(new)
        })
        .await
    }

    /// Takes a challenge that waits to be proved, or whose proof waits to be uploaded. Of validators' the newest comes first, because the
    /// contract has one place for them and answers only what is there; then what the registry asks for, the oldest first.
    pub async fn claim_challenge(&self) -> Result<Option<Challenge>> {
        self.claim(concat!(
            claimed!(),
            claimable!(),
            " ORDER BY route = 'chain', iif(route = 'ipfs', -block, block), iif(route = 'ipfs', -log_index, log_index) LIMIT 1)
             RETURNING *"
        ))
        .await
    }

    /// True if a challenge waits that `claim_challenge` could take.
    pub async fn has_claimable_challenge(&self) -> Result<bool> {
        sqlx::query_scalar(concat!("SELECT EXISTS (SELECT 1 FROM challenge WHERE ", claimable!(), ")"))
            .bind(self.owner())
            .bind(now())
            .bind(LEASE_SECS)
            .fetch_one(&self.pool)
            .await
            .map_err(db_fault)
    }

    /// Takes the challenge of a validator whose document is to be read; the newest first, as of those that are proven.
    pub async fn claim_document(&self) -> Result<Option<Challenge>> {
        self.claim(concat!(
            claimed!(),
            "state = 'asked' AND ",
            waits!(),
            " AND NOT ",
            is_named!(),
            " ORDER BY block DESC, log_index DESC LIMIT 1) RETURNING *"
        ))
        .await
    }

    async fn claim(&self, one: &'static str) -> Result<Option<Challenge>> {
        let claimed = sqlx::query_as(one).bind(self.owner()).bind(now()).bind(LEASE_SECS);
        claimed.fetch_optional(&self.pool).await.map_err(db_fault)
    }

    /// Keeps which requests the document of a claimed challenge names, and gives the challenge back: it waits for its proofs now.
    pub async fn set_challenge_requests(&self, challenge: &Challenge, requests: &[RequestKey]) -> Result<()> {
        around(Step::ChallengeNamed, async {
            let mut db = self.begin().await?;
            // After a reorg another challenge may stand in its place.
            let given_back = "UPDATE challenge SET owner = NULL, lease_until = 0, tries = 0,
                     reason = iif(state = 'asked', NULL, reason), changed_at = ?
                 WHERE transaction_hash = ? AND log_index = ? AND payload = ? AND state IN ('asked', 'orphaned') AND owner = ?";
            let moved = sqlx::query(given_back)
                .bind(now())
                .bind(&challenge.transaction_hash)
                .bind(challenge.log_index)
                .bind(&challenge.payload)
                .bind(self.owner())
                .run(&mut *db)
                .await?;
            if moved == 0 {
                return Err(Fault::Transient(anyhow::anyhow!("challenge {} is no longer ours", challenge.transaction_hash)));
            }
            for (position, request) in requests.iter().enumerate() {
                sqlx::query("INSERT INTO challenge_request VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
                    .bind(&challenge.transaction_hash)
                    .bind(challenge.log_index)
                    .bind(position as i64)
                    .bind(&request.contract)
                    .bind(&request.id)
                    .run(&mut *db)
                    .await?;
            }
            db.commit().await.map_err(db_fault)
        })
        .await
    }

    /// True if a challenge was followed by one of its kind that says `payload`.
    pub async fn is_superseded(&self, key: &ChallengeKey, payload: &str) -> Result<bool> {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM challenge AS newer, challenge AS own
             WHERE own.transaction_hash = ? AND own.log_index = ? AND newer.route = own.route AND newer.payload = ?
                 AND coalesce(newer.contract = own.contract, true)
                 AND (newer.block, newer.log_index) > (own.block, own.log_index))",
        )
        .bind(&key.transaction_hash)
        .bind(key.log_index as i64)
        .bind(payload)
        .fetch_one(&self.pool)
        .await
        .map_err(db_fault)
    }

    /// True if a validator's challenge in this contract was read that says `payload`.
    pub async fn has_challenge(&self, contract: &str, payload: &str) -> Result<bool> {
        let read = "SELECT EXISTS (SELECT 1 FROM challenge WHERE route = 'ipfs' AND payload = ? AND coalesce(contract = ?, true))";
        sqlx::query_scalar(read).bind(payload).bind(contract).fetch_one(&self.pool).await.map_err(db_fault)
    }

    /// What a challenge says.
    pub async fn payload(&self, key: &ChallengeKey) -> Result<Option<String>> {
        sqlx::query_scalar("SELECT payload FROM challenge WHERE transaction_hash = ? AND log_index = ?")
            .bind(&key.transaction_hash)
            .bind(key.log_index as i64)
            .fetch_optional(&self.pool)
            .await
            .map_err(db_fault)
    }

    /// The requests that a challenge asks about, if they were kept.
    pub async fn challenge_requests(&self, key: &ChallengeKey) -> Result<Vec<String>> {
        sqlx::query_scalar(
            "SELECT request FROM challenge_request WHERE transaction_hash = ? AND log_index = ? ORDER BY position",
        )
        .bind(&key.transaction_hash)
        .bind(key.log_index as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(db_fault)
    }

    /// True if a proof of this request was made before.
    pub async fn is_proven(&self, request: &str) -> Result<bool> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM proof WHERE request = ?)")
            .bind(request)
            .fetch_one(&self.pool)
            .await
            .map_err(db_fault)
    }

    /// Deliveries queued since `since`, in unix seconds, that were sent or are to be: each costs gas.
    pub async fn deliveries_since(&self, since: i64) -> Result<u32> {
        let sent = "SELECT count(*) FROM tx WHERE purpose IN ('respond', 'prove') AND queued_at >= ?
                 AND (state = 'queued' OR EXISTS (SELECT 1 FROM attempt WHERE attempt.tx = tx.key))";
        sqlx::query_scalar(sent).bind(since).fetch_one(&self.pool).await.map_err(db_fault)
    }

    /// Proofs made since `since`, in unix seconds: what `NOVA_MAX_PROOFS_PER_DAY` counts. Canaries are ours, and take nothing from
    /// what others may ask for.
    pub async fn proofs_since(&self, since: i64) -> Result<u32> {
        let asked = "SELECT count(*) FROM proof WHERE proved_at >= ? AND NOT EXISTS (
                 SELECT 1 FROM proof_attempt WHERE proof_attempt.contract = proof.contract
                     AND proof_attempt.request = proof.request AND purpose = 'canary' AND outcome = 'verified')";
        sqlx::query_scalar(asked).bind(since).fetch_one(&self.pool).await.map_err(db_fault)
    }

    /// `asked → proved`: every proof is made and verified. `delivery` is the call that carries it, where that is known.
    pub async fn mark_proved(&self, key: &ChallengeKey, delivery: Option<&[u8]>) -> Result<()> {
        let free = delivery.is_some();
        self.moved(
            Step::ChallengeProved,
            sqlx::query(
                "UPDATE challenge SET state = 'proved', reason = NULL, delivery = ?1, changed_at = ?2,
                     owner = iif(?3, NULL, owner), lease_until = iif(?3, 0, lease_until)
                 WHERE transaction_hash = ?4 AND log_index = ?5 AND state = 'asked' AND owner = ?6",
            )
            .bind(delivery)
            .bind(now())
            .bind(free)
            .bind(&key.transaction_hash)
            .bind(key.log_index as i64)
            .bind(self.owner()),
            key,
        )
        .await
    }

    /// `proved → uploaded`, with the CID and the call that names it.
    pub async fn uploaded(&self, key: &ChallengeKey, cid: &str, delivery: &[u8]) -> Result<()> {
        self.moved(
            Step::ChallengeUploaded,
            sqlx::query(
                "UPDATE challenge SET state = 'uploaded', reason = NULL, cid = ?, delivery = ?, changed_at = ?,
                     owner = NULL, lease_until = 0
                 WHERE transaction_hash = ? AND log_index = ? AND state = 'proved' AND owner = ?",
            )
            .bind(cid)
            .bind(delivery)
            .bind(now())
            .bind(&key.transaction_hash)
            .bind(key.log_index as i64)
            .bind(self.owner()),
            key,
        )
        .await
    }

    async fn moved(&self, kind: Step, update: Update<'_>, key: &ChallengeKey) -> Result<()> {
        match around(kind, update.run(&self.pool)).await? {
            0 => Err(Fault::Transient(anyhow::anyhow!("challenge {} is no longer ours", key.transaction_hash))),
            _ => Ok(()),
        }
    }

    /// Gives a claimed challenge back: it is tried again after a while, or has `failed` for good. What could not be done
    /// in a day (a document that no gateway has) fails too. One that was `orphaned` meanwhile stays so.
    pub async fn record_challenge_failure(&self, challenge: &Challenge, fault: &Fault) -> Result<()> {
        let failed = matches!(fault, Fault::Permanent(_)) || now() - challenge.seen_at > RETRY_WINDOW_SECS;
        let update = sqlx::query(
            "UPDATE challenge SET state = iif(?1 AND state <> 'orphaned', 'failed', state),
                 reason = iif(state <> 'orphaned', ?2, reason), owner = NULL, lease_until = 0, next_try = ?3, changed_at = ?4
             WHERE transaction_hash = ?5 AND log_index = ?6 AND state IN ('asked', 'proved', 'orphaned') AND owner = ?7",
        )
        .bind(failed)
        .bind(fault.to_string())
        .bind(now() + backoff(challenge.tries) * BACKOFF_FACTOR)
        .bind(now())
        .bind(&challenge.transaction_hash)
        .bind(challenge.log_index)
        .bind(self.owner());
        around(Step::ChallengeFault, update.run(&self.pool)).await.map(drop)
    }

    /// Puts off a claimed challenge until `until` (unix seconds), with the reason. Its day begins then.
    pub async fn postpone_challenge(&self, challenge: &Challenge, reason: &str, until: i64) -> Result<()> {
        let update = sqlx::query(
            "UPDATE challenge SET reason = iif(state <> 'orphaned', ?1, reason), owner = NULL, lease_until = 0, next_try = ?2,
                 seen_at = max(seen_at, ?2), tries = tries - 1, changed_at = ?3
             WHERE transaction_hash = ?4 AND log_index = ?5 AND owner = ?6",
        )
        .bind(reason)
        .bind(until)
        .bind(now())
        .bind(&challenge.transaction_hash)
        .bind(challenge.log_index)
        .bind(self.owner());
        around(Step::ChallengePostponed, update.run(&self.pool)).await.map(drop)
    }
}
