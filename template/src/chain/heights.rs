//! Endpoints that answer, and have not the chain's newest blocks: they are asked last, until they have caught up.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ethers::types::U256;
use futures::future::join_all;
use serde::Deserialize;

use super::MAX_TIME;
use super::rpc::{Endpoint, Transport, call_body};

/// An endpoint whose newest block is so much older than another's is asked last: a tenth of the SLA's 600 s.
const MAX_LAG: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Newest {
    number: U256,
    timestamp: U256,
}

impl Transport {
    /// Asks every endpoint for its newest block, and finds out which of them are behind. One that does not answer stays what it was.
    pub async fn compare_heights(&self) {
        if self.endpoints.len() < 2 {
            return;
        }
        let found = join_all(self.endpoints.iter().map(|endpoint| self.newest_of(endpoint))).await;
        let times = found.iter().flatten().map(|block| block.timestamp);
        // One that shows a time which no chain has makes no other late.
        let Some(newest) = times.filter(|time| *time <= MAX_TIME.into()).max() else { return };
        for (endpoint, block) in self.endpoints.iter().zip(found) {
            let Some(block) = block else { continue };
            let lag = newest.saturating_sub(block.timestamp);
            let is_behind = lag > MAX_LAG.as_secs().into();
            if endpoint.is_behind.swap(is_behind, Ordering::Relaxed) == is_behind {
                continue;
            }
            let (endpoint, number) = (&endpoint.name, block.number.to_string());
            match is_behind {
                true => {
                    tracing::warn!(endpoint, number, lag_secs = %lag, "this RPC endpoint is behind another: it is asked last")
                }
                false => tracing::info!(endpoint, number, "this RPC endpoint has caught up"),
            }
        }
    }

    async fn newest_of(&self, endpoint: &Endpoint) -> Option<Newest> {
        const METHOD: &str = "eth_getBlockByNumber";
        let body = call_body(self.next_id(), METHOD, ("latest", false)).ok()?;
        let answer = self.request_one(endpoint, METHOD, &body).await.ok()?;
        serde_json::from_slice(&answer).ok()
    }
}

#[cfg(test)]
mod tests {
    use ethers::providers::JsonRpcClient as _;
    use secrecy::SecretString;
    use serde_json::Value;

    use super::*;
    use crate::services::test_server::{Reply, Server};

    /// A node whose newest block is of this time.
    async fn node(times: &[u64]) -> Server {
        let block =
            |time| format!(r#"{{"jsonrpc": "2.0", "id": 1, "result": {{"number": "0x7", "timestamp": "{time:#x}"}}}}"#);
        Server::answering(times.iter().map(|time| Reply::ok(block(*time))).collect()).await
    }

    async fn transport(servers: &[&Server]) -> Transport {
        let urls: Vec<_> = servers.iter().map(|server| SecretString::from(server.url())).collect();
        Transport::new(&urls).unwrap()
    }

    async fn asked_first(transport: &Transport, servers: &[&Server]) -> usize {
        let before: Vec<_> = servers.iter().map(|server| server.requests().len()).collect();
        let _: Value = transport.request("eth_call", ("0x1", "latest")).await.unwrap();
        servers.iter().zip(before).position(|(server, before)| server.requests().len() > before).unwrap()
    }

    #[tokio::test]
    async fn one_that_is_behind_is_asked_last_until_it_has_caught_up() {
        let (first, second) = (node(&[1000, 1000, 2000, 2000]).await, node(&[1061, 1061, 2000, 2000]).await);
        let servers = [&first, &second];
        let transport = transport(&servers).await;
        transport.compare_heights().await;
        assert_eq!(asked_first(&transport, &servers).await, 1);
        assert_eq!(first.requests().len(), 1, "not asked for anything but its newest block");
        transport.compare_heights().await;
        transport.compare_heights().await;
        let both_are_level = transport.endpoints.iter().all(|endpoint| !endpoint.is_behind.load(Ordering::Relaxed));
        assert!(both_are_level);
    }

    #[tokio::test]
    async fn a_little_behind_is_level_and_one_alone_is_asked_nothing() {
        let (first, second) = (node(&[1000]).await, node(&[1060]).await);
        let servers = [&first, &second];
        let transport = transport(&servers).await;
        transport.compare_heights().await;
        assert_eq!(asked_first(&transport, &servers).await, 0);
        let alone = node(&[1000]).await;
        Transport::new(&[SecretString::from(alone.url())]).unwrap().compare_heights().await;
        assert!(alone.requests().is_empty());
    }

    /// All endpoints that answer may be behind one that has failed since: they are asked all the same.
    #[tokio::test]
    async fn where_the_newest_is_gone_those_behind_are_asked() {
        let (first, second) = (node(&[1000]).await, node(&[2000]).await);
        let transport = transport(&[&first, &second]).await;
        transport.compare_heights().await;
        drop(second);
        let _: Value = transport.request("eth_chainId", [(); 0]).await.unwrap();
        assert_eq!(first.requests().len(), 2);
    }
}
