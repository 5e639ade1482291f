//! Moves what was made into place, and writes down what belongs together.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::workshop::Made;
use crate::config::ModelFiles;
use crate::digest;
use crate::ezkl::files::{Making, SETUP_MANIFEST, SETUP_PROOF, SetupManifest};

/// All files together, the manifest first: until all are in place they are refused as not belonging together.
pub fn keep(made: &Made, target: &ModelFiles, insecure_srs: bool, making: Making) -> Result<()> {
    let files = &made.files;
    let mut digests = BTreeMap::new();
    for (name, path) in files.all() {
        digests.insert(name.to_owned(), digest::of_file(path)?);
    }
    let ezkl_version = made.settings.version.clone();
    let manifest = SetupManifest { ezkl_version, insecure_srs, digests, making: Some(making) };
    let written = files.folder.join(SETUP_MANIFEST);
    fs::write(&written, serde_json::to_vec_pretty(&manifest)?).context("cannot write the manifest")?;
    move_into_place(&written, &target.folder.join(SETUP_MANIFEST))?;
    move_into_place(&files.folder.join(SETUP_PROOF), &target.folder.join(SETUP_PROOF))?;
    move_into_place(&files.verifier, &target.verifier)?;
    for ((_, from), (_, to)) in files.all().into_iter().zip(target.all()) {
        if from != to {
            move_into_place(from, to)?;
        }
    }
    Ok(())
}

pub fn move_into_place(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot move {} into place", to.display()))
}
