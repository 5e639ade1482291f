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
    /// The products of matrices.
    #[serde(default)]
    pub einsum_params: EinsumParams,
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
    /// Inputs are multiplied by 2^this, parameters by 2^the next.
    #[serde(default)]
    pub input_scale: i32,
    #[serde(default)]
    pub param_scale: i32,
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

/// Who may see what, in EZKL's words, of circuits whose answers the daemon can commit to and prove. EZKL takes more: `polycommit` has
/// no instances that a witness tells; an output that nobody sees binds a proof to no answer; with public parameters, fixed inputs
/// or outputs, and private hashes of inputs EZKL 23.0.5 makes no circuit.
pub const SERVED: [(&str, &[&str]); 3] = [
    ("input_visibility", &SERVED_INPUTS),
    ("output_visibility", &SERVED_OUTPUTS),
    ("param_visibility", &SERVED_PARAMETERS),
];
pub const SERVED_INPUTS: [&str; 3] = ["public", "private", "hashed/public"];
pub const SERVED_OUTPUTS: [&str; 2] = ["public", "hashed/public"];
pub const SERVED_PARAMETERS: [&str; 3] = ["fixed", "hashed/public", "private"];

impl Visibility {
    /// In the words that EZKL takes, which are other ones than it writes: `{"Hashed": {"hash_is_public": false, "outlets": [0]}}` is
    /// `hashed/private/0`.
    pub fn in_words(&self) -> String {
        match self {
            Self::Plain(_) if self.name() == "kzgcommit" => "polycommit".to_owned(),
            Self::Plain(_) => self.name(),
            Self::Detailed(details) => {
                let hashed = details.get("Hashed").unwrap_or(&serde_json::Value::Null);
                if hashed["hash_is_public"] == true {
                    return "hashed/public".to_owned();
                }
                let outlets = hashed["outlets"].as_array().into_iter().flatten();
                let outlets: Vec<String> = outlets.map(ToString::to_string).collect();
                format!("{}/private/{}", self.name(), outlets.join(","))
            }
        }
    }

    /// `public`, `private`, `fixed`, `hashed`, `polycommit` …, in lower case.
    pub fn name(&self) -> String {
        match self {
            Self::Plain(name) => name.to_lowercase(),
            Self::Detailed(details) => details.keys().next().map(|name| name.to_lowercase()).unwrap_or_default(),
        }
    }
}

/// The products of a circuit, as EZKL reads them.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct EinsumParams {
    /// `mk,kn->mn`, and the size of each axis.
    #[serde(default)]
    pub equations: Vec<(String, serde_json::Value)>,
}

impl Settings {
    /// # Errors
    /// A file that is absent or is not EZKL's, with what to run.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}: run `nova setup` to make it", path.display()))
            .map_err(Fault::Fatal)?;
        serde_json::from_str(&text).map_err(|error| {
            Fault::Fatal(anyhow!("{} is not a settings file of EZKL: {error}; run `nova setup`", path.display()))
        })
    }

    /// The coarsest scale of the values on the way to an output: its own, the parameters', and that of the inputs unless all are
    /// whole numbers, which EZKL gives the scale 0.
    pub fn coarsest_scale(&self, output: usize, has_float_input: bool) -> i32 {
        let inputs = has_float_input.then_some(self.run_args.input_scale);
        let output = self.model_output_scales.get(output).copied();
        inputs.into_iter().chain(output).fold(self.run_args.param_scale, i32::min)
    }

    /// The largest range that a range check of the circuit covers.
    pub fn largest_range(&self) -> i128 {
        self.required_range_checks.iter().map(|(low, high)| high - low).max().unwrap_or(0)
    }

    /// The functions that are computed by lookup, by EZKL's names: `Sigmoid`, `Exp` …, each once.
    pub fn looked_up(&self) -> Vec<String> {
        let names = self.required_lookups.iter().filter_map(|lookup| match lookup {
            serde_json::Value::String(name) => Some(name.clone()),
            lookup => lookup.as_object()?.keys().next().cloned(),
        });
        names.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// # Errors
    /// Visibilities with which no answer can be proven, or a proof would bind nothing; with what to run.
    pub fn check_visibilities(&self, path: &Path) -> Result<()> {
        let args = &self.run_args;
        for ((field, served), held) in
            SERVED.into_iter().zip([&args.input_visibility, &args.output_visibility, &args.param_visibility])
        {
            let held = held.in_words();
            if !served.contains(&held.as_str()) {
                let option = field.replace('_', "-");
                return Err(Fault::Fatal(anyhow!(
                    "{}: {field} is {held}, and answers of such a circuit cannot be proven. Run `nova setup --{option} {}`; {} can be served",
                    path.display(),
                    served[0],
                    served.join(", "),
                )));
            }
        }
        Ok(())
    }

    /// The version of the wheel must be the one that made the files: another reads them wrongly or not at all.
    pub fn check_version(&self, wheel: &str, path: &Path) -> Result<()> {
        if self.version == wheel {
            return Ok(());
        }
        Err(Fault::Fatal(anyhow!(
            "{} was made by EZKL {}, the wheel here is EZKL {wheel}: install ezkl=={} (NOVA_PYTHON chooses the Python), or run \
             `nova setup` again",
            path.display(),
            self.version,
            self.version
        )))
    }
}
