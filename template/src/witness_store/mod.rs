//! The store of what was promised: for each answered request the model's input, the witness, and a manifest that says with
//! which model files it was made; later the proof. On local disk or in S3, as
//! `witnesses/<request id>/<first digits of the witness's SHA-256>/{input,witness,manifest,proof}.json`.
//!
//! A witness without manifest does not exist here: the manifest is written last, and each file whole or not at all. Nothing
//! is written over: two processes that infer the same request, or two modelers in one bucket, each leave their own. Which of
//! them was answered says the ledger; `witnesses/<request id>/manifest.json` is the newest, for who has lost the ledger.

mod circuit_breaker;
mod local;
mod s3;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};

use crate::config::{Config, Storage};
use crate::ezkl::felt::Felt;
use crate::ezkl::model_archive::ModelArchive;
use crate::ezkl::model_version::ModelVersion;
use crate::failpoint::{Step, around};
use crate::fault::{Classify as _, Fault, Result};
use crate::sha256;
use circuit_breaker::{CircuitBreaker, State};

/// How long a trial of the store may take: nobody may wait for one that hangs.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of a witness's SHA-256 names its folder: enough to tell a request's few witnesses apart.
const NAME_LENGTH: usize = 16;
const INPUT: &str = "input.json";
const WITNESS: &str = "witness.json";
const MANIFEST: &str = "manifest.json";
const PROOF: &str = "proof.json";

/// What was promised for one request, and with what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    pub request_id: String,
    /// The request's input, as it stands on chain.
    pub input: String,
    /// Which kept model files prove it.
    pub model_digest: String,
    /// SHA-256 of each model file.
    pub model_files: BTreeMap<String, String>,
    pub ezkl_version: String,
    pub witness_sha256: String,
    /// The public inputs and outputs of the circuit, `0x…` with the highest byte first.
    pub instances: Vec<String>,
    pub model_value: Option<f64>,
    pub circuit_value: f64,
    pub submitted_value: f64,
}

impl Manifest {
    /// The instances as contracts want them.
    pub fn instance_bytes(&self) -> Result<Vec<[u8; 32]>> {
        self.instances
            .iter()
            .map(|text| {
                let mut bytes = [0; 32];
                hex::decode_to_slice(text.trim_start_matches("0x"), &mut bytes)?;
                Ok(bytes)
            })
            .collect::<anyhow::Result<_>>()
            .with_context(|| format!("the manifest of request {} holds an instance that is none", self.request_id))
            .permanent()
    }

    /// Instances in the manifest's form.
    pub fn write_instances(instances: &[Felt]) -> Vec<String> {
        instances.iter().map(|felt| format!("0x{}", hex::encode(felt.to_be_bytes()))).collect()
    }
}

/// Where witnesses, proofs and the model files behind them are kept.
#[derive(Clone)]
pub struct Store {
    place: Backend,
    kept: Arc<ModelArchive>,
    guard: Arc<CircuitBreaker>,
    /// The file that a trial writes: of this process alone.
    trial: Arc<str>,
}

#[derive(Clone)]
enum Backend {
    Local(local::Local),
    S3(s3::S3),
}

impl Store {
    pub fn open(config: &Config) -> Result<Self> {
        let place = match &config.storage {
            Storage::Local => Backend::Local(local::Local::new(&config.artifacts)),
            Storage::S3 { bucket, prefix } => Backend::S3(s3::S3::open(bucket, prefix, &config.aws)?),
        };
        Ok(Self::in_place(place, &config.artifacts))
    }

    fn in_place(place: Backend, artifacts: &Path) -> Self {
        // In containers all processes have the same number.
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let trial = format!("check/nova-{}-{started:x}", std::process::id()).into();
        Self { place, kept: Arc::new(ModelArchive::new(artifacts)), guard: Arc::default(), trial }
    }

    /// Saves a witness with its input and manifest; when it returns, they will be there after a power cut.
    ///
    /// # Errors
    /// `Transient`: the store may be full or out of reach; nothing may be answered until it is saved.
    pub async fn save(&self, manifest: &Manifest, input: &[u8], witness: &[u8]) -> Result<()> {
        let saved = self.save_all(manifest, input, witness).await;
        match &saved {
            Ok(()) => self.guard.saved(),
            Err(fault) => self.guard.failed(input.len() + witness.len(), fault.to_string()),
        }
        saved
    }

    async fn save_all(&self, manifest: &Manifest, input: &[u8], witness: &[u8]) -> Result<()> {
        self.put(&path_of(manifest, INPUT)?, input).await?;
        self.put(&path_of(manifest, WITNESS)?, witness).await?;
        let text = serde_json::to_vec_pretty(manifest).fatal()?;
        // With the manifest the witness exists.
        around(Step::WitnessSaved, self.put(&path_of(manifest, MANIFEST)?, &text)).await?;
        self.put(&format!("{}/{MANIFEST}", folder_of(&manifest.request_id)?), &text).await
    }

    /// False while witnesses cannot be saved. Now and then the store is tried then, so that it is noticed when it works.
    pub async fn is_accepting(&self) -> bool {
        let size = match self.guard.breaker_state() {
            State::Closed => return true,
            State::Open => return false,
            State::HalfOpen(size) => size,
        };
        let trial = tokio::time::timeout(TRIAL_TIMEOUT, self.probe(size)).await;
        let failed = match trial {
            Ok(Ok(())) => {
                self.guard.half_open();
                return true;
            }
            Ok(Err(fault)) => fault.to_string(),
            Err(_) => format!("the witness store did not take a file within {TRIAL_TIMEOUT:?}"),
        };
        self.guard.failed(size, failed);
        false
    }

    /// Why no requests are accepted, if so.
    pub fn failure_reason(&self) -> Option<String> {
        self.guard.failure_reason()
    }

    /// What was promised for a request with this witness (its SHA-256); without one, what was promised last.
    pub async fn manifest(&self, request_id: &str, witness: Option<&str>) -> Result<Manifest> {
        let folder = match witness {
            Some(witness) => witness_folder(request_id, witness)?,
            None => folder_of(request_id)?,
        };
        let bytes = self.get(&format!("{folder}/{MANIFEST}")).await?.ok_or_else(|| {
            Fault::Permanent(anyhow!(
                "no witness of request {request_id} is kept: it was never answered from this store"
            ))
        })?;
        let damaged = || format!("the manifest of request {request_id} is damaged; bring it back from a backup");
        let manifest: Manifest = serde_json::from_slice(&bytes).with_context(damaged).permanent()?;
        if manifest.request_id != request_id || witness.is_some_and(|witness| witness != manifest.witness_sha256) {
            let another = anyhow!("it is that of {:?}, witness {:?}", manifest.request_id, manifest.witness_sha256);
            return Err(Fault::Permanent(another.context(damaged())));
        }
        Ok(manifest)
    }

    /// All that was promised for a request: one witness, or several where it was inferred by several processes or anew.
    pub async fn manifests(&self, request_id: &str) -> Result<Vec<Manifest>> {
        let folder = folder_of(request_id)?;
        let names = match &self.place {
            Backend::Local(local) => local.list(&folder).await,
            Backend::S3(s3) => s3.list(&folder).await,
        };
        let names = match names {
            Ok(names) => names,
            // Who may not list can read the newest all the same.
            Err(error) => {
                let cannot = format!("cannot list {folder} in the witness store");
                let newest =
                    self.manifest(request_id, None).await.map_err(|_| Fault::Transient(error.context(cannot)))?;
                return Ok(vec![newest]);
            }
        };
        let mut manifests = Vec::new();
        for name in names.iter().filter(|name| name.len() == NAME_LENGTH) {
            let Some(bytes) = self.get(&format!("{folder}/{name}/{MANIFEST}")).await? else { continue };
            match serde_json::from_slice::<Manifest>(&bytes) {
                Ok(manifest) if manifest.request_id != request_id || !manifest.witness_sha256.starts_with(name) => {
                    tracing::warn!(request = request_id, name, "a manifest of another request in the witness store");
                }
                Ok(manifest) => manifests.push(manifest),
                Err(error) => {
                    tracing::warn!(request = request_id, name, "a damaged manifest in the witness store: {error}")
                }
            }
        }
        Ok(manifests)
    }

    /// True if a witness of this request was saved before.
    ///
    /// # Errors
    /// As `save`: a store that cannot be read takes no witness either.
    pub async fn has(&self, request_id: &str) -> Result<bool> {
        let found = self.get(&format!("{}/{MANIFEST}", folder_of(request_id)?)).await;
        if let Err(fault) = &found {
            self.guard.failed(0, fault.to_string());
        }
        Ok(found?.is_some())
    }

    /// Writes a saved witness to `to`, checked against its manifest.
    pub async fn fetch_witness(&self, manifest: &Manifest, to: &Path) -> Result<()> {
        let id = &manifest.request_id;
        let bytes = self.get(&path_of(manifest, WITNESS)?).await?.ok_or_else(|| {
            Fault::Permanent(anyhow!("the witness of request {id} is gone; bring it back from a backup"))
        })?;
        if sha256::of_bytes(&bytes) != manifest.witness_sha256 {
            return Err(Fault::Permanent(anyhow!(
                "the witness of request {id} is corrupt (its SHA-256 is not the manifest's); bring it back from a backup"
            )));
        }
        tokio::fs::write(to, bytes).await.with_context(|| format!("cannot write {}", to.display())).transient()
    }

    pub async fn save_proof(&self, manifest: &Manifest, proof: &[u8]) -> Result<()> {
        let path = path_of(manifest, PROOF)?;
        around(Step::ProofSaved, self.put(&path, proof)).await
    }

    /// The proof of what was promised, if it was made before.
    pub async fn proof(&self, manifest: &Manifest) -> Result<Option<Vec<u8>>> {
        self.get(&path_of(manifest, PROOF)?).await
    }

    /// Keeps the model files where the witnesses are, so that both survive together. Returns the daemon's own copy, which
    /// is there from now on.
    pub async fn keep_model(&self, model: &ModelVersion) -> Result<ModelVersion> {
        let (kept, model) = (self.kept.clone(), model.clone());
        let copy = blocking(move || kept.add(&model)).await?;
        if let Backend::S3(s3) = &self.place {
            s3.keep_model(&copy).await?;
        }
        Ok(copy)
    }

    /// The kept model files with this digest, brought back from S3 where the local copy is gone.
    pub async fn model(&self, digest: &str) -> Result<ModelVersion> {
        if let Backend::S3(s3) = &self.place {
            s3.restore_model(&self.kept, digest).await?;
        }
        let (kept, digest) = (self.kept.clone(), digest.to_owned());
        blocking(move || kept.open(&digest)).await
    }

    /// Writes, reads and removes a small file: the check of `doctor`.
    pub async fn check(&self) -> Result<()> {
        self.probe(4).await?;
        match self.get(&self.trial).await? {
            None => Ok(()),
            Some(_) => Err(Fault::Transient(anyhow!("the witness store gives back what was removed"))),
        }
    }

    /// The same with so many bytes: a disk may have room for few and not for many.
    async fn probe(&self, size: usize) -> Result<()> {
        let bytes = vec![b'n'; size];
        self.put(&self.trial, &bytes).await?;
        let read = self.get(&self.trial).await?;
        let removed = match &self.place {
            Backend::Local(local) => local.remove(&self.trial).await,
            Backend::S3(s3) => s3.remove(&self.trial).await,
        };
        removed.context("cannot remove a file from the witness store").transient()?;
        if read.as_ref() != Some(&bytes) {
            return Err(Fault::Transient(anyhow!("the witness store does not give back what was written")));
        }
        Ok(())
    }

    async fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        match &self.place {
            Backend::Local(local) => local.put(path, bytes).await,
            Backend::S3(s3) => s3.put(path, bytes).await,
        }
        .map_err(|error| Fault::Transient(error.context(format!("cannot save {path} in the witness store"))))
    }

    async fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        match &self.place {
            Backend::Local(local) => local.get(path).await,
            Backend::S3(s3) => s3.get(path).await,
        }
        .map_err(|error| Fault::Transient(error.context(format!("cannot read {path} from the witness store"))))
    }
}

/// Where a file of what was promised is.
fn path_of(manifest: &Manifest, file: &str) -> Result<String> {
    Ok(format!("{}/{file}", witness_folder(&manifest.request_id, &manifest.witness_sha256)?))
}

/// Where a witness is kept, with what belongs to it.
fn witness_folder(request_id: &str, sha256: &str) -> Result<String> {
    let name = sha256.get(..NAME_LENGTH).filter(|name| name.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let name = name.ok_or_else(|| Fault::Permanent(anyhow!("{sha256:?} is no SHA-256")))?;
    Ok(format!("{}/{name}", folder_of(request_id)?))
}

/// Where everything of a request is. An id is letters and digits: no path that leads elsewhere can be made of one.
fn folder_of(request_id: &str) -> Result<String> {
    if request_id.is_empty() || !request_id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Fault::Permanent(anyhow!("{request_id:?} is no request id")));
    }
    Ok(format!("witnesses/{request_id}"))
}

/// Runs what reads large files where it holds up nothing else.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(Fault::Fatal(anyhow!(panic))))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
