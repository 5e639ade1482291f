//! When answers are sent, and on which terms.

use ethers::types::{Address, H256, U256};
use ethers::utils::parse_units;
use nova_devnet::sender::Call;

use crate::common::net::Net;
use crate::common::project::Project;
use crate::common::proxy::{Act, Proxy};
use crate::common::{SOON, assert_says};

/// One answer that meets all obstacles, one after the other: sending is off; the modeler is not among the top N; the
/// wallet is empty. Then it goes out on the fixed terms.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_wait_until_they_may_be_sent_and_can_be_paid_for() {
    let (project, net) = (Project::new(), Net::start().await);
    net.rank(false).await;
    net.fund(U256::zero()).await;
    let run = project.nova(&["run"]).envs(net.env());

    let daemon = run.clone().env("NOVA_INFERENCE_SUBMISSION_ENABLED", "False").start().ready().await;
    let requests = net.ask(2).await;
    for request in &requests {
        project.request_in(request.id, "inferred").await;
    }
    // The last pass before the end must not send them either.
    daemon.stop().await;
    let status = project.status().await;
    assert_eq!((status.count("request", "inferred"), net.sent().await), (2, 0), "{status:?}");

    let (price, gas) = ("1.5", 1_234_567);
    let run = run.env("NOVA_GAS_PRICE_GWEI", price).env("NOVA_GAS", gas.to_string());
    let daemon = run.start().ready().await;
    daemon.says("not among the top N modelers").await;
    assert_eq!(project.status().await.count("transaction", "queued"), 2);
    assert_eq!(net.sent().await, 0);

    net.rank(true).await;
    for request in &requests {
        let row = project.request_row(request.id, "says what it waits for", |row| row.reason.is_some()).await;
        let wallet = format!("{:?}", net.deployment.signer);
        assert_eq!(row.state, "answering");
        assert_says(&row.reason.unwrap(), &[&wallet, "holds 0.0", "ETH", "send it some"]);
    }
    assert_eq!(net.sent().await, 0);

    net.fund(U256::exp10(18)).await;
    let answers = net.answered_once(&requests).await;
    for answer in answers.values() {
        let transaction = net.transaction(answer.transaction).await;
        assert_eq!(transaction.gas, gas.into());
        assert_eq!(transaction.gas_price, Some(parse_units(price, "gwei").unwrap().into()));
        assert_eq!(transaction.max_fee_per_gas, None, "a fixed price is a legacy transaction");
    }
    for request in &requests {
        assert_eq!(project.request_in(request.id, "final").await.reason, None);
    }
    assert_eq!(net.sent().await, 2);
    proofs_leave_enough_for_answers(&project, &net, requests[0].id).await;
}

/// With 0.0025 ETH an answer can be paid for (1.5 gwei × 1,234,567 = 0.00185 ETH), and a proof cannot: 0.001 ETH must
/// be left over.
async fn proofs_leave_enough_for_answers(project: &Project, net: &Net, answered: H256) {
    net.fund(U256::exp10(14) * 25).await;
    let challenge = net.challenge(&[answered]).await.unwrap();
    let row = project.challenge_row(challenge.transaction, "waits for money", |row| row.reason.is_some()).await;
    assert_eq!(row.state, "sending");
    assert_says(&row.reason.unwrap(), &["holds 0.0025", "send it some"]);
    net.answered_once(&net.ask(1).await).await;
    assert_eq!(net.sent().await, 3);

    net.fund(U256::exp10(18)).await;
    net.wait_response(&challenge, SOON).await.unwrap();
    project.challenge_in(challenge.transaction, "final").await;
    assert_eq!(net.sent().await, 4);
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
