//! What is stuck: replaced by the same at a higher price, or cancelled by a transfer to ourselves on its nonce.

use std::time::{Duration, Instant};

use super::Sender;
use super::fees::Fees;
use super::reconcile::{PassState, newest_live, nonce_of};
use super::sign::{AttemptParams, Call};
use super::tx_params::TxParams;
use crate::chain::Head;
use crate::chain::revert::{Revert, RevertKind};
use crate::fault::{Fault, Result};
use crate::ledger::{Attempt, AttemptKind, Tx, now};

/// How soon what could not be replaced is tried again.
const REPLACEMENT_INTERVAL: Duration = Duration::from_secs(2);
/// How often it is said that something cannot be replaced.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// A call is renewed this long before the MultiSig refuses it.
const EXPIRY_MARGIN_SECS: u64 = 60;

impl Sender {
    /// Signs another attempt on the nonce of a transaction that waits too long, or whose request has ended. True if it did.
    pub(super) async fn replace_if_due(
        &mut self,
        tx: &Tx,
        attempts: &[Attempt],
        look: &PassState,
        terms: &mut Option<TxParams>,
    ) -> Result<bool> {
        let Some(newest) = newest_live(attempts) else { return Ok(false) };
        let cancelling = tx.state == "cancelling";
        let is_first_cancel = cancelling && newest.kind() == AttemptKind::Work;
        if !is_first_cancel && !self.is_due(tx, newest, look)? {
            return Ok(false);
        }
        if self.last_replacement.get(&tx.key).is_some_and(|tried| tried.elapsed() < REPLACEMENT_INTERVAL) {
            return Ok(false);
        }
        self.last_replacement.retain(|_, tried| tried.elapsed() < REPLACEMENT_INTERVAL);
        self.last_replacement.insert(tx.key.clone(), Instant::now());
        let terms = match terms {
            Some(terms) => terms,
            None => terms.insert(self.tx_params().await?),
        };
        let Some(fees) = self.replacement_fees(tx, attempts, is_first_cancel, terms).await? else { return Ok(false) };
        let call = match cancelling {
            true => self.self_transfer(),
            false => self.call(tx, newest.sequence_id.map(|id| id as u64), terms.head)?,
        };
        let Some(gas) = self.reestimate_gas(tx, &call).await? else { return Ok(false) };
        let cost = fees.cost(gas);
        if terms.balance < cost {
            self.report_stuck(tx, &self.insufficient_funds_message(terms.balance, cost)).await?;
            return Ok(false);
        }
        let kind = if cancelling { AttemptKind::Cancel } else { AttemptKind::Work };
        let nonce = nonce_of(newest);
        let attempt = self.sign(&call, &AttemptParams { kind, nonce, fees, gas }, terms.head)?;
        self.ledger.mark_replaced(&tx.key, &attempt).await?;
        tracing::info!(tx = tx.key, hash = attempt.hash, replaces = newest.hash, nonce, cancelling, "replacing");
        self.broadcast(tx, &attempt.hash, &attempt.raw, nonce).await?;
        Ok(true)
    }

    /// True if an attempt has waited too long: the lowest nonce by the chain's clock, so that a chain that stands still
    /// costs nothing; what the next block would not take because it pays too little, by ours too; what expires, at once.
    fn is_due(&self, tx: &Tx, newest: &Attempt, look: &PassState) -> Result<bool> {
        let patience = self.chain.settings.replace_after.as_secs_f64();
        let by_chain = look.head.time.saturating_sub(newest.chain_time as u64) as f64 >= patience;
        let by_us = (now() - newest.signed_at) as f64 >= patience;
        let is_cheap = Fees::offered([newest])?.max < look.head.base_fee;
        let expires = newest.expires.is_some_and(|time| time as u64 <= look.head.time + EXPIRY_MARGIN_SECS);
        let is_lowest = nonce_of(newest) == look.lowest;
        let refused = is_cheap && tx.state == "signed";
        Ok(expires || refused || (is_cheap && (by_chain || by_us)) || (is_lowest && by_chain))
    }

    /// What outbids all that was offered on this nonce; `None`, and said so, if the settings do not allow it. The first
    /// cancellation is signed all the same, as high as they allow: a node that has lost the work takes it.
    async fn replacement_fees(
        &mut self,
        tx: &Tx,
        attempts: &[Attempt],
        is_first_cancel: bool,
        terms: &TxParams,
    ) -> Result<Option<Fees>> {
        let offered = Fees::offered(attempts.iter().filter(|attempt| attempt.is_live()))?;
        match offered.replacement(terms.fees, terms.limits) {
            Ok(fees) => Ok(Some(fees)),
            Err(_) if is_first_cancel => Ok(Some(terms.fees)),
            Err(reason) => {
                self.report_stuck(tx, &reason).await?;
                Ok(None)
            }
        }
    }

    /// The gas limit of a replacement. `None` if the call would revert now, which its row is told; work that the chain holds already is
    /// cancelled, and what no node has taken gives its nonce back.
    async fn reestimate_gas(&mut self, tx: &Tx, call: &Call) -> Result<Option<u64>> {
        match self.estimate_gas(call).await? {
            Ok(gas) => Ok(Some(gas)),
            Err(revert) if tx.state == "signed" && revert.kind != RevertKind::Unknown => {
                self.ledger.requeue(&tx.key, &format!("the call would revert now: {}", revert.reason)).await?;
                Ok(None)
            }
            Err(Revert { kind: RevertKind::AlreadyAnswered | RevertKind::AlreadyDone, reason }) => {
                self.ledger.mark_cancelling(&tx.key, &format!("the chain holds it already: {reason}")).await?;
                Ok(None)
            }
            Err(revert) => {
                self.report_stuck(tx, &format!("the call would revert now: {}", revert.reason)).await?;
                Ok(None)
            }
        }
    }

    /// False where what was signed would be reverted now, and is not to be offered in this pass: a reorg may have undone what it built on.
    /// Outside the top N it is cancelled, so that nothing above its nonce waits for it; what no node has taken gives its nonce back. A
    /// request that the chain does not have may be one that this machine has not heard of: until it is known which, nothing is offered.
    /// Every other refusal may say that it is mined, by a machine that is ahead of the one that was asked for its receipt.
    pub(super) async fn check_before_rebroadcast(
        &mut self,
        tx: &mut Tx,
        newest: &Attempt,
        look: &PassState,
    ) -> Result<bool> {
        let call = self.call(tx, newest.sequence_id.map(|id| id as u64), look.head)?;
        let revert = match self.estimate_gas(&call).await {
            Ok(Err(revert)) => revert,
            // No endpoint answers: the broadcast that follows asks again.
            Ok(Ok(_)) | Err(Fault::Transient(_)) => return Ok(true),
            Err(fault) => return Err(fault),
        };
        let reason = format!("the call would revert now: {}", revert.reason);
        match revert.kind {
            RevertKind::UnknownRequest => {
                self.last_rebroadcast = None;
                self.ledger.set_reason(&tx.key, &reason).await?;
                return Ok(false);
            }
            RevertKind::NotTopN => self.top_n = None,
            _ => return Ok(true),
        }
        tracing::warn!(tx = tx.key, reason, "not sent again");
        if tx.state == "signed" {
            self.ledger.requeue(&tx.key, &reason).await?;
            return Ok(false);
        }
        self.start_cancelling(tx, reason).await?;
        Ok(true)
    }

    /// From now on nothing of it is to be mined as work.
    pub(super) async fn start_cancelling(&self, tx: &mut Tx, reason: String) -> Result<()> {
        self.ledger.mark_cancelling(&tx.key, &reason).await?;
        (tx.state, tx.reason) = ("cancelling".to_owned(), Some(reason));
        Ok(())
    }

    async fn report_stuck(&mut self, tx: &Tx, reason: &str) -> Result<()> {
        if self.alerts.should_log("replace", LOG_INTERVAL) {
            tracing::error!(tx = tx.key, reason, "a transaction is stuck and cannot be replaced");
        }
        self.ledger.set_reason(&tx.key, &format!("stuck: {reason}")).await
    }

    /// Ends a transaction that was given up, once nothing of it can be mined as work.
    pub(super) async fn finish_cancelled(&mut self, tx: &Tx, head: Head) -> Result<()> {
        let end = if self.is_answered(tx).await? {
            "answered"
        } else if tx.is_late(head.time) {
            "expired"
        } else {
            "failed"
        };
        let reason = tx.reason.as_deref().unwrap_or("nobody wanted it any more");
        self.ledger.mark_failed(tx, end, &format!("cancelled: {reason}")).await
    }

    /// True if a transaction that was given up is to be sent after all: its request came back after a reorg.
    pub(super) async fn is_needed_again(&self, tx: &Tx, head: Head) -> Result<bool> {
        let served = matches!(tx.served.as_deref(), Some("inferred" | "answering" | "proved" | "uploaded" | "sending"));
        Ok(served && tx.obsolete_reason(head.time).is_none() && !self.is_answered(tx).await?)
    }
}
