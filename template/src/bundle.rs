//! `upload.zip`: what Spectral's hosting needs of this project. Unpacked over a stamp of the version of the template that its
//! `.nova-template.toml` names, it makes this daemon again: the hooks, their dependencies, and the model files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use figment::Figment;
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Value};
use memchr::memmem;
use secrecy::{ExposeSecret as _, SecretString};
use tempfile::NamedTempFile;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::ezkl::model_version::{ModelVersion, SETUP_MANIFEST};

/// Whose `[dependencies]` the hooks may add to.
const MANIFEST: &str = "Cargo.toml";
/// What there is one of in every project.
const PROJECT_FILES: [&str; 4] = [".nova-template.toml", MANIFEST, "Cargo.lock", "src/hooks.rs"];
/// Where the modules of `src/hooks.rs` are, if it has any.
const MODULES: &str = "src/hooks";
/// Where the model files are in the bundle, wherever they are here.
const MODEL_FILES: &str = "model_files";
/// EZKL's own, which nobody writes a key into. They can be larger than the memory.
const EZKL_FILES: [&str; 4] = ["kzg.srs", "model.ezkl", "model_pk.pk", "model_vk.vk"];
/// Larger files are numbers, of which a seventh could be saved at most, in a hundred times the time.
const MAX_COMPRESSED_SIZE: u64 = 1 << 20;
/// Shorter secrets would be found everywhere, and are none.
const MIN_SECRET_LEN: usize = 12;

/// A file of the bundle.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path in the bundle.
    pub name: String,
    /// Where it is here.
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
}

impl Entry {
    fn new(name: String, path: PathBuf) -> Result<Self> {
        let size = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?.len();
        Ok(Self { name, path, size })
    }

    fn is_of_ezkl(&self) -> bool {
        self.name.strip_prefix(MODEL_FILES).is_some_and(|name| EZKL_FILES.contains(&&name[1..]))
    }
}

/// The files that belong into the bundle of the project in a folder, in the order of their names.
///
/// # Errors
/// What is not there, or does not belong together.
pub fn collect(project: &Path, model: &ModelVersion) -> Result<Vec<Entry>> {
    let mut paths: BTreeMap<String, PathBuf> = BTreeMap::new();
    for name in PROJECT_FILES {
        let path = project.join(name);
        ensure!(
            path.is_file(),
            "{} is not there: `nova bundle` needs the project's sources, call it in its folder",
            path.display()
        );
        paths.insert(name.to_owned(), path);
    }
    for module in files_below(&project.join(MODULES), MODULES)? {
        paths.insert(module.clone(), project.join(module));
    }
    let of_setup =
        [(SETUP_MANIFEST, model.files.folder.join(SETUP_MANIFEST)), ("verifier.sol", model.files.verifier.clone())];
    for (name, path) in model.paths().chain(of_setup.into_iter().filter(|(_, path)| path.is_file())) {
        paths.insert(format!("{MODEL_FILES}/{name}"), path);
    }
    paths.into_iter().map(|(name, path)| Entry::new(name, path)).collect()
}

/// Every file below a folder, as `name/…`; none if there is no folder.
fn files_below(folder: &Path, name: &str) -> Result<Vec<String>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let file = entry.file_name();
        let file = file.to_str().with_context(|| format!("{file:?} in {} is no text", folder.display()))?;
        let inner = format!("{name}/{file}");
        if entry.path().is_dir() {
            files.extend(files_below(&entry.path(), &inner)?);
        } else {
            files.push(inner);
        }
    }
    Ok(files)
}

/// Nothing of the bundle may be, or hold, a key, and all that the hooks need must be in it.
///
/// # Errors
/// Every file with which something is wrong, and what.
pub fn check(entries: &[Entry], secrets: &[SecretString]) -> Result<()> {
    let mut wrong = Vec::new();
    for entry in entries {
        if looks_like_a_key(&entry.name) {
            wrong.push(format!("{}: its name is that of a file with keys: move it elsewhere", entry.path.display()));
            continue;
        }
        if entry.is_of_ezkl() {
            continue;
        }
        let content = fs::read(&entry.path).with_context(|| format!("cannot read {}", entry.path.display()))?;
        if let Some(what) = key_in(&content, secrets) {
            wrong.push(format!(
                "{} holds {what}: take it out, and think of it as known to others",
                entry.path.display()
            ));
        }
        if entry.name == MANIFEST {
            let absent = dependencies_by_path(&content)?;
            wrong.extend(absent.into_iter().map(|(name, path)| {
                format!(
                    "{}: the dependency `{name}` lies in {path:?}, which nobody else has: name a version or a git repository, or make \
                     it a module of src/hooks.rs",
                    entry.path.display()
                )
            }));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("nothing was written, because of\n  {}", wrong.join("\n  "))
}

/// By its name, as `.dockerignore` has it. What a Rust source is called says nothing.
fn looks_like_a_key(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    if file.ends_with(".rs") {
        return false;
    }
    let starts = [".env", "utc--"].iter().any(|start| file.starts_with(start));
    let ends = [".key", ".pem", ".p12", ".pfx", ".wallet"].iter().any(|end| file.ends_with(end));
    let holds = ["keystore", "mnemonic", "password", "secret"].iter().any(|word| file.contains(word));
    starts || ends || holds || file == "wallet.json" || file.contains("private") && file.contains("key")
}

/// The kind of key that a file holds: one of the project's own settings, or any in a form that only keys have.
fn key_in(content: &[u8], secrets: &[SecretString]) -> Option<&'static str> {
    let holds = |text: &str| memmem::find(content, text.as_bytes()).is_some();
    let is_ours = secrets.iter().any(|secret| {
        let secret = secret.expose_secret().trim_start_matches("0x");
        let cases = [secret.to_owned(), secret.to_ascii_lowercase(), secret.to_ascii_uppercase()];
        secret.len() >= MIN_SECRET_LEN && cases.iter().any(|secret| holds(secret))
    });
    if is_ours {
        return Some("a secret of your settings");
    }
    if holds("-----BEGIN ") && holds("PRIVATE KEY-----") {
        return Some("a private key");
    }
    (holds("\"ciphertext\"") && holds("\"kdfparams\"")).then_some("a wallet's keystore")
}

/// The dependencies of a manifest that are folders, with the folders.
fn dependencies_by_path(manifest: &[u8]) -> Result<Vec<(String, String)>> {
    let text = str::from_utf8(manifest).with_context(|| format!("{MANIFEST} is no text"))?;
    let manifest = Figment::from(Toml::string(text));
    let dependencies: Dict =
        manifest.extract_inner("dependencies").with_context(|| format!("{MANIFEST} has no dependencies"))?;
    let path = |value: &Value| Some(value.as_dict()?.get("path")?.as_str()?.to_owned());
    Ok(dependencies.iter().filter_map(|(name, value)| Some((name.clone(), path(value)?))).collect())
}

/// Writes the bundle, whole or not at all; one that is there is replaced. The same files make the same bundle.
///
/// # Errors
/// What cannot be read or written.
pub fn write(entries: &[Entry], to: &Path) -> Result<u64> {
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let cannot = || format!("cannot write {}", to.display());
    // The model is in it: nobody else may read it.
    let mut file = NamedTempFile::new_in(folder).with_context(cannot)?;
    let mut archive = ZipWriter::new(file.as_file_mut());
    for entry in entries {
        let small = entry.size <= MAX_COMPRESSED_SIZE;
        let options = SimpleFileOptions::default()
            .compression_method(if small { CompressionMethod::Deflated } else { CompressionMethod::Stored })
            .large_file(entry.size >= u64::from(u32::MAX))
            .unix_permissions(0o644);
        let mut original = File::open(&entry.path).with_context(|| format!("cannot read {}", entry.path.display()))?;
        archive.start_file(&*entry.name, options).with_context(cannot)?;
        io::copy(&mut original, &mut archive).with_context(cannot)?;
    }
    archive.finish().with_context(cannot)?;
    let file = file.persist(to).with_context(cannot)?;
    Ok(file.metadata().with_context(cannot)?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_like_a_key_is_taken_for_one() {
        for name in [
            "model_files/.env",
            "model_files/.env.old",
            "model_files/x/wallet.json",
            "model_files/KeyStore.json",
            "model_files/UTC--2026-01-01T00-00-00Z--ab",
            "model_files/my_private_key.txt",
            "model_files/tls.pem",
            "src/hooks/password.txt",
        ] {
            assert!(looks_like_a_key(name), "{name}");
        }
        for name in [
            "model_files/model_pk.pk",
            "model_files/kzg.srs",
            "model_files/model_vk.vk",
            "src/hooks/secret_features.rs",
        ] {
            assert!(!looks_like_a_key(name), "{name}");
        }
    }

    #[test]
    fn a_key_is_found_in_whatever_case_it_stands_and_by_its_form() {
        let key = format!("0x{}", "aB01".repeat(16));
        let secrets = [SecretString::from(key.clone()), SecretString::from("devnet")];
        for text in [key.clone(), key.to_lowercase(), format!("x = \"{}\"", key[2..].to_uppercase())] {
            assert_eq!(key_in(text.as_bytes(), &secrets), Some("a secret of your settings"), "{text}");
        }
        let pem = "-----BEGIN EC PRIVATE KEY-----\n";
        assert_eq!(key_in(pem.as_bytes(), &[]), Some("a private key"));
        let keystore = r#"{"version": 3, "crypto": {"ciphertext": "00", "kdf": "scrypt", "kdfparams": {}}}"#;
        assert_eq!(key_in(keystore.as_bytes(), &[]), Some("a wallet's keystore"));
        // Too short to be a secret, and too common.
        assert_eq!(key_in(b"members = [\"devnet\"]", &secrets), None);
    }

    #[test]
    fn dependencies_by_path_are_found_and_no_others() {
        let manifest = "[dependencies]\none = \"1\"\nmine = { path = \"../mine\" }\ntokio.workspace = true\n\
                        [dev-dependencies]\ndevnet = { path = \"devnet\" }\n";
        assert_eq!(dependencies_by_path(manifest.as_bytes()).unwrap(), [("mine".to_owned(), "../mine".to_owned())]);
        assert!(dependencies_by_path(b"[package]\n").is_err());
    }

    #[test]
    fn the_same_files_make_the_same_bundle_and_nothing_is_left_of_one_that_fails() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("small"), "x".repeat(1000)).unwrap();
        fs::write(at("large"), vec![7; 2 << 20]).unwrap();
        let entry = |name: &str| Entry::new(format!("{MODEL_FILES}/{name}"), at(name)).unwrap();
        let entries = [entry("large"), entry("small")];
        let size = write(&entries, &at("upload.zip")).unwrap();
        assert!(
            (2 << 20..(2 << 20) + 1000).contains(&size),
            "what is small is compressed, what is large is not: {size}"
        );
        let first = fs::read(at("upload.zip")).unwrap();
        write(&entries, &at("upload.zip")).unwrap();
        assert_eq!(fs::read(at("upload.zip")).unwrap(), first);

        fs::remove_file(at("small")).unwrap();
        assert!(write(&entries, &at("upload.zip")).unwrap_err().to_string().contains("small"));
        assert_eq!(fs::read(at("upload.zip")).unwrap(), first, "the last bundle stays");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
    }
}
