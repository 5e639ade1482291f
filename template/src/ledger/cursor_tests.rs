//! Reorgs and gaps, on a real SQLite file.

use super::tests::{answering, inferred, key, ledger, read, seen, state, targets};
use super::*;

fn block(number: u64, hash: &str) -> Block {
    Block { number, hash: hash.to_owned() }
}

/// A request from another block than usual.
fn seen_in(n: u8, number: u64, hash: &str) -> NewRequest {
    NewRequest { block: number, block_hash: hash.to_owned(), ..seen(n, 1000) }
}

fn challenge_in(number: u64, hash: &str) -> NewChallenge {
    NewChallenge {
        contract: "0xmodeler".to_owned(),
        key: ChallengeKey { transaction_hash: "0xaa".to_owned(), log_index: 3 },
        route: DeliveryChannel::Ipfs,
        requester: "0xvalidator".to_owned(),
        payload: "bafy".to_owned(),
        block: number,
        block_hash: hash.to_owned(),
    }
}

/// The challenge, once its document was read.
async fn claimed_challenge(ledger: &Ledger) -> Challenge {
    let challenge = ledger.claim_document().await.unwrap().unwrap();
    ledger.set_challenge_requests(&challenge, &[key(1)]).await.unwrap();
    ledger.claim_challenge().await.unwrap().unwrap()
}

/// Requests 1 in block 7, 2 in block 9, and a challenge in block 9; heads 5 and 9 were seen.
async fn two_blocks() -> (tempfile::TempDir, Ledger) {
    let (folder, ledger) = ledger().await;
    ledger.record_blocks(&[block(5, "0x5"), block(9, "0x9")]).await.unwrap();
    ledger.insert_requests(&read(9), &[seen_in(1, 7, "0x7"), seen_in(2, 9, "0x9")], 0).await.unwrap();
    let challenges = ScannedRange { stream: "challenges", ..read(9) };
    ledger.insert_challenges(&challenges, &[challenge_in(9, "0x9")]).await.unwrap();
    (folder, ledger)
}

async fn after_a_reorg(ledger: &Ledger, last: u64) -> ScannedRange<'static> {
    ScannedRange { reorgs: ledger.reorgs().await.unwrap(), first: 6, ..read(last) }
}

#[tokio::test]
async fn a_reorg_orphans_what_came_from_its_blocks_and_moves_every_cursor_back() {
    let (_folder, ledger) = two_blocks().await;
    let mut rows = ledger.blocks_of(Rows::Requests, 6, u64::MAX).await.unwrap();
    rows.sort_by_key(|block| block.number);
    assert_eq!(rows, [block(7, "0x7"), block(9, "0x9")]);
    assert_eq!(ledger.blocks_of(Rows::Challenges, 6, u64::MAX).await.unwrap(), [block(9, "0x9")]);
    assert!(ledger.rewind(&block(9, "0x9"), 5, &[block(9, "0x9")], 0).await.unwrap());
    assert_eq!((state(&ledger, 1).await, state(&ledger, 2).await), ("seen".to_owned(), "orphaned".to_owned()));
    let row = ledger.request(&key(2).id).await.unwrap().unwrap();
    assert!(row.reason.unwrap().contains("block 9 (0x9)"));
    assert_eq!(ledger.status(9).await.unwrap().challenges[0].state, "orphaned");
    for stream in ["requests", "challenges"] {
        assert_eq!(ledger.cursor(stream).await.unwrap(), Some(6));
    }
    assert_eq!(ledger.newest_block(100).await.unwrap(), Some(block(5, "0x5")));
    assert!(!ledger.rewind(&block(9, "0x9"), 5, &[], 0).await.unwrap(), "it was done");
    assert_eq!(ledger.reorgs().await.unwrap(), 1);
}

#[tokio::test]
async fn what_was_read_before_a_reorg_is_not_written_after_it() {
    let (_folder, ledger) = two_blocks().await;
    ledger.rewind(&block(9, "0x9"), 5, &[], 0).await.unwrap();
    let late = ScannedRange { first: 10, ..read(12) };
    let refused = ledger.insert_requests(&late, &[seen_in(3, 12, "0x12")], 0).await.unwrap_err().to_string();
    assert!(refused.contains("reorganised while blocks 10 to 12"), "{refused}");
    assert!(ledger.request(&key(3).id).await.unwrap().is_none());
    assert_eq!(ledger.cursor("requests").await.unwrap(), Some(6));
}

#[tokio::test]
async fn an_orphan_that_is_seen_again_goes_on_where_it_was() {
    let (_folder, ledger) = answering(false).await;
    ledger.insert_requests(&read(9), &[seen_in(2, 9, "0x9")], 0).await.unwrap();
    ledger.orphan_blocks(&[block(7, "0xb10c"), block(9, "0x9")]).await.unwrap();
    assert_eq!((state(&ledger, 1).await, state(&ledger, 2).await), ("orphaned".to_owned(), "orphaned".to_owned()));
    assert!(ledger.claim_requests(9).await.unwrap().is_empty());
    assert!(ledger.known_requests("0xc0", &[key(1).id]).await.unwrap().is_empty());

    let again = [seen_in(1, 8, "0x8b"), seen_in(2, 10, "0x10b")];
    assert_eq!(ledger.insert_requests(&read(10), &again, 0).await.unwrap(), 2);
    assert_eq!(state(&ledger, 1).await, "inferred");
    let row = ledger.request(&key(2).id).await.unwrap().unwrap();
    assert_eq!((row.state.as_str(), row.block, row.reason), ("seen", 10, None));
    assert_eq!(ledger.queue_answers(&targets()).await.unwrap(), 1);
    assert_eq!(ledger.insert_requests(&read(10), &again, 0).await.unwrap(), 0, "nothing is new");
    assert_eq!(state(&ledger, 1).await, "answering");
}

#[tokio::test]
async fn an_orphan_that_comes_back_too_late_is_expired() {
    let (_folder, ledger) = answering(false).await;
    ledger.orphan_blocks(&[block(7, "0xb10c")]).await.unwrap();
    ledger.insert_requests(&read(9), &[seen_in(1, 8, "0x8b")], 1001).await.unwrap();
    let row = ledger.request(&key(1).id).await.unwrap().unwrap();
    assert_eq!(row.state, "expired");
    assert!(row.reason.unwrap().contains("deadline"));
}

/// The inference goes on while the request is an orphan: nobody else begins it again, and its outcome is kept.
#[tokio::test]
async fn what_is_inferred_for_an_orphan_is_there_when_it_comes_back() {
    let (_folder, ledger) = ledger().await;
    ledger.insert_requests(&read(7), &[seen(1, 1000), seen(2, 1000)], 0).await.unwrap();
    let claimed = ledger.claim_requests(9).await.unwrap();
    ledger.orphan_blocks(&[block(7, "0xb10c")]).await.unwrap();
    ledger.insert_requests(&read(8), &[seen_in(2, 8, "0x8b")], 0).await.unwrap();
    assert!(ledger.claim_requests(9).await.unwrap().is_empty(), "its claim holds");
    ledger.mark_inferred(&key(1), &inferred(false)).await.unwrap();
    ledger.mark_inferred(&key(2), &inferred(false)).await.unwrap();
    assert_eq!((state(&ledger, 1).await, state(&ledger, 2).await), ("orphaned".to_owned(), "inferred".to_owned()));
    ledger.insert_requests(&read(9), &[seen_in(1, 9, "0x9b")], 0).await.unwrap();
    assert_eq!(state(&ledger, 1).await, "inferred");
    // A failure lets go of the claim too.
    ledger.record_request_failure(&claimed[0], &Fault::Permanent(anyhow!("no wallet"))).await.unwrap();
    assert_eq!(state(&ledger, 1).await, "inferred");
}

#[tokio::test]
async fn a_challenge_that_moved_to_another_block_goes_on_where_it_was() {
    let (_folder, ledger) = two_blocks().await;
    let challenge = claimed_challenge(&ledger).await;
    ledger.mark_proved(&challenge.key(), None).await.unwrap();
    ledger.uploaded(&challenge.key(), "cid", &[1]).await.unwrap();
    assert_eq!(ledger.queue_deliveries(&targets()).await.unwrap(), 1);
    ledger.rewind(&block(9, "0x9"), 5, &[block(9, "0x9")], 0).await.unwrap();
    assert_eq!(ledger.status(9).await.unwrap().challenges[0].state, "orphaned");
    let read = ScannedRange { stream: "challenges", ..after_a_reorg(&ledger, 10).await };
    assert_eq!(ledger.insert_challenges(&read, &[challenge_in(10, "0x10b")]).await.unwrap(), 1);
    assert_eq!(ledger.status(9).await.unwrap().challenges[0].state, "uploaded");
    assert_eq!(ledger.insert_challenges(&read, &[challenge_in(10, "0x10b")]).await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_final_stays() {
    let (_folder, ledger) = answering(false).await;
    sqlx::query("UPDATE request SET state = 'final'").execute(&ledger.pool).await.unwrap();
    assert!(ledger.blocks_of(Rows::Requests, 0, 9).await.unwrap().is_empty());
    ledger.orphan_blocks(&[block(7, "0xb10c")]).await.unwrap();
    ledger.insert_requests(&read(8), &[seen_in(1, 8, "0x8b")], 0).await.unwrap();
    let row = ledger.request(&key(1).id).await.unwrap().unwrap();
    assert_eq!((row.state.as_str(), row.block), ("final", 8));
}

#[tokio::test]
async fn a_gap_is_read_from_its_upper_end_and_is_gone_when_it_is_read() {
    let (_folder, ledger) = ledger().await;
    ledger.insert_requests(&read(9), &[], 0).await.unwrap();
    ledger.leave_gap("requests", Gap { from: 10, to: 99 }).await.unwrap();
    assert_eq!(ledger.cursor("requests").await.unwrap(), Some(100));
    ledger.leave_gap("requests", Gap { from: 10, to: 199 }).await.unwrap();
    assert_eq!(ledger.cursor("requests").await.unwrap(), Some(100), "the cursor was elsewhere");

    // The newest blocks, some of the gap with them, as a look that reads blocks once more does.
    ledger.insert_requests(&ScannedRange { first: 92, ..read(120) }, &[], 0).await.unwrap();
    assert_eq!(ledger.cursor("requests").await.unwrap(), Some(121));
    assert_eq!(ledger.gap("requests").await.unwrap(), Some(Gap { from: 10, to: 91 }));
    assert_eq!(ledger.gap("challenges").await.unwrap(), None);
    ledger.insert_requests(&ScannedRange { first: 50, ..read(91) }, &[], 0).await.unwrap();
    ledger.leave_gap("requests", Gap { from: 121, to: 200 }).await.unwrap();
    assert_eq!(ledger.gap("requests").await.unwrap(), Some(Gap { from: 121, to: 200 }), "the newest first");
    ledger.insert_requests(&ScannedRange { first: 121, ..read(200) }, &[], 0).await.unwrap();
    ledger.insert_requests(&ScannedRange { first: 10, ..read(49) }, &[], 0).await.unwrap();
    assert_eq!(ledger.gap("requests").await.unwrap(), None);
    assert_eq!(ledger.cursor("requests").await.unwrap(), Some(201));
}

#[tokio::test]
async fn of_old_heads_some_are_kept_and_at_least_one() {
    let (_folder, ledger) = ledger().await;
    let heads: Vec<Block> = (0..2000).map(|number| block(number, "0x")).collect();
    ledger.record_blocks(&heads).await.unwrap();
    let kept = ledger.blocks(u64::MAX >> 1).await.unwrap();
    assert!((250..320).contains(&kept.len()), "{}", kept.len());
    assert!(kept.windows(2).all(|pair| pair[1].number - pair[0].number <= 64));
    ledger.record_blocks(&[block(10_000_000, "0x")]).await.unwrap();
    let kept: Vec<u64> = ledger.blocks(u64::MAX >> 1).await.unwrap().iter().map(|block| block.number).collect();
    assert_eq!(kept, [1999, 10_000_000]);
}

/// In the new block the transaction's logs stand one place lower: where one challenge was is the other now.
#[tokio::test]
async fn another_challenge_in_the_place_of_one_begins_anew() {
    let (_folder, ledger) = two_blocks().await;
    let challenge = claimed_challenge(&ledger).await;
    ledger.mark_proved(&challenge.key(), None).await.unwrap();
    ledger.uploaded(&challenge.key(), "cid", &[1]).await.unwrap();
    ledger.rewind(&block(9, "0x9"), 5, &[block(9, "0x9")], 0).await.unwrap();
    let read = ScannedRange { stream: "challenges", ..after_a_reorg(&ledger, 10).await };
    let other = NewChallenge { payload: "other".to_owned(), ..challenge_in(10, "0x10b") };
    assert_eq!(ledger.insert_challenges(&read, &[other]).await.unwrap(), 1);
    let challenge = ledger.claim_document().await.unwrap().unwrap();
    assert_eq!(
        (challenge.state.as_str(), challenge.payload.as_str(), challenge.cid.as_deref()),
        ("asked", "other", None)
    );
    assert!(ledger.challenge_requests(&challenge.key()).await.unwrap().is_empty());
}
