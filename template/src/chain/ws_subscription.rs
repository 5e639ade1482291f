//! Tells the watchers when there is something to read, where `NOVA_RPC_WS_URL` is set. It only saves waiting: the watchers
//! look by themselves too, and what they read they read over HTTP. Nothing depends on what comes from this socket.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use ethers::contract::EthEvent as _;
use ethers::types::{Address, H256, U64};
use futures::{SinkExt as _, StreamExt as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::Chain;
use super::contracts::{ConsumerRequestMadeFilter, ProofRequestedFilter, ZkmlchallengeGivenFilter};
use crate::http_client;
use crate::scrub::Scrubber;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A socket that tells of no block for so long is made anew.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest message that is read: a head or a log fits many times over.
const MAX_MESSAGE: usize = 1 << 20;
/// How often a socket that does not work is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// The endpoint that is read may be some blocks behind this one: the watchers are told once more so much later.
const REPLICA_LAG_BLOCKS: u64 = 8;
/// So many are told at once, whatever their block.
const MAX_PENDING: usize = 1024;
/// Where the logs are not told of, every head may hold some; this is how often the watchers look then.
const FALLBACK_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The ids of our subscriptions.
const HEADS: u64 = 1;
const LOGS: u64 = 2;

/// Who has something to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    Requests,
    Challenges,
}

/// What to listen to.
pub struct Listener {
    url: SecretString,
    consumption: Address,
    /// The contracts whose logs are challenges.
    challenge_contracts: Vec<Address>,
    confirmations: u64,
}

/// A connection: what it has told.
struct Session<'a> {
    listener: &'a Listener,
    notify: &'a (dyn Fn(Topic) + Send + Sync),
    head: Option<u64>,
    last_head: Instant,
    /// Who is to be told when the chain is so high.
    due: BTreeSet<(u64, Topic)>,
    /// The endpoint tells of logs; if not, each head may hold some.
    logs_supported: bool,
    last_notified: Option<Instant>,
    /// What must not be shown of what it says.
    scrubber: Scrubber,
}

#[derive(Deserialize)]
struct WsMessage {
    id: Option<u64>,
    error: Option<Value>,
    params: Option<Params>,
}

#[derive(Deserialize)]
struct Params {
    result: Event,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Event {
    Log {
        address: Address,
        #[serde(rename = "blockNumber")]
        block: Option<U64>,
    },
    Head {
        number: U64,
    },
}

impl Chain {
    /// `None` where no WebSocket is configured.
    pub fn listener(&self) -> Option<Listener> {
        let registry = self.registry.as_ref().map(|registry| registry.contract.address());
        Some(Listener {
            url: self.settings.rpc_ws_url.clone()?,
            consumption: self.consumption.address(),
            challenge_contracts: [Some(self.modeler_contract.address()), registry].into_iter().flatten().collect(),
            confirmations: self.settings.confirmations,
        })
    }
}

impl Listener {
    /// Listens for ever. A connection that breaks is made again after a while; the watchers have missed nothing then,
    /// because they are told to look as soon as the first head comes.
    pub async fn listen(&self, tell: impl Fn(Topic) + Send + Sync) -> Infallible {
        http_client::install_crypto();
        let waits = ExponentialBuilder::default()
            .with_min_delay(Duration::from_secs(1))
            .with_max_delay(Duration::from_secs(60))
            .without_max_times()
            .with_jitter();
        let (mut wait, mut said) = (waits.build(), None::<Instant>);
        loop {
            let mut session = Session::new(self, &tell);
            let Err(reason) = session.run().await;
            let reason = session.scrubber.text(reason);
            if session.head.is_some() {
                wait = waits.build();
            }
            if said.is_none_or(|said| said.elapsed() >= LOG_INTERVAL) {
                tracing::warn!(reason, "the WebSocket does not work (NOVA_RPC_WS_URL), polling goes on");
                said = Some(Instant::now());
            }
            tokio::time::sleep(wait.next().unwrap_or(LOG_INTERVAL)).await;
        }
    }
}

impl<'a> Session<'a> {
    fn new(listener: &'a Listener, tell: &'a (dyn Fn(Topic) + Send + Sync)) -> Self {
        Self {
            listener,
            notify: tell,
            head: None,
            last_head: Instant::now(),
            due: BTreeSet::new(),
            logs_supported: true,
            last_notified: None,
            scrubber: listener.url.expose_secret().parse().map(|url| Scrubber::of_url(&url)).unwrap_or_default(),
        }
    }

    /// Connects, subscribes, and hands on what comes, until it breaks. The error says why, without the URL.
    async fn run(&mut self) -> Result<Infallible, String> {
        let mut socket = connect(self.listener.url.expose_secret()).await?;
        for subscription in self.listener.subscriptions() {
            socket.send(Message::text(subscription.to_string())).await.map_err(|error| describe(&error))?;
        }
        self.last_head = Instant::now();
        loop {
            let message = tokio::time::timeout_at((self.last_head + HEAD_TIMEOUT).into(), socket.next()).await;
            let message = message.map_err(|_| format!("it told of no block for {} s", HEAD_TIMEOUT.as_secs()))?;
            match message.ok_or("it was closed")?.map_err(|error| describe(&error))? {
                Message::Text(text) => self.on_message(&text)?,
                Message::Close(_) => return Err("it was closed".to_owned()),
                // tungstenite answers pings by itself.
                _ => {}
            }
        }
    }

    fn on_message(&mut self, text: &str) -> Result<(), String> {
        let told: WsMessage = serde_json::from_str(text).map_err(|_| "it tells what is no JSON-RPC".to_owned())?;
        let error = told.error.map(|mut error| {
            self.scrubber.json(&mut error);
            error
        });
        match (told.id, error) {
            (Some(LOGS), Some(error)) => {
                tracing::info!(?error, "the WebSocket tells of no logs, each block is looked into");
                self.logs_supported = false;
            }
            (Some(HEADS), Some(error)) => return Err(format!("it tells of no blocks: {:?}", error.to_string())),
            _ => {}
        }
        match told.params.map(|params| params.result) {
            Some(Event::Head { number }) => self.head(number.as_u64()),
            Some(Event::Log { address, block }) => self.log(address, block),
            None => {}
        }
        Ok(())
    }

    fn head(&mut self, number: u64) {
        self.last_head = Instant::now();
        if self.head.is_none() {
            tracing::info!("the WebSocket tells of new blocks");
            self.tell_all();
        }
        self.head = Some(number);
        let later = self.due.split_off(&(number.saturating_add(1), Topic::Requests));
        let now: BTreeSet<Topic> = std::mem::replace(&mut self.due, later).into_iter().map(|(_, news)| news).collect();
        now.into_iter().for_each(|news| (self.notify)(news));
        if !self.logs_supported && self.last_notified.is_none_or(|told| told.elapsed() >= FALLBACK_POLL_INTERVAL) {
            self.last_notified = Some(Instant::now());
            self.tell_all();
        }
    }

    /// A log is read when it is as deep as `NOVA_CONFIRMATIONS` wants it.
    fn log(&mut self, address: Address, block: Option<U64>) {
        let news = if address == self.listener.consumption { Topic::Requests } else { Topic::Challenges };
        let deep = block.unwrap_or_default().as_u64().saturating_add(self.listener.confirmations);
        if self.head.is_some_and(|head| head >= deep) {
            (self.notify)(news);
        } else {
            self.due.insert((deep, news));
        }
        self.due.insert((deep.saturating_add(REPLICA_LAG_BLOCKS), news));
        if self.due.len() > MAX_PENDING {
            self.due.clear();
            self.tell_all();
        }
    }

    fn tell_all(&self) {
        (self.notify)(Topic::Requests);
        (self.notify)(Topic::Challenges);
    }
}

impl Listener {
    fn subscriptions(&self) -> [Value; 2] {
        let addresses: Vec<_> = std::iter::once(&self.consumption).chain(&self.challenge_contracts).collect();
        let events: [H256; 3] = [
            ConsumerRequestMadeFilter::signature(),
            ZkmlchallengeGivenFilter::signature(),
            ProofRequestedFilter::signature(),
        ];
        [
            json!({ "jsonrpc": "2.0", "id": HEADS, "method": "eth_subscribe", "params": ["newHeads"] }),
            json!({ "jsonrpc": "2.0", "id": LOGS, "method": "eth_subscribe",
                "params": ["logs", { "address": addresses, "topics": [events] }] }),
        ]
    }
}

async fn connect(url: &str) -> Result<WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>, String> {
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let connecting = tokio_tungstenite::connect_async_with_config(url, Some(config), true);
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected.map(|(socket, _)| socket).map_err(|error| describe(&error)),
        Err(_) => Err(format!("it cannot be connected to within {} s", CONNECT_TIMEOUT.as_secs())),
    }
}

/// What went wrong, in words in which no URL can be.
fn describe(error: &Error) -> String {
    match error {
        Error::Io(_) | Error::Tls(_) | Error::Capacity(_) | Error::Protocol(_) | Error::ConnectionClosed => {
            error.to_string()
        }
        Error::Http(response) => format!("HTTP {}: is its key right?", response.status()),
        _ => "it cannot be connected to".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const CONSUMPTION: Address = Address::repeat_byte(1);
    const MODELER: Address = Address::repeat_byte(2);

    fn listener() -> Listener {
        Listener {
            url: "ws://127.0.0.1:1/v2/secret".to_owned().into(),
            consumption: CONSUMPTION,
            challenge_contracts: vec![MODELER],
            confirmations: 4,
        }
    }

    fn head(number: u64) -> String {
        let result = json!({ "number": format!("{number:#x}"), "hash": H256::zero() });
        json!({ "method": "eth_subscription", "params": { "subscription": "0x1", "result": result } }).to_string()
    }

    fn log(address: Address, block: u64) -> String {
        let result = json!({ "address": address, "blockNumber": format!("{block:#x}"), "topics": [], "data": "0x" });
        json!({ "method": "eth_subscription", "params": { "subscription": "0x2", "result": result } }).to_string()
    }

    #[test]
    fn watchers_are_told_when_a_log_is_deep_enough_and_once_more_for_an_endpoint_that_lags() {
        let told = Mutex::new(Vec::new());
        let tell = |news| told.lock().unwrap().push(news);
        let heard = || std::mem::take(&mut *told.lock().unwrap());
        let listener = listener();
        let mut session = Session::new(&listener, &tell);
        session.on_message(&json!({ "jsonrpc": "2.0", "id": HEADS, "result": "0x1" }).to_string()).unwrap();
        session.on_message(&head(10)).unwrap();
        assert_eq!(heard(), [Topic::Requests, Topic::Challenges], "something may have been missed before");
        session.on_message(&log(CONSUMPTION, 10)).unwrap();
        session.on_message(&log(MODELER, 11)).unwrap();
        session.on_message(&head(13)).unwrap();
        assert_eq!(heard(), []);
        session.on_message(&head(14)).unwrap();
        assert_eq!(heard(), [Topic::Requests]);
        session.on_message(&head(15)).unwrap();
        assert_eq!(heard(), [Topic::Challenges]);
        session.on_message(&head(30)).unwrap();
        assert_eq!(heard(), [Topic::Requests, Topic::Challenges]);
        session.on_message(&head(60)).unwrap();
        assert_eq!(heard(), []);
    }

    #[test]
    fn an_endpoint_without_logs_wakes_with_its_heads_and_rubbish_breaks_the_connection() {
        let told = Mutex::new(0);
        let tell = |_| *told.lock().unwrap() += 1;
        let listener = listener();
        let mut session = Session::new(&listener, &tell);
        session.on_message(&json!({ "id": LOGS, "error": { "code": -32601, "message": "no" } }).to_string()).unwrap();
        session.on_message(&head(1)).unwrap();
        session.on_message(&head(2)).unwrap();
        assert_eq!(*told.lock().unwrap(), 4, "at the start, and once a second");
        for rubbish in ["", "<html>", "[1]", &json!({ "id": HEADS, "error": { "message": "no" } }).to_string()] {
            assert!(session.on_message(rubbish).is_err(), "{rubbish}");
        }
    }

    #[tokio::test]
    async fn a_wss_endpoint_is_spoken_to_in_tls() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        http_client::install_crypto();
        let url = format!("wss://{}/v2/secret", server.local_addr().unwrap());
        let connecting = tokio::spawn(async move { connect(&url).await.map(drop).unwrap_err() });
        let (mut stream, _) = server.accept().await.unwrap();
        // 22 is a handshake record (RFC 8446, 5.1).
        assert_eq!(tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap(), 22);
        drop(stream);
        let reason = connecting.await.unwrap();
        assert!(!reason.contains("secret"), "{reason}");
    }

    #[tokio::test]
    async fn no_error_shows_the_url() {
        for url in ["ws://127.0.0.1:1/v2/secret", "ws://no host/v2/secret", "http://secret"] {
            let reason = connect(url).await.unwrap_err();
            assert!(!reason.contains("secret"), "{reason}");
        }
    }
}
