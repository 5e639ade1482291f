//! How something outside has been doing lately, as those who use it find.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is not used for so long is no longer said to be broken: nobody knows.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// Failures in a row.
#[derive(Debug)]
pub struct Condition {
    /// So many failures are trouble.
    enough: u32,
    failing: Mutex<Option<Failing>>,
}

#[derive(Debug)]
struct Failing {
    times: u32,
    reason: String,
    last: Instant,
}

impl Condition {
    pub fn new(enough: u32) -> Self {
        Self { enough, failing: Mutex::default() }
    }

    pub fn works(&self) {
        *self.failing() = None;
    }

    pub fn fails(&self, reason: String) {
        let mut failing = self.failing();
        let times = failing.as_ref().map_or(0, |failing| failing.times).saturating_add(1);
        *failing = Some(Failing { times, reason, last: Instant::now() });
    }

    /// Failures since it last worked.
    pub fn failures(&self) -> u32 {
        self.failing().as_ref().map_or(0, |failing| failing.times)
    }

    /// Why it does not work, if it has not for long enough.
    pub fn trouble(&self) -> Option<String> {
        let failing = self.failing();
        let failing = failing.as_ref().filter(|failing| failing.times >= self.enough)?;
        (failing.last.elapsed() < FORGOTTEN).then(|| failing.reason.clone())
    }

    fn failing(&self) -> std::sync::MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_failures_in_a_row_are_trouble_until_it_works() {
        let condition = Condition::new(2);
        condition.fails("one".to_owned());
        assert_eq!(condition.trouble(), None);
        condition.fails("two".to_owned());
        assert_eq!((condition.trouble().as_deref(), condition.failures()), (Some("two"), 2));
        condition.works();
        condition.fails("three".to_owned());
        assert_eq!((condition.trouble(), condition.failures()), (None, 1));
    }
}
