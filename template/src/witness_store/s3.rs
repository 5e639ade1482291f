//! The store in S3, or anything that speaks it. Credentials, region and endpoint come from the usual `AWS_*` variables.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::buffered::{BufReader, BufWriter};
use object_store::path::Path as Key;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use crate::ezkl::model_archive::{ModelArchive, is_digest};
use crate::ezkl::model_version::{CHECKSUMS_FILE, ModelVersion};
use crate::fault::{self, Classify as _, Fault};
use crate::http_client;

/// Bytes of a model file that one request carries: object_store gives each the same time, 30 s (`AWS_TIMEOUT`), so that a file has
/// time by its size. S3 takes parts of 5 MiB and more, up to 10,000 of them.
const PART: usize = 5 << 20;
/// What is written and read to find out whether we may read.
const READABLE: &str = "check/readable";

/// A bucket, and the prefix under which everything of ours lies.
#[derive(Debug, Clone)]
pub struct S3 {
    bucket: Arc<AmazonS3>,
    prefix: String,
}

impl S3 {
    /// `aws` holds variables that the environment does not have, or has in quotes.
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
            .fatal()?;
        Ok(Self { bucket: Arc::new(bucket), prefix: prefix.trim_matches('/').to_owned() })
    }

    pub async fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.bucket.put(&self.key(path), bytes.to_owned().into()).await?;
        Ok(())
    }

    /// The names in a folder. Needs `s3:ListBucket`.
    pub async fn list(&self, path: &str) -> Result<Vec<String>> {
        let listed = self.bucket.list_with_delimiter(Some(&self.key(path))).await?;
        let names = listed.common_prefixes.iter().chain(listed.objects.iter().map(|object| &object.location));
        Ok(names.filter_map(|key| key.filename().map(str::to_owned)).collect())
    }

    /// What is stored there; `None` if nothing is.
    pub async fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        match self.bucket.get(&self.key(path)).await {
            Ok(found) => Ok(Some(found.bytes().await?.into())),
            Err(error) if self.is_absence(&error).await => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Where a policy allows no `s3:ListBucket`, S3 says of what is missing that it is forbidden, as it does of all where a key is wrong.
    /// If another file may be read now, this one is missing.
    async fn is_absence(&self, error: &object_store::Error) -> bool {
        match error {
            object_store::Error::NotFound { .. } => true,
            object_store::Error::PermissionDenied { .. } => self.may_read().await,
            _ => false,
        }
    }

    /// True if we may read what we have written.
    async fn may_read(&self) -> bool {
        let key = self.key(READABLE);
        let read = async || self.bucket.get(&key).await?.bytes().await;
        // It stays: other processes read it, too.
        read().await.is_ok() || (self.bucket.put(&key, "nova".into()).await.is_ok() && read().await.is_ok())
    }

    pub async fn remove(&self, path: &str) -> Result<()> {
        Ok(self.bucket.delete(&self.key(path)).await?)
    }

    /// Uploads the model files under their digest, unless they are there; the list of them last.
    pub async fn keep_model(&self, model: &ModelVersion) -> fault::Result<()> {
        for (name, path) in model.paths().chain([(CHECKSUMS_FILE, model.files.folder.join(CHECKSUMS_FILE))]) {
            let key = self.key(&format!("models/{}/{name}", model.digest));
            if self.bucket.head(&key).await.is_ok() {
                continue;
            }
            self.upload(&path, &key).await.with_context(|| format!("cannot save {key} to S3")).transient()?;
        }
        Ok(())
    }

    /// Sends a file part by part, however large it is.
    async fn upload(&self, path: &Path, key: &Key) -> Result<()> {
        let mut file = File::open(path).await.with_context(|| format!("cannot read {}", path.display()))?;
        // One part after the other: side by side each would have less of the line, and the same time.
        let mut writer = BufWriter::with_capacity(self.bucket.clone(), key.clone(), PART).with_max_concurrency(1);
        if let Err(error) = tokio::io::copy(&mut file, &mut writer).await {
            // Parts that are never put together are paid for. What fails from here on ends them itself.
            let _ = writer.abort().await;
            return Err(error.into());
        }
        Ok(writer.shutdown().await?)
    }

    /// Brings a file part by part, however large it is. False if it is not there.
    async fn download(&self, key: &Key, to: std::fs::File) -> Result<bool> {
        let found = match self.bucket.head(key).await {
            Ok(found) => found,
            Err(error) if self.is_absence(&error).await => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let mut to = File::from_std(to);
        let mut reader = BufReader::with_capacity(self.bucket.clone(), &found, PART);
        tokio::io::copy_buf(&mut reader, &mut to).await?;
        to.sync_all().await?;
        Ok(true)
    }

    /// Downloads the model files with this digest, unless there is a local copy.
    pub async fn restore_model(&self, kept: &Arc<ModelArchive>, digest: &str) -> fault::Result<()> {
        if !is_digest(digest) || kept.has(digest) {
            return Ok(());
        }
        let gone =
            |name: &str| Fault::Permanent(anyhow!("S3 holds no models/{digest}/{name}: the model files are gone"));
        let sums = self
            .get(&format!("models/{digest}/{CHECKSUMS_FILE}"))
            .await
            .transient()?
            .ok_or_else(|| gone(CHECKSUMS_FILE))?;
        let text = String::from_utf8_lossy(&sums);
        let files = ModelVersion::parse_checksums(&text, digest)
            .with_context(|| format!("S3: models/{digest}/{CHECKSUMS_FILE}"))
            .permanent()?;
        let begin = kept.clone();
        // Another process may be copying: waiting for it blocks.
        let unfinished = tokio::task::spawn_blocking(move || begin.start_copy()).await.transient()?;
        let unfinished = unfinished.context("cannot write to the artifacts folder").transient()?;
        for name in files.keys() {
            let failed = || format!("cannot keep {name} of the model files");
            let file = unfinished.create(name).with_context(failed).transient()?;
            let key = self.key(&format!("models/{digest}/{name}"));
            if !self.download(&key, file).await.with_context(failed).transient()? {
                return Err(gone(name));
            }
        }
        unfinished.finish(&sums, digest).context("cannot keep the model files").transient()
    }

    fn key(&self, path: &str) -> Key {
        Key::from(if self.prefix.is_empty() { path.to_owned() } else { format!("{}/{path}", self.prefix) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::test_server::{Reply, Server};

    fn bucket(server: &Server) -> S3 {
        let settings = [
            ("AWS_ENDPOINT", server.url()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "eu-west-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "modeler".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), SecretString::from(value)));
        S3::open("promises", "", &settings).unwrap()
    }

    fn object(bytes: impl Into<Vec<u8>>) -> Reply {
        Reply::ok(bytes).header("etag", "\"1\"").header("last-modified", "Mon, 30 Nov 2026 12:00:00 GMT")
    }

    /// Where a policy allows no `s3:ListBucket`, S3 answers 403 for what is not there.
    #[tokio::test]
    async fn regression_what_is_missing_in_s3_is_not_forbidden() {
        let forbidden = Reply::status(403).body("<Error><Code>AccessDenied</Code></Error>");
        let first = [forbidden.clone(), forbidden.clone(), object(""), object("nova")];
        let later = [forbidden.clone(), object("nova")];
        let server = Server::answering([first.to_vec(), later.to_vec(), vec![forbidden.clone()]].concat()).await;
        let s3 = bucket(&server);
        assert_eq!(s3.get("witnesses/0xab/manifest.json").await.unwrap(), None);
        assert_eq!(s3.get("witnesses/0xab/manifest.json").await.unwrap(), None);
        let paths: Vec<_> = server.requests().into_iter().map(|asked| asked.path).collect();
        let (missing, own) = ("/promises/witnesses/0xab/manifest.json", "/promises/check/readable");
        assert_eq!(paths, [missing, own, own, own, missing, own]);

        // The key is revoked: that says nothing of what is there.
        let error = format!("{:#}", s3.get("witnesses/0xab/manifest.json").await.unwrap_err());
        assert!(error.contains("403"), "{error}");
    }

    /// A file has time by its size: no request carries more than a part of it.
    #[tokio::test]
    async fn regression_a_large_file_goes_part_by_part() {
        let size = 2 * PART + 1000;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model_pk.pk");
        std::fs::write(&file, vec![7; size]).unwrap();
        let begun = object("<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>");
        let ended = object(
            "<CompleteMultipartUploadResult><Location>x</Location><Bucket>promises</Bucket><Key>k</Key><ETag>1</ETag>\
             </CompleteMultipartUploadResult>",
        );
        let parts = [object(""), object(""), object("")];
        let server = Server::answering([vec![begun], parts.to_vec(), vec![ended]].concat()).await;
        bucket(&server).upload(&file, &Key::from("k")).await.unwrap();
        let sent: Vec<_> = server.requests().into_iter().map(|asked| asked.body.len()).collect();
        assert_eq!(sent[1..4], [PART, PART, 1000], "{sent:?}");
        assert_eq!(sent.len(), 5, "begun, three parts, ended");
    }
}
