//! What a hook may ask for: the request it works on, and the files that training exported.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};
use polars::prelude::DataFrame;

use crate::features::Selection;
use crate::preprocess::Preprocessor;

/// Far more than training exports, and less than memory.
const MAX_FILE_BYTES: u64 = 64 << 20;

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
        Ok(Arc::clone(self.selection(file)?.columns()))
    }

    /// The columns that this file names, in its order. What else the frame has is left out, and said once.
    pub fn select(&self, frame: &DataFrame, file: &str) -> Result<DataFrame> {
        self.selection(file)?.select(frame)
    }

    fn selection(&self, file: &str) -> Result<Arc<Selection>> {
        self.files.selections.get(&self.files.folder, file, |text| {
            let columns = serde_json::from_str(text).context(r#"expected a list of names: ["a", "b"]"#)?;
            Ok(Selection::new(file, columns))
        })
    }
}

/// The files that hooks have asked for, each read once.
#[derive(Debug)]
pub struct ContextFiles {
    folder: PathBuf,
    preprocessors: Cache<Preprocessor>,
    selections: Cache<Selection>,
}

impl ContextFiles {
    /// Nothing read yet.
    pub fn new(folder: impl Into<PathBuf>) -> Arc<Self> {
        Arc::new(Self { folder: folder.into(), preprocessors: Cache::default(), selections: Cache::default() })
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
        let text = text_of(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let value = Arc::new(read(&text).with_context(|| path.display().to_string())?);
        lock(&self.0).insert(file.to_string(), Arc::clone(&value));
        Ok(value)
    }
}

/// A file of a size that can be meant.
fn text_of(path: &Path) -> Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    ensure!(text.len() as u64 <= MAX_FILE_BYTES, "it is larger than {MAX_FILE_BYTES} bytes");
    Ok(text)
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
    fn a_file_that_is_too_large_is_not_read_whole() {
        let (folder, ctx) = context(&[]);
        let file = File::create(folder.path().join("cols.json")).unwrap();
        file.set_len(MAX_FILE_BYTES << 10).unwrap();
        let error = format!("{:#}", ctx.columns("cols.json").unwrap_err());
        assert!(error.contains("cols.json: it is larger than 67108864 bytes"), "{error}");
    }

    #[test]
    fn columns_are_selected_by_the_files_names() {
        let (_folder, ctx) = context(&[("cols.json", r#"["b", "a"]"#)]);
        let frame = df!("wallet_address" => ["0x"], "a" => [1.0], "b" => [2.0]).unwrap();
        let selected = ctx.select(&frame, "cols.json").unwrap();
        assert!(selected.equals(&df!("b" => [2.0], "a" => [1.0]).unwrap()));
        let error = ctx.select(&df!("b" => [1.0]).unwrap(), "cols.json").unwrap_err().to_string();
        assert!(error.contains(r#"cols.json names: ["a"]"#), "{error}");
    }
}
