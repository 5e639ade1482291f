//! A challenge goes on for months: its terms change, and so do its contracts.

use ethers::providers::Middleware as _;
use ethers::types::{Address, H256, U256};
use ethers::utils::keccak256;
use serde_json::json;

use crate::common::toxic::{Toxic, ToxicProxy};
use crate::common::{SOON, wait_until};
use crate::scene::Scene;

/// Where the devnet's Competition keeps `modelerContract`, `consumptionContract`, and `requestExpirationTime` of its terms.
const MODELER: u64 = 1;
const CONSUMPTION: u64 = 2;
const EXPIRATION: u64 = 5;

/// Where the devnet's MultiSig keeps `isSigner`.
const SIGNERS: u64 = 0;

impl Scene {
    /// Writes into the storage of the Competition, which has no such setter.
    async fn set_in_competition(&self, slot: u64, value: U256) {
        let competition = self.net.deployment.competition;
        let value = format!("{value:#066x}");
        self.net.anvil("anvil_setStorageAt", json!([competition, format!("{slot:#x}"), value])).await;
    }
}

fn word(address: Address) -> U256 {
    U256::from_big_endian(address.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_another_consumption_contract_is_followed() {
    let mut scene = Scene::new().await;
    let daemon = scene.run().env("NOVA_CONTRACTS_POLLING_INTERVAL", "1").start().ready().await;
    let before = scene.ask(2).await;
    scene.answered(&before).await;

    let second = scene.net.deploy_another_consumption().await.unwrap();
    scene.set_in_competition(CONSUMPTION, word(second)).await;
    daemon.says("beginning anew with the contracts").await;
    scene.net.devnet.network.deployment.consumption = second;
    let daemon = daemon.ready().await;
    let after = scene.net.ask(2).await;
    scene.net.answered_once(&after).await;
    let challenge = scene.challenge(&[before[0].id, after[0].id]).await;
    scene.challenge_row(&challenge, |row| row.state == "final").await;
    daemon.stop().await;

    // The next start finds the same, and nothing of the contract before is lost.
    let daemon = scene.run().start().ready().await;
    scene.net.answered_once(&scene.net.ask(1).await).await;
    wait_until("five answers that are final", SOON, async || {
        let rows = scene.project.rows().await.ok_or("there is no ledger")?;
        let done = rows.requests.iter().filter(|row| row.state == "final").count();
        if done == 5 { Ok(()) } else { Err(format!("{:?}", rows.requests)) }
    })
    .await;
    daemon.stop().await;
}

/// The contract that asked is the one that wants the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_challenge_is_answered_where_it_was_asked() {
    let mut scene = Scene::new().await;
    let gateway = ToxicProxy::start(scene.net.devnet.services.url()).await;
    let run = scene.run().env("NOVA_IPFS_GATEWAY", gateway.url()).env("NOVA_CONTRACTS_POLLING_INTERVAL", "1");
    let daemon = run.start().ready().await;
    let requests = scene.ask(2).await;
    scene.answered(&requests).await;
    gateway.rule(|asked| if asked.path.starts_with("/ipfs/") { Toxic::Reset } else { Toxic::Pass });
    let challenge = scene.challenge(&[requests[0].id, requests[1].id]).await;
    gateway.has_hit(1).await;

    let first = scene.net.deployment.modeler_contract;
    let code = scene.net.node.get_code(first, None).await.unwrap();
    let second = Address::from_low_u64_be(0x5ec0);
    scene.net.anvil("anvil_setCode", json!([second, code])).await;
    scene.set_in_competition(MODELER, word(second)).await;
    daemon.says("beginning anew with the contracts").await;
    let daemon = daemon.ready().await;
    gateway.heal();
    scene.net.wait_response(&challenge, SOON).await.unwrap();
    scene.challenge_row(&challenge, |row| row.state == "final").await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallet_that_may_not_sign_any_more_is_told() {
    let mut scene = Scene::new().await;
    let daemon = scene.run().env("NOVA_CONTRACTS_POLLING_INTERVAL", "1").start().ready().await;
    let wallet = word(scene.net.devnet.daemon_sender().address());
    // Solidity keeps `isSigner[wallet]` there.
    let place = [wallet, U256::from(SIGNERS)].map(<[u8; 32]>::from).concat();
    let place = format!("{:#x}", H256(keccak256(place)));
    let multisig = scene.net.deployment.modeler;
    let lists = async |flag: u64| {
        let value = format!("{flag:#066x}");
        scene.net.anvil("anvil_setStorageAt", json!([multisig, place, value])).await;
    };
    lists(0).await;
    daemon.is_unready("contracts", "as a signer any more").await;
    lists(1).await;
    let daemon = daemon.ready().await;
    scene.ask(1).await;
    scene.answered(&scene.requests).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_the_sla_is_that_of_the_contracts_now() {
    let mut scene = Scene::new().await;
    let daemon = scene.run().env("NOVA_CONTRACTS_POLLING_INTERVAL", "1").start().ready().await;
    scene.set_in_competition(EXPIRATION, 97.into()).await;
    daemon.says("give requests another time").await;
    let request = scene.ask(1).await.remove(0);
    let row = scene.request_row(&request, |row| row.state == "final").await;
    assert_eq!(row.deadline - row.requested, 97);
    daemon.stop().await;
}
