//! The features that a model takes, out of those that there are.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use polars::prelude::DataFrame;

use super::WALLET;

/// Features that a file names, and the frame does not have.
#[derive(Debug, thiserror::Error)]
#[error("features are missing that {file} names: {names:?}{hint}")]
pub struct MissingFeatures {
    file: String,
    pub names: Vec<String>,
    /// Of a header with blanks in it.
    hint: String,
}

/// The columns that a file names.
#[derive(Debug)]
pub struct Selection {
    file: String,
    columns: Arc<Vec<String>>,
    /// Features left out that the log has named already.
    named: Mutex<HashSet<String>>,
}

impl Selection {
    /// `file` is the file's name in messages.
    pub fn new(file: &str, columns: Vec<String>) -> Self {
        Self { file: file.to_owned(), columns: Arc::new(columns), named: Mutex::default() }
    }

    /// The names, in the file's order.
    pub fn columns(&self) -> &Arc<Vec<String>> {
        &self.columns
    }

    /// The columns in the file's order. What else the frame has is left out, and said once.
    pub fn select(&self, frame: &DataFrame) -> Result<DataFrame> {
        let missing = self.columns.iter().filter(|name| frame.get_column_index(name).is_none());
        let names: Vec<String> = missing.cloned().collect();
        if !names.is_empty() {
            let is_meant = |there: &&str| names.iter().any(|name| name == there.trim());
            let meant = frame.get_column_names().into_iter().map(|name| name.as_str()).find(is_meant);
            let hint = meant.map_or_else(String::new, |there| format!(" (there is {there:?}: take the blanks away)"));
            return Err(MissingFeatures { file: self.file.clone(), names, hint }.into());
        }
        let extras = self.new_extras(frame);
        if !extras.is_empty() {
            tracing::warn!(?extras, "ignoring features that {} does not name", self.file);
        }
        Ok(frame.select(self.columns.iter())?)
    }

    /// Features that are left out and were not named before. Everybody knows that the wallet is no feature.
    fn new_extras(&self, frame: &DataFrame) -> Vec<String> {
        let used: HashSet<_> = self.columns.iter().map(String::as_str).collect();
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        frame
            .get_column_names()
            .into_iter()
            .map(|name| name.as_str())
            .filter(|name| *name != WALLET && !used.contains(name))
            .filter(|name| named.insert(name.to_string()))
            .map(str::to_string)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::df;

    fn selection(columns: &[&str]) -> Selection {
        Selection::new("cols.json", columns.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_missing_feature_is_named() {
        let frame = df!("b" => [1.0]).unwrap();
        let error = selection(&["a", "b", "c"]).select(&frame).unwrap_err().to_string();
        assert_eq!(error, r#"features are missing that cols.json names: ["a", "c"]"#);
    }

    #[test]
    fn a_name_with_blanks_in_a_header_is_told() {
        let frame = df!("a" => [1.0], " b" => [1.0]).unwrap();
        let error = selection(&["a", "b"]).select(&frame).unwrap_err().to_string();
        assert!(error.ends_with(r#"names: ["b"] (there is " b": take the blanks away)"#), "{error}");
    }

    #[test]
    fn an_extra_feature_is_left_out_and_named_once() {
        let selection = selection(&["b", "a"]);
        let frame = df!("wallet_address" => ["0x"], "a" => [1.0], "b" => [2.0], "c" => [3.0]).unwrap();
        assert_eq!(selection.new_extras(&frame), ["c"]);
        assert!(selection.new_extras(&frame).is_empty());
        assert!(selection.select(&frame).unwrap().equals(&df!("b" => [2.0], "a" => [1.0]).unwrap()));
    }
}
