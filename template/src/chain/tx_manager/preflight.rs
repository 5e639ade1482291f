//! What the sender asks the contracts before it signs, and after.

use anyhow::anyhow;
use ethers::abi::AbiDecode as _;
use ethers::providers::{Middleware as _, RpcError as _};
use ethers::types::BlockNumber;

use super::Sender;
use crate::chain::contracts::CommitCall;
use crate::chain::{Head, rpc_fault};
use crate::config::Finality;
use crate::fault::{Fault, Result};
use crate::ledger::Tx;

impl Sender {
    /// True if the transaction is for a request that the chain holds our answer to.
    pub(super) async fn is_answered(&self, tx: &Tx) -> Result<bool> {
        let (Some(contract), Some(request)) = (&tx.contract, &tx.request) else { return Ok(false) };
        self.chain.has_answer(contract, request).await
    }

    /// Why the challenge that a delivery answers needs no answer any more.
    pub(super) async fn already_resolved(&self, tx: &Tx) -> Result<Option<String>> {
        let Some(challenge) = tx.challenge() else { return Ok(None) };
        let payload = self.ledger.payload(&challenge).await?.unwrap_or_default();
        self.chain.already_resolved(&self.ledger, &tx.target, &challenge, &payload).await
    }

    /// True if the registry holds the very commitment that this transaction carries.
    pub(super) async fn holds_our_commitment(&self, tx: &Tx) -> Result<bool> {
        let (true, Ok(ours)) = (self.chain.registry.is_some(), CommitCall::decode(&tx.calldata)) else {
            return Ok(false);
        };
        match self.chain.held_commitment(ours.request_id).await? {
            Some(held) => Ok(held == (ours.verifier, ours.instances_hash)),
            // Another machine has just said that there is one.
            None => Err(Fault::Transient(anyhow!("the RPC endpoint has not heard of the commitment yet"))),
        }
    }

    /// The highest block that no reorg takes back. `None`, and said so, where the node does not tell.
    pub(super) async fn final_block(&mut self, head: Head) -> Result<Option<u64>> {
        let (tag, name) = match self.chain.settings.finality {
            Finality::Blocks(depth) => return Ok(head.number.checked_sub(depth)),
            Finality::Finalized => (BlockNumber::Finalized, "finalized"),
            Finality::Safe => (BlockNumber::Safe, "safe"),
        };
        let unknown = match self.chain.client.get_block(tag).await {
            Ok(Some(block)) => {
                self.alerts.set("finality", Ok(()));
                return Ok(block.number.map(|number| number.as_u64()));
            }
            Ok(None) => "it has none".to_owned(),
            Err(error) => match error.as_error_response() {
                Some(refusal) => refusal.message.clone(),
                None => return Err(rpc_fault(error)),
            },
        };
        let reason = format!(
            "the RPC endpoint does not tell which block is `{name}` ({unknown}), so that no transaction becomes final: set \
             NOVA_FINALITY to a number of blocks"
        );
        self.alerts.set("finality", Err(reason));
        Ok(None)
    }
}
