//! Frames of features from files: the sample that `setup` calibrates with, and `predict --features`.

use std::path::Path;

use anyhow::{Context as _, Result as Anyhow, bail, ensure};
use serde_json::{Map, Value};

use super::table::FeatureTable;
use super::{csv, parquet};
use crate::fault::{Classify, Result};
use crate::services::python_json;

/// Far more than a sample has, and less than memory.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// The same of text, where a number may be two bytes and is eight and more in memory.
const LARGEST_TEXT: u64 = 256 << 20;

/// Every row of a `.parquet`, `.csv` or `.json` file (JSON: one object, a list of objects, or one object a line).
pub fn load(path: &Path) -> Result<FeatureTable> {
    read(path).with_context(|| format!("cannot read features from {}", path.display())).permanent()
}

fn read(path: &Path) -> Anyhow<FeatureTable> {
    let bytes = std::fs::metadata(path)?.len();
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    let largest = if extension.as_deref() == Some("parquet") { MAX_FILE_BYTES } else { LARGEST_TEXT };
    ensure!(bytes <= largest, "it has {bytes} bytes, more than {largest}");
    match extension.as_deref() {
        Some("parquet") => parquet::read(path),
        Some("csv") => csv::read(path),
        Some("json" | "jsonl" | "ndjson") => FeatureTable::of_objects(json(&std::fs::read_to_string(path)?)?),
        _ => bail!("expected a .parquet, .csv or .json file"),
    }
}

/// With NaN in it, which Python writes.
fn json(text: &str) -> Anyhow<Vec<Map<String, Value>>> {
    objects_in(text.as_bytes()).or_else(|error| objects_in(&python_json::quoted(text.as_bytes())).map_err(|_| error))
}

fn objects_in(text: &[u8]) -> Anyhow<Vec<Map<String, Value>>> {
    let mut objects = Vec::new();
    for value in serde_json::Deserializer::from_slice(text).into_iter() {
        match value? {
            Value::Array(values) => {
                for value in values {
                    objects.push(object(value)?);
                }
            }
            value => objects.push(object(value)?),
        }
    }
    Ok(objects)
}

fn object(value: Value) -> Anyhow<Map<String, Value>> {
    match value {
        Value::Object(object) => Ok(object),
        _ => bail!("expected objects of features: {{\"name\": number, …}}"),
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
