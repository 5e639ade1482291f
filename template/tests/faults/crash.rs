//! A part of the daemon panics: everything stops, and what is printed then shows no key.

use crate::common::assert_contains_all;
use crate::common::net::Net;
use crate::common::project::Project;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_ends_the_daemon_and_shows_no_key() {
    let (project, net) = (Project::new(), Net::start().await);
    let requests = net.ask(1).await;
    let run = project.nova(&["run"]).envs(net.env()).env("RUST_BACKTRACE", "full").env("NOVA_LOG_LEVEL", "TRACE");
    // `run` looks through all that it says for keys.
    let ended = run.clone().env("FAILPOINTS", "witness.saved.before=panic(out of the blue)").run().await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.all());
    assert_contains_all(&ended.all(), &["panicked", "out of the blue"]);
    net.assert_answers(&requests[0], 0).await;

    let daemon = run.start().ready().await;
    net.answered_once(&requests).await;
    daemon.stop().await;
}
