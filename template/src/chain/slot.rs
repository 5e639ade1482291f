//! The one place that the contract has for challenges of validators.

use anyhow::anyhow;

use super::{Chain, call_fault, is_refusal};
use crate::fault::{Fault, Result};
use crate::ledger::{ChallengeKey, Ledger};

impl Chain {
    /// Why a validator's challenge that says `payload` is answered by nobody any more: a newer one is in its place.
    pub async fn superseded(&self, ledger: &Ledger, challenge: &ChallengeKey, payload: &str) -> Result<Option<String>> {
        let Some((held, _)) = self.slot().await? else { return Ok(None) };
        if !held.is_empty() && held != payload && !ledger.has_challenge(&held).await? {
            // The contract would take our answer for one to that.
            return Err(Fault::Retry(anyhow!("the contract holds a challenge that was not read yet")));
        }
        // A machine that is behind shows one that is older.
        let superseded = held != payload && ledger.is_superseded(challenge, &held).await?;
        Ok(superseded.then(|| "a newer challenge took its place in the contract, which answers only that".to_owned()))
    }

    /// The same, or why it was answered before: the contract holds an answer of ours.
    pub(super) async fn nothing_to_respond(
        &self,
        ledger: &Ledger,
        challenge: &ChallengeKey,
        payload: &str,
    ) -> Result<Option<String>> {
        match self.slot().await? {
            Some((held, response)) if held == payload && !response.is_empty() => {
                Ok(Some(format!("the contract holds an answer to it already: {response}")))
            }
            _ => self.superseded(ledger, challenge, payload).await,
        }
    }

    /// The challenge in the contract's place for ours, and the answer to it. `None` for a contract without that getter: by its revert it
    /// says what it thinks of an answer.
    async fn slot(&self) -> Result<Option<(String, String)>> {
        match self.modeler_contract.zkml_challenges(self.modeler()).call().await {
            Ok((challenge, response, ..)) => Ok(Some((challenge, response))),
            Err(error) if is_refusal(&error) => Ok(None),
            Err(error) => Err(call_fault(error, "ZKMLChallenges")),
        }
    }
}
