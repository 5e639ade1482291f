//! Which blocks a watcher reads, and in what order. A stream of logs has a cursor in the ledger; each pass reads from some
//! blocks before it, because newest blocks are said to have no logs by some providers, up to the newest that is deep
//! enough. After a long absence the newest blocks come first, and the others are a gap that is read later.
//!
//! A node that lags tells nothing of the logs that it does not have. So each block is read again several times in the
//! minutes after, whichever node answers then.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ethers::providers::{Middleware as _, RpcError as _};
use ethers::types::{Filter, Log};

use super::{Chain, Head, unreachable};
use crate::fault::{Classify as _, Result};
use crate::ledger::{Gap, Ledger, Read};

/// How often a pass looks back.
const LOOK_BACK: Duration = Duration::from_secs(20);
/// To where it was so many such passes ago: two minutes of the SLA's ten.
const LOOKS: usize = 6;

/// Where the passes of each stream were that looked back.
#[derive(Default)]
pub(super) struct Looks(Mutex<HashMap<String, VecDeque<(Instant, u64)>>>);

/// How far a pass looks back, beside the blocks that every pass reads again.
enum LookBack {
    NotNow,
    To(u64),
    /// Nothing is known of what was read before the start.
    First,
}

impl Looks {
    fn due(&self, stream: &str) -> LookBack {
        let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let looks = streams.get(stream);
        match looks.and_then(|looks| looks.front().zip(looks.back())) {
            None => LookBack::First,
            Some((_, (last, _))) if last.elapsed() < LOOK_BACK => LookBack::NotNow,
            Some(((_, block), _)) => LookBack::To(*block),
        }
    }

    fn made(&self, stream: &str, cursor: u64) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let looks = streams.entry(stream.to_owned()).or_default();
        looks.push_back((Instant::now(), cursor));
        if looks.len() > LOOKS {
            looks.pop_front();
        }
    }
}

/// One pass of a watcher over its stream.
pub(super) struct Pass<'a> {
    chain: &'a Chain,
    pub ledger: &'a Ledger,
    pub stream: &'a str,
    filter: Filter,
    pub head: Head,
    /// The next block to read, and the last one of this pass.
    next: u64,
    pub end: u64,
    /// The reorgs noticed before it began.
    reorgs: i64,
}

/// The logs of a range of blocks, and what has to be written with their rows.
pub(super) struct Range<'a> {
    pub logs: Vec<Log>,
    pub read: Read<'a>,
}

/// Which end of some blocks is read first.
#[derive(Clone, Copy)]
enum From {
    Oldest,
    Newest,
}

impl<'a> Pass<'a> {
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
        let mut pass = Self { chain, ledger, stream, filter, head, next: cursor, end: 0, reorgs };
        // A chain younger than the confirmations has nothing to read yet.
        let Some(end) = head.number.checked_sub(chain.settings.confirmations) else {
            pass.next = 1;
            return Ok(pass);
        };
        pass.end = end;
        if only_fresh && end.saturating_sub(cursor) >= chain.settings.log_range {
            let fresh = chain.fresh_block(head, cursor).await?;
            if fresh > cursor {
                tracing::info!(
                    stream,
                    from = cursor,
                    to = fresh - 1,
                    "blocks are left for later, the newest come first"
                );
                ledger.leave_gap(stream, Gap { from: cursor, to: fresh - 1 }).await?;
                pass.next = fresh;
                return Ok(pass);
            }
        }
        if let Some(reread) = reread {
            // On an endpoint that lags the cursor is ahead of the end.
            let again = cursor.min(end + 1).saturating_sub(reread);
            let farthest = chain.look_back(head, stream, cursor).await?;
            pass.next = farthest.map_or(again, |block| block.min(again));
        }
        Ok(pass)
    }

    /// The next range, oldest first; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Range<'a>>> {
        if self.next > self.end {
            return Ok(None);
        }
        let range = self.read(Gap { from: self.next, to: self.end }, From::Oldest).await?;
        self.next = range.read.last + 1;
        Ok(Some(range))
    }

    /// One that reads what was left for later.
    pub async fn over_gap(
        chain: &'a Chain,
        ledger: &'a Ledger,
        stream: &'a str,
        filter: Filter,
        head: Head,
    ) -> Result<Self> {
        let reorgs = ledger.reorgs().await?;
        Ok(Self { chain, ledger, stream, filter, head, next: 1, end: head.number, reorgs })
    }

    /// The newest range of a gap.
    pub async fn newest_of(&self, gap: Gap) -> Result<Range<'a>> {
        self.read(gap, From::Newest).await
    }

    /// The logs of as many blocks as the provider serves at once. One that refuses a range is asked for half of it at once,
    /// one that does not answer in the next pass; after each success a little more is asked for again.
    async fn read(&self, blocks: Gap, begin: From) -> Result<Range<'a>> {
        let range = match begin {
            From::Oldest => &self.chain.log_range,
            From::Newest => &self.chain.old_log_range,
        };
        loop {
            let count = range.load(Ordering::Relaxed).max(1);
            let (first, last) = match begin {
                From::Oldest => (blocks.from, blocks.to.min(blocks.from.saturating_add(count - 1))),
                From::Newest => (blocks.from.max(blocks.to.saturating_sub(count - 1)), blocks.to),
            };
            let wanted = self.filter.clone().from_block(first).to_block(last);
            match self.chain.client.get_logs(&wanted).await {
                Ok(logs) => {
                    let more = (count + count.div_ceil(8)).min(self.chain.settings.log_range);
                    range.store(more, Ordering::Relaxed);
                    let read = Read { stream: self.stream, first, last, reorgs: self.reorgs };
                    return Ok(Range { logs, read });
                }
                Err(error) => {
                    range.store((count / 2).max(1), Ordering::Relaxed);
                    if count == 1 || error.as_error_response().is_none() {
                        return Err(
                            unreachable(error).context(format!("cannot read the logs of blocks {first} to {last}"))
                        );
                    }
                    tracing::debug!(stream = self.stream, blocks = count, %error, "asking for half of the blocks");
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
            None => self.fresh_block(head, 0).await,
        }
    }

    /// From which block on a pass at `cursor` looks back, if it is time for that.
    async fn look_back(&self, head: Head, stream: &str, cursor: u64) -> Result<Option<u64>> {
        let farthest = match self.looks.due(stream) {
            LookBack::NotNow => return Ok(None),
            LookBack::To(block) => block,
            LookBack::First => self.fresh_block(head, self.settings.start_block.unwrap_or_default()).await?,
        };
        self.looks.made(stream, cursor);
        Ok(Some(farthest))
    }

    /// The first block, of `oldest` and those above it, in which a request can be that is still to be answered: found by
    /// halving on block times.
    async fn fresh_block(&self, head: Head, oldest: u64) -> Result<u64> {
        let oldest_time = head.time.saturating_sub(self.sla.as_secs());
        let (mut too_old, mut young_enough) = (oldest.min(head.number), head.number);
        while too_old < young_enough {
            let middle = too_old + (young_enough - too_old) / 2;
            let block = self.client.get_block(middle).await.map_err(unreachable)?;
            let time = block.with_context(|| format!("the RPC endpoint has no block {middle}")).retry()?.timestamp;
            if time.as_u64() < oldest_time {
                too_old = middle + 1;
            } else {
                young_enough = middle;
            }
        }
        Ok(young_enough)
    }
}
