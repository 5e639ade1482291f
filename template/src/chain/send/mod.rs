//! Rows → transactions. One sender a key owns its nonces; the signed bytes of an attempt are in the ledger before any
//! node sees them, and after a crash the same bytes go out again.

mod sign;
mod terms;

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ethers::providers::{Middleware as _, ProviderError, RpcError as _};
use ethers::types::transaction::eip2718::TypedTransaction;
use ethers::types::{BlockId, Bytes, H256, TransactionReceipt, TransactionRequest};

use super::contracts::describe_revert;
use super::{Chain, Head, text, unreachable};
use crate::fault::{Classify as _, Result};
use crate::ledger::{Attempt, Ledger, Mined, Purpose, Tx};

/// How long the answer to "are we among the top N?" is believed.
const TOP_N_LIFETIME: Duration = Duration::from_secs(60);
/// How often a node is handed a transaction that it has not mined.
const REBROADCAST: Duration = Duration::from_secs(15);
/// How often a second process looks whether the first has ended.
const PLACE_TAKEN: Duration = Duration::from_secs(2);

/// The one sender of a key.
pub struct Sender {
    chain: Chain,
    ledger: Ledger,
    top_n: Option<(Instant, bool)>,
    said_not_top_n: Option<Instant>,
    /// When the node was last handed what it has not mined; `None` at the start, so that a crash costs no time.
    rebroadcast: Option<Instant>,
    /// Held for as long as we live: no second process on this ledger signs with the same key.
    _lock: File,
}

/// Whether there is more to do at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    Nothing,
    /// Transactions wait for the chain.
    InFlight,
}

impl Sender {
    /// Waits until no other process sends for this key from this ledger, then takes its place.
    pub async fn take_place(chain: Chain, ledger: Ledger, artifacts: &Path) -> Result<Self> {
        let path = artifacts.join(format!("sender-{}.lock", text(chain.account().wallet_address())));
        let lock = File::create(&path).with_context(|| format!("cannot write {}", path.display())).stop()?;
        let mut said = false;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::info!("another process sends for this key, this one takes over when it ends");
                    }
                    tokio::time::sleep(PLACE_TAKEN).await;
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display())).stop();
                }
            }
        }
        Ok(Self { chain, ledger, top_n: None, said_not_top_n: None, rebroadcast: None, _lock: lock })
    }

    /// One pass: looks after what is in flight, queues what is ready, signs and sends what may be.
    pub async fn pass(&mut self, submit_inferences: bool, submit_proofs: bool) -> Result<Pending> {
        let targets = self.chain.targets();
        if submit_inferences {
            self.ledger.queue_answers(&targets).await?;
        }
        if submit_proofs {
            self.ledger.queue_deliveries(&targets).await?;
        }
        let in_flight = self.reconcile().await?;
        let mut room = self.chain.settings.max_in_flight.saturating_sub(in_flight);
        let mut sendable = self.ledger.sendable(room).await?;
        if sendable.is_empty() {
            return Ok(if in_flight == 0 { Pending::Nothing } else { Pending::InFlight });
        }
        let mut terms = self.terms().await?;
        if !self.in_top_n().await? {
            for tx in &sendable {
                self.is_in_time(tx, terms.head).await?;
            }
            return Ok(Pending::InFlight);
        }
        // A commitment that was just signed frees its answer.
        while !sendable.is_empty() {
            for tx in &sendable {
                self.send(tx, &mut terms).await?;
            }
            room = room.saturating_sub(sendable.len());
            sendable = self.ledger.sendable(room).await?;
        }
        Ok(Pending::InFlight)
    }

    /// Moves every transaction that is in flight to where the chain says it is. Returns how many are not mined yet.
    async fn reconcile(&mut self) -> Result<usize> {
        let in_flight = self.ledger.in_flight().await?;
        if in_flight.is_empty() {
            return Ok(0);
        }
        let head = self.chain.head().await?;
        let wallet = self.chain.account().wallet_address();
        let spent = self.chain.client.get_transaction_count(wallet, None).await.map_err(unreachable)?.as_u64();
        let rebroadcast = self.rebroadcast.is_none_or(|last| last.elapsed() >= REBROADCAST);
        if rebroadcast {
            self.rebroadcast = Some(Instant::now());
        }
        let mut waiting = 0;
        for tx in in_flight {
            let attempts = self.ledger.attempts(&tx.key).await?;
            match self.find_receipt(&attempts).await? {
                Some(receipt) => self.mined(&tx, &receipt, head).await?,
                None if tx.state == "mined" => {
                    tracing::warn!(tx = tx.key, "the chain forgot the block of a transaction, it is sent again");
                    self.ledger.unmined(&tx.key).await?;
                    waiting += 1;
                }
                None if attempts.iter().all(|attempt| (attempt.nonce as u64) < spent) => {
                    // Its nonce is spent. A receipt may have come between the two questions: the next pass decides.
                    if self.find_receipt(&attempts).await?.is_none() {
                        tracing::warn!(tx = tx.key, "another transaction took the nonce, signing anew");
                        self.ledger.nonce_lost(&tx.key).await?;
                    }
                    waiting += 1;
                }
                None => {
                    if rebroadcast {
                        self.broadcast(&tx, &attempts[0]).await?;
                    }
                    waiting += 1;
                }
            }
        }
        Ok(waiting)
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
            let reason = self.why_reverted(receipt).await;
            tracing::error!(tx = tx.key, hash = text(receipt.transaction_hash), reason, "a transaction was reverted");
            return self.ledger.fatal(tx, "failed", &format!("reverted on chain: {reason}")).await;
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
    async fn broadcast(&self, tx: &Tx, attempt: &Attempt) -> Result<()> {
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

    async fn in_top_n(&mut self) -> Result<bool> {
        if let Some((asked, answer)) = self.top_n
            && asked.elapsed() < TOP_N_LIFETIME
        {
            return Ok(answer);
        }
        let answer = self.chain.in_top_n().await?;
        self.top_n = Some((Instant::now(), answer));
        if answer {
            self.said_not_top_n = None;
        } else if self.said_not_top_n.is_none_or(|said| said.elapsed() >= Duration::from_secs(3600)) {
            tracing::warn!(
                modeler = text(self.chain.modeler()),
                "not among the top N modelers: watching on, sending nothing"
            );
            self.said_not_top_n = Some(Instant::now());
        }
        Ok(answer)
    }
}

impl Chain {
    /// Where a person can look at a transaction; `None` on a network without explorer.
    fn explorer(&self, hash: &str) -> Option<String> {
        let explorer = self.settings.tx_explorer_url.trim_end_matches('/');
        (!explorer.is_empty()).then(|| format!("{explorer}/{hash}"))
    }
}

/// The call that a mined transaction made.
fn replayed(transaction: &ethers::types::Transaction) -> TypedTransaction {
    let mut call =
        TransactionRequest::new().from(transaction.from).data(transaction.input.clone()).gas(transaction.gas);
    call.to = transaction.to.map(Into::into);
    call.into()
}

/// What a node says of a call that reverts; `None` if that is not what it says.
fn revert_reason(error: &ProviderError) -> Option<String> {
    let response = error.as_error_response()?;
    if let Some(data) = response.as_revert_data() {
        return Some(describe_revert(&data));
    }
    response.is_revert().then(|| response.message.clone())
}
