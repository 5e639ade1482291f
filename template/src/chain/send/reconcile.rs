//! Where the transactions in flight are, as the chain tells it.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ethers::providers::{Middleware as _, RpcError as _};
use ethers::types::transaction::eip2718::TypedTransaction;
use ethers::types::{BlockId, Bytes, H256, TransactionReceipt, TransactionRequest};

use super::{Sender, revert_reason};
use crate::chain::{Head, text, unreachable};
use crate::fault::{Classify as _, Result};
use crate::ledger::{Attempt, Mined, Purpose, Tx};

/// How often a node is handed a transaction that it has not mined.
const REBROADCAST: Duration = Duration::from_secs(15);
/// An answer that was reverted with time left is signed anew so often: what was in its way may be gone.
const MAX_TRIES: i64 = 3;

impl Sender {
    /// Moves every transaction that is in flight to where the chain says it is. Returns how many are not mined yet.
    pub(super) async fn reconcile(&mut self) -> Result<usize> {
        let in_flight = self.ledger.in_flight().await?;
        if in_flight.is_empty() {
            return Ok(0);
        }
        let head = self.chain.head().await?;
        let spent = self.spent_nonces(head).await?;
        let rebroadcast = self.rebroadcast.is_none_or(|last| last.elapsed() >= REBROADCAST);
        if rebroadcast {
            self.rebroadcast = Some(Instant::now());
        }
        let mut waiting = 0;
        for tx in in_flight {
            let attempts = self.ledger.attempts(&tx.key).await?;
            match self.find_receipt(&attempts).await? {
                Some(receipt) => self.mined(&tx, &receipt, head).await?,
                None => {
                    self.not_mined(&tx, &attempts, head, spent, rebroadcast).await?;
                    waiting += 1;
                }
            }
        }
        Ok(waiting)
    }

    /// How many nonces of the wallet are spent for good: so many blocks ago that a replica that lags, or a short reorg,
    /// does not change it.
    async fn spent_nonces(&self, head: Head) -> Result<u64> {
        let settled = head.number.saturating_sub(self.chain.settings.confirmations);
        let wallet = self.chain.account().wallet_address();
        let count = self.chain.client.get_transaction_count(wallet, Some(settled.into())).await;
        Ok(count.map_err(unreachable)?.as_u64())
    }

    /// A transaction without receipt: forgotten by the chain, out of the race, out of time, or simply not mined yet.
    async fn not_mined(&self, tx: &Tx, attempts: &[Attempt], head: Head, spent: u64, rebroadcast: bool) -> Result<()> {
        if tx.state == "mined" {
            tracing::warn!(tx = tx.key, "the chain forgot the block of a transaction, it is sent again");
            return self.ledger.unmined(&tx.key).await;
        }
        if attempts.iter().all(|attempt| (attempt.nonce as u64) < spent) {
            // A receipt may have come between the two questions.
            if self.find_receipt(attempts).await?.is_none() {
                tracing::warn!(tx = tx.key, "another transaction took the nonce, signing anew");
                self.ledger.sign_anew(&tx.key, "its nonce was spent by another transaction").await?;
            }
            return Ok(());
        }
        let late = |limit: Option<i64>| limit.is_some_and(|limit| head.time > limit as u64);
        if tx.state == "signed" && (late(tx.deadline) || attempts.iter().all(|attempt| late(attempt.expires))) {
            // No node ever took it. Queued, it is ended or signed with a new expiry; its nonce is free.
            return self.ledger.sign_anew(&tx.key, "it was signed too long ago").await;
        }
        if rebroadcast && let Some(newest) = attempts.first() {
            self.broadcast(tx, newest).await?;
        }
        Ok(())
    }

    async fn find_receipt(&self, attempts: &[Attempt]) -> Result<Option<TransactionReceipt>> {
        for attempt in attempts {
            let hash: H256 = attempt.hash.parse().context("the ledger holds a hash that is none").stop()?;
            if let Some(receipt) = self.chain.client.get_transaction_receipt(hash).await.map_err(unreachable)?
                && receipt.block_number.is_some()
            {
                return Ok(Some(receipt));
            }
        }
        Ok(None)
    }

    /// `→ mined`, then `→ final` once it is deep enough; a revert is the end.
    async fn mined(&self, tx: &Tx, receipt: &TransactionReceipt, head: Head) -> Result<()> {
        let block = receipt.block_number.unwrap_or_default().as_u64();
        if receipt.status == Some(0.into()) {
            if tx.purpose() == Purpose::Answer && self.is_answered(tx).await? {
                return self.ledger.fatal(tx, "answered", "the chain holds our answer already").await;
            }
            let reason = format!("reverted on chain: {}", self.why_reverted(receipt).await);
            tracing::error!(tx = tx.key, hash = text(receipt.transaction_hash), reason, "a transaction was reverted");
            let in_time = tx.deadline.is_some_and(|deadline| head.time <= deadline as u64);
            return if tx.purpose() == Purpose::Answer && in_time && tx.tries < MAX_TRIES {
                self.ledger.sign_anew(&tx.key, &reason).await
            } else {
                self.ledger.fatal(tx, "failed", &reason).await
            };
        }
        if tx.state != "mined" {
            let header = self.chain.client.get_block(block).await.map_err(unreachable)?;
            let header = header
                .with_context(|| format!("the RPC endpoint has a receipt of block {block} but not the block"))
                .retry()?;
            let mined = Mined {
                hash: text(receipt.transaction_hash),
                block,
                time: header.timestamp.as_u64(),
                gas_used: receipt.gas_used.unwrap_or_default().low_u64(),
            };
            self.ledger.mined(&tx.key, &mined).await?;
            tracing::info!(tx = tx.key, hash = mined.hash, block, url = self.chain.explorer(&mined.hash), "mined");
        }
        if head.number >= block + self.chain.settings.confirmations {
            self.ledger.finalized(tx).await?;
        }
        Ok(())
    }

    /// Runs the transaction again on the block before, to hear its reason.
    async fn why_reverted(&self, receipt: &TransactionReceipt) -> String {
        let Ok(Some(transaction)) = self.chain.client.get_transaction(receipt.transaction_hash).await else {
            return "the node does not say why".to_owned();
        };
        let before = receipt.block_number.map(|block| BlockId::from(block.saturating_sub(1.into())));
        match self.chain.client.call(&replayed(&transaction), before).await {
            Err(error) => revert_reason(&error).unwrap_or_else(|| error.to_string()),
            Ok(_) => "it would have succeeded a block earlier".to_owned(),
        }
    }

    /// Hands the node an attempt. That it knows it already is success.
    pub(super) async fn broadcast(&self, tx: &Tx, attempt: &Attempt) -> Result<()> {
        match self.chain.client.send_raw_transaction(Bytes::from(attempt.raw.clone())).await {
            Ok(_) => self.ledger.broadcast(&tx.key).await,
            Err(error) => match error.as_error_response() {
                Some(refusal)
                    if refusal.message.contains("already known") || refusal.message.contains("already imported") =>
                {
                    self.ledger.broadcast(&tx.key).await
                }
                // Spent by this very transaction or by another: the next pass asks for receipts and decides.
                Some(refusal) if refusal.message.contains("nonce too low") => Ok(()),
                Some(refusal) => {
                    tracing::warn!(
                        tx = tx.key,
                        hash = attempt.hash,
                        reason = refusal.message,
                        "the node refuses a transaction, it is offered again"
                    );
                    Ok(())
                }
                None => Err(unreachable(error).context("cannot send a transaction")),
            },
        }
    }
}

/// The call that a mined transaction made.
fn replayed(transaction: &ethers::types::Transaction) -> TypedTransaction {
    let mut call =
        TransactionRequest::new().from(transaction.from).data(transaction.input.clone()).gas(transaction.gas);
    call.to = transaction.to.map(Into::into);
    call.into()
}
