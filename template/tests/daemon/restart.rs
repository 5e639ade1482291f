//! The daemon goes and comes back, however it went: nothing is lost, nothing is answered twice.

use ethers::types::Address;
use nova_devnet::request::Request;
use nova_devnet::{CompetitionParams, Fault};

use crate::common::net::Net;
use crate::common::project::Project;
use crate::common::proxy::{Act, Proxy};
use crate::common::{PROOF_TIMEOUT, assert_contains_all};

/// The SLA on the devnet.
const SLA: u64 = 600;

/// Five requests, each in another stage when the daemon is killed: answered; in the node's pool; signed, and the node
/// has it, but did not say so; inferred; waiting for its features.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_with_requests_in_all_stages_it_answers_each_exactly_once() {
    let (project, net) = (Project::new(), Net::with_verifier(CompetitionParams::default()).await);
    let proxy = Proxy::start(net.devnet.rpc_url()).await;
    let before = net.sent().await;
    let daemon = project.nova(&["run"]).envs(net.env()).env("NOVA_RPC_URLS", proxy.url()).start().ready().await;

    let mut requests = net.ask(1).await;
    project.request_in(requests[0].id, "final").await;
    let wallets = net.fresh_wallets(4).await.unwrap();
    let plumber_fails =
        |wallet: Address, fails: bool| net.devnet.services.set_fault(wallet, fails.then_some(Fault::Error));
    wallets.iter().for_each(|wallet| plumber_fails(*wallet, true));
    requests.extend(net.ask_about(&wallets).await);
    let [_, pooled, signed, inferred, seen] = &requests[..] else { panic!("five were asked") };
    project.request_row(seen.id, "without features", |row| row.reason.is_some()).await;

    net.stop_mining().await;
    plumber_fails(wallets[0], false);
    project.transactions_in("broadcast", 1).await;
    proxy.rule(|method, _| if method == "eth_sendRawTransaction" { Act::PassInSilence } else { Act::Pass });
    plumber_fails(wallets[1], false);
    project.transactions_in("signed", 1).await;
    plumber_fails(wallets[2], false);
    project.request_in(inferred.id, "inferred").await;
    let status = project.status().await;
    let states = [pooled, signed, inferred, seen].map(|request| status.request(request.id).unwrap().state.clone());
    assert_eq!(states, ["answering", "answering", "inferred", "seen"]);
    daemon.kill().await;

    plumber_fails(wallets[3], false);
    net.go_on_mining().await;
    let _daemon = project.nova(&["run"]).envs(net.env()).start().ready().await;
    net.answered_once(&requests).await;
    for request in &requests {
        project.request_in(request.id, "final").await;
    }
    let status = project.status().await;
    assert_eq!((status.count("request", "final"), status.count("transaction", "final")), (5, 10), "{status:?}");
    assert_eq!(net.sent().await - before, 10, "one commitment and one answer for each, and nothing else");
    // What was promised before the kill can be proven after it.
    project.nova(&["prove", &format!("{:?}", inferred.id)]).succeed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_while_it_proves_it_goes_in_time_and_catches_up_when_it_comes_back() {
    let (project, net) = (Project::new(), Net::start().await);
    let run = project.nova(&["run"]).envs(net.env());
    let daemon = run.clone().start().ready().await;
    let old = net.ask(1).await;
    project.request_in(old[0].id, "final").await;
    let challenge = net.challenge(&[old[0].id]).await.unwrap();
    daemon.wait_proving().await;
    daemon.kill().await;
    assert_eq!(project.challenge_in(challenge.transaction, "asked").await.reason, None);

    // The claim of the killed process holds up nobody.
    let daemon = run.clone().start().ready().await;
    daemon.wait_proving().await;
    daemon.stop().await;
    assert_eq!(project.challenge_in(challenge.transaction, "asked").await.reason, None);

    let late = net.ask(2).await;
    net.pass(SLA + 100).await;
    let fresh = net.ask(2).await;
    let before = net.sent().await;
    let daemon = run.start().ready().await;
    net.wait_response(&challenge, PROOF_TIMEOUT).await.unwrap();
    net.answered_once(&fresh).await;
    project.challenge_in(challenge.transaction, "final").await;
    for request in &late {
        let row = project.request_in(request.id, "expired").await;
        assert!(row.reason.unwrap().contains("deadline"));
    }
    // Nothing that is in hand at the end makes a difference either.
    daemon.stop().await;
    assert_unanswered(&net, &late).await;
    assert_eq!(net.sent().await - before, 3, "two answers and the proof");
}

/// A prover that runs out of memory takes no daemon with it, and no request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_killed_are_replaced_and_their_work_is_done_again() {
    let (project, net) = (Project::new(), Net::start().await);
    let daemon = project.nova(&["run"]).envs(net.env()).start().ready().await;
    let requests = net.ask(1).await;
    net.answered_once(&requests).await;
    daemon.kill_workers().await;
    net.answered_once(&net.ask(1).await).await;

    let challenge = net.challenge(&[requests[0].id]).await.unwrap();
    daemon.wait_proving().await;
    daemon.kill_workers().await;
    let row = project.challenge_row(challenge.transaction, "tried again", |row| row.reason.is_some()).await;
    assert_eq!(row.state, "asked");
    assert_contains_all(&row.reason.unwrap(), &["the EZKL worker died", "signal: 9"]);
    net.answered_once(&net.ask(1).await).await;
    net.wait_response(&challenge, PROOF_TIMEOUT).await.unwrap();
    project.challenge_in(challenge.transaction, "final").await;
    daemon.stop().await;
}

/// The ledger is the only queue: a second process on it helps with the work, and takes over the sending.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_ledger_answer_each_request_once() {
    let (project, net) = (Project::new(), Net::start().await);
    let run = project.nova(&["run"]).envs(net.env());
    let first = run.clone().start().ready().await;
    let _second = run.start().ready().await;
    let mut requests = net.ask(6).await;
    net.answered_once(&requests).await;
    first.kill().await;
    requests.extend(net.ask(2).await);
    net.answered_once(&requests).await;
    for request in &requests {
        project.request_in(request.id, "final").await;
    }
    assert_eq!(net.sent().await, 8);
}

async fn assert_unanswered(net: &Net, requests: &[Request]) {
    for request in requests {
        net.assert_answers(request, 0).await;
    }
}
