//! A folder of one process: private, and removed with it. What a process left that was killed, the next one removes.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::{Builder, TempDir};

/// The kernel lets go of the lock however the process ends: so the dead are told from the living. Those who tidy
/// temporary folders leave locked ones alone, too.
pub struct LockedFolder {
    folder: TempDir,
    lock: File,
    prefix: &'static str,
}

impl LockedFolder {
    /// A new folder in `above`, of a name that begins with `prefix`.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub fn make(above: &Path, prefix: &'static str) -> io::Result<Self> {
        loop {
            let folder = Builder::new().prefix(prefix).permissions(Permissions::from_mode(0o700)).tempdir_in(above)?;
            // Between making and locking it another process may take it for a dead one's, and remove it.
            let lock = match File::open(folder.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            lock.lock()?;
            let made = Self { folder, lock, prefix };
            if made.is_there() {
                return Ok(made);
            }
        }
    }

    /// Its path, where nobody has removed it.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// False if somebody has removed it, even if there is another by its name.
    pub fn is_there(&self) -> bool {
        let is_same = || {
            Ok::<_, io::Error>(identity(&fs::symlink_metadata(self.folder.path())?) == identity(&self.lock.metadata()?))
        };
        is_same().unwrap_or(false)
    }

    /// Removes the folders of this prefix beside it whose process is gone; which.
    ///
    /// # Errors
    /// If the folder above cannot be read.
    pub fn remove_stale(&self) -> io::Result<Vec<PathBuf>> {
        let user = self.lock.metadata()?.uid();
        let above = self.folder.path().parent().unwrap_or(Path::new("/"));
        let mut removed = Vec::new();
        for entry in fs::read_dir(above)?.flatten() {
            let path = entry.path();
            let ours = entry.file_name().to_string_lossy().starts_with(self.prefix)
                && entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == user);
            if ours
                && path != self.folder.path()
                && let Ok(lock) = File::open(&path)
                && lock.try_lock().is_ok()
                && fs::remove_dir_all(&path).is_ok()
            {
                removed.push(path);
            }
        }
        Ok(removed)
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_private_and_those_of_the_dead_go() {
        let above = tempfile::tempdir().unwrap();
        let make = || LockedFolder::make(above.path(), "nova-test-").unwrap();
        let living = make();
        assert_eq!(fs::metadata(living.path()).unwrap().permissions().mode() & 0o777, 0o700);
        let dead = make();
        fs::write(dead.path().join("witness.json"), "{}").unwrap();
        // As SIGKILL leaves it: the folder is there, the lock is not.
        let left = dead.folder.keep();
        drop(dead.lock);
        // What only looks like ours stays.
        fs::write(above.path().join("nova-test-file"), "").unwrap();
        fs::create_dir(above.path().join("another")).unwrap();

        let own = make();
        assert_eq!(own.remove_stale().unwrap(), [left]);
        assert!(living.is_there() && own.is_there());
        assert_eq!(fs::read_dir(above.path()).unwrap().count(), 4);
    }

    #[test]
    fn regression_processes_that_begin_at_once_leave_each_other_their_folders() {
        let above = tempfile::tempdir().unwrap();
        let begin = || {
            for _ in 0..500 {
                let own = LockedFolder::make(above.path(), "nova-test-").unwrap();
                own.remove_stale().unwrap();
                assert!(own.is_there());
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(begin))));
    }
}
