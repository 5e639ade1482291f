//! `claimReward`: by a person, and by the daemon each day.

use ethers::contract::EthEvent as _;
use ethers::types::{Filter, H256};
use nova_devnet::contracts::consumption::RewardClaimedFilter;

use crate::common::net::Net;
use crate::common::project::Project;
use crate::common::{DEFAULT_TIMEOUT, wait_until};

/// Seconds of an epoch.
pub const EPOCH: u64 = 7 * 24 * 3600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rewards_are_claimed_once_by_command_and_by_the_daemon() {
    let (project, net) = (Project::new(), Net::start().await);
    let run = project.nova(&["run"]).envs(net.env());
    let claim = |arguments: &[&str]| project.nova(&[&["claim-rewards"][..], arguments].concat()).envs(net.env());
    let daemon = run.clone().start().ready().await;
    net.answered_once(&net.ask(1).await).await;
    claim(&["--epoch", "0"]).fail(&["epoch 0 cannot be claimed", "EpochNotOver"]).await;
    net.pass(EPOCH + 1000).await;

    // A daemon runs: it sends what the command queues.
    let said = claim(&[]).succeed().await;
    assert!(said.contains("the daemon that runs sends it"), "{said}");
    claimed(&net, 1).await;
    assert!(claim(&[]).succeed().await.contains("no reward to claim"));
    net.answered_once(&net.ask(1).await).await;
    daemon.stop().await;
    net.pass(EPOCH).await;

    // None does: the command sends it itself.
    let said = claim(&["--epoch", "1"]).succeed().await;
    assert!(said.contains("epoch 1: claimed in 0x"), "{said}");
    claimed(&net, 2).await;
    claim(&["--epoch", "1"]).fail(&["epoch 1 cannot be claimed", "NothingToClaim"]).await;

    let run = run.env("NOVA_CLAIM_REWARDS", "True");
    let daemon = run.clone().start().ready().await;
    net.answered_once(&net.ask(1).await).await;
    daemon.stop().await;
    net.pass(EPOCH).await;
    let _daemon = run.start().ready().await;
    claimed(&net, 3).await;
    assert_eq!(net.sent().await, 6, "three answers and three claims");
}

/// Waits until so many rewards are claimed.
pub async fn claimed(net: &Net, count: usize) {
    let filter = Filter::new()
        .address(net.deployment.consumption)
        .topic0(RewardClaimedFilter::signature())
        .topic1(H256::from(net.deployment.modeler));
    wait_until(format!("{count} claims"), DEFAULT_TIMEOUT, async || {
        let found = net.logs(&filter, 0).await.unwrap().len();
        if found == count { Ok(()) } else { Err(format!("{found}")) }
    })
    .await;
}
