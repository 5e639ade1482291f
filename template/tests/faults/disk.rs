//! Disks in trouble: full, read-only; and a ledger that another process holds.

use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _};

use crate::common::daemon::Daemon;
use crate::common::disk::Disk;
use crate::common::{DEFAULT_TIMEOUT, wait_until};
use crate::scenario::Scenario;

/// MiB for the daemon's copy of the model files, its ledger, and some witnesses.
const DISK: usize = 160;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_disk_is_full_nothing_is_answered_and_nothing_is_lost() {
    let mut scenario = Scenario::new().await;
    let disk = Disk::mount(&scenario.project.artifacts(), DISK);
    let daemon = scenario.run().start().ready().await;
    let first = scenario.ask(1).await;
    scenario.answered(&first).await;
    for _ in 0..2 {
        disk.fill();
        let before = scenario.net.sent().await;
        let requests = scenario.ask(2).await;
        let challenge = scenario.challenge(&[first[0].id]).await;
        unready(&daemon).await;
        assert!(daemon.is_alive().await);
        assert_eq!(scenario.net.sent().await, before, "what cannot be saved is not answered");
        disk.free();
        scenario.answered(&requests).await;
        scenario.challenge_row(&challenge, |row| row.state == "final").await;
    }
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    daemon.ready().await.stop().await;
    drop(disk);
}

/// Only the witnesses' disk: the ledger can still say what is wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_witnesses_cannot_be_saved_nothing_is_answered_and_the_rows_say_why() {
    let mut scenario = Scenario::new().await;
    let disk = Disk::mount(&scenario.project.artifacts().join("witnesses"), 16);
    let daemon = scenario.run().start().ready().await;
    let first = scenario.ask(1).await;
    scenario.answered(&first).await;
    for read_only in [true, false] {
        if read_only {
            disk.read_only(true);
        } else {
            disk.fill();
        }
        let request = scenario.ask(1).await.remove(0);
        let row = scenario.request_row(&request, |row| row.reason.is_some()).await;
        assert_eq!(row.state, "seen", "it is tried again: {row:?}");
        if read_only {
            disk.read_only(false);
        } else {
            disk.free();
        }
        scenario.answered(&scenario.requests).await;
    }
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    daemon.ready().await.stop().await;
    drop(disk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_read_only_disk_the_daemon_does_not_start_and_says_so() {
    let mut scenario = Scenario::new().await;
    let artifacts = scenario.project.artifacts();
    let disk = Disk::mount(&artifacts, DISK);
    let daemon = scenario.run().start().ready().await;
    scenario.ask(1).await;
    scenario.answered(&scenario.requests).await;
    daemon.stop().await;
    disk.read_only(true);
    scenario.run().fail(&["artifacts"]).await;
    scenario.ask(1).await;
    disk.read_only(false);
    let daemon = scenario.run().start().ready().await;
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    daemon.stop().await;
    drop(disk);
}

/// A backup program, or a person at a prompt, holds the ledger for longer than the daemon waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_another_process_holds_the_ledger_the_daemon_waits() {
    let mut scenario = Scenario::new().await;
    let daemon = scenario.run().start().ready().await;
    let first = scenario.ask(1).await;
    scenario.answered(&first).await;
    for begin in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
        let file = scenario.project.artifacts().join("ledger.sqlite");
        let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(60));
        let mut other = SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(begin.to_owned())).execute(&mut other).await.unwrap();
        scenario.ask(2).await;
        unready(&daemon).await;
        assert!(daemon.is_alive().await);
        sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
        other.close().await.unwrap();
        scenario.answered(&scenario.requests).await;
    }
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    daemon.ready().await.stop().await;
}

/// Waits until `/readyz` says that the ledger is the trouble, whichever part has met it.
async fn unready(daemon: &Daemon) {
    wait_until("an unready daemon", DEFAULT_TIMEOUT, async || match daemon.readyz().await {
        Some((503, body)) if body["parts"].to_string().contains("the ledger does not answer") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
