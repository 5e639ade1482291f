//! Rewards of past epochs. The public contract says no more than `claimReward(epoch)`: which epochs can be claimed is
//! found by trying each with an `eth_call`, from the last one that was claimed.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use ethers::abi::AbiEncode as _;
use ethers::providers::Middleware as _;
use ethers::types::TransactionRequest;

use super::Sender;
use crate::chain::contracts::ClaimRewardCall;
use crate::chain::revert::{Revert, RevertKind};
use crate::chain::{Chain, rpc_fault, to_hex};
use crate::fault::{Fault, Result};
use crate::ledger::Ledger;

const CLAIM_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// How soon it is tried again where the endpoint does not tell.
const RETRY_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Epochs that are tried at once: ten years of weeks.
const MAX_EPOCHS: u64 = 520;
/// After so many refusals in a row that we do not understand no later epoch is tried.
const MAX_UNKNOWN_REVERTS: u32 = 8;
/// An epoch that never comes.
const PROBE_EPOCH: u64 = u32::MAX as u64;

impl Sender {
    /// Looks for what can be claimed, once a day, if the owner wants that, and beside all else: it may take hundreds of calls.
    pub(super) fn claim_daily(&mut self) -> Result<()> {
        while let Some(ended) = self.claims.try_join_next() {
            self.handle_claim_search(ended.unwrap_or_else(|panic| Err(Fault::Fatal(anyhow!(panic)))))?;
        }
        let due = self.next_claim_check.is_none_or(|next| Instant::now() >= next);
        if self.chain.settings.claim_rewards && self.conflicting_daemon.is_none() && due && self.claims.is_empty() {
            let (chain, ledger) = (self.chain.clone(), self.ledger.clone());
            self.claims.spawn(async move { chain.queue_claims(&ledger).await });
        }
        Ok(())
    }

    fn handle_claim_search(&mut self, found: Result<Vec<u64>>) -> Result<()> {
        let mut again = CLAIM_INTERVAL;
        match found {
            Ok(epochs) if epochs.is_empty() => {}
            Ok(epochs) => tracing::info!(?epochs, "claiming rewards"),
            Err(Fault::Permanent(error)) => tracing::warn!(reason = format!("{error:#}"), "cannot claim rewards"),
            // No answer waits for a reward.
            Err(Fault::Transient(error)) => {
                tracing::warn!(reason = format!("{error:#}"), "cannot look for rewards yet");
                again = RETRY_INTERVAL;
            }
            Err(fault) => return Err(fault.context("cannot look for rewards")),
        }
        self.next_claim_check = Some(Instant::now() + again);
        Ok(())
    }
}

impl Chain {
    /// Queues the claim of every reward that can be claimed since the last one. Returns the epochs.
    ///
    /// # Errors
    /// `Permanent` if the contract does not say which epochs are over.
    pub async fn queue_claims(&self, ledger: &Ledger) -> Result<Vec<u64>> {
        let contract = to_hex(self.consumption.address());
        if self.try_claim(PROBE_EPOCH).await?.is_none() {
            return Err(Fault::Permanent(anyhow!(
                "the contract {contract} takes a claim of any epoch, even of one that never comes: name the epoch with \
                 `nova claim-rewards --epoch N`"
            )));
        }
        let first = ledger.last_claim(&contract).await?.map_or(0, |last| last + 1);
        let (mut queued, mut unknown) = (Vec::new(), 0);
        for epoch in first..first + MAX_EPOCHS {
            match self.try_claim(epoch).await?.map(|revert| revert.kind) {
                None => {
                    self.queue_claim(ledger, epoch).await?;
                    queued.push(epoch);
                    unknown = 0;
                }
                Some(RevertKind::EpochNotOver) => break,
                Some(RevertKind::NothingToClaim) => unknown = 0,
                Some(_) if unknown + 1 == MAX_UNKNOWN_REVERTS => break,
                Some(_) => unknown += 1,
            }
        }
        Ok(queued)
    }

    /// Queues the claim of one epoch's reward. False if that was done before.
    ///
    /// # Errors
    /// `Permanent` with the contract's words if it would refuse.
    pub async fn queue_claim_of(&self, ledger: &Ledger, epoch: u64) -> Result<bool> {
        match self.try_claim(epoch).await? {
            None => self.queue_claim(ledger, epoch).await,
            Some(revert) => {
                Err(Fault::Permanent(anyhow!("the reward of epoch {epoch} cannot be claimed: {}", revert.reason)))
            }
        }
    }

    /// The idempotency key of a claim.
    pub fn claim_key(&self, epoch: u64) -> String {
        format!("claim:{}:{epoch}", to_hex(self.consumption.address()))
    }

    async fn queue_claim(&self, ledger: &Ledger, epoch: u64) -> Result<bool> {
        let call = ClaimRewardCall { reward_epoch: epoch.into() }.encode();
        ledger.queue_claim(&to_hex(self.consumption.address()), epoch, &call).await
    }

    /// Why a claim would be refused; `None` if it would not.
    async fn try_claim(&self, epoch: u64) -> Result<Option<Revert>> {
        let call = ClaimRewardCall { reward_epoch: epoch.into() }.encode();
        let request = TransactionRequest::new().from(self.modeler()).to(self.consumption.address()).data(call);
        match self.client.call(&request.into(), None).await {
            Ok(_) => Ok(None),
            Err(error) => match Revert::from_provider_error(&error) {
                Some(revert) => Ok(Some(revert)),
                None => Err(rpc_fault(error)),
            },
        }
    }
}
