//! What the parts of the daemon do about failures that may pass: wait, say so now and then, try on.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::fault::{Fault, Result};
use crate::health::Health;

/// The longest wait after a failed pass.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// How often a failure that lasts is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What a part of the daemon does about its failures.
#[derive(Default)]
pub struct Backoff {
    times: u32,
    last_logged: Option<Instant>,
}

impl Backoff {
    /// After success nothing; after a failure that may pass the time to wait; a failure that may not is handed on.
    pub fn record(&mut self, health: &Health, part: &'static str, outcome: Result<()>) -> Result<Option<Duration>> {
        match outcome {
            Ok(()) => {
                if self.last_logged.take().is_some() {
                    tracing::info!(part, "works again");
                }
                self.times = 0;
                health.set(part, Ok(()));
                Ok(None)
            }
            Err(fault @ Fault::Fatal(_)) => Err(fault),
            Err(fault) => {
                let reason = fault.to_string();
                if self.last_logged.is_none_or(|said| said.elapsed() >= LOG_INTERVAL) {
                    tracing::error!(part, reason, "does not work, trying on");
                    self.last_logged = Some(Instant::now());
                }
                health.set(part, Err(reason));
                self.times += 1;
                Ok(Some(Duration::from_secs(1 << self.times.min(5)).min(MAX_BACKOFF)))
            }
        }
    }
}

/// Writes into the ledger until it takes it, or a person is needed: a row whose end is not written stays claimed.
pub async fn retry_write<F: Future<Output = Result<()>>>(write: impl Fn() -> F) -> Result<()> {
    loop {
        match write().await {
            // The parts that claim rows say that the ledger does not work.
            Err(Fault::Transient(_)) => tokio::time::sleep(Duration::from_secs(1)).await,
            written => return written,
        }
    }
}

/// What happens to many rows at once, and is said once a minute.
#[derive(Debug, Default)]
pub struct LogThrottle(Mutex<(Option<Instant>, u64)>);

impl LogThrottle {
    /// Has it said the first time, and then once a minute: with how often it has happened since it was last said.
    pub fn log(&self, say: impl FnOnce(u64)) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 += 1;
        if state.0.is_none_or(|said| said.elapsed() >= LOG_INTERVAL) {
            say(state.1);
            *state = (Some(Instant::now()), 0);
        }
    }
}

/// Tries until it works or a person is needed: at start, everything outside may be down.
pub async fn retry_until_ok<T, F: Future<Output = Result<T>>>(
    what: &'static str,
    health: &Health,
    part: &'static str,
    attempt: impl Fn() -> F,
) -> Result<T> {
    let mut failing = Backoff::default();
    loop {
        let outcome = match attempt().await {
            Ok(value) => {
                failing.record(health, part, Ok(()))?;
                return Ok(value);
            }
            Err(fault) => Err(fault.context(format!("{what} does not answer"))),
        };
        if let Some(wait) = failing.record(health, part, outcome)? {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_often_is_said_once_a_minute_with_how_often() {
        let (seldom, mut said) = (LogThrottle::default(), Vec::new());
        for _ in 0..100 {
            seldom.log(|times| said.push(times));
        }
        assert_eq!(said, [1]);
        seldom.0.lock().unwrap().0 = Instant::now().checked_sub(LOG_INTERVAL);
        seldom.log(|times| said.push(times));
        assert_eq!(said, [1, 100]);
    }
}
