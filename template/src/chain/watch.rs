//! Logs → rows. One stream for requests, one for challenges, one for proofs asked for on chain, each with a cursor of its
//! own in the ledger: rows and cursor are written together, so none is missed.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use ethers::contract::EthEvent as _;
use ethers::providers::{Middleware as _, RpcError as _};
use ethers::types::{Address, BlockId, Filter, H256, Log, U64};
use futures::{StreamExt as _, stream};

use super::contracts::{
    ConsumerRequestMadeFilter, InferenceRequest, ProofRequestedFilter, ZkmlchallengeGivenFilter,
    decode_inference_request,
};
use super::log_scanner::{LogBatch, LogScan};
use super::{Chain, Head, request_id, to_hex};
use crate::fault::{Classify as _, Fault, Result};
use crate::ledger::{
    ChallengeKey, DeliveryChannel, Ledger, NewChallenge, NewRequest, Reading, RequestKey, RequestTerms, Rows,
};

/// Requests whose input is read at once, in one range of blocks.
const READS_AT_ONCE: usize = 8;
/// How long the watcher waits for what was asked, and no longer: who is to answer asks again.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

impl Chain {
    /// Reads all new blocks for inference requests. Returns how many rows are new, or came back after a reorg.
    pub async fn watch_requests(&self, ledger: &Ledger, head: Head) -> Result<u64> {
        let (stream, filter) = self.requests();
        let mut pass = LogScan::begin(self, ledger, &stream, filter, head, true).await?;
        let mut seen = 0;
        while let Some(range) = pass.next().await? {
            seen += self.see_requests(&pass, range).await?;
        }
        Ok(seen)
    }

    /// Reads a part of the blocks that an absence left for later. Their requests are too old to be answered, and are in
    /// the ledger to say so. True if there are more.
    pub async fn catch_up(&self, ledger: &Ledger) -> Result<bool> {
        let (stream, filter) = self.requests();
        let Some(gap) = ledger.gap(&stream).await? else { return Ok(false) };
        let pass = LogScan::backfill(self, ledger, &stream, filter, self.head().await?).await?;
        let range = pass.last_range(gap).await?;
        self.see_requests(&pass, range).await?;
        let left = ledger.gap(&stream).await?.is_some();
        if !left {
            tracing::info!("the blocks that were left for later are read");
        }
        Ok(left)
    }

    /// The stream of inference requests, and its logs.
    fn requests(&self) -> (String, Filter) {
        let at = self.consumption.address();
        (format!("requests:{}", to_hex(at)), Filter::new().address(at).topic0(ConsumerRequestMadeFilter::signature()))
    }

    /// Reads all new blocks for challenges to us, by validators and on the proof registry. Returns how many rows are new,
    /// or came back after a reorg.
    pub async fn watch_challenges(&self, ledger: &Ledger, head: Head) -> Result<u64> {
        let ours = H256::from(self.modeler());
        let at = self.modeler_contract.address();
        let given = Filter::new().address(at).topic0(ZkmlchallengeGivenFilter::signature()).topic2(ours);
        let mut seen =
            self.watch_route(ledger, &format!("challenges:{}", to_hex(at)), given, DeliveryChannel::Ipfs, head).await?;
        if let Some(registry) = &self.registry {
            let at = registry.contract.address();
            let asked = Filter::new().address(at).topic0(ProofRequestedFilter::signature()).topic2(ours);
            seen += self
                .watch_route(ledger, &format!("proofs:{}", to_hex(at)), asked, DeliveryChannel::Chain, head)
                .await?;
        }
        Ok(seen)
    }

    async fn watch_route(
        &self,
        ledger: &Ledger,
        stream: &str,
        filter: Filter,
        route: DeliveryChannel,
        head: Head,
    ) -> Result<u64> {
        let mut pass = LogScan::begin(self, ledger, stream, filter, head, false).await?;
        let mut seen = 0;
        while let Some(range) = pass.next().await? {
            self.orphan_missing_rows(&pass, &range, Rows::Challenges).await?;
            let challenges: Vec<_> = range.logs.into_iter().filter_map(|log| self.read_challenge(log, route)).collect();
            seen += ledger.insert_challenges(&range.read, &challenges).await?;
        }
        Ok(seen)
    }

    /// Writes the requests of a range. What the ledger knows from the same block is not asked for again.
    async fn see_requests(&self, pass: &LogScan<'_>, range: LogBatch<'_>) -> Result<u64> {
        self.orphan_missing_rows(pass, &range, Rows::Requests).await?;
        let (contract, logs) = (to_hex(self.consumption.address()), decoded(range.logs));
        let ids: Vec<String> = logs.iter().map(|log| to_hex(log.id)).collect();
        let known = pass.ledger.known_requests(&contract, &ids).await?;
        let unknown = logs.into_iter().filter(|log| known.get(&to_hex(log.id)) != Some(&log.block_hash));
        let reads: Vec<_> = unknown.map(|log| self.see_request(log, pass.head)).collect();
        let requests: Vec<NewRequest> = stream::iter(reads).buffered(READS_AT_ONCE).collect().await;
        pass.ledger.insert_requests(&range.read, &requests, pass.head.time).await
    }

    /// A row whose block is not among those that the range's logs come from may be of another branch of the chain.
    async fn orphan_missing_rows(&self, pass: &LogScan<'_>, range: &LogBatch<'_>, rows: Rows) -> Result<()> {
        let named: HashSet<String> = range.logs.iter().filter_map(|log| log.block_hash.map(to_hex)).collect();
        let blocks = (range.read.first, range.read.last);
        self.orphan_rows(pass.ledger, pass.head, rows, blocks, |hash| named.contains(hash)).await
    }

    /// A request as its log and the contract tell it. One that the contract does not tell soon is in the ledger all the same, and is
    /// read again by who is to answer it: a node that lags, or that does not answer one call, holds up no other request.
    async fn see_request(&self, log: RequestLog, head: Head) -> NewRequest {
        let contract = to_hex(self.consumption.address());
        let id = to_hex(log.id);
        let read = tokio::time::timeout(READ_TIMEOUT, self.read_request(&contract, &id, &log.block_hash));
        let read = read.await.unwrap_or_else(|_| {
            Err(Fault::Transient(anyhow!("the contract does not tell within {READ_TIMEOUT:?} what was asked")))
        });
        let reading = match read {
            Ok(terms) => Reading::Terms(terms),
            Err(fault) => {
                let reason = fault.to_string();
                tracing::warn!(request = id, reason, "a request cannot be read yet");
                let made = tokio::time::timeout(READ_TIMEOUT, self.time_of_block(&log.block_hash));
                let made = made.await.ok().flatten().unwrap_or(head.time);
                let deadline = made.saturating_add(self.sla().as_secs());
                Reading::Failed { consumer: to_hex(log.consumer), deadline, reason }
            }
        };
        NewRequest { key: RequestKey { contract, id }, block: log.block, block_hash: log.block_hash, reading }
    }

    /// What the contract tells of a request, asked at the block of its log: a node that does not have this block says so
    /// instead of knowing nothing of the request. Where a node refuses that, because it keeps no states of old blocks or takes no
    /// hash there, the newest state tells: what was asked never changes.
    ///
    /// # Errors
    /// `Transient`: that one node does not know a request yet says nothing of the others.
    pub async fn read_request(&self, contract: &str, id: &str, block_hash: &str) -> Result<RequestTerms> {
        let read = async {
            let id = request_id(id)?;
            let at = super::address("the ledger's contract", contract)?;
            let call = super::Consumption::new(at, self.client.clone()).inference_requests(id.into()).tx;
            let block = block_hash.parse::<H256>().context("the hash of its block").transient()?;
            let answer = match self.client.call(&call, Some(BlockId::Hash(block))).await {
                // What no node answers is not asked once more.
                Err(error) if error.as_error_response().is_none() => return Err(super::rpc_fault(error)),
                Ok(answer) => told(id, &answer).ok(),
                Err(_) => None,
            };
            match answer {
                Some(request) => Ok(request),
                None => told(id, &self.client.call(&call, None).await.map_err(super::rpc_fault)?).transient(),
            }
        };
        let read = read.await.map_err(|fault| fault.context(format!("cannot read request {id}")));
        match &read {
            Ok(_) => self.read_failures.record_success(),
            Err(fault) => self.read_failures.record_failure(fault.to_string()),
        }
        let request = read?;
        Ok(RequestTerms {
            input: request.input,
            consumer: to_hex(request.consumer),
            requested: request.requested,
            deadline: request.requested.saturating_add(self.sla().as_secs()),
        })
    }

    /// Why requests cannot be read, if several in a row could not.
    pub fn failure_reason(&self) -> Option<String> {
        self.read_failures.failure_reason()
    }

    /// When a block was made, on the chain's clock; `None` if the node does not tell.
    async fn time_of_block(&self, hash: &str) -> Option<u64> {
        let block = self.client.get_block(hash.parse::<H256>().ok()?).await.ok()??;
        super::to_u64("a block's time", block.timestamp).ok()
    }

    /// True if the chain holds our answer to this request already.
    pub async fn has_answer(&self, contract: &str, request: &str) -> Result<bool> {
        let contract = super::address("the ledger's contract", contract)?;
        super::Consumption::new(contract, self.client.clone())
            .modeler_has_responded(self.modeler(), request_id(request)?.into())
            .call()
            .await
            .map_err(|error| super::call_fault(error, "modelerHasResponded"))
    }

    /// A challenge as its log tells it; `None`, and a line in the log, for one that cannot be read or is not to us.
    fn read_challenge(&self, log: Log, route: DeliveryChannel) -> Option<NewChallenge> {
        let asked_in = log.transaction_hash.map(to_hex).unwrap_or_default();
        let read = read_challenge(log, route);
        match read {
            Some((challenge, modeler)) if modeler == self.modeler() => Some(challenge),
            Some((_, modeler)) => {
                tracing::warn!(
                    asked_in,
                    modeler = to_hex(modeler),
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

/// The request that the contract's answer tells of.
fn told(id: H256, answer: &[u8]) -> anyhow::Result<InferenceRequest> {
    decode_inference_request(id, answer)?.context("the contract does not know the request that its log names")
}

/// Where a request was made, as its log tells it.
struct RequestLog {
    id: H256,
    consumer: Address,
    block: u64,
    block_hash: String,
}

/// What the logs tell. One that is no request of the contract is left out, with a line in the log.
fn decoded(logs: Vec<Log>) -> Vec<RequestLog> {
    let decode = |log: Log| {
        let block = log.block_number.unwrap_or_default().as_u64();
        let block_hash = to_hex(log.block_hash.unwrap_or_default());
        match ConsumerRequestMadeFilter::decode_log(&log.into()) {
            Ok(event) => Some(RequestLog { id: event.request_id.into(), consumer: event.consumer, block, block_hash }),
            Err(_) => {
                tracing::warn!(block, "a ConsumerRequestMade log cannot be decoded");
                None
            }
        }
    };
    logs.into_iter().filter_map(decode).collect()
}

/// The challenge, and the modeler whom it is for.
fn read_challenge(log: Log, route: DeliveryChannel) -> Option<(NewChallenge, Address)> {
    let key =
        ChallengeKey { transaction_hash: to_hex(log.transaction_hash?), log_index: log.log_index?.try_into().ok()? };
    let block = log.block_number.as_ref().map_or(0, U64::as_u64);
    let block_hash = to_hex(log.block_hash.unwrap_or_default());
    let contract = log.address;
    let (asker, payload, modeler) = match route {
        DeliveryChannel::Ipfs => {
            let event = ZkmlchallengeGivenFilter::decode_log(&log.into()).ok()?;
            (event.validator, event.ipfs_challenge, event.modeler)
        }
        DeliveryChannel::Chain => {
            let event = ProofRequestedFilter::decode_log(&log.into()).ok()?;
            (contract, to_hex(H256(event.request_id)), event.modeler)
        }
    };
    let (contract, asker) = (to_hex(contract), to_hex(asker));
    Some((NewChallenge { key, contract, route, requester: asker, payload, block, block_hash }, modeler))
}
