//! The JSON of a pipeline: the features that it reads, then its steps, each with its class, its name and its parameters.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::columns::{Precision, check_unique};

/// What `"format"` says in a file that `tools/export_preprocessing.py` wrote.
const FORMAT: &str = "nova-preprocessing";
/// The only version so far.
const VERSION: u32 = 1;

/// A whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    format: String,
    version: u32,
    /// Which scikit-learn the pipeline was exported from, for people.
    #[serde(rename = "made_by")]
    _made_by: Option<String>,
    pub columns: Vec<String>,
    pub steps: Vec<RawStep>,
}

/// A step, its parameters not yet understood.
#[derive(Deserialize)]
pub struct RawStep {
    /// The class in scikit-learn.
    pub class: String,
    /// Its name in the pipeline.
    pub name: String,
    /// The type of the array that it was fitted on. Files of earlier exports do not say.
    #[serde(default)]
    pub dtype: Precision,
    #[serde(flatten)]
    parameters: Map<String, Value>,
}

/// Reads a file's frame; the steps' parameters are read with the steps.
pub fn read(text: &str) -> Result<File> {
    let expected = "expected what tools/export_preprocessing.py writes";
    let file: File = serde_json::from_str(text).context(expected)?;
    ensure!(file.format == FORMAT, "the format is {:?}, expected {FORMAT:?}", file.format);
    ensure!(
        file.version == VERSION,
        "the format's version is {}, and this daemon reads version {VERSION}: export the pipeline again with this \
         project's tools/export_preprocessing.py",
        file.version
    );
    ensure!(!file.columns.is_empty(), "it names no columns");
    check_unique(&file.columns)?;
    Ok(file)
}

impl RawStep {
    /// The step as messages name it.
    pub fn label(&self) -> String {
        format!("step {:?} ({})", self.name, self.class)
    }

    /// The parameters that its class has; one that is absent, or not known, is named.
    pub fn parameters<P: DeserializeOwned>(self) -> Result<P> {
        Ok(serde_json::from_value(Value::Object(self.parameters))?)
    }
}
