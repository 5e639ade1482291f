//! The folder for temporary files of this process and its workers: private, and removed with the process. What a process
//! left that was killed, the next one removes.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use tempfile::{Builder, NamedTempFile, TempDir};

const PREFIX: &str = "nova-ezkl-";

/// A folder below the system's temporary one.
pub struct Scratch(Mutex<Folder>);

/// The kernel lets go of the lock however the process ends: so the dead are told from the living. Those who tidy
/// temporary folders leave locked ones alone, too.
struct Folder {
    folder: TempDir,
    lock: File,
}

impl Scratch {
    /// A new folder. Those of the dead are removed.
    pub fn new() -> Result<Self> {
        let above = std::env::temp_dir();
        let folder = Folder::make(&above)
            .with_context(|| format!("cannot make a temporary folder in {} (TMPDIR)", above.display()))?;
        if let Err(error) = remove_stale(&above, &folder) {
            tracing::debug!(%error, "cannot look for stale temporary folders");
        }
        Ok(Self(Mutex::new(folder)))
    }

    /// The folder's path. Should somebody have removed it, another is made: under the old name anybody could have made
    /// one of theirs.
    pub fn path(&self) -> io::Result<PathBuf> {
        let mut folder = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !folder.is_there() {
            *folder = Folder::make(&std::env::temp_dir())?;
        }
        Ok(folder.folder.path().to_owned())
    }

    /// A file that is removed when it is dropped.
    pub fn file(&self) -> Result<NamedTempFile> {
        self.path().and_then(NamedTempFile::new_in).context("cannot make a temporary file")
    }

    /// A folder that is removed when it is dropped.
    pub fn folder(&self) -> Result<TempDir> {
        self.path().and_then(|above| Builder::new().tempdir_in(above)).context("cannot make a temporary folder")
    }
}

impl Folder {
    fn make(above: &Path) -> io::Result<Self> {
        loop {
            let mut builder = Builder::new();
            let folder = builder.prefix(PREFIX).permissions(Permissions::from_mode(0o700)).tempdir_in(above)?;
            let lock = File::open(folder.path())?;
            lock.lock()?;
            let made = Self { folder, lock };
            // Between making and locking it another process may have taken it for a dead one's.
            if made.is_there() {
                return Ok(made);
            }
        }
    }

    fn is_there(&self) -> bool {
        let is_same = || {
            Ok::<_, io::Error>(identity(&fs::symlink_metadata(self.folder.path())?) == identity(&self.lock.metadata()?))
        };
        is_same().unwrap_or(false)
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Removes folders of ours whose process is gone.
fn remove_stale(above: &Path, own: &Folder) -> io::Result<()> {
    let user = own.lock.metadata()?.uid();
    for entry in fs::read_dir(above)?.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == user);
        if !ours || entry.path() == own.folder.path() {
            continue;
        }
        if let Ok(lock) = File::open(entry.path())
            && lock.try_lock().is_ok()
            && fs::remove_dir_all(entry.path()).is_ok()
        {
            tracing::debug!(folder = %entry.path().display(), "removed what a dead process had left");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_private_and_those_of_the_dead_go() {
        let above = tempfile::tempdir().unwrap();
        let living = Folder::make(above.path()).unwrap();
        assert_eq!(fs::metadata(living.folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
        let dead = Folder::make(above.path()).unwrap();
        fs::write(dead.folder.path().join("witness.json"), "{}").unwrap();
        // As SIGKILL leaves it: the folder is there, the lock is not.
        let left = dead.folder.keep();
        drop(dead.lock);
        // What only looks like ours stays.
        fs::write(above.path().join("nova-ezkl-file"), "").unwrap();
        fs::create_dir(above.path().join("another")).unwrap();

        let own = Folder::make(above.path()).unwrap();
        remove_stale(above.path(), &own).unwrap();
        assert!(!left.exists() && living.is_there() && own.is_there());
        assert_eq!(fs::read_dir(above.path()).unwrap().count(), 4);
    }

    #[test]
    fn a_folder_that_was_tidied_away_is_made_under_another_name() {
        let scratch = Scratch::new().unwrap();
        let before = scratch.path().unwrap();
        fs::remove_dir(&before).unwrap();
        // Somebody else's now.
        fs::create_dir(&before).unwrap();
        let after = scratch.path().unwrap();
        assert!(after != before && after.is_dir());
        assert!(scratch.file().unwrap().path().starts_with(&after));
        fs::remove_dir(&before).ok();
    }
}
