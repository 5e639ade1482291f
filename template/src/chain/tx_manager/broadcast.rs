//! Handing signed transactions to a node. A sequencer answers once it has put them in order, a quarter of a second later: several are on
//! their way at once, in the order of their nonces.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use ethers::providers::{Middleware as _, ProviderError, RpcError as _};
use ethers::types::Bytes;
use tokio::task::JoinHandle;

use super::{NonceContention, Sender, rejections};
use crate::chain::node_error::NodeError;
use crate::fault::{Fault, Result};
use crate::ledger::{NewAttempt, Purpose, Tx};

/// Transactions that are on their way at once. Nitro keeps one whose nonce is above the next for a second.
const MAX_CONCURRENT_BROADCASTS: usize = 8;
/// Seconds for which one after the other goes out to a node that has refused one as above the next.
const SEQUENTIAL_PERIOD: Duration = Duration::from_secs(60);
/// A little more than one endpoint is given to answer.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(22);
/// Seconds after which what no node can ever take is signed anew for the first time: a setting may have to change.
const INVALID_TX_RETRY_SECS: i64 = 30;
/// Seconds after which what no node has taken is signed anew.
const REFUSED_TX_RETRY_SECS: i64 = 5;

/// What the node said; `Err(None)` if none said anything.
type Response = std::result::Result<(), Option<ProviderError>>;

/// Transactions on their way to a node, the lowest nonce first.
#[derive(Default)]
pub(super) struct Broadcasts(VecDeque<Broadcast>);

struct Broadcast {
    tx: Tx,
    hash: String,
    nonce: u64,
    answer: JoinHandle<Response>,
}

impl Sender {
    /// Waits until another one may be on its way.
    pub(super) async fn make_room(&mut self, offers: &mut Broadcasts) -> Result<()> {
        while offers.0.len() >= self.concurrent_broadcasts() {
            self.finish_broadcast(offers).await?;
        }
        Ok(())
    }

    fn concurrent_broadcasts(&self) -> usize {
        let keeps_none = self.refused_too_high.is_some_and(|refused| refused.elapsed() < SEQUENTIAL_PERIOD);
        if keeps_none { 1 } else { MAX_CONCURRENT_BROADCASTS }
    }

    /// Hands the node what was just signed, and does not wait for what it says.
    pub(super) fn start_broadcast(&mut self, offers: &mut Broadcasts, tx: &Tx, attempt: &NewAttempt) {
        if self.is_broadcast_paused() {
            self.never_broadcast.insert(attempt.hash.clone());
            return;
        }
        let answer = tokio::spawn(self.send_raw(&attempt.raw));
        offers.0.push_back(Broadcast { tx: tx.clone(), hash: attempt.hash.clone(), nonce: attempt.nonce, answer });
    }

    /// Waits for what the node says of all that is on its way.
    pub(super) async fn finish_broadcasts(&mut self, offers: &mut Broadcasts) -> Result<()> {
        while !offers.0.is_empty() {
            self.finish_broadcast(offers).await?;
        }
        Ok(())
    }

    async fn finish_broadcast(&mut self, offers: &mut Broadcasts) -> Result<()> {
        let Some(Broadcast { tx, hash, nonce, answer }) = offers.0.pop_front() else { return Ok(()) };
        let answer = answer.await.unwrap_or(Err(None));
        self.handle_response(&tx, &hash, nonce, answer).await
    }

    /// Hands the node an attempt, and waits for what it says.
    pub(super) async fn broadcast(&mut self, tx: &Tx, hash: &str, raw: &[u8], nonce: u64) -> Result<()> {
        if self.is_broadcast_paused() {
            self.never_broadcast.insert(hash.to_owned());
            return Ok(());
        }
        self.never_broadcast.remove(hash);
        let answer = self.send_raw(raw).await;
        self.handle_response(tx, hash, nonce, answer).await
    }

    /// True once no node can be reached in this pass, or one waits for a lower nonce.
    pub(super) fn is_broadcast_paused(&self) -> bool {
        self.broadcast_fault.is_some() || self.is_too_high
    }

    /// One round of all endpoints, no more: what hangs must not hold up the other rows, and each is offered again.
    fn send_raw(&self, raw: &[u8]) -> impl Future<Output = Response> + Send + use<> {
        let (client, raw) = (self.chain.client.clone(), Bytes::from(raw.to_vec()));
        let round = ENDPOINT_TIMEOUT * self.chain.settings.rpc_urls.len().max(1) as u32;
        async move {
            match tokio::time::timeout(round, client.send_raw_transaction(raw)).await {
                Ok(sent) => sent.map(drop).map_err(Some),
                Err(_) => Err(None),
            }
        }
    }

    /// What a node makes of an attempt. That it knows it already is success. Once no node can be reached nothing more is offered
    /// in this pass, which ends with that fault.
    async fn handle_response(&mut self, tx: &Tx, hash: &str, nonce: u64, answer: Response) -> Result<()> {
        let error = match answer {
            Ok(()) => return self.mark_broadcast(tx, hash).await,
            Err(error) => error,
        };
        let Some(answer) = error.as_ref().and_then(|error| error.as_error_response()) else {
            let reason = error.map_or_else(|| anyhow!("every RPC endpoint is silent"), |error| anyhow!("{error}"));
            self.never_broadcast.insert(hash.to_owned());
            self.broadcast_fault = Some(Fault::Transient(reason.context("cannot send a transaction")));
            return Ok(());
        };
        let refusal = NodeError::of(&answer.message);
        let never_taken = matches!(tx.state.as_str(), "queued" | "signed");
        let reason = format!("the node refuses it: {}", answer.message);
        match refusal {
            NodeError::AlreadyKnown => return self.mark_broadcast(tx, hash).await,
            // Spent by this very transaction or by another: the next pass asks for receipts and decides.
            NodeError::NonceTooLow => return Ok(()),
            // In the next pass, after those below it.
            NodeError::NonceTooHigh if never_taken => {
                self.never_broadcast.insert(hash.to_owned());
                (self.is_too_high, self.refused_too_high) = (true, Some(Instant::now()));
                return self.ledger.set_reason(&tx.key, &reason).await;
            }
            NodeError::ReplacementUnderpriced if never_taken => {
                let patience = self.chain.settings.replace_after;
                self.contention.get_or_insert_with(|| NonceContention { nonce, since: Instant::now(), patience });
            }
            // The price of L1 is a part of it, which may fall as fast as it rose.
            NodeError::IntrinsicGasTooLow if never_taken => return self.requeue_unsendable(tx, &reason, 2).await,
            NodeError::Invalid if never_taken => {
                return self.requeue_unsendable(tx, &reason, INVALID_TX_RETRY_SECS).await;
            }
            NodeError::Other | NodeError::InsufficientFunds | NodeError::Underpriced
                if never_taken && self.refused.count(hash) =>
            {
                self.refused.forget(hash);
                tracing::warn!(tx = tx.key, hash, nonce, reason, "no node takes it: its nonce is free for another");
                return self.requeue_unsendable(tx, &reason, REFUSED_TX_RETRY_SECS).await;
            }
            _ => {}
        }
        tracing::warn!(tx = tx.key, hash, reason, "it is offered again");
        self.ledger.set_reason(&tx.key, &reason).await
    }

    /// A node has it.
    async fn mark_broadcast(&mut self, tx: &Tx, hash: &str) -> Result<()> {
        self.refused.forget(hash);
        self.refused.forget(&tx.key);
        self.ledger.mark_broadcast(&tx.key).await
    }

    /// No node takes what was signed: it is signed anew, the later the oftener that was in vain. What has no deadline ends at last, but for
    /// what fills a gap, which all above it waits for.
    async fn requeue_unsendable(&mut self, tx: &Tx, reason: &str, first_wait: i64) -> Result<()> {
        let is_urgent = tx.deadline.is_some() || tx.purpose() == Purpose::NonceFill;
        let tries = self.refused.count_anew(&tx.key);
        tracing::error!(tx = tx.key, reason, tries, "not sent");
        // What was signed in this pass for the nonces above it has to wait.
        self.freed_nonce = true;
        let Some(wait) = rejections::retry_wait(first_wait, tries, is_urgent) else {
            return self.ledger.mark_failed(tx, "failed", reason).await;
        };
        self.ledger.requeue(&tx.key, reason).await?;
        self.ledger.postpone(&tx.key, reason, wait).await
    }
}
