//! One transaction: is it still wanted, what does it cost, then signed, written down, and sent.

use std::time::{Duration, Instant};

use ethers::providers::Middleware as _;
use ethers::types::transaction::eip2718::TypedTransaction;
use ethers::types::{TransactionRequest, U256};
use ethers::utils::{format_ether, parse_units};

use super::terms::Terms;
use super::{Sender, revert_reason};
use crate::chain::{Head, address, request_id, text, unreachable};
use crate::fault::{Classify as _, Result};
use crate::ledger::{Attempt, NewAttempt, Purpose, Tx};
use crate::times::milliseconds;

/// An estimate of gas is for the state it was made on: what is sent carries a quarter more.
const GAS_MARGIN: (u64, u64) = (5, 4);
/// How often it is said that the wallet cannot pay.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// A commitment that would revert so often is given up, so that its answer is in time.
const COMMIT_TRIES: i64 = 3;
/// A proof whose delivery would revert this often has failed.
const MAX_REVERTS: i64 = 8;

impl Sender {
    /// Asks whether the work is still wanted, then signs, writes down, and sends.
    pub(super) async fn send(&mut self, tx: &Tx, terms: &mut Terms) -> Result<()> {
        if !self.still_wanted(tx, terms.head).await? {
            return Ok(());
        }
        let target = address("the ledger's target", &tx.target)?;
        let account = self.chain.account().clone();
        let wrapped = account.wrap(target, tx.calldata.clone().into(), terms.sequence_id, terms.head.time);
        let mut transaction =
            TransactionRequest::new().from(account.wallet_address()).to(wrapped.to).data(wrapped.data.clone()).into();
        if terms.fees.max() < terms.head.base_fee {
            let reason = format!(
                "a unit of gas costs {} wei now, NOVA_MAX_FEE_GWEI or NOVA_GAS_PRICE_GWEI allows {}",
                terms.head.base_fee,
                terms.fees.max()
            );
            return self.ledger.postpone_tx(&tx.key, &reason, 5).await;
        }
        let Some(gas) = self.gas(tx, &transaction).await? else { return Ok(()) };
        if !self.is_paid_for(tx, terms, gas).await? {
            return Ok(());
        }
        transaction = self.priced(wrapped.to, wrapped.data, terms, gas);
        let start = Instant::now();
        let (raw, hash) = account.sign(&transaction)?;
        let sign_ms = milliseconds(start.elapsed());
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
        let written = Attempt {
            hash: attempt.hash.clone(),
            nonce: attempt.nonce as i64,
            expires: attempt.expires.map(|time| time as i64),
            raw: attempt.raw,
        };
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
    pub(super) async fn is_in_time(&self, tx: &Tx, head: Head) -> Result<bool> {
        if tx.deadline.is_none_or(|deadline| head.time <= deadline as u64) {
            return Ok(true);
        }
        let reason = tx.reason.as_deref().unwrap_or("it was ready too late");
        self.ledger.fatal(tx, "expired", &format!("the deadline has passed: {reason}")).await?;
        Ok(false)
    }

    /// True if the transaction is for a request that the chain holds our answer to.
    pub(super) async fn is_answered(&self, tx: &Tx) -> Result<bool> {
        let (Some(contract), Some(request)) = (&tx.contract, &tx.request) else { return Ok(false) };
        let contract = address("the ledger's contract", contract)?;
        self.chain.has_responded(contract, request_id(request)?).await
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
            Purpose::Commit if tx.tries < COMMIT_TRIES => self.ledger.postpone_tx(&tx.key, &reason, 2).await,
            Purpose::Commit => self.ledger.fatal(tx, "failed", &reason).await,
            Purpose::Respond | Purpose::Prove if tx.tries + 1 < MAX_REVERTS => {
                self.ledger.postpone_tx(&tx.key, &reason, 30).await
            }
            Purpose::Respond | Purpose::Prove => self.ledger.fatal(tx, "failed", &reason).await,
        }
    }

    /// False, and the row put off, if the wallet cannot pay for it. Proofs leave `NOVA_MIN_BALANCE_ETH` for answers.
    async fn is_paid_for(&mut self, tx: &Tx, terms: &Terms, gas: u64) -> Result<bool> {
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
        if self.said_unfunded.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            tracing::error!(tx = tx.key, reason, "not sent");
            self.said_unfunded = Some(Instant::now());
        }
        self.ledger.postpone_tx(&tx.key, &reason, 10).await?;
        Ok(false)
    }
}
