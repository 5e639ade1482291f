//! One way to speak HTTP with all of them: limits on time and size, tries with backoff, and errors that say whose answer
//! was wrong and never show a key.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Error, anyhow};
use backon::{ExponentialBuilder, Retryable};
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};

use crate::failure_tracker::FailureTracker;
use crate::fault::{Fault, Result};
use crate::http_client;
use crate::scrub::Scrubber;

/// Tries of one call after the first. The row it is for is tried again later besides.
const RETRIES: usize = 3;
/// A server that asks for more patience than this is left to the row's next try.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);
/// How much of an answer an error quotes.
const QUOTED: usize = 160;

/// Calls in a row, each of several tries, after which the service does not work.
const ENOUGH_FAILURES: u32 = 3;

/// One of the services.
#[derive(Debug, Clone)]
pub struct HttpService {
    /// As errors call it: `Plumber`.
    name: &'static str,
    host: String,
    /// The host as errors may show it: without credentials, and without a path that may be a key.
    shown: String,
    key: Option<SecretString>,
    /// What must not be shown of what the service says.
    scrubber: Scrubber,
    client: Client,
    first_wait: Duration,
    /// Tries of one call after the first.
    retries: usize,
    /// What a server says that has not got what it is asked for.
    absent: &'static [StatusCode],
    condition: Arc<FailureTracker>,
    /// What is asked for never changes: an answer that is too long will be so again.
    immutable: bool,
}

/// What a service has not got now, and may have later: it does not know what it is asked about, or refuses the question. A
/// deploy, an index that lags, and a wallet that is new to it all look like that.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Absence(pub String);

/// A try that failed: what it means, and whether the next one may go better at once.
struct CallError {
    fault: Fault,
    retryable: bool,
    /// The service works, and said no.
    is_answer: bool,
    /// How long the server asks to wait.
    wait: Option<Duration>,
}

impl HttpService {
    pub fn new(name: &'static str, host: &str, timeout: Duration) -> Self {
        Self {
            name,
            shown: origin_of(host),
            host: host.trim_end_matches('/').to_string(),
            key: None,
            scrubber: Scrubber::default(),
            client: http_client::client(timeout),
            first_wait: Duration::from_millis(250),
            retries: RETRIES,
            absent: &[StatusCode::NOT_FOUND],
            condition: Arc::new(FailureTracker::new(ENOUGH_FAILURES)),
            immutable: false,
        }
    }

    /// What is asked for is named by its content.
    pub fn of_immutable_content(mut self) -> Self {
        self.immutable = true;
        self
    }

    /// Calls carry this key as their bearer token.
    pub fn with_key(mut self, key: SecretString) -> Self {
        self.scrubber = Scrubber::of_key(key.expose_secret());
        self.key = Some(key);
        self
    }

    /// These statuses, too, say that there is nothing.
    pub fn with_absent(mut self, absent: &'static [StatusCode]) -> Self {
        self.absent = absent;
        self
    }

    /// The same for a call that is not worth a second try.
    pub fn tried_once(&self) -> Self {
        Self { retries: 0, ..self.clone() }
    }

    /// The wait before the second try, which doubles from then on.
    #[cfg(test)]
    pub fn with_first_wait(mut self, first_wait: Duration) -> Self {
        self.first_wait = first_wait;
        self
    }

    /// One call, tried a few times. `read` understands the body; if it cannot, the answer was damaged and the call is
    /// tried again. `None` is 404 (or what else is
    /// `absent`): what that means the caller knows.
    pub async fn call<T>(
        &self,
        path: &str,
        limit: usize,
        request: impl Fn(&Client, &str) -> RequestBuilder,
        read: impl Fn(&[u8]) -> anyhow::Result<T>,
    ) -> Result<Option<T>> {
        let url = format!("{}{path}", self.host);
        let once = || async {
            let mut request = request(&self.client, &url);
            if let Some(key) = &self.key {
                request = request.bearer_auth(key.expose_secret());
            }
            self.once(path, limit, request, &read).await
        };
        let backoff =
            ExponentialBuilder::default().with_min_delay(self.first_wait).with_max_times(self.retries).with_jitter();
        let outcome = once
            .retry(backoff)
            .when(|failed: &CallError| failed.retryable)
            .adjust(|failed, wait| match (wait, failed.wait) {
                (Some(_), Some(asked)) => (asked <= MAX_RETRY_AFTER).then_some(asked),
                (wait, _) => wait,
            })
            .notify(|failed, wait| {
                tracing::debug!("trying again in {wait:?}: {}", failed.fault);
            })
            .await;
        match &outcome {
            Err(CallError { fault: fault @ Fault::Transient(_), is_answer: false, .. }) => {
                self.condition.record_failure(fault.to_string());
            }
            _ => self.condition.record_success(),
        }
        outcome.map_err(|failed| failed.fault)
    }

    /// Why it does not work, if it has not for a few calls in a row.
    pub fn failure_reason(&self) -> Option<String> {
        self.condition.failure_reason()
    }

    async fn once<T>(
        &self,
        path: &str,
        limit: usize,
        request: RequestBuilder,
        read: &impl Fn(&[u8]) -> anyhow::Result<T>,
    ) -> std::result::Result<Option<T>, CallError> {
        let answer = request.send().await;
        let mut answer = answer.map_err(|error| self.transport_error(path, error))?;
        let status = answer.status();
        if self.absent.contains(&status) {
            return Ok(None);
        }
        let body = self.body(path, &mut answer, limit).await?;
        if !status.is_success() {
            return Err(self.refused(path, status, answer.headers(), &body));
        }
        read(&body).map(Some).map_err(|error| {
            let quoted = Self::body_snippet(&body);
            self.retry(path, error.context(format!("cannot use the answer {quoted}")))
        })
    }

    /// The body, up to its limit.
    async fn body(&self, path: &str, answer: &mut Response, limit: usize) -> std::result::Result<Vec<u8>, CallError> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.transport_error(path, error))? {
            if body.len() + chunk.len() > limit {
                let error =
                    self.with_origin(path, anyhow!("the answer is longer than the {limit} bytes that are read"));
                let fault = if self.immutable { Fault::Permanent(error) } else { Fault::Transient(error) };
                // Not at once: that much is not read again and again.
                return Err(CallError { fault, retryable: false, is_answer: self.immutable, wait: None });
            }
            body.extend_from_slice(&chunk);
        }
        // It may echo our key, and what is read of it may be quoted in errors.
        Ok(self.scrubber.bytes(body))
    }

    fn transport_error(&self, path: &str, error: reqwest::Error) -> CallError {
        let timeout = error.is_timeout();
        // reqwest's error shows the URL, which we name ourselves.
        let error = Error::new(error.without_url());
        let error = if timeout { error.context("no answer in time") } else { error };
        self.retry(path, error)
    }

    fn refused(&self, path: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> CallError {
        let quoted = Self::body_snippet(body);
        let error = anyhow!("{status}: {quoted}");
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                CallError { retryable: false, ..self.retry(path, error.context("the key was refused: is it right?")) }
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                CallError { wait: http_client::retry_after(headers), ..self.retry(path, error) }
            }
            _ if status.is_server_error() => {
                CallError { wait: http_client::retry_after(headers), ..self.retry(path, error) }
            }
            _ => {
                let not_yet = Error::new(Absence(error.to_string()));
                CallError { retryable: false, is_answer: true, ..self.retry(path, not_yet) }
            }
        }
    }

    fn retry(&self, path: &str, error: Error) -> CallError {
        CallError {
            fault: Fault::Transient(self.with_origin(path, error)),
            retryable: true,
            is_answer: false,
            wait: None,
        }
    }

    /// The error with who and what in front.
    fn with_origin(&self, path: &str, error: Error) -> Error {
        error.context(format!("{} ({}{path})", self.name, self.shown))
    }

    /// The start of an answer, on one line.
    fn body_snippet(body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body);
        let short: String = text.chars().take(QUOTED).collect();
        let more = if short.len() < text.len() { "…" } else { "" };
        format!("{short:?}{more}")
    }
}

/// Scheme, host and port of a URL.
fn origin_of(url: &str) -> String {
    Url::parse(url).map_or_else(|_| "no URL".to_string(), |url| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_shown_without_what_may_be_secret() {
        assert_eq!(origin_of("https://user:secret@ipfs.example:8443/key/123"), "https://ipfs.example:8443");
        assert_eq!(origin_of("not a URL"), "no URL");
    }
}
