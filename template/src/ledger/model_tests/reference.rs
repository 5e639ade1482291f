//! The ledger as a few maps: the shortest program that says where a row goes.

use std::collections::BTreeMap;

use super::events::{Slot, TxEvent};

/// An owner's name in the ledger.
pub type Owner = String;

#[derive(Debug, Clone, Default)]
pub struct Reference {
    pub chain_time: u64,
    pub requests: BTreeMap<Slot, Row>,
    pub challenges: BTreeMap<Slot, Row>,
    /// By key.
    pub txs: BTreeMap<String, Tx>,
    /// Every hash ever signed: whose it is, its nonce, its state.
    pub attempts: BTreeMap<String, Attempt>,
}

/// A request or a challenge.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub state: &'static str,
    pub owner: Option<Owner>,
    /// The claim's lease has ended.
    pub lapsed: bool,
    /// Its next try is not yet.
    pub waits: bool,
    /// The call that goes to the chain is there.
    pub has_call: bool,
    pub commitment: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Tx {
    pub state: &'static str,
    pub serves: Serves,
    pub after: Option<String>,
    pub waits: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Serves {
    /// A commitment: its end decides nothing.
    Nothing(Slot),
    Request(Slot),
    Challenge(Slot),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    pub tx: String,
    pub nonce: u64,
    pub state: &'static str,
}

/// Until when an answer to this request counts.
pub fn deadline(request: Slot) -> u64 {
    1000 + 10 * u64::from(request)
}

pub fn is_ipfs(challenge: Slot) -> bool {
    challenge.is_multiple_of(2)
}

impl Row {
    fn new(state: &'static str) -> Self {
        Self { state, owner: None, lapsed: false, waits: false, has_call: false, commitment: false }
    }

    fn is_free(&self) -> bool {
        !self.waits && (self.owner.is_none() || self.lapsed)
    }

    pub fn is_of(&self, owner: &str) -> bool {
        self.owner.as_deref() == Some(owner)
    }

    fn claim(&mut self, owner: &str) {
        self.owner = Some(owner.to_owned());
        self.lapsed = false;
    }

    fn moves(&mut self, state: &'static str) {
        self.state = state;
        self.owner = None;
        self.lapsed = false;
    }
}

impl Reference {
    pub fn see(&mut self, request: Slot, unreadable: bool) {
        let late = deadline(request) < self.chain_time;
        let state = match (unreadable, late) {
            (true, _) => "failed",
            (false, true) => "expired",
            (false, false) => "seen",
        };
        self.requests.entry(request).or_insert_with(|| Row::new(state));
    }

    /// Newest first.
    pub fn claim(&mut self, owner: &str, limit: usize) -> Vec<Slot> {
        let claimable = |row: &Row| row.state == "seen" && row.is_free();
        let mut slots: Vec<Slot> = self.requests.iter().filter(|(_, row)| claimable(row)).map(|(s, _)| *s).collect();
        slots.sort_by_key(|slot| std::cmp::Reverse(deadline(*slot)));
        slots.truncate(limit);
        for slot in &slots {
            self.requests.get_mut(slot).unwrap().claim(owner);
        }
        slots
    }

    pub fn claim_challenge(&mut self, owner: &str) -> Option<Slot> {
        let claimable =
            |slot: Slot, row: &Row| (row.state == "asked" || (row.state == "proved" && is_ipfs(slot))) && row.is_free();
        let slot = self.challenges.iter().find(|(slot, row)| claimable(**slot, row)).map(|(slot, _)| *slot)?;
        self.challenges.get_mut(&slot).unwrap().claim(owner);
        Some(slot)
    }

    /// False if the request is not this owner's to answer.
    pub fn infer(&mut self, owner: &str, request: Slot, commitment: bool) -> bool {
        let Some(row) = self.requests.get_mut(&request).filter(|row| row.state == "seen" && row.is_of(owner)) else {
            return false;
        };
        row.moves("inferred");
        (row.has_call, row.commitment) = (true, commitment);
        true
    }

    pub fn request_fault(&mut self, owner: &str, request: Slot, for_good: bool) {
        if let Some(row) = self.requests.get_mut(&request).filter(|row| row.state == "seen" && row.is_of(owner)) {
            row.moves(if for_good { "failed" } else { "seen" });
            row.waits = true;
        }
    }

    pub fn expire(&mut self) {
        let now = self.chain_time;
        for (slot, row) in &mut self.requests {
            if matches!(row.state, "seen" | "inferred") && deadline(*slot) < now {
                row.moves("expired");
            }
        }
    }

    pub fn see_challenge(&mut self, challenge: Slot) {
        self.challenges.entry(challenge).or_insert_with(|| Row::new("asked"));
    }

    pub fn prove(&mut self, owner: &str, challenge: Slot) -> bool {
        let Some(row) = self.challenges.get_mut(&challenge).filter(|row| row.state == "asked" && row.is_of(owner))
        else {
            return false;
        };
        if is_ipfs(challenge) {
            row.state = "proved";
        } else {
            row.moves("proved");
            row.has_call = true;
        }
        true
    }

    pub fn upload(&mut self, owner: &str, challenge: Slot) -> bool {
        let Some(row) = self.challenges.get_mut(&challenge).filter(|row| row.state == "proved" && row.is_of(owner))
        else {
            return false;
        };
        row.moves("uploaded");
        row.has_call = true;
        true
    }

    pub fn challenge_fault(&mut self, owner: &str, challenge: Slot, for_good: bool) {
        if let Some(row) = self.challenges.get_mut(&challenge).filter(|row| row.is_of(owner)) {
            row.moves(if for_good { "failed" } else { row.state });
            row.waits = true;
        }
    }

    pub fn queue_answers(&mut self) {
        for (slot, row) in self.requests.iter_mut().filter(|(_, row)| row.state == "inferred") {
            let after = row.commitment.then(|| key("commit", *slot));
            if let Some(commit) = &after {
                queue(&mut self.txs, commit.clone(), Serves::Nothing(*slot), None);
            }
            queue(&mut self.txs, key("answer", *slot), Serves::Request(*slot), after);
            row.moves("answering");
        }
    }

    pub fn queue_deliveries(&mut self) {
        let ready = |slot: Slot, row: &Row| row.state == "uploaded" || (row.state == "proved" && !is_ipfs(slot));
        for (slot, row) in self.challenges.iter_mut().filter(|(slot, row)| ready(**slot, row)) {
            queue(&mut self.txs, key("deliver", *slot), Serves::Challenge(*slot), None);
            row.moves("sending");
        }
    }

    /// Keys of what may be signed now.
    pub fn sendable(&self) -> Vec<String> {
        let is_queued = |key: &String| self.txs[key].state == "queued";
        let sendable = |tx: &Tx| tx.state == "queued" && !tx.waits && !tx.after.as_ref().is_some_and(is_queued);
        self.txs.iter().filter(|(_, tx)| sendable(tx)).map(|(key, _)| key.clone()).collect()
    }

    pub fn sign(&mut self, key: &str, hash: &str, nonce: u64) {
        self.txs.get_mut(key).unwrap().state = "signed";
        self.attempts.insert(hash.to_owned(), Attempt { tx: key.to_owned(), nonce, state: "live" });
    }

    /// One more than the highest nonce that is still of use.
    pub fn next_nonce(&self) -> Option<u64> {
        self.attempts.values().filter(|attempt| attempt.state != "lost").map(|attempt| attempt.nonce + 1).max()
    }

    /// Hashes of the transaction that may be or were mined.
    pub fn hashes(&self, key: &str) -> Vec<String> {
        let of_use = |attempt: &Attempt| attempt.tx == key && attempt.state != "lost";
        self.attempts.iter().filter(|(_, attempt)| of_use(attempt)).map(|(hash, _)| hash.clone()).collect()
    }

    /// What the sender writes down. `mined` is the hash that the chain has a receipt of.
    pub fn tx_event(&mut self, event: TxEvent, key: &str, mined: Option<&str>) {
        let tx = self.txs.get_mut(key).unwrap();
        let serves = tx.serves;
        match (event, tx.state) {
            (TxEvent::Broadcast, "signed") => tx.state = "broadcast",
            (TxEvent::Mine, "signed" | "broadcast" | "mined") => {
                tx.state = "mined";
                self.mark(key, |hash, _| if Some(hash) == mined { "mined" } else { "lost" });
            }
            (TxEvent::Unmine, "mined") => {
                tx.state = "broadcast";
                self.mark(key, |_, _| "live");
            }
            (TxEvent::Finalise, "mined") => {
                tx.state = "final";
                self.end(serves, "final");
            }
            (TxEvent::SignAnew, "signed" | "broadcast") => {
                tx.state = "queued";
                self.mark(key, |_, _| "lost");
            }
            (TxEvent::Postpone, "queued") => tx.waits = true,
            (TxEvent::Fatal(end), state) if state != "final" => {
                tx.state = "fatal";
                self.end(serves, end);
            }
            _ => {}
        }
    }

    fn mark(&mut self, key: &str, state: impl Fn(&str, &'static str) -> &'static str) {
        for (hash, attempt) in self.attempts.iter_mut().filter(|(_, attempt)| attempt.tx == key) {
            attempt.state = state(hash, attempt.state);
        }
    }

    fn end(&mut self, serves: Serves, end: &'static str) {
        let (row, from) = match serves {
            Serves::Nothing(_) => return,
            Serves::Request(slot) => (self.requests.get_mut(&slot), "answering"),
            Serves::Challenge(slot) => (self.challenges.get_mut(&slot), "sending"),
        };
        if let Some(row) = row.filter(|row| row.state == from) {
            row.state = end;
        }
    }

    /// `nova retry`.
    pub fn retry(&mut self, serves: Serves) -> bool {
        let (row, without, with) = match serves {
            Serves::Request(slot) | Serves::Nothing(slot) => (self.requests.get_mut(&slot), "seen", "answering"),
            Serves::Challenge(slot) => (self.challenges.get_mut(&slot), "asked", "sending"),
        };
        let Some(row) = row.filter(|row| row.state == "failed") else { return false };
        row.state = if row.has_call { with } else { without };
        row.waits = false;
        let serves_it = |tx: &Tx| match (tx.serves, serves) {
            (Serves::Request(a) | Serves::Nothing(a), Serves::Request(b)) => a == b,
            (Serves::Challenge(a), Serves::Challenge(b)) => a == b,
            _ => false,
        };
        let keys: Vec<String> = self
            .txs
            .iter()
            .filter(|(_, tx)| tx.state == "fatal" && serves_it(tx))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.mark(&key, |_, _| "lost");
            let tx = self.txs.get_mut(&key).unwrap();
            (tx.state, tx.waits) = ("queued", false);
        }
        true
    }

    /// The claims of an owner: renewed, let lapse, or given back.
    pub fn claims_of(&mut self, owner: &str, change: impl Fn(&mut Row)) {
        let rows = self.requests.values_mut().chain(self.challenges.values_mut());
        rows.filter(|row| row.is_of(owner)).for_each(change);
    }

    /// Every row may be tried again.
    pub fn next_tries(&mut self) {
        self.requests.values_mut().chain(self.challenges.values_mut()).for_each(|row| row.waits = false);
        self.txs.values_mut().for_each(|tx| tx.waits = false);
    }
}

pub fn key(purpose: &str, slot: Slot) -> String {
    match purpose {
        "deliver" => format!("deliver:{}:0", super::play::challenge_hash(slot)),
        _ => format!("{purpose}:{}:{}", super::play::CONTRACT, super::play::request_id(slot)),
    }
}

/// Queueing what was queued before adds nothing.
fn queue(txs: &mut BTreeMap<String, Tx>, key: String, serves: Serves, after: Option<String>) {
    txs.entry(key).or_insert(Tx { state: "queued", serves, after, waits: false });
}
