//! Rows → transactions. One sender a key owns its nonces; the signed bytes of an attempt are in the ledger before any
//! node sees them, and after a crash the same bytes go out again.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ethers::providers::{Middleware as _, ProviderError, RpcError as _};
use ethers::types::transaction::eip2718::TypedTransaction;
use ethers::types::{
    Address, BlockId, BlockNumber, Bytes, Eip1559TransactionRequest, H256, TransactionReceipt, TransactionRequest, U256,
};
use ethers::utils::{format_ether, parse_units};

use super::contracts::describe_revert;
use super::{Chain, Head, address, text, unreachable};
use crate::fault::{Classify as _, Result};
use crate::ledger::{Attempt, Ledger, Mined, NewAttempt, Purpose, Tx};

/// An estimate of gas is for the state it was made on: what is sent carries a quarter more.
const GAS_MARGIN: (u64, u64) = (5, 4);
/// How long the answer to "are we among the top N?" is believed.
const TOP_N_LIFETIME: Duration = Duration::from_secs(60);
/// How often a node is handed a transaction that it has not mined.
const REBROADCAST: Duration = Duration::from_secs(15);
/// A proof whose delivery would revert this often has failed.
const MAX_REVERTS: i64 = 8;

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

/// What is the same for all transactions signed in one pass.
struct Terms {
    head: Head,
    fees: Fees,
    balance: U256,
    nonce: u64,
    sequence_id: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Fees {
    Legacy { gas_price: U256 },
    Eip1559 { max_fee: U256, priority: U256 },
}

impl Fees {
    /// The most that a unit of gas can cost, in wei.
    fn max(self) -> U256 {
        match self {
            Self::Legacy { gas_price } => gas_price,
            Self::Eip1559 { max_fee, .. } => max_fee,
        }
    }
}

impl Sender {
    /// Waits until no other process sends for this key from this ledger, then takes its place.
    pub async fn take_place(chain: Chain, ledger: Ledger, artifacts: &Path) -> Result<Self> {
        let path = artifacts.join(format!("sender-{}.lock", text(chain.account().wallet_address())));
        let lock = tokio::task::spawn_blocking(move || {
            let lock = File::create(&path)?;
            lock.lock()?;
            std::io::Result::Ok(lock)
        })
        .await
        .stop()?
        .context("cannot lock the sender's file in the artifacts folder")
        .stop()?;
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

    async fn terms(&self) -> Result<Terms> {
        let head = self.chain.head().await?;
        let wallet = self.chain.account().wallet_address();
        let sender = text(wallet);
        let pending = self
            .chain
            .client
            .get_transaction_count(wallet, Some(BlockNumber::Pending.into()))
            .await
            .map_err(unreachable)?
            .as_u64();
        let nonce = pending.max(self.ledger.next_nonce(&sender).await?.unwrap_or(0));
        let sequence_id = match self.chain.account().next_sequence_id().await? {
            Some(next) => Some(next.max(self.ledger.next_sequence_id(&sender).await?.unwrap_or(0))),
            None => None,
        };
        Ok(Terms { head, fees: self.fees(head).await?, balance: self.chain.balance().await?, nonce, sequence_id })
    }

    /// As the settings say, else twice the base fee and the node's priority fee (EIP-1559), never above
    /// `NOVA_MAX_FEE_GWEI`.
    async fn fees(&self, head: Head) -> Result<Fees> {
        let settings = &self.chain.settings;
        if let Some(gwei) = settings.gas_price_gwei {
            return Ok(Fees::Legacy { gas_price: gwei_to_wei(gwei)? });
        }
        if head.base_fee.is_zero() {
            return Ok(Fees::Legacy { gas_price: self.chain.client.get_gas_price().await.map_err(unreachable)? });
        }
        let asked: std::result::Result<U256, ProviderError> =
            self.chain.client.request("eth_maxPriorityFeePerGas", ()).await;
        let priority = match asked {
            Ok(fee) => fee,
            // Not every node has the method; Arbitrum's sequencer ignores the fee.
            Err(error) if error.as_error_response().is_some() => U256::zero(),
            Err(error) => return Err(unreachable(error)),
        };
        let cap = settings.max_fee_gwei.map(gwei_to_wei).transpose()?.unwrap_or(U256::MAX);
        let max_fee = cap.min(head.base_fee * 2 + priority);
        Ok(Fees::Eip1559 { max_fee, priority: priority.min(max_fee) })
    }

    /// Asks whether the work is still wanted, then signs, writes down, and sends.
    async fn send(&mut self, tx: &Tx, terms: &mut Terms) -> Result<()> {
        if !self.still_wanted(tx, terms.head).await? {
            return Ok(());
        }
        let target = address("the ledger's target", &tx.target)?;
        let account = self.chain.account().clone();
        let wrapped = account.wrap(target, tx.calldata.clone().into(), terms.sequence_id, terms.head.time);
        let mut transaction =
            TransactionRequest::new().from(account.wallet_address()).to(wrapped.to).data(wrapped.data.clone()).into();
        let Some(gas) = self.gas(tx, &transaction).await? else { return Ok(()) };
        if !self.is_paid_for(tx, terms, gas).await? {
            return Ok(());
        }
        transaction = self.priced(wrapped.to, wrapped.data, terms, gas);
        let start = Instant::now();
        let (raw, hash) = account.sign(&transaction)?;
        let sign_ms = (start.elapsed().as_secs_f64() * 1e5).round() / 1e2;
        let attempt = NewAttempt {
            hash: text(hash),
            sender: text(account.wallet_address()),
            nonce: terms.nonce,
            sequence_id: terms.sequence_id,
            expires: wrapped.expires,
            raw: raw.to_vec(),
            max_fee_wei: terms.fees.max().to_string(),
            gas,
        };
        self.ledger.signed(&tx.key, &attempt).await?;
        terms.nonce += 1;
        terms.sequence_id = terms.sequence_id.map(|id| id + 1);
        terms.balance = terms.balance.saturating_sub(terms.fees.max() * gas);
        let written = Attempt { hash: attempt.hash.clone(), nonce: attempt.nonce as i64, raw: attempt.raw };
        tracing::info!(tx = tx.key, hash = attempt.hash, nonce = attempt.nonce, sign_ms, "sending");
        self.broadcast(tx, &written).await
    }

    /// False, and the row ended, if the answer is late or on chain already.
    async fn still_wanted(&self, tx: &Tx, head: Head) -> Result<bool> {
        if !self.is_in_time(tx, head).await? {
            return Ok(false);
        }
        if self.is_answered(tx).await? {
            self.ledger.fatal(tx, "answered", "the chain holds our answer already").await?;
            return Ok(false);
        }
        Ok(true)
    }

    /// False, and the row ended, if the deadline has passed on the chain's clock.
    async fn is_in_time(&self, tx: &Tx, head: Head) -> Result<bool> {
        if tx.deadline.is_none_or(|deadline| head.time <= deadline as u64) {
            return Ok(true);
        }
        let reason = tx.reason.as_deref().unwrap_or("it was ready too late");
        self.ledger.fatal(tx, "expired", &format!("the deadline has passed: {reason}")).await?;
        Ok(false)
    }

    /// True if the transaction is for a request that the chain holds our answer to.
    async fn is_answered(&self, tx: &Tx) -> Result<bool> {
        let (Some(contract), Some(request)) = (&tx.contract, &tx.request) else { return Ok(false) };
        let contract = address("the ledger's contract", contract)?;
        self.chain.has_responded(contract, super::request_id(request)?).await
    }

    /// The gas limit; `None`, and the row put off or ended, if the call would revert.
    async fn gas(&self, tx: &Tx, transaction: &TypedTransaction) -> Result<Option<u64>> {
        if let Some(gas) = self.chain.settings.gas {
            return Ok(Some(gas));
        }
        match self.chain.client.estimate_gas(transaction, None).await {
            Ok(gas) => Ok(Some(gas.low_u64() * GAS_MARGIN.0 / GAS_MARGIN.1)),
            Err(error) => match revert_reason(&error) {
                Some(reason) => self.would_revert(tx, &reason).await.map(|()| None),
                None => Err(unreachable(error).context("cannot estimate gas")),
            },
        }
    }

    /// An answer waits for better times until its deadline; a commitment must not hold up its answer; a delivery gives
    /// up after some tries.
    async fn would_revert(&self, tx: &Tx, reason: &str) -> Result<()> {
        let reason = format!("the call would revert: {reason}");
        tracing::warn!(tx = tx.key, reason, "not sent");
        match tx.purpose() {
            Purpose::Answer => self.ledger.postpone_tx(&tx.key, &reason, 5).await,
            Purpose::Commit => self.ledger.fatal(tx, "failed", &reason).await,
            Purpose::Respond | Purpose::Prove if tx.tries + 1 < MAX_REVERTS => {
                self.ledger.postpone_tx(&tx.key, &reason, 30).await
            }
            Purpose::Respond | Purpose::Prove => self.ledger.fatal(tx, "failed", &reason).await,
        }
    }

    /// False, and the row put off, if the wallet cannot pay for it. Proofs leave `NOVA_MIN_BALANCE_ETH` for answers.
    async fn is_paid_for(&self, tx: &Tx, terms: &Terms, gas: u64) -> Result<bool> {
        let cost = terms.fees.max() * gas;
        let floor = match tx.purpose() {
            Purpose::Commit | Purpose::Answer => U256::zero(),
            Purpose::Respond | Purpose::Prove => {
                parse_units(format!("{:.18}", self.chain.settings.min_balance_eth), "ether").stop()?.into()
            }
        };
        if terms.balance >= cost + floor {
            return Ok(true);
        }
        let reason = format!(
            "wallet {} holds {} ETH, this transaction needs up to {} ETH: send it some",
            text(self.chain.account().wallet_address()),
            format_ether(terms.balance),
            format_ether(cost + floor)
        );
        tracing::error!(tx = tx.key, reason, "not sent");
        self.ledger.postpone_tx(&tx.key, &reason, 10).await?;
        Ok(false)
    }

    fn priced(&self, to: Address, data: Bytes, terms: &Terms, gas: u64) -> TypedTransaction {
        let chain_id = self.chain.settings.chain_id;
        match terms.fees {
            Fees::Legacy { gas_price } => TransactionRequest::new()
                .chain_id(chain_id)
                .to(to)
                .data(data)
                .gas(gas)
                .gas_price(gas_price)
                .nonce(terms.nonce)
                .into(),
            Fees::Eip1559 { max_fee, priority } => Eip1559TransactionRequest::new()
                .chain_id(chain_id)
                .to(to)
                .data(data)
                .gas(gas)
                .max_fee_per_gas(max_fee)
                .max_priority_fee_per_gas(priority)
                .nonce(terms.nonce)
                .into(),
        }
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

fn gwei_to_wei(gwei: f64) -> Result<U256> {
    Ok(parse_units(format!("{gwei:.9}"), "gwei").with_context(|| format!("{gwei} gwei is no gas price")).stop()?.into())
}

/// What a node says of a call that reverts; `None` if that is not what it says.
fn revert_reason(error: &ProviderError) -> Option<String> {
    let response = error.as_error_response()?;
    if let Some(data) = response.as_revert_data() {
        return Some(describe_revert(&data));
    }
    response.is_revert().then(|| response.message.clone())
}
