//! Noticing that the chain was reorganised: rows of blocks that it forgot are `orphaned`, and what came after the fork is
//! read again.
//!
//! Only a block with another hash at the same height is a reorg. A lower head, or a block that the endpoint does not have,
//! is a replica that lags, or one in the middle of a reorg: nothing follows from that, and it is asked again.

use std::collections::HashMap;

use anyhow::Context as _;
use ethers::providers::Middleware as _;

use super::{Chain, Head, MAX_HEIGHT, rpc_fault, to_hex};
use crate::fault::{Classify as _, Result};
use crate::ledger::{Block, Ledger, Rows};

/// So far below the first head that a ledger sees it keeps another block, for a reorg that comes at once; and so far below
/// all that it keeps a fork is assumed that is deeper than that.
const ANCHOR: u64 = 4096;

impl Chain {
    /// Reads the chain's head, compares the chain with what the ledger saw of it, and keeps the head. True if there was a
    /// reorg: then other streams have blocks to read again too.
    ///
    /// One watcher after the other: a head that was read before another watcher noticed a reorg would be taken for one.
    pub async fn sync_head(&self, ledger: &Ledger) -> Result<(Head, bool)> {
        let _alone = self.reorg_check_lock.lock().await;
        let head = self.head().await?;
        let reorganised = self.detect_reorg(ledger, head).await?;
        Ok((head, reorganised))
    }

    async fn detect_reorg(&self, ledger: &Ledger, head: Head) -> Result<bool> {
        let reorganised = match ledger.newest_block(head.number).await? {
            Some(newest) => match self.block(head, newest.number).await? {
                Some(found) if found == newest => false,
                Some(_) => self.rewind(ledger, head, &newest).await?,
                // Its head is not kept: what was seen before would never be compared.
                None => return Ok(false),
            },
            None => {
                let anchor = self.block(head, head.number.saturating_sub(ANCHOR)).await?;
                ledger.record_blocks(anchor.as_slice()).await?;
                false
            }
        };
        // A replica that lags may be on another branch than what was seen above it.
        if ledger.newest_block(MAX_HEIGHT).await?.is_none_or(|newest| newest.number <= head.number) {
            ledger.record_blocks(&[head.block()]).await?;
        }
        Ok(reorganised)
    }

    /// Orphans the rows of one kind that come from blocks of a range which the chain has not. `named` are hashes that its logs name.
    pub(super) async fn orphan_rows(
        &self,
        ledger: &Ledger,
        head: Head,
        rows: Rows,
        (first, last): (u64, u64),
        named: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let mut blocks = ledger.blocks_of(rows, first, last).await?;
        blocks.retain(|block| !named(&block.hash));
        let forgotten = self.reorged_out(head, blocks).await?;
        if forgotten.is_empty() {
            return Ok(());
        }
        tracing::warn!(?forgotten, "the chain forgot blocks that rows come from");
        ledger.orphan_blocks(&forgotten).await
    }

    async fn rewind(&self, ledger: &Ledger, head: Head, gone: &Block) -> Result<bool> {
        let fork = self.fork(head, ledger.blocks(head.number).await?).await?;
        let mut blocks = ledger.blocks_of(Rows::Requests, fork + 1, head.number).await?;
        blocks.extend(ledger.blocks_of(Rows::Challenges, fork + 1, head.number).await?);
        let forgotten = self.reorged_out(head, blocks).await?;
        let done = ledger.rewind(gone, fork, &forgotten, head.time).await?;
        if done {
            tracing::warn!(fork, head = head.number, "the chain was reorganised, reading on from the fork");
        }
        Ok(done)
    }

    /// The newest of these blocks, lowest first, that the chain has: found by halving.
    async fn fork(&self, head: Head, seen: Vec<Block>) -> Result<u64> {
        let (mut same, mut gone) = (0, seen.len());
        while same < gone {
            let middle = same + (gone - same) / 2;
            if self.block(head, seen[middle].number).await?.as_ref() == Some(&seen[middle]) {
                same = middle + 1;
            } else {
                gone = middle;
            }
        }
        Ok(match same {
            0 => seen.first().map_or(0, |lowest| lowest.number.saturating_sub(ANCHOR)),
            _ => seen[same - 1].number,
        })
    }

    /// Which of these blocks the chain has not, but others at their heights.
    ///
    /// # Errors
    /// `Transient` if the endpoint has none there: what is not judged now would not be judged later.
    async fn reorged_out(&self, head: Head, blocks: Vec<Block>) -> Result<Vec<Block>> {
        let mut there: HashMap<u64, Block> = HashMap::new();
        let mut forgotten = Vec::new();
        for block in blocks {
            let found = match there.remove(&block.number) {
                Some(found) => found,
                None => {
                    let (number, newest) = (block.number, head.number);
                    let found = self.block(head, number).await?;
                    found
                        .with_context(|| format!("the RPC endpoint has no block {number}, its newest is {newest}"))
                        .transient()?
                }
            };
            if found.hash != block.hash {
                forgotten.push(block);
            }
            there.insert(found.number, found);
        }
        Ok(forgotten)
    }

    /// The block at a height, if the endpoint has one.
    async fn block(&self, head: Head, number: u64) -> Result<Option<Block>> {
        if number == head.number {
            return Ok(Some(head.block()));
        }
        let found = self.client.get_block(number).await.map_err(rpc_fault)?;
        Ok(found.and_then(|block| block.hash).map(|hash| Block { number, hash: to_hex(hash) }))
    }
}

impl Head {
    fn block(self) -> Block {
        Block { number: self.number, hash: to_hex(self.hash) }
    }
}
