//! Which processes that share a ledger are alive. Each holds a lock on a file of its own, which the kernel lets go of
//! however the process ends: so a restart after SIGKILL takes its rows back at once, and no clock is trusted.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::fault::{Classify as _, Result};
use crate::secure_fs;

/// This process, as the owner of the rows it claims.
pub struct ProcessLock {
    folder: PathBuf,
    name: String,
    _lock: File,
}

impl ProcessLock {
    /// Takes a new name and locks its file under `<artifacts>/owners`; removes the files of the dead.
    pub fn register(artifacts: &Path) -> Result<Self> {
        let folder = artifacts.join("owners");
        let (name, lock) = Self::lock_new(&folder)
            .with_context(|| format!("cannot write to {}: the artifacts folder must be writable", folder.display()))
            .fatal()?;
        Ok(Self { folder, name, _lock: lock })
    }

    fn lock_new(folder: &Path) -> std::io::Result<(String, File)> {
        secure_fs::create_folder(folder)?;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if is_being_made(&path) {
                continue;
            }
            if let Ok(file) = OpenOptions::new().write(true).open(&path)
                && file.try_lock().is_ok()
            {
                fs::remove_file(&path)?;
            }
        }
        // Locked before it has its name: under that name it is never seen unlocked.
        let file = tempfile::Builder::new().prefix(".").rand_bytes(12).tempfile_in(folder)?;
        file.as_file().lock()?;
        let hidden = file.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = hidden.trim_start_matches('.').to_owned();
        let file = file.persist(folder.join(&name)).map_err(|error| error.error)?;
        Ok((name, file))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// True if a process still holds `name`'s lock.
    pub fn is_alive(&self, name: &str) -> bool {
        name == self.name
            || File::open(self.folder.join(name))
                .is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }
}

fn is_being_made(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

impl Drop for ProcessLock {
    fn drop(&mut self) {
        // Best effort: a file that stays is removed by the next process.
        let _ = fs::remove_file(self.folder.join(&self.name));
    }
}
