//! When answers are sent, and on which terms.

use ethers::providers::Middleware as _;
use ethers::types::{Address, H256, U256};
use ethers::utils::parse_units;
use nova_devnet::sender::Call;
use serde_json::json;

use crate::common::net::Net;
use crate::common::project::Project;
use crate::common::proxy::{Act, Proxy};
use crate::common::{DEFAULT_TIMEOUT, PROOF_TIMEOUT, assert_contains_all, wait_until};

/// One answer that meets all obstacles, one after the other: sending is off; the modeler is not among the top N; the
/// wallet is empty. Then it goes out on the fixed terms.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_wait_until_they_may_be_sent_and_can_be_paid_for() {
    let (project, net) = (Project::new(), Net::start().await);
    net.rank(false).await;
    net.fund(U256::zero()).await;
    let run = project.nova(&["run"]).envs(net.env());

    let daemon = run.clone().env("NOVA_INFERENCE_SUBMISSION_ENABLED", "False").start().ready().await;
    let mut requests = net.ask(2).await;
    for request in &requests {
        project.request_in(request.id, "inferred").await;
    }
    // The last pass before the end must not send them either.
    daemon.stop().await;
    let status = project.status().await;
    assert_eq!((status.count("request", "inferred"), net.sent().await), (2, 0), "{status:?}");

    // Without polling only the ledger's work is done: nobody sees a new request.
    let unseen = net.ask(1).await;
    let daemon = run.clone().env("NOVA_POLLING_ENABLED", "False").start();
    daemon.wait_for_log("not among the top N modelers").await;
    daemon.stop().await;
    assert!(project.status().await.request(unseen[0].id).is_none());

    let (price, gas) = ("1.5", 1_234_567);
    let run = run.env("NOVA_GAS_PRICE_GWEI", price).env("NOVA_GAS", gas.to_string());
    let daemon = run.start();
    daemon.wait_for_log("not among the top N modelers").await;
    requests.extend(unseen);
    project.transactions_in("queued", 3).await;
    assert_eq!(net.sent().await, 0);
    wait_until("a daemon that says what it lacks", DEFAULT_TIMEOUT, async || match daemon.readyz().await {
        Some((503, body)) if body["parts"]["funds"].as_str().unwrap_or_default().contains("pays for no answer") => {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    })
    .await;

    net.rank(true).await;
    for request in &requests {
        let row = project.request_row(request.id, "says what it waits for", |row| row.reason.is_some()).await;
        let wallet = format!("{:?}", net.deployment.signer);
        assert_eq!(row.state, "answering");
        assert_contains_all(&row.reason.unwrap(), &[&wallet, "holds 0.0", "ETH", "send it some"]);
    }
    assert_eq!(net.sent().await, 0);

    net.fund(U256::exp10(18)).await;
    let answers = net.answered_once(&requests).await;
    let _daemon = daemon.ready().await;
    for answer in answers.values() {
        let transaction = net.transaction(answer.transaction).await;
        assert_eq!(transaction.gas, gas.into());
        assert_eq!(transaction.gas_price, Some(parse_units(price, "gwei").unwrap().into()));
        assert_eq!(transaction.max_fee_per_gas, None, "a fixed price is a legacy transaction");
    }
    for request in &requests {
        assert_eq!(project.request_in(request.id, "final").await.reason, None);
    }
    assert_eq!(net.sent().await, 3);
    proofs_leave_enough_for_answers(&project, &net, requests[0].id).await;
}

/// With 0.0025 ETH an answer can be paid for (1.5 gwei × 1,234,567 = 0.00185 ETH), and a proof cannot: 0.001 ETH must
/// be left over.
async fn proofs_leave_enough_for_answers(project: &Project, net: &Net, answered: H256) {
    net.fund(U256::exp10(14) * 25).await;
    let challenge = net.challenge(&[answered]).await.unwrap();
    let row = project.challenge_row(challenge.transaction, "waits for money", |row| row.reason.is_some()).await;
    assert_eq!(row.state, "sending");
    assert_contains_all(&row.reason.unwrap(), &["holds 0.0025", "send it some"]);
    net.answered_once(&net.ask(1).await).await;
    assert_eq!(net.sent().await, 4);

    net.fund(U256::exp10(18)).await;
    net.wait_response(&challenge, PROOF_TIMEOUT).await.unwrap();
    project.challenge_in(challenge.transaction, "final").await;
    assert_eq!(net.sent().await, 5);
}

/// The key is used elsewhere while the node cannot be reached: what was signed can never be mined.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_nonce_is_taken_is_signed_anew() {
    let (project, net) = (Project::new(), Net::start().await);
    let proxy = Proxy::start(net.devnet.rpc_url()).await;
    proxy.rule(|method, _| if method == "eth_sendRawTransaction" { Act::Say(503, "") } else { Act::Pass });
    let _daemon = project.nova(&["run"]).envs(net.env()).env("NOVA_RPC_URLS", proxy.url()).start().ready().await;
    let requests = net.ask(2).await;
    project.transactions_in("signed", 1).await;
    net.devnet.daemon_sender().send(Call::pay(Address::repeat_byte(7), 1.into())).await.unwrap();
    proxy.rule(|_, _| Act::Pass);
    net.answered_once(&requests).await;
    for request in &requests {
        project.request_in(request.id, "final").await;
    }
    assert_eq!(net.sent().await, 3, "two answers, and what took the nonce");
}

/// The blocks that held the answers are gone, and the answers with them: they are sent again, as they were signed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_block_is_reorganised_away_is_sent_again() {
    const FINALITY: u64 = 60;
    let (project, net) = (Project::new(), Net::start().await);
    let run = project.nova(&["run"]).envs(net.env()).env("NOVA_FINALITY", FINALITY.to_string());
    let _daemon = run.start().ready().await;
    let requests = net.ask(2).await;
    let answers = net.answered_once(&requests).await;
    net.stop_mining().await;
    project.transactions_in("mined", 2).await;
    let first = answers.values().map(|answer| answer.block).min().unwrap();
    let depth = net.node.get_block_number().await.unwrap().as_u64() - first + 1;
    assert!(depth < FINALITY, "they would be final");

    net.anvil("anvil_reorg", json!([depth, []])).await;
    for request in &requests {
        net.assert_answers(request, 0).await;
    }
    net.go_on_mining().await;
    let again = net.answered_once(&requests).await;
    net.anvil("anvil_mine", [FINALITY]).await;
    for request in &requests {
        assert_eq!(again[&request.id].transaction, answers[&request.id].transaction);
        project.request_in(request.id, "final").await;
    }
    assert_eq!(net.sent().await, 2);
}

/// An operator's mistake: two daemons with the same key, each with a ledger of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_daemons_on_one_key_answer_each_request_once() {
    let net = Net::start().await;
    let projects = [Project::new(), Project::new()];
    let start = async |project: &Project| project.nova(&["run"]).envs(net.env()).start().ready().await;
    let _daemons = [start(&projects[0]).await, start(&projects[1]).await];
    let requests = net.ask(4).await;
    net.answered_once(&requests).await;
    for project in &projects {
        for request in &requests {
            let settled = |state: &str| matches!(state, "final" | "answered");
            project.request_row(request.id, "is settled", |row| settled(&row.state)).await;
        }
        assert_eq!(project.status().await.count("transaction", "queued"), 0);
    }
    net.answered_once(&requests).await;
}
