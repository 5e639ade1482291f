//! Queued transactions: is each still wanted, what does it cost, then signed, written down, and on its way.

use std::time::{Duration, Instant};

use ethers::providers::{Middleware as _, RpcError as _};
use ethers::types::transaction::eip2718::TypedTransaction;
use ethers::types::{Address, BlockNumber, Bytes, TransactionReceipt, TransactionRequest, U256};
use ethers::utils::{format_ether, parse_units};
use futures::{StreamExt as _, stream};

use super::Sender;
use super::fees::{Fees, gwei};
use super::offer::Offers;
use super::terms::Terms;
use crate::chain::revert::{Meaning, Revert};
use crate::chain::{Head, address, text, unreachable};
use crate::fault::{Classify as _, Result};
use crate::ledger::{Attempt, AttemptKind, NewAttempt, Purpose, Tx};
use crate::times::milliseconds;

/// An estimate of gas is for the state it was made on: what is sent carries a quarter more.
const GAS_MARGIN: (u64, u64) = (5, 4);
/// Transactions about which the chain is asked at once.
const JUDGED_AT_ONCE: usize = 16;
/// Why a nonce is not filled.
const NO_GAP: &str = "the gap in the nonces has closed";
/// How often it is said that the wallet cannot pay.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// A commitment that would revert so often is given up where its answer may go out without it, so that the answer is in time.
const COMMIT_TRIES: i64 = 3;
/// A proof whose delivery would revert this often has failed.
const MAX_REVERTS: i64 = 8;

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
pub(super) struct Place {
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
    pub(super) async fn judge_all(&self, rows: &[Tx], terms: &mut Terms) -> Vec<Result<Verdict>> {
        let first = terms.sequence_id;
        let asks = rows.iter().zip(0..).map(|(tx, n)| self.judge(tx, terms, first.map(|id| id + n)));
        let asks: Vec<_> = asks.collect();
        let verdicts = stream::iter(asks).buffered(JUDGED_AT_ONCE).collect().await;
        terms.sequence_id = first.map(|id| id + rows.len() as u64);
        verdicts
    }

    async fn judge(&self, tx: &Tx, terms: &Terms, sequence_id: Option<u64>) -> Result<Verdict> {
        if let Some(verdict) = self.is_over(tx, terms).await? {
            return Ok(verdict);
        }
        if terms.fees.max < terms.head.base_fee {
            let (asked, allowed) = (gwei(terms.head.base_fee), gwei(terms.fees.max));
            let reason = format!(
                "a unit of gas costs {asked} gwei now, NOVA_MAX_FEE_GWEI or NOVA_GAS_PRICE_GWEI allows {allowed}"
            );
            self.ledger.postpone_tx(&tx.key, &reason, 5).await?;
            return Ok(Verdict::Settled);
        }
        let call = self.call(tx, sequence_id, terms.head)?;
        Ok(match self.gas(&call).await? {
            Ok(gas) => Verdict::Send(call, gas),
            Err(revert) => Verdict::Reverts(revert),
        })
    }

    /// Does what the verdict says: what is to be sent is signed, written down, and on its way.
    pub(super) async fn carry_out(
        &mut self,
        tx: &Tx,
        verdict: Verdict,
        terms: &mut Terms,
        offers: &mut Offers,
    ) -> Result<()> {
        let (call, gas) = match verdict {
            Verdict::Send(call, gas) => (call, gas),
            Verdict::Reverts(revert) => return self.would_revert(tx, &revert).await,
            Verdict::Mined(attempts, receipt) => return self.settle(tx, &attempts, &receipt, terms.head, None).await,
            Verdict::Settled => return Ok(()),
        };
        // What was signed before it in this pass may have taken the nonce.
        if tx.purpose() == Purpose::Fill && !terms.nonces.has_gap() {
            return self.ledger.fatal(tx, "failed", NO_GAP).await;
        }
        if !self.is_paid_for(tx, terms, gas).await? {
            return Ok(());
        }
        let nonce = terms.nonces.next();
        let attempt = self.sign(&call, &Place { kind: AttemptKind::Work, nonce, fees: terms.fees, gas }, terms.head)?;
        self.ledger.signed(&tx.key, &attempt).await?;
        terms.nonces.take(nonce);
        terms.balance = terms.balance.saturating_sub(terms.fees.cost(gas));
        tracing::info!(tx = tx.key, hash = attempt.hash, nonce, "sending");
        self.begin_offer(offers, tx, &attempt);
        Ok(())
    }

    /// The verdict on a transaction that is not to be sent: its deadline has passed, the contract holds its result, or an earlier attempt
    /// was mined. `None` if it is to be sent.
    async fn is_over(&self, tx: &Tx, terms: &Terms) -> Result<Option<Verdict>> {
        if !self.is_in_time(tx, terms.head).await? {
            return Ok(Some(Verdict::Settled));
        }
        if let Some(reason) = tx.lapsed(terms.head.time) {
            self.ledger.fatal(tx, "failed", &reason).await?;
            return Ok(Some(Verdict::Settled));
        }
        let attempts = self.ledger.attempts(&tx.key).await?;
        if let Some(receipt) = self.find_receipt(&attempts).await? {
            return Ok(Some(Verdict::Mined(attempts, Box::new(receipt))));
        }
        match tx.purpose() {
            Purpose::Commit | Purpose::Answer if self.is_answered(tx).await? => {
                self.ledger.fatal(tx, "answered", "the chain holds our answer already").await?;
            }
            Purpose::Answer => match self.lacks_commitment(tx).await? {
                Some(reason) => {
                    tracing::error!(tx = tx.key, reason, "not sent");
                    self.ledger.fatal(tx, "failed", &reason).await?;
                }
                None => return Ok(None),
            },
            Purpose::Respond => match self.nothing_to_respond(tx).await? {
                Some(reason) => self.ledger.done(tx, &reason).await?,
                None => return Ok(None),
            },
            Purpose::Fill if !terms.nonces.has_gap() => {
                self.ledger.fatal(tx, "failed", NO_GAP).await?;
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
    pub(super) async fn is_in_time(&self, tx: &Tx, head: Head) -> Result<bool> {
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
        self.ledger.fatal(tx, "expired", &format!("the deadline has passed: {reason}")).await?;
        Ok(false)
    }

    /// The call that a transaction is for, through the MultiSig where there is one.
    pub(super) fn call(&self, tx: &Tx, sequence_id: Option<u64>, head: Head) -> Result<Call> {
        if tx.purpose() == Purpose::Fill {
            return Ok(self.transfer_to_ourselves());
        }
        let target = address("the ledger's target", &tx.target)?;
        let wrapped = self.chain.account().wrap(target, tx.calldata.clone().into(), sequence_id, head.time);
        let sequence_id = wrapped.expires.and(sequence_id);
        Ok(Call { to: wrapped.to, data: wrapped.data, sequence_id, expires: wrapped.expires })
    }

    /// What takes a nonce and does nothing.
    pub(super) fn transfer_to_ourselves(&self) -> Call {
        let to = self.chain.account().wallet_address();
        Call { to, data: Bytes::new(), sequence_id: None, expires: None }
    }

    /// The signed bytes of a call, as they go into the ledger.
    pub(super) fn sign(&self, call: &Call, place: &Place, head: Head) -> Result<NewAttempt> {
        let account = self.chain.account();
        let transaction = self.priced(call.to, call.data.clone(), place.nonce, place.fees, place.gas);
        let start = Instant::now();
        let (raw, hash) = account.sign(&transaction)?;
        tracing::debug!(nonce = place.nonce, sign_ms = milliseconds(start.elapsed()), "signed");
        Ok(NewAttempt {
            hash: text(hash),
            kind: place.kind,
            sender: text(account.wallet_address()),
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
    pub(super) async fn gas(&self, call: &Call) -> Result<std::result::Result<u64, Revert>> {
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
            Err(error) => match (Revert::of(&error), error.as_error_response()) {
                (Some(revert), _) => Ok(Err(revert)),
                // It concerns this call: the others do not wait for it.
                (None, Some(refusal)) => Ok(Err(Revert { meaning: Meaning::Unknown, reason: refusal.message.clone() })),
                (None, None) => Err(unreachable(error).context("cannot estimate gas")),
            },
        }
    }

    /// What became of a queued transaction whose call would revert. An answer waits for better times until its deadline, and so does a
    /// commitment, unless its answer may go out without it; a delivery gives up after some tries.
    async fn would_revert(&mut self, tx: &Tx, revert: &Revert) -> Result<()> {
        if self.is_settled_by(tx, revert).await? {
            return Ok(());
        }
        let reason = format!("the call would revert: {}", revert.reason);
        tracing::warn!(tx = tx.key, reason, "not sent");
        if revert.meaning == Meaning::NotTopN {
            self.top_n = None;
        }
        let wait = match (tx.purpose(), revert.meaning) {
            (_, Meaning::Sequence) => 1,
            (Purpose::Answer | Purpose::Commit, Meaning::UnknownRequest) => 2,
            (Purpose::Answer, _) | (_, Meaning::NotTopN | Meaning::Unknown) => 5,
            // Without it there is no answer: both wait until the deadline.
            (Purpose::Commit, _) if !self.chain.settings.answer_without_commitment => 5,
            (Purpose::Commit, _) if tx.tries < COMMIT_TRIES => {
                return self.ledger.tried_in_vain(&tx.key, &reason, 2).await;
            }
            (Purpose::Respond | Purpose::Prove | Purpose::Claim, meaning)
                if tx.tries + 1 < MAX_REVERTS && !matches!(meaning, Meaning::NotOver | Meaning::Nothing) =>
            {
                return self.ledger.tried_in_vain(&tx.key, &reason, 30).await;
            }
            _ => return self.ledger.fatal(tx, "failed", &reason).await,
        };
        self.ledger.postpone_tx(&tx.key, &reason, wait).await
    }

    /// False, and the row put off, if the wallet cannot pay for it. What is no answer leaves `NOVA_MIN_BALANCE_ETH` for
    /// answers.
    async fn is_paid_for(&mut self, tx: &Tx, terms: &Terms, gas: u64) -> Result<bool> {
        let cost = terms.fees.cost(gas);
        let floor = match tx.purpose() {
            Purpose::Commit | Purpose::Answer | Purpose::Fill => U256::zero(),
            Purpose::Respond | Purpose::Prove | Purpose::Claim => {
                parse_units(format!("{:.18}", self.chain.settings.min_balance_eth), "ether").stop()?.into()
            }
        };
        if terms.balance >= cost.saturating_add(floor) {
            return Ok(true);
        }
        let reason = self.unfunded(terms.balance, cost.saturating_add(floor));
        if self.troubles.may_say("unfunded", SAY_AGAIN) {
            tracing::error!(tx = tx.key, reason, "not sent");
        }
        self.ledger.postpone_tx(&tx.key, &reason, 10).await?;
        Ok(false)
    }

    /// That the wallet cannot pay, for people.
    pub(super) fn unfunded(&self, balance: U256, needed: U256) -> String {
        format!(
            "wallet {} holds {} ETH, this transaction needs up to {} ETH: send it some",
            text(self.chain.account().wallet_address()),
            format_ether(balance),
            format_ether(needed)
        )
    }

    /// True, and the row ended, if a refusal says that the chain holds already what was to be brought about.
    pub(super) async fn is_settled_by(&self, tx: &Tx, revert: &Revert) -> Result<bool> {
        match (revert.meaning, tx.purpose()) {
            (Meaning::Answered, Purpose::Answer) => {
                self.ledger.fatal(tx, "answered", "the chain holds our answer already").await?;
            }
            (Meaning::Answered, Purpose::Commit) => {
                let reason = format!("the request is answered, it takes no commitment any more: {}", revert.reason);
                self.ledger.fatal(tx, "failed", &reason).await?;
            }
            (Meaning::Done, Purpose::Commit) => match self.holds_our_commitment(tx).await? {
                true => self.ledger.done(tx, "the chain holds this commitment already").await?,
                false => {
                    let reason = "the chain holds another commitment to this request: its proof will not be accepted";
                    self.ledger.fatal(tx, "failed", reason).await?;
                }
            },
            (Meaning::Done, Purpose::Respond | Purpose::Prove) => {
                self.ledger.done(tx, &format!("the chain holds an answer already: {}", revert.reason)).await?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}
