//! The machine's clock is put forward and back by an hour, as NTP does after a long sleep. Deadlines are on the chain's clock;
//! waits and claims must not last an hour longer than they should.

use nova_devnet::Fault;

use crate::common::clock::Clock;
use crate::scenario::Scenario;

const HOUR: i64 = 3600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_steps_by_an_hour_holds_up_nothing() {
    let mut scenario = Scenario::of_the_example().await;
    let clock = Clock::new(scenario.project.path());
    let daemon = clock.rules(scenario.run()).start().ready().await;
    let first = scenario.ask(1).await;
    scenario.answered(&first).await;
    for seconds in [HOUR, 0, -HOUR, 0] {
        // What waits for its next try when the clock steps: features that fail, and a transaction that cannot be paid for.
        let wallet = scenario.net.fresh_wallets(1).await.unwrap()[0];
        scenario.net.devnet.services.set_fault(wallet, Some(Fault::Error));
        let waiting = scenario.ask_about(wallet).await;
        scenario.request_row(&waiting, |row| row.reason.is_some()).await;
        scenario.net.fund(0.into()).await;
        let unpaid = scenario.ask(1).await.remove(0);
        scenario.transaction_row(&unpaid, |row| row.reason.is_some()).await;
        clock.set(seconds);
        scenario.net.devnet.services.set_fault(wallet, None);
        scenario.net.fund(ethers::types::U256::exp10(19)).await;
        let later = scenario.ask(1).await.remove(0);
        scenario.answered(&[waiting, unpaid, later]).await;
        println!("the clock is {seconds:+} s off");
    }
    let challenge = scenario.challenge(&[first[0].id]).await;
    daemon.wait_proving().await;
    clock.set(-HOUR);
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    daemon.stop().await;
}

/// The clock steps while the daemon is down: the claims that it left are of another hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_stepped_while_the_daemon_was_down_holds_up_nothing() {
    let mut scenario = Scenario::new().await;
    let clock = Clock::new(scenario.project.path());
    for seconds in [HOUR, -HOUR] {
        let daemon = clock.rules(scenario.run()).env("FAILPOINTS", "witness.saved.before=return").start();
        scenario.ask(2).await;
        daemon.wait_killed().await;
        clock.set(seconds);
        let daemon = clock.rules(scenario.run()).start();
        scenario.answered(&scenario.requests).await;
        daemon.kill().await;
    }
    let daemon = clock.rules(scenario.run()).start().ready().await;
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    daemon.stop().await;
}
