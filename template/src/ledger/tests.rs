//! The state machines, on a real SQLite file.

use super::*;

pub(super) const ALL: SubmissionPolicy = SubmissionPolicy { answers: true, proofs: true };
const CONTRACT: &str = "0xc0";

pub(super) fn key(n: u8) -> RequestKey {
    RequestKey { contract: CONTRACT.to_owned(), id: format!("0x{}", hex::encode([n; 32])) }
}

pub(super) fn seen(n: u8, deadline: u64) -> NewRequest {
    NewRequest { key: key(n), block: 7, block_hash: "0xb10c".to_owned(), reading: Reading::Terms(terms(deadline)) }
}

pub(super) fn terms(deadline: u64) -> RequestTerms {
    RequestTerms {
        input: "0xwallet".to_owned(),
        consumer: "0xconsumer".to_owned(),
        requested: deadline - 600,
        deadline,
    }
}

/// A request of which only the log is known.
pub(super) fn unread(n: u8, deadline: u64) -> NewRequest {
    let reading = Reading::Failed { consumer: "0xconsumer".to_owned(), deadline, reason: "it is not told".to_owned() };
    NewRequest { reading, ..seen(n, deadline) }
}

pub(super) fn inferred(commitment: bool) -> Inferred {
    Inferred {
        model_value: Some(0.5),
        circuit_value: 0.5,
        submitted_value: 0.5,
        model_digest: "d1".to_owned(),
        witness: "w1".to_owned(),
        answer: vec![1],
        commitment: commitment.then(|| vec![2]),
    }
}

pub(super) fn attempt(hash: &str, nonce: u64) -> NewAttempt {
    NewAttempt {
        hash: hash.to_owned(),
        kind: AttemptKind::Work,
        sender: "0xme".to_owned(),
        nonce,
        sequence_id: Some(nonce + 10),
        expires: None,
        raw: vec![3],
        max_fee_wei: "1".to_owned(),
        priority_fee_wei: "1".to_owned(),
        gas: 21_000,
        chain_time: 900,
    }
}

pub(super) fn mined(hash: &str) -> Mined {
    Mined { hash: hash.to_owned(), block: 9, block_hash: "0xb9".to_owned(), time: 990, gas_used: 50_000 }
}

pub(super) fn targets() -> Targets {
    Targets { modeler_contract: "0x3d".to_owned(), registry: Some("0x4e9".to_owned()) }
}

/// All blocks up to this one.
pub(super) fn read(last: u64) -> ScannedRange<'static> {
    ScannedRange { stream: "requests", first: 0, last, reorgs: 0 }
}

pub(super) async fn ledger() -> (tempfile::TempDir, Ledger) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).await.unwrap();
    (folder, ledger)
}

/// A ledger whose request 1 is inferred and queued.
pub(super) async fn answering(commitment: bool) -> (tempfile::TempDir, Ledger) {
    let (folder, ledger) = ledger().await;
    ledger.insert_requests(&read(7), &[seen(1, 1000)], 0).await.unwrap();
    ledger.claim_requests(1).await.unwrap();
    ledger.mark_inferred(&key(1), &inferred(commitment)).await.unwrap();
    assert_eq!(ledger.queue_answers(&targets()).await.unwrap(), 1);
    (folder, ledger)
}

pub(super) async fn state(ledger: &Ledger, n: u8) -> String {
    ledger.request(&key(n).id).await.unwrap().unwrap().state
}

#[tokio::test]
async fn reading_a_log_twice_adds_nothing() {
    let (_folder, ledger) = ledger().await;
    assert_eq!(ledger.cursor("requests").await.unwrap(), None);
    assert_eq!(ledger.insert_requests(&read(7), &[seen(1, 1000), seen(2, 1000)], 0).await.unwrap(), 2);
    assert_eq!(ledger.insert_requests(&read(8), &[seen(2, 1000), seen(3, 1000)], 0).await.unwrap(), 1);
    assert_eq!(ledger.cursor("requests").await.unwrap(), Some(9));
}

#[tokio::test]
async fn a_request_whose_log_alone_is_known_is_read_by_who_is_to_answer_it() {
    let (_folder, ledger) = ledger().await;
    assert_eq!(ledger.insert_requests(&read(7), &[unread(1, 1000), unread(2, 610)], 700).await.unwrap(), 2);
    assert_eq!((state(&ledger, 1).await.as_str(), state(&ledger, 2).await.as_str()), ("seen", "expired"));
    let claimed = ledger.claim_requests(9).await.unwrap().remove(0);
    assert!(!claimed.is_read() && claimed.reason.as_deref() == Some("it is not told"), "{claimed:?}");
    let told = ledger.request_read(&claimed, &terms(990)).await.unwrap();
    assert!(told.is_read() && told.reason.is_none() && told.input == "0xwallet" && told.deadline == 990, "{told:?}");

    // From another block, read by a node that lags: what is known stays.
    let moved = NewRequest { block_hash: "0xb10d".to_owned(), ..unread(1, 1100) };
    assert_eq!(ledger.insert_requests(&read(8), &[moved], 500).await.unwrap(), 1);
    let row = ledger.request(&key(1).id).await.unwrap().unwrap();
    assert_eq!((row.input.as_str(), row.deadline, row.block_hash.as_str()), ("0xwallet", 990, "0xb10d"));
}

#[tokio::test]
async fn a_request_that_nobody_tells_expires_with_the_reason() {
    let (_folder, ledger) = ledger().await;
    ledger.insert_requests(&read(7), &[unread(1, 1000)], 500).await.unwrap();
    assert_eq!(ledger.expire_requests(1001).await.unwrap(), 1);
    let row = ledger.request(&key(1).id).await.unwrap().unwrap();
    assert_eq!((row.state.as_str(), row.reason.as_deref()), ("expired", Some("it is not told")));
}

#[tokio::test]
async fn a_claimed_request_is_nobody_elses_until_its_owner_dies() {
    let (folder, ledger) = ledger().await;
    let other = Ledger::open(folder.path()).await.unwrap();
    ledger.insert_requests(&read(7), &[seen(1, 1000), seen(2, 2000)], 0).await.unwrap();
    let first = ledger.claim_requests(1).await.unwrap();
    assert_eq!(first[0].id, key(2).id, "the newest goes first");
    assert_eq!(other.claim_requests(9).await.unwrap().len(), 1);
    assert!(other.mark_inferred(&key(2), &inferred(false)).await.is_err(), "it is not the other's");
    drop(ledger);
    let third = Ledger::open(folder.path()).await.unwrap();
    assert_eq!(third.claim_requests(9).await.unwrap()[0].id, key(2).id);
}

#[tokio::test]
async fn what_a_process_had_claimed_that_died_is_free_for_those_beside_it() {
    let (folder, ledger) = ledger().await;
    let other = Ledger::open(folder.path()).await.unwrap();
    ledger.insert_requests(&read(7), &[seen(1, 1000)], 0).await.unwrap();
    assert_eq!(ledger.claim_requests(9).await.unwrap().len(), 1);
    other.renew_leases().await.unwrap();
    assert!(other.claim_requests(9).await.unwrap().is_empty(), "its owner lives");
    drop(ledger);
    other.renew_leases().await.unwrap();
    assert_eq!(other.claim_requests(9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_request_that_may_succeed_later_waits_and_one_that_may_not_fails() {
    let (_folder, ledger) = ledger().await;
    ledger.insert_requests(&read(7), &[seen(1, 1000), seen(2, 1000)], 0).await.unwrap();
    let claimed = ledger.claim_requests(2).await.unwrap();
    ledger.record_request_failure(&claimed[0], &Fault::Transient(anyhow!("Plumber is down"))).await.unwrap();
    ledger.record_request_failure(&claimed[1], &Fault::Permanent(anyhow!("no wallet"))).await.unwrap();
    let (waits, failed) = (&claimed[0].id, &claimed[1].id);
    let waits = ledger.request(waits).await.unwrap().unwrap();
    assert_eq!((waits.state.as_str(), waits.reason.as_deref()), ("seen", Some("Plumber is down")));
    assert!(ledger.claim_requests(2).await.unwrap().is_empty(), "not before its next try");
    let row = ledger.request(failed).await.unwrap().unwrap();
    assert_eq!((row.state.as_str(), row.reason.as_deref()), ("failed", Some("no wallet")));
    assert!(ledger.retry(failed).await.unwrap());
    assert_eq!(ledger.claim_requests(2).await.unwrap()[0].id, *failed);
}

#[tokio::test]
async fn requests_expire_on_the_chains_clock_and_answers_under_way_do_not() {
    let (_folder, ledger) = answering(false).await;
    ledger.insert_requests(&read(8), &[seen(2, 1000), seen(3, 2000)], 0).await.unwrap();
    assert_eq!(ledger.expire_requests(1500).await.unwrap(), 1);
    assert_eq!(state(&ledger, 1).await, "answering");
    assert_eq!(state(&ledger, 2).await, "expired");
    assert_eq!(state(&ledger, 3).await, "seen");
}

#[tokio::test]
async fn an_answer_is_signed_after_its_commitment_and_queued_once() {
    let (_folder, ledger) = answering(true).await;
    assert_eq!(ledger.queue_answers(&targets()).await.unwrap(), 0);
    let first = ledger.sendable(9, ALL).await.unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].purpose(), Purpose::Commit);
    assert_eq!(first[0].target, "0x4e9");
    ledger.mark_signed(&first[0].key, &attempt("0x01", 5)).await.unwrap();
    assert!(ledger.sendable(9, ALL).await.unwrap().is_empty(), "its nonce may be taken by somebody else");
    ledger.mark_mined(&first[0].key, &mined("0x01")).await.unwrap();
    let second = ledger.sendable(9, ALL).await.unwrap();
    assert_eq!(second[0].purpose(), Purpose::Answer);
    assert_eq!(second[0].target, CONTRACT);
}

#[tokio::test]
async fn a_transaction_is_signed_once_and_its_bytes_are_kept() {
    let (_folder, ledger) = answering(false).await;
    let tx = ledger.sendable(9, ALL).await.unwrap().remove(0);
    ledger.mark_signed(&tx.key, &attempt("0x01", 5)).await.unwrap();
    assert!(ledger.mark_signed(&tx.key, &attempt("0x02", 6)).await.is_err());
    let kept = ledger.attempts(&tx.key).await.unwrap();
    assert_eq!(kept.len(), 1, "the refused attempt leaves nothing behind");
    assert_eq!((kept[0].hash.as_str(), kept[0].raw.as_slice()), ("0x01", &[3][..]));
    assert_eq!(ledger.reserved_nonces("0xme", 0).await.unwrap(), [5].into());
    assert_eq!(ledger.next_sequence_id("0xme").await.unwrap(), Some(16));
}

#[tokio::test]
async fn the_request_is_final_when_its_answer_is_deep_enough() {
    let (_folder, ledger) = answering(false).await;
    let tx = ledger.sendable(9, ALL).await.unwrap().remove(0);
    ledger.mark_signed(&tx.key, &attempt("0x01", 5)).await.unwrap();
    ledger.mark_broadcast(&tx.key).await.unwrap();
    let mined = mined("0x01");
    ledger.mark_mined(&tx.key, &mined).await.unwrap();
    assert_eq!(state(&ledger, 1).await, "answering");
    ledger.mark_unmined(&tx.key).await.unwrap();
    assert_eq!(ledger.tx(&tx.key).await.unwrap().unwrap().state, "broadcast");
    ledger.mark_mined(&tx.key, &mined).await.unwrap();
    ledger.mark_final(&tx).await.unwrap();
    assert_eq!(state(&ledger, 1).await, "final");
    assert!(ledger.in_flight().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lost_nonce_puts_the_transaction_back() {
    let (_folder, ledger) = answering(false).await;
    let tx = ledger.sendable(9, ALL).await.unwrap().remove(0);
    ledger.mark_signed(&tx.key, &attempt("0x01", 5)).await.unwrap();
    ledger.requeue(&tx.key, "its nonce was spent by another transaction").await.unwrap();
    assert!(!ledger.attempts(&tx.key).await.unwrap()[0].is_live(), "it stays in view");
    assert_eq!(ledger.sendable(9, ALL).await.unwrap()[0].key, tx.key);
    assert!(ledger.reserved_nonces("0xme", 0).await.unwrap().is_empty());
    assert_eq!(ledger.next_sequence_id("0xme").await.unwrap(), Some(16), "a sequence id is never used again");
}

#[tokio::test]
async fn a_fatal_answer_ends_its_request_with_the_reason() {
    let (_folder, ledger) = answering(true).await;
    let commit = ledger.sendable(9, ALL).await.unwrap().remove(0);
    ledger.mark_failed(&commit, "failed", "AlreadyCommitted").await.unwrap();
    assert_eq!(state(&ledger, 1).await, "answering", "the answer can still be sent");
    let answer = ledger.sendable(9, ALL).await.unwrap().remove(0);
    ledger.mark_failed(&answer, "answered", "the chain holds our answer already").await.unwrap();
    assert_eq!(state(&ledger, 1).await, "answered");
}

#[tokio::test]
async fn retry_brings_back_what_failed_in_sending_too() {
    let (_folder, ledger) = answering(false).await;
    assert!(!ledger.retry(&key(1).id).await.unwrap(), "it has not failed");
    let tx = ledger.sendable(9, ALL).await.unwrap().remove(0);
    ledger.mark_failed(&tx, "failed", "reverted on chain: window closed").await.unwrap();
    assert_eq!(state(&ledger, 1).await, "failed");
    assert!(ledger.sendable(9, ALL).await.unwrap().is_empty());
    assert!(ledger.retry(&key(1).id).await.unwrap());
    assert_eq!(ledger.queue_answers(&targets()).await.unwrap(), 1);
    assert_eq!(state(&ledger, 1).await, "answering");
    assert_eq!(ledger.sendable(9, ALL).await.unwrap()[0].key, tx.key);
}

#[tokio::test]
async fn a_challenge_goes_from_asked_to_final() {
    let (_folder, ledger) = ledger().await;
    let key = ChallengeKey { transaction_hash: "0xaa".to_owned(), log_index: 3 };
    let challenge = NewChallenge {
        contract: "0xmodeler".to_owned(),
        key: key.clone(),
        route: DeliveryChannel::Ipfs,
        requester: "0xvalidator".to_owned(),
        payload: "bafy".to_owned(),
        block: 9,
        block_hash: "0xb10c".to_owned(),
    };
    assert_eq!(ledger.insert_challenges(&read(9), &[challenge.clone(), challenge]).await.unwrap(), 1);
    assert!(ledger.claim_challenge().await.unwrap().is_none(), "its document is to be read first");
    let claimed = ledger.claim_document().await.unwrap().unwrap();
    assert!(ledger.claim_document().await.unwrap().is_none());
    ledger.record_challenge_failure(&claimed, &Fault::Transient(anyhow!("the gateway hangs"))).await.unwrap();
    sqlx::query("UPDATE challenge SET next_try = 0").execute(&ledger.pool).await.unwrap();
    let claimed = ledger.claim_document().await.unwrap().unwrap();
    assert_eq!(claimed.tries, 2);
    let mut other = claimed.clone();
    other.payload = "bafyother".to_owned();
    assert!(
        ledger.set_challenge_requests(&other, &[super::tests::key(2)]).await.is_err(),
        "another stands in its place"
    );
    ledger.set_challenge_requests(&claimed, &[super::tests::key(1)]).await.unwrap();
    assert!(ledger.claim_document().await.unwrap().is_none(), "it was read");
    let claimed = ledger.claim_challenge().await.unwrap().unwrap();
    assert_eq!((claimed.tries, claimed.reason.as_deref()), (1, None));
    assert!(ledger.claim_challenge().await.unwrap().is_none());
    ledger.mark_proved(&key, None).await.unwrap();
    ledger.record_challenge_failure(&claimed, &Fault::Transient(anyhow!("Plumber is down"))).await.unwrap();
    assert!(ledger.uploaded(&key, "cid", &[1]).await.is_err(), "it was given back");
    sqlx::query("UPDATE challenge SET next_try = 0").execute(&ledger.pool).await.unwrap();
    assert_eq!(ledger.claim_challenge().await.unwrap().unwrap().state, "proved");
    ledger.uploaded(&key, "cid", &[1]).await.unwrap();
    assert_eq!(ledger.queue_deliveries(&targets()).await.unwrap(), 1);
    let tx = ledger.sendable(9, ALL).await.unwrap().remove(0);
    assert_eq!((tx.purpose(), tx.target.as_str()), (Purpose::Respond, "0xmodeler"));
    ledger.mark_signed(&tx.key, &attempt("0x01", 1)).await.unwrap();
    ledger.mark_mined(&tx.key, &mined("0x01")).await.unwrap();
    ledger.mark_final(&tx).await.unwrap();
    assert_eq!(ledger.status(9).await.unwrap().challenges[0].state, "final");
}

/// The contract answers only the newest challenge of validators.
#[tokio::test]
async fn of_validators_the_newest_challenge_comes_first() {
    let (_folder, ledger) = ledger().await;
    let asked = [
        (DeliveryChannel::Chain, 3),
        (DeliveryChannel::Chain, 4),
        (DeliveryChannel::Ipfs, 5),
        (DeliveryChannel::Ipfs, 8),
    ]
    .map(|(route, block)| NewChallenge {
        contract: "0xmodeler".to_owned(),
        key: ChallengeKey { transaction_hash: format!("0x{block}"), log_index: 0 },
        route,
        requester: "0xwho".to_owned(),
        payload: key(1).id,
        block,
        block_hash: format!("0xb10c{block}"),
    });
    ledger.insert_challenges(&read(9), &asked).await.unwrap();
    let mut order = Vec::new();
    while let Some(challenge) = ledger.claim_challenge().await.unwrap() {
        order.push(challenge.transaction_hash);
    }
    assert_eq!(order, ["0x8", "0x5", "0x3", "0x4"]);
}

#[tokio::test]
async fn the_schema_refuses_states_without_what_they_need() {
    let (_folder, ledger) = ledger().await;
    ledger.insert_requests(&read(7), &[seen(1, 1000)], 0).await.unwrap();
    for update in [
        "UPDATE request SET state = 'inferred'",
        "UPDATE request SET state = 'failed'",
        "UPDATE request SET state = 'lost'",
    ] {
        assert!(sqlx::query(update).execute(&ledger.pool).await.is_err(), "{update}");
    }
}

#[tokio::test]
async fn a_ledger_is_of_one_chain_and_one_modeler() {
    let (_folder, ledger) = ledger().await;
    let ours = Identity {
        chain_id: 31337,
        genesis_hash: Some("0x01".to_owned()),
        competition: "0xc0".to_owned(),
        consumption: CONTRACT.to_owned(),
        modeler: "0xme".to_owned(),
    };
    ledger.identify(&ours).await.unwrap();
    ledger.identify(&ours).await.unwrap();
    // One of before has the hash; where it is not told it does not count.
    ledger.identify(&Identity { genesis_hash: None, ..ours.clone() }).await.unwrap();
    let anew = Identity { genesis_hash: Some("0x02".to_owned()), ..ours.clone() };
    assert!(ledger.identify(&anew).await.unwrap_err().to_string().contains("genesis hash"));
    assert_eq!(ledger.modeler().await.unwrap().as_deref(), Some("0xme"));
    let other = Identity { modeler: "0xyou".to_owned(), ..ours };
    let refused = ledger.identify(&other).await.unwrap_err().to_string();
    assert!(refused.contains("modeler") && refused.contains("NOVA_ARTIFACTS_PATH"), "{refused}");
}

/// The Competition may name another Consumption contract; another Competition is another challenge.
#[tokio::test]
async fn regression_a_ledger_follows_its_competition_and_no_other() {
    let (_folder, ledger) = ledger().await;
    let identity = |competition: &str, consumption: &str| Identity {
        chain_id: 42_161,
        genesis_hash: None,
        competition: competition.to_owned(),
        consumption: consumption.to_owned(),
        modeler: "0xme".to_owned(),
    };
    ledger.identify(&identity("0xc0", "0x01")).await.unwrap();
    ledger.identify(&identity("0xc0", "0x02")).await.unwrap();
    let refused = ledger.identify(&identity("0xc1", "0x03")).await.unwrap_err().to_string();
    assert!(refused.contains("its Consumption contract is 0x02"), "{refused}");
    let refused = ledger.identify(&identity("0xc1", "0x02")).await.unwrap_err().to_string();
    assert!(refused.contains("its Competition contract is 0xc0"), "{refused}");

    // One of before 0.2 knows no Competition: its Consumption contract must be the same once.
    sqlx::query("DELETE FROM identity WHERE name = 'Competition contract'").execute(&ledger.pool).await.unwrap();
    assert!(ledger.identify(&identity("0xc0", "0x04")).await.is_err());
    ledger.identify(&identity("0xc0", "0x02")).await.unwrap();
    ledger.identify(&identity("0xc0", "0x04")).await.unwrap();
}

/// The daemon and `nova status`, at the first start.
#[tokio::test]
async fn a_new_ledger_may_be_opened_by_several_at_once() {
    for _ in 0..5 {
        let artifacts = tempfile::tempdir().unwrap();
        // Each connection has a thread of its own.
        futures::future::try_join_all((0..6).map(|_| Ledger::open(artifacts.path()))).await.unwrap();
    }
}
