//! The store on local disk, and what its failures mean for requests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

const ID: &str = "0xab";

struct Setup {
    folder: tempfile::TempDir,
    store: Store,
}

fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let place = Backend::Local(local::Local::new(folder.path()));
    let store = Store::in_place(place, folder.path());
    Setup { folder, store }
}

fn manifest(witness: &[u8]) -> Manifest {
    Manifest {
        request_id: ID.to_owned(),
        input: "0x12".to_owned(),
        model_digest: "d".repeat(64),
        model_files: BTreeMap::new(),
        ezkl_version: "23.0.5".to_owned(),
        witness_sha256: sha256::of_bytes(witness),
        instances: Vec::new(),
        model_value: None,
        circuit_value: 0.5,
        submitted_value: 0.5,
    }
}

#[tokio::test]
async fn what_is_saved_is_private_and_comes_back() {
    let Setup { folder, store } = setup();
    store.save(&manifest(b"{}"), b"[]", b"{}").await.unwrap();
    let found = store.manifest(ID, None).await.unwrap();
    let to = folder.path().join("fetched");
    store.fetch_witness(&found, &to).await.unwrap();
    assert_eq!(fs::read(to).unwrap(), b"{}");
    let saved = folder.path().join(witness_folder(ID, &found.witness_sha256).unwrap());
    for file in ["input.json", "witness.json", "manifest.json"] {
        assert_eq!(fs::metadata(saved.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    assert_eq!(fs::metadata(&saved).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(saved).unwrap().count(), 3, "nothing temporary stays");
}

#[tokio::test]
async fn all_that_was_promised_for_a_request_is_found() {
    let Setup { store, .. } = setup();
    assert!(store.manifests(ID).await.unwrap().is_empty());
    for witness in [b"{}", b"[]"] {
        store.save(&manifest(witness), b"[]", witness).await.unwrap();
    }
    let mut found: Vec<_> = store.manifests(ID).await.unwrap().into_iter().map(|of| of.witness_sha256).collect();
    let mut saved = [b"{}", b"[]"].map(|witness| sha256::of_bytes(witness)).to_vec();
    found.sort();
    saved.sort();
    assert_eq!(found, saved);
}

#[tokio::test]
async fn a_promise_that_is_missing_torn_or_anothers_fails_its_row_and_says_why() {
    let Setup { folder, store } = setup();
    let told = |fault: Fault| match fault {
        Fault::Permanent(error) => format!("{error:#}"),
        other => panic!("{other}"),
    };
    assert!(told(store.manifest(ID, None).await.unwrap_err()).contains("no witness of request 0xab is kept"));

    store.save(&manifest(b"{}"), b"[]", b"{}").await.unwrap();
    let saved = |file| folder.path().join(path_of(&manifest(b"{}"), file).unwrap());
    let to = folder.path().join("fetched");
    let kept = sha256::of_bytes(b"{}");
    let whole = store.manifest(ID, Some(&kept)).await.unwrap();
    fs::write(saved("witness.json"), "{").unwrap();
    assert!(
        told(store.fetch_witness(&whole, &to).await.unwrap_err()).contains("the witness of request 0xab is corrupt")
    );
    fs::remove_file(saved("witness.json")).unwrap();
    assert!(told(store.fetch_witness(&whole, &to).await.unwrap_err()).contains("the witness of request 0xab is gone"));

    let text = fs::read_to_string(saved("manifest.json")).unwrap();
    for damaged in ["", &text[..text.len() / 2], &text.replace(ID, "0xcd")] {
        fs::write(saved("manifest.json"), damaged).unwrap();
        let told = told(store.manifest(ID, Some(&kept)).await.unwrap_err());
        assert!(told.contains("the manifest of request 0xab is damaged"), "{told}");
    }
}

#[tokio::test]
async fn no_request_id_leads_out_of_the_store() {
    let Setup { store, .. } = setup();
    for id in ["", "..", "../../etc/passwd", "0x/../..", "a\0b"] {
        assert!(matches!(store.manifest(id, None).await, Err(Fault::Permanent(_))), "{id:?}");
        let elsewhere = Manifest { request_id: id.to_owned(), ..manifest(b"{}") };
        assert!(matches!(store.save_proof(&elsewhere, b"{}").await, Err(Fault::Permanent(_))), "{id:?}");
    }
    for sha256 in ["", "..", "../../../../etc/", "…………………………………………"] {
        assert!(matches!(store.manifest(ID, Some(sha256)).await, Err(Fault::Permanent(_))), "{sha256:?}");
    }
}

/// Two processes that answer the same request, each with features of its own time.
#[tokio::test]
async fn one_witness_never_replaces_another() {
    let Setup { folder, store } = setup();
    let witnesses = [br#"{"a": 1}"#, br#"{"a": 2}"#];
    for witness in witnesses {
        store.save(&manifest(witness), b"[]", witness).await.unwrap();
    }
    for witness in witnesses {
        let found = store.manifest(ID, Some(&sha256::of_bytes(witness))).await.unwrap();
        let to = folder.path().join("fetched");
        store.fetch_witness(&found, &to).await.unwrap();
        assert_eq!(fs::read(to).unwrap(), witness);
    }
    let newest = store.manifest(ID, None).await.unwrap();
    assert_eq!(newest.witness_sha256, sha256::of_bytes(witnesses[1]));
    assert!(store.has(ID).await.unwrap() && !store.has("0xcd").await.unwrap());
}

#[tokio::test]
async fn a_store_that_takes_nothing_closes_and_opens_by_itself() {
    let Setup { folder, store } = setup();
    // Neither witnesses nor trials can be written where a file stands in the place of their folder.
    let in_the_way = ["witnesses", "check"].map(|name| folder.path().join(name));
    in_the_way.iter().for_each(|path| fs::write(path, "").unwrap());
    while store.is_accepting().await {
        assert!(matches!(store.save(&manifest(b"{}"), b"[]", b"{}").await, Err(Fault::Transient(_))));
    }
    assert!(store.failure_reason().unwrap().contains("witnesses cannot be saved: cannot save witnesses/0xab/"));
    // A trial comes after a second, and fails.
    let trial_failed = async {
        while !store.failure_reason().unwrap().contains("check/nova") {
            store.is_accepting().await;
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), trial_failed).await.unwrap();

    in_the_way.iter().for_each(|path| fs::remove_file(path).unwrap());
    let opens = async {
        while !store.is_accepting().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), opens).await.unwrap();
    assert_eq!(store.failure_reason(), None);
    store.save(&manifest(b"{}"), b"[]", b"{}").await.unwrap();
    assert_eq!(fs::read_dir(folder.path().join("check")).unwrap().count(), 0, "a trial leaves nothing");
}
