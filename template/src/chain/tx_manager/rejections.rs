//! Transactions that no node has taken. A node with a pool may take one later; the sequencer of Arbitrum has none: what it refuses is gone,
//! and every higher nonce waits for it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// So often, over so long, a transaction is refused before its nonce is free for another.
const MIN_REFUSALS: u32 = 3;
/// How soon a transaction that was refused is offered again: no node has it.
const OFFER_INTERVAL: Duration = Duration::from_secs(5);
const MIN_TIME: Duration = Duration::from_secs(10);
/// Transactions that are remembered.
const MAX_REMEMBERED: usize = 1024;
/// What no node can ever take is signed anew so often: a setting may have to change, or the price of gas.
const MAX_ANEW: i64 = 20;
/// Seconds between two such attempts double up to this; where there is a deadline they stay few.
const MAX_WAIT_SECS: i64 = 3600;
const MAX_WAIT_BEFORE_DEADLINE_SECS: i64 = 10;

/// How often the attempts with these hashes were refused, and transactions with these keys signed anew: when first, and when last.
#[derive(Default)]
pub(super) struct Refused(HashMap<String, Refusals>);

struct Refusals {
    times: u32,
    first: Instant,
    last: Instant,
}

impl Refused {
    /// Counts a refusal; true once there were enough.
    pub fn count(&mut self, hash: &str) -> bool {
        if self.0.len() >= MAX_REMEMBERED {
            self.0.clear();
        }
        let now = Instant::now();
        let refusals = self.0.entry(hash.to_owned()).or_insert(Refusals { times: 0, first: now, last: now });
        (refusals.times, refusals.last) = (refusals.times + 1, now);
        refusals.times >= MIN_REFUSALS && refusals.first.elapsed() >= MIN_TIME
    }

    /// True if an attempt was refused, and may be offered again.
    pub fn is_due(&self, hash: &str) -> bool {
        self.0.get(hash).is_some_and(|refusals| refusals.last.elapsed() >= OFFER_INTERVAL)
    }

    /// Counts that a transaction is signed anew; how often it was before.
    pub fn count_anew(&mut self, key: &str) -> i64 {
        self.count(key);
        self.0.get(key).map_or(0, |refusals| i64::from(refusals.times) - 1)
    }

    pub fn forget(&mut self, hash: &str) {
        self.0.remove(hash);
    }
}

/// Seconds until what was signed in vain so often is signed anew, beginning with `first`; `None` where that is enough. What has a deadline
/// ends by that.
pub(super) fn retry_wait(first: i64, tries: i64, has_deadline: bool) -> Option<i64> {
    let doubled = first << tries.clamp(0, 12);
    match has_deadline {
        true => Some(doubled.min(MAX_WAIT_BEFORE_DEADLINE_SECS)),
        false => (tries < MAX_ANEW).then(|| doubled.min(MAX_WAIT_SECS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let waits = [0, 1, 5, 11, 19, 20].map(|tries| retry_wait(2, tries, false));
        assert_eq!(waits, [Some(2), Some(4), Some(64), Some(3600), Some(3600), None]);
        assert_eq!([0, 2, 3, 99].map(|tries| retry_wait(2, tries, true)), [Some(2), Some(8), Some(10), Some(10)]);
        assert_eq!(retry_wait(30, 0, true), Some(10));
    }

    #[test]
    fn one_that_is_refused_again_and_again_is_given_up() {
        let mut refused = Refused::default();
        assert!((0..MIN_REFUSALS + 2).all(|_| !refused.count("0x1")), "no while has passed");
        refused.0.get_mut("0x1").unwrap().first -= MIN_TIME;
        assert!(!refused.count("0x2"));
        assert!(refused.count("0x1"));
        refused.forget("0x1");
        assert!(!refused.count("0x1"));
    }
}
