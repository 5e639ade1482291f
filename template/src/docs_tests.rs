//! What `docs/` names exists.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::config::variables::{FOREIGN_VARIABLES, VARIABLES};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

/// A page; nothing where the project's owner has removed it: then it promises nothing. ci/sync of the template sees to it that it has all.
fn page(name: &str) -> Option<String> {
    match fs::read_to_string(Path::new(PROJECT).join("docs").join(name)) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        read => Some(read.unwrap_or_else(|error| panic!("{name}: {error}"))),
    }
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
    let Some(page) = page("operators.md") else { return };
    let (page, circuits) = page.split_once("## In the circuit").unwrap();
    let is_name = |text: &&str| text.starts_with(char::is_uppercase) && text.chars().all(char::is_alphanumeric);
    let listed: Vec<&str> = quoted(page).filter(is_name).collect();
    assert_eq!(listed, crate::model::operators().collect::<Vec<_>>());
    let table = circuits.split_once("<!-- ci/operators begin -->").unwrap().1;
    let unmeasured: Vec<_> = listed.iter().filter(|name| !table.contains(&format!("\n| `{name}` |"))).collect();
    assert!(unmeasured.is_empty(), "ci/operators --write has not measured {unmeasured:?}");
}

/// The pages that say what is promised, and name the tests that hold it.
fn promises() -> impl Iterator<Item = (&'static str, String)> {
    ["reliability.md", "security.md"].into_iter().filter_map(|name| Some((name, page(name)?)))
}

#[test]
fn every_test_that_a_promise_names_exists() {
    for (name, page) in promises() {
        let (files, modules): (Vec<&str>, Vec<&str>) =
            quoted(&page).filter(|text| text.contains("::")).partition(|text| text.contains(".rs::"));
        let missing: Vec<_> =
            files.into_iter().filter_map(missing).chain(modules.into_iter().filter_map(missing_module)).collect();
        assert!(missing.is_empty(), "{name}:\n{}", missing.join("\n"));
    }
}

/// Why a module `a::b`, or a test `a::b::test`, is not there.
fn missing_module(named: &str) -> Option<String> {
    let parts: Vec<&str> = named.split("::").collect();
    let root = if matches!(parts[0], "daemon" | "faults") { "tests" } else { "src" };
    // The longest part of the path that is a file; what is left is in it.
    let found = (1..=parts.len()).rev().find_map(|taken| {
        let path = Path::new(PROJECT).join(root).join(parts[..taken].join("/"));
        let file = [path.with_extension("rs"), path.join("mod.rs")].into_iter().find(|file| file.is_file())?;
        let beside = [format!("{}_tests.rs", path.display()), format!("{}/tests.rs", path.display())];
        let sources = [file.display().to_string()].into_iter().chain(beside);
        Some((sources.filter_map(|file| fs::read_to_string(file).ok()).collect::<Vec<_>>(), &parts[taken..]))
    });
    let Some((sources, left)) = found else { return Some(format!("{named}: there is no such module")) };
    let left = left.strip_prefix(&["tests"]).unwrap_or(left);
    let is_there = match left {
        [] => sources.iter().any(|source| source.contains("#[test]") || source.contains("#[tokio::test")),
        [test] => sources.iter().any(|source| source.contains(&format!("fn {test}("))),
        _ => false,
    };
    (!is_there).then(|| format!("{named}: there is no such test"))
}

/// Each limit of the table, as the code has it.
#[test]
fn regression_the_limits_that_security_names_are_those_of_the_code() {
    use crate::chain::rpc;
    use crate::services::{ipfs_gateway, plumber, pulse};
    let size = |bytes: usize| match bytes {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    };
    let grouped = |number: usize| format!("{},{:03}", number / 1000, number % 1000);
    let (names, row) = (grouped(plumber::MAX_NAMES), size(plumber::MAX_ROW));
    let rows = [
        format!("| Plumber, one wallet | {} | {} |", size(plumber::MAX_FEATURES), plumber::TIMEOUT.as_secs()),
        format!(
            "| Plumber, several wallets | {} + {row} each, {names} features each | {} |",
            size(plumber::MAX_FEATURES),
            plumber::BATCH_TIMEOUT.as_secs()
        ),
        format!(
            "| Plumber, the CID of an upload | {} | {} |",
            size(plumber::MAX_CID),
            plumber::UPLOAD_TIMEOUT.as_secs()
        ),
        format!("| Pulse | {} | {} |", size(pulse::MAX_BYTES), pulse::TIMEOUT.as_secs()),
        format!(
            "| IPFS gateway, a challenge document | {}, {} ids | {} |",
            size(ipfs_gateway::MAX_BYTES),
            crate::pipeline::prove::MAX_REQUESTS,
            ipfs_gateway::TIMEOUT.as_secs()
        ),
        format!("| RPC | {} | {} |", size(rpc::MAX_BODY), rpc::TIMEOUT.as_secs()),
        format!("| a request's input | {} | - |", size(crate::features::input::MAX_INPUT_BYTES)),
        format!("| an EZKL worker, one answer | {} |", size(crate::ezkl::worker::MAX_ANSWER as usize)),
        format!("| a reason, in the ledger and the log | {} characters | - |", grouped(crate::fault::MAX_REASON_CHARS)),
    ];
    let Some(page) = page("security.md") else { return };
    for row in &rows {
        assert!(page.contains(row.as_str()), "security.md does not say: {row}");
    }
    let table = page.split("## Limits on what is read").nth(1).and_then(|rest| rest.split("\n\n").nth(1)).unwrap();
    assert_eq!(table.lines().count(), rows.len() + 2, "each row of the table is one of the code's:\n{table}");
    let (bytes, seconds) = (size(rpc::MAX_BODY), rpc::TIMEOUT.as_secs());
    assert!(page.replace('\n', " ").contains(&format!("limited to {bytes} and {seconds} s")), "the RPC provider");
}

#[test]
fn every_guarantee_names_a_test() {
    let Some(page) = page("reliability.md") else { return };
    let guarantees: Vec<_> =
        page.split("\n## ").filter(|part| part.starts_with(|c: char| c.is_ascii_digit())).collect();
    assert_eq!(guarantees.len(), 8);
    for guarantee in guarantees {
        assert!(guarantee.contains(".rs::"), "{}", guarantee.lines().next().unwrap_or_default());
    }
}

#[test]
fn every_setting_that_a_promise_names_exists() {
    for (name, page) in promises() {
        let settings = quoted(&page).filter(|text| text.starts_with("NOVA_"));
        let settings = settings.map(|text| text.split('=').next().unwrap_or_default());
        // Those of the soak are no settings of the daemon.
        for setting in settings.filter(|setting| !setting.starts_with("NOVA_SOAK_")) {
            let known =
                VARIABLES.iter().any(|variable| variable.name == setting) || FOREIGN_VARIABLES.contains(&setting);
            assert!(known, "{name}: {setting} is no setting");
        }
    }
}
