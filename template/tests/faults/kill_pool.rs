//! SIGKILL before and after every step that is written down: where a transaction waits in the pool, and is replaced,
//! cancelled, or in vain.

use std::time::Duration;

use ethers::providers::Middleware as _;
use ethers::types::{Address, BlockNumber};
use nova::failpoint::Step;
use nova_devnet::Fault;
use nova_devnet::request::Request;
use nova_devnet::sender::Call;
use serde_json::json;

use crate::common::daemon::Daemon;
use crate::common::proxy::{Act, Proxy};
use crate::common::{DEFAULT_TIMEOUT, wait_until};
use crate::kill::{WHEN, start_killed_at};
use crate::pool::{PATIENCE, asked_with_blocks_stopped, attempts, max_fee, signed};
use crate::rewards::EPOCH;
use crate::scenario::{SLA, Scenario};

pub const POOL: &[Step] = &[Step::TxReplaced, Step::TxCancelling, Step::TxVoid, Step::FillQueued, Step::ClaimQueued];

impl Scenario {
    /// A request whose answer is in the pool, and no block is made.
    async fn pooled(&mut self) -> Request {
        let request = asked_with_blocks_stopped(&self.net, 1).await.remove(0);
        self.requests.push(request.clone());
        self.a_transaction_is("broadcast").await;
        request
    }

    pub async fn recovers(&self) {
        let daemon = self.run().env("NOVA_REPLACE_AFTER", PATIENCE).start();
        self.settled().await;
        daemon.kill().await;
    }
}

/// Does something again and again until the daemon has died of it.
async fn dies_of(mut daemon: Daemon, mut deed: impl AsyncFnMut()) {
    wait_until("its death", DEFAULT_TIMEOUT, async || {
        deed().await;
        if daemon.has_ended() { Ok(()) } else { Err("it lives".to_owned()) }
    })
    .await;
    daemon.wait_killed().await;
}

/// The base fee outruns what was offered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replacement_survives_a_kill() {
    let mut scenario = Scenario::new().await;
    for when in WHEN {
        let daemon = start_killed_at(scenario.run().env("NOVA_REPLACE_AFTER", PATIENCE), Step::TxReplaced, when);
        let request = scenario.pooled().await;
        let base_fee = max_fee(&attempts(&scenario.project, &scenario.net, &request).await[0]) * 10;
        dies_of(daemon, async || scenario.net.mine_at(base_fee).await).await;
        scenario.net.go_on_mining().await;
        scenario.recovers().await;
    }
    scenario.finish_and_check().await;
}

/// The deadline passes while no node takes the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_survives_a_kill() {
    const FULL: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"txpool is full"}}"#;
    let mut scenario = Scenario::new().await;
    let proxy = Proxy::start(scenario.net.devnet.rpc_url()).await;
    for when in WHEN {
        proxy.rule(|_, _| Act::Pass);
        let run = scenario.run().env("NOVA_RPC_URLS", proxy.url()).env("NOVA_REPLACE_AFTER", PATIENCE);
        let daemon = start_killed_at(run, Step::TxCancelling, when);
        let request = scenario.pooled().await;
        proxy.rule(|method, _| if method == "eth_sendRawTransaction" { Act::Say(200, FULL) } else { Act::Pass });
        scenario.net.drop_from_pool(&attempts(&scenario.project, &scenario.net, &request).await[0].hash).await;
        scenario.net.pass(SLA + 100).await;
        daemon.wait_killed().await;
        scenario.net.go_on_mining().await;
        scenario.recovers().await;
    }
    let daemon = scenario.run().start().ready().await;
    let tally = scenario.check().await;
    assert_eq!((tally.answered, tally.explained), (0, 2));
    daemon.stop().await;
}

/// A contract that refuses everything stands where the Consumption contract was when the answer is mined.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_reverted_survives_a_kill() {
    let mut scenario = Scenario::new().await;
    let consumption = scenario.net.deployment.consumption;
    let (code, refusing) = (scenario.net.code(consumption).await, "0x60006000fd".parse().unwrap());
    for when in WHEN {
        let daemon = start_killed_at(scenario.run(), Step::TxVoid, when);
        scenario.pooled().await;
        scenario.net.set_code(consumption, &refusing).await;
        scenario.net.anvil("evm_mine", [(); 0]).await;
        scenario.net.set_code(consumption, &code).await;
        scenario.reverted += 1;
        daemon.wait_killed().await;
        scenario.net.go_on_mining().await;
        scenario.recovers().await;
    }
    scenario.finish_and_check().await;
}

/// Somebody's payment took a nonce below ours, and a reorg took the payment back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_in_the_nonces_that_is_filled_survives_a_kill() {
    let mut scenario = Scenario::new().await;
    for when in WHEN {
        let wallet = scenario.net.fresh_wallets(1).await.unwrap()[0];
        scenario.net.devnet.services.set_fault(wallet, Some(Fault::Error));
        let request = scenario.ask_about(wallet).await;
        scenario.net.stop_mining().await;
        let nonce = scenario.net.sent().await;
        let paid = tokio::spawn({
            let sender = scenario.net.devnet.daemon_sender();
            async move { sender.send(Call::pay(Address::repeat_byte(7), 1.into())).await.unwrap() }
        });
        wait_until("the payment in the pool", DEFAULT_TIMEOUT, async || {
            let pending = Some(BlockNumber::Pending.into());
            let count = scenario.net.node.get_transaction_count(scenario.net.deployment.signer, pending).await.unwrap();
            if count.as_u64() == nonce + 1 { Ok(()) } else { Err(format!("{count}")) }
        })
        .await;
        scenario.net.devnet.services.set_fault(wallet, None);
        let daemon = start_killed_at(scenario.run().env("NOVA_REPLACE_AFTER", PATIENCE), Step::FillQueued, when);
        let ours = signed(&scenario.project, &scenario.net, &request, 1).await;
        assert_eq!(ours[0].nonce as u64, nonce + 1, "the payment has the lower one");
        scenario.a_transaction_is("broadcast").await;
        scenario.net.drop_from_pool(&ours[0].hash).await;
        scenario.net.anvil("evm_mine", [(); 0]).await;
        paid.await.unwrap();
        let depth = scenario.net.head().await - request.block;
        scenario.net.anvil("anvil_reorg", json!([depth, []])).await;
        assert_eq!(scenario.net.sent().await, nonce, "the payment is forgotten");
        scenario.net.go_on_mining().await;
        daemon.wait_killed().await;
        scenario.recovers().await;
    }
    let daemon = scenario.run().start().ready().await;
    let tally = scenario.check().await;
    assert_eq!((tally.answered, tally.transactions), (2, 4), "what fills the gaps, and the answers");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_of_a_reward_survives_a_kill() {
    let mut scenario = Scenario::new().await;
    let run = scenario.run().env("NOVA_CLAIM_REWARDS", "True");
    for when in WHEN {
        let daemon = run.clone().start();
        let request = scenario.ask(1).await;
        scenario.answered(&request).await;
        daemon.kill().await;
        // An epoch can be claimed when its last request can no longer be answered.
        scenario.net.pass(EPOCH + SLA).await;
        start_killed_at(run.clone(), Step::ClaimQueued, when).wait_killed().await;
    }
    let daemon = run.start().ready().await;
    wait_until("both claims", Duration::from_secs(240), async || {
        let rows = scenario.project.rows().await.ok_or("there is no ledger")?;
        let claimed = rows.transactions.iter().filter(|row| row.purpose == "claim" && row.state == "final").count();
        if claimed == 2 { Ok(()) } else { Err(format!("{:?}", rows.transactions)) }
    })
    .await;
    let tally = scenario.check().await;
    assert_eq!((tally.answered, tally.transactions), (2, 4));
    daemon.stop().await;
}
