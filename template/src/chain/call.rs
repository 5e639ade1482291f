//! What it means that a contract does not answer a call: it is not there, or the machine that was asked does not know of it yet.

use std::time::Duration;

use anyhow::anyhow;
use ethers::abi::Detokenize;
use ethers::contract::{ContractCall, ContractError};
use ethers::providers::Provider;
use ethers::types::Address;
use serde_json::Value;

use super::rpc::Transport;
use super::{Client, newest_block, to_hex};
use crate::fault::{Fault, Result};
use crate::ledger::now;

/// How often a contract that does not answer is asked, and how long after one another: behind one address there may be machines that are
/// not in step.
const TRIES: u32 = 4;
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// A machine whose newest block is older than this may lack blocks that the chain has.
const MAX_HEAD_AGE_SECS: u64 = 600;

pub(super) type CallError = ContractError<Provider<Transport>>;

/// True if the chain answered and said no, so that asking again changes nothing.
pub(super) fn is_contract_error(error: &CallError) -> bool {
    error.is_revert()
        || matches!(error, CallError::DecodingError(_) | CallError::DetokenizationError(_) | CallError::AbiError(_))
}

/// What the contract at `at` answers, which `variable` names.
///
/// # Errors
/// `Fatal` if it does not answer `method`, `Transient` if that may be the node's fault.
pub(super) async fn ask<T: Detokenize>(
    client: &Client,
    call: ContractCall<Provider<Transport>, T>,
    (method, variable, at): (&str, &str, Address),
) -> Result<T> {
    let no_answer = || format!("the contract at {} ({variable}) does not answer {method}", to_hex(at));
    match ask_if_known(client, call, method).await.map_err(|fault| fault.context(no_answer()))? {
        Some(answer) => Ok(answer),
        None => Err(Fault::Fatal(anyhow!("{}: is it the right one?", no_answer()))),
    }
}

/// The same of a method that not every contract has; `None` for one without.
///
/// # Errors
/// `Transient` if the node cannot be asked, or does not know the chain's newest blocks.
pub(super) async fn ask_if_known<T: Detokenize>(
    client: &Client,
    call: ContractCall<Provider<Transport>, T>,
    method: &str,
) -> Result<Option<T>> {
    let mut tries = 0;
    loop {
        match call.call().await {
            Ok(answer) => return Ok(Some(answer)),
            Err(error) if !is_contract_error(&error) => return Err(call_fault(error, method)),
            Err(_) => {}
        }
        knows_newest_blocks(client).await?;
        tries += 1;
        if tries == TRIES {
            return Ok(None);
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// A call that worked when we connected and does not now: a node that is not in sync, most likely.
pub(super) fn call_fault(error: CallError, method: &str) -> Fault {
    Fault::Transient(anyhow!("{error}").context(format!("cannot call {method}")))
}

/// # Errors
/// `Transient` if the node says, or its newest block shows, that it is not in sync.
pub(super) async fn knows_newest_blocks(client: &Client) -> Result<()> {
    // Not ethers' own type: Nitro answers with other fields than geth. Who does not serve the method tells by its newest block.
    if let Ok(Value::Object(_)) = client.request::<_, Value>("eth_syncing", ()).await {
        return Err(Fault::Transient(anyhow!("the RPC endpoint is not in sync yet")));
    }
    let newest = newest_block(client).await?;
    let age = (now() as u64).saturating_sub(newest.time);
    if age > MAX_HEAD_AGE_SECS {
        return Err(Fault::Transient(anyhow!(
            "the newest block that the RPC endpoint has, {}, is {age} s old: it is not in sync, or the address is not the right one",
            newest.number
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;
    use serde_json::json;

    use super::*;
    use crate::services::test_server::{Reply, Server};

    /// What is said of a node whose newest block is so old.
    async fn of_age(secs: i64) -> Result<()> {
        let zeros = |digits: usize| format!("0x{}", "0".repeat(digits));
        let block = json!({
            "number": "0x7", "timestamp": format!("{:#x}", now() - secs), "hash": zeros(64), "parentHash": zeros(64),
            "sha3Uncles": zeros(64), "miner": zeros(40), "stateRoot": zeros(64), "transactionsRoot": zeros(64),
            "receiptsRoot": zeros(64), "gasUsed": "0x0", "gasLimit": "0x0", "extraData": "0x", "logsBloom": zeros(512),
            "difficulty": "0x0", "size": "0x0", "transactions": [], "uncles": []
        });
        let replies =
            [json!(false), block].map(|result| json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string());
        let node = Server::answering(replies.map(Reply::ok).into()).await;
        let transport = Transport::new(&[SecretString::from(node.url())]).unwrap();
        knows_newest_blocks(&Client::new(Provider::new(transport))).await
    }

    #[tokio::test]
    async fn a_node_whose_newest_block_is_old_may_lack_what_the_chain_has() {
        assert!(of_age(60).await.is_ok());
        let fault = of_age(3600).await.unwrap_err();
        assert!(
            matches!(&fault, Fault::Transient(_))
                && fault.to_string().contains("the newest block that the RPC endpoint has, 7")
        );
    }
}
