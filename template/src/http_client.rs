//! The HTTP client of everything that leaves the process: TLS on ring, deadlines, and redirects only within a host.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, redirect};

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Installs ring as the process's TLS provider, however often it is called.
pub fn install_crypto() {
    // An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client with deadlines that follows redirects only within a host.
pub fn client(timeout: Duration) -> Client {
    install_crypto();
    let builder = || {
        Client::builder()
            .timeout(timeout)
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .redirect(redirect::Policy::custom(within_the_host))
            .user_agent("nova")
    };
    builder().build().unwrap_or_else(|error| {
        // A slim image without certificates can still speak plain HTTP; https:// then fails at the handshake.
        tracing::error!("https will not work, are there CA certificates? {error}");
        let without = builder().tls_certs_only([]).build();
        without.expect("a client without certificates needs nothing of the system")
    })
}

/// The seconds of a `Retry-After`. Its other form, a date, is left to the backoff.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse();
    seconds.ok().map(Duration::from_secs)
}

/// A redirect elsewhere could carry the request, and what answers it, to anybody.
fn within_the_host(attempt: redirect::Attempt) -> redirect::Action {
    let here = |url: &reqwest::Url| (url.host_str().map(str::to_string), url.port());
    match attempt.previous().last() {
        Some(last) if here(last) != here(attempt.url()) => attempt.error("a redirect to another host is not followed"),
        Some(last) if last.scheme() == "https" && attempt.url().scheme() != "https" => {
            attempt.error("a redirect from https to http is not followed")
        }
        _ if attempt.previous().len() > 3 => attempt.error("too many redirects"),
        _ => attempt.follow(),
    }
}
