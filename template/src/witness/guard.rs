//! What the store's failures mean for the requests: a daemon that cannot save witnesses must not take on what it cannot
//! prove. After a few failures in a row no request is accepted until a trial shows that the store works again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Saves that fail in a row before requests are no longer accepted.
const MAX_FAILURES: u32 = 3;
/// The longest wait between two trials.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How often it is said that no requests are accepted.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Open while witnesses can be saved.
#[derive(Debug, Default)]
pub struct Guard(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// In a row.
    failures: u32,
    reason: String,
    /// Bytes of the save that failed last: a trial must not be content with less.
    size: usize,
    trials: u32,
    next_trial: Option<Instant>,
    said: Option<Instant>,
}

/// What may be done with requests.
#[derive(Debug, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// The store is to be tried with so many bytes first.
    Try(usize),
    Closed,
}

impl Guard {
    /// A save of so many bytes succeeded.
    pub fn saved(&self) {
        let mut state = self.state();
        if state.failures >= MAX_FAILURES {
            tracing::info!("the witness store works again, requests are accepted");
        }
        *state = State::default();
    }

    /// A save of so many bytes failed.
    pub fn failed(&self, size: usize, reason: String) {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        (state.size, state.reason) = (size, reason);
        if state.failures >= MAX_FAILURES {
            let wait = Duration::from_secs(1 << state.trials.min(5)).min(MAX_WAIT);
            state.trials += 1;
            state.next_trial = Some(Instant::now() + wait);
            state.say();
        }
    }

    /// The trial succeeded: the next save decides. If it fails, requests are refused again at once.
    pub fn reopen(&self) {
        let mut state = self.state();
        tracing::info!("the witness store takes files again, requests are accepted");
        *state = State { failures: MAX_FAILURES - 1, trials: state.trials, ..State::default() };
    }

    pub fn gate(&self) -> Gate {
        let mut state = self.state();
        match state.next_trial {
            _ if state.failures < MAX_FAILURES => Gate::Open,
            Some(at) if at > Instant::now() => Gate::Closed,
            _ => {
                state.say();
                Gate::Try(state.size)
            }
        }
    }

    /// Why no requests are accepted, if so.
    pub fn trouble(&self) -> Option<String> {
        let state = self.state();
        let closed = state.failures >= MAX_FAILURES;
        closed.then(|| format!("no requests are accepted, witnesses cannot be saved: {}", state.reason))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn say(&mut self) {
        if self.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            self.said = Some(Instant::now());
            tracing::error!(reason = self.reason, "witnesses cannot be saved, no requests are accepted until they can");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(guard: &Guard, times: u32) {
        (0..times).for_each(|_| guard.failed(5000, "disk full".to_owned()));
    }

    #[test]
    fn it_closes_after_failures_in_a_row() {
        let guard = Guard::default();
        fails(&guard, MAX_FAILURES - 1);
        guard.saved();
        fails(&guard, MAX_FAILURES - 1);
        assert_eq!((guard.gate(), guard.trouble()), (Gate::Open, None));
        fails(&guard, 1);
        assert_eq!(guard.gate(), Gate::Closed);
        assert!(guard.trouble().unwrap().contains("disk full"));
    }

    #[test]
    fn a_trial_of_the_same_size_opens_it_and_one_failure_closes_it_again() {
        let guard = Guard::default();
        fails(&guard, MAX_FAILURES);
        guard.state().next_trial = Some(Instant::now());
        assert_eq!(guard.gate(), Gate::Try(5000));
        guard.reopen();
        assert_eq!((guard.gate(), guard.trouble()), (Gate::Open, None));
        fails(&guard, 1);
        assert_eq!(guard.gate(), Gate::Closed);
        let waits = guard.state().next_trial.unwrap() - Instant::now();
        assert!(waits > Duration::from_secs(1), "the wait has grown: {waits:?}");
        guard.saved();
        fails(&guard, MAX_FAILURES - 1);
        assert_eq!(guard.gate(), Gate::Open);
    }
}
