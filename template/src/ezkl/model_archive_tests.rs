//! Copies of files that look like model files; what is in them matters to none of this.

use super::*;

const SETTINGS: &str = r#"{"version": "23.0.5", "run_args": {"input_visibility": "Public", "output_visibility": "Public",
    "param_visibility": "Fixed", "lookup_range": [0, 1], "logrows": 15}, "model_output_scales": [7],
    "required_range_checks": []}"#;

/// A model folder with what training exported, and what is none of the model's.
fn model(folder: &Path) -> ModelFiles {
    let files = ModelFiles::in_folder(folder);
    for (name, path) in files.all() {
        fs::write(path, if name == "settings.json" { SETTINGS } else { name }).unwrap();
    }
    fs::create_dir_all(folder.join("vocabulary")).unwrap();
    for name in [
        "scaler.json",
        "vocabulary/words.txt",
        "verifier.sol",
        "setup_proof.json",
        "tuning.json",
        "tuning.svg",
        ".notes",
    ] {
        fs::write(folder.join(name), name).unwrap();
    }
    files
}

struct Setup {
    folder: tempfile::TempDir,
    kept: ModelArchive,
    version: ModelVersion,
}

fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("model_files")).unwrap();
    let version = ModelVersion::read(&model(&folder.path().join("model_files"))).unwrap();
    Setup { kept: ModelArchive::new(&folder.path().join("artifacts")), folder, version }
}

#[test]
fn a_copy_holds_all_that_hooks_and_circuit_read_and_nothing_else() {
    let Setup { folder: _folder, kept, version } = setup();
    let copy = kept.add(&version).unwrap();
    assert_eq!(copy.digest, version.digest);
    let names: Vec<_> = copy.digests.keys().map(String::as_str).collect();
    let expected =
        ["kzg.srs", "model.ezkl", "model.onnx", "model_pk.pk", "model_vk.vk", "scaler.json", "settings.json"];
    assert_eq!(names, [&expected[..], &["vocabulary/words.txt"]].concat());
    assert!(!copy.files.folder.join("verifier.sol").exists() && !copy.files.folder.join(".notes").exists());
    for (_, path) in copy.paths() {
        assert!(path.starts_with(&copy.files.folder));
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::metadata(&copy.files.folder).unwrap().permissions().mode() & 0o777, 0o700);
    let sums = fs::read_to_string(copy.files.folder.join(CHECKSUMS_FILE)).unwrap();
    assert_eq!((sha256::of_bytes(sums.as_bytes()), sums.lines().count()), (version.digest, 8));
}

#[test]
fn what_a_hook_reads_makes_another_model() {
    let Setup { folder, kept, version } = setup();
    kept.add(&version).unwrap();
    let scaler = folder.path().join("model_files/scaler.json");
    fs::write(scaler, "another").unwrap();
    let another = ModelVersion::read(&version.files).unwrap();
    assert_ne!(another.digest, version.digest);
    let copy = kept.add(&another).unwrap();
    assert_eq!(fs::read_to_string(copy.files.folder.join("scaler.json")).unwrap(), "another");
    // The copy of the first is untouched.
    let first = kept.open(&version.digest).unwrap();
    assert_eq!(fs::read_to_string(first.files.folder.join("scaler.json")).unwrap(), "scaler.json");
}

#[test]
fn a_changed_copy_is_named_and_may_be_put_right() {
    let Setup { folder: _folder, kept, version } = setup();
    let copy = kept.add(&version).unwrap();
    let key = copy.files.proving_key.clone();
    fs::write(&key, "model_pk.px").unwrap();
    let Err(Fault::Permanent(error)) = kept.open(&version.digest) else { panic!("it was opened") };
    let told = format!("{error:#}");
    assert!(told.contains("model_pk.pk was changed") && told.contains("bring the original back"), "{told}");
    assert!(matches!(kept.add(&version), Err(Fault::Fatal(_))));
    fs::write(&key, "model_pk.pk").unwrap();
    kept.open(&version.digest).unwrap();

    fs::write(copy.files.folder.join(CHECKSUMS_FILE), "").unwrap();
    let again = ModelArchive::new(kept.models.parent().unwrap());
    let told = again.open(&version.digest).unwrap_err().to_string();
    assert!(told.contains("SHA256SUMS was changed"), "{told}");
    fs::remove_dir_all(&copy.files.folder).unwrap();
    let told = kept.open(&version.digest).unwrap_err().to_string();
    assert!(told.contains("are gone") && told.contains("bring the folder back"), "{told}");
}

#[test]
fn what_is_known_is_read_again_only_if_it_was_touched() {
    let Setup { folder: _folder, kept, version } = setup();
    let copy = kept.add(&version).unwrap();
    // Nobody could tell from size and time that this is another content: so it is believed, which shows that the file was
    // not read.
    let key = fs::File::options().write(true).open(&copy.files.proving_key).unwrap();
    let before = key.metadata().unwrap().modified().unwrap();
    std::io::Write::write_all(&mut &key, b"model_pk.px").unwrap();
    key.set_modified(before).unwrap();
    kept.open(&version.digest).unwrap();
    key.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert!(kept.open(&version.digest).is_err());
}

#[test]
fn what_a_dead_process_left_is_removed_and_what_a_living_one_makes_is_waited_for() {
    let Setup { folder: _folder, kept, version } = setup();
    let dead = kept.start_copy().unwrap();
    let left = dead.folder.keep();
    drop(dead._lock);
    let living = kept.start_copy().unwrap();
    assert!(!left.exists(), "a copy that was never finished");
    let (done, waits) = std::sync::mpsc::channel();
    let second = ModelArchive::new(kept.models.parent().unwrap());
    let of_second = version.clone();
    let other = std::thread::spawn(move || done.send(second.add(&of_second).map(drop)).unwrap());
    assert!(waits.recv_timeout(std::time::Duration::from_millis(100)).is_err(), "two copy at once");
    drop(living);
    waits.recv().unwrap().unwrap();
    other.join().unwrap();
}

#[test]
fn no_digest_and_no_list_leads_out_of_the_folder() {
    let Setup { folder: _folder, kept, version } = setup();
    kept.add(&version).unwrap();
    for digest in ["", "..", "../models", &"A".repeat(64), &format!("../{}", version.digest)] {
        assert!(kept.open(digest).unwrap_err().to_string().contains("is no digest"), "{digest}");
    }
    for name in ["../x", "/etc/passwd", "a/../../x", ""] {
        let text = format!("{}  {name}\n", "0".repeat(64));
        let error = ModelVersion::parse_checksums(&text, &sha256::of_bytes(text.as_bytes())).unwrap_err();
        assert!(error.to_string().contains("is no name of a model file"), "{error}");
    }
    assert!(ModelVersion::parse_checksums("", &version.digest).is_err());
}
