//! Who spent a nonce of ours: a person, for whom we make way, or a second daemon on the same key, beside which this one
//! must not go on.

use std::time::{Duration, Instant};

use ethers::abi::AbiDecode as _;
use ethers::contract::EthCall as _;
use ethers::providers::{Middleware as _, ProviderError, RpcError as _};
use ethers::types::{Address, Transaction};

use super::Sender;
use crate::chain::contracts::{
    CommitCall, RespondToZKMLChallengeCall, SendMultiSigCall, SubmitProofCall, consumption, consumption_of_strings,
};
use crate::chain::{Head, rpc_fault, to_hex};
use crate::fault::Result;
use crate::ledger::{Attempt, Tx};

/// How long a nonce may be spent without that anybody knows by what.
const UNKNOWN_SPENDER_GRACE: Duration = Duration::from_secs(10);

impl Sender {
    /// A nonce of ours is spent, and none of this transaction's attempts has a receipt.
    pub(super) async fn handle_spent_nonce(
        &mut self,
        tx: &Tx,
        attempts: &[Attempt],
        nonce: u64,
        head: Head,
    ) -> Result<()> {
        // A receipt may have come between the two questions.
        if self.find_receipt(attempts).await?.is_some() {
            return Ok(());
        }
        let spender = self.tx_that_used_nonce(nonce, head).await?;
        if spender.is_none() && !self.spender_unknown_for(&tx.key) {
            return Ok(());
        }
        let reason = match &spender {
            // A replica that lags told us of no receipt. What is void has one, and did nothing.
            Some(by) if attempts.iter().any(|it| !it.is_ineffective() && it.hash == to_hex(by.hash)) => return Ok(()),
            Some(by) => format!("its nonce {nonce} was spent by another transaction, {}", to_hex(by.hash)),
            None => format!("its nonce {nonce} was spent by another transaction, which the RPC endpoint does not show"),
        };
        if let Some(by) = spender
            && self.is_of_now(&by)
            && self.is_from_another_daemon(&by)
            && !self.ledger.is_ours(&to_hex(by.hash)).await?
        {
            self.conflicting_daemon = Some(format!(
                "a second daemon uses the key of wallet {}: its transaction {} took nonce {nonce} and calls our contracts. \
                 This daemon has stopped sending; run one daemon for a key, or several on one artifacts folder",
                to_hex(self.chain.account().wallet_address()),
                to_hex(by.hash)
            ));
        }
        if tx.state == "cancelling" && !self.is_needed_again(tx, head).await? {
            return self.finish_cancelled(tx, head).await;
        }
        tracing::warn!(tx = tx.key, reason, "signing anew");
        self.ledger.requeue(&tx.key, &reason).await
    }

    /// True once no spender was shown for a while. A node that is about to add a block may count its transactions already.
    fn spender_unknown_for(&mut self, key: &str) -> bool {
        self.unseen_spends.retain(|_, since| since.elapsed() < UNKNOWN_SPENDER_GRACE * 2);
        self.unseen_spends.entry(key.to_owned()).or_insert_with(Instant::now).elapsed() >= UNKNOWN_SPENDER_GRACE
    }

    /// The mined transaction of our wallet that has this nonce: its block is found by halving. `None` where the node keeps
    /// too little history.
    async fn tx_that_used_nonce(&self, nonce: u64, head: Head) -> Result<Option<Transaction>> {
        let wallet = self.chain.account().wallet_address();
        let (mut unspent, mut spent, mut step) = (head.number, head.number, 1);
        // Back in growing steps to a block before it was spent.
        while self.is_spent(nonce, unspent).await? != Some(false) {
            if unspent == 0 || self.is_spent(nonce, unspent).await?.is_none() {
                return Ok(None);
            }
            spent = unspent;
            unspent = unspent.saturating_sub(step);
            step *= 2;
        }
        while spent - unspent > 1 {
            let middle = unspent + (spent - unspent) / 2;
            match self.is_spent(nonce, middle).await? {
                Some(true) => spent = middle,
                Some(false) => unspent = middle,
                None => return Ok(None),
            }
        }
        let block = self.chain.client.get_block_with_txs(spent).await.map_err(rpc_fault)?;
        let transactions = block.map(|block| block.transactions).unwrap_or_default();
        Ok(transactions.into_iter().find(|it| it.from == wallet && it.nonce == nonce.into()))
    }

    /// `None` where the node does not know any more.
    async fn is_spent(&self, nonce: u64, block: u64) -> Result<Option<bool>> {
        let wallet = self.chain.account().wallet_address();
        match self.chain.client.get_transaction_count(wallet, Some(block.into())).await {
            Ok(count) => Ok(Some(count > nonce.into())),
            Err(error) if is_answer(&error) => Ok(None),
            Err(error) => Err(rpc_fault(error)),
        }
    }

    /// False for what is as old as this sender's start: a daemon before us sent it, whose ledger ours is an older copy of.
    fn is_of_now(&self, by: &Transaction) -> bool {
        by.block_number.is_none_or(|block| self.start_block.is_none_or(|began| block.as_u64() > began))
    }

    /// True for what only a daemon sends for our modeler: answers, commitments, responses and proofs. A person may well
    /// register a verifier or claim a reward.
    fn is_from_another_daemon(&self, by: &Transaction) -> bool {
        let Some(to) = by.to else { return false };
        let account = self.chain.account();
        if to == account.modeler()
            && let Ok(inner) = SendMultiSigCall::decode(&by.input)
        {
            return self.is_daemon_call(inner.to, &inner.data);
        }
        account.modeler() == account.wallet_address() && self.is_daemon_call(to, &by.input)
    }

    fn is_daemon_call(&self, to: Address, data: &[u8]) -> bool {
        let selectors: &[[u8; 4]] = if to == self.chain.consumption.address() {
            &[consumption::SubmitInferenceCall::selector(), consumption_of_strings::SubmitInferenceCall::selector()]
        } else if to == self.chain.modeler_contract.address() {
            &[RespondToZKMLChallengeCall::selector()]
        } else if self.chain.registry.as_ref().is_some_and(|registry| registry.contract.address() == to) {
            &[CommitCall::selector(), SubmitProofCall::selector()]
        } else {
            &[]
        };
        data.get(..4).is_some_and(|selector| selectors.iter().any(|known| known == selector))
    }
}

fn is_answer(error: &ProviderError) -> bool {
    error.as_error_response().is_some()
}
