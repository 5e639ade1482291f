//! Moves what was made into place, and writes down what belongs together.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::circuit_builder::{BuiltCircuit, CircuitBuilder};
use crate::ezkl::model_version::{
    CIRCUIT, SETUP_MANIFEST, SETUP_PROOF, SetupManifest, SetupRecord, TUNING, TUNING_PICTURE,
};
use crate::sha256;

/// A file that is whole and on the right disk, under a hidden name beside its place.
struct Staged {
    file: PathBuf,
    place: PathBuf,
}

/// All files together, once each is beside its place; the manifest first: until all are in place they are refused as not
/// belonging together.
///
/// # Errors
/// Until the first is in place, what was there is as it was.
pub fn install(shop: &CircuitBuilder, made: &BuiltCircuit, insecure_srs: bool, making: SetupRecord) -> Result<()> {
    let (files, target) = (&made.files, &shop.target);
    let mut digests = BTreeMap::new();
    for (name, path) in files.all() {
        digests.insert(name.to_owned(), sha256::of_file(path)?);
    }
    if files.circuit.is_file() {
        digests.insert(CIRCUIT.to_owned(), sha256::of_file(&files.circuit)?);
    }
    ensure!(
        sha256::of_file(&target.onnx)? == digests["model.onnx"],
        "{} was changed while `nova setup` ran: run it again",
        target.onnx.display()
    );
    let ezkl_version = made.settings.version.clone();
    let manifest = SetupManifest { ezkl_version, insecure_srs, digests, making: Some(making) };
    let written = files.folder.join(SETUP_MANIFEST);
    fs::write(&written, serde_json::to_vec_pretty(&manifest)?).context("cannot write the manifest")?;

    let beside = |name: &str| target.folder.join(name);
    let mut moves = vec![
        (written, beside(SETUP_MANIFEST)),
        (files.folder.join(SETUP_PROOF), beside(SETUP_PROOF)),
        (files.verifier.clone(), target.verifier.clone()),
    ];
    let circuit = files.all().into_iter().zip(target.all()).filter(|((name, _), _)| *name != "model.onnx");
    moves.extend(circuit.map(|((_, from), (_, to))| (from.clone(), to.clone())));
    if files.circuit.is_file() {
        moves.push((files.circuit.clone(), target.circuit.clone()));
    }
    // What an earlier search found is of another circuit.
    for name in [TUNING, TUNING_PICTURE] {
        let found = shop.folder.join(name);
        match found.is_file() {
            true => moves.push((found, beside(name))),
            false => remove(&beside(name))?,
        }
    }
    let staged = moves.into_iter().map(|(from, to)| Staged::make(&from, to)).collect::<Result<Vec<_>>>()?;
    for staged in staged {
        fs::rename(&staged.file, &staged.place)
            .with_context(|| format!("cannot move {} into place", staged.place.display()))?;
    }
    // One of an earlier setup is of another circuit.
    if manifest.digests.contains_key(CIRCUIT) { Ok(()) } else { remove(&target.circuit) }
}

impl Staged {
    fn make(from: &Path, place: PathBuf) -> Result<Self> {
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let staged = Self { file: place.with_file_name(format!(".{name}.new")), place };
        let moved = match fs::rename(from, &staged.file) {
            // Each file may have a variable of its own that says where it is.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                fs::copy(from, &staged.file).and_then(|_| File::open(&staged.file)?.sync_all())
            }
            other => other,
        };
        moved.with_context(|| format!("cannot write {}", staged.place.display()))?;
        Ok(staged)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // It is not there any more where it is in its place.
        let _ = fs::remove_file(&self.file);
    }
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}
