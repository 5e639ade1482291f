//! `nova healthcheck`: what a container asks, which has no other program to ask with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::Client;

use crate::config::Config;
use crate::http_client;

/// Less than the container waits for us.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Asks the daemon that has our settings whether it is alive.
///
/// # Errors
/// Where it was asked, and what it said.
pub async fn healthcheck(config: Config) -> Result<()> {
    ask(config.http_address).await?;
    println!("alive");
    Ok(())
}

async fn ask(address: SocketAddr) -> Result<()> {
    let url = format!("http://{}/healthz", nearest(address));
    http_client::install_crypto();
    // A proxy that the environment names leads elsewhere; without TLS no certificates are read.
    let client = Client::builder().timeout(TIMEOUT).no_proxy().tls_certs_only([]).build()?;
    let answer =
        client.get(&url).send().await.with_context(|| format!("no daemon answers at {url} (NOVA_HTTP_ADDRESS)"))?;
    ensure!(answer.status().is_success(), "{url} answers {}: is another program there?", answer.status());
    Ok(())
}

/// Where to connect to what listens at an address. One that means all of this machine's is none to connect to.
fn nearest(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::http;

    #[tokio::test]
    async fn a_daemon_that_serves_is_alive_and_without_one_the_address_is_named() {
        let free = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let error = format!("{:#}", ask(address).await.unwrap_err());
        let asked = format!("no daemon answers at http://127.0.0.1:{}/healthz", address.port());
        assert!(error.contains(&asked), "{error}");

        let stop = CancellationToken::new();
        http::serve(address, Arc::default(), stop.clone()).await.unwrap();
        ask(address).await.unwrap();
        stop.cancel();
    }

    #[test]
    fn an_address_of_its_own_is_asked_as_it_is() {
        for (served, asked) in [("10.1.2.3:80", "10.1.2.3:80"), ("[::]:80", "[::1]:80"), ("0.0.0.0:80", "127.0.0.1:80")]
        {
            assert_eq!(nearest(served.parse().unwrap()).to_string(), asked);
        }
    }
}
