//! A challenge goes on for months: its terms change, and so do its contracts.

use ethers::providers::Middleware as _;
use ethers::types::{Address, H256, U256};
use ethers::utils::keccak256;
use serde_json::json;

use crate::common::toxic::{Toxic, ToxicProxy};
use crate::common::{DEFAULT_TIMEOUT, wait_until};
use crate::scenario::Scenario;

/// Where the devnet's Competition keeps `modelerContract`, `consumptionContract`, and `requestExpirationTime` of its terms.
const MODELER: u64 = 1;
const CONSUMPTION: u64 = 2;
const EXPIRATION: u64 = 5;

/// Where the devnet's MultiSig keeps `isSigner`.
const SIGNERS: u64 = 0;

impl Scenario {
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
    let mut scenario = Scenario::new().await;
    let daemon = scenario.run().env("NOVA_CONTRACTS_POLLING_INTERVAL", "1").start().ready().await;
    let before = scenario.ask(2).await;
    scenario.answered(&before).await;

    let second = scenario.net.deploy_another_consumption().await.unwrap();
    scenario.set_in_competition(CONSUMPTION, word(second)).await;
    daemon.wait_for_log("beginning anew with the contracts").await;
    scenario.net.devnet.network.deployment.consumption = second;
    let daemon = daemon.ready().await;
    let after = scenario.net.ask(2).await;
    scenario.net.answered_once(&after).await;
    let challenge = scenario.challenge(&[before[0].id, after[0].id]).await;
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    daemon.stop().await;

    // The next start finds the same, and nothing of the contract before is lost.
    let daemon = scenario.run().start().ready().await;
    scenario.net.answered_once(&scenario.net.ask(1).await).await;
    wait_until("five answers that are final", DEFAULT_TIMEOUT, async || {
        let rows = scenario.project.rows().await.ok_or("there is no ledger")?;
        let done = rows.requests.iter().filter(|row| row.state == "final").count();
        if done == 5 { Ok(()) } else { Err(format!("{:?}", rows.requests)) }
    })
    .await;
    daemon.stop().await;
}

/// The contract that asked is the one that wants the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_challenge_is_answered_where_it_was_asked() {
    let mut scenario = Scenario::new().await;
    let gateway = ToxicProxy::start(scenario.net.devnet.services.url()).await;
    let run = scenario.run().env("NOVA_IPFS_GATEWAY", gateway.url()).env("NOVA_CONTRACTS_POLLING_INTERVAL", "1");
    let daemon = run.start().ready().await;
    let requests = scenario.ask(2).await;
    scenario.answered(&requests).await;
    gateway.rule(|asked| if asked.path.starts_with("/ipfs/") { Toxic::Reset } else { Toxic::Pass });
    let challenge = scenario.challenge(&[requests[0].id, requests[1].id]).await;
    gateway.has_hit(1).await;

    let first = scenario.net.deployment.modeler_contract;
    let code = scenario.net.node.get_code(first, None).await.unwrap();
    let second = Address::from_low_u64_be(0x5ec0);
    scenario.net.anvil("anvil_setCode", json!([second, code])).await;
    scenario.set_in_competition(MODELER, word(second)).await;
    daemon.wait_for_log("beginning anew with the contracts").await;
    let daemon = daemon.ready().await;
    gateway.heal();
    scenario.net.wait_response(&challenge, DEFAULT_TIMEOUT).await.unwrap();
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallet_that_may_not_sign_any_more_is_told() {
    let mut scenario = Scenario::new().await;
    let daemon = scenario.run().env("NOVA_CONTRACTS_POLLING_INTERVAL", "1").start().ready().await;
    let wallet = word(scenario.net.devnet.daemon_sender().address());
    // Solidity keeps `isSigner[wallet]` there.
    let place = [wallet, U256::from(SIGNERS)].map(<[u8; 32]>::from).concat();
    let place = format!("{:#x}", H256(keccak256(place)));
    let multisig = scenario.net.deployment.modeler;
    let lists = async |flag: u64| {
        let value = format!("{flag:#066x}");
        scenario.net.anvil("anvil_setStorageAt", json!([multisig, place, value])).await;
    };
    lists(0).await;
    daemon.is_unready("contracts", "as a signer any more").await;
    lists(1).await;
    let daemon = daemon.ready().await;
    scenario.ask(1).await;
    scenario.answered(&scenario.requests).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_the_sla_is_that_of_the_contracts_now() {
    let mut scenario = Scenario::new().await;
    let daemon = scenario.run().env("NOVA_CONTRACTS_POLLING_INTERVAL", "1").start().ready().await;
    scenario.set_in_competition(EXPIRATION, 97.into()).await;
    daemon.wait_for_log("give requests another time").await;
    let request = scenario.ask(1).await.remove(0);
    let row = scenario.request_row(&request, |row| row.state == "final").await;
    assert_eq!(row.deadline - row.requested, 97);
    daemon.stop().await;
}
