//! What `docs/` names exists.

use std::fs;
use std::path::Path;

use crate::config::variables::{OF_OTHERS, VARIABLES};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(PROJECT).join("docs").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What stands in backticks.
fn quoted(page: &str) -> impl Iterator<Item = &str> {
    page.split('`').skip(1).step_by(2)
}

/// Why `file::test` is not there.
fn missing(named: &str) -> Option<String> {
    let (file, test) = named.rsplit_once("::")?;
    let source = match fs::read_to_string(Path::new(PROJECT).join(file)) {
        Ok(source) => source,
        Err(error) => return Some(format!("{named}: {error}")),
    };
    let is_there = source.contains(&format!("fn {test}("));
    (!is_there).then(|| format!("{named}: {file} has no such test"))
}

#[test]
fn the_operators_that_are_listed_are_those_that_run() {
    let page = page("operators.md");
    let is_name = |text: &&str| text.starts_with(char::is_uppercase) && text.chars().all(char::is_alphanumeric);
    let listed: Vec<&str> = quoted(&page).filter(is_name).collect();
    assert_eq!(listed, crate::model::operators().collect::<Vec<_>>());
}

#[test]
fn every_test_that_reliability_names_exists() {
    let page = page("reliability.md");
    let missing: Vec<_> = quoted(&page).filter(|text| text.contains(".rs::")).filter_map(missing).collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn every_guarantee_names_a_test() {
    let page = page("reliability.md");
    let guarantees: Vec<_> =
        page.split("\n## ").filter(|part| part.starts_with(|c: char| c.is_ascii_digit())).collect();
    assert_eq!(guarantees.len(), 8);
    for guarantee in guarantees {
        assert!(guarantee.contains(".rs::"), "{}", guarantee.lines().next().unwrap_or_default());
    }
}

#[test]
fn every_setting_that_reliability_names_exists() {
    let page = page("reliability.md");
    let settings = quoted(&page).filter(|text| text.starts_with("NOVA_"));
    // Those of the soak are no settings of the daemon.
    for name in
        settings.map(|text| text.split('=').next().unwrap_or_default()).filter(|name| !name.starts_with("NOVA_SOAK_"))
    {
        let known = VARIABLES.iter().any(|variable| variable.name == name) || OF_OTHERS.contains(&name);
        assert!(known, "{name} is no setting");
    }
}
