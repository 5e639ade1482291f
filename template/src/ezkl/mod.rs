//! EZKL, in supervised worker processes over its official wheel: a prover that runs out of memory takes no daemon with
//! it, and its memory goes back when it is done.

pub mod felt;
pub mod memory;
pub mod model_archive;
pub mod model_version;
mod progress;
pub mod proof;
pub mod reason;
pub mod reply;
pub mod scratch;
pub mod settings;
pub mod srs;
pub mod witness;
pub(crate) mod worker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell, Semaphore};

use crate::config::{self, ModelFiles};
use crate::failure_tracker::FailureTracker;
use crate::fault::{Classify as _, Fault, Result};
use memory::Memory;
use model_version::SETUP_PROOF;
use progress::Patience;
use proof::ProofFile;
use scratch::Scratch;
use settings::Settings;
use witness::Witness;
use worker::{Failure, Worker, WorkerSpec};

/// Long enough for Python to start and import the wheel on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// EZKL's functions. Witnesses are made by several workers at once, proofs by one that makes way for everything else, and `mock`
/// has one of its own: that of a large circuit takes long and much memory, and no witness waits for it.
#[derive(Clone)]
pub struct Ezkl {
    witnesses: Arc<Pool>,
    mocks: Arc<Pool>,
    prover: Arc<Pool>,
    /// EZKLs of other versions, for what was answered with those: `NOVA_PYTHONS`.
    others: Arc<BTreeMap<String, Ezkl>>,
    python: PathBuf,
    scratch: Arc<Scratch>,
    version: Arc<OnceCell<String>>,
    witness_timeout: Duration,
    mock_timeout: Duration,
    prove_timeout: Duration,
}

impl Ezkl {
    /// # Errors
    /// If there is no folder for temporary files.
    pub fn new(settings: &config::Ezkl) -> Result<Self> {
        Self::with_prover(settings, true)
    }

    /// The same for `setup`, which does nothing else meanwhile: its prover makes way for nobody.
    ///
    /// # Errors
    /// If there is no folder for temporary files.
    pub fn in_foreground(settings: &config::Ezkl) -> Result<Self> {
        Self::with_prover(settings, false)
    }

    fn with_prover(settings: &config::Ezkl, background: bool) -> Result<Self> {
        let scratch = Arc::new(Scratch::new().fatal()?);
        let of = |python: &PathBuf, others| Self::of_python(settings, python, others, background, scratch.clone());
        let others = settings.pythons.iter().map(|(version, python)| (version.clone(), of(python, BTreeMap::new())));
        let others = others.collect();
        Ok(of(&settings.python, others))
    }

    /// No worker is started before it is called.
    fn of_python(
        settings: &config::Ezkl,
        python: &Path,
        others: BTreeMap<String, Ezkl>,
        background: bool,
        scratch: Arc<Scratch>,
    ) -> Self {
        let kind = |background, threads| WorkerSpec {
            python: python.to_path_buf(),
            scratch: scratch.clone(),
            background,
            threads,
            downloads: false,
            memory_mb: settings.memory_mb,
            patience: Patience::default(),
        };
        // Python's GIL is held while EZKL works, and the daemon's own threads want cores too: one thread a witness.
        let witnesses = Pool::new(kind(false, 1), settings.witness_workers);
        let mocks = Pool::new(kind(false, settings.mock_threads), 1);
        // Setup's own prover downloads the SRS, too.
        let prover = WorkerSpec { downloads: !background, ..kind(background, settings.prover_threads) };
        let prover = Pool::new(prover, 1);
        Self {
            witnesses: Arc::new(witnesses),
            mocks: Arc::new(mocks),
            prover: Arc::new(prover),
            others: Arc::new(others),
            python: python.to_path_buf(),
            scratch,
            version: Arc::default(),
            witness_timeout: settings.witness_timeout,
            mock_timeout: settings.mock_timeout,
            prove_timeout: settings.prove_timeout,
        }
    }

    /// The version of the wheel, asked once: that also shows that a worker starts.
    pub async fn version(&self) -> Result<String> {
        let ask = async || {
            let version = self.witnesses.call("version", json!({}), START_TIMEOUT).await;
            let version = version.map_err(Failure::into_startup_fault)?;
            version.as_str().map(str::to_owned).context("EZKL's version is no string").fatal()
        };
        self.version.get_or_try_init(ask).await.cloned()
    }

    /// Asks each Python of `NOVA_PYTHONS` for its version.
    ///
    /// # Errors
    /// `Fatal`: one has another version than its entry says, or no EZKL.
    pub async fn check_others(&self) -> Result<()> {
        for (version, other) in self.others.iter() {
            other.check_entry(version).await?;
        }
        Ok(())
    }

    /// Its version is what `NOVA_PYTHONS` says.
    async fn check_entry(&self, version: &str) -> Result<()> {
        let entry = format!("NOVA_PYTHONS, {version}:{}", self.python.display());
        let wheel = self.version().await.map_err(|fault| fault.context(entry.clone()))?;
        // It is seldom needed: no process waits for that.
        self.witnesses.stop_idle().await;
        if wheel == version {
            return Ok(());
        }
        Err(Fault::Fatal(anyhow!(
            "{entry}: this Python has EZKL {wheel}; install ezkl=={version} there, or mend the entry"
        )))
    }

    /// The EZKL of this version, which `file` was made with: what was answered with one version is proven with no other.
    ///
    /// # Errors
    /// `Permanent`: there is none. A worker that does not start concerns what is asked for, not the daemon.
    pub async fn of_version(&self, version: &str, file: &Path) -> Result<Self> {
        let wheel = self.version().await?;
        if wheel == version {
            return Ok(self.clone());
        }
        let Some(other) = self.others.get(version) else {
            return Err(Fault::Permanent(anyhow!(
                "{} was made by EZKL {version}, and NOVA_PYTHON has EZKL {wheel}: make a Python that has ezkl=={version}, and name it \
                 in NOVA_PYTHONS={version}:/path/to/bin/python",
                file.display()
            )));
        };
        other.check_entry(version).await.map_err(|fault| match fault {
            Fault::Fatal(error) => Fault::Permanent(error),
            other => other,
        })?;
        Ok(other.clone())
    }

    /// What is wrong with the workers, if their last call failed for another reason than EZKL's own.
    pub fn failure_reason(&self) -> Option<String> {
        let own =
            [&self.witnesses, &self.mocks, &self.prover].into_iter().find_map(|pool| pool.condition.failure_reason());
        own.or_else(|| self.others.values().find_map(Self::failure_reason))
    }

    /// Where temporary files go, so that nothing of them stays.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Runs the circuit on `input_data` (one list of values for each model input) and returns its witness.
    pub async fn witness(&self, files: &ModelFiles, input_data: &[Vec<f64>]) -> Result<Witness> {
        let data = json!({ "input_data": input_data }).to_string();
        // The file that EZKL writes holds more than the value that it returns.
        let output = self.scratch.file().transient()?;
        let args = json!({ "data": data, "model": files.compiled, "output": output.path() });
        self.witnesses.call("gen_witness", args, self.witness_timeout).await.map_err(Failure::into_request_fault)?;
        let json = std::fs::read(output.path()).context("the EZKL worker wrote no witness").transient()?;
        Witness::read(json).permanent()
    }

    /// True if the constraints of the circuit hold for the witness. Slower than `Witness::is_inside`, and never wrong.
    pub async fn mock(&self, files: &ModelFiles, witness: &Path) -> Result<std::result::Result<(), String>> {
        let args = json!({ "witness": witness, "model": files.compiled });
        match self.mocks.call("mock", args, self.mock_timeout).await {
            Ok(Value::Bool(true)) => Ok(Ok(())),
            Ok(other) => Ok(Err(format!("mock answered {other}"))),
            Err(Failure::Refused(refusal)) => Ok(Err(refusal.to_string())),
            Err(failure) => Err(failure.into_request_fault()),
        }
    }

    /// Proves a saved witness and writes the proof to `proof`.
    pub async fn prove(&self, files: &ModelFiles, witness: &Path, proof: &Path) -> Result<()> {
        let args = json!({
            "witness": witness, "model": files.compiled, "pk_path": files.proving_key,
            "srs_path": files.srs, "proof_path": proof,
        });
        let proved = self.prover.call("prove", args, self.prove_timeout).await;
        // The proving key stays in the worker's memory until it ends: give it back.
        self.prover.stop_idle().await;
        proved.map(drop).map_err(Failure::into_request_fault)
    }

    /// Proves and verifies one input, and leaves the proof in `folder` as `setup_proof.json`. How long the proof took. The proof
    /// must be of the instances that an answer would be committed to with this witness.
    ///
    /// # Errors
    /// If circuit, keys and SRS do not belong together, or the proof shows something else than what would be promised.
    pub async fn prove_input(&self, files: &ModelFiles, input_data: &[Vec<f64>], folder: &Path) -> Result<Duration> {
        let (witness, proof) = (folder.join("witness.json"), folder.join(SETUP_PROOF));
        let computed = self.witness(files, input_data).await?;
        std::fs::write(&witness, &computed.json).context("cannot write the witness").transient()?;
        let start = Instant::now();
        self.prove(files, &witness, &proof).await?;
        let took = start.elapsed();
        if !self.verify(files, &proof).await? {
            let folder = files.folder.display();
            return Err(Fault::Permanent(anyhow!(
                "EZKL's own proof does not verify: circuit, keys and SRS in {folder} do not belong together"
            )));
        }
        let promised = computed.instances(&Settings::read(&files.settings)?).permanent()?;
        let proven = ProofFile::open(&proof).and_then(|proof| proof.instances()).permanent()?;
        if promised != proven {
            return Err(Fault::Permanent(anyhow!(
                "EZKL's own proof is of {} instances that are not, one by one, the {} that an answer would be committed to: no answer \
                 of this circuit could be proven. Choose other visibilities (`nova setup --help`)",
                proven.len(),
                promised.len()
            )));
        }
        Ok(took)
    }

    /// True if the proof is valid for the verification key.
    pub async fn verify(&self, files: &ModelFiles, proof: &Path) -> Result<bool> {
        let args = json!({
            "proof_path": proof, "settings_path": files.settings,
            "vk_path": files.verification_key, "srs_path": files.srs,
        });
        match self.prover.call("verify", args, self.prove_timeout).await {
            Ok(valid) => Ok(valid == Value::Bool(true)),
            // EZKL raises where the proof is not valid.
            Err(Failure::Refused(refusal)) => {
                tracing::debug!(%refusal, "EZKL refuses a proof");
                Ok(false)
            }
            Err(failure) => Err(failure.into_request_fault()),
        }
    }

    /// Calls one of the functions that `setup` needs, on the prover, with no deadline: how long these take
    /// depends on model and sample, and a person waits.
    pub async fn call(&self, function: &'static str, args: Value) -> anyhow::Result<Value> {
        call_at_leisure(&self.prover, function, args).await
    }

    /// The same on one thread: what makes many small steps is slower on several, which wait for each other.
    pub async fn call_on_one_thread(&self, function: &'static str, args: Value) -> anyhow::Result<Value> {
        call_at_leisure(&self.witnesses, function, args).await
    }

    /// What the prover has now.
    pub fn prover_memory(&self) -> Option<Memory> {
        self.prover.memory()
    }

    /// The most that it had since `renew_prover`, in megabytes. `None` where the system tells nobody.
    pub fn prover_peak_mb(&self) -> Option<u64> {
        let peak = self.prover.peak_mb.load(Ordering::Relaxed);
        (peak > 0).then_some(peak)
    }

    /// The next call starts a new prover: what it needs is then its own.
    pub async fn renew_prover(&self) {
        self.prover.stop_idle().await;
        self.prover.peak_mb.store(0, Ordering::Relaxed);
    }

    /// Ends all workers, a running proof too: its row stays asked for.
    pub async fn shut_down(&self) {
        self.witnesses.close().await;
        self.mocks.close().await;
        self.prover.close().await;
        for other in self.others.values() {
            Box::pin(other.shut_down()).await;
        }
    }
}

async fn call_at_leisure(pool: &Pool, function: &'static str, args: Value) -> anyhow::Result<Value> {
    let called = pool.call(function, args, Duration::MAX).await;
    called.map_err(|failure| anyhow::Error::from(failure).context(format!("EZKL's {function} failed")))
}

/// Worker processes of one kind: started when needed, kept while they behave.
struct Pool {
    kind: WorkerSpec,
    permits: Semaphore,
    idle: Mutex<Vec<Worker>>,
    /// Calls in a row that failed for another reason than EZKL's own.
    condition: FailureTracker,
    /// The process that was called last, and the most memory that any had.
    process: AtomicU32,
    peak_mb: AtomicU64,
}

impl Pool {
    fn new(kind: WorkerSpec, size: usize) -> Self {
        Self {
            kind,
            permits: Semaphore::new(size),
            idle: Mutex::default(),
            condition: FailureTracker::new(1),
            process: AtomicU32::default(),
            peak_mb: AtomicU64::default(),
        }
    }

    /// Calls a function on an idle worker, or on a new one. A worker that dies, hangs or talks rubbish is not used again.
    async fn call(
        &self,
        function: &'static str,
        args: Value,
        deadline: Duration,
    ) -> std::result::Result<Value, Failure> {
        let Ok(_permit) = self.permits.acquire().await else { return Err(Failure::ShutDown) };
        let started = match self.idle().await {
            Some(worker) => Ok(worker),
            None => self.start().await,
        };
        let outcome = match started {
            Ok(mut worker) => {
                self.process.store(worker.process().unwrap_or_default(), Ordering::Relaxed);
                let outcome = worker.call(function, args, deadline).await;
                // Before it may end: its peak ends with it.
                self.memory();
                if matches!(outcome, Ok(_) | Err(Failure::Refused(_))) {
                    self.idle.lock().await.push(worker);
                }
                outcome
            }
            Err(failure) => Err(failure),
        };
        self.record_outcome(&outcome);
        outcome
    }

    /// A new worker; after failures in a row only after a while, so that a broken Python is not started all the time.
    async fn start(&self) -> std::result::Result<Worker, Failure> {
        let failures = self.condition.failures();
        if failures > 0 {
            tokio::time::sleep(Duration::from_millis(100 << failures.min(7))).await;
        }
        Worker::start(&self.kind)
    }

    /// An idle worker. Those that have ended since they were last used are forgotten.
    async fn idle(&self) -> Option<Worker> {
        let mut idle = self.idle.lock().await;
        while let Some(mut worker) = idle.pop() {
            if worker.is_alive() {
                return Some(worker);
            }
        }
        None
    }

    fn memory(&self) -> Option<Memory> {
        let memory = memory::of(self.process.load(Ordering::Relaxed))?;
        self.peak_mb.fetch_max(memory.peak_mb, Ordering::Relaxed);
        Some(memory)
    }

    fn record_outcome(&self, outcome: &std::result::Result<Value, Failure>) {
        match outcome {
            Ok(_) | Err(Failure::Refused(_) | Failure::ShutDown) => self.condition.record_success(),
            Err(failure) => self.condition.record_failure(failure.to_string()),
        }
    }

    /// Ends the idle workers: the next call starts a new one.
    async fn stop_idle(&self) {
        self.idle.lock().await.clear();
    }

    async fn close(&self) {
        self.permits.close();
        self.stop_idle().await;
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
