//! The stop-loss: once answers of several requests and consumers cannot be proven, no more are promised.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::anyhow;

use crate::fault::{Fault, Result};
use crate::ledger::Ledger;

/// So many distinct requests, of so many distinct consumers, whose proofs are refused: one consumer's odd input stops no other.
const MIN_REQUESTS: i64 = 3;
const MIN_CONSUMERS: i64 = 2;
/// Seconds that lie between the refusals at most: those of a rare input, months apart, are no trend.
const WINDOW: i64 = 7 * 24 * 60 * 60;

/// Whether answers of one model are still promised. All it knows is in the ledger, so a restart changes nothing.
pub struct StopLoss {
    ledger: Ledger,
    /// The digest of the model that answers now: with another one it begins anew.
    model: String,
    triggered: AtomicBool,
}

impl StopLoss {
    pub fn new(ledger: Ledger, model: String) -> Self {
        Self { ledger, model, triggered: AtomicBool::default() }
    }

    /// Whether it was triggered when it was last checked.
    pub fn is_triggered(&self) -> bool {
        self.triggered.load(Ordering::Relaxed)
    }

    /// Looks whether a proof has been refused, or has worked, meanwhile. Requests that wait for it are told why.
    ///
    /// # Errors
    /// `Transient`: nothing may be promised, with the reason and what to do.
    pub async fn check(&self) -> Result<()> {
        let refusals = self.ledger.refusals(&self.model, WINDOW).await?;
        let triggered = refusals.requests >= MIN_REQUESTS && refusals.consumers >= MIN_CONSUMERS;
        self.triggered.store(triggered, Ordering::Relaxed);
        if !triggered {
            return Ok(());
        }
        let fault = Fault::Transient(anyhow!(
            "no request is answered: the proofs of {} requests of {} consumers were refused and none has worked since. Find out why \
             with `nova doctor` and `nova prove {}`; it ends with a proof that works (`nova retry` brings failed proof requests \
             back) or with a new model (`nova setup`). The last was: {}",
            refusals.requests,
            refusals.consumers,
            refusals.request.unwrap_or_default(),
            refusals.reason.unwrap_or_default()
        ));
        self.ledger.explain_waiting(&fault.to_string()).await?;
        Err(fault)
    }
}
