//! What a pass signs with: fees, balance, the free nonces and the next sequence id.

use std::collections::BTreeSet;

use ethers::providers::{Middleware as _, ProviderError, RpcError as _};
use ethers::types::transaction::eip2718::TypedTransaction;
use ethers::types::{Address, BlockNumber, Bytes, Eip1559TransactionRequest, TransactionRequest, U256};

use super::Sender;
use super::fees::{Fees, Limits};
use crate::chain::{Head, rpc_fault, to_hex, to_u64};
use crate::fault::Result;

/// Sequence ids that were signed and never used leave holes. The MultiSig takes none that is 10,000 above the lowest of
/// its last ten, so that far before that we go back to the holes.
const MAX_SEQUENCE_GAP: u64 = 5_000;

/// What is the same for all transactions signed in one pass.
pub(super) struct TxParams {
    pub head: Head,
    /// What the market asks for.
    pub fees: Fees,
    pub limits: Limits,
    pub balance: U256,
    pub nonces: Nonces,
    pub sequence_id: Option<u64>,
}

/// Which nonces of the wallet are free.
#[derive(Debug, Clone)]
pub(super) struct Nonces {
    /// The first that neither the chain nor the node's pool has, counted without a gap.
    first: u64,
    /// Taken by what we signed, from `first` on.
    reserved: BTreeSet<u64>,
}

impl Nonces {
    /// `latest` and `pending` as the node counts them; `held` by what we signed and what is not final.
    pub fn new(latest: u64, pending: u64, held: BTreeSet<u64>) -> Self {
        let first = latest.max(pending);
        Self { first, reserved: held.into_iter().filter(|nonce| *nonce >= first).collect() }
    }

    /// The lowest that is free.
    pub fn next(&self) -> u64 {
        let taken = self.reserved.iter().zip(self.first..).take_while(|(held, expected)| **held == *expected).count();
        self.first + taken as u64
    }

    /// True if nothing holds the next one and something a higher one, which waits for it.
    pub fn has_gap(&self) -> bool {
        self.reserved.last().is_some_and(|highest| *highest > self.next())
    }

    pub fn reserve(&mut self, nonce: u64) {
        self.reserved.insert(nonce);
    }
}

impl Sender {
    pub(super) async fn tx_params(&self) -> Result<TxParams> {
        let account = self.chain.account();
        let sender = to_hex(account.wallet_address());
        // All at once: a call takes a tenth of a second, and what is signed waits for them.
        let (head, latest, pending, next_sequence_id, balance) = tokio::try_join!(
            self.chain.head(),
            self.transaction_count(BlockNumber::Latest),
            self.transaction_count(BlockNumber::Pending),
            account.next_sequence_id(),
            self.chain.balance(),
        )?;
        let nonces = Nonces::new(latest, pending, self.ledger.reserved_nonces(&sender, latest).await?);
        let sequence_id = match next_sequence_id {
            Some(next) => {
                let next_local = self.ledger.next_sequence_id(&sender).await?.unwrap_or(0);
                Some(if next_local > next + MAX_SEQUENCE_GAP { next } else { next.max(next_local) })
            }
            None => None,
        };
        let limits = Limits::of(&self.chain.settings)?;
        let fees = self.fees(head, limits).await?;
        Ok(TxParams { head, fees, limits, balance, nonces, sequence_id })
    }

    /// How many transactions the wallet has sent as of that block.
    pub(super) async fn transaction_count(&self, block: BlockNumber) -> Result<u64> {
        let wallet = self.chain.account().wallet_address();
        let count = self.chain.client.get_transaction_count(wallet, Some(block.into())).await;
        to_u64("the number of our transactions", count.map_err(rpc_fault)?)
    }

    /// As the settings say, else twice the base fee and the priority fee (EIP-1559) of `NOVA_PRIORITY_FEE_GWEI` or the node, never above
    /// `NOVA_MAX_FEE_GWEI`.
    async fn fees(&self, head: Head, limits: Limits) -> Result<Fees> {
        if let Some(price) = limits.fixed {
            return Ok(Fees::legacy(price));
        }
        let cap = limits.cap.unwrap_or(U256::MAX);
        if head.base_fee.is_zero() {
            return Ok(Fees::legacy(self.chain.client.get_gas_price().await.map_err(rpc_fault)?.min(cap)));
        }
        let priority = match limits.priority {
            Some(priority) => priority,
            None => self.suggested_priority().await?,
        };
        let max = cap.min(head.base_fee.saturating_mul(2.into()).saturating_add(priority));
        Ok(Fees { max, priority: priority.min(max), legacy: false })
    }

    async fn suggested_priority(&self) -> Result<U256> {
        let asked: std::result::Result<U256, ProviderError> =
            self.chain.client.request("eth_maxPriorityFeePerGas", ()).await;
        match asked {
            Ok(fee) => Ok(fee),
            // Not every node has the method; Nitro's suggests nothing.
            Err(error) if error.as_error_response().is_some() => Ok(U256::zero()),
            Err(error) => Err(rpc_fault(error)),
        }
    }

    /// The transaction that carries `data` to `to` on this nonce, at these fees.
    pub(super) fn build_transaction(
        &self,
        to: Address,
        data: Bytes,
        nonce: u64,
        fees: Fees,
        gas: u64,
    ) -> TypedTransaction {
        let chain_id = self.chain.settings.chain_id;
        if fees.legacy {
            let request = TransactionRequest::new().chain_id(chain_id).to(to).data(data).gas(gas);
            return request.gas_price(fees.max).nonce(nonce).into();
        }
        let request = Eip1559TransactionRequest::new().chain_id(chain_id).to(to).data(data).gas(gas);
        request.max_fee_per_gas(fees.max).max_priority_fee_per_gas(fees.priority).nonce(nonce).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_nonce_is_the_lowest_that_nobody_holds() {
        for (latest, pending, held, next, gap) in [
            (5, 5, vec![], 5, false),
            // Ours, in the pool or on the way to it.
            (5, 7, vec![5, 6], 7, false),
            (5, 5, vec![5, 6], 7, false),
            // Somebody else's, in the pool.
            (5, 7, vec![], 7, false),
            // A gap: nothing holds 5, and 6 waits for it.
            (5, 5, vec![6, 7], 5, true),
            (5, 6, vec![5, 7], 6, true),
            // Mined a moment ago: a replica that lags does not know of it.
            (5, 5, vec![3, 5], 6, false),
        ] {
            let nonces = Nonces::new(latest, pending, held.iter().copied().collect());
            assert_eq!((nonces.next(), nonces.has_gap()), (next, gap), "{latest} {pending} {held:?}");
        }
    }

    #[test]
    fn a_taken_nonce_is_taken() {
        let mut nonces = Nonces::new(5, 5, [6].into());
        nonces.reserve(5);
        assert_eq!((nonces.next(), nonces.has_gap()), (7, false));
    }
}
