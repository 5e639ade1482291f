//! How something outside has been doing lately, as those who use it find.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is not used for so long is no longer said to be broken: nobody knows.
const STALE_AFTER: Duration = Duration::from_secs(300);

/// Failures in a row.
#[derive(Debug)]
pub struct FailureTracker {
    /// So many failures are trouble.
    threshold: u32,
    failing: Mutex<Option<Failures>>,
}

#[derive(Debug)]
struct Failures {
    times: u32,
    reason: String,
    last: Instant,
}

impl FailureTracker {
    pub fn new(enough: u32) -> Self {
        Self { threshold: enough, failing: Mutex::default() }
    }

    pub fn record_success(&self) {
        *self.failing() = None;
    }

    pub fn record_failure(&self, reason: String) {
        let mut failing = self.failing();
        let times = failing.as_ref().map_or(0, |failing| failing.times).saturating_add(1);
        *failing = Some(Failures { times, reason, last: Instant::now() });
    }

    /// Failures since it last worked.
    pub fn failures(&self) -> u32 {
        self.failing().as_ref().map_or(0, |failing| failing.times)
    }

    /// Why it does not work, if it has not for long enough.
    pub fn failure_reason(&self) -> Option<String> {
        let failing = self.failing();
        let failing = failing.as_ref().filter(|failing| failing.times >= self.threshold)?;
        (failing.last.elapsed() < STALE_AFTER).then(|| failing.reason.clone())
    }

    fn failing(&self) -> std::sync::MutexGuard<'_, Option<Failures>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_failures_in_a_row_are_trouble_until_it_works() {
        let condition = FailureTracker::new(2);
        condition.record_failure("one".to_owned());
        assert_eq!(condition.failure_reason(), None);
        condition.record_failure("two".to_owned());
        assert_eq!((condition.failure_reason().as_deref(), condition.failures()), (Some("two"), 2));
        condition.record_success();
        condition.record_failure("three".to_owned());
        assert_eq!((condition.failure_reason(), condition.failures()), (None, 1));
    }
}
