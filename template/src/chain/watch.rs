//! Logs → rows. One stream for requests, one for challenges, one for proofs asked for on chain, each with a cursor of its
//! own in the ledger: rows and cursor are written together, so no log is read for nothing and none is missed.

use std::sync::atomic::Ordering;

use anyhow::Context as _;
use ethers::contract::EthEvent as _;
use ethers::providers::{Middleware as _, RpcError as _};
use ethers::types::{Address, Filter, H256, Log, U64};
use futures::{StreamExt as _, TryStreamExt as _, future, stream};

use super::contracts::{
    ConsumerRequestMadeFilter, ProofRequestedFilter, ZkmlchallengeGivenFilter, decode_inference_request,
};
use super::{Chain, Head, text, unreachable};
use crate::fault::{Classify as _, Fault, Result};
use crate::ledger::{ChallengeKey, Ledger, RequestKey, Route, SeenChallenge, SeenRequest};

/// Requests whose input is read at once, in one range of blocks.
const READS_AT_ONCE: usize = 8;

/// A request that the contract does not know this many blocks after its log never comes: no replica lags so far.
const SETTLED: u64 = 64;

/// A walk over the blocks that a stream has not read yet, range by range.
struct Walk<'a> {
    chain: &'a Chain,
    stream: &'a str,
    filter: Filter,
    from: u64,
    end: u64,
}

/// The logs of a range of blocks.
struct Range {
    logs: Vec<Log>,
    last: u64,
}

impl Walk<'_> {
    /// The next range, `None` at the newest block that is deep enough. A provider that refuses a range is asked for half
    /// of it at once, one that does not answer in the next pass; after each success a little more is asked for again.
    async fn next(&mut self) -> Result<Option<Range>> {
        let range = &self.chain.log_range;
        while self.from <= self.end {
            let blocks = range.load(Ordering::Relaxed).max(1);
            let last = self.end.min(self.from + blocks - 1);
            let wanted = self.filter.clone().from_block(self.from).to_block(last);
            match self.chain.client.get_logs(&wanted).await {
                Ok(logs) => {
                    let more = (blocks + blocks.div_ceil(8)).min(self.chain.settings.log_range);
                    range.store(more, Ordering::Relaxed);
                    self.from = last + 1;
                    return Ok(Some(Range { logs, last }));
                }
                Err(error) => {
                    range.store((blocks / 2).max(1), Ordering::Relaxed);
                    if blocks == 1 || error.as_error_response().is_none() {
                        let doing = format!("cannot read the logs of blocks {} to {last}", self.from);
                        return Err(unreachable(error).context(doing));
                    }
                    tracing::debug!(stream = self.stream, blocks, %error, "asking for half of the blocks");
                }
            }
        }
        Ok(None)
    }
}

impl Chain {
    /// Reads all new blocks for inference requests. Returns how many are new in the ledger.
    pub async fn watch_requests(&self, ledger: &Ledger, head: Head) -> Result<u64> {
        let at = self.consumption.address();
        let stream = format!("requests:{}", text(at));
        let filter = Filter::new().address(at).topic0(ConsumerRequestMadeFilter::signature());
        let mut walk = self.walk(ledger, &stream, filter, head).await?;
        let mut seen = 0;
        while let Some(Range { logs, last }) = walk.next().await? {
            let reads: Vec<_> = logs.into_iter().map(|log| self.read_request(log, walk.end)).collect();
            let requests: Vec<SeenRequest> = stream::iter(reads)
                .buffered(READS_AT_ONCE)
                .try_filter_map(|request| future::ready(Ok(request)))
                .try_collect()
                .await?;
            seen += ledger.see_requests(&stream, &requests, last + 1, head.time).await?;
        }
        Ok(seen)
    }

    /// Reads all new blocks for challenges to us, by validators and on the proof registry. Returns how many are new.
    pub async fn watch_challenges(&self, ledger: &Ledger, head: Head) -> Result<u64> {
        let ours = H256::from(self.modeler());
        let at = self.modeler_contract.address();
        let given = Filter::new().address(at).topic0(ZkmlchallengeGivenFilter::signature()).topic2(ours);
        let mut seen = self.watch_route(ledger, &format!("challenges:{}", text(at)), given, Route::Ipfs, head).await?;
        if let Some(registry) = &self.registry {
            let at = registry.contract.address();
            let asked = Filter::new().address(at).topic0(ProofRequestedFilter::signature()).topic2(ours);
            seen += self.watch_route(ledger, &format!("proofs:{}", text(at)), asked, Route::Chain, head).await?;
        }
        Ok(seen)
    }

    async fn watch_route(
        &self,
        ledger: &Ledger,
        stream: &str,
        filter: Filter,
        route: Route,
        head: Head,
    ) -> Result<u64> {
        let mut walk = self.walk(ledger, stream, filter, head).await?;
        let mut seen = 0;
        while let Some(Range { logs, last }) = walk.next().await? {
            let challenges: Vec<_> = logs.into_iter().filter_map(|log| self.read_challenge(log, route)).collect();
            seen += ledger.see_challenges(stream, &challenges, last + 1).await?;
        }
        Ok(seen)
    }

    /// From the stream's cursor to the newest block that is deep enough.
    async fn walk<'a>(&'a self, ledger: &Ledger, stream: &'a str, filter: Filter, head: Head) -> Result<Walk<'a>> {
        let from = match ledger.cursor(stream).await? {
            Some(block) => block,
            None => self.first_block(head).await?,
        };
        // A chain younger than the confirmations has nothing to read yet.
        let end = head.number.checked_sub(self.settings.confirmations);
        let (from, end) = end.map_or((1, 0), |end| (from, end));
        Ok(Walk { chain: self, stream, filter, from, end })
    }

    /// Where a ledger without cursor begins: as far back as the SLA reaches, found by halving on block times.
    async fn first_block(&self, head: Head) -> Result<u64> {
        if let Some(start) = self.settings.start_block {
            return Ok(start);
        }
        let oldest_time = head.time.saturating_sub(self.sla.as_secs());
        let (mut too_old, mut young_enough) = (0, head.number);
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

    /// A request as its log and the contract tell it; `None` for a log that is no request of the contract. `newest` is the
    /// last block of this pass.
    async fn read_request(&self, log: Log, newest: u64) -> Result<Option<SeenRequest>> {
        let block = log.block_number.unwrap_or_default().as_u64();
        let block_hash = text(log.block_hash.unwrap_or_default());
        let Ok(event) = ConsumerRequestMadeFilter::decode_log(&log.into()) else {
            tracing::warn!(block, "a ConsumerRequestMade log cannot be decoded");
            return Ok(None);
        };
        let id = H256(event.request_id);
        let call = self.consumption.inference_requests(event.request_id).tx;
        let answer = self.client.call(&call, None).await.map_err(unreachable)?;
        let read = decode_inference_request(id, &answer)
            .and_then(|request| request.context("the contract does not know the request that its log names"));
        let unreadable = match read {
            Ok(request) => {
                return Ok(Some(SeenRequest {
                    key: RequestKey { contract: text(self.consumption.address()), id: text(id) },
                    input: request.input,
                    consumer: text(request.consumer),
                    block,
                    block_hash,
                    requested: request.requested,
                    deadline: request.requested.saturating_add(self.sla.as_secs()),
                    unreadable: None,
                }));
            }
            Err(error) => error.context(format!("request {}", text(id))),
        };
        // A replica that lags behind the one that gave the log: the range is read again.
        if block + SETTLED > newest {
            return Err(Fault::Retry(unreadable));
        }
        tracing::error!(reason = format!("{unreadable:#}"), "a request cannot be read");
        Ok(Some(SeenRequest {
            key: RequestKey { contract: text(self.consumption.address()), id: text(id) },
            input: String::new(),
            consumer: text(event.consumer),
            block,
            block_hash,
            requested: 0,
            deadline: 0,
            unreadable: Some(format!("{unreadable:#}")),
        }))
    }

    /// True if the chain holds our answer to this request already.
    pub(super) async fn has_responded(&self, contract: Address, id: H256) -> Result<bool> {
        super::Consumption::new(contract, self.client.clone())
            .modeler_has_responded(self.modeler(), id.into())
            .call()
            .await
            .map_err(|error| super::call_fault(error, "modelerHasResponded"))
    }

    /// A challenge as its log tells it; `None`, and a line in the log, for one that cannot be read or is not to us.
    fn read_challenge(&self, log: Log, route: Route) -> Option<SeenChallenge> {
        let asked_in = log.transaction_hash.map(text).unwrap_or_default();
        let read = read_challenge(log, route);
        match read {
            Some((challenge, modeler)) if modeler == self.modeler() => Some(challenge),
            Some((_, modeler)) => {
                tracing::warn!(
                    asked_in,
                    modeler = text(modeler),
                    "the RPC endpoint gave us a challenge to somebody else"
                );
                None
            }
            None => {
                tracing::warn!(asked_in, "a challenge cannot be decoded");
                None
            }
        }
    }
}

/// The challenge, and the modeler whom it is for.
fn read_challenge(log: Log, route: Route) -> Option<(SeenChallenge, Address)> {
    let key = ChallengeKey { transaction_hash: text(log.transaction_hash?), log_index: log.log_index?.as_u64() };
    let block = log.block_number.as_ref().map_or(0, U64::as_u64);
    let registry = log.address;
    let (asker, payload, modeler) = match route {
        Route::Ipfs => {
            let event = ZkmlchallengeGivenFilter::decode_log(&log.into()).ok()?;
            (event.validator, event.ipfs_challenge, event.modeler)
        }
        Route::Chain => {
            let event = ProofRequestedFilter::decode_log(&log.into()).ok()?;
            (registry, text(H256(event.request_id)), event.modeler)
        }
    };
    Some((SeenChallenge { key, route, asker: text(asker), payload, block }, modeler))
}
