//! `nova run`: starts the loops, supervises them, and shuts them down in order.

mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::chain::Chain;
use crate::chain::tx_manager::{Pending, Sender};
use crate::config::{Config, Network};
use crate::ezkl::felt::Felt;
use crate::ezkl::model_version::{ModelVersion, SETUP_PROOF, SetupRecord};
use crate::ezkl::proof::ProofFile;
use crate::ezkl::{Ezkl, srs};
use crate::fault::{Classify as _, Fault, Result};
use crate::health::Health;
use crate::http;
use crate::ledger::{Ledger, Request, SubmissionPolicy};
use crate::machine::{self, Machine};
use crate::pipeline::canary::Canary;
use crate::pipeline::circuit::Circuit;
use crate::pipeline::infer::Inferrer;
use crate::pipeline::predict::Predictor;
use crate::pipeline::prove::{ChallengeHandler, Prover};
use crate::pipeline::stop_loss::StopLoss;
use crate::retry::{Backoff, retry_until_ok};
use crate::services::ipfs_gateway::IpfsGateway;
use crate::services::plumber::Plumber;
use crate::services::pulse::Pulse;
use crate::witness_store::Store;

/// Requests worked on at once: while one waits for its features, others are computed.
const MAX_CONCURRENT_REQUESTS: usize = 64;
/// Documents of proof requests that are fetched at once: a gateway may look for one for minutes.
const MAX_CONCURRENT_DOWNLOADS: usize = 8;
/// How long finishing what is in hand may take; the rest is found in the ledger after the next start.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the sender has, once the last inference is done, to send its answer.
const FINAL_SEND_TIMEOUT: Duration = Duration::from_secs(4);
/// How often the claims on what is in hand are renewed.
const LEASE_RENEWAL_INTERVAL: Duration = Duration::from_secs(60);
/// How often a stage looks into the ledger without being woken: for rows whose next try has come.
const IDLE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How often the sender looks at the chain while transactions are in flight.
const IN_FLIGHT_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Wakes a stage that has work. Only saves waiting: the work itself is in the ledger.
#[derive(Default)]
struct Notifiers {
    requests: Notify,
    challenges: Notify,
    catch_up: Notify,
    infer: Notify,
    documents: Notify,
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
    responder: ChallengeHandler,
    canary: Option<Canary>,
    stop_loss: StopLoss,
    health: Arc<Health>,
    wake: Notifiers,
    /// Nothing new is begun.
    stop: CancellationToken,
    /// The contracts are others now.
    moved: CancellationToken,
}

/// Serves requests until `stop` is cancelled, then finishes what is in hand. Where the Competition names other contracts it begins anew
/// with those.
///
/// # Errors
/// Whatever needs a person before the daemon can be of use.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let (config, health) = (Arc::new(config), Arc::new(Health::default()));
    machine::raise_files();
    http::serve(config.http_address, health.clone(), stop.clone()).await?;
    while serve_these_contracts(&config, &health, &stop).await? == Shutdown::Moved {
        health.reset();
    }
    tracing::info!("stopped, nothing is lost");
    Ok(())
}

/// Why a daemon has ended.
#[derive(PartialEq, Eq)]
enum Shutdown {
    Asked,
    /// The contracts are others now.
    Moved,
}

async fn serve_these_contracts(
    config: &Arc<Config>,
    health: &Arc<Health>,
    stop: &CancellationToken,
) -> anyhow::Result<Shutdown> {
    let starting = tokio::select! {
        started = Daemon::start(config.clone(), health.clone(), stop.child_token()) => started,
        () = stop.cancelled() => return Ok(Shutdown::Asked),
    };
    let daemon = Arc::new(starting?);
    let outcome = daemon.clone().serve().await;
    daemon.ezkl.shut_down().await;
    let released = daemon.ledger.release_leases().await;
    outcome?;
    match released {
        // Whoever opens the ledger next frees what dead processes had.
        Err(fault @ Fault::Transient(_)) => tracing::warn!(reason = %fault, "claims are not given back"),
        released => released?,
    }
    Ok(if daemon.moved.is_cancelled() && !stop.is_cancelled() { Shutdown::Moved } else { Shutdown::Asked })
}

impl Daemon {
    async fn start(config: Arc<Config>, health: Arc<Health>, stop: CancellationToken) -> Result<Self> {
        let machine = Machine::of(&config);
        if let Err(error) = machine.check() {
            tracing::warn!(reason = format!("{error:#}"), "the machine may be too small");
        }
        health.register_check("machine", move || machine.failure_reason());
        let files = config.model_files.clone();
        let version = blocking(move || ModelVersion::read(&files)).await?;
        if let Some(making) = SetupRecord::beside(&config.model_files)? {
            let (settings, fidelity) = (making.choice.to_string(), making.fidelity.to_string());
            tracing::info!(
                settings,
                fidelity,
                proof_seconds = making.prove_seconds,
                "the circuit, as `setup` measured it"
            );
        }
        version.settings.check_visibilities(&version.files.settings)?;
        if config.network == Network::ArbitrumOne {
            srs::require_public(&version.files.srs)?;
        }
        let ezkl = Ezkl::new(&config.ezkl)?;
        let wheel = retry_until_ok("the EZKL worker", &health, "worker", || ezkl.version()).await?;
        version.settings.check_version(&wheel, &version.files.settings)?;
        retry_until_ok("the EZKL worker", &health, "worker", || ezkl.check_others()).await?;
        let workers = ezkl.clone();
        health.register_check("worker", move || workers.failure_reason());
        let ledger = Ledger::open(&config.artifacts).await?;
        let store = Store::open(&config)?;
        let version = retry_until_ok("the witness store", &health, "store", || store.keep_model(&version)).await?;
        let circuit = Circuit::of(&config, ezkl.clone(), version)?;
        let predictor = Predictor::new(&config, Some(circuit))?;
        health.set("model", Ok(()));

        let (plumber, pulse) = plumber_and_pulse(&config);
        let gateway = IpfsGateway::new(&config.ipfs_gateway);
        register_dependency_checks(&health, &store, &plumber, &gateway);
        let chain_settings = config.chain.as_ref().ok_or_else(|| Fault::Fatal(anyhow!("no chain is configured")))?;
        let modeler = ledger.modeler().await?;
        let connect = || Chain::connect(chain_settings, &pulse, modeler.as_deref());
        let chain = retry_until_ok("the chain", &health, "rpc", connect).await?;
        ledger.identify(&chain.identity()).await?;
        retry_until_ok("the verifier contract", &health, "rpc", || check_verifier(&chain, &config)).await?;
        health.watch_ledger(ledger.clone());
        let reading = chain.clone();
        health.register_check("requests", move || reading.failure_reason());
        tracing::info!(
            modeler = chain.identity().modeler,
            consumption = chain.identity().consumption,
            model = predictor.circuit().map(|circuit| circuit.version.digest.as_str()),
            "ready"
        );
        let prover = Prover { config: config.clone(), ezkl: ezkl.clone(), store: store.clone() };
        let model = predictor.circuit().map(|circuit| circuit.version.digest.clone()).unwrap_or_default();
        let canary =
            config.canary_interval.map(|interval| Canary::new(prover.clone(), ledger.clone(), model.clone(), interval));
        Ok(Self {
            canary,
            stop_loss: StopLoss::new(ledger.clone(), model),
            inferrer: Inferrer {
                config: config.clone(),
                predictor,
                plumber: plumber.clone(),
                chain: chain.clone(),
                store,
                ledger: ledger.clone(),
                retries: Arc::default(),
            },
            responder: ChallengeHandler {
                prover,
                plumber,
                gateway,
                chain: chain.clone(),
                ledger: ledger.clone(),
                retries: Arc::default(),
            },
            config,
            chain,
            ledger,
            ezkl,
            health,
            wake: Notifiers::default(),
            stop,
            moved: CancellationToken::new(),
        })
    }

    /// Runs the loops. The first that ends with a fault stops all others.
    async fn serve(self: Arc<Self>) -> Result<()> {
        // Before anything is sent. What it finds is told by the loop that looks again and again.
        if let Err(fault @ Fault::Fatal(_)) = self.stop_loss.check().await {
            return Err(fault);
        }
        let finished_inferring = CancellationToken::new();
        let mut loops: JoinSet<Result<()>> = JoinSet::new();
        if self.config.polling.enabled {
            loops.spawn(self.clone().watch_requests());
            loops.spawn(self.clone().watch_challenges());
            loops.spawn(self.clone().backfill());
            loops.spawn(self.clone().watch_contracts());
            loops.spawn(self.clone().watch_endpoints());
            loops.spawn(self.clone().listen());
        }
        let daemon = self.clone();
        let done = finished_inferring.clone().drop_guard();
        loops.spawn(async move {
            let _done = done;
            daemon.infer().await
        });
        if self.config.submit_proofs {
            loops.spawn(self.clone().read_documents());
            loops.spawn(self.clone().prove());
        }
        loops.spawn(self.clone().send(finished_inferring));

        let mut outcome = Ok(());
        while let Some(ended) = loops.join_next().await {
            let ended = ended
                .unwrap_or_else(|panic| Err(Fault::Fatal(anyhow!(panic).context("a part of the daemon panicked"))));
            if let Err(fault) = ended {
                outcome = outcome.and(Err(fault));
            }
            self.stop.cancel();
        }
        outcome
    }

    /// Claims requests and works on them, many at once, until the stop; then finishes those it has.
    async fn infer(self: Arc<Self>) -> Result<()> {
        let in_hand = Arc::new(AtomicUsize::new(0));
        let mut running: JoinSet<Result<()>> = JoinSet::new();
        let (mut failing, mut losing) = (Backoff::default(), Backoff::default());
        let mut renewed = Instant::now();
        while !self.stop.is_cancelled() {
            while let Some(ended) = running.try_join_next() {
                ended.unwrap_or_else(|panic| Err(Fault::Fatal(anyhow!(panic))))?;
            }
            losing.record(&self.health, "stop-loss", self.stop_loss.check().await)?;
            let claimed =
                self.claim(MAX_CONCURRENT_REQUESTS.saturating_sub(in_hand.load(Ordering::Relaxed)), &mut renewed).await;
            let (claimed, outcome) = match claimed {
                Ok(claimed) => (claimed, Ok(())),
                Err(fault) => (Vec::new(), Err(fault)),
            };
            let wait = failing.record(&self.health, "ledger", outcome)?.unwrap_or(IDLE_POLL_INTERVAL);
            if claimed.is_empty() {
                tokio::select! {
                    () = self.wake.infer.notified() => {}
                    () = tokio::time::sleep(wait) => {}
                    Some(ended) = running.join_next() => ended.unwrap_or_else(|panic| Err(Fault::Fatal(anyhow!(panic))))?,
                    () = self.stop.cancelled() => {}
                }
                continue;
            }
            in_hand.fetch_add(claimed.len(), Ordering::Relaxed);
            running.spawn(self.clone().infer_all(claimed, in_hand.clone()));
        }
        let finished = tokio::time::timeout(SHUTDOWN_TIMEOUT, running.join_all()).await;
        finished.map_or(Ok(()), |outcomes| outcomes.into_iter().collect())
    }

    /// Takes requests to work on, and keeps the claims on those in hand.
    async fn claim(&self, limit: usize, renewed: &mut Instant) -> Result<Vec<Request>> {
        if renewed.elapsed() >= LEASE_RENEWAL_INTERVAL {
            self.ledger.renew_leases().await?;
            *renewed = Instant::now();
        }
        // What cannot be saved cannot be proven: it waits in the ledger, and expires there if the store stays as it is.
        if limit == 0 || self.stop_loss.is_triggered() || !self.inferrer.store.is_accepting().await {
            return Ok(Vec::new());
        }
        self.ledger.claim_requests(limit).await
    }

    async fn infer_all(self: Arc<Self>, requests: Vec<Request>, in_hand: Arc<AtomicUsize>) -> Result<()> {
        let start = Instant::now();
        let features = self.inferrer.features(&requests).await;
        let fetched = start.elapsed();
        let answers = requests.into_iter().zip(features).map(async |(request, features)| {
            let outcome = self.inferrer.answer(request, features, fetched).await;
            in_hand.fetch_sub(1, Ordering::Relaxed);
            self.wake.send.notify_one();
            self.wake.infer.notify_one();
            outcome
        });
        futures::future::join_all(answers).await.into_iter().collect()
    }

    /// Fetches the documents of challenges, several at once beside the prover: a gateway that hangs on some holds up no other.
    async fn read_documents(self: Arc<Self>) -> Result<()> {
        let mut reading: JoinSet<Result<()>> = JoinSet::new();
        let mut failing = Backoff::default();
        loop {
            let claimed = match reading.len() {
                MAX_CONCURRENT_DOWNLOADS.. => Ok(None),
                _ => self.ledger.claim_document().await,
            };
            let (claimed, outcome) = match claimed {
                Ok(claimed) => (claimed, Ok(())),
                Err(fault) => (None, Err(fault)),
            };
            let wait = failing.record(&self.health, "ledger", outcome)?;
            if let Some(challenge) = claimed {
                let daemon = self.clone();
                reading.spawn(async move {
                    let outcome = daemon.responder.read(&challenge).await;
                    daemon.wake.prove.notify_one();
                    outcome
                });
                continue;
            }
            tokio::select! {
                Some(ended) = reading.join_next() => ended.unwrap_or_else(|panic| Err(Fault::Fatal(anyhow!(panic))))?,
                () = self.wake.documents.notified(), if wait.is_none() => {}
                () = tokio::time::sleep(wait.unwrap_or(IDLE_POLL_INTERVAL)) => {}
                () = self.stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Serves one challenge after the other. The stop interrupts a running proof: its row stays asked for.
    async fn prove(self: Arc<Self>) -> Result<()> {
        let (mut failing, mut failing_canary) = (Backoff::default(), Backoff::default());
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
            let wait = failing.record(&self.health, "ledger", outcome.map(drop))?;
            if more {
                continue;
            }
            if let (Some(canary), None) = (&self.canary, wait) {
                let outcome = self.prove_unasked(canary).await;
                failing_canary.record(&self.health, "canary", outcome)?;
            }
            tokio::select! {
                () = self.wake.prove.notified(), if wait.is_none() => {}
                () = tokio::time::sleep(wait.unwrap_or(IDLE_POLL_INTERVAL)) => {}
                () = self.stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Proves an answer that was not asked for, when that is due. A proof request ends it at once, and it is done another time: a
    /// proof may take minutes, and what is lost is only its own work.
    async fn prove_unasked(&self, canary: &Canary) -> Result<()> {
        if let Some(begun) = canary.begin().await? {
            tokio::select! {
                outcome = canary.prove(&begun) => outcome?,
                () = self.wait_asked() => {
                    tracing::info!(request = begun.request, "canary makes way for a proof request");
                    self.ledger.forget_canary(&begun).await?;
                    self.wake.prove.notify_one();
                }
                () = self.stop.cancelled() => self.ledger.forget_canary(&begun).await?,
            }
        }
        canary.check().await
    }

    /// Returns once a proof request waits.
    async fn wait_asked(&self) {
        while !matches!(self.ledger.has_claimable_challenge().await, Ok(true)) {
            tokio::select! {
                () = self.wake.prove.notified() => {}
                () = tokio::time::sleep(IDLE_POLL_INTERVAL) => {}
            }
        }
    }

    /// Keeps the sender going until the last inference is done, and once more after it.
    async fn send(self: Arc<Self>, finished_inferring: CancellationToken) -> Result<()> {
        let taking =
            Sender::acquire(self.chain.clone(), self.ledger.clone(), &self.config.artifacts, self.health.clone());
        let mut sender = tokio::select! {
            sender = taking => sender?,
            () = self.stop.cancelled() => return Ok(()),
        };
        // A promise that is not signed yet is none.
        let allowed = || SubmissionPolicy {
            answers: self.config.submit_inferences && !self.stop_loss.is_triggered(),
            proofs: self.config.submit_proofs,
        };
        let mut failing = Backoff::default();
        while !finished_inferring.is_cancelled() {
            let outcome = tokio::select! {
                outcome = sender.pass(allowed()) => outcome,
                // A pass that hangs must not hold up the stop; one that is interrupted goes on in the next.
                () = cancelled_since(&finished_inferring, FINAL_SEND_TIMEOUT) => return Ok(()),
            };
            let pending = *outcome.as_ref().unwrap_or(&Pending::Nothing);
            let outcome = match sender.conflicting_daemon() {
                // It goes on watching, and is not well for that.
                Some(rival) => outcome.and_then(|_| Err(Fault::Transient(anyhow!("{rival}")))),
                None => outcome,
            };
            let wait = failing.record(&self.health, "sender", outcome.map(drop))?;
            let wait = wait.filter(|_| sender.conflicting_daemon().is_none());
            let wait =
                wait.unwrap_or(if pending == Pending::Nothing { IDLE_POLL_INTERVAL } else { IN_FLIGHT_POLL_INTERVAL });
            tokio::select! {
                () = self.wake.send.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = finished_inferring.cancelled() => {}
            }
        }
        match tokio::time::timeout(FINAL_SEND_TIMEOUT, sender.pass(allowed())).await {
            Ok(Err(fault @ Fault::Fatal(_))) => Err(fault),
            _ => Ok(()),
        }
    }
}

/// Returns once `token` has been cancelled for so long.
async fn cancelled_since(token: &CancellationToken, long: Duration) {
    token.cancelled().await;
    tokio::time::sleep(long).await;
}

/// The registered verifier must accept the proof that `setup` made. Files that were made elsewhere have none.
pub async fn check_verifier(chain: &Chain, config: &Config) -> Result<()> {
    let path = config.model_files.folder.join(SETUP_PROOF);
    if !path.is_file() {
        return Ok(());
    }
    let proof = ProofFile::open(&path).fatal()?;
    let instances: Vec<_> = proof.instances().fatal()?.into_iter().map(Felt::to_be_bytes).collect();
    chain.check_verifier(proof.bytes().fatal()?, &instances).await
}

/// Runs what reads large files where it holds up nothing else.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(Fault::Fatal(anyhow!(panic))))
}

/// From now on `/readyz` tells of what others keep from working.
fn register_dependency_checks(health: &Health, store: &Store, plumber: &Plumber, gateway: &IpfsGateway) {
    let (store, plumber, gateway) = (store.clone(), plumber.clone(), gateway.clone());
    health.register_check("store", move || store.failure_reason());
    health.register_check("plumber", move || plumber.failure_reason());
    health.register_check("gateway", move || gateway.failure_reason());
}

/// Plumber and Pulse, as the settings name them.
pub fn plumber_and_pulse(config: &Config) -> (Plumber, Pulse) {
    // Without a key, which inline features allow, Plumber refuses uploads and its error says so.
    let key = config.spectral_api_key.clone().unwrap_or_default();
    (Plumber::new(&config.plumber_host, key), Pulse::new(&config.pulse_host))
}
