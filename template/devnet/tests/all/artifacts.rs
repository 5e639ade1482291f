//! The committed artifacts against their sources, and the compiler that `devnet up` uses.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
};

use crate::common::error_of;
use nova_devnet::{anvil::contracts_folder, verifier};

fn check(folder: &Path) -> Output {
    Command::new("node").arg(folder.join("compile.mjs")).arg("--check").output().unwrap()
}

#[test]
fn the_artifacts_are_what_the_sources_compile_to() {
    let output = check(&contracts_folder());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_changed_source_is_noticed_and_named() {
    let (original, copy) = (contracts_folder(), tempfile::tempdir().unwrap());
    let copy = copy.path();
    fs::copy(original.join("compile.mjs"), copy.join("compile.mjs")).unwrap();
    for folder in ["node_modules", "artifacts"] {
        symlink(original.join(folder), copy.join(folder)).unwrap();
    }
    fs::create_dir(copy.join("src")).unwrap();
    for source in fs::read_dir(original.join("src")).unwrap() {
        let source = source.unwrap().path();
        let text = fs::read_to_string(&source).unwrap().replace("MAX_AHEAD = 10_000", "MAX_AHEAD = 9_999");
        fs::write(copy.join("src").join(source.file_name().unwrap()), text).unwrap();
    }
    let output = check(copy);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(complaint.contains("does not match src/ (WalletSimple.json)"), "{complaint}");
}

#[tokio::test]
async fn a_verifier_that_does_not_compile_is_named_with_solcs_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("verifier.sol");
    fs::write(&file, "pragma solidity ^0.8.0; contract Broken { uint256 x = y; }").unwrap();
    let error = error_of(verifier::compile(&file).await);
    assert!(error.contains("verifier.sol") && error.contains("Undeclared identifier"), "{error}");
}
