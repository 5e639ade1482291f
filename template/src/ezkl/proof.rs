//! EZKL's proof file, as far as the daemon reads it.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::felt::Felt;

/// A proof with its public instances.
#[derive(Debug, Clone, Deserialize)]
pub struct ProofFile {
    instances: Vec<Vec<String>>,
    hex_proof: String,
}

impl ProofFile {
    /// # Errors
    /// If it is not what EZKL 23 writes.
    pub fn read(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json).context("the proof file has another form than that of EZKL 23")
    }

    pub fn open(path: &Path) -> Result<Self> {
        let json = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::read(&json).with_context(|| path.display().to_string())
    }

    /// The public inputs and outputs, in the order in which a verifier wants them.
    pub fn instances(&self) -> Result<Vec<Felt>> {
        self.instances.iter().flatten().map(|felt| Felt::from_hex_le(felt)).collect()
    }

    /// The bytes that a Solidity verifier takes.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        hex::decode(self.hex_proof.trim_start_matches("0x")).context("the proof file holds no proof in hex")
    }
}
