//! Signing and sending with one key.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ethers::{
    abi::{Abi, Detokenize, Token},
    contract::builders::ContractCall,
    providers::{Middleware as _, Provider},
    signers::{LocalWallet, Signer as _},
    types::{
        Address, BlockNumber, Bytes, Eip1559TransactionRequest, H256, TransactionReceipt, U256,
        transaction::eip2718::TypedTransaction,
    },
};
use tokio::sync::Mutex;

use crate::{
    contracts,
    rpc::{Node, Rpc},
    wait::wait_for,
};

/// How long a transaction may take to be mined.
const MINED_WITHIN: Duration = Duration::from_secs(180);

/// Something to be done on chain.
#[derive(Clone, Debug)]
pub struct Call {
    /// In words, for errors: "deposit 100 tokens".
    pub what: String,
    /// The contract; none where one is created.
    pub to: Option<Address>,
    pub data: Bytes,
    pub value: U256,
}

impl Call {
    /// A call of a contract that the bindings encoded.
    pub fn new<D: Detokenize>(what: impl Into<String>, call: &ContractCall<Provider<Rpc>, D>) -> Self {
        let to = call.tx.to_addr().copied();
        let data = call.calldata().unwrap_or_default();
        Self { what: what.into(), to, data, value: U256::zero() }
    }

    /// The creation of a contract.
    pub fn create(what: &str, abi: &Abi, bytecode: &Bytes, arguments: &[Token]) -> Result<Self> {
        let data = match abi.constructor() {
            Some(constructor) => constructor
                .encode_input(bytecode.to_vec(), arguments)
                .with_context(|| format!("the arguments of {what}'s constructor"))?,
            None => bytecode.to_vec(),
        };
        let what = format!("deploy {what}");
        Ok(Self { what, to: None, data: data.into(), value: U256::zero() })
    }

    /// A payment of the chain's own currency.
    pub fn pay(to: Address, value: U256) -> Self {
        Self { what: format!("pay {to:?}"), to: Some(to), data: Bytes::new(), value }
    }
}

/// One key, one nonce after the other.
#[derive(Debug)]
pub struct Sender {
    node: Node,
    wallet: LocalWallet,
    turn: Mutex<()>,
}

impl Sender {
    pub fn new(node: Node, wallet: LocalWallet) -> Self {
        Self { node, wallet, turn: Mutex::new(()) }
    }

    pub fn address(&self) -> Address {
        self.wallet.address()
    }

    /// The nonce of the next transaction.
    pub async fn next_nonce(&self) -> Result<U256> {
        let pending = Some(BlockNumber::Pending.into());
        let nonce = self.node.get_transaction_count(self.address(), pending).await;
        nonce.with_context(|| format!("cannot read the nonce of {:?}", self.address()))
    }

    /// Sends one call and waits until it is mined.
    pub async fn send(&self, call: Call) -> Result<TransactionReceipt> {
        let mut receipts = self.send_all(vec![call]).await?;
        receipts.pop().context("no receipt")
    }

    /// Sends calls that do not depend on each other, all at once, and waits until all are mined.
    pub async fn send_all(&self, calls: Vec<Call>) -> Result<Vec<TransactionReceipt>> {
        let hashes = {
            let _turn = self.turn.lock().await;
            self.broadcast(&calls).await?
        };
        let mut receipts = Vec::with_capacity(calls.len());
        for (call, hash) in calls.iter().zip(hashes) {
            receipts.push(self.mined(call, hash).await?);
        }
        Ok(receipts)
    }

    /// Estimates all first, so that either all are sent or none.
    async fn broadcast(&self, calls: &[Call]) -> Result<Vec<H256>> {
        let (max_fee, tip) = self.fees().await?;
        let mut nonce = self.next_nonce().await?;
        let mut transactions = Vec::with_capacity(calls.len());
        for call in calls {
            let mut request = Eip1559TransactionRequest::new()
                .from(self.address())
                .data(call.data.clone())
                .value(call.value)
                .nonce(nonce)
                .chain_id(self.wallet.chain_id())
                .max_fee_per_gas(max_fee)
                .max_priority_fee_per_gas(tip);
            request.to = call.to.map(Into::into);
            let mut transaction = TypedTransaction::Eip1559(request);
            let gas = self
                .node
                .estimate_gas(&transaction, None)
                .await
                .map_err(|error| anyhow::anyhow!("cannot {}: {}", call.what, contracts::explain(&error)))?;
            transaction.set_gas(gas * 5 / 4);
            transactions.push(transaction);
            nonce += U256::one();
        }
        let mut hashes = Vec::with_capacity(calls.len());
        for (call, transaction) in calls.iter().zip(&transactions) {
            let signature = self.wallet.sign_transaction(transaction).await?;
            let raw = transaction.rlp_signed(&signature);
            let sent = self.node.send_raw_transaction(raw).await;
            let sent = sent.with_context(|| format!("the node refused to {}", call.what))?;
            hashes.push(sent.tx_hash());
        }
        Ok(hashes)
    }

    /// The fee a gas at most, and the tip within it: room for the base fee to double.
    async fn fees(&self) -> Result<(U256, U256)> {
        let block = self.node.get_block(BlockNumber::Latest).await?.context("no latest block")?;
        let base = block.base_fee_per_gas.context("the chain has no base fee (EIP-1559)")?;
        // A node without this method has no use for a tip.
        let tip: U256 = self.node.request("eth_maxPriorityFeePerGas", ()).await.unwrap_or_default();
        Ok((base * 2 + tip, tip))
    }

    async fn mined(&self, call: &Call, hash: H256) -> Result<TransactionReceipt> {
        let what = format!("the receipt of {hash:?} ({})", call.what);
        let look = || async { Ok(self.node.get_transaction_receipt(hash).await?) };
        let receipt = wait_for(&self.node, &what, MINED_WITHIN, look).await?;
        if receipt.status != Some(1.into()) {
            bail!("{hash:?} ({}) was mined but reverted", call.what);
        }
        Ok(receipt)
    }
}
