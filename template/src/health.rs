//! How the parts of the daemon are, as they last told.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::ezkl::Ezkl;
use crate::ledger::Ledger;

/// What has to work before the daemon is of use.
const NEEDED: [&str; 3] = ["model", "rpc", "worker"];

/// The state of each part: fine, or why not.
#[derive(Default)]
pub struct Health {
    parts: Mutex<BTreeMap<&'static str, Result<(), String>>>,
    ledger: OnceLock<Ledger>,
    ezkl: OnceLock<Ezkl>,
}

impl Health {
    pub fn set(&self, part: &'static str, state: Result<(), String>) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(part, state);
    }

    /// From now on the ledger is asked whenever somebody asks us.
    pub fn watch_ledger(&self, ledger: Ledger) {
        // It is set once, at the end of the start.
        let _ = self.ledger.set(ledger);
    }

    /// From now on the EZKL workers tell how they are.
    pub fn watch_ezkl(&self, ezkl: Ezkl) {
        // As above.
        let _ = self.ezkl.set(ezkl);
    }

    /// Every part with its state: `ok`, or what is wrong.
    pub async fn report(&self) -> BTreeMap<&'static str, Result<(), String>> {
        let mut report = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for part in NEEDED {
            report.entry(part).or_insert_with(|| Err("not started yet".to_owned()));
        }
        let ledger = match self.ledger.get() {
            Some(ledger) => ledger.writable().await.map_err(|fault| fault.to_string()),
            None => Err("not started yet".to_owned()),
        };
        report.insert("ledger", ledger);
        if let Some(ezkl) = self.ezkl.get() {
            report.insert("worker", ezkl.trouble().map_or(Ok(()), Err));
        }
        report
    }
}
