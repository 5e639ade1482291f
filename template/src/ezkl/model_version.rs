//! The model files as one thing with one digest: what was answered with them must be proven with them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::config::ModelFiles;
use crate::fault::{Classify as _, Fault, Result};
use crate::features::FeatureSchema;
use crate::setup::accuracy::AccuracyReport;
use crate::setup::circuit_params::CircuitParams;
use crate::sha256;

/// What `setup` leaves beside the files it made: which belong together.
pub const SETUP_MANIFEST: &str = "setup.json";

/// What EZKL compiles. Not every folder has one.
pub const CIRCUIT: &str = "circuit.onnx";

/// The proof of a row of the sample that `setup` makes: with it a verifier contract can be tried.
pub const SETUP_PROOF: &str = "setup_proof.json";

/// What `setup --tune` tried, and its picture.
pub const TUNING: &str = "tuning.json";
pub const TUNING_PICTURE: &str = "tuning.svg";

/// The digests of a kept copy's files, in the form of `sha256sum`. Its own digest is the model's.
pub const CHECKSUMS_FILE: &str = "SHA256SUMS";

/// The model files of one moment, read and checked.
#[derive(Debug, Clone)]
pub struct ModelVersion {
    /// SHA-256 of the names and digests of all files, as `SHA256SUMS` has them.
    pub digest: String,
    /// SHA-256 of each file: EZKL's and the ONNX model by their standard names, and every other file of the folder, which
    /// hooks may read, by its path in it.
    pub digests: BTreeMap<String, String>,
    pub files: ModelFiles,
    pub settings: Settings,
}

/// What `setup` writes down about the files it made.
#[derive(Debug, Serialize, Deserialize)]
pub struct SetupManifest {
    pub ezkl_version: String,
    /// True if the SRS was made here, for development.
    pub insecure_srs: bool,
    /// SHA-256 of each file, by its standard name.
    pub digests: BTreeMap<String, String>,
    /// How they were made. Files of an earlier `setup` do not say.
    #[serde(default)]
    pub making: Option<SetupRecord>,
}

/// How model files were made, and how good they are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetupRecord {
    /// The version of this program.
    pub nova_version: String,
    /// The sample's file name and digest, and how many of its rows calibrated the circuit.
    pub sample: String,
    pub sample_sha256: String,
    pub calibration_rows: usize,
    /// What the sample shows of features: where they may be missing, and which hold strings.
    #[serde(default)]
    pub features: FeatureSchema,
    /// Rows of the sample that could not be used.
    #[serde(default)]
    pub unusable_rows: usize,
    /// The outputs of the model that the circuit has; all if there is none.
    #[serde(default)]
    pub outputs: Vec<String>,
    pub choice: CircuitParams,
    pub fidelity: AccuracyReport,
    pub keys_seconds: f64,
    pub prove_seconds: f64,
    /// Of one witness, and of its check by `mock`. Files of an earlier `setup` do not say.
    #[serde(default)]
    pub witness_seconds: f64,
    #[serde(default)]
    pub mock_seconds: f64,
    /// The most memory that the prover had, where the system tells.
    pub peak_memory_mb: Option<u64>,
}

impl SetupManifest {
    /// The manifest beside these files, if `setup` has left one.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn beside(files: &ModelFiles) -> Result<Option<Self>> {
        let path = files.folder.join(SETUP_MANIFEST);
        let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| Fault::Fatal(anyhow!("{} cannot be read: {error}; run `nova setup`", path.display())))
    }
}

impl SetupRecord {
    /// How these files were made, if `setup` has left a manifest that says so.
    ///
    /// # Errors
    /// A manifest that cannot be read.
    pub fn beside(files: &ModelFiles) -> Result<Option<Self>> {
        Ok(SetupManifest::beside(files)?.and_then(|manifest| manifest.making))
    }
}

impl ModelFiles {
    /// The files under their standard names.
    pub fn in_folder(folder: &Path) -> Self {
        let file = |name| folder.join(name);
        Self {
            onnx: file("model.onnx"),
            circuit: file(CIRCUIT),
            compiled: file("model.ezkl"),
            settings: file("settings.json"),
            proving_key: file("model_pk.pk"),
            verification_key: file("model_vk.vk"),
            srs: file("kzg.srs"),
            verifier: file("verifier.sol"),
            folder: folder.to_owned(),
        }
    }

    /// What answering and proving needs, each with its standard name.
    pub fn all(&self) -> [(&'static str, &PathBuf); 6] {
        [
            ("model.onnx", &self.onnx),
            ("model.ezkl", &self.compiled),
            ("settings.json", &self.settings),
            ("model_pk.pk", &self.proving_key),
            ("model_vk.vk", &self.verification_key),
            ("kzg.srs", &self.srs),
        ]
    }

    /// The ONNX that EZKL compiled, or compiles: the circuit's, where there is one, else the model itself.
    pub fn compiled_onnx(&self) -> &Path {
        if self.circuit.is_file() { &self.circuit } else { &self.onnx }
    }

    /// # Errors
    /// Names every file that is missing, and how to make it.
    pub fn check_present(&self) -> Result<()> {
        let missing: Vec<String> =
            self.all().iter().filter(|(_, path)| !path.is_file()).map(|(_, path)| path.display().to_string()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Fault::Fatal(anyhow!(
            "these model files are missing: {}. Run `nova setup` to make EZKL's from model.onnx; with Docker: \
             `docker compose run --rm nova setup`",
            missing.join(", ")
        )))
    }
}

impl ModelVersion {
    /// Reads and digests the model files.
    ///
    /// # Errors
    /// Missing files; files that `setup` did not make together.
    pub fn read(files: &ModelFiles) -> Result<Self> {
        files.check_present()?;
        let mut digests = BTreeMap::new();
        for (name, path) in files.all() {
            digests.insert(name.to_owned(), sha256::of_file(path).fatal()?);
        }
        if files.circuit.is_file() {
            digests.insert(CIRCUIT.to_owned(), sha256::of_file(&files.circuit).fatal()?);
        }
        check_setup(files, &digests)?;
        for name in auxiliary_files(files).fatal()? {
            let digest = sha256::of_file(&files.folder.join(&name)).fatal()?;
            digests.entry(name).or_insert(digest);
        }
        Self::with_digests(files, digests).map_err(Fault::Fatal)
    }

    /// Files whose digests are known.
    pub fn with_digests(files: &ModelFiles, digests: BTreeMap<String, String>) -> anyhow::Result<Self> {
        let settings = Settings::read(&files.settings)?;
        Ok(Self { digest: sha256::of_bytes(sums(&digests).as_bytes()), digests, files: files.clone(), settings })
    }

    /// Digest of the verification key: proofs are computed once for each.
    pub fn vk_digest(&self) -> &str {
        &self.digests["model_vk.vk"]
    }

    /// Every file with its name.
    pub fn paths(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        let standard = self.files.all();
        self.digests.keys().map(move |name| {
            let known = standard.iter().find(|(standard, _)| standard == name);
            (name.as_str(), known.map_or_else(|| self.files.folder.join(name), |(_, path)| (*path).clone()))
        })
    }

    /// What `SHA256SUMS` says of it.
    pub fn sums(&self) -> String {
        sums(&self.digests)
    }

    /// The digests that a `SHA256SUMS` lists, which must have this digest itself. No name leads out of the folder.
    pub fn parse_checksums(text: &str, digest: &str) -> anyhow::Result<BTreeMap<String, String>> {
        ensure!(sha256::of_bytes(text.as_bytes()) == digest, "it lists the files of another model");
        let listed = text.lines().map(|line| {
            let (digest, name) = line.split_once("  ").with_context(|| format!("{line:?} names no file"))?;
            let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
            ensure!(inside && !name.is_empty(), "{name:?} is no name of a model file");
            Ok((name.to_owned(), digest.to_owned()))
        });
        listed.collect()
    }
}

fn sums(digests: &BTreeMap<String, String>) -> String {
    digests.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect()
}

/// Everything else in the folder that hooks may read, by its path in it: preprocessing, column names, whatever training
/// exported. Hidden files are none of it, nor what only `setup` and its verifier contract are concerned with.
fn auxiliary_files(files: &ModelFiles) -> anyhow::Result<Vec<String>> {
    let of_setup = [SETUP_MANIFEST, SETUP_PROOF, TUNING, TUNING_PICTURE].map(|name| files.folder.join(name));
    let others = [&of_setup[..], std::slice::from_ref(&files.verifier)].concat();
    let is_other =
        |path: &Path| files.all().iter().any(|(_, known)| *known == path) || others.iter().any(|o| o == path);
    let mut names = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let at = files.folder.join(&folder);
        for entry in fs::read_dir(&at).with_context(|| format!("cannot read {}", at.display()))? {
            let entry = entry?;
            let name = folder.join(entry.file_name());
            if entry.file_name().as_encoded_bytes().starts_with(b".") || name == Path::new(CHECKSUMS_FILE) {
                continue;
            }
            // Links to files are followed, links to folders are not: they may lead round in circles.
            if entry.file_type()?.is_dir() {
                folders.push(name);
            } else if entry.path().is_file() && !is_other(&entry.path()) {
                let text = name.to_str().filter(|text| !text.contains(char::is_control));
                let text =
                    text.with_context(|| format!("{name:?} in the model folder has no name that can be listed"))?;
                names.push(text.to_owned());
            }
        }
    }
    Ok(names)
}

/// Files that `setup` made belong together until one of them is replaced.
fn check_setup(files: &ModelFiles, digests: &BTreeMap<String, String>) -> Result<()> {
    let Some(manifest) = SetupManifest::beside(files)? else { return Ok(()) };
    // One that `setup` did not make is none of EZKL's; one that it made must be there.
    let is_of_setup = |name: &str| name != CIRCUIT || manifest.digests.contains_key(CIRCUIT);
    let mut changed: Vec<&str> = digests
        .iter()
        .filter(|(name, digest)| is_of_setup(name) && manifest.digests.get(*name) != Some(digest))
        .map(|(name, _)| name.as_str())
        .collect();
    if manifest.digests.contains_key(CIRCUIT) && !digests.contains_key(CIRCUIT) {
        changed.push(CIRCUIT);
    }
    if changed.is_empty() {
        return Ok(());
    }
    Err(Fault::Fatal(anyhow!(
        "{} {} not the one that `nova setup` made the circuit with ({} says so): run `nova setup` again, or bring the file back",
        changed.join(", "),
        if changed.len() == 1 { "is" } else { "are" },
        files.folder.join(SETUP_MANIFEST).display()
    )))
}
