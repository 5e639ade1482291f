//! The folder for temporary files of this process and its workers.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use tempfile::{Builder, NamedTempFile, TempDir};

use crate::locked_folder::LockedFolder;

const PREFIX: &str = "nova-ezkl-";

/// A folder below the system's temporary one.
pub struct Scratch(Mutex<LockedFolder>);

impl Scratch {
    /// A new folder. Those of the dead are removed.
    pub fn new() -> Result<Self> {
        let above = std::env::temp_dir();
        let folder = LockedFolder::make(&above, PREFIX)
            .with_context(|| format!("cannot make a temporary folder in {} (TMPDIR)", above.display()))?;
        match folder.remove_stale() {
            Ok(removed) => tracing::debug!(?removed, "temporary folders of dead processes"),
            Err(error) => tracing::debug!(%error, "cannot look for stale temporary folders"),
        }
        Ok(Self(Mutex::new(folder)))
    }

    /// The folder's path. Should somebody have removed it, another is made: under the old name anybody could have made
    /// one of theirs.
    pub fn path(&self) -> io::Result<PathBuf> {
        let mut folder = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !folder.is_there() {
            *folder = LockedFolder::make(&std::env::temp_dir(), PREFIX)?;
        }
        Ok(folder.path().to_owned())
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

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
