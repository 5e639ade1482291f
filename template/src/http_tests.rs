//! The server on loopback, and clients that mean it ill.

use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
}

impl Server {
    async fn start() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let stop = CancellationToken::new();
        serve(address, Arc::default(), stop.clone()).await.unwrap();
        Self { address, stop }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// What it answers to this.
    async fn say(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_all(stream).await
    }

    async fn healthz(&self) -> String {
        self.say("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await
    }
}

/// All that comes until the connection ends; a reset ends it, too.
async fn read_all(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let mut some = [0; 1024];
    while let Ok(read @ 1..) = stream.read(&mut some).await {
        answer.extend_from_slice(&some[..read]);
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn it_answers_what_is_read_and_refuses_what_is_written() {
    let server = Server::start().await;
    assert!(server.healthz().await.ends_with("\r\n\r\nalive\n"));
    let ready = server.say("GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains(r#""ready":false"#), "{ready}");
    let head = server.say("HEAD /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && !head.contains("alive"), "{head}");
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT"] {
        let answer = server.say(&format!("{method} /healthz HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{method}: {answer}");
    }
    for (request, status) in [
        ("GET /metricz HTTP/1.1\r\nhost: x\r\n\r\n", "404"),
        ("GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello", "413"),
        ("GET /healthz HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", "413"),
        ("rubbish\r\n\r\n", "400"),
    ] {
        let answer = server.say(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    }
    let long = format!("GET /healthz HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(MAX_HEADERS));
    let answer = server.say(&long).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
}

/// 200 connections that say nothing and 100 that say it slowly.
#[tokio::test]
async fn idle_and_slow_clients_hold_up_nobody_and_are_dropped() {
    let server = Server::start().await;
    let mut idle = Vec::new();
    for at in 0..300 {
        let mut stream = server.connect().await;
        if at >= 200 {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nx: ").await.unwrap();
        }
        idle.push(stream);
    }
    let asked = Instant::now();
    assert!(server.healthz().await.ends_with("alive\n"));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    // One more byte now and then wins no time.
    let mut slow = idle.pop().unwrap();
    let drip = async {
        while slow.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(HEADER_TIMEOUT * 2, drip).await.expect("the slow client is cut off");
    let all_dropped = futures::future::join_all(idle.into_iter().map(read_all));
    timeout(HEADER_TIMEOUT * 2, all_dropped).await.expect("idle clients are cut off");
}

#[tokio::test]
async fn more_connections_than_there_is_room_for_wait_their_turn() {
    let server = Server::start().await;
    let mut idle = Vec::new();
    for _ in 0..MAX_CONNECTIONS + 10 {
        idle.push(server.connect().await);
    }
    let answer = timeout(HEADER_TIMEOUT * 3, server.healthz()).await.expect("its turn comes");
    assert!(answer.ends_with("alive\n"), "{answer}");
}

#[tokio::test]
async fn it_stops_at_once_although_somebody_is_connected() {
    let server = Server::start().await;
    let idle = server.connect().await;
    assert!(server.healthz().await.ends_with("alive\n"));
    server.stop.cancel();
    timeout(GRACE * 2, read_all(idle)).await.expect("the connection is closed");
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
}
