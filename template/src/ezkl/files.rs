//! The model files as one thing with one digest: what was answered with them must be proven with them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::config::ModelFiles;
use crate::digest;
use crate::fault::{Classify as _, Fault, Result};

/// What `setup` leaves beside the files it made: which belong together.
pub const SETUP_MANIFEST: &str = "setup.json";

/// The proof of a row of the sample that `setup` makes: with it a verifier contract can be tried.
pub const SETUP_PROOF: &str = "setup_proof.json";

/// The model files of one moment, read and checked.
#[derive(Debug, Clone)]
pub struct ModelVersion {
    /// SHA-256 over the names and digests of all files.
    pub digest: String,
    /// SHA-256 of each file, by its standard name.
    pub digests: BTreeMap<String, String>,
    pub files: ModelFiles,
    pub settings: Settings,
}

/// What `setup` writes down about the files it made.
#[derive(Debug, Serialize, Deserialize)]
pub struct SetupManifest {
    pub ezkl_version: String,
    /// True if the SRS was made here, for development.
    pub insecure_srs: bool,
    /// SHA-256 of each file, by its standard name.
    pub digests: BTreeMap<String, String>,
}

impl ModelFiles {
    /// The files under their standard names.
    pub fn in_folder(folder: &Path) -> Self {
        let file = |name| folder.join(name);
        Self {
            onnx: file("model.onnx"),
            compiled: file("model.ezkl"),
            settings: file("settings.json"),
            proving_key: file("model_pk.pk"),
            verification_key: file("model_vk.vk"),
            srs: file("kzg.srs"),
            verifier: file("verifier.sol"),
            folder: folder.to_owned(),
        }
    }

    /// What answering and proving needs, each with its standard name.
    pub fn all(&self) -> [(&'static str, &PathBuf); 6] {
        [
            ("model.onnx", &self.onnx),
            ("model.ezkl", &self.compiled),
            ("settings.json", &self.settings),
            ("model_pk.pk", &self.proving_key),
            ("model_vk.vk", &self.verification_key),
            ("kzg.srs", &self.srs),
        ]
    }

    /// # Errors
    /// Names every file that is missing, and how to make it.
    pub fn check_present(&self) -> Result<()> {
        let missing: Vec<String> =
            self.all().iter().filter(|(_, path)| !path.is_file()).map(|(_, path)| path.display().to_string()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Fault::Stop(anyhow!(
            "these model files are missing: {}. Run `nova setup` to make EZKL's from model.onnx; with Docker: \
             `docker compose run --rm nova setup`",
            missing.join(", ")
        )))
    }
}

impl ModelVersion {
    /// Reads and digests the model files.
    ///
    /// # Errors
    /// Missing files; files that `setup` did not make together.
    pub fn read(files: &ModelFiles) -> Result<Self> {
        files.check_present()?;
        let mut digests = BTreeMap::new();
        for (name, path) in files.all() {
            digests.insert(name.to_owned(), digest::of_file(path).stop()?);
        }
        check_setup(&files.folder, &digests)?;
        let settings = Settings::read(&files.settings)?;
        Ok(Self { digest: digest_of(&digests), digests, files: files.clone(), settings })
    }

    /// Digest of the verification key: proofs are computed once for each.
    pub fn vk_digest(&self) -> &str {
        &self.digests["model_vk.vk"]
    }

    /// A copy under `<artifacts>/models/<digest>`, made if it is not there, and checked. Copies, no links: whatever
    /// happens to the originals, what was promised with them can be proven.
    pub fn keep(&self, artifacts: &Path) -> Result<Self> {
        let models = artifacts.join("models");
        let folder = models.join(&self.digest);
        if !folder.exists() {
            self.copy_to(&models, &folder)
                .with_context(|| format!("cannot copy the model files to {}", folder.display()))
                .retry()?;
        }
        let kept = Self::read(&ModelFiles::in_folder(&folder))?;
        if kept.digest != self.digest {
            return Err(Fault::Stop(anyhow!(
                "the copy of the model files in {} was changed: its digest is {}; remove the folder and start again",
                folder.display(),
                kept.digest
            )));
        }
        Ok(kept)
    }

    fn copy_to(&self, models: &Path, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(models)?;
        let unfinished = tempfile::Builder::new().prefix(".unfinished-").tempdir_in(models)?;
        for (name, path) in self.files.all() {
            let copy = unfinished.path().join(name);
            fs::copy(path, &copy)?;
            File::open(&copy)?.sync_all()?;
        }
        File::open(unfinished.path())?.sync_all()?;
        match fs::rename(unfinished.keep(), folder) {
            Ok(()) => File::open(models)?.sync_all(),
            // Another process that shares the artifacts was faster.
            Err(_) if folder.exists() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The kept copy with this digest.
    pub fn kept(artifacts: &Path, digest: &str) -> Result<Self> {
        let folder = artifacts.join("models").join(digest);
        if !folder.is_dir() {
            return Err(Fault::Row(anyhow!(
                "the model files it was answered with are gone: {} does not exist; bring the folder back",
                folder.display()
            )));
        }
        let kept = Self::read(&ModelFiles::in_folder(&folder)).map_err(|fault| Fault::Row(fault.into()))?;
        if kept.digest != digest {
            return Err(Fault::Row(anyhow!(
                "the model files in {} were changed since they were used; bring the originals back",
                folder.display()
            )));
        }
        Ok(kept)
    }
}

/// Files that `setup` made belong together until one of them is replaced.
fn check_setup(folder: &Path, digests: &BTreeMap<String, String>) -> Result<()> {
    let path = folder.join(SETUP_MANIFEST);
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let manifest: SetupManifest = serde_json::from_str(&text)
        .map_err(|error| Fault::Stop(anyhow!("{} cannot be read: {error}; run `nova setup`", path.display())))?;
    let changed: Vec<&str> = digests
        .iter()
        .filter(|(name, digest)| manifest.digests.get(*name) != Some(digest))
        .map(|(name, _)| name.as_str())
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    Err(Fault::Stop(anyhow!(
        "{} {} not the one that `nova setup` made the circuit with ({} says so): run `nova setup` again, or bring the file back",
        changed.join(", "),
        if changed.len() == 1 { "is" } else { "are" },
        path.display()
    )))
}

fn digest_of(digests: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = digests.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect();
    digest::of_bytes(lines.concat().as_bytes())
}
