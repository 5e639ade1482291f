//! Much at once.

use std::time::Instant;

use serde_json::Value;

use crate::common::{DEFAULT_TIMEOUT, PROOF_TIMEOUT, wait_until};
use crate::scenario::Scenario;

const REQUESTS: u64 = 1000;
/// Distinct requests that proofs are asked for, all of them in one challenge; the other challenges name one each.
const PROVEN: u64 = 10;
const CHALLENGES: usize = 91;
/// Requests of a thousand that may be left unanswered, because what was answered could not be proven.
const UNPROVABLE: usize = 5;

/// The contract's own 600 s to answer in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_in_one_block_are_answered_in_time() {
    let mut scenario = Scenario::with_usual_sla().await;
    let daemon = scenario.run().start().ready().await;
    scenario.net.stop_mining().await;
    let network = scenario.net.devnet.network.clone();
    let asking = tokio::spawn(async move {
        let wallets = network.fresh_wallets(REQUESTS).await.unwrap();
        let inputs: Vec<_> = wallets.iter().map(|wallet| format!("{wallet:?}")).collect();
        network.requests(&inputs).await.unwrap()
    });
    wait_until("all requests in the pool", DEFAULT_TIMEOUT, async || {
        let status = scenario.net.anvil("txpool_status", [(); 0]).await;
        if pending(&status) >= REQUESTS { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    let started = Instant::now();
    scenario.net.anvil("evm_mine", [(); 0]).await;
    scenario.net.go_on_mining().await;
    scenario.requests = asking.await.unwrap();
    let block = scenario.requests[0].block;
    assert!(scenario.requests.iter().all(|request| request.block == block));
    wait_until("an answer to each request", DEFAULT_TIMEOUT * 5, async || {
        let rows = scenario.project.rows().await.ok_or("there is no ledger")?;
        let open = rows.requests.iter().filter(|row| matches!(&*row.state, "seen" | "inferred" | "answering")).count();
        let seen = rows.requests.len();
        if seen as u64 == REQUESTS && open == 0 { Ok(()) } else { Err(format!("{open} of {seen} are open")) }
    })
    .await;
    println!("{REQUESTS} requests in {:.0} s, {} MiB", started.elapsed().as_secs_f64(), daemon.peak_memory());
    scenario.check().await;
    // Of a thousand wallets one or two are beyond what the circuit was calibrated for.
    let rows = scenario.project.rows().await.unwrap();
    let unanswered: Vec<_> = rows.requests.iter().filter(|row| row.state != "final").collect();
    assert!(unanswered.len() <= UNPROVABLE, "{unanswered:?}");
    for row in unanswered {
        assert!(row.reason.as_ref().is_some_and(|reason| reason.contains("could not be proven")), "{row:?}");
    }
    for answer in scenario.net.answers(&scenario.requests).await.unwrap() {
        assert!(answer.seconds <= 600, "{answer:?} came too late");
    }
    daemon.stop().await;
}

fn pending(status: &Value) -> u64 {
    u64::from_str_radix(status["pending"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

/// Ten in one challenge, and 90 one by one: each proof is computed once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_proofs_are_delivered() {
    let mut scenario = Scenario::new().await;
    let run = scenario.run().env("NOVA_MAX_PROOFS_PER_DAY", "1000");
    // A hundred challenges, one after the other: none waits for the next look.
    let run = run.env("NOVA_RPC_WS_URL", scenario.net.devnet.rpc_url().replace("http://", "ws://"));
    let daemon = run.start().ready().await;
    let requests = scenario.ask(PROVEN).await;
    scenario.answered(&requests).await;
    let started = Instant::now();
    let all: Vec<_> = requests.iter().map(|request| request.id).collect();
    for at in 0..CHALLENGES {
        let ids = if at == 0 { &all[..] } else { std::slice::from_ref(&all[at % all.len()]) };
        let challenge = scenario.challenge(ids).await;
        // The contract has one place for a challenge: the next comes once this is answered.
        scenario.net.wait_response(&challenge, PROOF_TIMEOUT).await.unwrap();
        if at == 0 {
            println!("{PROVEN} proofs in one challenge: {:.0} s", started.elapsed().as_secs_f64());
        }
    }
    println!("{CHALLENGES} challenges in {:.0} s, {} MiB", started.elapsed().as_secs_f64(), daemon.peak_memory());
    let tally = scenario.check().await;
    assert_eq!(tally.answered, tally.requests);
    daemon.stop().await;
}
