//! Transactions that are replaced, cancelled, forgotten by the chain, and wanted again.

use super::super::tests::{ALL, answering, attempt, inferred, key, mined, state, targets};
use super::super::{AttemptKind, Ledger, NewAttempt};
use super::Tx;
use crate::fault::Fault;

/// A ledger whose answer to request 1 is broadcast on nonce 5.
async fn in_the_pool() -> (tempfile::TempDir, Ledger, String) {
    let (folder, ledger) = answering(false).await;
    let tx = ledger.sendable(9, ALL).await.unwrap().remove(0);
    ledger.mark_signed(&tx.key, &attempt("0x01", 5)).await.unwrap();
    ledger.mark_broadcast(&tx.key).await.unwrap();
    (folder, ledger, tx.key)
}

fn cancel(hash: &str, nonce: u64) -> NewAttempt {
    NewAttempt { kind: AttemptKind::Cancel, sequence_id: None, ..attempt(hash, nonce) }
}

async fn row(ledger: &Ledger, key: &str) -> Tx {
    ledger.tx(key).await.unwrap().unwrap()
}

async fn states(ledger: &Ledger, key: &str) -> Vec<(String, String)> {
    let attempts = ledger.attempts(key).await.unwrap();
    attempts.into_iter().map(|attempt| (attempt.hash, attempt.state)).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(hash, state)| ((*hash).to_owned(), (*state).to_owned())).collect()
}

#[tokio::test]
async fn whichever_of_the_attempts_is_mined_counts() {
    let (_folder, ledger, key) = in_the_pool().await;
    ledger.mark_replaced(&key, &attempt("0x02", 5)).await.unwrap();
    assert_eq!(states(&ledger, &key).await, pairs(&[("0x02", "live"), ("0x01", "live")]));
    ledger.mark_mined(&key, &mined("0x01")).await.unwrap();
    assert_eq!(states(&ledger, &key).await, pairs(&[("0x02", "lost"), ("0x01", "mined")]));
    ledger.mark_unmined(&key).await.unwrap();
    assert_eq!(states(&ledger, &key).await, pairs(&[("0x02", "live"), ("0x01", "live")]));
    assert_eq!(row(&ledger, &key).await.state, "broadcast");
    assert!(ledger.mark_replaced("answer:0xc0:other", &attempt("0x03", 5)).await.is_err(), "there is no such row");
}

#[tokio::test]
async fn what_was_given_up_and_is_mined_after_all_counts() {
    let (_folder, ledger, key) = in_the_pool().await;
    ledger.requeue(&key, "its nonce was spent").await.unwrap();
    assert_eq!(ledger.in_flight().await.unwrap()[0].key, key, "it is still looked for");
    ledger.mark_mined(&key, &mined("0x01")).await.unwrap();
    let tx = row(&ledger, &key).await;
    assert_eq!((tx.state.as_str(), tx.reason.as_deref()), ("mined", None));
    ledger.mark_final(&tx).await.unwrap();
    assert_eq!(state(&ledger, 1).await, "final");
}

#[tokio::test]
async fn a_cancelled_transaction_is_cancelled_until_the_work_is_mined_or_nothing_can_be() {
    let (_folder, ledger, key) = in_the_pool().await;
    ledger.mark_cancelling(&key, "the deadline has passed").await.unwrap();
    ledger.mark_replaced(&key, &cancel("0x0c", 5)).await.unwrap();
    assert_eq!(row(&ledger, &key).await.reason.as_deref(), Some("the deadline has passed"));
    ledger.mark_mined(&key, &mined("0x0c")).await.unwrap();
    ledger.mark_unmined(&key).await.unwrap();
    assert_eq!(row(&ledger, &key).await.state, "cancelling");
    ledger.mark_mined(&key, &mined("0x0c")).await.unwrap();
    ledger.mark_failed(&row(&ledger, &key).await, "expired", "cancelled").await.unwrap();
    assert_eq!(state(&ledger, 1).await, "expired");
    assert_eq!(states(&ledger, &key).await, pairs(&[("0x0c", "void"), ("0x01", "lost")]));
    assert!(ledger.reserved_nonces("0xme", 0).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_request_that_comes_back_has_its_answer_queued_again() {
    let (_folder, ledger, tx) = in_the_pool().await;
    ledger.mark_cancelling(&tx, "its request was reorganised away").await.unwrap();
    ledger.mark_replaced(&tx, &cancel("0x0c", 5)).await.unwrap();
    ledger.mark_mined(&tx, &mined("0x0c")).await.unwrap();
    ledger.mark_failed(&row(&ledger, &tx).await, "failed", "cancelled").await.unwrap();
    // As the watcher brings it back.
    sqlx::query("UPDATE request SET state = 'inferred' WHERE id = ?")
        .bind(&key(1).id)
        .execute(&ledger.pool)
        .await
        .unwrap();
    assert_eq!(ledger.queue_answers(&targets()).await.unwrap(), 1);
    assert_eq!(state(&ledger, 1).await, "answering");
    let again = ledger.sendable(9, ALL).await.unwrap().remove(0);
    assert_eq!((again.key.as_str(), again.calldata.as_slice()), (tx.as_str(), &inferred(false).answer[..]));
}

#[tokio::test]
async fn what_was_mined_for_nothing_is_signed_again_and_not_looked_at_any_more() {
    let (_folder, ledger, key) = in_the_pool().await;
    ledger.mark_ineffective(&key, "0x01", "reverted on chain: UnknownRequest", 0).await.unwrap();
    assert_eq!(states(&ledger, &key).await, pairs(&[("0x01", "void")]));
    let tx = ledger.sendable(9, ALL).await.unwrap().remove(0);
    ledger.mark_signed(&tx.key, &attempt("0x02", 6)).await.unwrap();
    ledger.mark_mined(&key, &mined("0x02")).await.unwrap();
    assert_eq!(states(&ledger, &key).await, pairs(&[("0x02", "mined"), ("0x01", "void")]));
}

#[tokio::test]
async fn nobody_signs_for_a_request_that_has_ended() {
    let (_folder, ledger, tx) = in_the_pool().await;
    assert_eq!(row(&ledger, &tx).await.obsolete_reason(1000), None);
    assert_eq!(row(&ledger, &tx).await.obsolete_reason(1001).as_deref(), Some("the deadline has passed"));
    for (ended, reason) in [
        ("orphaned", "its request was reorganised away"),
        ("expired", "its request is expired"),
        ("answered", "its request is answered"),
        ("failed", "its request is failed"),
    ] {
        sqlx::query("UPDATE request SET state = ?, reason = 'so'").bind(ended).execute(&ledger.pool).await.unwrap();
        assert_eq!(row(&ledger, &tx).await.obsolete_reason(0).as_deref(), Some(reason));
    }
}

#[tokio::test]
async fn claims_and_fills_are_queued_once() {
    let (_folder, ledger) = answering(false).await;
    assert_eq!(ledger.last_claim("0xc0").await.unwrap(), None);
    assert!(ledger.queue_claim("0xc0", 3, &[1]).await.unwrap());
    assert!(!ledger.queue_claim("0xc0", 3, &[1]).await.unwrap());
    assert_eq!(ledger.last_claim("0xc0").await.unwrap(), Some(3));
    assert_eq!(ledger.last_claim("0xc").await.unwrap(), None);
    ledger.queue_nonce_fill("0xme", 5).await.unwrap();
    ledger.queue_nonce_fill("0xme", 5).await.unwrap();
    assert_eq!(ledger.nonce_fills().await.unwrap().len(), 1);
    let last = ledger.sendable(9, ALL).await.unwrap();
    assert_eq!(last.len(), 3);
    assert!(last[0].key.starts_with("answer:"), "answers go first");
}

/// The same call on the same nonce at the same price: a wallet's signatures are deterministic.
#[tokio::test]
async fn the_same_bytes_signed_again_are_live_again() {
    let (_folder, ledger, key) = in_the_pool().await;
    ledger.requeue(&key, "the node refuses it").await.unwrap();
    assert_eq!(states(&ledger, &key).await, pairs(&[("0x01", "lost")]));
    ledger.mark_signed(&key, &attempt("0x01", 5)).await.unwrap();
    assert_eq!(states(&ledger, &key).await, pairs(&[("0x01", "live")]));
    assert_eq!(row(&ledger, &key).await.state, "signed");
    let twice = ledger.mark_replaced(&key, &attempt("0x01", 5)).await.unwrap_err();
    assert!(matches!(twice, Fault::Transient(_)), "{twice}");
}

#[tokio::test]
async fn only_what_would_revert_counts_as_a_try() {
    let (_folder, ledger) = answering(false).await;
    let key = ledger.sendable(9, ALL).await.unwrap().remove(0).key;
    ledger.postpone(&key, "no money", 0).await.unwrap();
    assert_eq!(row(&ledger, &key).await.tries, 0);
    ledger.postpone_and_count(&key, "it would revert", 0).await.unwrap();
    assert_eq!(row(&ledger, &key).await.tries, 1);
}
