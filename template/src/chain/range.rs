//! How many blocks a provider serves in one question for logs: learned from what it serves and refuses, so that neither a plan of ten
//! blocks nor one of ten thousand costs more calls than it must.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a refusal counts. Plans change, and so does how many logs a block has.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Shared by all that read logs of an endpoint. Ranges are counted in blocks.
#[derive(Debug)]
pub(super) struct LogRange {
    most: u64,
    learned: Mutex<Learned>,
}

#[derive(Debug, Clone, Copy)]
struct Learned {
    /// What is asked for next.
    next: u64,
    /// The widest that was served since the last refusal of one so wide.
    served: u64,
    /// The narrowest that was refused, and when.
    refused: Option<(u64, Instant)>,
}

impl LogRange {
    /// `most` is never exceeded.
    pub fn new(most: u64) -> Self {
        Self { most, learned: Mutex::new(Learned { next: most, served: 0, refused: None }) }
    }

    pub fn blocks(&self) -> u64 {
        self.with(|learned| learned.next)
    }

    /// So many blocks were served at once. More are asked for next: twice as many, or half as far as those that were refused.
    pub fn was_served(&self, blocks: u64) {
        self.with(|learned| {
            learned.refused = learned.refused.filter(|(_, when)| when.elapsed() < REMEMBERED);
            learned.served = learned.served.max(blocks);
            let wider = match learned.refused {
                Some((refused, _)) => between(learned.served, refused),
                None => learned.served.saturating_mul(2),
            };
            learned.next = learned.next.max(wider).clamp(1, self.most);
        });
    }

    /// The provider refused so many blocks as too many; it may have named how many are not.
    pub fn was_refused(&self, blocks: u64, named: Option<u64>) {
        self.with(|learned| {
            let refused = match named.filter(|named| *named < blocks) {
                Some(allowed) => {
                    learned.next = allowed.clamp(1, self.most);
                    allowed + 1
                }
                // It has served as many before: these blocks hold more than others, or this is the first word of a new limit. The next
                // refusal decides.
                None if blocks <= learned.served => {
                    learned.served = 0;
                    learned.next = (blocks / 2).max(1);
                    return;
                }
                None => {
                    learned.next = between(learned.served, blocks).clamp(1, self.most);
                    blocks
                }
            };
            learned.refused = Some((refused, Instant::now()));
            if learned.served >= refused {
                learned.served = 0;
            }
        });
    }

    /// No endpoint answered, or the provider refused in words that `complaint` does not know: it may take too long for so many blocks.
    pub fn was_unanswered(&self, blocks: u64) {
        self.with(|learned| learned.next = (blocks / 2).max(1));
    }

    /// The provider refused even one block: their number is not the reason. It is asked for as many as before.
    pub fn was_no_matter(&self, before: u64) {
        self.with(|learned| *learned = Learned { next: before, served: 0, refused: None });
    }

    fn with<T>(&self, change: impl FnOnce(&mut Learned) -> T) -> T {
        change(&mut self.learned.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn between(served: u64, refused: u64) -> u64 {
    served + refused.saturating_sub(served) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many calls it takes to read so many blocks of a provider that serves `allowed` at once.
    fn calls(range: &LogRange, mut left: u64, allowed: u64, names: bool) -> u64 {
        let mut calls = 0;
        while left > 0 {
            let asked = range.blocks().min(left);
            calls += 1;
            if asked > allowed {
                range.was_refused(asked, names.then_some(allowed));
            } else {
                range.was_served(asked);
                left -= asked;
            }
        }
        calls
    }

    #[test]
    fn regression_a_small_range_is_learned_and_kept() {
        for allowed in [1, 5, 10, 64, 100, 500, 999] {
            for names in [true, false] {
                let range = LogRange::new(1000);
                let least = 600_u64.div_ceil(allowed);
                let first = calls(&range, 600, allowed, names);
                assert!(first <= least + 30, "{allowed} at once, named: {names}: {first} calls, {least} would do");
                let next = calls(&range, 600, allowed, names);
                assert!(next <= least + 1, "{allowed} at once, named: {names}: then {next} calls, {least} would do");
            }
        }
    }

    #[test]
    fn a_range_that_may_be_wide_again_is_found_in_an_hour() {
        let range = LogRange::new(1000);
        range.was_refused(1000, Some(10));
        range.was_served(10);
        assert_eq!(range.blocks(), 10);
        let an_hour_ago = Instant::now().checked_sub(REMEMBERED).unwrap();
        range.with(|learned| learned.refused = Some((11, an_hour_ago)));
        range.was_served(10);
        assert_eq!(calls(&range, 10_000, 1000, false), 15);
    }

    #[test]
    fn after_an_outage_it_is_as_wide_as_before_in_a_few_calls() {
        let range = LogRange::new(1000);
        for _ in 0..20 {
            range.was_unanswered(range.blocks());
        }
        assert_eq!(calls(&range, 2023, 1000, false), 11);
        assert_eq!(range.blocks(), 1000);
    }

    /// At the head a pass asks for a few blocks: what is said of them is no limit.
    #[test]
    fn a_refusal_of_a_few_blocks_is_no_limit() {
        let range = LogRange::new(1000);
        range.was_served(1000);
        range.was_refused(5, None);
        assert!(calls(&range, 2000, 1000, false) < 12);
    }

    #[test]
    fn one_that_serves_less_than_before_is_asked_for_less() {
        let range = LogRange::new(1000);
        range.was_served(1000);
        range.was_refused(1000, None);
        assert_eq!(range.blocks(), 500);
        // A pass that reads few blocks shows nothing of many.
        range.was_served(3);
        assert!(range.blocks() > 3);
    }
}
