//! What the canary and the stop-loss learn from the ledger.

use super::tests::{key, ledger, read, seen, targets, terms};
use super::*;

const DAY: i64 = 86_400;
const MODEL: &str = "d1";

/// A ledger with so many answers on their way, of the consumers in turn.
async fn with_answers(count: u8, consumers: &[&str]) -> (tempfile::TempDir, Ledger) {
    let (folder, ledger) = ledger().await;
    let made = (1..=count).map(|n| {
        let consumer = consumers[usize::from(n) % consumers.len()].to_owned();
        NewRequest { reading: Reading::Terms(RequestTerms { consumer, ..terms(1000) }), ..seen(n, 1000) }
    });
    ledger.insert_requests(&read(7), &made.collect::<Vec<_>>(), 0).await.unwrap();
    ledger.claim_requests(usize::from(count)).await.unwrap();
    for n in 1..=count {
        ledger.mark_inferred(&key(n), &tests::inferred(false)).await.unwrap();
    }
    ledger.queue_answers(&targets()).await.unwrap();
    (folder, ledger)
}

async fn refuse(ledger: &Ledger, n: u8) {
    ledger.proof_refused(&key(n), MODEL, "it does not verify").await.unwrap();
}

/// Distinct requests and consumers whose proofs were refused.
async fn refused(ledger: &Ledger) -> (i64, i64) {
    let refusals = ledger.refusals(MODEL, 7 * DAY).await.unwrap();
    (refusals.requests, refusals.consumers)
}

/// Puts the times of all attempts back.
async fn age(ledger: &Ledger, seconds: i64) {
    sqlx::query("UPDATE proof_attempt SET begun_at = begun_at - ?1, ended_at = ended_at - ?1")
        .bind(seconds)
        .execute(&ledger.pool)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_canary_is_due_once_an_interval_across_restarts() {
    let (folder, ledger) = with_answers(3, &["0xa"]).await;
    let begun = ledger.begin_canary(MODEL, DAY).await.unwrap().unwrap();
    // Its process dies of it, and another starts.
    drop(ledger);
    let ledger = Ledger::open(folder.path()).await.unwrap();
    assert!(ledger.begin_canary(MODEL, DAY).await.unwrap().is_none(), "one was tried a moment ago");
    age(&ledger, DAY + 1).await;
    assert!(ledger.begin_canary(MODEL, DAY).await.unwrap().is_some(), "it is another day");
    age(&ledger, -2 * DAY).await;
    assert!(ledger.begin_canary(MODEL, DAY).await.unwrap().is_some(), "the clock was put back");
    assert_eq!(begun.contract, key(1).contract);
}

#[tokio::test]
async fn a_canary_that_makes_way_is_due_again() {
    let (_folder, ledger) = with_answers(1, &["0xa"]).await;
    let begun = ledger.begin_canary(MODEL, DAY).await.unwrap().unwrap();
    ledger.forget_canary(&begun).await.unwrap();
    assert!(ledger.begin_canary(MODEL, DAY).await.unwrap().is_some());
}

#[tokio::test]
async fn a_canary_takes_unproven_answers_of_its_model_alone() {
    let (_folder, ledger) = with_answers(2, &["0xa"]).await;
    ledger.proof_made(&key(1), MODEL, "vk", 1.0).await.unwrap();
    assert!(ledger.begin_canary("d2", DAY).await.unwrap().is_none());
    let begun = ledger.begin_canary(MODEL, DAY).await.unwrap().unwrap();
    assert_eq!(begun.request, key(2).id);
    ledger.canary_verified(&begun, "vk", 1.0).await.unwrap();
    age(&ledger, DAY + 1).await;
    assert!(ledger.begin_canary(MODEL, DAY).await.unwrap().is_none(), "both are proven");
    assert!(ledger.is_proven(&key(2).id).await.unwrap());
}

#[tokio::test]
async fn a_canary_takes_nothing_from_the_proofs_of_a_day() {
    let (_folder, ledger) = with_answers(2, &["0xa"]).await;
    let begun = ledger.begin_canary(MODEL, DAY).await.unwrap().unwrap();
    ledger.canary_verified(&begun, "vk", 1.0).await.unwrap();
    assert_eq!(ledger.proofs_since(now() - DAY).await.unwrap(), 0);
    let other = if begun.request == key(1).id { 2 } else { 1 };
    ledger.proof_made(&key(other), MODEL, "vk", 1.0).await.unwrap();
    assert_eq!(ledger.proofs_since(now() - DAY).await.unwrap(), 1);
}

#[tokio::test]
async fn a_failed_canary_is_told_until_a_proof_works() {
    let (_folder, ledger) = with_answers(2, &["0xa"]).await;
    let begun = ledger.begin_canary(MODEL, DAY).await.unwrap().unwrap();
    ledger.canary_failed(&begun, ProofOutcome::Failed, "the witness is gone").await.unwrap();
    let told = ledger.canary_trouble(MODEL).await.unwrap();
    assert_eq!(told, Some((begun.request.clone(), "the witness is gone".to_owned())));
    assert!(ledger.has_failed_attempt(MODEL).await.unwrap());
    assert_eq!(ledger.canary_trouble("d2").await.unwrap(), None, "another model is not concerned");
    assert_eq!(refused(&ledger).await, (0, 0), "no proof was refused");
    ledger.proof_made(&key(1), MODEL, "vk", 1.0).await.unwrap();
    assert_eq!(ledger.canary_trouble(MODEL).await.unwrap(), None);
    assert!(!ledger.has_failed_attempt(MODEL).await.unwrap());
}

#[tokio::test]
async fn refusals_count_requests_and_consumers_once_each() {
    let (_folder, ledger) = with_answers(4, &["0xa", "0xb"]).await;
    for n in [1, 1, 1, 3] {
        refuse(&ledger, n).await;
    }
    assert_eq!(refused(&ledger).await, (2, 1));
    let begun = loop {
        let begun = ledger.begin_canary(MODEL, 0).await.unwrap().unwrap();
        if begun.request == key(2).id {
            break begun;
        }
        ledger.forget_canary(&begun).await.unwrap();
    };
    ledger.canary_failed(&begun, ProofOutcome::Refused, "nor does this").await.unwrap();
    assert_eq!(refused(&ledger).await, (3, 2), "a canary counts as its request");
    let last = ledger.refusals(MODEL, 7 * DAY).await.unwrap();
    assert_eq!((last.request, last.reason.as_deref()), (Some(key(2).id), Some("nor does this")));
    assert_eq!(ledger.refusals("d2", 7 * DAY).await.unwrap().requests, 0);
}

#[tokio::test]
async fn refusals_end_with_a_proof_and_not_with_time() {
    let (_folder, ledger) = with_answers(4, &["0xa", "0xb"]).await;
    refuse(&ledger, 1).await;
    age(&ledger, 8 * DAY).await;
    refuse(&ledger, 2).await;
    refuse(&ledger, 3).await;
    assert_eq!(refused(&ledger).await, (2, 2), "the first is too old to belong to them");
    age(&ledger, 30 * DAY).await;
    assert_eq!(refused(&ledger).await, (2, 2), "nothing has shown that it is over");
    ledger.proof_made(&key(4), "d2", "vk", 1.0).await.unwrap();
    assert_eq!(refused(&ledger).await, (2, 2), "a proof of another model shows nothing");
    ledger.proof_made(&key(4), MODEL, "vk", 1.0).await.unwrap();
    assert_eq!(refused(&ledger).await, (0, 0));
}

#[tokio::test]
async fn requests_that_wait_are_told_why() {
    let (_folder, ledger) = ledger().await;
    ledger.insert_requests(&read(7), &[seen(1, 1000), seen(2, 2000)], 0).await.unwrap();
    ledger.claim_requests(1).await.unwrap();
    ledger.explain_waiting("no proof works").await.unwrap();
    let reason = async |n| ledger.request(&key(n).id).await.unwrap().unwrap().reason;
    assert_eq!(reason(1).await.as_deref(), Some("no proof works"));
    assert_eq!(reason(2).await, None, "it is being answered");
}

/// What 0.1.1 has left: the tables of its only migration, with a row.
#[tokio::test]
async fn a_ledger_of_the_first_version_opens_with_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new().filename(folder.path().join("ledger.sqlite")).create_if_missing(true);
    let old = SqlitePool::connect_with(options).await.unwrap();
    let mut migrator = sqlx::migrate!();
    migrator.migrations.to_mut().truncate(1);
    migrator.run(&old).await.unwrap();
    sqlx::query("INSERT INTO proof VALUES ('0xc0', ?, 'vk', 1.5, 7)").bind(key(1).id).execute(&old).await.unwrap();
    old.close().await;
    let ledger = Ledger::open(folder.path()).await.unwrap();
    assert!(ledger.is_proven(&key(1).id).await.unwrap());
    assert_eq!(ledger.proofs_since(0).await.unwrap(), 1);
}
