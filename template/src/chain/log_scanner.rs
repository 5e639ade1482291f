//! Which blocks a watcher reads, and in what order. A stream of logs has a cursor in the ledger; each pass reads from some
//! blocks before it, because newest blocks are said to have no logs by some providers, up to the newest that is deep
//! enough. After a long absence the newest blocks come first, and the others are a gap that is read later.
//!
//! A node that lags tells nothing of the logs that it does not have. So a pass looks back now and then: blocks that were less
//! than two minutes old when they were last read are read again, whichever node answers then. How far that is depends on the
//! blocks' times alone, not on how often a stream is read: one that is read once an hour looks back no further.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use ethers::providers::{Middleware as _, RpcError as _};
use ethers::types::{Filter, Log};

use super::complaint::{Complaint, named_range};
use super::{Chain, Head, rpc_fault, to_u64};
use crate::fault::{Classify as _, Result};
use crate::ledger::{Gap, Ledger, ScannedRange};

/// How often a pass looks back, at the most; seconds.
const RESCAN_INTERVAL_SECS: u64 = 20;
/// A node that lags by no more than this hides no log: two minutes of the SLA's ten.
const MAX_LAG_SECS: u64 = 120;
/// Where no look was made at the right moment, one that was made so much earlier will do; otherwise the block is searched for.
const RESCAN_SLACK_SECS: u64 = 120;

/// When each stream was read to its end by a pass that looked back.
#[derive(Default)]
pub(super) struct RescanHistory(Mutex<HashMap<String, VecDeque<Rescan>>>);

/// One such pass.
#[derive(Debug, Clone, Copy)]
struct Rescan {
    at: Instant,
    /// The chain's clock then.
    time: u64,
    /// The first block that it read, and the last.
    from: u64,
    to: u64,
}

/// How far a pass looks back, beside the blocks that every pass reads again.
#[derive(Debug, PartialEq, Eq)]
enum RescanDepth {
    Skip,
    /// To this block: those before it were old enough when they were read.
    Since(u64),
    /// To the first block of `from..=to` that was made at this time or later.
    Search {
        from: u64,
        to: u64,
        time: u64,
    },
    /// Nothing is known of what was read before the start.
    Unknown,
}

impl RescanHistory {
    fn due(&self, stream: &str, chain_time: u64) -> RescanDepth {
        let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(looks) = streams.get(stream) else { return RescanDepth::Unknown };
        let Some(last) = looks.back() else { return RescanDepth::Unknown };
        // By either clock: a chain may stand still, and on a devnet it may jump.
        let since = last.at.elapsed().as_secs().max(chain_time.saturating_sub(last.time));
        if since < RESCAN_INTERVAL_SECS {
            return RescanDepth::Skip;
        }
        // Blocks made before were older than a node lags when the last look read them.
        let time = last.time.saturating_sub(MAX_LAG_SECS);
        match looks.iter().rfind(|look| look.time <= time) {
            Some(look) if time - look.time <= RESCAN_SLACK_SECS => RescanDepth::Since(look.to + 1),
            Some(look) => RescanDepth::Search { from: look.to + 1, to: last.to, time },
            None => RescanDepth::Search { from: last.from, to: last.to, time },
        }
    }

    fn record(&self, stream: &str, look: Rescan) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let looks = streams.entry(stream.to_owned()).or_default();
        looks.push_back(look);
        // Of those that are old enough the newest is of use.
        let enough = look.time.saturating_sub(MAX_LAG_SECS);
        while looks.get(1).is_some_and(|second| second.time <= enough) {
            looks.pop_front();
        }
    }
}

/// One pass of a watcher over its stream.
pub(super) struct LogScan<'a> {
    chain: &'a Chain,
    pub ledger: &'a Ledger,
    pub stream: &'a str,
    filter: Filter,
    pub head: Head,
    /// The next block to read, and the last one of this pass.
    next: u64,
    pub end: u64,
    /// The first block that it reads, if it looks back.
    looks_back_to: Option<u64>,
    /// The reorgs noticed before it began.
    reorgs: i64,
}

/// The logs of a range of blocks, and what has to be written with their rows.
pub(super) struct LogBatch<'a> {
    pub logs: Vec<Log>,
    pub read: ScannedRange<'a>,
}

/// Which end of some blocks is read first.
#[derive(Clone, Copy)]
enum ScanOrder {
    OldestFirst,
    NewestFirst,
}

impl<'a> LogScan<'a> {
    /// Goes on where the stream's last pass ended.
    ///
    /// Where `only_fresh` and the last pass was so long ago that the SLA of what was asked then has passed, the blocks
    /// since then become a gap.
    pub async fn begin(
        chain: &'a Chain,
        ledger: &'a Ledger,
        stream: &'a str,
        filter: Filter,
        head: Head,
        only_fresh: bool,
    ) -> Result<Self> {
        let reorgs = ledger.reorgs().await?;
        let (cursor, reread) = match ledger.cursor(stream).await? {
            Some(block) => (block, Some(chain.settings.reread_blocks)),
            None => (chain.first_block(head).await?, None),
        };
        let mut pass = Self { chain, ledger, stream, filter, head, next: cursor, end: 0, looks_back_to: None, reorgs };
        // A chain younger than the confirmations has nothing to read yet.
        let Some(end) = head.number.checked_sub(chain.settings.confirmations) else {
            pass.next = 1;
            return Ok(pass);
        };
        pass.end = end;
        if only_fresh && end.saturating_sub(cursor) >= chain.settings.log_range {
            let fresh = chain.first_block_within_sla(head, cursor).await?;
            if fresh > cursor {
                tracing::info!(
                    stream,
                    from = cursor,
                    to = fresh - 1,
                    "blocks are left for later, the newest come first"
                );
                ledger.leave_gap(stream, Gap { from: cursor, to: fresh - 1 }).await?;
                pass.next = fresh;
                // Older blocks belong to the gap.
                pass.looks_back_to = Some(fresh);
                return Ok(pass);
            }
        }
        if let Some(reread) = reread {
            // On an endpoint that lags the cursor is ahead of the end.
            let again = cursor.min(end + 1).saturating_sub(reread);
            let farthest = chain.rescan_from(head, stream).await?;
            pass.next = farthest.map_or(again, |block| block.min(again));
            pass.looks_back_to = farthest.map(|_| pass.next);
        }
        Ok(pass)
    }

    /// The next range, oldest first; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<LogBatch<'a>>> {
        if self.next > self.end {
            if let Some(from) = self.looks_back_to.take() {
                let look = Rescan { at: Instant::now(), time: self.head.time, from, to: self.end };
                self.chain.rescans.record(self.stream, look);
            }
            return Ok(None);
        }
        let range = self.read(Gap { from: self.next, to: self.end }, ScanOrder::OldestFirst).await?;
        self.next = range.read.last + 1;
        Ok(Some(range))
    }

    /// One that reads what was left for later.
    pub async fn backfill(
        chain: &'a Chain,
        ledger: &'a Ledger,
        stream: &'a str,
        filter: Filter,
        head: Head,
    ) -> Result<Self> {
        let reorgs = ledger.reorgs().await?;
        Ok(Self { chain, ledger, stream, filter, head, next: 1, end: head.number, looks_back_to: None, reorgs })
    }

    /// The newest range of a gap.
    pub async fn last_range(&self, gap: Gap) -> Result<LogBatch<'a>> {
        self.read(gap, ScanOrder::NewestFirst).await
    }

    /// The logs of as many blocks as the provider serves at once. One that refuses a range is asked for less at once, one that does not
    /// answer in the next pass.
    async fn read(&self, blocks: Gap, begin: ScanOrder) -> Result<LogBatch<'a>> {
        let range = match begin {
            ScanOrder::OldestFirst => &self.chain.log_range,
            ScanOrder::NewestFirst => &self.chain.old_log_range,
        };
        let before = range.blocks();
        loop {
            let count = range.blocks();
            let (first, last) = match begin {
                ScanOrder::OldestFirst => (blocks.from, blocks.to.min(blocks.from.saturating_add(count - 1))),
                ScanOrder::NewestFirst => (blocks.from.max(blocks.to.saturating_sub(count - 1)), blocks.to),
            };
            let wanted = self.filter.clone().from_block(first).to_block(last);
            match self.chain.client.get_logs(&wanted).await {
                Ok(logs) => {
                    range.was_served(last - first + 1);
                    let read = ScannedRange { stream: self.stream, first, last, reorgs: self.reorgs };
                    return Ok(LogBatch { logs, read });
                }
                Err(error) => {
                    let asked = last - first + 1;
                    match error.as_error_response() {
                        Some(_) if asked == 1 => range.was_no_matter(before),
                        Some(refusal) if Complaint::of("eth_getLogs", refusal) == Complaint::TooWide => {
                            range.was_refused(asked, named_range(&refusal.message));
                        }
                        _ => range.was_unanswered(asked),
                    }
                    if asked == 1 || error.as_error_response().is_none() {
                        return Err(
                            rpc_fault(error).context(format!("cannot read the logs of blocks {first} to {last}"))
                        );
                    }
                    tracing::debug!(stream = self.stream, blocks = asked, %error, "asking for fewer blocks");
                }
            }
        }
    }
}

impl Chain {
    /// Where a ledger without cursor begins.
    async fn first_block(&self, head: Head) -> Result<u64> {
        match self.settings.start_block {
            Some(start) => Ok(start),
            None => self.first_block_within_sla(head, 0).await,
        }
    }

    /// From which block on a pass looks back, if it is time for that.
    async fn rescan_from(&self, head: Head, stream: &str) -> Result<Option<u64>> {
        match self.rescans.due(stream, head.time) {
            RescanDepth::Skip => Ok(None),
            RescanDepth::Since(block) => Ok(Some(block)),
            RescanDepth::Search { from, to, time } => self.first_block_since(time, from, to).await.map(Some),
            RescanDepth::Unknown => {
                self.first_block_within_sla(head, self.settings.start_block.unwrap_or_default()).await.map(Some)
            }
        }
    }

    /// The first block, of `oldest` and those above it, in which a request can be that is still to be answered.
    async fn first_block_within_sla(&self, head: Head, oldest: u64) -> Result<u64> {
        let time = head.time.saturating_sub(self.sla().as_secs());
        self.first_block_since(time, oldest.min(head.number), head.number).await
    }

    /// The first block of these that was made at this time or later; the last one if there is none. Found from the end, in steps that
    /// double, and then by halving: no block is asked for that is much older, which a node may not have any more.
    async fn first_block_since(&self, time: u64, first: u64, last: u64) -> Result<u64> {
        let (mut too_old, mut young_enough) = (first, last.max(first));
        let mut step = 1;
        while too_old < young_enough {
            let middle = (too_old + (young_enough - too_old) / 2).max(young_enough.saturating_sub(step));
            if self.time_of(middle).await? < time {
                too_old = middle + 1;
            } else {
                young_enough = middle;
                step = step.saturating_mul(2);
            }
        }
        Ok(young_enough)
    }

    /// When a block was made, by the chain's clock.
    async fn time_of(&self, block: u64) -> Result<u64> {
        let found = self.client.get_block(block).await.map_err(rpc_fault)?;
        let found = found.with_context(|| format!("the RPC endpoint has no block {block}")).transient()?;
        to_u64("a block's time", found.timestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of a quarter of a second, as on Arbitrum.
    const BLOCKS_PER_SEC: u64 = 4;

    fn look(looks: &RescanHistory, from: u64, time: u64) {
        looks.record("challenges", Rescan { at: Instant::now(), time, from, to: time * BLOCKS_PER_SEC });
    }

    /// How many blocks before the end of the last look the next one begins, on a chain whose block n was made at n / 4.
    fn blocks_read_again(looks: &RescanHistory, last: u64, now: u64) -> u64 {
        let first = match looks.due("challenges", now) {
            RescanDepth::Since(block) => block,
            RescanDepth::Search { from, to, time } => (time * BLOCKS_PER_SEC).clamp(from, to),
            other => panic!("{other:?}"),
        };
        last * BLOCKS_PER_SEC + 1 - first
    }

    #[test]
    fn regression_a_stream_that_is_read_once_an_hour_looks_back_minutes() {
        let looks = RescanHistory::default();
        assert_eq!(looks.due("challenges", 0), RescanDepth::Unknown);
        for hour in 1..12 {
            look(&looks, (hour * 3600 - 600) * BLOCKS_PER_SEC, hour * 3600);
            let again = blocks_read_again(&looks, hour * 3600, (hour + 1) * 3600);
            let least = MAX_LAG_SECS * BLOCKS_PER_SEC;
            assert!((least..=least + 1).contains(&again), "after {hour} hours {again} blocks are read again");
        }
    }

    /// Whatever the interval, a node may lag by two minutes, and no more is read again than twice that.
    #[test]
    fn every_interval_looks_back_two_minutes_and_at_most_four() {
        for interval in [20, 21, 60, 119, 120, 121, 300, 3600, 86_400] {
            let looks = RescanHistory::default();
            for pass in 1..50 {
                let now = 100_000 + pass * interval;
                look(&looks, (now - 700) * BLOCKS_PER_SEC, now);
                let again = blocks_read_again(&looks, now, now + interval);
                let (least, most) = (MAX_LAG_SECS, MAX_LAG_SECS + RESCAN_SLACK_SECS);
                let (least, most) = (least * BLOCKS_PER_SEC, most * BLOCKS_PER_SEC + 1);
                assert!((least..=most).contains(&again), "every {interval} s, pass {pass}: {again} blocks");
            }
            assert!(looks.0.lock().unwrap()["challenges"].len() <= 8, "every {interval} s");
        }
    }

    #[test]
    fn a_look_that_was_made_a_moment_ago_is_not_made_again() {
        let looks = RescanHistory::default();
        look(&looks, 0, 1000);
        assert_eq!(looks.due("challenges", 1000 + RESCAN_INTERVAL_SECS - 1), RescanDepth::Skip);
        assert_ne!(looks.due("challenges", 1000 + RESCAN_INTERVAL_SECS), RescanDepth::Skip);
    }
}
