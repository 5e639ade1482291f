//! What a hook may ask for: the request it works on, and the files that training exported.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};
use polars::prelude::DataFrame;

use crate::preprocess::Preprocessor;

/// One request, and the model files.
#[derive(Debug, Clone)]
pub struct Context {
    files: Arc<ContextFiles>,
    request_id: String,
    input: String,
}

impl Context {
    /// The context of one request; the files' cache is shared by all of them.
    pub fn new(files: Arc<ContextFiles>, request_id: impl Into<String>, input: impl Into<String>) -> Self {
        Self { files, request_id: request_id.into(), input: input.into() }
    }

    /// The request's id on chain: 0x and 64 hex digits.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The request's input as the consumer wrote it.
    pub fn input(&self) -> &str {
        &self.input
    }

    /// The folder of the model files.
    pub fn model_files(&self) -> &Path {
        &self.files.folder
    }

    /// The scikit-learn pipeline that `tools/export_preprocessing.py` exported to this file of the model folder.
    pub fn preprocessor(&self, file: &str) -> Result<Arc<Preprocessor>> {
        self.files.preprocessors.get(&self.files.folder, file, |text| Preprocessor::from_json(file, text))
    }

    /// The list of column names that training exported to this file of the model folder.
    pub fn columns(&self, file: &str) -> Result<Arc<Vec<String>>> {
        self.files.columns.get(&self.files.folder, file, |text| {
            serde_json::from_str(text).context(r#"expected a list of names: ["a", "b"]"#)
        })
    }

    /// The columns that this file names, in its order. What else the frame has is left out, and said once.
    pub fn select(&self, frame: &DataFrame, file: &str) -> Result<DataFrame> {
        let columns = self.columns(file)?;
        let missing: Vec<_> = columns.iter().filter(|name| frame.get_column_index(name).is_none()).collect();
        ensure!(missing.is_empty(), "features are missing that {file} names: {missing:?}");
        let extras = self.files.new_extras(frame, &columns);
        if !extras.is_empty() {
            tracing::warn!(?extras, "ignoring features that {file} does not name");
        }
        Ok(frame.select(columns.iter())?)
    }
}

/// The files that hooks have asked for, each read once.
#[derive(Debug)]
pub struct ContextFiles {
    folder: PathBuf,
    preprocessors: Cache<Preprocessor>,
    columns: Cache<Vec<String>>,
    /// Features left out that the log has named already.
    extras: Mutex<HashSet<String>>,
}

impl ContextFiles {
    /// Nothing read yet.
    pub fn new(folder: impl Into<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            folder: folder.into(),
            preprocessors: Cache::default(),
            columns: Cache::default(),
            extras: Mutex::default(),
        })
    }

    /// Features that are left out and were not named before. Everybody knows that the wallet is no feature.
    fn new_extras(&self, frame: &DataFrame, columns: &[String]) -> Vec<String> {
        let used: HashSet<_> = columns.iter().map(String::as_str).collect();
        let mut named = lock(&self.extras);
        frame
            .get_column_names()
            .into_iter()
            .map(|name| name.as_str())
            .filter(|name| *name != "wallet_address" && !used.contains(name))
            .filter(|name| named.insert(name.to_string()))
            .map(str::to_string)
            .collect()
    }
}

/// Files read and understood, by name.
#[derive(Debug)]
struct Cache<T>(Mutex<HashMap<String, Arc<T>>>);

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Cache<T> {
    /// The file's content, read if this is the first time. A failure is not kept: the file may be put right.
    fn get(&self, folder: &Path, file: &str, read: impl Fn(&str) -> Result<T>) -> Result<Arc<T>> {
        if let Some(known) = lock(&self.0).get(file) {
            return Ok(Arc::clone(known));
        }
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let value = Arc::new(read(&text).with_context(|| path.display().to_string())?);
        lock(&self.0).insert(file.to_string(), Arc::clone(&value));
        Ok(value)
    }
}

/// A hook that panicked elsewhere is no reason to stop: what the locks guard is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::df;

    fn context(files: &[(&str, &str)]) -> (tempfile::TempDir, Context) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let files = ContextFiles::new(folder.path());
        (folder, Context::new(files, "0x01", "0xabc"))
    }

    #[test]
    fn it_tells_which_request_it_is() {
        let (folder, ctx) = context(&[]);
        assert_eq!((ctx.request_id(), ctx.input()), ("0x01", "0xabc"));
        assert_eq!(ctx.model_files(), folder.path());
    }

    #[test]
    fn a_file_is_read_once_for_all_requests() {
        let (folder, ctx) = context(&[("cols.json", r#"["a", "b"]"#)]);
        let first = ctx.columns("cols.json").unwrap();
        std::fs::remove_file(folder.path().join("cols.json")).unwrap();
        let other = Context::new(Arc::clone(&ctx.files), "0x02", "");
        assert!(Arc::ptr_eq(&first, &other.columns("cols.json").unwrap()));
    }

    #[test]
    fn a_wrong_file_is_named_and_may_be_put_right() {
        let (folder, ctx) = context(&[("cols.json", "{}")]);
        let error = format!("{:#}", ctx.columns("cols.json").unwrap_err());
        assert!(error.contains("cols.json") && error.contains("expected a list"), "{error}");
        let error = format!("{:#}", ctx.preprocessor("pipeline.json").unwrap_err());
        assert!(error.contains("cannot read") && error.contains("pipeline.json"), "{error}");
        std::fs::write(folder.path().join("cols.json"), "[]").unwrap();
        assert!(ctx.columns("cols.json").unwrap().is_empty());
    }

    #[test]
    fn a_missing_feature_is_named() {
        let (_folder, ctx) = context(&[("cols.json", r#"["a", "b", "c"]"#)]);
        let frame = df!("b" => [1.0]).unwrap();
        let error = ctx.select(&frame, "cols.json").unwrap_err().to_string();
        assert!(error.contains(r#"["a", "c"]"#), "{error}");
    }

    #[test]
    fn an_extra_feature_is_left_out_and_named_once() {
        let (_folder, ctx) = context(&[("cols.json", r#"["b", "a"]"#)]);
        let frame = df!("wallet_address" => ["0x"], "a" => [1.0], "b" => [2.0], "c" => [3.0]).unwrap();
        let selected = ctx.select(&frame, "cols.json").unwrap();
        assert!(selected.equals(&df!("b" => [2.0], "a" => [1.0]).unwrap()));

        let (_folder, ctx) = context(&[]);
        let used = ["a".to_string(), "b".to_string()];
        assert_eq!(ctx.files.new_extras(&frame, &used), ["c"]);
        assert!(ctx.files.new_extras(&frame, &used).is_empty());
    }
}
