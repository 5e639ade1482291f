//! After an upgrade of EZKL, what was answered with the version of before is proven with that version. The two here cannot
//! read each other's circuits.

use std::fs;

use crate::common::model_files::{model_files, older_model_files};
use crate::common::{assert_contains_all, python};
use crate::scenario::Scenario;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_ezkl_answered_is_proven_after_an_upgrade() {
    let (python, version) = (python::older_program().display().to_string(), python::older_version());
    let mut scenario = Scenario::new().await;
    let older = tokio::task::spawn_blocking(older_model_files).await.unwrap();
    scenario.project.use_model_files(&older);
    let daemon = scenario.run().env("NOVA_PYTHON", &python).start().ready().await;
    let old = scenario.ask(1).await.remove(0);
    scenario.answered(&scenario.requests).await;
    daemon.stop().await;

    // The upgrade: another EZKL, and what `setup` has made with it. It answers; the old promise waits for its EZKL.
    scenario.project.use_model_files(&model_files());
    let daemon = scenario.run().start().ready().await;
    let new = scenario.ask(1).await.remove(0);
    scenario.answered(&scenario.requests).await;
    let challenge = scenario.challenge(&[old.id]).await;
    let row = scenario.challenge_row(&challenge, |row| row.state == "failed").await;
    let says = [format!("was made by EZKL {version}"), format!("NOVA_PYTHONS={version}:/path/to/bin/python")];
    assert_contains_all(&row.reason.unwrap(), &says.each_ref().map(String::as_str));
    daemon.stop().await;

    let pythons = format!("{version}:{python}");
    let daemon = scenario.run().env("NOVA_PYTHONS", &pythons).start().ready().await;
    scenario.project.nova(&["retry", &format!("{:?}", challenge.transaction)]).succeed().await;
    scenario.challenge_row(&challenge, |row| row.state == "final").await;
    let both = scenario.challenge(&[new.id, old.id]).await;
    scenario.challenge_row(&both, |row| row.state == "final").await;
    scenario.check().await;
    daemon.stop().await;

    // By hand too, from the start; and the old EZKL itself accepts it.
    fs::remove_file(scenario.project.saved(old.id, "proof.json")).unwrap();
    let prove = scenario.project.nova(&["prove", &format!("{:?}", old.id)]).env("NOVA_PYTHONS", &pythons);
    assert_contains_all(&prove.succeed().await, &["proved in", "and verified"]);
    let shown = python::verify_with_older(&scenario.project.path().join("proof.json"), &older).unwrap();
    let answers = scenario.net.answers(&[old]).await.unwrap();
    assert_eq!(answers[0].value, shown);
}

/// A slip is noticed at the start, not when the proof is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_that_has_another_version_than_named_ends_the_start() {
    let scenario = Scenario::new().await;
    let (python, version) = (python::older_program().display().to_string(), python::older_version());
    for (entry, says) in [
        (format!("1.2.3:{python}"), format!("this Python has EZKL {version}")),
        ("1.2.3:/nowhere/python".to_owned(), "cannot start the EZKL worker".to_owned()),
        ("1.2.3:false".to_owned(), "the EZKL worker died".to_owned()),
    ] {
        let told = format!("NOVA_PYTHONS, {entry}");
        scenario.run().env("NOVA_PYTHONS", &entry).fail(&[&told, &says]).await;
        let doctor = scenario.project.nova(&["doctor"]).envs(scenario.net.env()).env("NOVA_PYTHONS", &entry);
        doctor.fail(&["✗ EZKL", &told, &says]).await;
    }
}
