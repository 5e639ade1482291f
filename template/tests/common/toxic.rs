//! A network in trouble: an HTTP proxy, in front of the chain or of a service, that does to a call what it is told to. It
//! speaks HTTP by hand, because servers of a library never answer as badly as this.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::secrets::RPC_KEY;
use super::{PROOF_TIMEOUT, wait_until};

/// What the proxy does with one call.
#[derive(Debug, Clone, Copy)]
pub enum Toxic {
    Pass,
    /// The connection is reset before a byte of the answer.
    Reset,
    /// The connection is reset in the middle of the body.
    ResetInBody,
    /// Nothing for so many seconds, then the end.
    Hang(u64),
    /// The right answer, a byte a second.
    Drip,
    /// Another answer: status, a header, body.
    Respond(u16, &'static str, &'static str),
    /// A JSON-RPC error, with the code and message, at this HTTP status.
    RpcError(u16, i64, &'static str),
    /// The call is passed on, and the answer replaced by a JSON-RPC error.
    PassAndRefuse(i64, &'static str),
    /// The call is passed on and carried out; the answer is lost.
    PassAndReset,
    /// The first half of a gzip stream.
    HalfGzip,
    /// So many MiB of blanks before the answer, which JSON allows.
    Flood(usize),
    /// Blanks without end.
    Endless,
    /// A replica that is this many blocks behind.
    Lag(u64),
    /// A replica on a branch of the chain that will lose: its blocks have other hashes.
    OtherBranch,
}

/// One call as the rules see it.
pub struct Asked<'a> {
    pub path: &'a str,
    /// The JSON-RPC method; empty where it is none.
    pub method: &'a str,
}

type Rule = Box<dyn FnMut(&Asked) -> Toxic + Send>;

/// It stops when this is dropped.
pub struct ToxicProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    upstream: String,
    client: reqwest::Client,
    rule: Mutex<Rule>,
    /// When calls met something else than `Pass`.
    hits: Mutex<Vec<Instant>>,
}

impl ToxicProxy {
    /// Passes everything on to `upstream` (`http://host:port`) until it is told otherwise.
    pub async fn start(upstream: String) -> Self {
        let shared = Arc::new(Shared {
            upstream,
            client: nova_devnet::rpc::http_client().unwrap(),
            rule: Mutex::new(Box::new(|_| Toxic::Pass)),
            hits: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(accept(listener, shared.clone()));
        Self { shared, address, server: Mutex::new(Some(server)) }
    }

    /// Its URL as that of a service.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its URL as that of an RPC provider, with a key in it as Alchemy has it.
    pub fn rpc_url(&self) -> String {
        format!("{}/v2/{RPC_KEY}", self.url())
    }

    /// From now on this decides; what was counted before is forgotten.
    pub fn rule(&self, rule: impl FnMut(&Asked) -> Toxic + Send + 'static) {
        *self.shared.rule.lock().unwrap() = Box::new(rule);
        self.shared.hits.lock().unwrap().clear();
    }

    /// The calls that `concerns` picks meet one toxic after the other, then are passed on.
    pub fn course(&self, toxics: &[Toxic], concerns: impl Fn(&Asked) -> bool + Send + 'static) {
        let mut left = VecDeque::from(toxics.to_vec());
        self.rule(move |asked| if concerns(asked) { left.pop_front().unwrap_or(Toxic::Pass) } else { Toxic::Pass });
    }

    /// Everything is passed on.
    pub fn heal(&self) {
        self.rule(|_| Toxic::Pass);
    }

    /// How many calls were not simply passed on since the rule was set.
    pub fn hits(&self) -> usize {
        self.shared.hits.lock().unwrap().len()
    }

    /// When that was.
    pub fn hit_times(&self) -> Vec<Instant> {
        self.shared.hits.lock().unwrap().clone()
    }

    /// Waits until so many calls were not simply passed on.
    pub async fn has_hit(&self, count: usize) {
        // Calls that hang are given up after half a minute each, and an upload comes after its proof.
        wait_until(format!("{count} calls that go wrong"), PROOF_TIMEOUT, async || {
            if self.hits() >= count { Ok(()) } else { Err(format!("there were {}", self.hits())) }
        })
        .await;
    }

    /// Nobody listens any more: connections are refused, and those that stand are cut.
    pub async fn refuse(&self) {
        let server = self.server.lock().unwrap().take();
        if let Some(server) = server {
            server.abort();
            // It only ends by being aborted.
            let _ = server.await;
        }
    }

    /// Listens again, at the same address.
    pub async fn listen(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        *self.server.lock().unwrap() = Some(tokio::spawn(accept(listener, self.shared.clone())));
    }
}

impl Drop for ToxicProxy {
    fn drop(&mut self) {
        if let Some(server) = self.server.lock().unwrap().take() {
            server.abort();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, which cuts the connections.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = shared.clone();
        connections.spawn(async move {
            let mut stream = BufReader::new(stream);
            // A client that goes away is no matter of ours.
            while let Ok(Some(call)) = Call::read(&mut stream).await
                && serve(&shared, &mut stream, call).await.is_ok()
            {}
        });
        while connections.try_join_next().is_some() {}
    }
}

/// One HTTP request.
struct Call {
    verb: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Call {
    /// `None` at the end of the connection.
    async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Self>> {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (verb, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap_or(0))];
        stream.read_exact(&mut body).await?;
        Ok(Some(Self { verb, path, headers, body }))
    }
}

/// What the other side answered.
struct Answer {
    status: u16,
    body: Vec<u8>,
}

/// Answers one call as the rule says. An error ends the connection.
async fn serve(shared: &Shared, stream: &mut BufReader<TcpStream>, call: Call) -> std::io::Result<()> {
    let json: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let asked = Asked { path: &call.path, method: json["method"].as_str().unwrap_or_default() };
    let toxic = (shared.rule.lock().unwrap())(&asked);
    if !matches!(toxic, Toxic::Pass) {
        shared.hits.lock().unwrap().push(Instant::now());
    }
    match toxic {
        Toxic::Pass => {
            let answer = pass_on(shared, &call, &call.body).await?;
            say(stream, answer.status, "x-proxy: 1", &answer.body).await
        }
        Toxic::Reset => reset(stream),
        Toxic::ResetInBody => {
            let answer = pass_on(shared, &call, &call.body).await?;
            write_head(stream, answer.status, "x-proxy: 1", answer.body.len()).await?;
            stream.write_all(&answer.body[..answer.body.len() / 2]).await?;
            stream.flush().await?;
            reset(stream)
        }
        Toxic::Hang(seconds) => {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            reset(stream)
        }
        Toxic::Drip => {
            let answer = pass_on(shared, &call, &call.body).await?;
            write_head(stream, answer.status, "x-proxy: 1", answer.body.len()).await?;
            for byte in answer.body {
                stream.write_all(&[byte]).await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Ok(())
        }
        Toxic::Respond(status, header, body) => say(stream, status, header, body.as_bytes()).await,
        Toxic::RpcError(status, code, message) => {
            say(stream, status, "content-type: application/json", &refusal(&json, code, message)).await
        }
        Toxic::PassAndRefuse(code, message) => {
            pass_on(shared, &call, &call.body).await?;
            say(stream, 200, "content-type: application/json", &refusal(&json, code, message)).await
        }
        Toxic::PassAndReset => {
            pass_on(shared, &call, &call.body).await?;
            reset(stream)
        }
        Toxic::HalfGzip => say(stream, 200, "content-encoding: gzip", &HALF_GZIP).await,
        Toxic::Flood(mebibytes) => {
            let answer = pass_on(shared, &call, &call.body).await?;
            write_head(stream, 200, "x-proxy: 1", (mebibytes << 20) + answer.body.len()).await?;
            let blanks = vec![b' '; 1 << 20];
            for _ in 0..mebibytes {
                stream.write_all(&blanks).await?;
            }
            stream.write_all(&answer.body).await?;
            stream.flush().await
        }
        Toxic::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
            loop {
                stream.write_all(&chunk).await?;
            }
        }
        Toxic::OtherBranch => {
            let mut answer = pass_on(shared, &call, &call.body).await?;
            let text = String::from_utf8_lossy(&answer.body).replace("\"blockHash\":\"0x", "\"blockHash\":\"0xbadbad");
            let mut json: Value = serde_json::from_str(&text)?;
            for log in json["result"].as_array_mut().into_iter().flatten() {
                log["blockHash"] = json!(log["blockHash"].as_str().unwrap_or_default()[..66]);
            }
            answer.body = json.to_string().into_bytes();
            say(stream, answer.status, "x-proxy: 1", &answer.body).await
        }
        Toxic::Lag(blocks) => {
            let answer = lagging(shared, &call, json, blocks).await?;
            say(stream, answer.status, "x-proxy: 1", &answer.body).await
        }
    }
}

/// The first bytes of a gzip stream whose end never comes.
const HALF_GZIP: [u8; 16] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0x56, 0xca, 0x2a, 0xce, 0xcf];

async fn say(stream: &mut BufReader<TcpStream>, status: u16, header: &str, body: &[u8]) -> std::io::Result<()> {
    write_head(stream, status, header, body.len()).await?;
    stream.write_all(body).await?;
    stream.flush().await
}

async fn write_head(
    stream: &mut BufReader<TcpStream>,
    status: u16,
    header: &str,
    length: usize,
) -> std::io::Result<()> {
    let header = if header.is_empty() { "x-proxy: 1" } else { header };
    let head = format!("HTTP/1.1 {status} As told\r\ncontent-length: {length}\r\n{header}\r\n\r\n");
    stream.write_all(head.as_bytes()).await
}

/// The other side reads "connection reset by peer".
fn reset(stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    stream.get_mut().set_zero_linger()?;
    Err(std::io::ErrorKind::ConnectionReset.into())
}

async fn pass_on(shared: &Shared, call: &Call, body: &[u8]) -> std::io::Result<Answer> {
    let verb = call.verb.parse().map_err(std::io::Error::other)?;
    // The key in the path is the proxy's own.
    let path = call.path.strip_prefix(&format!("/v2/{RPC_KEY}")).unwrap_or(&call.path);
    let mut request = shared.client.request(verb, format!("{}{path}", shared.upstream)).body(body.to_vec());
    for (name, value) in call.headers.iter().filter(|(name, _)| matches!(&**name, "authorization" | "content-type")) {
        request = request.header(name, value);
    }
    let answer = request.send().await.map_err(std::io::Error::other)?;
    let status = answer.status().as_u16();
    Ok(Answer { status, body: answer.bytes().await.map_err(std::io::Error::other)?.to_vec() })
}

fn refusal(call: &Value, code: i64, message: &str) -> Vec<u8> {
    json!({ "jsonrpc": "2.0", "id": call["id"], "error": { "code": code, "message": message } })
        .to_string()
        .into_bytes()
}

/// As a replica answers that has not heard of the newest blocks: its `latest` is an older one, and it has neither logs nor
/// receipts of what came later.
async fn lagging(shared: &Shared, call: &Call, mut asked: Value, behind: u64) -> std::io::Result<Answer> {
    let head = json!({ "jsonrpc": "2.0", "id": 0, "method": "eth_blockNumber", "params": [] }).to_string();
    let head: Value = serde_json::from_slice(&pass_on(shared, call, head.as_bytes()).await?.body)?;
    let height = number(&head["result"]).saturating_sub(behind);
    let method = asked["method"].as_str().unwrap_or_default().to_owned();
    let id = asked["id"].clone();
    let nothing = |result: Value| {
        let body = json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string();
        Ok(Answer { status: 200, body: body.into_bytes() })
    };
    match method.as_str() {
        "eth_blockNumber" => return nothing(json!(format!("{height:#x}"))),
        "eth_getLogs" if number(&asked["params"][0]["fromBlock"]) > height => return nothing(json!([])),
        "eth_getLogs" if number(&asked["params"][0]["toBlock"]) > height => {
            asked["params"][0]["toBlock"] = json!(format!("{height:#x}"));
        }
        _ => {
            for parameter in asked["params"].as_array_mut().into_iter().flatten() {
                if let Some(hash) = parameter["blockHash"].as_str() {
                    let block = block_number(shared, call, hash).await?;
                    if block.is_none_or(|block| block > height) {
                        let body = refusal(&json!({ "id": id }), -32000, "header for hash not found");
                        return Ok(Answer { status: 200, body });
                    }
                    continue;
                }
                if matches!(parameter.as_str(), Some("latest" | "pending")) {
                    *parameter = json!(format!("{height:#x}"));
                } else if method == "eth_getBlockByNumber" && parameter.is_string() && number(parameter) > height {
                    return nothing(Value::Null);
                }
            }
        }
    }
    let answer = pass_on(shared, call, asked.to_string().as_bytes()).await?;
    let in_block = match method.as_str() {
        "eth_getTransactionReceipt" | "eth_getTransactionByHash" => "blockNumber",
        "eth_getBlockByHash" => "number",
        _ => return Ok(answer),
    };
    let found: Value = serde_json::from_slice(&answer.body)?;
    if number(&found["result"][in_block]) > height { nothing(Value::Null) } else { Ok(answer) }
}

/// The number of the block that has this hash.
async fn block_number(shared: &Shared, call: &Call, hash: &str) -> std::io::Result<Option<u64>> {
    let asked = json!({ "jsonrpc": "2.0", "id": 0, "method": "eth_getBlockByHash", "params": [hash, false] });
    let block: Value = serde_json::from_slice(&pass_on(shared, call, asked.to_string().as_bytes()).await?.body)?;
    Ok(block["result"]["number"].is_string().then(|| number(&block["result"]["number"])))
}

/// A `0x…` quantity; 0 for what is none.
fn number(quantity: &Value) -> u64 {
    let digits = quantity.as_str().unwrap_or_default().trim_start_matches("0x");
    u64::from_str_radix(digits, 16).unwrap_or(0)
}
