//! How the parts of the daemon are, as they last told.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::ledger::Ledger;

/// What has to work before the daemon is of use.
const REQUIRED: [&str; 3] = ["model", "rpc", "worker"];

/// Whoever asks how we are does not wait longer for the ledger.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(3);

/// For so long what it said holds.
const LEDGER_CACHE_TTL: Duration = Duration::from_secs(1);

/// Asked whenever somebody asks us: what is wrong with a part, if anything is.
type Check = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// The state of each part: fine, or why not.
#[derive(Default)]
pub struct Health {
    parts: Mutex<BTreeMap<&'static str, Result<(), String>>>,
    ledger: Mutex<Option<Ledger>>,
    /// How it was when it was last asked. Whoever asks us often must not make us write often.
    cached_ledger_state: tokio::sync::Mutex<Option<(Instant, Result<(), String>)>>,
    checks: Mutex<Vec<(&'static str, Check)>>,
}

impl Health {
    pub fn set(&self, part: &'static str, state: Result<(), String>) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(part, state);
    }

    /// From now on the ledger is asked whenever somebody asks us.
    pub fn watch_ledger(&self, ledger: Ledger) {
        *self.ledger.lock().unwrap_or_else(PoisonError::into_inner) = Some(ledger);
    }

    /// Everything begins anew: nothing is known of any part.
    pub fn reset(&self) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.ledger.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// From now on this tells how the part is.
    pub fn register_check(&self, part: &'static str, trouble: impl Fn() -> Option<String> + Send + Sync + 'static) {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).push((part, Box::new(trouble)));
    }

    /// Every part with its state: `ok`, or what is wrong.
    pub async fn report(&self) -> BTreeMap<&'static str, Result<(), String>> {
        let mut report = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for part in REQUIRED {
            report.entry(part).or_insert_with(|| Err("not started yet".to_owned()));
        }
        report.insert("ledger", self.check_ledger().await);
        for (part, trouble) in self.checks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            report.insert(part, trouble().map_or(Ok(()), Err));
        }
        report
    }

    async fn check_ledger(&self) -> Result<(), String> {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(ledger) = ledger else { return Err("not started yet".to_owned()) };
        let mut was = self.cached_ledger_state.lock().await;
        if let Some((when, state)) = was.as_ref()
            && when.elapsed() < LEDGER_CACHE_TTL
        {
            return state.clone();
        }
        let state = match tokio::time::timeout(LEDGER_TIMEOUT, ledger.writable()).await {
            Ok(writable) => writable.map_err(|fault| fault.to_string()),
            Err(_) => Err(format!("the ledger did not answer within {LEDGER_TIMEOUT:?}")),
        };
        *was = Some((Instant::now(), state.clone()));
        state
    }
}
