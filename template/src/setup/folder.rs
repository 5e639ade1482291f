//! The folder in which a `setup` works: in the model folder, so that what was made is moved and not copied. What a `setup`
//! left that was killed, the next one removes.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

const PREFIX: &str = ".setup-";

/// Removed when it is dropped. The kernel lets go of the lock however the process ends.
pub struct Folder {
    folder: TempDir,
    _lock: File,
}

impl Folder {
    pub fn make(above: &Path) -> Result<Self> {
        remove_stale(above);
        let make = || {
            let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(above)?;
            let lock = File::open(folder.path())?;
            lock.lock()?;
            std::io::Result::Ok(Self { folder, _lock: lock })
        };
        make().with_context(|| format!("cannot write to {}", above.display()))
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn remove_stale(above: &Path) {
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX)
            && File::open(entry.path()).is_ok_and(|lock| lock.try_lock().is_ok())
            && fs::remove_dir_all(entry.path()).is_ok()
        {
            eprintln!("  removed {}, which an unfinished setup had left", entry.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_setup_left_goes_and_what_a_living_one_has_stays() {
        let above = tempfile::tempdir().unwrap();
        let stale = above.path().join(".setup-dead");
        fs::create_dir(&stale).unwrap();
        let living = Folder::make(above.path()).unwrap();
        assert!(!stale.exists());
        let other = Folder::make(above.path()).unwrap();
        assert!(living.path().is_dir() && other.path().is_dir());
    }
}
