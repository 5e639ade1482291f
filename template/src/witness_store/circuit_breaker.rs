//! What the store's failures mean for the requests: a daemon that cannot save witnesses must not take on what it cannot
//! prove. A circuit breaker: after a few failures in a row it opens, and no request is accepted until a probe succeeds.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failed saves in a row after which the breaker opens.
const MAX_FAILURES: u32 = 3;
/// The longest wait between two probes.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How often it is said that no requests are accepted.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Closed while witnesses can be saved.
#[derive(Debug, Default)]
pub struct CircuitBreaker(Mutex<Failures>);

#[derive(Debug, Default)]
struct Failures {
    /// In a row.
    failures: u32,
    reason: String,
    /// Bytes of the save that failed last: a probe writes no fewer.
    size: usize,
    probes: u32,
    next_probe: Option<Instant>,
    said: Option<Instant>,
}

/// What may be done with requests.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// Requests are accepted.
    Closed,
    /// The store is to be probed with so many bytes first.
    HalfOpen(usize),
    /// No requests are accepted.
    Open,
}

impl CircuitBreaker {
    /// A save of so many bytes succeeded.
    pub fn saved(&self) {
        let mut state = self.state();
        if state.failures >= MAX_FAILURES {
            tracing::info!("the witness store works again, requests are accepted");
        }
        *state = Failures::default();
    }

    /// A save of so many bytes failed.
    pub fn failed(&self, size: usize, reason: String) {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        (state.size, state.reason) = (size, reason);
        if state.failures >= MAX_FAILURES {
            let wait = Duration::from_secs(1 << state.probes.min(5)).min(MAX_WAIT);
            state.probes += 1;
            state.next_probe = Some(Instant::now() + wait);
            state.say();
        }
    }

    /// The probe succeeded: the next save decides. If it fails, requests are refused again at once.
    pub fn half_open(&self) {
        let mut state = self.state();
        tracing::info!("the witness store takes files again, requests are accepted");
        *state = Failures { failures: MAX_FAILURES - 1, probes: state.probes, ..Failures::default() };
    }

    pub fn breaker_state(&self) -> State {
        let mut state = self.state();
        match state.next_probe {
            _ if state.failures < MAX_FAILURES => State::Closed,
            Some(at) if at > Instant::now() => State::Open,
            _ => {
                state.say();
                State::HalfOpen(state.size)
            }
        }
    }

    /// Why no requests are accepted, if so.
    pub fn failure_reason(&self) -> Option<String> {
        let state = self.state();
        let open = state.failures >= MAX_FAILURES;
        open.then(|| format!("no requests are accepted, witnesses cannot be saved: {}", state.reason))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failures {
    fn say(&mut self) {
        if self.said.is_none_or(|said| said.elapsed() >= LOG_INTERVAL) {
            self.said = Some(Instant::now());
            tracing::error!(reason = self.reason, "witnesses cannot be saved, no requests are accepted until they can");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record_failure(breaker: &CircuitBreaker, times: u32) {
        (0..times).for_each(|_| breaker.failed(5000, "disk full".to_owned()));
    }

    #[test]
    fn opens_after_failures_in_a_row() {
        let breaker = CircuitBreaker::default();
        record_failure(&breaker, MAX_FAILURES - 1);
        breaker.saved();
        record_failure(&breaker, MAX_FAILURES - 1);
        assert_eq!((breaker.breaker_state(), breaker.failure_reason()), (State::Closed, None));
        record_failure(&breaker, 1);
        assert_eq!(breaker.breaker_state(), State::Open);
        assert!(breaker.failure_reason().unwrap().contains("disk full"));
    }

    #[test]
    fn probe_of_the_same_size_half_opens_it_and_one_failure_opens_it() {
        let breaker = CircuitBreaker::default();
        record_failure(&breaker, MAX_FAILURES);
        breaker.state().next_probe = Some(Instant::now());
        assert_eq!(breaker.breaker_state(), State::HalfOpen(5000));
        breaker.half_open();
        assert_eq!((breaker.breaker_state(), breaker.failure_reason()), (State::Closed, None));
        record_failure(&breaker, 1);
        assert_eq!(breaker.breaker_state(), State::Open);
        let waits = breaker.state().next_probe.unwrap() - Instant::now();
        assert!(waits > Duration::from_secs(1), "the wait has grown: {waits:?}");
        breaker.saved();
        record_failure(&breaker, MAX_FAILURES - 1);
        assert_eq!(breaker.breaker_state(), State::Closed);
    }
}
