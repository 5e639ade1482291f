//! The store in S3, or anything that speaks it. Credentials, region and endpoint come from the usual `AWS_*` variables.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use object_store::ObjectStoreExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;

use secrecy::{ExposeSecret as _, SecretString};

use crate::ezkl::files::{ModelVersion, SUMS};
use crate::ezkl::kept::{Kept, is_digest};
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

    pub async fn remove(&self, path: &str) -> Result<()> {
        Ok(self.bucket.delete(&self.key(path)).await?)
    }

    /// Uploads the model files under their digest, unless they are there; the list of them last.
    pub async fn keep_model(&self, model: &ModelVersion) -> fault::Result<()> {
        for (name, path) in model.paths().chain([(SUMS, model.files.folder.join(SUMS))]) {
            let key = self.key(&format!("models/{}/{name}", model.digest));
            if self.bucket.head(&key).await.is_ok() {
                continue;
            }
            let bytes =
                tokio::fs::read(&path).await.with_context(|| format!("cannot read {}", path.display())).retry()?;
            self.bucket.put(&key, bytes.into()).await.with_context(|| format!("cannot save {key} to S3")).retry()?;
        }
        Ok(())
    }

    /// Downloads the model files with this digest, unless there is a local copy.
    pub async fn bring_back_model(&self, kept: &Arc<Kept>, digest: &str) -> fault::Result<()> {
        if !is_digest(digest) || kept.has(digest) {
            return Ok(());
        }
        let sums = self.get_model_file(digest, SUMS).await?;
        let text = String::from_utf8_lossy(&sums);
        let files =
            ModelVersion::listed(&text, digest).with_context(|| format!("S3: models/{digest}/{SUMS}")).fail_row()?;
        let begin = kept.clone();
        // Another process may be copying: waiting for it blocks.
        let unfinished = tokio::task::spawn_blocking(move || begin.begin()).await.retry()?;
        let unfinished = unfinished.context("cannot write to the artifacts folder").retry()?;
        for name in files.keys() {
            let bytes = self.get_model_file(digest, name).await?;
            let written =
                unfinished.create(name).and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
            written.with_context(|| format!("cannot keep {name} of the model files")).retry()?;
        }
        unfinished.finish(&sums, digest).context("cannot keep the model files").retry()
    }

    async fn get_model_file(&self, digest: &str, name: &str) -> fault::Result<Vec<u8>> {
        let stored = format!("models/{digest}/{name}");
        let bytes = self.get(&stored).await.retry()?;
        bytes.ok_or_else(|| Fault::Row(anyhow!("S3 holds no {stored}: the model files are gone")))
    }

    fn key(&self, path: &str) -> Key {
        Key::from(if self.prefix.is_empty() { path.to_owned() } else { format!("{}/{path}", self.prefix) })
    }
}
