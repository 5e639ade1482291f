//! Blocks that are made anew, with some of their transactions or without.

use ethers::contract::EthEvent as _;
use ethers::providers::Middleware as _;
use ethers::types::{Bytes, Filter, H256};
use nova_devnet::Fault;
use nova_devnet::contracts::consumption::ConsumerRequestMadeFilter;
use nova_devnet::request::Request;
use serde_json::json;

use crate::common::net::Net;
use crate::common::project::Project;

/// So many blocks may be made anew without those of the deployment, or of what came before a test.
const ROOM: u64 = 30;

/// A request whose block can be made anew with the same time, so that it comes back under the same id.
pub struct Asked {
    pub request: Request,
    /// Its transaction, as it was signed.
    pub raw: Bytes,
}

impl Asked {
    /// Asks about a wallet that nobody has asked about. Plumber does not serve it until `serve`.
    pub async fn unserved(net: &Net) -> Self {
        net.anvil("anvil_mine", json!([ROOM])).await;
        let wallet = net.fresh_wallets(1).await.unwrap()[0];
        net.devnet.services.set_fault(wallet, Some(Fault::Error));
        net.stop_clock().await;
        let request = net.ask_about(&[wallet]).await.remove(0);
        net.start_clock().await;
        assert_eq!(net.time_of(request.block - 1).await, request.time);
        let raw = net.raw(net.transaction_of(&request).await).await;
        Self { request, raw }
    }
}

/// Plumber knows the wallet that a request is about.
pub fn serve(net: &Net, request: &Request) {
    net.devnet.services.set_fault(request.input.parse().unwrap(), None);
}

impl Net {
    pub async fn height(&self) -> u64 {
        self.node.get_block_number().await.unwrap().as_u64()
    }

    pub async fn time_of(&self, block: u64) -> u64 {
        self.node.get_block(block).await.unwrap().expect("the block is there").timestamp.as_u64()
    }

    /// A transaction as it was signed.
    pub async fn raw(&self, hash: H256) -> Bytes {
        self.transaction(hash).await.rlp()
    }

    /// The transaction that made a request.
    pub async fn transaction_of(&self, request: &Request) -> H256 {
        let at = self.deployment.consumption;
        let filter = Filter::new().address(at).topic0(ConsumerRequestMadeFilter::signature());
        let logs = self.logs(&filter, request.block).await.unwrap();
        let made = logs.iter().find(|log| log.data.ends_with(request.id.as_bytes()));
        made.and_then(|log| log.transaction_hash).expect("the request is on chain")
    }

    /// From now on every block has the time of the one before.
    async fn stop_clock(&self) {
        self.anvil("anvil_setBlockTimestampInterval", [0]).await;
    }

    async fn start_clock(&self) {
        self.anvil("anvil_removeBlockTimestampInterval", [(); 0]).await;
    }

    /// Makes the blocks from `first` to the head anew, with the time of the block before: each `(block, transaction)` is
    /// in again.
    pub async fn remake(&self, first: u64, with: &[(u64, &Bytes)]) {
        self.stop_clock().await;
        let depth = self.height().await + 1 - first;
        let with: Vec<_> = with.iter().map(|(block, raw)| json!([raw, block - first])).collect();
        self.anvil("anvil_reorg", json!([depth, with])).await;
        self.start_clock().await;
    }

    /// Adds empty blocks until the head is this high.
    pub async fn mine_to(&self, height: u64) {
        let missing = height.saturating_sub(self.height().await);
        self.anvil("anvil_mine", json!([missing, 0])).await;
    }
}

/// Waits until a request's row is in a state because of a reorg.
pub async fn orphaned(project: &Project, request: &Request) {
    let row = project.request_in(request.id, "orphaned").await;
    let reason = row.reason.unwrap();
    assert!(reason.contains("was reorganised away"), "{reason}");
}
