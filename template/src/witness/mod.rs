//! The store of what was promised: for each answered request the model's input, the witness, and a manifest that says with
//! which model files it was made; later the proof. On local disk or in S3.
//!
//! A request without manifest does not exist here: the manifest is written last, and each file whole or not at all.

mod local;
mod s3;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};

use crate::config::{Config, Storage};
use crate::digest;
use crate::ezkl::felt::Felt;
use crate::ezkl::files::ModelVersion;
use crate::failpoint::{Step, step};
use crate::fault::{Classify as _, Fault, Result};

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
            .fail_row()
    }

    /// Instances in the manifest's form.
    pub fn write_instances(instances: &[Felt]) -> Vec<String> {
        instances.iter().map(|felt| format!("0x{}", hex::encode(felt.to_be_bytes()))).collect()
    }
}

/// Where witnesses and proofs are kept.
#[derive(Clone)]
pub enum Store {
    Local(local::Local),
    S3(s3::S3),
}

impl Store {
    pub fn open(config: &Config) -> Result<Self> {
        match &config.storage {
            Storage::Local => Ok(Self::Local(local::Local::new(&config.artifacts))),
            Storage::S3 { bucket, prefix } => Ok(Self::S3(s3::S3::open(bucket, prefix, &config.aws)?)),
        }
    }

    /// Saves a witness with its input and manifest; when it returns, they will be there after a power cut.
    ///
    /// # Errors
    /// `Retry`: the store may be full or out of reach; nothing may be answered until it is saved.
    pub async fn save(&self, manifest: &Manifest, input: &[u8], witness: &[u8]) -> Result<()> {
        let id = &manifest.request_id;
        self.put(&path_of(id, "input.json"), input).await?;
        self.put(&path_of(id, "witness.json"), witness).await?;
        let manifest = serde_json::to_vec_pretty(manifest).stop()?;
        // With the manifest the witness exists.
        step(Step::WitnessSaved, self.put(&path_of(id, "manifest.json"), &manifest)).await
    }

    /// What was promised for a request.
    pub async fn manifest(&self, request_id: &str) -> Result<Manifest> {
        let bytes = self.get(&path_of(request_id, "manifest.json")).await?.ok_or_else(|| {
            Fault::Row(anyhow!("no witness of request {request_id} is kept: it was never answered from this store"))
        })?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("the manifest of request {request_id} is damaged; bring it back from a backup"))
            .fail_row()
    }

    /// Writes a saved witness to `to`, checked against its manifest.
    pub async fn fetch_witness(&self, manifest: &Manifest, to: &Path) -> Result<()> {
        let id = &manifest.request_id;
        let bytes = self
            .get(&path_of(id, "witness.json"))
            .await?
            .ok_or_else(|| Fault::Row(anyhow!("the witness of request {id} is gone; bring it back from a backup")))?;
        if digest::of_bytes(&bytes) != manifest.witness_sha256 {
            return Err(Fault::Row(anyhow!(
                "the witness of request {id} is corrupt (its SHA-256 is not the manifest's); bring it back from a backup"
            )));
        }
        tokio::fs::write(to, bytes).await.with_context(|| format!("cannot write {}", to.display())).retry()
    }

    pub async fn save_proof(&self, request_id: &str, proof: &[u8]) -> Result<()> {
        step(Step::ProofSaved, self.put(&path_of(request_id, "proof.json"), proof)).await
    }

    /// The proof of a request, if it was made before.
    pub async fn proof(&self, request_id: &str) -> Result<Option<Vec<u8>>> {
        self.get(&path_of(request_id, "proof.json")).await
    }

    /// Keeps the model files where the witnesses are, so that both survive together. On local disk they are there already.
    pub async fn keep_model(&self, model: &ModelVersion) -> Result<()> {
        match self {
            Self::Local(_) => Ok(()),
            Self::S3(s3) => s3.keep_model(model).await,
        }
    }

    /// The kept model files with this digest, brought back from S3 where the local copy is gone.
    pub async fn model(&self, artifacts: &Path, digest: &str) -> Result<ModelVersion> {
        if let Self::S3(s3) = self {
            s3.bring_back_model(artifacts, digest).await?;
        }
        ModelVersion::kept(artifacts, digest)
    }

    /// Writes, reads and removes a small file: the check of `doctor`.
    pub async fn check(&self) -> Result<()> {
        self.put("check/nova", b"nova").await?;
        match self.get("check/nova").await? {
            Some(read) if read == b"nova" => Ok(()),
            _ => Err(Fault::Retry(anyhow!("the witness store does not give back what was written"))),
        }
    }

    async fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Local(local) => local.put(path, bytes).await,
            Self::S3(s3) => s3.put(path, bytes).await,
        }
        .map_err(|error| Fault::Retry(error.context(format!("cannot save {path} in the witness store"))))
    }

    async fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Local(local) => local.get(path).await,
            Self::S3(s3) => s3.get(path).await,
        }
        .map_err(|error| Fault::Retry(error.context(format!("cannot read {path} from the witness store"))))
    }
}

/// Request ids are hex digits wherever they come from: no path can be made of them.
fn path_of(request_id: &str, file: &str) -> String {
    debug_assert!(request_id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    format!("witnesses/{request_id}/{file}")
}
