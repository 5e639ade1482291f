//! What must hold after every event, read from the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use sqlx::{FromRow, SqlitePool};

use super::play::{Reached, answer_key, challenge_hash, delivery_key, named, request_id};
use super::reference::Reference;

/// All that the ledger holds, by key.
#[derive(Debug, Default)]
pub struct Held {
    requests: BTreeMap<String, Row>,
    challenges: BTreeMap<String, Row>,
    txs: BTreeMap<String, Tx>,
    attempts: BTreeMap<String, Attempt>,
}

#[derive(Debug, FromRow)]
struct Row {
    id: String,
    state: String,
    owner: Option<String>,
    has_call: bool,
}

#[derive(Debug, FromRow)]
struct Tx {
    key: String,
    state: String,
    mined_hash: Option<String>,
}

#[derive(Debug, FromRow)]
struct Attempt {
    hash: String,
    tx: String,
    state: String,
}

impl Held {
    pub async fn read(pool: &SqlitePool) -> sqlx::Result<Self> {
        const REQUESTS: &str = "SELECT id, state, owner, answer IS NOT NULL AS has_call FROM request";
        const CHALLENGES: &str =
            "SELECT transaction_hash AS id, state, owner, delivery IS NOT NULL AS has_call FROM challenge";
        let requests: Vec<Row> = sqlx::query_as(REQUESTS).fetch_all(pool).await?;
        let challenges: Vec<Row> = sqlx::query_as(CHALLENGES).fetch_all(pool).await?;
        let txs: Vec<Tx> = sqlx::query_as("SELECT key, state, mined_hash FROM tx").fetch_all(pool).await?;
        let attempts: Vec<Attempt> = sqlx::query_as("SELECT hash, tx, state FROM attempt").fetch_all(pool).await?;
        Ok(Self {
            requests: requests.into_iter().map(|row| (row.id.clone(), row)).collect(),
            challenges: challenges.into_iter().map(|row| (row.id.clone(), row)).collect(),
            txs: txs.into_iter().map(|tx| (tx.key.clone(), tx)).collect(),
            attempts: attempts.into_iter().map(|attempt| (attempt.hash.clone(), attempt)).collect(),
        })
    }

    /// Adds the states that its rows are in.
    pub fn reached(&self, reached: &mut Reached) {
        reached.extend(self.requests.values().map(|row| format!("request {}", row.state)));
        reached.extend(self.challenges.values().map(|row| format!("challenge {}", row.state)));
        reached.extend(self.txs.values().map(|tx| format!("tx {}", tx.state)));
        reached.extend(self.attempts.values().map(|attempt| format!("attempt {}", attempt.state)));
    }

    fn attempts_of(&self, tx: &str, state: &str) -> impl Iterator<Item = &Attempt> {
        self.attempts.values().filter(move |attempt| attempt.tx == tx && attempt.state == state)
    }
}

/// The ledger is where its reference is: the same rows, states, owners and hashes.
pub fn same(reference: &Reference, held: &Held) -> Result<(), String> {
    let row = |row: &super::reference::Row| (row.state.to_owned(), row.owner.clone(), row.has_call);
    let expected = named(&reference.requests, request_id).into_iter().map(|(id, of)| (id, row(of)));
    let found = |row: &Row| (row.state.clone(), row.owner.clone(), row.has_call);
    differ("requests", expected, held.requests.iter().map(|(id, of)| (id.clone(), found(of))))?;
    let expected = named(&reference.challenges, challenge_hash).into_iter().map(|(id, of)| (id, row(of)));
    differ("challenges", expected, held.challenges.iter().map(|(id, of)| (id.clone(), found(of))))?;
    let expected = reference.txs.iter().map(|(key, tx)| (key.clone(), tx.state.to_owned()));
    differ("transactions", expected, held.txs.iter().map(|(key, tx)| (key.clone(), tx.state.clone())))?;
    let expected = reference.attempts.iter().map(|(hash, of)| (hash.clone(), (of.tx.clone(), of.state.to_owned())));
    let found = held.attempts.iter().map(|(hash, of)| (hash.clone(), (of.tx.clone(), of.state.clone())));
    differ("attempts", expected, found)
}

fn differ<T: PartialEq + Debug>(
    what: &str,
    reference: impl Iterator<Item = (String, T)>,
    ledger: impl Iterator<Item = (String, T)>,
) -> Result<(), String> {
    let reference: BTreeMap<_, _> = reference.collect();
    let ledger: BTreeMap<_, _> = ledger.collect();
    let keys: BTreeSet<_> = reference.keys().chain(ledger.keys()).collect();
    for key in keys {
        let (in_ledger, in_reference) = (ledger.get(key), reference.get(key));
        if in_ledger != in_reference {
            return Err(format!("{what}, {key}: the ledger {in_ledger:?}, its model {in_reference:?}"));
        }
    }
    Ok(())
}

/// What the guarantees say of any ledger, whatever its model thinks.
pub fn invariants(before: &Held, now: &Held) -> Result<(), String> {
    nothing_is_lost(before, now)?;
    for tx in now.txs.values() {
        attempts_fit(tx, now)?;
    }
    for row in now.requests.values() {
        served_by(row, now.txs.get(&answer_key(&row.id)), row.state == "answering")?;
    }
    for row in now.challenges.values() {
        served_by(row, now.txs.get(&delivery_key(&row.id)), row.state == "sending")?;
    }
    Ok(())
}

/// No row and no hash ever goes, and what is final stays so.
fn nothing_is_lost(before: &Held, now: &Held) -> Result<(), String> {
    let rows = |held: &Held| held.requests.keys().chain(held.challenges.keys()).cloned().collect::<BTreeSet<_>>();
    let hashes = |held: &Held| held.attempts.keys().chain(held.txs.keys()).cloned().collect::<BTreeSet<_>>();
    if !rows(before).is_subset(&rows(now)) || !hashes(before).is_subset(&hashes(now)) {
        return Err("a row is gone".to_owned());
    }
    let finals = |held: &Held| {
        let rows =
            held.requests.values().chain(held.challenges.values()).map(|row| (row.id.clone(), row.state.clone()));
        let txs = held.txs.values().map(|tx| (tx.key.clone(), tx.state.clone()));
        rows.chain(txs).filter(|(_, state)| state == "final").map(|(id, _)| id).collect::<BTreeSet<_>>()
    };
    match finals(before).difference(&finals(now)).next() {
        Some(id) => Err(format!("{id} was final and is no longer")),
        None => Ok(()),
    }
}

/// What is under way can be mined; what is mined was mined by one attempt; what is queued or over can be mined by none, as
/// far as anyone knows.
fn attempts_fit(tx: &Tx, now: &Held) -> Result<(), String> {
    let (live, mined) = (now.attempts_of(&tx.key, "live").count(), now.attempts_of(&tx.key, "mined").count());
    let is_that = || now.attempts_of(&tx.key, "mined").all(|of| Some(&of.hash) == tx.mined_hash.as_ref());
    let fits = match tx.state.as_str() {
        "queued" | "fatal" => live + mined == 0,
        "signed" | "broadcast" | "cancelling" => live > 0 && mined == 0,
        "mined" => live == 0 && mined == 1 && is_that(),
        _ => live == 0 && mined <= 1 && is_that(),
    };
    if fits { Ok(()) } else { Err(format!("{}: {} with {live} live attempts and {mined} mined", tx.key, tx.state)) }
}

/// What is being sent has a transaction that goes on by itself, and what is final one that is.
fn served_by(row: &Row, tx: Option<&Tx>, sending: bool) -> Result<(), String> {
    let state = tx.map(|tx| tx.state.as_str());
    if sending && !matches!(state, Some("queued" | "signed" | "broadcast" | "cancelling" | "mined")) {
        return Err(format!("{} is {} and its transaction is {state:?}: it waits for ever", row.id, row.state));
    }
    if row.state == "final" && state != Some("final") {
        return Err(format!("{} is final and its transaction is {state:?}", row.id));
    }
    if matches!(row.state.as_str(), "inferred" | "answering" | "uploaded" | "sending") && !row.has_call {
        return Err(format!("{} is {} and there is nothing to send", row.id, row.state));
    }
    if matches!(row.state.as_str(), "inferred" | "answering" | "final" | "uploaded" | "sending") && row.owner.is_some()
    {
        return Err(format!("{} is {} and still claimed", row.id, row.state));
    }
    Ok(())
}
