//! The daemon's own copies of the model files: one folder a model under `<artifacts>/models`, named after its digest.
//! Workers and hooks get these, so that nothing that happens to the model folder concerns a running daemon, and what was
//! promised with a model can be proven after it was replaced.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, anyhow, ensure};
use tempfile::TempDir;

use super::model_version::{CHECKSUMS_FILE, ModelVersion};
use crate::config::ModelFiles;
use crate::fault::{Classify as _, Fault, Result};
use crate::secure_fs;
use crate::sha256;

const UNFINISHED: &str = ".unfinished-";

/// The copies of one artifacts folder. What it does reads large files: call it where that holds up nothing.
pub struct ModelArchive {
    models: PathBuf,
    /// Copies whose digests this process has checked, with their files as they then were.
    checked: Mutex<HashMap<String, (Vec<FileFingerprint>, ModelVersion)>>,
}

/// What changes when a file is changed or replaced.
type FileFingerprint = (u64, u64, u64, i64, i64);

/// A copy that is being made. Nobody else makes one meanwhile.
pub struct PendingCopy {
    models: PathBuf,
    folder: TempDir,
    _lock: File,
}

impl ModelArchive {
    pub fn new(artifacts: &Path) -> Self {
        Self { models: artifacts.join("models"), checked: Mutex::default() }
    }

    /// A copy of these files, made if it is not there, and checked. Copies, no links: whatever happens to the originals.
    ///
    /// # Errors
    /// `Transient` if it cannot be written, `Fatal` if there is one that was changed.
    pub fn add(&self, version: &ModelVersion) -> Result<ModelVersion> {
        if !self.has(&version.digest) {
            self.copy(version)
                .with_context(|| format!("cannot copy the model files to {}", self.folder(&version.digest).display()))
                .transient()?;
        }
        self.open(&version.digest).map_err(|fault| match fault {
            Fault::Permanent(error) => {
                Fault::Fatal(error.context("the model files kept of this model are not what they were"))
            }
            other => other,
        })
    }

    fn copy(&self, version: &ModelVersion) -> anyhow::Result<()> {
        let unfinished = self.start_copy()?;
        for (name, path) in version.paths() {
            let mut original = File::open(&path).with_context(|| path.display().to_string())?;
            let mut copy = unfinished.create(name)?;
            io::copy(&mut original, &mut copy).with_context(|| path.display().to_string())?;
            copy.sync_all()?;
            let copied = sha256::of_file(&unfinished.folder.path().join(name))?;
            ensure!(
                copied == version.digests[name],
                "{} changed while it was copied: is `nova setup` running?",
                path.display()
            );
        }
        unfinished.finish(version.sums().as_bytes(), &version.digest)?;
        Ok(())
    }

    pub fn has(&self, digest: &str) -> bool {
        self.folder(digest).is_dir()
    }

    /// The copy with this digest. Its files are read the first time, and again if one was touched since.
    ///
    /// # Errors
    /// `Permanent`: the copy is gone, or is not what it was.
    pub fn open(&self, digest: &str) -> Result<ModelVersion> {
        if !is_digest(digest) {
            return Err(Fault::Permanent(anyhow!("{digest:?} is no digest of model files")));
        }
        let folder = self.folder(digest);
        if !folder.is_dir() {
            return Err(Fault::Permanent(anyhow!(
                "the model files it was answered with are gone: {} does not exist; bring the folder back",
                folder.display()
            )));
        }
        let known = self.checked().get(digest).cloned();
        if let Some((then, version)) = known
            && stamps(&folder, &version.digests).is_ok_and(|now| now == then)
        {
            return Ok(version);
        }
        let (version, then) = read(&folder, digest).permanent()?;
        self.checked().insert(digest.to_owned(), (then, version.clone()));
        Ok(version)
    }

    /// A new copy, empty. Those that were never finished go, because whoever made them is dead.
    pub fn start_copy(&self) -> io::Result<PendingCopy> {
        secure_fs::create_folder(&self.models)?;
        // The folder itself is what is locked: nothing else is in it but models.
        let lock = File::open(&self.models)?;
        lock.lock()?;
        for entry in fs::read_dir(&self.models)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix(UNFINISHED).permissions(Permissions::from_mode(0o700)).tempdir_in(&self.models)?;
        Ok(PendingCopy { models: self.models.clone(), folder, _lock: lock })
    }

    fn folder(&self, digest: &str) -> PathBuf {
        self.models.join(digest)
    }

    fn checked(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Vec<FileFingerprint>, ModelVersion)>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingCopy {
    /// One of its files, private, with the folders that its name has.
    pub fn create(&self, name: &str) -> io::Result<File> {
        let path = self.folder.path().join(name);
        if let Some(folder) = path.parent() {
            secure_fs::create_folder(folder)?;
        }
        secure_fs::create_file(&path)
    }

    /// From here on it exists, whole and for good.
    pub fn finish(self, sums: &[u8], digest: &str) -> io::Result<()> {
        secure_fs::write_synced(&self.folder.path().join(CHECKSUMS_FILE), sums)?;
        File::open(self.folder.path())?.sync_all()?;
        let folder = self.models.join(digest);
        // Whoever held the lock before us may have made the same.
        if !folder.is_dir() {
            fs::rename(self.folder.keep(), folder)?;
            File::open(&self.models)?.sync_all()?;
        }
        Ok(())
    }
}

/// Reads and checks a copy.
fn read(folder: &Path, digest: &str) -> anyhow::Result<(ModelVersion, Vec<FileFingerprint>)> {
    let sums = folder.join(CHECKSUMS_FILE);
    let text = fs::read_to_string(&sums).with_context(|| format!("cannot read {}", sums.display()))?;
    let digests = ModelVersion::parse_checksums(&text, digest).with_context(|| changed(&sums))?;
    // Before they are read: what is touched from now on is read again.
    let then = stamps(folder, &digests)?;
    for (name, digest) in &digests {
        let path = folder.join(name);
        ensure!(sha256::of_file(&path)? == *digest, changed(&path));
    }
    Ok((ModelVersion::with_digests(&ModelFiles::in_folder(folder), digests)?, then))
}

fn stamps(folder: &Path, digests: &BTreeMap<String, String>) -> anyhow::Result<Vec<FileFingerprint>> {
    let stamp = |name: &String| {
        let path = folder.join(name);
        let found = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    };
    digests.keys().map(stamp).collect()
}

fn changed(path: &Path) -> String {
    format!("{} was changed since it was used; bring the original back", path.display())
}

/// SHA-256 in hex. Whatever else names a folder, it is none of ours.
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
#[path = "model_archive_tests.rs"]
mod tests;
