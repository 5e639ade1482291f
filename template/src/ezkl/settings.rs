//! What `settings.json` says of the circuit, as far as the daemon needs it.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use serde::Deserialize;

use crate::fault::{Fault, Result};

/// EZKL's circuit settings.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    pub run_args: RunArgs,
    #[serde(default)]
    pub required_range_checks: Vec<(i128, i128)>,
    /// What is computed by looking it up in a table: one entry a function.
    #[serde(default)]
    pub required_lookups: Vec<serde_json::Value>,
    /// Rows of the circuit in each of its inner columns.
    #[serde(default)]
    pub num_rows: usize,
    /// The shapes of all that is public.
    #[serde(default)]
    pub model_instance_shapes: Vec<Vec<usize>>,
    pub model_output_scales: Vec<i32>,
    /// The version of EZKL that made the file.
    pub version: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct RunArgs {
    pub logrows: u32,
    pub lookup_range: (i128, i128),
    pub input_visibility: Visibility,
    pub output_visibility: Visibility,
    pub param_visibility: Visibility,
}

/// Who sees a tensor: EZKL writes a name, or a map from a name to its details.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Visibility {
    Plain(String),
    Detailed(serde_json::Map<String, serde_json::Value>),
}

impl Visibility {
    /// `public`, `private`, `fixed`, `hashed`, `polycommit` …, in lower case.
    pub fn name(&self) -> String {
        match self {
            Self::Plain(name) => name.to_lowercase(),
            Self::Detailed(details) => details.keys().next().map(|name| name.to_lowercase()).unwrap_or_default(),
        }
    }
}

impl Settings {
    /// # Errors
    /// A file that is absent or is not EZKL's, with what to run.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}: run `nova setup` to make it", path.display()))
            .map_err(Fault::Stop)?;
        serde_json::from_str(&text).map_err(|error| {
            Fault::Stop(anyhow!("{} is not a settings file of EZKL: {error}; run `nova setup`", path.display()))
        })
    }

    /// The largest range that a range check of the circuit covers.
    pub fn largest_range(&self) -> i128 {
        self.required_range_checks.iter().map(|(low, high)| high - low).max().unwrap_or(0)
    }

    /// The version of the wheel must be the one that made the files: another reads them wrongly or not at all.
    pub fn check_version(&self, wheel: &str, path: &Path) -> Result<()> {
        if self.version == wheel {
            return Ok(());
        }
        Err(Fault::Stop(anyhow!(
            "{} was made by EZKL {}, the wheel here is EZKL {wheel}: install ezkl=={} (NOVA_PYTHON chooses the Python), or run \
             `nova setup` again",
            path.display(),
            self.version,
            self.version
        )))
    }
}
