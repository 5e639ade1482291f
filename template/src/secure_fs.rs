//! Files and folders that nobody but their owner may read, whatever the umask says.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

const FILE: u32 = 0o600;
const FOLDER: u32 = 0o700;
/// What lets group and others in.
const OTHERS: u32 = 0o077;

/// Makes a folder, and those above it that are missing. One that is there stays as it is.
pub fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER).create(path)
}

/// Makes a folder of which everything below is ours: one that is there and empty is closed to others, because somebody
/// made it for us (an image does so for its volume).
pub fn create_own_folder(path: &Path) -> io::Result<()> {
    create_folder(path)?;
    let empty = fs::read_dir(path)?.next().is_none();
    if empty && group_or_other_bits(path)?.is_some() {
        // Not ours to change: what is written into it is private all the same.
        let _ = fs::set_permissions(path, Permissions::from_mode(FOLDER));
    }
    Ok(())
}

/// Opens a file for writing, empty.
pub fn create_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE).open(path)?;
    restrict_to_owner(path)?;
    Ok(file)
}

/// Makes an empty file unless there is one. It is not opened then: closing it would drop SQLite's locks.
pub fn ensure_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(FILE).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => restrict_to_owner(path),
        made => made.map(drop),
    }
}

/// Writes a file, synced to the disk.
pub fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create_file(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Takes what group and others may do with a file that is there; nothing happens if it is not.
pub fn restrict_to_owner(path: &Path) -> io::Result<()> {
    match group_or_other_bits(path) {
        Ok(Some(mode)) => fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS)),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The permission bits, if group or others may do anything with it.
pub fn group_or_other_bits(path: &Path) -> io::Result<Option<u32>> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
    Ok((mode & OTHERS != 0).then_some(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b");
        create_folder(&below).unwrap();
        let file = below.join("file");
        write_synced(&file, b"x").unwrap();
        let made = below.join("made");
        ensure_file(&made).unwrap();
        assert_eq!(
            [mode(&folder.path().join("a")), mode(&below), mode(&file), mode(&made)],
            [0o700, 0o700, 0o600, 0o600]
        );
    }

    #[test]
    fn what_was_open_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "kept").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o664)).unwrap();
        assert_eq!(group_or_other_bits(&file).unwrap(), Some(0o664));
        ensure_file(&file).unwrap();
        assert_eq!((mode(&file), fs::read(&file).unwrap()), (0o600, b"kept".to_vec()));
        restrict_to_owner(&folder.path().join("absent")).unwrap();

        // A folder is closed if nothing else lives in it.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        create_own_folder(folder.path()).unwrap();
        assert_eq!(mode(folder.path()), 0o755);
        fs::remove_file(&file).unwrap();
        create_own_folder(folder.path()).unwrap();
        assert_eq!(mode(folder.path()), 0o700);
    }
}
