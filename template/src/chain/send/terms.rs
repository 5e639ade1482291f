//! What a pass signs with: fees, balance, the next nonce and sequence id.

use anyhow::Context as _;
use ethers::providers::{Middleware as _, ProviderError, RpcError as _};
use ethers::types::transaction::eip2718::TypedTransaction;
use ethers::types::{Address, BlockNumber, Bytes, Eip1559TransactionRequest, TransactionRequest, U256};
use ethers::utils::parse_units;

use super::Sender;
use crate::chain::{Head, text, unreachable};
use crate::fault::{Classify as _, Result};

/// What is the same for all transactions signed in one pass.
pub(super) struct Terms {
    pub head: Head,
    pub fees: Fees,
    pub balance: U256,
    pub nonce: u64,
    pub sequence_id: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Fees {
    Legacy { gas_price: U256 },
    Eip1559 { max_fee: U256, priority: U256 },
}

impl Fees {
    /// The most that a unit of gas can cost, in wei.
    pub fn max(self) -> U256 {
        match self {
            Self::Legacy { gas_price } => gas_price,
            Self::Eip1559 { max_fee, .. } => max_fee,
        }
    }
}

impl Sender {
    pub(super) async fn terms(&self) -> Result<Terms> {
        let head = self.chain.head().await?;
        let wallet = self.chain.account().wallet_address();
        let sender = text(wallet);
        let pending = self
            .chain
            .client
            .get_transaction_count(wallet, Some(BlockNumber::Pending.into()))
            .await
            .map_err(unreachable)?
            .as_u64();
        let nonce = pending.max(self.ledger.next_nonce(&sender).await?.unwrap_or(0));
        let sequence_id = match self.chain.account().next_sequence_id().await? {
            Some(next) => Some(next.max(self.ledger.next_sequence_id(&sender).await?.unwrap_or(0))),
            None => None,
        };
        Ok(Terms { head, fees: self.fees(head).await?, balance: self.chain.balance().await?, nonce, sequence_id })
    }

    /// As the settings say, else twice the base fee and the node's priority fee (EIP-1559), never above
    /// `NOVA_MAX_FEE_GWEI`.
    async fn fees(&self, head: Head) -> Result<Fees> {
        let settings = &self.chain.settings;
        if let Some(gwei) = settings.gas_price_gwei {
            return Ok(Fees::Legacy { gas_price: gwei_to_wei(gwei)? });
        }
        if head.base_fee.is_zero() {
            return Ok(Fees::Legacy { gas_price: self.chain.client.get_gas_price().await.map_err(unreachable)? });
        }
        let asked: std::result::Result<U256, ProviderError> =
            self.chain.client.request("eth_maxPriorityFeePerGas", ()).await;
        let priority = match asked {
            Ok(fee) => fee,
            // Not every node has the method; Arbitrum's sequencer ignores the fee.
            Err(error) if error.as_error_response().is_some() => U256::zero(),
            Err(error) => return Err(unreachable(error)),
        };
        let cap = settings.max_fee_gwei.map(gwei_to_wei).transpose()?.unwrap_or(U256::MAX);
        let max_fee = cap.min(head.base_fee * 2 + priority);
        Ok(Fees::Eip1559 { max_fee, priority: priority.min(max_fee) })
    }

    /// The transaction that carries `data` to `to` on these terms.
    pub(super) fn priced(&self, to: Address, data: Bytes, terms: &Terms, gas: u64) -> TypedTransaction {
        let chain_id = self.chain.settings.chain_id;
        match terms.fees {
            Fees::Legacy { gas_price } => TransactionRequest::new()
                .chain_id(chain_id)
                .to(to)
                .data(data)
                .gas(gas)
                .gas_price(gas_price)
                .nonce(terms.nonce)
                .into(),
            Fees::Eip1559 { max_fee, priority } => Eip1559TransactionRequest::new()
                .chain_id(chain_id)
                .to(to)
                .data(data)
                .gas(gas)
                .max_fee_per_gas(max_fee)
                .max_priority_fee_per_gas(priority)
                .nonce(terms.nonce)
                .into(),
        }
    }
}

fn gwei_to_wei(gwei: f64) -> Result<U256> {
    Ok(parse_units(format!("{gwei:.9}"), "gwei").with_context(|| format!("{gwei} gwei is no gas price")).stop()?.into())
}
