//! Logs → rows. One stream for requests, one for challenges, one for proofs asked for on chain, each with a cursor of its
//! own in the ledger: rows and cursor are written together, so no log is read for nothing and none is missed.

use anyhow::Context as _;
use ethers::contract::EthEvent as _;
use ethers::providers::{Middleware as _, RpcError as _};
use ethers::types::{Address, Filter, H256, Log, U64};
use futures::{StreamExt as _, TryStreamExt as _, future, stream};

use super::contracts::{
    ConsumerRequestMadeFilter, ProofRequestedFilter, ZkmlchallengeGivenFilter, decode_inference_request,
};
use super::{Chain, text, unreachable};
use crate::fault::{Classify as _, Fault, Result};
use crate::ledger::{ChallengeKey, Ledger, RequestKey, Route, SeenChallenge, SeenRequest};

/// Requests whose input is read at once, in one range of blocks.
const READS_AT_ONCE: usize = 8;

/// What a pass over the new blocks found.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Rows that are new in the ledger.
    pub new: u64,
    /// The highest block that was read, if any was.
    pub up_to: Option<u64>,
}

/// A walk over the blocks that a stream has not read yet, range by range.
struct Walk<'a> {
    chain: &'a Chain,
    stream: &'a str,
    filter: Filter,
    from: u64,
    end: u64,
    range: u64,
}

/// The logs of a range of blocks.
struct Range {
    logs: Vec<Log>,
    last: u64,
}

impl Walk<'_> {
    /// The next range, `None` at the newest block that is deep enough. A provider that refuses a range is asked for half
    /// of it.
    async fn next(&mut self) -> Result<Option<Range>> {
        while self.from <= self.end {
            let last = self.end.min(self.from + self.range - 1);
            let wanted = self.filter.clone().from_block(self.from).to_block(last);
            match self.chain.client.get_logs(&wanted).await {
                Ok(logs) => {
                    self.from = last + 1;
                    return Ok(Some(Range { logs, last }));
                }
                Err(error) if error.as_error_response().is_some() && self.range > 1 => {
                    self.range /= 2;
                    tracing::debug!(stream = self.stream, blocks = self.range, %error, "asking for half of the blocks");
                }
                Err(error) => {
                    let doing = format!("cannot read the logs of blocks {} to {last}", self.from);
                    return Err(unreachable(error).context(doing));
                }
            }
        }
        Ok(None)
    }
}

impl Chain {
    /// Reads all new blocks for inference requests.
    pub async fn watch_requests(&self, ledger: &Ledger) -> Result<Seen> {
        let at = self.consumption.address();
        let stream = format!("requests:{}", text(at));
        let filter = Filter::new().address(at).topic0(ConsumerRequestMadeFilter::signature());
        let mut walk = self.walk(ledger, &stream, filter).await?;
        let mut seen = Seen::default();
        while let Some(Range { logs, last }) = walk.next().await? {
            let reads: Vec<_> = logs.into_iter().map(|log| self.read_request(log)).collect();
            let requests: Vec<SeenRequest> = stream::iter(reads)
                .buffered(READS_AT_ONCE)
                .try_filter_map(|request| future::ready(Ok(request)))
                .try_collect()
                .await?;
            seen.new += ledger.see_requests(&stream, &requests, last + 1).await?;
            seen.up_to = Some(last);
        }
        Ok(seen)
    }

    /// Reads all new blocks for challenges to us, by validators and on the proof registry.
    pub async fn watch_challenges(&self, ledger: &Ledger) -> Result<Seen> {
        let ours = H256::from(self.modeler());
        let at = self.modeler_contract.address();
        let given = Filter::new().address(at).topic0(ZkmlchallengeGivenFilter::signature()).topic2(ours);
        let mut seen = self.watch_route(ledger, &format!("challenges:{}", text(at)), given, Route::Ipfs).await?;
        if let Some(registry) = &self.registry {
            let at = registry.contract.address();
            let asked = Filter::new().address(at).topic0(ProofRequestedFilter::signature()).topic2(ours);
            let more = self.watch_route(ledger, &format!("proofs:{}", text(at)), asked, Route::Chain).await?;
            seen = Seen { new: seen.new + more.new, up_to: seen.up_to.max(more.up_to) };
        }
        Ok(seen)
    }

    async fn watch_route(&self, ledger: &Ledger, stream: &str, filter: Filter, route: Route) -> Result<Seen> {
        let mut walk = self.walk(ledger, stream, filter).await?;
        let mut seen = Seen::default();
        while let Some(Range { logs, last }) = walk.next().await? {
            let challenges: Vec<_> = logs.into_iter().filter_map(|log| read_challenge(log, route)).collect();
            seen.new += ledger.see_challenges(stream, &challenges, last + 1).await?;
            seen.up_to = Some(last);
        }
        Ok(seen)
    }

    /// From the stream's cursor to the newest block that is deep enough.
    async fn walk<'a>(&'a self, ledger: &Ledger, stream: &'a str, filter: Filter) -> Result<Walk<'a>> {
        let newest = self.client.get_block_number().await.map_err(unreachable)?.as_u64();
        let from = match ledger.cursor(stream).await? {
            Some(block) => block,
            None => self.first_block(newest).await?,
        };
        // A chain younger than the confirmations has nothing to read yet.
        let end = newest.checked_sub(self.settings.confirmations);
        let (from, end) = end.map_or((1, 0), |end| (from, end));
        Ok(Walk { chain: self, stream, filter, from, end, range: self.settings.log_range.max(1) })
    }

    /// Where a ledger without cursor begins: as far back as the SLA reaches, found by halving on block times.
    async fn first_block(&self, newest: u64) -> Result<u64> {
        if let Some(start) = self.settings.start_block {
            return Ok(start);
        }
        let oldest_time = self.head().await?.time.saturating_sub(self.sla.as_secs());
        let (mut too_old, mut young_enough) = (0, newest);
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

    /// A request as its log and the contract tell it; `None` for a log that is no request of the contract.
    async fn read_request(&self, log: Log) -> Result<Option<SeenRequest>> {
        let block = log.block_number.unwrap_or_default().as_u64();
        let block_hash = log.block_hash.unwrap_or_default();
        let Ok(event) = ConsumerRequestMadeFilter::decode_log(&log.into()) else {
            tracing::warn!(block, "a ConsumerRequestMade log cannot be decoded");
            return Ok(None);
        };
        let id = H256(event.request_id);
        let call = self.consumption.inference_requests(event.request_id).tx;
        let answer = self.client.call(&call, None).await.map_err(unreachable)?;
        match decode_inference_request(id, &answer).with_context(|| format!("request {}", text(id))) {
            Ok(Some(request)) => Ok(Some(SeenRequest {
                key: RequestKey { contract: text(self.consumption.address()), id: text(id) },
                input: request.input,
                consumer: text(request.consumer),
                block,
                block_hash: text(block_hash),
                requested: request.requested,
                deadline: request.requested + self.sla.as_secs(),
            })),
            // A replica that lags behind the one that gave the log: the range is read again.
            Ok(None) => Err(Fault::Retry(anyhow::anyhow!(
                "the RPC endpoint has the log of request {} but not the request",
                text(id)
            ))),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "a request cannot be read");
                Ok(None)
            }
        }
    }

    /// True if the chain holds our answer to this request already.
    pub(super) async fn has_responded(&self, contract: Address, id: H256) -> Result<bool> {
        super::Consumption::new(contract, self.client.clone())
            .modeler_has_responded(self.modeler(), id.into())
            .call()
            .await
            .map_err(|error| super::contract_fault(error, "modelerHasResponded", "Consumption contract", contract))
    }
}

fn read_challenge(log: Log, route: Route) -> Option<SeenChallenge> {
    let key = ChallengeKey { transaction_hash: text(log.transaction_hash?), log_index: log.log_index?.as_u64() };
    let block = log.block_number.as_ref().map_or(0, U64::as_u64);
    let registry = log.address;
    let (asker, payload) = match route {
        Route::Ipfs => {
            let event = ZkmlchallengeGivenFilter::decode_log(&log.into()).ok()?;
            (event.validator, event.ipfs_challenge)
        }
        Route::Chain => {
            let event = ProofRequestedFilter::decode_log(&log.into()).ok()?;
            (registry, text(H256(event.request_id)))
        }
    };
    Some(SeenChallenge { key, route, asker: text(asker), payload, block })
}
