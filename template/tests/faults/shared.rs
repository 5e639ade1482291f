//! Two processes on one ledger, of which one stands still for longer than its claims last.

use std::path::Path;

use crate::common::clock::Clock;
use crate::common::daemon::signal;
use crate::common::{DEFAULT_TIMEOUT, wait_until};
use crate::scenario::Scenario;

/// Longer than a claim lasts that nobody renews, in seconds.
const OVER_ITS_LEASE: i64 = 400;

/// It stands still when it has a witness and not yet saved it. The other process answers with features of a later time.
/// When the first one goes on, its own witness replaces nothing: what was answered is proven.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_wakes_after_its_claim_spoils_no_witness() {
    let mut scenario = Scenario::new().await;
    let held = scenario.project.path().join("held");
    let hold = format!("witness.saved.before=1*return({})", held.display());
    let first = scenario.run().env("FAILPOINTS", hold).start().ready().await;
    let wallets = scenario.net.fresh_wallets(2).await.unwrap();
    let request = scenario.ask_about(wallets[0]).await;
    there(&held).await;
    signal("STOP", first.pid()).await;
    let own = scenario.project.witnesses(request.id).remove(0);

    scenario.net.devnet.services.set_features_like(wallets[0], wallets[1]);
    let clock = Clock::new(scenario.project.path());
    clock.set(OVER_ITS_LEASE);
    let _second = clock.rules(scenario.run()).start();
    scenario.request_row(&request, |row| matches!(row.state.as_str(), "inferred" | "answering")).await;
    std::fs::remove_file(&held).unwrap();
    signal("CONT", first.pid()).await;
    // With its manifest the witness of the first is saved too.
    there(&own.join("manifest.json")).await;
    assert_eq!(scenario.project.witnesses(request.id).len(), 2, "one of each process");
    scenario.answered(std::slice::from_ref(&request)).await;
    let challenge = scenario.challenge(&[request.id]).await;
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    let tally = scenario.check().await;
    assert_eq!((tally.answered, tally.requests), (1, 1));
}

/// Waits until a file is there.
async fn there(file: &Path) {
    wait_until(
        file.display(),
        DEFAULT_TIMEOUT,
        async || if file.exists() { Ok(()) } else { Err("not yet".to_owned()) },
    )
    .await;
}
