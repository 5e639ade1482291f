//! A witness: every value that the circuit computed for one input, and what can be read off it.

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::felt::Felt;
use super::settings::Settings;

/// EZKL's witness, kept whole as EZKL wrote it.
#[derive(Debug, Clone)]
pub struct Witness {
    /// EZKL's own bytes: what is saved and later proven.
    pub json: Vec<u8>,
    fields: Fields,
}

#[derive(Debug, Clone, Deserialize)]
struct Fields {
    inputs: Vec<Vec<String>>,
    outputs: Vec<Vec<String>>,
    #[serde(default)]
    processed_inputs: Option<Processed>,
    #[serde(default)]
    processed_outputs: Option<Processed>,
    #[serde(default)]
    processed_params: Option<Processed>,
    max_lookup_inputs: i128,
    min_lookup_inputs: i128,
    max_range_size: i128,
}

#[derive(Debug, Clone, Deserialize)]
struct Processed {
    poseidon_hash: Option<Vec<String>>,
}

impl Witness {
    /// # Errors
    /// If it is not what EZKL 23 writes.
    pub fn read(json: Vec<u8>) -> Result<Self> {
        let fields = serde_json::from_slice(&json).context("EZKL's witness has another form than that of EZKL 23")?;
        Ok(Self { json, fields })
    }

    /// The outputs as numbers, one list for each output of the model.
    pub fn outputs(&self, settings: &Settings) -> Result<Vec<Vec<f64>>> {
        let (outputs, scales) = (&self.fields.outputs, &settings.model_output_scales);
        ensure!(
            outputs.len() == scales.len(),
            "the witness has {} outputs, the settings {}",
            outputs.len(),
            scales.len()
        );
        outputs
            .iter()
            .zip(scales)
            .map(|(felts, scale)| felts.iter().map(|felt| Felt::from_hex_le(felt)?.to_f64(*scale)).collect())
            .collect()
    }

    /// What is public of it, in the order in which a verifier wants it: inputs, parameters, outputs.
    ///
    /// # Errors
    /// If a visibility is one whose instances cannot be read off a witness.
    pub fn instances(&self, settings: &Settings) -> Result<Vec<Felt>> {
        let run_args = &settings.run_args;
        let mut instances = Vec::new();
        instances.extend(public(
            &run_args.input_visibility.name(),
            "inputs",
            &self.fields.inputs,
            &self.fields.processed_inputs,
        )?);
        instances.extend(public(&run_args.param_visibility.name(), "parameters", &[], &self.fields.processed_params)?);
        instances.extend(public(
            &run_args.output_visibility.name(),
            "outputs",
            &self.fields.outputs,
            &self.fields.processed_outputs,
        )?);
        Ok(instances)
    }

    /// True if every lookup and range check of the circuit covers the values of this witness. Where it does not, the
    /// witness may still be provable; `mock` decides.
    pub fn is_inside(&self, settings: &Settings) -> bool {
        let (low, high) = settings.run_args.lookup_range;
        self.fields.min_lookup_inputs >= low
            && self.fields.max_lookup_inputs <= high
            && self.fields.max_range_size <= settings.largest_range()
    }

    /// The figures behind `is_inside`, for a person.
    pub fn describe_ranges(&self, settings: &Settings) -> String {
        let (low, high) = settings.run_args.lookup_range;
        format!(
            "lookup inputs {}..{} of the circuit's {low}..{high}, range {} of {}",
            self.fields.min_lookup_inputs,
            self.fields.max_lookup_inputs,
            self.fields.max_range_size,
            settings.largest_range()
        )
    }
}

fn public(visibility: &str, what: &str, values: &[Vec<String>], processed: &Option<Processed>) -> Result<Vec<Felt>> {
    let felts: Vec<&String> = match visibility {
        "private" | "fixed" => return Ok(Vec::new()),
        "public" => values.iter().flatten().collect(),
        name if name.starts_with("hashed") => processed
            .as_ref()
            .and_then(|processed| processed.poseidon_hash.as_ref())
            .with_context(|| format!("the witness lacks the hash of the {what}"))?
            .iter()
            .collect(),
        other => bail!("the {what} of the circuit are {other}: use public, private, fixed or hashed"),
    };
    felts.into_iter().map(|felt| Felt::from_hex_le(felt)).collect()
}
