//! `nova run`: starts the loops, supervises them, and shuts them down in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::chain::Chain;
use crate::chain::send::{Pending, Sender};
use crate::config::{Config, Network};
use crate::ezkl::files::ModelVersion;
use crate::ezkl::{Ezkl, srs};
use crate::fault::{Fault, Result};
use crate::health::Health;
use crate::http;
use crate::ledger::Ledger;
use crate::pipeline::infer::Inferrer;
use crate::pipeline::predict::{Circuit, Predictor};
use crate::pipeline::prove::{Prover, Responder};
use crate::spectral::plumber::Plumber;
use crate::spectral::pulse::Pulse;
use crate::witness::Store;

/// Requests worked on at once: while one waits for its features, others are computed.
const REQUESTS_AT_ONCE: usize = 64;
/// How long finishing what is in hand may take; the rest is found in the ledger after the next start.
const GRACE: Duration = Duration::from_secs(20);
/// How often a stage looks into the ledger without being woken: for rows whose next try has come.
const LOOK: Duration = Duration::from_secs(1);
/// How often the sender looks at the chain while transactions are in flight.
const IN_FLIGHT_LOOK: Duration = Duration::from_millis(500);
/// The longest wait after a failed pass.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How often a failure that lasts is logged.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Wakes a stage that has work. Only saves waiting: the work itself is in the ledger.
#[derive(Default)]
struct WakeUps {
    infer: Notify,
    prove: Notify,
    send: Notify,
}

/// Everything the loops share.
struct Daemon {
    config: Arc<Config>,
    chain: Chain,
    ledger: Ledger,
    ezkl: Ezkl,
    inferrer: Inferrer,
    responder: Responder,
    health: Arc<Health>,
    wake: WakeUps,
    /// Nothing new is begun.
    stop: CancellationToken,
}

/// Serves requests until `stop` is cancelled, then finishes what is in hand.
///
/// # Errors
/// Whatever needs a person before the daemon can be of use.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let starting = tokio::select! {
        started = Daemon::start(config, stop.clone()) => started,
        () = stop.cancelled() => return Ok(()),
    };
    let daemon = Arc::new(starting?);
    let outcome = daemon.clone().serve().await;
    daemon.ezkl.shut_down().await;
    daemon.ledger.release_requests().await?;
    daemon.ledger.release_challenges().await?;
    outcome?;
    tracing::info!("stopped, nothing is lost");
    Ok(())
}

impl Daemon {
    async fn start(config: Config, stop: CancellationToken) -> Result<Self> {
        let health = Arc::new(Health::default());
        http::serve(config.http_address, health.clone(), stop.clone()).await?;
        let config = Arc::new(config);
        let version = ModelVersion::read(&config.model_files)?;
        if config.network == Network::ArbitrumOne {
            srs::require_public(&version.files.srs)?;
        }
        let ezkl = Ezkl::new(&config.ezkl)?;
        version.settings.check_version(&ezkl.version().await?, &version.files.settings)?;
        health.set("worker", Ok(()));
        let ledger = Ledger::open(&config.artifacts).await?;
        let version = version.keep(&config.artifacts)?;
        let store = Store::open(&config)?;
        persistently("the witness store", &health, "store", || store.keep_model(&version)).await?;
        let circuit = Circuit { ezkl: ezkl.clone(), version };
        let predictor = Predictor::new(&config, Some(circuit))?;
        health.set("model", Ok(()));

        let (plumber, pulse) = spectral(&config);
        let chain_settings = config.chain.as_ref().ok_or_else(|| Fault::Stop(anyhow!("no chain is configured")))?;
        let chain = persistently("the chain", &health, "rpc", || Chain::connect(chain_settings, &pulse)).await?;
        ledger.identify(&chain.identity()).await?;
        health.watch_ledger(ledger.clone());
        tracing::info!(
            modeler = chain.identity().modeler,
            consumption = chain.identity().consumption,
            model = predictor.circuit().map(|circuit| circuit.version.digest.as_str()),
            "ready"
        );
        let prover = Prover { config: config.clone(), ezkl: ezkl.clone(), store: store.clone() };
        Ok(Self {
            inferrer: Inferrer {
                config: config.clone(),
                predictor,
                plumber: plumber.clone(),
                chain: chain.clone(),
                store,
                ledger: ledger.clone(),
            },
            responder: Responder { prover, plumber, chain: chain.clone(), ledger: ledger.clone() },
            config,
            chain,
            ledger,
            ezkl,
            health,
            wake: WakeUps::default(),
            stop,
        })
    }

    /// Runs the loops. The first that ends with a fault stops all others.
    async fn serve(self: Arc<Self>) -> Result<()> {
        let finished_inferring = CancellationToken::new();
        let mut loops: JoinSet<Result<()>> = JoinSet::new();
        if self.config.polling.enabled {
            loops.spawn(self.clone().watch_requests());
            loops.spawn(self.clone().watch_challenges());
        }
        let daemon = self.clone();
        let done = finished_inferring.clone().drop_guard();
        loops.spawn(async move {
            let _done = done;
            daemon.infer().await
        });
        if self.config.submit_proofs {
            loops.spawn(self.clone().prove());
        }
        loops.spawn(self.clone().send(finished_inferring));

        let mut outcome = Ok(());
        while let Some(ended) = loops.join_next().await {
            let ended =
                ended.unwrap_or_else(|panic| Err(Fault::Stop(anyhow!(panic).context("a part of the daemon panicked"))));
            if let Err(fault) = ended {
                outcome = outcome.and(Err(fault));
            }
            self.stop.cancel();
        }
        outcome
    }

    async fn watch_requests(self: Arc<Self>) -> Result<()> {
        let every = self.config.polling.inference;
        let daemon = self.clone();
        self.repeat("rpc", every, move || daemon.clone().see_requests()).await
    }

    async fn see_requests(self: Arc<Self>) -> Result<()> {
        let seen = self.chain.watch_requests(&self.ledger).await?;
        let expired = self.ledger.expire_requests(self.chain.head().await?.time).await?;
        if expired > 0 {
            tracing::warn!(expired, "requests ran out of time before they were answered");
        }
        if seen.new > 0 {
            tracing::info!(new = seen.new, "requests seen");
            self.wake.infer.notify_one();
        }
        Ok(())
    }

    async fn watch_challenges(self: Arc<Self>) -> Result<()> {
        let every = self.config.polling.proof;
        let daemon = self.clone();
        self.repeat("rpc", every, move || daemon.clone().see_challenges()).await
    }

    async fn see_challenges(self: Arc<Self>) -> Result<()> {
        let seen = self.chain.watch_challenges(&self.ledger).await?;
        if seen.new > 0 {
            tracing::info!(new = seen.new, "proof requests seen");
            self.wake.prove.notify_one();
        }
        Ok(())
    }

    /// Runs `pass` every so often until the stop; says so once a minute while it fails.
    async fn repeat<F: Future<Output = Result<()>>>(
        &self,
        part: &'static str,
        every: Duration,
        pass: impl Fn() -> F,
    ) -> Result<()> {
        let mut failing = Failing::default();
        while !self.stop.is_cancelled() {
            let outcome = tokio::select! {
                outcome = pass() => outcome,
                () = self.stop.cancelled() => return Ok(()),
            };
            let wait = failing.judge(&self.health, part, outcome)?.unwrap_or(every);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Claims requests and works on them, many at once, until the stop; then finishes those it has.
    async fn infer(self: Arc<Self>) -> Result<()> {
        let mut running: JoinSet<Result<()>> = JoinSet::new();
        let mut failing = Failing::default();
        while !self.stop.is_cancelled() {
            while let Some(ended) = running.try_join_next() {
                ended.unwrap_or_else(|panic| Err(Fault::Stop(anyhow!(panic))))?;
            }
            let claimed = self.ledger.claim_requests(REQUESTS_AT_ONCE.saturating_sub(running.len())).await;
            let claimed = match claimed {
                Ok(claimed) => claimed,
                Err(fault) => {
                    let wait = failing.judge(&self.health, "ledger", Err(fault))?.unwrap_or(LOOK);
                    tokio::time::sleep(wait).await;
                    continue;
                }
            };
            if claimed.is_empty() {
                tokio::select! {
                    () = self.wake.infer.notified() => {}
                    () = tokio::time::sleep(LOOK) => {}
                    Some(ended) = running.join_next() => ended.unwrap_or_else(|panic| Err(Fault::Stop(anyhow!(panic))))?,
                    () = self.stop.cancelled() => {}
                }
                continue;
            }
            let daemon = self.clone();
            running.spawn(async move { daemon.infer_all(claimed).await });
        }
        let finished = tokio::time::timeout(GRACE, running.join_all()).await;
        finished.map_or(Ok(()), |outcomes| outcomes.into_iter().collect())
    }

    async fn infer_all(&self, requests: Vec<crate::ledger::Request>) -> Result<()> {
        let start = Instant::now();
        let features = self.inferrer.features(&requests).await;
        let fetched = start.elapsed();
        let answers = requests.iter().zip(features).map(async |(request, features)| {
            let outcome = self.inferrer.answer(request, features, fetched).await;
            self.wake.send.notify_one();
            outcome
        });
        futures::future::join_all(answers).await.into_iter().collect()
    }

    /// Serves one challenge after the other. The stop interrupts a running proof: its row stays asked for.
    async fn prove(self: Arc<Self>) -> Result<()> {
        let mut failing = Failing::default();
        loop {
            let served = async {
                let Some(challenge) = self.ledger.claim_challenge().await? else { return Ok(false) };
                self.responder.serve(&challenge).await?;
                self.wake.send.notify_one();
                Ok(true)
            };
            let outcome = tokio::select! {
                outcome = served => outcome,
                () = self.stop.cancelled() => return Ok(()),
            };
            let more = matches!(outcome, Ok(true));
            let wait = failing.judge(&self.health, "ledger", outcome.map(drop))?;
            if more {
                continue;
            }
            tokio::select! {
                () = self.wake.prove.notified(), if wait.is_none() => {}
                () = tokio::time::sleep(wait.unwrap_or(LOOK)) => {}
                () = self.stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Keeps the sender going until the last inference is done, and once more after it.
    async fn send(self: Arc<Self>, finished_inferring: CancellationToken) -> Result<()> {
        let taking = Sender::take_place(self.chain.clone(), self.ledger.clone(), &self.config.artifacts);
        let mut sender = tokio::select! {
            sender = taking => sender?,
            () = self.stop.cancelled() => return Ok(()),
        };
        let mut failing = Failing::default();
        loop {
            let last = finished_inferring.is_cancelled();
            let pass = sender.pass(self.config.submit_inferences, self.config.submit_proofs);
            let outcome = match tokio::time::timeout(if last { GRACE / 4 } else { Duration::MAX }, pass).await {
                Ok(outcome) => outcome,
                Err(_) => return Ok(()),
            };
            if last {
                return outcome
                    .map(drop)
                    .or_else(|fault| if matches!(fault, Fault::Stop(_)) { Err(fault) } else { Ok(()) });
            }
            let pending = *outcome.as_ref().unwrap_or(&Pending::Nothing);
            let wait = failing.judge(&self.health, "sender", outcome.map(drop))?;
            let wait = wait.unwrap_or(if pending == Pending::Nothing { LOOK } else { IN_FLIGHT_LOOK });
            tokio::select! {
                () = self.wake.send.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = finished_inferring.cancelled() => {}
            }
        }
    }
}

/// Plumber and Pulse, as the settings name them.
pub fn spectral(config: &Config) -> (Plumber, Pulse) {
    // Without a key, which inline features allow, Plumber refuses uploads and its error says so.
    let key = config.spectral_api_key.clone().unwrap_or_default();
    (Plumber::new(&config.plumber_host, key), Pulse::new(&config.pulse_host))
}

/// What a part of the daemon does about its failures.
#[derive(Default)]
struct Failing {
    times: u32,
    said: Option<Instant>,
}

impl Failing {
    /// After success nothing; after a failure that may pass the time to wait; a failure that may not is handed on.
    fn judge(&mut self, health: &Health, part: &'static str, outcome: Result<()>) -> Result<Option<Duration>> {
        match outcome {
            Ok(()) => {
                if self.said.take().is_some() {
                    tracing::info!(part, "works again");
                }
                self.times = 0;
                health.set(part, Ok(()));
                Ok(None)
            }
            Err(fault @ Fault::Stop(_)) => Err(fault),
            Err(fault) => {
                let reason = fault.to_string();
                if self.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
                    tracing::error!(part, reason, "does not work, trying on");
                    self.said = Some(Instant::now());
                }
                health.set(part, Err(reason));
                self.times += 1;
                Ok(Some(Duration::from_secs(1 << self.times.min(5)).min(MAX_WAIT)))
            }
        }
    }
}

/// Tries until it works or a person is needed: at start, everything outside may be down.
async fn persistently<T, F: Future<Output = Result<T>>>(
    what: &'static str,
    health: &Health,
    part: &'static str,
    attempt: impl Fn() -> F,
) -> Result<T> {
    let mut failing = Failing::default();
    loop {
        let outcome = match attempt().await {
            Ok(value) => {
                failing.judge(health, part, Ok(()))?;
                return Ok(value);
            }
            Err(fault) => Err(fault.context(format!("{what} cannot be reached"))),
        };
        if let Some(wait) = failing.judge(health, part, outcome)? {
            tokio::time::sleep(wait).await;
        }
    }
}
