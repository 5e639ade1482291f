//! The ledger as a few maps: the shortest program that says where a row goes.

use std::collections::BTreeMap;

use super::events::{Branch, CHALLENGES, REQUESTS, Slot};
use super::reference_tx::{Attempt, Tx};

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
    /// The branch of the chain that it was last seen on.
    pub branch: Branch,
}

/// Until when an answer to this request counts.
pub fn deadline(request: Slot) -> u64 {
    1000 + 10 * u64::from(request)
}

pub fn is_ipfs(challenge: Slot) -> bool {
    challenge.is_multiple_of(2)
}

impl Row {
    fn new(state: &'static str, branch: Branch) -> Self {
        Self { state, owner: None, lapsed: false, waits: false, has_call: false, commitment: false, branch }
    }

    /// It is in a block again: on another branch than before, or after it was orphaned. `again` is where it goes on.
    fn seen(&mut self, branch: Branch, again: &'static str) {
        self.branch = branch;
        if self.state == "orphaned" {
            (self.state, self.waits) = (again, false);
        }
    }

    /// Moves, and gives the claim back; what is orphaned stays so.
    fn given_back(&mut self, state: &'static str) {
        self.moves(if self.state == "orphaned" { "orphaned" } else { state });
    }

    /// True if this owner may take it: nobody has it, or another who has held it too long.
    fn is_free_for(&self, owner: &str) -> bool {
        !self.waits && (self.owner.is_none() || (self.lapsed && !self.is_of(owner)))
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
    /// A few blocks before the first deadline: each request is in time in some plays and late in others.
    pub fn new() -> Self {
        Self { chain_time: deadline(0) - 20, ..Self::default() }
    }

    /// How many are new, or come from another block.
    pub fn see(&mut self, requests: &[Slot], branch: Branch) -> usize {
        requests.iter().filter(|slot| self.see_one(**slot, branch)).count()
    }

    fn see_one(&mut self, request: Slot, branch: Branch) -> bool {
        // Whether the contract told what was asked, or the log alone is known: it is worked on.
        let state = if deadline(request) < self.chain_time { "expired" } else { "seen" };
        let Some(row) = self.requests.get_mut(&request) else {
            self.requests.insert(request, Row::new(state, branch));
            return true;
        };
        let moved = row.state == "orphaned" || row.branch != branch;
        row.seen(branch, if state == "seen" && row.has_call { "inferred" } else { state });
        moved
    }

    /// The chain forgets a branch: what was seen on it, but for what is final. Who answered is found out anew.
    pub fn reorg(&mut self, branch: Branch) {
        for row in self.requests.values_mut().chain(self.challenges.values_mut()) {
            if row.branch == branch && row.state != "final" {
                row.state = "orphaned";
            }
        }
        for (slot, row) in &mut self.requests {
            if row.state == "answered" && deadline(*slot) >= self.chain_time {
                row.state = if row.has_call { "inferred" } else { "seen" };
                row.waits = false;
            }
        }
    }

    /// Newest first.
    pub fn claim(&mut self, owner: &str, limit: usize) -> Vec<Slot> {
        let claimable = |row: &Row| row.state == "seen" && row.is_free_for(owner);
        let mut slots: Vec<Slot> = self.requests.iter().filter(|(_, row)| claimable(row)).map(|(s, _)| *s).collect();
        slots.sort_by_key(|slot| std::cmp::Reverse(deadline(*slot)));
        slots.truncate(limit);
        for slot in &slots {
            self.requests.get_mut(slot).unwrap().claim(owner);
        }
        slots
    }

    /// Validators' first, of which the newest, then the registry's from the oldest on.
    pub fn claim_challenge(&mut self, owner: &str) -> Option<Slot> {
        let claimable = |slot: Slot, row: &Row| {
            (row.state == "asked" || (row.state == "proved" && is_ipfs(slot))) && row.is_free_for(owner)
        };
        let slots = self.challenges.iter().filter(|(slot, row)| claimable(**slot, row)).map(|(slot, _)| *slot);
        let slot = slots
            .min_by_key(|slot| (!is_ipfs(*slot), if is_ipfs(*slot) { -i64::from(*slot) } else { i64::from(*slot) }))?;
        self.challenges.get_mut(&slot).unwrap().claim(owner);
        Some(slot)
    }

    /// The request that a slot stands for: beyond the last, one that this owner works on.
    pub fn request_of(&self, owner: &str, slot: Slot) -> Slot {
        of_owner(&self.requests, owner, slot, REQUESTS)
    }

    pub fn challenge_of(&self, owner: &str, slot: Slot) -> Slot {
        of_owner(&self.challenges, owner, slot, CHALLENGES)
    }

    /// True if this owner may still write down what it found out about a request.
    pub fn is_worked_on(&self, owner: &str, request: Slot) -> bool {
        self.requests.get(&request).is_some_and(|row| matches!(row.state, "seen" | "orphaned") && row.is_of(owner))
    }

    /// False if the request is not this owner's to answer.
    pub fn infer(&mut self, owner: &str, request: Slot, commitment: bool) -> bool {
        let Some(row) = self.requests.get_mut(&request).filter(|row| is_in_work(row) && row.is_of(owner)) else {
            return false;
        };
        row.given_back("inferred");
        (row.has_call, row.commitment) = (true, commitment);
        true
    }

    pub fn request_fault(&mut self, owner: &str, request: Slot, for_good: bool) {
        if let Some(row) = self.requests.get_mut(&request).filter(|row| is_in_work(row) && row.is_of(owner)) {
            row.given_back(if for_good { "failed" } else { "seen" });
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

    pub fn see_challenge(&mut self, challenge: Slot, branch: Branch) {
        let row = self.challenges.entry(challenge).or_insert_with(|| Row::new("asked", branch));
        row.seen(branch, before_sending(challenge, row.has_call));
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
            row.given_back(if for_good { "failed" } else { row.state });
            row.waits = true;
        }
    }

    /// `nova retry`: back to where the stages find it, who queue again what has failed in sending.
    pub fn retry_request(&mut self, request: Slot) -> bool {
        let Some(row) = self.requests.get_mut(&request).filter(|row| row.state == "failed") else { return false };
        (row.state, row.waits) = (if row.has_call { "inferred" } else { "seen" }, false);
        true
    }

    pub fn retry_challenge(&mut self, challenge: Slot) -> bool {
        let Some(row) = self.challenges.get_mut(&challenge).filter(|row| row.state == "failed") else { return false };
        (row.state, row.waits) = (before_sending(challenge, row.has_call), false);
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

fn of_owner(rows: &BTreeMap<Slot, Row>, owner: &str, slot: Slot, count: Slot) -> Slot {
    let own = rows.iter().find(|(_, row)| slot >= count && row.is_of(owner));
    own.map_or(slot % count, |(slot, _)| *slot)
}

/// Somebody may be working on it, whether or not its block is still there.
fn is_in_work(row: &Row) -> bool {
    matches!(row.state, "seen" | "orphaned")
}

/// Where a challenge goes on whose call is there, or is not.
fn before_sending(challenge: Slot, has_call: bool) -> &'static str {
    match (has_call, is_ipfs(challenge)) {
        (false, _) => "asked",
        (true, true) => "uploaded",
        (true, false) => "proved",
    }
}
