//! The one place that the contract has for challenges of validators.

use anyhow::anyhow;
use ethers::types::Address;

use super::call::{call_fault, is_contract_error};
use super::contracts::Modeler;
use super::{Chain, address, to_hex};
use crate::fault::{Fault, Result};
use crate::ledger::{Challenge, ChallengeKey, Ledger};

impl Chain {
    /// Why a validator's challenge needs no answer any more: the contract that asked holds a newer one in its place.
    pub async fn superseded(&self, ledger: &Ledger, challenge: &Challenge) -> Result<Option<String>> {
        let asked_in = match &challenge.contract {
            Some(contract) => address("the contract that asked", contract)?,
            None => self.modeler_contract.address(),
        };
        match self.slot(asked_in).await? {
            Some((held, _)) => self.superseded_by(&held, asked_in, ledger, &challenge.key(), &challenge.payload).await,
            None => Ok(None),
        }
    }

    /// The same of a challenge in the contract at `asked_in` that says `payload`, or why it was answered before: the contract holds an
    /// answer of ours.
    pub(super) async fn already_resolved(
        &self,
        ledger: &Ledger,
        asked_in: &str,
        challenge: &ChallengeKey,
        payload: &str,
    ) -> Result<Option<String>> {
        let asked_in = address("the contract that asked", asked_in)?;
        match self.slot(asked_in).await? {
            Some((held, response)) if held == payload && !response.is_empty() => {
                Ok(Some(format!("the contract holds an answer to it already: {response}")))
            }
            Some((held, _)) => self.superseded_by(&held, asked_in, ledger, challenge, payload).await,
            None => Ok(None),
        }
    }

    /// What the challenge that the contract holds means for one that says `payload`.
    async fn superseded_by(
        &self,
        held: &str,
        asked_in: Address,
        ledger: &Ledger,
        challenge: &ChallengeKey,
        payload: &str,
    ) -> Result<Option<String>> {
        const SUPERSEDED: &str = "a newer challenge took its place in the contract, which answers only that";
        if held.is_empty() || held == payload {
            return Ok(None);
        }
        if !ledger.has_challenge(&to_hex(asked_in), held).await? {
            // The daemon reads challenges of the Modeler contract that the Competition names, and of no earlier one.
            if asked_in != self.modeler_contract.address() {
                return Ok(Some(SUPERSEDED.to_owned()));
            }
            // The contract would take our answer for one to that.
            return Err(Fault::Transient(anyhow!("the contract holds a challenge that was not read yet")));
        }
        // A machine that is behind shows one that is older.
        Ok(ledger.is_superseded(challenge, held).await?.then(|| SUPERSEDED.to_owned()))
    }

    /// The challenge that the contract at `asked_in` holds for this modeler, and the answer to it. `None` for a contract without that getter: it reverts
    /// an answer that it does not want.
    async fn slot(&self, asked_in: Address) -> Result<Option<(String, String)>> {
        match Modeler::new(asked_in, self.client.clone()).zkml_challenges(self.modeler()).call().await {
            Ok((challenge, response, ..)) => Ok(Some((challenge, response))),
            Err(error) if is_contract_error(&error) => Ok(None),
            Err(error) => Err(call_fault(error, "ZKMLChallenges")),
        }
    }
}
