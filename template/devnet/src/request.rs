//! Making inference requests and reading the answers.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use anyhow::{Context as _, Result};
use ethers::{
    contract::{EthEvent as _, parse_log},
    types::{Address, Filter, H256, Log, U256},
    utils::{format_units, keccak256},
};
use serde::Serialize;

use crate::{
    contracts::{Consumption, ConsumptionString, consumption, consumption_string},
    deploy::InferenceEncoding,
    network::Network,
    sender::Call,
    wait::wait_for,
};

/// What a `uint256` answer is scaled by.
const DECIMALS: u32 = 18;

/// A request that is on chain.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    pub id: H256,
    pub input: String,
    pub consumer: Address,
    pub block: u64,
    /// By the chain's clock.
    pub time: u64,
}

/// A modeler's answer to a request.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    pub request_id: H256,
    pub modeler: Address,
    /// As it was submitted: an integer scaled by 10^18, or a decimal.
    pub inference: String,
    pub value: f64,
    pub transaction: H256,
    pub block: u64,
    /// By the chain's clock.
    pub time: u64,
    /// Seconds from the request, by the chain's clock.
    pub seconds: u64,
    /// Blocks from the request: finer than the clock, which counts whole seconds.
    pub blocks: u64,
}

impl Network {
    /// Makes one request.
    pub async fn request(&self, input: &str) -> Result<Request> {
        let mut made = self.requests(&[input.to_owned()]).await?;
        made.pop().context("no request was made")
    }

    /// Makes requests, all at once. Equal inputs in one second would have one id: the chain refuses them.
    pub async fn requests(&self, inputs: &[String]) -> Result<Vec<Request>> {
        let consumption = self.consumption();
        let calls = inputs.iter().map(|input| {
            let call = consumption.make_consumer_request(input.clone());
            Call::new(format!("request an inference for `{input}`"), &call)
        });
        let receipts = self.parties.consumer.send_all(calls.collect()).await?;
        let mut logs = Vec::new();
        for receipt in receipts {
            let topic = consumption::ConsumerRequestMadeFilter::signature();
            let made = receipt.logs.into_iter().find(|log| log.topics.first() == Some(&topic));
            logs.push(made.context("the contract made no request")?);
        }
        self.read_requests(logs).await
    }

    /// Every request so far, oldest first.
    pub async fn all_requests(&self) -> Result<Vec<Request>> {
        let topic = consumption::ConsumerRequestMadeFilter::signature();
        let filter = Filter::new().address(self.deployment.consumption).topic0(topic);
        self.read_requests(self.logs(&filter, 0).await?).await
    }

    /// Wallets that nobody has asked about yet, the same on every run of a devnet.
    pub async fn fresh_wallets(&self, count: u64) -> Result<Vec<Address>> {
        let used = self.consumption().number_requests().call().await?.as_u64();
        Ok((used..used + count).map(nth_wallet).collect())
    }

    /// Our modeler's answers to some requests, in the order in which they were mined.
    pub async fn answers(&self, requests: &[Request]) -> Result<Vec<Answer>> {
        let logs = self.answer_logs(requests).await?;
        self.read_answers(requests, &logs).await
    }

    /// Waits for our modeler's answer to a request.
    pub async fn wait_answer(&self, request: &Request, timeout: Duration) -> Result<Answer> {
        let answers = self.wait_answers(std::slice::from_ref(request), timeout).await?;
        answers.into_iter().next().context("no answer")
    }

    /// Waits until our modeler has answered every request.
    pub async fn wait_answers(&self, requests: &[Request], timeout: Duration) -> Result<Vec<Answer>> {
        let all = wait_for(&self.node, "an answer to each request", timeout, || async {
            let logs = self.answer_logs(requests).await?;
            Ok((logs.len() >= requests.len()).then_some(logs))
        });
        match all.await {
            Ok(logs) => self.read_answers(requests, &logs).await,
            Err(error) => {
                let logs = self.answer_logs(requests).await?;
                let answered = |id| logs.iter().any(|log| log.topics.get(2) == Some(&id));
                let open = requests.iter().map(|request| request.id).filter(|id| !answered(*id));
                let open: Vec<_> = open.map(|id| format!("{id:?}")).collect();
                Err(error.context(format!("not answered: {}", open.join(", "))))
            }
        }
    }

    /// The logs of our modeler's answers to some requests.
    async fn answer_logs(&self, requests: &[Request]) -> Result<Vec<Log>> {
        let Some(first) = requests.iter().map(|request| request.block).min() else {
            return Ok(Vec::new());
        };
        let filter = Filter::new()
            .address(self.deployment.consumption)
            .topic0(vec![
                consumption::InferenceSubmittedFilter::signature(),
                consumption_string::InferenceSubmittedFilter::signature(),
            ])
            .topic1(H256::from(self.deployment.modeler));
        // One is asked for by its id: a busy contract's logs are many.
        let filter = if let [request] = requests { filter.topic2(request.id) } else { filter };
        let asked: HashSet<_> = requests.iter().map(|request| request.id).collect();
        let mut logs = self.logs(&filter, first).await?;
        logs.retain(|log| log.topics.get(2).is_some_and(|id| asked.contains(id)));
        Ok(logs)
    }

    async fn read_answers(&self, requests: &[Request], logs: &[Log]) -> Result<Vec<Answer>> {
        let asked: HashMap<_, _> = requests.iter().map(|request| (request.id, request)).collect();
        let times = self.block_times(logs.iter().filter_map(block_of)).await?;
        logs.iter().map(|log| read_answer(asked[&log.topics[2]], log, &times)).collect()
    }

    /// The Consumption contract, as far as its two forms are the same.
    pub fn consumption(&self) -> Consumption<ethers::providers::Provider<crate::rpc::Rpc>> {
        Consumption::new(self.deployment.consumption, self.node.clone())
    }

    async fn read_requests(&self, logs: Vec<Log>) -> Result<Vec<Request>> {
        let times = self.block_times(logs.iter().filter_map(block_of)).await?;
        let mut requests = Vec::with_capacity(logs.len());
        for log in logs {
            let block = block_of(&log).context("the request is in no block yet")?;
            let made: consumption::ConsumerRequestMadeFilter = parse_log(log)?;
            let id = H256(made.request_id);
            let input = self.input_of(id).await?;
            let time = times.get(&block).copied().unwrap_or_default();
            requests.push(Request { id, input, consumer: made.consumer, block, time });
        }
        Ok(requests)
    }

    async fn input_of(&self, id: H256) -> Result<String> {
        let address = self.deployment.consumption;
        Ok(match self.deployment.encoding {
            InferenceEncoding::Uint256 => self.consumption().inference_requests(id.0).call().await?.3,
            InferenceEncoding::String => {
                let contract = ConsumptionString::new(address, self.node.clone());
                contract.inference_requests(id.0).call().await?.input
            }
        })
    }
}

/// Wallets to ask about, the same everywhere. Nobody has their keys.
pub fn nth_wallet(number: u64) -> Address {
    Address::from_slice(&keccak256(format!("devnet wallet {number}"))[12..])
}

fn block_of(log: &Log) -> Option<u64> {
    log.block_number.map(|number| number.as_u64())
}

fn read_answer(request: &Request, log: &Log, times: &HashMap<u64, u64>) -> Result<Answer> {
    let block = block_of(log).context("the answer is in no block yet")?;
    let time = times.get(&block).copied().unwrap_or_default();
    let (inference, value) = if log.topics[0] == consumption::InferenceSubmittedFilter::signature() {
        let answer: consumption::InferenceSubmittedFilter = parse_log(log.clone())?;
        (answer.inference.to_string(), unscale(answer.inference)?)
    } else {
        let answer: consumption_string::InferenceSubmittedFilter = parse_log(log.clone())?;
        let value = answer.inference.parse();
        let value = value.with_context(|| format!("`{}` is no number", answer.inference))?;
        (answer.inference, value)
    };
    Ok(Answer {
        request_id: request.id,
        modeler: Address::from(log.topics[1]),
        inference,
        value,
        transaction: log.transaction_hash.context("the answer is in no transaction")?,
        block,
        time,
        seconds: time.saturating_sub(request.time),
        blocks: block.saturating_sub(request.block),
    })
}

fn unscale(inference: U256) -> Result<f64> {
    Ok(format_units(inference, DECIMALS)?.parse()?)
}

/// Reads a request's id.
pub fn parse_request_id(text: &str) -> Result<H256, String> {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    if digits.len() != 64 {
        return Err(format!("`{text}` is no request id: expected 0x and 64 hex digits"));
    }
    text.parse().map_err(|error| format!("`{text}` is no request id: {error}"))
}
