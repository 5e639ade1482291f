//! A model of the ledger: random events and crashes, of two processes on one real SQLite file. After each event the
//! ledger must be where a few maps in memory say it is (`reference`), and what the guarantees say must hold (`invariants`).
//!
//! `PROPTEST_CASES=2000` plays more, `PROPTEST_RNG_SEED=…` the same again; a failure prints the shortest play that fails.

mod events;
mod invariants;
mod play;
mod play_tx;
mod reference;
mod reference_tx;

use std::cell::RefCell;

use proptest::test_runner::{Config, TestCaseError, TestRunner};

use events::plays;
use play::{Reached, play};

/// Plays in a default run: about 20 s.
const CASES: u32 = 100;

/// The rarest states are in three plays of a hundred: one run may miss them by chance, and so many in a row do not.
const RUNS: usize = 10;

/// Every state that the schema has, but for those that the play cannot miss.
const STATES: [&str; 22] = [
    "request inferred",
    "request answering",
    "request final",
    "request failed",
    "request expired",
    "request answered",
    "request orphaned",
    "challenge proved",
    "challenge uploaded",
    "challenge sending",
    "challenge final",
    "challenge failed",
    "challenge orphaned",
    "tx signed",
    "tx broadcast",
    "tx mined",
    "tx final",
    "tx cancelling",
    "tx fatal",
    "attempt mined",
    "attempt lost",
    "attempt void",
];

#[test]
fn the_ledger_is_where_its_model_says_after_any_events_and_crashes() {
    let mut config = Config { failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reached = RefCell::default();
    for _ in 0..RUNS {
        let outcome = TestRunner::new(config.clone()).run(&plays(), |events| {
            runtime.block_on(play(&events, &mut reached.borrow_mut())).map_err(TestCaseError::fail)
        });
        outcome.unwrap_or_else(|failure| panic!("{failure}"));
        if missed(&reached.borrow()).is_empty() {
            return;
        }
    }
    panic!("no play reached: {:?}", missed(&reached.borrow()));
}

fn missed(reached: &Reached) -> Vec<&'static str> {
    STATES.into_iter().filter(|state| !reached.contains(*state)).collect()
}
