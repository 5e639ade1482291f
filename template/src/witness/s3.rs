//! The store in S3, or anything that speaks it. Credentials, region and endpoint come from the usual `AWS_*` variables.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use object_store::ObjectStoreExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;

use secrecy::{ExposeSecret as _, SecretString};

use crate::config::ModelFiles;
use crate::ezkl::files::ModelVersion;
use crate::fault::{self, Classify as _, Fault};
use crate::http_client;

/// A bucket, and the prefix under which everything of ours lies.
#[derive(Debug, Clone)]
pub struct S3 {
    bucket: Arc<AmazonS3>,
    prefix: String,
}

impl S3 {
    /// `aws` holds variables that the environment does not have.
    pub fn open(bucket: &str, prefix: &str, aws: &[(String, SecretString)]) -> fault::Result<Self> {
        http_client::install_crypto();
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        for (name, value) in aws {
            // Variables of other AWS tools are none of ours.
            if let Ok(key) = name.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value.expose_secret());
            }
        }
        let bucket = builder
            .build()
            .with_context(|| format!("cannot use the S3 bucket {bucket} (NOVA_S3_BUCKET, AWS_*)"))
            .stop()?;
        Ok(Self { bucket: Arc::new(bucket), prefix: prefix.trim_matches('/').to_owned() })
    }

    pub async fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.bucket.put(&self.key(path), bytes.to_owned().into()).await?;
        Ok(())
    }

    pub async fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        match self.bucket.get(&self.key(path)).await {
            Ok(found) => Ok(Some(found.bytes().await?.into())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Uploads the model files under their digest, unless they are there.
    pub async fn keep_model(&self, model: &ModelVersion) -> fault::Result<()> {
        for (name, path) in model.files.all() {
            let key = self.key(&format!("models/{}/{name}", model.digest));
            if self.bucket.head(&key).await.is_ok() {
                continue;
            }
            let bytes =
                tokio::fs::read(path).await.with_context(|| format!("cannot read {}", path.display())).retry()?;
            self.bucket.put(&key, bytes.into()).await.with_context(|| format!("cannot save {key} to S3")).retry()?;
        }
        Ok(())
    }

    /// Downloads the model files with this digest, unless there is a local copy.
    pub async fn bring_back_model(&self, artifacts: &Path, digest: &str) -> fault::Result<()> {
        let models = artifacts.join("models");
        if models.join(digest).is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(&models).context("cannot write to the artifacts folder").retry()?;
        let unfinished = tempfile::tempdir_in(&models).context("cannot write to the artifacts folder").retry()?;
        for (name, path) in ModelFiles::in_folder(unfinished.path()).all() {
            let stored = format!("models/{digest}/{name}");
            let bytes = self.get(&stored).await.retry()?;
            let bytes = bytes.ok_or_else(|| Fault::Row(anyhow!("S3 holds no {stored}: the model files are gone")))?;
            std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display())).retry()?;
        }
        std::fs::rename(unfinished.keep(), models.join(digest)).context("cannot keep the model files").retry()
    }

    fn key(&self, path: &str) -> Key {
        Key::from(if self.prefix.is_empty() { path.to_owned() } else { format!("{}/{path}", self.prefix) })
    }
}
