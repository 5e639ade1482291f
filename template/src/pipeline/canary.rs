//! The canary: while no proof request is open, the prover proves a recent answer that was not asked for. So it is known
//! before a validator asks whether what was promised can be proven.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::prove::{Prover, Unproven};
use crate::fault::{Fault, Result};
use crate::ledger::{BegunCanary, Ledger, ProofOutcome};

/// After a failure, of a canary or of a proof that was asked for, the next is due this soon: it shows whether others fail too, and
/// ends the stop-loss where they do not.
const AFTER_FAILURE: Duration = Duration::from_secs(3600);
/// When one is tried again that failed for a reason that may pass.
const PAUSE: Duration = Duration::from_secs(600);

/// Proves answers of one model that were not asked for. Nothing is delivered.
pub struct Canary {
    prover: Prover,
    ledger: Ledger,
    /// The digest of the model that answers now.
    model: String,
    interval: Duration,
    /// Until when none begins, and why.
    pause: Mutex<Option<(Instant, String)>>,
}

impl Canary {
    pub fn new(prover: Prover, ledger: Ledger, model: String, interval: Duration) -> Self {
        Self { prover, ledger, model, interval, pause: Mutex::default() }
    }

    /// Chooses an answer and writes down that its canary has begun, if one is due.
    pub async fn begin(&self) -> Result<Option<BegunCanary>> {
        if self.paused().is_some_and(|(until, _)| Instant::now() < until) {
            return Ok(None);
        }
        self.set_pause(None);
        let interval = match self.ledger.has_failed_attempt(&self.model).await? {
            true => self.interval.min(AFTER_FAILURE),
            false => self.interval,
        };
        self.ledger.begin_canary(&self.model, interval.as_secs().max(1) as i64).await
    }

    /// Makes and verifies the proof, and writes down how that ended. May be dropped at any time: then the worker is ended.
    pub async fn prove(&self, canary: &BegunCanary) -> Result<()> {
        let witness = self.ledger.request(&canary.request).await?.and_then(|request| request.witness);
        let proved = self.prover.prove(&canary.request, witness.as_deref()).await;
        match proved {
            Ok(proof) => {
                let seconds = proof.seconds.unwrap_or_default();
                self.ledger.canary_verified(canary, &proof.vk_digest, seconds).await?;
                tracing::info!(request = canary.request, seconds, "canary verified");
            }
            Err(Fault::Transient(error)) => {
                self.set_pause(Some((Instant::now() + PAUSE, Fault::Transient(error).to_string())));
                self.ledger.forget_canary(canary).await?;
            }
            Err(fault) => {
                let is_refusal = fault.error().is::<Unproven>();
                let outcome = if is_refusal { ProofOutcome::Refused } else { ProofOutcome::Failed };
                let reason = fault.to_string();
                tracing::error!(request = canary.request, reason, "canary failed");
                self.ledger.canary_failed(canary, outcome, &reason).await?;
            }
        }
        Ok(())
    }

    /// # Errors
    /// `Transient`: the last canary failed, and no proof has worked since.
    pub async fn check(&self) -> Result<()> {
        if let Some((request, reason)) = self.ledger.canary_trouble(&self.model).await? {
            return Err(Fault::Transient(anyhow!(
                "the answer to request {request} cannot be proven: {reason}. `nova prove {request}` tries it by hand; this \
                 passes with the next proof that works"
            )));
        }
        match self.paused() {
            Some((_, reason)) => {
                Err(Fault::Transient(anyhow!("no answer could be proven, tried again soon: {reason}")))
            }
            None => Ok(()),
        }
    }

    fn paused(&self) -> Option<(Instant, String)> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_pause(&self, pause: Option<(Instant, String)>) {
        *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = pause;
    }
}
