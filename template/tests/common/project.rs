//! A project folder of a test's own: model files, sample, artifacts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::model_files::{self, PROJECT};
use super::nova::Nova;

/// The folder in which commands are run. It goes when this is dropped.
pub struct Project(TempDir);

impl Project {
    /// With the shared model files, and nothing in the artifacts.
    pub fn new() -> Self {
        Self::of(&model_files::model_files())
    }

    /// With the model files of the example, where those of most tests are others.
    pub fn of_the_example() -> Self {
        Self::of(&model_files::of_the_example())
    }

    fn of(shared: &Path) -> Self {
        let project = Self::without_setup();
        fs::remove_file(project.model_file("model.onnx")).unwrap();
        for entry in fs::read_dir(shared).unwrap() {
            let name = entry.unwrap().file_name();
            let link = project.model_files().join(&name);
            if !link.exists() {
                symlink(shared.join(&name), link).unwrap();
            }
        }
        project
    }

    /// As it comes out of the generator: no `setup` has been run.
    pub fn without_setup() -> Self {
        let project = Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        fs::create_dir(project.model_files()).unwrap();
        for name in ["model.onnx", "preprocessing.json"] {
            symlink(Path::new(PROJECT).join("model_files").join(name), project.model_file(name)).unwrap();
        }
        symlink(Path::new(PROJECT).join("assets"), project.path().join("assets")).unwrap();
        project
    }

    /// Replaces the model files by those of another folder, as a new image does.
    pub fn use_model_files(&self, folder: &Path) {
        fs::remove_dir_all(self.model_files()).unwrap();
        fs::create_dir(self.model_files()).unwrap();
        for entry in fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name();
            symlink(folder.join(&name), self.model_files().join(&name)).unwrap();
        }
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn model_files(&self) -> PathBuf {
        self.path().join("model_files")
    }

    pub fn model_file(&self, name: &str) -> PathBuf {
        self.model_files().join(name)
    }

    /// Changes a model file of this project alone.
    pub fn change_model_file(&self, name: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let path = self.model_file(name);
        let changed = change(fs::read(&path).unwrap());
        // It is a link to what all tests share.
        fs::remove_file(&path).unwrap();
        fs::write(&path, changed).unwrap();
    }

    /// The same for a JSON file.
    pub fn change_json(&self, name: &str, change: impl FnOnce(&mut Value)) {
        self.change_model_file(name, |bytes| {
            let mut value = serde_json::from_slice(&bytes).unwrap();
            change(&mut value);
            serde_json::to_vec_pretty(&value).unwrap()
        });
    }

    pub fn remove_model_file(&self, name: &str) {
        fs::remove_file(self.model_file(name)).unwrap();
    }

    pub fn artifacts(&self) -> PathBuf {
        self.path().join("artifacts")
    }

    /// A file that was saved with the newest witness of a request: `witness.json`, `manifest.json` …
    pub fn saved(&self, request: impl std::fmt::LowerHex, file: &str) -> PathBuf {
        let folders = self.witnesses(request);
        let age = |folder: &PathBuf| folder.metadata().and_then(|folder| folder.modified()).unwrap();
        folders.into_iter().max_by_key(age).unwrap_or_default().join(file)
    }

    /// The folders of all witnesses that were saved for a request.
    pub fn witnesses(&self, request: impl std::fmt::LowerHex) -> Vec<PathBuf> {
        let saved = fs::read_dir(self.artifacts().join(format!("witnesses/{request:#x}")));
        saved.into_iter().flatten().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
    }

    /// `nova` with these arguments, in this folder.
    pub fn nova(&self, arguments: &[&str]) -> Nova {
        Nova::new(self.path(), arguments)
    }
}
