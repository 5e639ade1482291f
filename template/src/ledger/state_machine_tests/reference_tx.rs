//! The transactions of the reference.

use std::collections::{BTreeMap, BTreeSet};

use super::events::{Slot, TxEvent};
use super::play::{CONTRACT, challenge_hash, request_id};
use super::reference::{Reference, Row, is_ipfs};

#[derive(Debug, Clone, PartialEq)]
pub struct Tx {
    pub state: &'static str,
    pub serves: Serves,
    pub after: Option<String>,
    pub waits: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Serves {
    /// A commitment, a claim, a fill: its end decides nothing.
    Nothing,
    Request(Slot),
    Challenge(Slot),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    pub tx: String,
    pub nonce: u64,
    pub is_cancel: bool,
    pub state: &'static str,
}

impl Reference {
    pub fn queue_answers(&mut self) {
        for (slot, row) in self.requests.iter_mut().filter(|(_, row)| row.state == "inferred") {
            if row.commitment {
                queue(&mut self.txs, key("commit", *slot), Serves::Nothing, None);
            }
            let after = Some(key("commit", *slot)).filter(|key| self.txs.contains_key(key));
            let state = queue(&mut self.txs, key("answer", *slot), Serves::Request(*slot), after);
            row.state = if state == "final" { "final" } else { "answering" };
        }
    }

    pub fn queue_deliveries(&mut self) {
        let ready = |slot: Slot, row: &Row| row.state == "uploaded" || (row.state == "proved" && !is_ipfs(slot));
        for (slot, row) in self.challenges.iter_mut().filter(|(slot, row)| ready(**slot, row)) {
            let state = queue(&mut self.txs, key("deliver", *slot), Serves::Challenge(*slot), None);
            row.state = if state == "final" { "final" } else { "sending" };
        }
    }

    pub fn queue_claim(&mut self, epoch: u64) {
        queue(&mut self.txs, format!("claim:{CONTRACT}:{epoch}"), Serves::Nothing, None);
    }

    pub fn queue_fill(&mut self, nonce: u64) {
        let fills: Vec<_> = self.txs.iter().filter(|(key, _)| key.starts_with("fill:")).collect();
        if fills.iter().all(|(_, tx)| tx.state != "queued") {
            let key = format!("fill:{nonce}:{}", fills.len());
            queue(&mut self.txs, key, Serves::Nothing, None);
        }
    }

    /// Keys of what may be signed now.
    pub fn sendable(&self) -> Vec<String> {
        let is_out = |key: &String| matches!(self.txs[key].state, "mined" | "final" | "fatal");
        let sendable = |tx: &Tx| tx.state == "queued" && !tx.waits && tx.after.as_ref().is_none_or(is_out);
        self.txs.iter().filter(|(_, tx)| sendable(tx)).map(|(key, _)| key.clone()).collect()
    }

    /// The nonces that nothing else may be signed on: of what may be mined, or was and is not final.
    pub fn held_nonces(&self) -> BTreeSet<u64> {
        let held = |attempt: &&Attempt| {
            matches!(attempt.state, "live" | "mined") && !matches!(self.txs[&attempt.tx].state, "final" | "fatal")
        };
        self.attempts.values().filter(held).map(|attempt| attempt.nonce).collect()
    }

    /// How many nonces the chain has mined.
    pub fn spent_nonces(&self) -> u64 {
        let spent = self.attempts.values().filter(|attempt| matches!(attempt.state, "mined" | "void"));
        spent.map(|attempt| attempt.nonce + 1).max().unwrap_or(0)
    }

    /// The hashes of a transaction that are in these states.
    pub fn hashes(&self, key: &str, states: &[&str]) -> Vec<String> {
        let fits = |attempt: &Attempt| attempt.tx == key && states.contains(&attempt.state);
        self.attempts.iter().filter(|(_, attempt)| fits(attempt)).map(|(hash, _)| hash.clone()).collect()
    }

    pub fn sign(&mut self, key: &str, hash: &str, nonce: u64, is_cancel: bool) {
        let tx = self.txs.get_mut(key).unwrap();
        if tx.state == "queued" {
            tx.state = "signed";
        }
        let attempt = Attempt { tx: key.to_owned(), nonce, is_cancel, state: "live" };
        self.attempts.insert(hash.to_owned(), attempt);
    }

    /// What the sender writes down, but for what is signed. `hash` is the attempt that the chain has a receipt of.
    pub fn tx_event(&mut self, event: TxEvent, key: &str, hash: Option<&str>) {
        let tx = self.txs.get_mut(key).unwrap();
        let (serves, over) = (tx.serves, matches!(tx.state, "final" | "fatal"));
        match (event, tx.state) {
            (TxEvent::Broadcast, "signed") => tx.state = "broadcast",
            (TxEvent::Cancel, "signed" | "broadcast") => tx.state = "cancelling",
            (TxEvent::Mine(_), _) if !over => {
                tx.state = "mined";
                self.mark(key, |of, attempt| match attempt.state {
                    _ if Some(of) == hash => "mined",
                    "void" => "void",
                    _ => "lost",
                });
            }
            (TxEvent::Unmine, "mined") => self.unmine(key),
            (TxEvent::Finalise, "mined") | (TxEvent::Done, "queued") => {
                tx.state = "final";
                self.end(serves, "final");
            }
            (TxEvent::SignAnew, "signed" | "broadcast" | "cancelling") => {
                (tx.state, tx.waits) = ("queued", false);
                self.mark(key, |_, attempt| lost(attempt));
            }
            (TxEvent::Void(_), _) if !over => {
                (tx.state, tx.waits) = ("queued", true);
                self.mark(key, |of, attempt| if Some(of) == hash { "void" } else { lost(attempt) });
            }
            (TxEvent::Postpone, "queued") => tx.waits = true,
            (TxEvent::Fatal(end), _) if !over => {
                tx.state = "fatal";
                self.mark(key, |_, attempt| if attempt.state == "mined" { "void" } else { lost(attempt) });
                self.end(serves, end);
            }
            _ => {}
        }
    }

    /// Every attempt on the nonce that was mined may be mined again.
    fn unmine(&mut self, key: &str) {
        let mined = |attempt: &&Attempt| attempt.tx == key && attempt.state == "mined";
        let nonce = self.attempts.values().find(mined).unwrap().nonce;
        self.mark(key, |_, attempt| match attempt.state {
            "void" => "void",
            _ if attempt.nonce == nonce => "live",
            state => state,
        });
        let is_cancel = |attempt: &Attempt| attempt.tx == key && attempt.is_cancel && attempt.state == "live";
        let state = if self.attempts.values().any(is_cancel) { "cancelling" } else { "broadcast" };
        self.txs.get_mut(key).unwrap().state = state;
    }

    fn mark(&mut self, key: &str, state: impl Fn(&str, &Attempt) -> &'static str) {
        for (hash, attempt) in self.attempts.iter_mut().filter(|(_, attempt)| attempt.tx == key) {
            attempt.state = state(hash, attempt);
        }
    }

    fn end(&mut self, serves: Serves, end: &'static str) {
        let (row, from) = match serves {
            Serves::Nothing => return,
            Serves::Request(slot) => (self.requests.get_mut(&slot), "answering"),
            Serves::Challenge(slot) => (self.challenges.get_mut(&slot), "sending"),
        };
        if let Some(row) = row.filter(|row| row.state == from) {
            row.state = end;
        }
    }
}

pub fn key(purpose: &str, slot: Slot) -> String {
    match purpose {
        "deliver" => format!("deliver:{}:0", challenge_hash(slot)),
        _ => format!("{purpose}:{}:{}", CONTRACT, request_id(slot)),
    }
}

/// Queueing what was queued before adds nothing; what ended without being done begins again. Returns where it is.
fn queue(txs: &mut BTreeMap<String, Tx>, key: String, serves: Serves, after: Option<String>) -> &'static str {
    let tx = txs.entry(key).or_insert(Tx { state: "queued", serves, after, waits: false });
    if tx.state == "fatal" {
        (tx.state, tx.waits) = ("queued", false);
    }
    tx.state
}

fn lost(attempt: &Attempt) -> &'static str {
    if matches!(attempt.state, "live" | "mined") { "lost" } else { attempt.state }
}
