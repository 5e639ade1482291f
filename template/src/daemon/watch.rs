//! The loops that look at the chain for work.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::Notify;

use super::Daemon;
use crate::chain::ws_subscription::Topic;
use crate::fault::{Fault, Result};
use crate::retry::Backoff;

/// How long the last look at contracts that are left may take.
const LAST_LOOK_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the heights of RPC endpoints are compared.
const ENDPOINTS_INTERVAL: Duration = Duration::from_secs(30);
/// How soon what is new is looked at a second time.
const SECOND_OPINION_INTERVAL: Duration = Duration::from_secs(60);

impl Daemon {
    pub(super) async fn watch_requests(self: Arc<Self>) -> Result<()> {
        let every = self.config.polling.inference;
        let daemon = self.clone();
        self.repeat("rpc", every, &self.wake.requests, move || daemon.clone().poll_requests()).await
    }

    async fn poll_requests(self: Arc<Self>) -> Result<()> {
        let (head, reorganised) = self.chain.sync_head(&self.ledger).await?;
        if reorganised {
            self.wake.challenges.notify_one();
        }
        let seen = self.chain.watch_requests(&self.ledger, head).await?;
        let expired = self.ledger.expire_requests(head.time).await?;
        if expired > 0 {
            tracing::warn!(expired, "requests ran out of time before they were answered");
        }
        if seen > 0 {
            tracing::info!(new = seen, "requests seen");
            self.wake.infer.notify_one();
            self.wake.send.notify_one();
        }
        Ok(())
    }

    /// Reads what an absence left, beside the watchers: no new request waits for it.
    pub(super) async fn backfill(self: Arc<Self>) -> Result<()> {
        let every = self.config.polling.inference;
        let daemon = self.clone();
        self.repeat("catch-up", every, &self.wake.catch_up, move || daemon.clone().read_gap()).await
    }

    async fn read_gap(self: Arc<Self>) -> Result<()> {
        if self.chain.catch_up(&self.ledger).await? {
            self.wake.catch_up.notify_one();
        }
        Ok(())
    }

    pub(super) async fn watch_challenges(self: Arc<Self>) -> Result<()> {
        let every = self.config.polling.proof;
        let daemon = self.clone();
        self.repeat("challenges", every, &self.wake.challenges, move || daemon.clone().poll_challenges()).await
    }

    async fn poll_challenges(self: Arc<Self>) -> Result<()> {
        let (head, reorganised) = self.chain.sync_head(&self.ledger).await?;
        if reorganised {
            self.wake.requests.notify_one();
        }
        let seen = self.chain.watch_challenges(&self.ledger, head).await?;
        if seen > 0 {
            tracing::info!(new = seen, "proof requests seen");
            self.wake.documents.notify_one();
            self.wake.prove.notify_one();
            self.wake.send.notify_one();
        }
        Ok(())
    }

    /// Finds out which RPC endpoints are behind the others.
    pub(super) async fn watch_endpoints(self: Arc<Self>) -> Result<()> {
        let watching = async {
            loop {
                self.chain.compare_endpoints().await;
                tokio::time::sleep(ENDPOINTS_INTERVAL).await;
            }
        };
        self.stop.run_until_cancelled(watching).await.unwrap_or(Ok(()))
    }

    /// Reads again what the contracts say. What is new is believed when it is said twice: one machine may have a state of its own.
    pub(super) async fn watch_contracts(self: Arc<Self>) -> Result<()> {
        let every = self.config.polling.contracts;
        let mut said = None;
        let mut failing = Backoff::default();
        while !self.stop.is_cancelled() {
            let wait = if said.is_some() { SECOND_OPINION_INTERVAL.min(every) } else { every };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => return Ok(()),
            }
            let ours = self.chain.agreement();
            let read = tokio::select! {
                read = self.chain.read_agreement() => read,
                () = self.stop.cancelled() => return Ok(()),
            };
            let read = match read {
                Ok(read) => read,
                Err(fault) => {
                    failing.record(&self.health, "contracts", Err(fault))?;
                    continue;
                }
            };
            let is_sure = said == Some(read);
            said = (read != ours && !is_sure).then_some(read);
            if read.has_contracts_of(&ours) {
                failing.record(&self.health, "contracts", Ok(()))?;
                if is_sure {
                    self.chain.adopt_sla(&read);
                }
                continue;
            }
            let reason = anyhow!("the Competition names other contracts now: {read}");
            failing.record(&self.health, "contracts", Err(Fault::Transient(reason)))?;
            if is_sure {
                self.begin_anew().await;
            }
        }
        Ok(())
    }

    /// Ends this daemon, so that another begins with the contracts that the Competition names.
    async fn begin_anew(self: &Arc<Self>) {
        // What was asked last of the contracts before.
        let last = async {
            self.clone().poll_requests().await?;
            self.clone().poll_challenges().await
        };
        match tokio::time::timeout(LAST_LOOK_TIMEOUT, last).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => {
                tracing::warn!(reason = format!("{fault:#}"), "the last blocks of the contracts before are not read")
            }
            Err(_) => tracing::warn!("the last blocks of the contracts before are not read in time"),
        }
        tracing::warn!("beginning anew with the contracts that the Competition names");
        self.moved.cancel();
        self.stop.cancel();
    }

    /// Wakes the watchers when the WebSocket tells of something, where one is configured.
    pub(super) async fn listen(self: Arc<Self>) -> Result<()> {
        let Some(listener) = self.chain.listener() else {
            self.stop.cancelled().await;
            return Ok(());
        };
        let tell = |news| match news {
            Topic::Requests => self.wake.requests.notify_one(),
            Topic::Challenges => self.wake.challenges.notify_one(),
        };
        tokio::select! {
            never = listener.listen(tell) => match never {},
            () = self.stop.cancelled() => Ok(()),
        }
    }

    /// Runs `pass` every so often, and when it is woken, until the stop; says so once a minute while it fails.
    async fn repeat<F: Future<Output = Result<()>>>(
        &self,
        part: &'static str,
        every: Duration,
        wake: &Notify,
        pass: impl Fn() -> F,
    ) -> Result<()> {
        let mut failing = Backoff::default();
        while !self.stop.is_cancelled() {
            let outcome = tokio::select! {
                outcome = pass() => outcome,
                () = self.stop.cancelled() => return Ok(()),
            };
            let failed = failing.record(&self.health, part, outcome)?;
            tokio::select! {
                () = wake.notified(), if failed.is_none() => {}
                () = tokio::time::sleep(failed.unwrap_or(every)) => {}
                () = self.stop.cancelled() => {}
            }
        }
        Ok(())
    }
}
