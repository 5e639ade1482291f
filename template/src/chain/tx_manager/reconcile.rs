//! Where the transactions in flight are, as the chain tells it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ethers::providers::Middleware as _;
use ethers::types::{BlockNumber, H256, TransactionReceipt};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::Sender;
use super::tx_params::TxParams;
use crate::chain::{Head, rpc_fault, to_hex, to_u64};
use crate::fault::{Classify as _, Result};
use crate::ledger::{Attempt, AttemptKind, Purpose, Tx, now};

/// How often a node is handed a transaction that it has not mined.
const REBROADCAST_INTERVAL: Duration = Duration::from_secs(15);
/// How often every mined transaction is asked for again, reorg or not.
const FULL_CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// How often a row that is queued again is looked for in the blocks while nothing else is to be done.
const LOST_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Transactions whose receipts are asked for at once.
const MAX_CONCURRENT_CALLS: usize = 8;
/// How often it is said that a receipt is not there.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What one pass sees.
pub(super) struct PassState {
    pub head: Head,
    /// How many nonces of the wallet are spent for good.
    spent: u64,
    /// The lowest nonce of ours that is not mined: the others wait for it.
    pub lowest: u64,
    rebroadcast: bool,
    /// The first since the start or a reorg: the chain may be another than the one that what is in flight was signed for.
    is_first_rebroadcast: bool,
}

/// A transaction with all that was signed for it, and what the chain has of that.
type Found = (Tx, Vec<Attempt>, Option<TransactionReceipt>);

impl Sender {
    /// Moves every transaction that is in flight to where the chain says it is; replaces and cancels what is stuck.
    /// Returns how many are not mined yet.
    pub(super) async fn reconcile(&mut self, terms: &mut Option<TxParams>) -> Result<usize> {
        self.has_gap = false;
        let rows = self.ledger.in_flight().await?;
        if !rows.iter().any(is_open) {
            // What it was about is in a block, or was given up.
            self.contention = None;
        }
        if !self.is_check_due(&rows) {
            return Ok(0);
        }
        let head = self.chain.head().await?;
        let (due, final_block) = self.due(rows, head).await?;
        let found = self.find_receipts(due).await?;
        self.read_block_times(&found).await;
        let open: Vec<_> = found.iter().filter(|(tx, _, receipt)| receipt.is_none() && is_open(tx)).collect();
        let waiting = open.len();
        let look = if open.is_empty() { None } else { Some(self.pass_state(head, &open).await?) };
        for (tx, attempts, receipt) in found {
            match (receipt, &look) {
                (Some(receipt), _) => {
                    let outcome = self.apply_receipt(&tx, &attempts, &receipt, head, final_block).await;
                    self.hiccups.survive(outcome)?;
                }
                (None, _) if tx.state == "mined" => {
                    let outcome = self.check_lost_receipt(&tx).await;
                    self.hiccups.survive(outcome)?;
                }
                (None, Some(look)) if is_open(&tx) => self.handle_unmined(tx, &attempts, look, terms).await?,
                _ => {}
            }
        }
        Ok(waiting)
    }

    /// What is not mined is looked at in every pass; what is mined and not final the less often the older it is.
    fn is_check_due(&mut self, rows: &[Tx]) -> bool {
        let mined = rows.iter().filter(|tx| tx.state == "mined");
        let youngest = mined.map(|tx| (now() - tx.changed_at).clamp(0, 1000) as u64).min();
        let every = youngest.map_or(LOST_CHECK_INTERVAL, |age| Duration::from_secs((age / 8).clamp(1, 30)));
        let due = self.last_check.is_none_or(|looked| looked.elapsed() >= every);
        let look = !rows.is_empty() && (due || rows.iter().any(is_open));
        if look {
            self.last_check = Some(Instant::now());
        }
        look
    }

    /// The rows whose receipts are worth asking for: of those that are mined only what may be final now, or gone.
    async fn due(&mut self, rows: Vec<Tx>, head: Head) -> Result<(Vec<Tx>, Option<u64>)> {
        if !rows.iter().any(|tx| tx.state == "mined") {
            return Ok((rows, None));
        }
        let final_block = self.final_block(head).await?;
        let seen = self.last_head.map_or(0, |seen| seen.number);
        let all = self.needs_full_check(head).await?;
        let is_due = |tx: &Tx| {
            let block = tx.mined_block.unwrap_or_default() as u64;
            tx.state != "mined" || all || block > seen || final_block.is_some_and(|last| block <= last)
        };
        Ok((rows.into_iter().filter(is_due).collect(), final_block))
    }

    /// A mined transaction whose receipt is not there. Only a chain that has another block in the place of its block has forgotten it:
    /// the machine that answers may not have heard of either yet.
    async fn check_lost_receipt(&mut self, tx: &Tx) -> Result<()> {
        let block = tx.mined_block.unwrap_or_default() as u64;
        let held = self.chain.client.get_block(block).await.map_err(rpc_fault)?.and_then(|block| block.hash);
        if held.is_none_or(|hash| tx.mined_block_hash.as_ref() == Some(&to_hex(hash))) {
            if self.alerts.should_log("receipt", LOG_INTERVAL) {
                tracing::warn!(
                    tx = tx.key,
                    block,
                    "the RPC endpoint has no receipt of a transaction that is mined, it is asked again"
                );
            }
            return Ok(());
        }
        tracing::warn!(tx = tx.key, block, "the chain forgot the block of a transaction, it is sent again");
        self.ledger.mark_unmined(&tx.key).await?;
        self.last_rebroadcast = None;
        Ok(())
    }

    /// True if the chain forgot the newest block we saw, or now and then for safety. A head that is older is one of a machine that
    /// is behind: of the machines behind one endpoint any may answer.
    async fn needs_full_check(&mut self, head: Head) -> Result<bool> {
        let overdue = self.last_full_check.is_none_or(|asked| asked.elapsed() >= FULL_CHECK_INTERVAL);
        let forgotten = match self.last_head {
            None => true,
            Some(seen) if seen.number > head.number => false,
            Some(seen) => {
                let block = self.chain.client.get_block(seen.number).await.map_err(rpc_fault)?;
                block.is_some_and(|block| block.hash != Some(seen.hash))
            }
        };
        if forgotten || overdue || self.last_head.is_some_and(|seen| seen.number <= head.number) {
            self.last_head = Some(head);
        }
        if forgotten || overdue {
            self.last_full_check = Some(Instant::now());
        }
        Ok(forgotten || overdue)
    }

    async fn find_receipts(&self, rows: Vec<Tx>) -> Result<Vec<Found>> {
        let asks: Vec<_> = rows
            .into_iter()
            .map(async |tx| {
                let attempts = self.ledger.attempts(&tx.key).await?;
                let receipt = self.find_receipt(&attempts).await?;
                Ok((tx, attempts, receipt))
            })
            .collect();
        stream::iter(asks).buffered(MAX_CONCURRENT_CALLS).try_collect().await
    }

    /// Reads the times of the blocks in which something was mined that the ledger does not know yet.
    async fn read_block_times(&mut self, found: &[Found]) {
        let unknown = found.iter().filter(|(tx, _, _)| tx.state != "mined");
        let blocks: HashSet<H256> =
            unknown.filter_map(|(_, _, receipt)| receipt.as_ref().and_then(|receipt| receipt.block_hash)).collect();
        let asks: Vec<_> = blocks.into_iter().map(async |block| (block, self.block_time(block).await)).collect();
        let times: Vec<_> = stream::iter(asks).buffer_unordered(MAX_CONCURRENT_CALLS).collect().await;
        // What cannot be read now is asked for again by the row that needs it, and holds up no other.
        self.block_times = times.into_iter().filter_map(|(block, time)| Some((block, time.ok()??))).collect();
    }

    /// When a block was made; `None` where the machine that answers has not heard of it.
    pub(super) async fn block_time(&self, block: H256) -> Result<Option<u64>> {
        if let Some(time) = self.block_times.get(&block) {
            return Ok(Some(*time));
        }
        let header = self.chain.client.get_block(block).await.map_err(rpc_fault)?;
        header.map(|header| to_u64("a block's time", header.timestamp)).transpose()
    }

    /// The receipt of whichever attempt was mined, be it one that was given up, but for those that are known to have done
    /// nothing.
    pub(super) async fn find_receipt(&self, attempts: &[Attempt]) -> Result<Option<TransactionReceipt>> {
        for attempt in attempts.iter().filter(|attempt| !attempt.is_ineffective()) {
            let hash: H256 = attempt.hash.parse().context("the ledger holds a hash that is none").fatal()?;
            let receipt = self.chain.client.get_transaction_receipt(hash).await.map_err(rpc_fault)?;
            if let Some(receipt) = receipt.filter(|receipt| receipt.block_number.is_some()) {
                return Ok(Some(receipt));
            }
        }
        Ok(None)
    }

    async fn pass_state(&mut self, head: Head, open: &[&Found]) -> Result<PassState> {
        // So many blocks ago that a replica that lags, or a short reorg, does not change it.
        let settled = head.number.saturating_sub(self.chain.settings.confirmations);
        let spent = self.transaction_count(BlockNumber::Number(settled.into())).await?;
        let lowest = open.iter().filter_map(|(_, attempts, _)| newest_live(attempts)).map(nonce_of).min();
        let lowest = lowest.unwrap_or(u64::MAX);
        self.has_gap = lowest > spent;
        if self.contention.as_ref().is_some_and(|contest| contest.nonce < spent) {
            self.contention = None;
        }
        let is_first = self.last_rebroadcast.is_none();
        let rebroadcast = self.last_rebroadcast.is_none_or(|last| last.elapsed() >= REBROADCAST_INTERVAL);
        if rebroadcast {
            self.last_rebroadcast = Some(Instant::now());
        }
        Ok(PassState { head, spent, lowest, rebroadcast, is_first_rebroadcast: is_first })
    }

    /// A transaction without receipt: out of the race, out of purpose, stuck, or simply not mined yet.
    async fn handle_unmined(
        &mut self,
        mut tx: Tx,
        attempts: &[Attempt],
        look: &PassState,
        terms: &mut Option<TxParams>,
    ) -> Result<()> {
        let Some(newest) = newest_live(attempts) else {
            return self.ledger.requeue(&tx.key, "nothing that was signed for it can be mined").await;
        };
        let nonce = nonce_of(newest);
        if nonce < look.spent {
            return self.handle_spent_nonce(&tx, attempts, nonce, look.head).await;
        }
        if self.conflicting_daemon.is_some() {
            // We sign nothing any more: what no node took is given up, the rest is watched.
            return match tx.state.as_str() {
                "signed" => self.ledger.requeue(&tx.key, "another daemon uses this key").await,
                _ => Ok(()),
            };
        }
        if tx.state == "signed"
            && self.contention.as_ref().is_some_and(|contest| contest.nonce == nonce && contest.is_over())
        {
            self.contention = None;
            return self.ledger.requeue(&tx.key, "another transaction holds its nonce in the node's pool").await;
        }
        if tx.state != "cancelling"
            && let Some(reason) = tx.obsolete_reason(look.head.time)
        {
            tracing::info!(tx = tx.key, reason, "nobody wants it any more, cancelling");
            self.start_cancelling(&mut tx, reason).await?;
        }
        if look.is_first_rebroadcast
            && tx.state != "cancelling"
            && !self.check_before_rebroadcast(&mut tx, newest, look).await?
        {
            return Ok(());
        }
        // What was never offered need not be outbid.
        let unwanted = tx.state == "cancelling" && newest.kind() == AttemptKind::Work;
        let unoffered = !unwanted && self.never_broadcast.contains(&newest.hash);
        if !unoffered && self.replace_if_due(&tx, attempts, look, terms).await? {
            return Ok(());
        }
        let refused = tx.state == "signed" && self.refused.is_due(&newest.hash);
        if unoffered || ((look.rebroadcast || refused) && !unwanted) {
            return self.broadcast(&tx, &newest.hash, &newest.raw, nonce).await;
        }
        Ok(())
    }
}

/// True if it is signed and not mined, as far as the ledger knows.
fn is_open(tx: &Tx) -> bool {
    matches!(tx.state.as_str(), "signed" | "broadcast" | "cancelling")
}

/// The attempt that the node should have.
pub(super) fn newest_live(attempts: &[Attempt]) -> Option<&Attempt> {
    attempts.iter().find(|attempt| attempt.is_live())
}

pub(super) fn nonce_of(attempt: &Attempt) -> u64 {
    attempt.nonce as u64
}

/// What waits for a rank among the top N.
pub(super) fn requires_top_n(tx: &Tx) -> bool {
    !matches!(tx.purpose(), Purpose::Claim | Purpose::NonceFill)
}
