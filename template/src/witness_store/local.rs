//! The store on local disk.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::secure_fs;

/// Files under the artifacts folder.
#[derive(Debug, Clone)]
pub struct Local {
    folder: PathBuf,
}

impl Local {
    pub fn new(artifacts: &Path) -> Self {
        Self { folder: artifacts.to_owned() }
    }

    /// Written to a temporary name, synced, renamed, and the folder synced: whole and for good, or not at all.
    pub async fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let (path, bytes) = (self.folder.join(path), bytes.to_owned());
        tokio::task::spawn_blocking(move || write_synced(&path, &bytes).with_context(|| path.display().to_string()))
            .await?
    }

    pub async fn remove(&self, path: &str) -> Result<()> {
        Ok(tokio::fs::remove_file(self.folder.join(path)).await?)
    }

    /// The names in a folder.
    pub async fn list(&self, path: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let mut entries = match tokio::fs::read_dir(self.folder.join(path)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            entries => entries?,
        };
        while let Some(entry) = entries.next_entry().await? {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    pub async fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        match tokio::fs::read(self.folder.join(path)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("a path without folder"))?;
    let made: Vec<&Path> = folder.ancestors().take_while(|above| !above.is_dir()).collect();
    if !made.is_empty() {
        secure_fs::create_folder(folder)?;
    }
    // The name of each folder that was made is in the one above it.
    for above in made.iter().filter_map(|folder| folder.parent()).filter(|above| above.is_dir()) {
        File::open(above)?.sync_all()?;
    }
    // Private from the start, as all temporary files are.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}
