//! Nonces that others take, or that nobody takes.

use ethers::abi::AbiEncode as _;
use ethers::providers::Middleware as _;
use ethers::types::{Address, BlockNumber, U256};
use nova_devnet::contracts::{WalletSimple, consumption};
use nova_devnet::request::Request;
use nova_devnet::sender::Call;
use serde_json::json;

use crate::common::net::Net;
use crate::common::project::Project;
use crate::common::proxy::{Act, Proxy};
use crate::common::{DEFAULT_TIMEOUT, assert_contains_all, wait_until};
use crate::pool::{PATIENCE, answer_row, asked_with_blocks_stopped, attempts, signed};

/// Somebody's payment took a nonce; ours, the next one, is in the pool; a reorg takes the payment back. Nothing else is to
/// be sent that could take its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_below_an_answer_is_filled() {
    let (project, net) = (Project::new(), Net::start().await);
    let run = project.nova(&["run"]).envs(net.env()).env("NOVA_REPLACE_AFTER", PATIENCE);
    let _daemon = run.start().ready().await;
    let requests = an_answer_above_a_payment(&project, &net).await;
    take_the_payment_back(&net, &requests[0]).await;
    net.go_on_mining().await;
    net.answered_once(&requests).await;
    project.request_in(requests[0].id, "final").await;
    project.transactions_in("final", 2).await;
    assert_eq!(net.sent().await, 2, "what fills the gap, and the answer");
}

/// A payment with the daemon's key that is mined, and an answer on the nonce after it that is not. No block is made.
pub async fn an_answer_above_a_payment(project: &Project, net: &Net) -> Vec<Request> {
    let requests = asked_with_blocks_stopped(net, 1).await;
    let next = net.sent().await;
    let paid = tokio::spawn({
        let sender = net.devnet.daemon_sender();
        async move { sender.send(Call::pay(Address::repeat_byte(7), 1.into())).await.unwrap() }
    });
    wait_until("the payment in the pool", DEFAULT_TIMEOUT, async || {
        let pending = Some(BlockNumber::Pending.into());
        let count = net.node.get_transaction_count(net.deployment.signer, pending).await.unwrap().as_u64();
        if count > next { Ok(()) } else { Err(format!("{count}")) }
    })
    .await;
    let ours = signed(project, net, &requests[0], 1).await;
    assert_eq!(ours[0].nonce as u64, next + 1, "the payment has the lower one");
    net.drop_from_pool(&ours[0].hash).await;
    net.anvil("evm_mine", [(); 0]).await;
    paid.await.unwrap();
    requests
}

/// Forgets all blocks after that of the request.
pub async fn take_the_payment_back(net: &Net, request: &Request) {
    let sent = net.sent().await;
    net.anvil("anvil_reorg", json!([net.head().await - request.block, []])).await;
    assert_eq!(net.sent().await, sent - 1, "the payment is forgotten");
}

/// A second daemon on our key, with a ledger of its own: it takes a nonce to answer another request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_second_daemon_on_its_key_it_stops_sending_and_says_so() {
    let (project, net) = (Project::new(), Net::start().await);
    let proxy = node_that_takes_nothing(&net).await;
    let run = project.nova(&["run"]).envs(net.env()).env("NOVA_RPC_URLS", proxy.url());
    let daemon = run.start().ready().await;
    let requests = net.ask(1).await;
    project.transactions_in("signed", 1).await;
    answer_as_a_rival(&net, requests[0].id.0).await;
    proxy.rule(|_, _| Act::Pass);

    wait_until("a sender that has stopped", DEFAULT_TIMEOUT, async || match daemon.readyz().await {
        Some((503, body)) if body["parts"]["sender"].as_str().unwrap_or_default().contains("second daemon") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    project.request_in(requests[0].id, "answered").await;
    let late = net.ask(1).await;
    let row = project.request_row(late[0].id, "says why it waits", |row| row.reason.is_some()).await;
    assert_eq!(row.state, "answering");
    assert_contains_all(&row.reason.unwrap(), &["a second daemon uses the key", "one daemon for a key"]);
    assert_eq!(net.sent().await, 1, "the other one's");
    // What the other one does is written down all the same.
    answer_as_a_rival(&net, late[0].id.0).await;
    project.request_in(late[0].id, "answered").await;
    net.assert_answers(&late[0], 1).await;
    daemon.stop().await;
}

/// A ledger that was restored from a copy knows nothing of what was sent since: that was no second daemon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_was_sent_before_the_start_is_of_no_second_daemon() {
    let (project, net) = (Project::new(), Net::start().await);
    let proxy = node_that_takes_nothing(&net).await;
    let run = project.nova(&["run"]).envs(net.env()).env("NOVA_RPC_URLS", proxy.url());
    let daemon = run.clone().start().ready().await;
    let requests = net.ask(1).await;
    project.transactions_in("signed", 1).await;
    daemon.stop().await;
    answer_as_a_rival(&net, requests[0].id.0).await;
    proxy.rule(|_, _| Act::Pass);

    let daemon = run.start().ready().await;
    project.request_in(requests[0].id, "answered").await;
    let later = net.ask(1).await;
    net.answered_once(&later).await;
    assert_eq!(daemon.readyz().await.unwrap().0, 200);
    daemon.stop().await;
}

/// A node that answers every call, and fails at each transaction.
async fn node_that_takes_nothing(net: &Net) -> Proxy {
    let proxy = Proxy::start(net.devnet.rpc_url()).await;
    proxy.rule(|method, _| if method == "eth_sendRawTransaction" { Act::Say(503, "") } else { Act::Pass });
    proxy
}

/// Sends what another daemon would send with our key.
async fn answer_as_a_rival(net: &Net, id: [u8; 32]) {
    let inference = consumption::SubmitInferenceCall { request_id: id, inference: U256::exp10(17) }.encode();
    let wallet = WalletSimple::new(net.deployment.modeler, net.node.clone());
    let next = wallet.get_next_sequence_id().call().await.unwrap();
    let never = U256::from(u64::MAX);
    let call = wallet.send_multi_sig(
        net.deployment.consumption,
        U256::zero(),
        inference.into(),
        never,
        next,
        Vec::new().into(),
    );
    net.devnet.daemon_sender().send(Call::new("answer as another daemon", &call)).await.unwrap();
}

/// The signed call runs out while it waits: it is renewed on the same nonce, under the same sequence id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_expires_in_the_pool_is_renewed() {
    const HOURS: u64 = 3 * 3600;
    let (project, net) = (Project::new(), Net::start().await);
    let run = project.nova(&["run"]).envs(net.env()).env("NOVA_SLA_SECONDS", (2 * HOURS).to_string());
    let _daemon = run.start().ready().await;
    let requests = crate::pool::pooled(&project, &net, 1).await;
    net.drop_from_pool(&attempts(&project, &net, &requests[0]).await[0].hash).await;
    net.pass(HOURS).await;
    let attempts = signed(&project, &net, &requests[0], 2).await;
    let (old, new) = (&attempts[0], &attempts[1]);
    assert_eq!((old.nonce, old.sequence_id), (new.nonce, new.sequence_id));
    assert!(new.expires > old.expires);
    net.go_on_mining().await;
    net.answered_once(&requests).await;
    project.request_in(requests[0].id, "final").await;
    assert_eq!(answer_row(&project, &net, &requests[0]).await.reason, None);
    assert_eq!(net.sent().await, 1);
}
