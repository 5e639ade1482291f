//! Signing and sending with one key.

use std::{sync::PoisonError, time::Duration};

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
    utils::keccak256,
};
use tokio::sync::Mutex;

use crate::{
    contracts, rpc,
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

/// A transaction that was mined, and what it cost.
#[derive(Clone, Debug)]
pub struct Spent {
    /// What it did, in words.
    pub what: String,
    pub gas: U256,
    pub wei: U256,
}

/// One key, one nonce after the other.
#[derive(Debug)]
pub struct Sender {
    node: Node,
    wallet: LocalWallet,
    /// The nonce after the last one that was used here. Who holds it has the turn.
    next: Mutex<Option<U256>>,
    spent: std::sync::Mutex<Vec<Spent>>,
}

/// How often a public node is asked for a nonce that is not known: each of its machines should have had its say.
const COUNTS: usize = 4;

impl Sender {
    pub fn new(node: Node, wallet: LocalWallet) -> Self {
        Self { node, wallet, next: Mutex::default(), spent: std::sync::Mutex::default() }
    }

    /// All that this sender has paid for.
    pub fn spent(&self) -> Vec<Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn address(&self) -> Address {
        self.wallet.address()
    }

    /// The nonce of the next transaction.
    pub async fn next_nonce(&self) -> Result<U256> {
        let known = *self.next.lock().await;
        self.nonce_from(known).await
    }

    /// What the node says; or where that may be late, what we know ourselves.
    async fn nonce_from(&self, known: Option<U256>) -> Result<U256> {
        let public = rpc::is_public(&self.node);
        let known = known.filter(|_| public);
        let mut highest = known.unwrap_or_default();
        for _ in 0..if public && known.is_none() { COUNTS } else { 1 } {
            highest = highest.max(self.count().await?);
        }
        Ok(highest)
    }

    async fn count(&self) -> Result<U256> {
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
            let mut next = self.next.lock().await;
            self.broadcast(&calls, &mut next).await?
        };
        let mut receipts = Vec::with_capacity(calls.len());
        for (call, hash) in calls.iter().zip(hashes) {
            receipts.push(self.mined(call, hash).await?);
        }
        Ok(receipts)
    }

    /// Pays somebody all that is left but the price of paying it; nothing where that is more than there is.
    pub async fn send_rest(&self, to: Address) -> Result<Option<U256>> {
        let balance = self.node.get_balance(self.address(), None).await?;
        let (max_fee, _) = self.fees().await?;
        let trial = Eip1559TransactionRequest::new().from(self.address()).to(to).value(U256::one());
        let gas: U256 = match self.node.estimate_gas(&trial.into(), None).await {
            Ok(gas) => gas * U256::from(5) / 4,
            // Not even that can be paid.
            Err(_) if balance.is_zero() => return Ok(None),
            Err(error) => return Err(error).context("cannot estimate a payment"),
        };
        let Some(value) = balance.checked_sub(gas * max_fee).filter(|value| !value.is_zero()) else {
            return Ok(None);
        };
        self.send(Call::pay(to, value)).await?;
        Ok(Some(value))
    }

    /// Estimates all first, so that either all are sent or none.
    async fn broadcast(&self, calls: &[Call], next: &mut Option<U256>) -> Result<Vec<H256>> {
        let (max_fee, tip) = self.fees().await?;
        let mut nonce = self.nonce_from(*next).await?;
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
            hashes.push(H256(keccak256(&raw)));
            match self.node.send_raw_transaction(raw).await {
                Ok(_) => {}
                // It was asked twice, and had taken it the first time.
                Err(error) if is_known_already(&error.to_string()) => {}
                Err(error) => return Err(error).with_context(|| format!("the node refused to {}", call.what)),
            }
            *next = transaction.nonce().map(|nonce| *nonce + U256::one());
        }
        Ok(hashes)
    }

    /// The fee a gas at most, and the tip within it: room for the base fee to double.
    pub(crate) async fn fees(&self) -> Result<(U256, U256)> {
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
        let (gas, wei) = cost(&receipt);
        let spent = Spent { what: call.what.clone(), gas, wei };
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).push(spent);
        Ok(receipt)
    }
}

/// How nodes say that they have a transaction.
fn is_known_already(reason: &str) -> bool {
    ["already known", "already imported"].iter().any(|words| reason.contains(words))
}

/// The gas that a transaction has used, and what that cost in wei.
pub fn cost(receipt: &TransactionReceipt) -> (U256, U256) {
    let gas = receipt.gas_used.unwrap_or_default();
    (gas, gas * receipt.effective_gas_price.unwrap_or_default())
}
