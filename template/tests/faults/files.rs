//! Files that change under the daemon: torn witnesses, model files swapped, a new image with a new model.

use std::fs::{self, OpenOptions};
use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};

use ethers::types::H256;

use crate::common::{PROOF_TIMEOUT, assert_contains_all, model_files, onnx, python};
use crate::scenario::Scenario;

/// Killed in the middle of saving, on a file system that keeps half of what was not synced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_torn_before_its_answer_was_sent_is_made_anew() {
    let mut scenario = Scenario::new().await;
    for (failpoint, torn) in [
        ("witness.saved.before", &["witness.json", "input.json"][..]),
        ("request.inferred.before", &["witness.json", "manifest.json"]),
    ] {
        let daemon = scenario.run().env("FAILPOINTS", format!("{failpoint}=return")).start();
        let request = scenario.ask(1).await.remove(0);
        daemon.wait_killed().await;
        for file in torn {
            tear(&scenario.project.saved(request.id, file));
        }
        let daemon = scenario.run().start();
        scenario.answered(&scenario.requests).await;
        daemon.kill().await;
    }
    let daemon = scenario.run().start().ready().await;
    let tally = scenario.check().await;
    assert_eq!(tally.answered, 2);
    daemon.stop().await;
}

/// What was promised is broken: it is never proven, the row says which file to bring back, and then it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_witness_and_changed_model_files_are_named_and_proven_once_they_are_back() {
    let mut scenario = Scenario::new().await;
    let daemon = scenario.run().start().ready().await;
    let request = scenario.ask(1).await.remove(0);
    scenario.answered(&scenario.requests).await;
    let kept = kept_models(&scenario).remove(0);
    let cases = [
        (scenario.project.saved(request.id, "witness.json"), "corrupt"),
        (scenario.project.saved(request.id, "manifest.json"), "damaged"),
        (kept.join("model_vk.vk"), "changed"),
        (kept.join("settings.json"), ""),
    ];
    for (file, says) in cases {
        let whole = fs::read(&file).unwrap();
        tear(&file);
        let challenge = scenario.challenge(&[request.id]).await;
        let row = scenario.challenge_row(&challenge, |row| row.state == "failed").await;
        let reason = row.reason.unwrap();
        assert!(reason.contains(says), "{}: {reason}", file.display());
        println!("{}: {reason}", file.file_name().unwrap().to_string_lossy());
        fs::write(&file, whole).unwrap();
        scenario.project.nova(&["retry", &format!("{:?}", challenge.transaction)]).succeed().await;
        scenario.challenge_row(&challenge, |row| row.state == "final").await;
    }
    scenario.check().await;
    daemon.stop().await;
}

/// The operator copies new files over those in use: what is answered is still what was promised with the old ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn model_files_swapped_under_a_running_daemon_change_nothing() {
    let mut scenario = Scenario::new().await;
    let daemon = scenario.run().start().ready().await;
    let first = scenario.ask(1).await;
    scenario.answered(&first).await;
    scenario.project.change_model_file("model.onnx", onnx::with_other_weights);
    for name in ["model.ezkl", "settings.json", "model_pk.pk", "model_vk.vk", "kzg.srs"] {
        scenario.project.change_model_file(name, onnx::truncated);
    }
    let second = scenario.ask(2).await;
    scenario.answered(&second).await;
    let challenge = scenario.challenge(&[first[0].id, second[0].id]).await;
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    daemon.stop().await;
}

/// A rebuilt image with a new model is asked for proofs of the old one's answers, and of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_new_model_the_old_ones_answers_can_be_proven() {
    let mut scenario = Scenario::new().await;
    let daemon = scenario.run().start().ready().await;
    let old = scenario.ask(2).await;
    scenario.answered(&old).await;
    // Asked of the old daemon, answered by the new one.
    daemon.kill().await;
    let meanwhile = scenario.ask(1).await;
    let asked_before = scenario.challenge(&[old[0].id]).await;
    let first_model = kept_models(&scenario).remove(0);

    let later = tokio::task::spawn_blocking(model_files::later_model_files).await.unwrap();
    scenario.project.use_model_files(&later);
    let daemon = scenario.run().start().ready().await;
    let new = scenario.ask(1).await;
    scenario.answered(&scenario.requests).await;
    let kept = kept_models(&scenario);
    assert_eq!(kept.len(), 2, "{kept:?}");
    scenario.challenge_row(&asked_before, |row| row.state == "final").await;

    let challenge = scenario.challenge(&[old[1].id, new[0].id, meanwhile[0].id]).await;
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    let response = scenario.net.wait_response(&challenge, PROOF_TIMEOUT).await.unwrap();
    let mut archive = zip::ZipArchive::new(Cursor::new(scenario.net.download(&response.cid).await.unwrap())).unwrap();
    let mut holds_with = |id: H256, model: &Path| {
        let mut proof = Vec::new();
        archive.by_name(&format!("{id:?}.json")).unwrap().read_to_end(&mut proof).unwrap();
        let file = scenario.project.path().join("answered.json");
        fs::write(&file, proof).unwrap();
        python::verify(&file, model).is_ok()
    };
    assert!(holds_with(old[1].id, &first_model) && !holds_with(old[1].id, &later));
    for request in [&new[0], &meanwhile[0]] {
        assert!(holds_with(request.id, &later) && !holds_with(request.id, &first_model));
    }
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    daemon.stop().await;
}

/// The ledger is gone and the witnesses are there: what the chain holds is not answered anew, and proven from the witness
/// that it came from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_before_the_ledger_was_lost_is_proven() {
    let mut scenario = Scenario::new().await;
    let daemon = scenario.run().start().ready().await;
    let request = scenario.ask(1).await.remove(0);
    scenario.answered(&scenario.requests).await;
    daemon.stop().await;
    for file in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _ = fs::remove_file(scenario.project.artifacts().join(file));
    }
    // The wallet went on trading.
    let other = scenario.net.fresh_wallets(2).await.unwrap()[1];
    scenario.net.devnet.services.set_features_like(request.input.parse().unwrap(), other);
    let daemon = scenario.run().start().ready().await;
    let row = scenario.request_row(&request, |row| row.state == "failed").await;
    assert_contains_all(&row.reason.unwrap(), &["the chain holds our answer already"]);
    assert_eq!(scenario.project.witnesses(request.id).len(), 1);
    let challenge = scenario.challenge(&[request.id]).await;
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    scenario.net.assert_answers(&request, 1).await;
    daemon.stop().await;
}

/// Keeps the first half of a file.
fn tear(file: &Path) {
    let length = fs::metadata(file).unwrap().len();
    OpenOptions::new().write(true).open(file).unwrap().set_len(length / 2).unwrap();
}

/// The daemon's own copies of model files.
fn kept_models(scenario: &Scenario) -> Vec<PathBuf> {
    let folder = scenario.project.artifacts().join("models");
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
}
