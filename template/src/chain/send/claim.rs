//! Rewards of past epochs. The public contract says no more than `claimReward(epoch)`: which epochs can be claimed is
//! found by trying each with an `eth_call`, from the last one that was claimed.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use ethers::abi::AbiEncode as _;
use ethers::providers::Middleware as _;
use ethers::types::TransactionRequest;

use super::Sender;
use crate::chain::contracts::ClaimRewardCall;
use crate::chain::revert::{Meaning, Revert};
use crate::chain::{Chain, text, unreachable};
use crate::fault::{Fault, Result};
use crate::ledger::Ledger;

const DAILY: Duration = Duration::from_secs(24 * 60 * 60);
/// How soon it is tried again where the endpoint does not tell.
const SOON: Duration = Duration::from_secs(5 * 60);
/// Epochs that are tried at once: ten years of weeks.
const MAX_EPOCHS: u64 = 520;
/// After so many refusals in a row that we do not understand no later epoch is tried.
const MAX_STRANGE: u32 = 8;
/// An epoch that never comes.
const NEVER: u64 = u32::MAX as u64;

impl Sender {
    /// Looks for what can be claimed, once a day, if the owner wants that, and beside all else: it may take hundreds of calls.
    pub(super) fn claim_daily(&mut self) -> Result<()> {
        while let Some(ended) = self.claims.try_join_next() {
            self.claims_looked_for(ended.unwrap_or_else(|panic| Err(Fault::Stop(anyhow!(panic)))))?;
        }
        let due = self.claims_next.is_none_or(|next| Instant::now() >= next);
        if self.chain.settings.claim_rewards && self.rival.is_none() && due && self.claims.is_empty() {
            let (chain, ledger) = (self.chain.clone(), self.ledger.clone());
            self.claims.spawn(async move { chain.queue_claims(&ledger).await });
        }
        Ok(())
    }

    fn claims_looked_for(&mut self, found: Result<Vec<u64>>) -> Result<()> {
        let mut again = DAILY;
        match found {
            Ok(epochs) if epochs.is_empty() => {}
            Ok(epochs) => tracing::info!(?epochs, "claiming rewards"),
            Err(Fault::Row(error)) => tracing::warn!(reason = format!("{error:#}"), "cannot claim rewards"),
            // No answer waits for a reward.
            Err(Fault::Retry(error)) => {
                tracing::warn!(reason = format!("{error:#}"), "cannot look for rewards yet");
                again = SOON;
            }
            Err(fault) => return Err(fault.context("cannot look for rewards")),
        }
        self.claims_next = Some(Instant::now() + again);
        Ok(())
    }
}

impl Chain {
    /// Queues the claim of every reward that can be claimed since the last one. Returns the epochs.
    ///
    /// # Errors
    /// `Row` if the contract does not say which epochs are over.
    pub async fn queue_claims(&self, ledger: &Ledger) -> Result<Vec<u64>> {
        let contract = text(self.consumption.address());
        if self.try_claim(NEVER).await?.is_none() {
            return Err(Fault::Row(anyhow!(
                "the contract {contract} takes a claim of any epoch, even of one that never comes: name the epoch with \
                 `nova claim-rewards --epoch N`"
            )));
        }
        let first = ledger.last_claim(&contract).await?.map_or(0, |last| last + 1);
        let (mut queued, mut strange) = (Vec::new(), 0);
        for epoch in first..first + MAX_EPOCHS {
            match self.try_claim(epoch).await?.map(|revert| revert.meaning) {
                None => {
                    self.queue_claim(ledger, epoch).await?;
                    queued.push(epoch);
                    strange = 0;
                }
                Some(Meaning::NotOver) => break,
                Some(Meaning::Nothing) => strange = 0,
                Some(_) if strange + 1 == MAX_STRANGE => break,
                Some(_) => strange += 1,
            }
        }
        Ok(queued)
    }

    /// Queues the claim of one epoch's reward. False if that was done before.
    ///
    /// # Errors
    /// `Row` with the contract's words if it would refuse.
    pub async fn queue_claim_of(&self, ledger: &Ledger, epoch: u64) -> Result<bool> {
        match self.try_claim(epoch).await? {
            None => self.queue_claim(ledger, epoch).await,
            Some(revert) => {
                Err(Fault::Row(anyhow!("the reward of epoch {epoch} cannot be claimed: {}", revert.reason)))
            }
        }
    }

    /// The idempotency key of a claim.
    pub fn claim_key(&self, epoch: u64) -> String {
        format!("claim:{}:{epoch}", text(self.consumption.address()))
    }

    async fn queue_claim(&self, ledger: &Ledger, epoch: u64) -> Result<bool> {
        let call = ClaimRewardCall { reward_epoch: epoch.into() }.encode();
        ledger.queue_claim(&text(self.consumption.address()), epoch, &call).await
    }

    /// Why a claim would be refused; `None` if it would not.
    async fn try_claim(&self, epoch: u64) -> Result<Option<Revert>> {
        let call = ClaimRewardCall { reward_epoch: epoch.into() }.encode();
        let request = TransactionRequest::new().from(self.modeler()).to(self.consumption.address()).data(call);
        match self.client.call(&request.into(), None).await {
            Ok(_) => Ok(None),
            Err(error) => match Revert::of(&error) {
                Some(revert) => Ok(Some(revert)),
                None => Err(unreachable(error)),
            },
        }
    }
}
