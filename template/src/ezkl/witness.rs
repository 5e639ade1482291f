//! A witness: every value that the circuit computed for one input, and what can be read off it.

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::felt::Felt;
use super::settings::{Settings, Visibility};

/// The edge of a range: one part in so many of its width.
const EDGE: i128 = 64;

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

    /// What is public of it, in EZKL's order: hashes of the inputs, hashes of the parameters, then public inputs, then outputs or
    /// their hashes (`prepare_public_inputs` in EZKL's src/graph/mod.rs). Each proof is of these, in this order.
    ///
    /// # Errors
    /// If a visibility is one whose instances cannot be read off a witness.
    pub fn instances(&self, settings: &Settings) -> Result<Vec<Felt>> {
        let (args, fields) = (&settings.run_args, &self.fields);
        let mut instances = Vec::new();
        for (visibility, what, processed) in [
            (&args.input_visibility, "inputs", &fields.processed_inputs),
            (&args.param_visibility, PARAMETERS, &fields.processed_params),
        ] {
            if is_hashed(visibility, what)? {
                instances.extend(hashes(what, processed.as_ref())?);
            }
        }
        if args.input_visibility.name() == "public" {
            instances.extend(fields.inputs.iter().flatten());
        }
        if is_hashed(&args.output_visibility, "outputs")? {
            instances.extend(hashes("outputs", fields.processed_outputs.as_ref())?);
        } else if args.output_visibility.name() == "public" {
            instances.extend(fields.outputs.iter().flatten());
        }
        instances.into_iter().map(|felt| Felt::from_hex_le(felt)).collect()
    }

    /// True if every lookup and range check of the circuit covers the values of this witness. Where it does not, the
    /// witness may still be provable; `mock` decides.
    pub fn is_within_ranges(&self, settings: &Settings) -> bool {
        let (low, high) = settings.run_args.lookup_range;
        self.fields.min_lookup_inputs >= low
            && self.fields.max_lookup_inputs <= high
            && self.fields.max_range_size <= settings.largest_range()
    }

    /// True if a lookup comes near the end of the circuit's tables, by a share of their width.
    pub fn is_near_edge(&self, settings: &Settings) -> bool {
        let (low, high) = settings.run_args.lookup_range;
        let edge = (high - low) / EDGE;
        self.fields.min_lookup_inputs < low + edge || self.fields.max_lookup_inputs > high - edge
    }

    /// The smallest and the largest value that a lookup was asked for; zero counts.
    pub fn lookup_inputs(&self) -> (i128, i128) {
        (self.fields.min_lookup_inputs, self.fields.max_lookup_inputs)
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

const PARAMETERS: &str = "parameters";

fn is_hashed(visibility: &Visibility, what: &str) -> Result<bool> {
    match visibility.name().as_str() {
        "public" | "private" | "fixed" => Ok(false),
        "hashed" => Ok(true),
        other => bail!("the {what} of the circuit are {other}: use public, private, fixed or hashed"),
    }
}

fn hashes<'a>(what: &str, processed: Option<&'a Processed>) -> Result<&'a [String]> {
    let hash = processed.and_then(|processed| processed.poseidon_hash.as_deref());
    hash.with_context(|| {
        let none = "where the model has none, say fixed or private with --param-visibility";
        let hint = if what == PARAMETERS { format!(": {none}") } else { String::new() };
        format!("EZKL has hashed no {what}{hint}")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn felt(n: u8) -> String {
        format!("{n:02x}{}", "0".repeat(62))
    }

    /// The instances of a witness whose values are 1 (input), 2 (output), 10, 20 and 30 (hashes of inputs, outputs, parameters).
    fn instances(input: &str, output: &str, parameters: &str) -> Vec<Felt> {
        let visibility = |words: &str| match words {
            "hashed" => json!({"Hashed": {"hash_is_public": true, "outlets": []}}),
            plain => json!(plain),
        };
        let settings = serde_json::from_value(json!({
            "run_args": {
                "logrows": 10, "lookup_range": [0, 0], "input_visibility": visibility(input),
                "output_visibility": visibility(output), "param_visibility": visibility(parameters),
            },
            "model_output_scales": [0], "version": "23.0.5",
        }));
        let hash = |n: u8| json!({"poseidon_hash": [felt(n)]});
        let witness = json!({
            "inputs": [[felt(1)]], "outputs": [[felt(2)]], "processed_inputs": hash(10), "processed_outputs": hash(20),
            "processed_params": hash(30), "max_lookup_inputs": 0, "min_lookup_inputs": 0, "max_range_size": 0,
        });
        Witness::read(witness.to_string().into_bytes()).unwrap().instances(&settings.unwrap()).unwrap()
    }

    #[test]
    fn regression_a_model_without_parameters_has_none_to_hash() {
        let none = super::hashes(PARAMETERS, None).unwrap_err().to_string();
        assert!(none.contains("--param-visibility"), "{none}");
        assert!(!super::hashes("inputs", None).unwrap_err().to_string().contains("--param-visibility"));
    }

    #[test]
    fn regression_instances_are_in_the_order_of_ezkls_proofs() {
        let felts = |all: &[u8]| all.iter().map(|n| Felt::from_hex_le(&felt(*n)).unwrap()).collect::<Vec<_>>();
        assert_eq!(instances("Public", "Public", "Fixed"), felts(&[1, 2]));
        assert_eq!(instances("Private", "Public", "Fixed"), felts(&[2]));
        // The hash of the parameters is before the public inputs, and not after them.
        assert_eq!(instances("Public", "Public", "hashed"), felts(&[30, 1, 2]));
        assert_eq!(instances("hashed", "Public", "hashed"), felts(&[10, 30, 2]));
        assert_eq!(instances("hashed", "hashed", "hashed"), felts(&[10, 30, 20]));
        assert_eq!(instances("Public", "hashed", "Private"), felts(&[1, 20]));
    }
}
