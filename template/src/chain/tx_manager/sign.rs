//! Queued transactions: is each still wanted, what does it cost, then signed, written down, and on its way.

use std::time::{Duration, Instant};

use ethers::providers::{Middleware as _, RpcError as _};
use ethers::types::transaction::eip2718::TypedTransaction;
use ethers::types::{Address, BlockNumber, Bytes, TransactionReceipt, TransactionRequest, U256};
use ethers::utils::{format_ether, parse_units};
use futures::{StreamExt as _, stream};

use super::Sender;
use super::broadcast::Broadcasts;
use super::fees::{Fees, gwei};
use super::tx_params::TxParams;
use crate::chain::revert::{Revert, RevertKind};
use crate::chain::{Head, address, rpc_fault, to_hex};
use crate::fault::{Classify as _, Result};
use crate::ledger::{Attempt, AttemptKind, NewAttempt, Purpose, Tx};
use crate::timing::milliseconds;

/// An estimate of gas is for the state it was made on: what is sent carries a quarter more.
const GAS_MARGIN: (u64, u64) = (5, 4);
/// Transactions about which the chain is asked at once.
const MAX_CONCURRENT_PREFLIGHTS: usize = 16;
/// Why a nonce is not filled.
const GAP_CLOSED: &str = "the gap in the nonces has closed";
/// How often it is said that the wallet cannot pay.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// A commitment that would revert so often is given up where its answer may go out without it, so that the answer is in time.
const MAX_COMMIT_TRIES: i64 = 3;
/// A proof whose delivery would revert this often has failed.
const MAX_SIMULATED_REVERTS: i64 = 8;

/// What a transaction calls, in the form in which it is sent.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub to: Address,
    pub data: Bytes,
    pub sequence_id: Option<u64>,
    /// When the MultiSig refuses it, on the chain's clock.
    pub expires: Option<u64>,
}

/// On which nonce and at which price a call is signed.
pub(super) struct AttemptParams {
    pub kind: AttemptKind,
    pub nonce: u64,
    pub fees: Fees,
    pub gas: u64,
}

/// What is to be done with a queued transaction.
pub(super) enum Verdict {
    /// Its call, and the gas that this needs.
    Send(Call, u64),
    Reverts(Revert),
    /// An attempt of before was mined after all.
    Mined(Vec<Attempt>, Box<TransactionReceipt>),
    /// Its row has ended, or waits, and says why.
    Settled,
}

impl Sender {
    /// What is to be done with these, in their order. The chain is asked about several at once; each has a sequence id of its own.
    pub(super) async fn preflight_all(&self, rows: &[Tx], terms: &mut TxParams) -> Vec<Result<Verdict>> {
        let first = terms.sequence_id;
        let asks = rows.iter().zip(0..).map(|(tx, n)| self.preflight(tx, terms, first.map(|id| id + n)));
        let asks: Vec<_> = asks.collect();
        let verdicts = stream::iter(asks).buffered(MAX_CONCURRENT_PREFLIGHTS).collect().await;
        terms.sequence_id = first.map(|id| id + rows.len() as u64);
        verdicts
    }

    async fn preflight(&self, tx: &Tx, terms: &TxParams, sequence_id: Option<u64>) -> Result<Verdict> {
        if let Some(verdict) = self.resolve_without_sending(tx, terms).await? {
            return Ok(verdict);
        }
        if terms.fees.max < terms.head.base_fee {
            let (asked, allowed) = (gwei(terms.head.base_fee), gwei(terms.fees.max));
            let reason = format!(
                "a unit of gas costs {asked} gwei now, NOVA_MAX_FEE_GWEI or NOVA_GAS_PRICE_GWEI allows {allowed}"
            );
            self.ledger.postpone(&tx.key, &reason, 5).await?;
            return Ok(Verdict::Settled);
        }
        let call = self.call(tx, sequence_id, terms.head)?;
        Ok(match self.estimate_gas(&call).await? {
            Ok(gas) => Verdict::Send(call, gas),
            Err(revert) => Verdict::Reverts(revert),
        })
    }

    /// Does what the verdict says: what is to be sent is signed, written down, and on its way.
    pub(super) async fn apply_verdict(
        &mut self,
        tx: &Tx,
        verdict: Verdict,
        terms: &mut TxParams,
        offers: &mut Broadcasts,
    ) -> Result<()> {
        let (call, gas) = match verdict {
            Verdict::Send(call, gas) => (call, gas),
            Verdict::Reverts(revert) => return self.handle_simulated_revert(tx, &revert).await,
            Verdict::Mined(attempts, receipt) => {
                return self.apply_receipt(tx, &attempts, &receipt, terms.head, None).await;
            }
            Verdict::Settled => return Ok(()),
        };
        // What was signed before it in this pass may have taken the nonce.
        if tx.purpose() == Purpose::NonceFill && !terms.nonces.has_gap() {
            return self.ledger.mark_failed(tx, "failed", GAP_CLOSED).await;
        }
        if !self.check_funds(tx, terms, gas).await? {
            return Ok(());
        }
        let nonce = terms.nonces.next();
        let attempt =
            self.sign(&call, &AttemptParams { kind: AttemptKind::Work, nonce, fees: terms.fees, gas }, terms.head)?;
        self.ledger.mark_signed(&tx.key, &attempt).await?;
        terms.nonces.reserve(nonce);
        terms.balance = terms.balance.saturating_sub(terms.fees.cost(gas));
        tracing::info!(tx = tx.key, hash = attempt.hash, nonce, "sending");
        self.start_broadcast(offers, tx, &attempt);
        Ok(())
    }

    /// The verdict on a transaction that is not to be sent: its deadline has passed, the contract holds its result, or an earlier attempt
    /// was mined. `None` if it is to be sent.
    async fn resolve_without_sending(&self, tx: &Tx, terms: &TxParams) -> Result<Option<Verdict>> {
        if !self.expire_if_late(tx, terms.head).await? {
            return Ok(Some(Verdict::Settled));
        }
        if let Some(reason) = tx.obsolete_reason(terms.head.time) {
            self.ledger.mark_failed(tx, "failed", &reason).await?;
            return Ok(Some(Verdict::Settled));
        }
        let attempts = self.ledger.attempts(&tx.key).await?;
        if let Some(receipt) = self.find_receipt(&attempts).await? {
            return Ok(Some(Verdict::Mined(attempts, Box::new(receipt))));
        }
        match tx.purpose() {
            Purpose::Commit | Purpose::Answer if self.is_answered(tx).await? => {
                self.ledger.mark_failed(tx, "answered", "the chain holds our answer already").await?;
            }
            Purpose::Answer => match self.lacks_commitment(tx).await? {
                Some(reason) => {
                    tracing::error!(tx = tx.key, reason, "not sent");
                    self.ledger.mark_failed(tx, "failed", &reason).await?;
                }
                None => return Ok(None),
            },
            Purpose::Respond => match self.already_resolved(tx).await? {
                Some(reason) => self.ledger.mark_already_done(tx, &reason).await?,
                None => return Ok(None),
            },
            Purpose::NonceFill if !terms.nonces.has_gap() => {
                self.ledger.mark_failed(tx, "failed", GAP_CLOSED).await?;
            }
            _ => return Ok(None),
        }
        Ok(Some(Verdict::Settled))
    }

    /// Why an answer cannot be proven on chain, unless the owner lets it go out all the same: its commitment has failed.
    async fn lacks_commitment(&self, tx: &Tx) -> Result<Option<String>> {
        let Some(commitment) = &tx.after else { return Ok(None) };
        if self.chain.settings.answer_without_commitment {
            return Ok(None);
        }
        let commitment = self.ledger.tx(commitment).await?.filter(|commitment| commitment.state == "fatal");
        Ok(commitment.map(|commitment| {
            format!(
                "its commitment has failed, without which the chain accepts no proof of it ({}); with \
                 NOVA_ANSWER_WITHOUT_COMMITMENT=True it is answered all the same",
                commitment.reason.unwrap_or_default()
            )
        }))
    }

    /// False, and the row ended, if the deadline has passed on the chain's clock. What was given up and mined all the same is
    /// left to the next look at what is in flight.
    pub(super) async fn expire_if_late(&self, tx: &Tx, head: Head) -> Result<bool> {
        if !tx.is_late(head.time) {
            return Ok(true);
        }
        if self.find_receipt(&self.ledger.attempts(&tx.key).await?).await?.is_some() {
            return Ok(false);
        }
        let before = match (&tx.reason, &tx.after) {
            (None, Some(commitment)) => self.ledger.tx(commitment).await?.and_then(|commitment| commitment.reason),
            _ => None,
        };
        let reason = tx.reason.clone().or(before).unwrap_or_else(|| "it was ready too late".to_owned());
        self.ledger.mark_failed(tx, "expired", &format!("the deadline has passed: {reason}")).await?;
        Ok(false)
    }

    /// The call that a transaction is for, through the MultiSig where there is one.
    pub(super) fn call(&self, tx: &Tx, sequence_id: Option<u64>, head: Head) -> Result<Call> {
        if tx.purpose() == Purpose::NonceFill {
            return Ok(self.self_transfer());
        }
        let target = address("the ledger's target", &tx.target)?;
        let wrapped = self.chain.account().route(target, tx.calldata.clone().into(), sequence_id, head.time);
        let sequence_id = wrapped.expires.and(sequence_id);
        Ok(Call { to: wrapped.to, data: wrapped.data, sequence_id, expires: wrapped.expires })
    }

    /// What takes a nonce and does nothing.
    pub(super) fn self_transfer(&self) -> Call {
        let to = self.chain.account().wallet_address();
        Call { to, data: Bytes::new(), sequence_id: None, expires: None }
    }

    /// The signed bytes of a call, as they go into the ledger.
    pub(super) fn sign(&self, call: &Call, place: &AttemptParams, head: Head) -> Result<NewAttempt> {
        let account = self.chain.account();
        let transaction = self.build_transaction(call.to, call.data.clone(), place.nonce, place.fees, place.gas);
        let start = Instant::now();
        let (raw, hash) = account.sign(&transaction)?;
        tracing::debug!(nonce = place.nonce, sign_ms = milliseconds(start.elapsed()), "signed");
        Ok(NewAttempt {
            hash: to_hex(hash),
            kind: place.kind,
            sender: to_hex(account.wallet_address()),
            nonce: place.nonce,
            sequence_id: call.sequence_id,
            expires: call.expires,
            raw: raw.to_vec(),
            max_fee_wei: place.fees.max.to_string(),
            priority_fee_wei: place.fees.priority.to_string(),
            gas: place.gas,
            chain_time: head.time,
        })
    }

    /// The gas limit, or why the call would revert. With `NOVA_GAS` the call is tried all the same: nothing is sent that
    /// is known to fail.
    pub(super) async fn estimate_gas(&self, call: &Call) -> Result<std::result::Result<u64, Revert>> {
        let from = self.chain.account().wallet_address();
        let request = TransactionRequest::new().from(from).to(call.to).data(call.data.clone());
        // What a node takes for pending (the default of some) may hold this very call already.
        let latest = Some(BlockNumber::Latest.into());
        // A transfer needs no estimate for work.
        let fixed = self.chain.settings.gas.filter(|_| !call.data.is_empty());
        let tried = match fixed {
            Some(gas) => {
                let request: TypedTransaction = request.gas(gas).into();
                self.chain.client.call(&request, latest).await.map(|_| gas)
            }
            None => {
                let estimate = self.chain.client.estimate_gas(&request.into(), latest).await;
                estimate.map(|gas| gas.low_u64().saturating_mul(GAS_MARGIN.0) / GAS_MARGIN.1)
            }
        };
        match tried {
            Ok(gas) => Ok(Ok(gas)),
            Err(error) => match (Revert::from_provider_error(&error), error.as_error_response()) {
                (Some(revert), _) => Ok(Err(revert)),
                // It concerns this call: the others do not wait for it.
                (None, Some(refusal)) => Ok(Err(Revert { kind: RevertKind::Unknown, reason: refusal.message.clone() })),
                (None, None) => Err(rpc_fault(error).context("cannot estimate gas")),
            },
        }
    }

    /// What became of a queued transaction whose call would revert. An answer waits for better times until its deadline, and so does a
    /// commitment, unless its answer may go out without it; a delivery gives up after some tries.
    async fn handle_simulated_revert(&mut self, tx: &Tx, revert: &Revert) -> Result<()> {
        if self.resolve_if_already_done(tx, revert).await? {
            return Ok(());
        }
        let reason = format!("the call would revert: {}", revert.reason);
        tracing::warn!(tx = tx.key, reason, "not sent");
        if revert.kind == RevertKind::NotTopN {
            self.top_n = None;
        }
        let wait = match (tx.purpose(), revert.kind) {
            (_, RevertKind::StaleSequenceId) => 1,
            (Purpose::Answer | Purpose::Commit, RevertKind::UnknownRequest) => 2,
            (Purpose::Answer, _) | (_, RevertKind::NotTopN | RevertKind::Unknown) => 5,
            // Without it there is no answer: both wait until the deadline.
            (Purpose::Commit, _) if !self.chain.settings.answer_without_commitment => 5,
            (Purpose::Commit, _) if tx.tries < MAX_COMMIT_TRIES => {
                return self.ledger.postpone_and_count(&tx.key, &reason, 2).await;
            }
            (Purpose::Respond | Purpose::Prove | Purpose::Claim, meaning)
                if tx.tries + 1 < MAX_SIMULATED_REVERTS
                    && !matches!(meaning, RevertKind::EpochNotOver | RevertKind::NothingToClaim) =>
            {
                return self.ledger.postpone_and_count(&tx.key, &reason, 30).await;
            }
            _ => return self.ledger.mark_failed(tx, "failed", &reason).await,
        };
        self.ledger.postpone(&tx.key, &reason, wait).await
    }

    /// False, and the row put off, if the wallet cannot pay for it. What is no answer leaves `NOVA_MIN_BALANCE_ETH` for
    /// answers.
    async fn check_funds(&mut self, tx: &Tx, terms: &TxParams, gas: u64) -> Result<bool> {
        let cost = terms.fees.cost(gas);
        let floor = match tx.purpose() {
            Purpose::Commit | Purpose::Answer | Purpose::NonceFill => U256::zero(),
            Purpose::Respond | Purpose::Prove | Purpose::Claim => {
                parse_units(format!("{:.18}", self.chain.settings.min_balance_eth), "ether").fatal()?.into()
            }
        };
        if terms.balance >= cost.saturating_add(floor) {
            return Ok(true);
        }
        let reason = self.insufficient_funds_message(terms.balance, cost.saturating_add(floor));
        if self.alerts.should_log("unfunded", LOG_INTERVAL) {
            tracing::error!(tx = tx.key, reason, "not sent");
        }
        self.ledger.postpone(&tx.key, &reason, 10).await?;
        Ok(false)
    }

    /// That the wallet cannot pay, for people.
    pub(super) fn insufficient_funds_message(&self, balance: U256, needed: U256) -> String {
        format!(
            "wallet {} holds {} ETH, this transaction needs up to {} ETH: send it some",
            to_hex(self.chain.account().wallet_address()),
            format_ether(balance),
            format_ether(needed)
        )
    }

    /// True, and the row ended, if a refusal says that the chain holds already what was to be brought about.
    pub(super) async fn resolve_if_already_done(&self, tx: &Tx, revert: &Revert) -> Result<bool> {
        match (revert.kind, tx.purpose()) {
            (RevertKind::AlreadyAnswered, Purpose::Answer) => {
                self.ledger.mark_failed(tx, "answered", "the chain holds our answer already").await?;
            }
            (RevertKind::AlreadyAnswered, Purpose::Commit) => {
                let reason = format!("the request is answered, it takes no commitment any more: {}", revert.reason);
                self.ledger.mark_failed(tx, "failed", &reason).await?;
            }
            (RevertKind::AlreadyDone, Purpose::Commit) => match self.holds_our_commitment(tx).await? {
                true => self.ledger.mark_already_done(tx, "the chain holds this commitment already").await?,
                false => {
                    let reason = "the chain holds another commitment to this request: its proof will not be accepted";
                    self.ledger.mark_failed(tx, "failed", reason).await?;
                }
            },
            (RevertKind::AlreadyDone, Purpose::Respond | Purpose::Prove) => {
                self.ledger
                    .mark_already_done(tx, &format!("the chain holds an answer already: {}", revert.reason))
                    .await?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}
