//! What a mined transaction did: what it was for, nothing, or something else.

use anyhow::anyhow;
use ethers::contract::EthEvent as _;
use ethers::providers::Middleware as _;
use ethers::types::transaction::eip2718::TypedTransaction;
use ethers::types::{Address, BlockId, H256, Log, TransactionReceipt, TransactionRequest};

use super::Sender;
use crate::chain::contracts::{
    CommittedFilter, ProofVerifiedFilter, ZkmlchallengeResponseFilter, consumption, consumption_of_strings,
};
use crate::chain::revert::{Revert, RevertKind};
use crate::chain::{Head, address, to_hex};
use crate::fault::{Fault, Result};
use crate::ledger::{Attempt, AttemptKind, Mined, Purpose, Tx, now};

/// An answer that was reverted with time left is signed anew so often: what was in its way may be gone.
const MAX_ON_CHAIN_REVERTS: usize = 3;

/// Seconds for which a receipt may be there and its block not: no machine behind one endpoint lags so much.
const MISSING_BLOCK_ALERT_SECS: i64 = 60;

impl Sender {
    /// `→ mined`, then `→ final` once its block is; a revert, a missing event or a cancellation is something else.
    pub(super) async fn apply_receipt(
        &mut self,
        tx: &Tx,
        attempts: &[Attempt],
        receipt: &TransactionReceipt,
        head: Head,
        final_block: Option<u64>,
    ) -> Result<()> {
        let hash = to_hex(receipt.transaction_hash);
        let is_cancel = attempts.iter().any(|it| it.hash == hash && it.kind() == AttemptKind::Cancel);
        if is_cancel && self.is_needed_again(tx, head).await? {
            tracing::info!(tx = tx.key, hash, "cancelled, and wanted again");
            return self.ledger.mark_ineffective(&tx.key, &hash, "it was cancelled, and is wanted again", 0).await;
        }
        if receipt.status == Some(0.into()) {
            return self.handle_revert(tx, attempts, receipt, head).await;
        }
        let block = receipt.block_number.unwrap_or_default().as_u64();
        let block_hash = to_hex(receipt.block_hash.unwrap_or_default());
        let known = tx.state == "mined"
            && tx.mined_hash.as_ref() == Some(&hash)
            && tx.mined_block_hash.as_ref() == Some(&block_hash);
        if !known && !self.record_mined(tx, is_cancel, receipt, block, block_hash).await? {
            return Ok(());
        }
        // Asked in each look: the daemon may have died after it was written down as mined.
        if !is_cancel && let Some(missing) = self.missing_event(tx, &receipt.logs)? {
            let reason = format!("mined, but the contract {} logged no {missing}", tx.target);
            tracing::error!(tx = tx.key, hash, reason, "a transaction did nothing");
            return self.ledger.mark_failed(tx, "failed", &reason).await;
        }
        // Final is what was written down before, with the very block of the receipt that was just asked for.
        if !known || final_block.is_none_or(|last| block > last) {
            return Ok(());
        }
        if is_cancel { self.finish_cancelled(tx, head).await } else { self.ledger.mark_final(tx).await }
    }

    /// Writes down that it was mined; false where the machine that answers has heard of the receipt and not of its block yet.
    async fn record_mined(
        &mut self,
        tx: &Tx,
        is_cancel: bool,
        receipt: &TransactionReceipt,
        block: u64,
        block_hash: String,
    ) -> Result<bool> {
        let Some(time) = self.block_time(receipt.block_hash.unwrap_or_default()).await? else {
            if now() - tx.changed_at > MISSING_BLOCK_ALERT_SECS {
                let reason =
                    anyhow!("the RPC endpoint has a receipt of block {block}, and has had no such block for a while");
                self.hiccups.tell(Fault::Transient(reason));
            }
            return Ok(false);
        };
        let mined = Mined {
            hash: to_hex(receipt.transaction_hash),
            block,
            block_hash,
            time,
            gas_used: receipt.gas_used.unwrap_or_default().low_u64(),
        };
        self.ledger.mark_mined(&tx.key, &mined).await?;
        tracing::info!(
            tx = tx.key,
            hash = mined.hash,
            block,
            is_cancel,
            url = self.chain.explorer(&mined.hash),
            "mined"
        );
        Ok(true)
    }

    /// The event that says that the work was done, if it is not among the logs.
    fn missing_event(&self, tx: &Tx, logs: &[Log]) -> Result<Option<String>> {
        let us = H256::from(self.chain.modeler());
        // The request id is the first argument of all calls but one.
        let request = tx.calldata.get(4..36).map(H256::from_slice);
        let (name, signatures, topics) = match tx.purpose() {
            Purpose::Answer => (
                "InferenceSubmitted",
                vec![
                    consumption::InferenceSubmittedFilter::signature(),
                    consumption_of_strings::InferenceSubmittedFilter::signature(),
                ],
                [Some(us), request],
            ),
            Purpose::Commit => ("Committed", vec![CommittedFilter::signature()], [request, Some(us)]),
            Purpose::Prove => ("ProofVerified", vec![ProofVerifiedFilter::signature()], [request, Some(us)]),
            Purpose::Respond => {
                ("ZKMLChallengeResponse", vec![ZkmlchallengeResponseFilter::signature()], [None, Some(us)])
            }
            Purpose::Claim | Purpose::NonceFill => return Ok(None),
        };
        let target = address("the ledger's target", &tx.target)?;
        let found = logs.iter().any(|log| is_event(log, target, &signatures, topics));
        Ok((!found).then(|| format!("{name} of ours for it")))
    }

    /// A revert on chain: the end, unless what was in its way may be gone.
    async fn handle_revert(
        &mut self,
        tx: &Tx,
        attempts: &[Attempt],
        receipt: &TransactionReceipt,
        head: Head,
    ) -> Result<()> {
        let hash = to_hex(receipt.transaction_hash);
        if tx.purpose() == Purpose::Answer && self.is_answered(tx).await? {
            return self.ledger.mark_failed(tx, "answered", "the chain holds our answer already").await;
        }
        let revert = self.revert_reason(receipt).await;
        if self.resolve_if_already_done(tx, &revert).await? {
            return Ok(());
        }
        let reason = format!("reverted on chain: {}", revert.reason);
        tracing::error!(tx = tx.key, hash, reason, "a transaction was reverted");
        let times = attempts.iter().filter(|attempt| attempt.is_ineffective()).count() + 1;
        let may_pass = match (tx.purpose(), revert.kind) {
            (_, RevertKind::StaleSequenceId | RevertKind::NotTopN) => true,
            (Purpose::Answer | Purpose::Commit, RevertKind::UnknownRequest) => true,
            (Purpose::Answer | Purpose::Commit, _) => times < MAX_ON_CHAIN_REVERTS,
            _ => false,
        };
        if may_pass && tx.obsolete_reason(head.time).is_none() {
            self.ledger.mark_ineffective(&tx.key, &hash, &reason, 1).await
        } else {
            self.ledger.mark_failed(tx, "failed", &reason).await
        }
    }

    /// Runs the transaction again on the block before, to hear its reason.
    async fn revert_reason(&self, receipt: &TransactionReceipt) -> Revert {
        let silent = |reason: &str| Revert { kind: RevertKind::Other, reason: reason.to_owned() };
        let Ok(Some(transaction)) = self.chain.client.get_transaction(receipt.transaction_hash).await else {
            return silent("the node does not say why");
        };
        let before = receipt.block_number.map(|block| BlockId::from(block.saturating_sub(1.into())));
        match self.chain.client.call(&replay_call(&transaction), before).await {
            Err(error) => Revert::from_provider_error(&error).unwrap_or_else(|| silent(&error.to_string())),
            Ok(_) => silent("it would have succeeded a block earlier"),
        }
    }
}

fn is_event(log: &Log, target: Address, signatures: &[H256], topics: [Option<H256>; 2]) -> bool {
    let has = |place: usize, wanted: Option<H256>| wanted.is_none_or(|topic| log.topics.get(place) == Some(&topic));
    log.address == target
        && log.topics.first().is_some_and(|topic| signatures.contains(topic))
        && has(1, topics[0])
        && has(2, topics[1])
}

/// The call that a mined transaction made.
fn replay_call(transaction: &ethers::types::Transaction) -> TypedTransaction {
    let mut call =
        TransactionRequest::new().from(transaction.from).data(transaction.input.clone()).gas(transaction.gas);
    call.to = transaction.to.map(Into::into);
    call.into()
}
