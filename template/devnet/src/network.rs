//! The deployed contracts and those who use them: what can be done on a devnet and on a Testnet alike.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, Result, bail};
use ethers::{
    providers::Middleware as _,
    types::{Address, Filter, Log},
};
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};

use crate::{
    contracts::Competition,
    deploy::{self, Deployment},
    keys::Accounts,
    rpc,
    rpc::Node,
    sender::{Call, Sender},
};

/// How many blocks are searched for logs at once, where the node allows it; and what public ones usually allow.
const LOG_RANGE: u64 = 50_000;
const PUBLIC_LOG_RANGE: u64 = 1_000;

/// Where Plumber and the IPFS gateway are, and the key to Plumber.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServicesAt {
    pub url: String,
    pub api_key: String,
}

/// Contracts on a chain, and the keys to act with.
#[derive(Clone, Debug)]
pub struct Network {
    pub node: Node,
    pub deployment: Deployment,
    pub parties: Accounts,
    /// None where nothing serves them.
    pub services: Option<ServicesAt>,
}

impl Network {
    /// All logs that a filter finds since the deployment, or since `from` where that is later.
    pub async fn logs(&self, filter: &Filter, from: u64) -> Result<Vec<Log>> {
        let head = self.node.get_block_number().await?.as_u64();
        let mut start = from.max(self.deployment.block);
        let mut range = if rpc::is_public(&self.node) { PUBLIC_LOG_RANGE } else { LOG_RANGE };
        let mut logs = Vec::new();
        while start <= head {
            let end = head.min(start + range - 1);
            let part = filter.clone().from_block(start).to_block(end);
            match self.node.get_logs(&part).await {
                Ok(found) => {
                    logs.extend(found);
                    start = end + 1;
                }
                // Many providers allow short ranges only.
                Err(_) if range > 1 => range /= 2,
                Err(error) => bail!("cannot read the logs of block {start}: {error}"),
            }
        }
        Ok(logs)
    }

    /// The same network, on which somebody else makes the requests.
    pub fn with_consumer(&self, consumer: Arc<Sender>) -> Self {
        Self { parties: Accounts { consumer, ..self.parties.clone() }, ..self.clone() }
    }

    /// When each block was made, by the chain's clock.
    pub async fn block_times(&self, blocks: impl IntoIterator<Item = u64>) -> Result<HashMap<u64, u64>> {
        let mut times = HashMap::new();
        for number in blocks {
            if times.contains_key(&number) {
                continue;
            }
            let block = self.node.get_block(number).await?;
            let block = block.with_context(|| format!("the node has no block {number}"))?;
            times.insert(number, block.timestamp.as_u64());
        }
        Ok(times)
    }

    /// Uploads a file through Plumber and returns its CID.
    pub async fn upload(&self, content: Vec<u8>) -> Result<String> {
        let services = self.services()?;
        let request = rpc::http_client()?
            .post(format!("{}/api/v1/ipfs", services.url))
            .bearer_auth(&services.api_key)
            .body(content);
        let response = request.send().await.context("Plumber was not reached")?;
        if response.status() != StatusCode::OK {
            bail!("Plumber refused the upload: {}", response.status());
        }
        Ok(response.text().await?.trim().to_owned())
    }

    /// Reads a file from the IPFS gateway.
    pub async fn download(&self, cid: &str) -> Result<Vec<u8>> {
        let mut url: Url = self.services()?.url.parse().context("the services' URL")?;
        url.set_path(&format!("/ipfs/{cid}"));
        let response = rpc::http_client()?.get(url).send().await.context("the gateway was not reached")?;
        if response.status() != StatusCode::OK {
            bail!("the gateway has no file {cid}: {}", response.status());
        }
        Ok(response.bytes().await?.to_vec())
    }

    /// Deploys another Consumption contract that takes requests; the Competition goes on naming the first.
    pub async fn deploy_another_consumption(&self) -> Result<Address> {
        deploy::another_consumption(&self.node, &self.parties.admin, &self.parties.consumer, &self.deployment).await
    }

    /// Opens or closes the window, as the owner.
    pub async fn set_window(&self, open: bool) -> Result<()> {
        let what = if open { "open the window" } else { "close the window" };
        let call = self.consumption().toggle_consumption_window(open);
        self.parties.admin.send(Call::new(what, &call)).await.map(drop)
    }

    /// Replaces the ranking, as the owner.
    pub async fn set_top_n(&self, modelers: Vec<Address>) -> Result<()> {
        let competition = Competition::new(self.deployment.competition, self.node.clone());
        let call = competition.set_top_n_modelers(modelers);
        self.parties.admin.send(Call::new("set the top N modelers", &call)).await.map(drop)
    }

    fn services(&self) -> Result<&ServicesAt> {
        self.services.as_ref().context("no Plumber is known for this network: it has no services")
    }
}
