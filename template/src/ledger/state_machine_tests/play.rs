//! Plays events on a real ledger and on its reference, and compares the two after each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::anyhow;

use super::events::{Branch, Event, Process, Slot};
use super::invariants::{self, Held};
use super::reference::{Reference, deadline, is_ipfs};
use crate::fault::Fault;
use crate::ledger::{
    Block, ChallengeKey, DeliveryChannel, Inferred, Ledger, NewChallenge, NewRequest, Reading, RequestKey,
    RequestTerms, ScannedRange, Targets,
};

pub const CONTRACT: &str = "0xc0";
pub const SENDER: &str = "0xme";
/// A next try that does not come while a play lasts.
pub const LATER: i64 = 1 << 40;

pub fn request_id(slot: Slot) -> String {
    format!("0x{}", hex::encode([slot; 32]))
}

pub fn challenge_hash(slot: Slot) -> String {
    format!("0xc{slot}")
}

fn request_key(slot: Slot) -> RequestKey {
    RequestKey { contract: CONTRACT.to_owned(), id: request_id(slot) }
}

fn challenge_key(slot: Slot) -> ChallengeKey {
    ChallengeKey { transaction_hash: challenge_hash(slot), log_index: 0 }
}

/// The block of a branch in which all requests are, and the first challenge.
const BLOCK: u64 = 7;

fn block_hash(branch: Branch) -> String {
    format!("0xb10c{branch}")
}

fn seen_request(slot: Slot, branch: Branch, unread: bool) -> NewRequest {
    NewRequest {
        key: request_key(slot),
        block: BLOCK,
        block_hash: block_hash(branch),
        reading: if unread {
            let reason = "the contract does not tell".to_owned();
            Reading::Failed { consumer: "0xconsumer".to_owned(), deadline: deadline(slot), reason }
        } else {
            Reading::Terms(terms(slot))
        },
    }
}

fn terms(slot: Slot) -> RequestTerms {
    RequestTerms {
        input: "0xwallet".to_owned(),
        consumer: "0xconsumer".to_owned(),
        requested: deadline(slot) - 600,
        deadline: deadline(slot),
    }
}

fn seen_challenge(slot: Slot, branch: Branch) -> NewChallenge {
    NewChallenge {
        contract: "0xmodeler".to_owned(),
        key: challenge_key(slot),
        route: if is_ipfs(slot) { DeliveryChannel::Ipfs } else { DeliveryChannel::Chain },
        requester: "0xvalidator".to_owned(),
        payload: request_id(0),
        block: BLOCK + u64::from(slot),
        block_hash: block_hash(branch),
    }
}

fn fault(for_good: bool) -> Fault {
    if for_good { Fault::Permanent(anyhow!("it is wrong")) } else { Fault::Transient(anyhow!("it is down")) }
}

/// Two processes on one ledger, and what it should hold.
pub struct Stage<'a> {
    folder: &'a Path,
    pub processes: Vec<Ledger>,
    pub reference: Reference,
    pub signed: u64,
}

/// The states that were reached: `request seen`, `tx mined`.
pub type Reached = BTreeSet<String>;

/// Plays all events. The error names the event after which something did not hold.
pub async fn play(events: &[Event], reached: &mut Reached) -> Result<(), String> {
    let folder = folder().map_err(|error| error.to_string())?;
    let mut stage = Stage { folder: folder.path(), processes: Vec::new(), reference: Reference::new(), signed: 0 };
    for _ in 0..2 {
        let ledger = stage.open().await?;
        stage.processes.push(ledger);
    }
    let mut held = Held::default();
    for (at, event) in events.iter().enumerate() {
        let told = |reason: String| format!("after event {at}, {event:?}: {reason}");
        stage.happens(event).await.map_err(told)?;
        let now = Held::read(&stage.processes[0].pool).await.map_err(|error| told(error.to_string()))?;
        invariants::same(&stage.reference, &now).map_err(told)?;
        invariants::invariants(&held, &now).map_err(told)?;
        now.reached(reached);
        held = now;
    }
    Ok(())
}

/// In memory where that is to be had: here processes die, and no machines.
fn folder() -> std::io::Result<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

impl Stage<'_> {
    async fn open(&self) -> Result<Ledger, String> {
        Ledger::open(self.folder).await.map_err(|fault| fault.to_string())
    }

    fn owner(&self, process: Process) -> String {
        self.processes[process].owner().to_owned()
    }

    async fn happens(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::ChainTime(seconds) => self.reference.chain_time += seconds,
            Event::NextTries => {
                self.sql("next_try = 0").await?;
                self.reference.next_tries();
            }
            Event::LeasesEnd(process) => self.leases_end(*process).await?,
            Event::Renew(process) => {
                expect(self.processes[*process].renew_leases().await)?;
                self.reference.claims_of(&self.owner(*process), |row| row.lapsed = false);
            }
            Event::Release(process) => {
                expect(self.processes[*process].release_leases().await)?;
                self.reference.claims_of(&self.owner(*process), |row| row.owner = None);
            }
            Event::Crash(process) => self.crash(*process).await?,
            Event::Reorg(branch) => self.reorg(*branch).await?,
            Event::QueueClaim(epoch) => {
                expect(self.processes[0].queue_claim(CONTRACT, *epoch, &[1]).await)?;
                self.reference.queue_claim(*epoch);
            }
            Event::QueueFill => {
                let nonce = self.reference.spent_nonces();
                expect(self.processes[0].queue_nonce_fill(SENDER, nonce).await)?;
                self.reference.queue_fill(nonce);
            }
            Event::See { .. }
            | Event::Claim(..)
            | Event::Infer { .. }
            | Event::RequestFault { .. }
            | Event::Expire
            | Event::QueueAnswers
            | Event::RetryRequest(_) => self.request_event(event).await?,
            Event::Sign(pick) => {
                let sendable = self.sendable().await?;
                if !sendable.is_empty() {
                    self.sign(&sendable[pick.index(sendable.len())]).await?;
                }
            }
            Event::Tx(event, pick) => {
                let keys: Vec<String> = self.reference.txs.keys().cloned().collect();
                if !keys.is_empty() {
                    self.tx_event(*event, &keys[pick.index(keys.len())]).await?;
                }
            }
            _ => self.challenge_event(event).await?,
        }
        Ok(())
    }

    async fn leases_end(&mut self, process: Process) -> Result<(), String> {
        let owner = self.owner(process);
        for table in ["request", "challenge"] {
            let end = sqlx::AssertSqlSafe(format!("UPDATE {table} SET lease_until = 0 WHERE owner = ?"));
            sqlx::query(end).bind(&owner).execute(&self.processes[0].pool).await.map_err(|error| error.to_string())?;
        }
        self.reference.claims_of(&owner, |row| row.lapsed = true);
        Ok(())
    }

    /// The process is gone and its file stays, unlocked, as SIGKILL leaves it. A new one takes its place.
    async fn crash(&mut self, process: Process) -> Result<(), String> {
        let owner = self.owner(process);
        let killed = self.processes.remove(process);
        killed.pool.close().await;
        drop(killed);
        std::fs::write(self.folder.join("owners").join(&owner), "").map_err(|error| error.to_string())?;
        let new = self.open().await?;
        self.processes.insert(process, new);
        self.reference.claims_of(&owner, |row| row.owner = None);
        Ok(())
    }

    /// A branch that was seen is gone. What was read of it before is refused after.
    async fn reorg(&mut self, branch: Branch) -> Result<(), String> {
        let blocks: Vec<_> = (BLOCK..BLOCK + 4).map(|number| Block { number, hash: block_hash(branch) }).collect();
        expect(self.processes[0].record_blocks(&blocks[..1]).await)?;
        let stale = expect(self.processes[0].reorgs().await)?;
        let time = self.reference.chain_time;
        equal("rewound", expect(self.processes[1].rewind(&blocks[0], BLOCK - 1, &blocks, time).await)?, true)?;
        equal("rewound again", expect(self.processes[0].rewind(&blocks[0], BLOCK - 1, &blocks, time).await)?, false)?;
        self.reference.reorg(branch);
        let read = ScannedRange { stream: "requests", first: 0, last: BLOCK, reorgs: stale };
        let written = self.processes[0].insert_requests(&read, &[seen_request(0, branch, false)], 0).await;
        equal("written of a forgotten branch", written.is_ok(), false)
    }

    /// All blocks, as they are now.
    async fn read(&self, stream: &'static str) -> Result<ScannedRange<'static>, String> {
        Ok(ScannedRange { stream, first: 0, last: 99, reorgs: expect(self.processes[0].reorgs().await)? })
    }

    async fn request_event(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::See { requests, branch, unread } => {
                let seen: Vec<_> = requests.iter().map(|slot| seen_request(*slot, *branch, *unread)).collect();
                let read = self.read("requests").await?;
                let new = expect(self.processes[0].insert_requests(&read, &seen, self.reference.chain_time).await)?;
                equal("new requests", new as usize, self.reference.see(requests, *branch))?;
            }
            Event::Claim(process, limit) => {
                let claimed = expect(self.processes[*process].claim_requests(*limit).await)?;
                let mut ids: Vec<_> = claimed.into_iter().map(|request| request.id).collect();
                let mut expected: Vec<_> =
                    self.reference.claim(&self.owner(*process), *limit).into_iter().map(request_id).collect();
                ids.sort();
                expected.sort();
                equal("claimed", ids, expected)?;
            }
            Event::Infer { process, request, commitment } => {
                let request = &self.reference.request_of(&self.owner(*process), *request);
                let inferred = Inferred {
                    model_value: Some(0.5),
                    circuit_value: 0.5,
                    submitted_value: 0.5,
                    model_digest: "d1".to_owned(),
                    witness: "w1".to_owned(),
                    answer: vec![1],
                    commitment: commitment.then(|| vec![2]),
                };
                let row = expect(self.processes[*process].request(&request_id(*request)).await)?;
                if let Some(row) = row.filter(|row| !row.is_read()) {
                    let read = self.processes[*process].request_read(&row, &terms(*request)).await;
                    equal("read", read.is_ok(), self.reference.is_worked_on(&self.owner(*process), *request))?;
                }
                let done = self.processes[*process].mark_inferred(&request_key(*request), &inferred).await;
                equal("inferred", done.is_ok(), self.reference.infer(&self.owner(*process), *request, *commitment))?;
            }
            Event::RequestFault { process, request, for_good } => {
                let request = &self.reference.request_of(&self.owner(*process), *request);
                let Some(row) = expect(self.processes[*process].request(&request_id(*request)).await)? else {
                    return Ok(());
                };
                expect(self.processes[*process].record_request_failure(&row, &fault(*for_good)).await)?;
                self.later().await?;
                self.reference.request_fault(&self.owner(*process), *request, *for_good);
            }
            Event::Expire => {
                expect(self.processes[0].expire_requests(self.reference.chain_time).await)?;
                self.reference.expire();
            }
            Event::QueueAnswers => {
                expect(self.processes[0].queue_answers(&targets()).await)?;
                self.reference.queue_answers();
            }
            Event::RetryRequest(slot) => {
                let retried = expect(self.processes[1].retry(&request_id(*slot)).await)?;
                equal("retried", retried, self.reference.retry_request(*slot))?;
            }
            other => return Err(format!("{other:?} is no event of a request")),
        }
        Ok(())
    }

    async fn challenge_event(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::SeeChallenge(slot, branch) => {
                let seen = [seen_challenge(*slot, *branch), seen_challenge(*slot, *branch)];
                let read = self.read("challenges").await?;
                expect(self.processes[1].insert_challenges(&read, &seen).await)?;
                self.reference.see_challenge(*slot, *branch);
            }
            Event::ClaimChallenge(process) => {
                let claimed = expect(self.processes[*process].claim_challenge().await)?;
                let expected = self.reference.claim_challenge(&self.owner(*process)).map(challenge_hash);
                equal("claimed", claimed.map(|challenge| challenge.transaction_hash), expected)?;
            }
            Event::Prove(process, slot) => {
                let slot = &self.reference.challenge_of(&self.owner(*process), *slot);
                let call = (!is_ipfs(*slot)).then_some(&[7_u8][..]);
                let done = self.processes[*process].mark_proved(&challenge_key(*slot), call).await;
                equal("proved", done.is_ok(), self.reference.prove(&self.owner(*process), *slot))?;
            }
            Event::Upload(process, slot) => {
                let slot = &self.reference.challenge_of(&self.owner(*process), *slot);
                let done = self.processes[*process].uploaded(&challenge_key(*slot), "cid", &[7]).await;
                equal("uploaded", done.is_ok(), self.reference.upload(&self.owner(*process), *slot))?;
            }
            Event::ChallengeFault { process, challenge, for_good } => {
                let challenge = &self.reference.challenge_of(&self.owner(*process), *challenge);
                let Some(row) = self.challenge(*challenge).await? else { return Ok(()) };
                expect(self.processes[*process].record_challenge_failure(&row, &fault(*for_good)).await)?;
                self.later().await?;
                self.reference.challenge_fault(&self.owner(*process), *challenge, *for_good);
            }
            Event::PostponeChallenge(process, slot) => {
                let slot = &self.reference.challenge_of(&self.owner(*process), *slot);
                let Some(row) = self.challenge(*slot).await? else { return Ok(()) };
                expect(self.processes[*process].postpone_challenge(&row, "tomorrow", LATER).await)?;
                self.reference.challenge_fault(&self.owner(*process), *slot, false);
            }
            Event::QueueDeliveries => {
                expect(self.processes[1].queue_deliveries(&targets()).await)?;
                self.reference.queue_deliveries();
            }
            Event::RetryChallenge(slot) => {
                let retried = expect(self.processes[0].retry(&challenge_hash(*slot)).await)?;
                equal("retried", retried, self.reference.retry_challenge(*slot))?;
            }
            other => return Err(format!("{other:?} is no event of a challenge")),
        }
        Ok(())
    }

    async fn challenge(&self, slot: Slot) -> Result<Option<crate::ledger::Challenge>, String> {
        sqlx::query_as("SELECT * FROM challenge WHERE transaction_hash = ?")
            .bind(challenge_hash(slot))
            .fetch_optional(&self.processes[0].pool)
            .await
            .map_err(|error| error.to_string())
    }

    /// What is tried again in a second or so is not, until the play says so.
    async fn later(&self) -> Result<(), String> {
        self.sql(&format!("next_try = iif(next_try = 0, 0, {LATER})")).await
    }

    async fn sql(&self, set: &str) -> Result<(), String> {
        for table in ["request", "challenge", "tx"] {
            sqlx::query(sqlx::AssertSqlSafe(format!("UPDATE {table} SET {set}")))
                .execute(&self.processes[0].pool)
                .await
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

fn targets() -> Targets {
    Targets { modeler_contract: "0x3d".to_owned(), registry: Some("0x4e9".to_owned()) }
}

pub fn expect<T>(outcome: crate::fault::Result<T>) -> Result<T, String> {
    outcome.map_err(|fault| fault.to_string())
}

pub fn equal<T: PartialEq + std::fmt::Debug>(what: &str, ledger: T, reference: T) -> Result<(), String> {
    if ledger == reference { Ok(()) } else { Err(format!("{what}: the ledger {ledger:?}, its model {reference:?}")) }
}

/// Rows of the reference under the names that the ledger has for them.
pub fn named<T>(rows: &BTreeMap<Slot, T>, name: fn(Slot) -> String) -> BTreeMap<String, &T> {
    rows.iter().map(|(slot, row)| (name(*slot), row)).collect()
}

/// The transaction that answers a request.
pub fn answer_key(request: &str) -> String {
    format!("answer:{CONTRACT}:{request}")
}

/// The transaction that delivers a challenge's proofs.
pub fn delivery_key(challenge: &str) -> String {
    format!("deliver:{challenge}:0")
}
