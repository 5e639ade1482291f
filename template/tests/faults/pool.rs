//! What the scenarios of the sender share: answers that wait in the node's pool, and what was signed for them.

use ethers::types::{Bytes, U256};
use nova::ledger::{Attempt, Ledger, Tx};
use nova_devnet::Fault;
use nova_devnet::request::Request;
use serde_json::json;

use crate::common::net::Net;
use crate::common::project::Project;
use crate::common::{DEFAULT_TIMEOUT, wait_until};

/// Seconds that the daemons of these tests wait before they replace a transaction.
pub const PATIENCE: &str = "2";

/// Has requests answered while no block is made: the answers are in the pool when this returns.
pub async fn pooled(project: &Project, net: &Net, count: u64) -> Vec<Request> {
    let requests = asked_with_blocks_stopped(net, count).await;
    project.transactions_in("broadcast", count as i64).await;
    requests
}

/// Requests that are on chain, after which no block is made.
pub async fn asked_with_blocks_stopped(net: &Net, count: u64) -> Vec<Request> {
    let wallets = net.fresh_wallets(count).await.unwrap();
    for wallet in &wallets {
        net.devnet.services.set_fault(*wallet, Some(Fault::Error));
    }
    let requests = net.ask_about(&wallets).await;
    net.stop_mining().await;
    for wallet in &wallets {
        net.devnet.services.set_fault(*wallet, None);
    }
    requests
}

/// The transaction that answers a request, as the ledger has it.
pub async fn answer_row(project: &Project, net: &Net, request: &Request) -> Tx {
    let ledger = Ledger::open(&project.artifacts()).await.unwrap();
    ledger.tx(&answer_key(net, request)).await.unwrap().expect("the answer is queued")
}

/// All that was signed to answer a request, oldest first.
pub async fn attempts(project: &Project, net: &Net, request: &Request) -> Vec<Attempt> {
    let ledger = Ledger::open(&project.artifacts()).await.unwrap();
    let mut attempts = ledger.attempts(&answer_key(net, request)).await.unwrap();
    attempts.reverse();
    attempts
}

/// Waits until so much was signed to answer a request.
pub async fn signed(project: &Project, net: &Net, request: &Request, count: usize) -> Vec<Attempt> {
    wait_until(format!("{count} attempts"), DEFAULT_TIMEOUT, async || {
        let attempts = attempts(project, net, request).await;
        if attempts.len() >= count { Ok(attempts) } else { Err(format!("{} attempts", attempts.len())) }
    })
    .await
}

fn answer_key(net: &Net, request: &Request) -> String {
    format!("answer:{:#x}:{:#x}", net.deployment.consumption, request.id)
}

pub fn max_fee(attempt: &Attempt) -> U256 {
    U256::from_dec_str(&attempt.max_fee_wei).unwrap()
}

/// The least that replaces an offer.
pub fn bumped(old: U256) -> U256 {
    (old * 9 + 7) / 8
}

pub fn gwei(amount: u64) -> U256 {
    U256::exp10(9) * amount
}

impl Net {
    /// Makes one block whose base fee is this.
    pub async fn mine_at(&self, base_fee: U256) {
        self.anvil("anvil_setNextBlockBaseFeePerGas", json!([base_fee])).await;
        self.anvil("evm_mine", [(); 0]).await;
    }

    /// Drops a transaction, once it has come: what was signed is not yet sent.
    pub async fn drop_from_pool(&self, hash: &str) {
        wait_until(format!("{hash} in the pool"), DEFAULT_TIMEOUT, async || {
            let dropped = self.anvil("anvil_dropTransaction", [hash]).await;
            if dropped.is_null() { Err(dropped.to_string()) } else { Ok(()) }
        })
        .await;
    }

    pub async fn code(&self, of: ethers::types::Address) -> Bytes {
        use ethers::providers::Middleware as _;
        self.node.get_code(of, None).await.unwrap()
    }

    pub async fn set_code(&self, of: ethers::types::Address, code: &Bytes) {
        self.anvil("anvil_setCode", json!([of, code])).await;
    }
}
