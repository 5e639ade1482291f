//! What a scenario plays on: a project, a devnet, and all that was asked of the daemon, so that the guarantees can be
//! checked at the end.

use std::collections::HashSet;

use ethers::providers::Middleware as _;
use ethers::types::{Address, H256, U256};
use nova_devnet::CompetitionParams;
use nova_devnet::challenge::Challenge;
use nova_devnet::request::Request;
use nova_devnet::sender::Call;

use crate::common::ledger::{ChallengeRow, RequestRow, TransactionRow};
use crate::common::net::Net;
use crate::common::nova::Nova;
use crate::common::project::Project;
use crate::common::{DEFAULT_TIMEOUT, PROOF_TIMEOUT, wait_until};

/// Seconds to answer in: as long as any scenario takes on a slow machine.
pub const SLA: u64 = 3600;

pub struct Scenario {
    pub project: Project,
    pub net: Net,
    /// Every request that was made.
    pub requests: Vec<Request>,
    /// Every proof request that was made.
    pub challenges: Vec<Challenge>,
    /// Proof requests that may wait at the end, their rows saying for what.
    pub may_wait: HashSet<H256>,
    /// Transactions of the daemon's key that the test sent itself.
    pub foreign: HashSet<H256>,
    /// So many of the daemon's transactions the test had reverted.
    pub reverted: usize,
    /// Transactions of the daemon that were under way when what they build on was undone: they may be reverted.
    pub overtaken: HashSet<H256>,
    /// The first nonce that is the daemon's.
    pub first_nonce: u64,
}

impl Scenario {
    /// Answers by MultiSig, without proofs on chain.
    pub async fn new() -> Self {
        Self::on(Net::with_terms(terms()).await).await
    }

    /// The same, with the circuit of the example: a proof takes a while.
    pub async fn of_the_example() -> Self {
        Self { project: Project::of_the_example(), ..Self::new().await }
    }

    /// The same, with 600 s to answer in.
    pub async fn with_usual_sla() -> Self {
        Self::on(Net::start().await).await
    }

    /// With the model's verifier registered: each answer has a commitment before it.
    pub async fn with_verifier() -> Self {
        Self::on(Net::with_verifier(terms()).await).await
    }

    pub async fn on(net: Net) -> Self {
        let first_nonce = net.sent().await;
        // Faults cost fees: what runs out of money is another scenario.
        net.fund(U256::exp10(19)).await;
        Self {
            project: Project::new(),
            net,
            requests: Vec::new(),
            challenges: Vec::new(),
            may_wait: HashSet::new(),
            foreign: HashSet::new(),
            reverted: 0,
            overtaken: HashSet::new(),
            first_nonce,
        }
    }

    /// `nova run` on this devnet.
    pub fn run(&self) -> Nova {
        self.project.nova(&["run"]).envs(self.net.env())
    }

    /// Asks about wallets that nobody has asked about.
    pub async fn ask(&mut self, count: u64) -> Vec<Request> {
        let made = self.net.ask(count).await;
        self.requests.extend(made.clone());
        made
    }

    pub async fn ask_about(&mut self, wallet: Address) -> Request {
        let made = self.net.ask_about(&[wallet]).await.remove(0);
        self.requests.push(made.clone());
        made
    }

    /// Has the validator ask for proofs.
    pub async fn challenge(&mut self, ids: &[H256]) -> Challenge {
        let made = self.net.challenge(ids).await.unwrap();
        self.challenges.push(made.clone());
        made
    }

    /// Has the validator say anything.
    pub async fn challenge_with(&mut self, payload: &str) -> Challenge {
        let made = self.net.challenge_with(self.net.deployment.modeler, payload).await.unwrap();
        self.challenges.push(made.clone());
        made
    }

    /// Has the consumer ask for a proof on chain.
    pub async fn request_proof(&mut self, id: H256) -> Challenge {
        let made = self.net.request_proof(id).await.unwrap();
        self.challenges.push(made.clone());
        made
    }

    /// Waits until these requests are answered for good.
    pub async fn answered(&self, requests: &[Request]) {
        let states = async || {
            let rows = self.project.rows().await.map(|rows| rows.requests).unwrap_or_default();
            let state = |id: H256| rows.iter().find(|row| row.id == format!("{id:?}")).cloned();
            requests.iter().map(|request| (request.id, state(request.id))).collect::<Vec<_>>()
        };
        wait_until("an answer to each request", DEFAULT_TIMEOUT, async || {
            let open: Vec<_> = states().await;
            let open: Vec<_> =
                open.into_iter().filter(|(_, row)| row.as_ref().is_none_or(|row| row.state != "final")).collect();
            if open.is_empty() { Ok(()) } else { Err(format!("{open:?}")) }
        })
        .await;
    }

    /// A daemon that nothing troubles finishes what was left: every request is answered.
    pub async fn finish_and_check(&self) {
        let daemon = self.run().start().ready().await;
        // An orphan is an end, unless it comes back.
        self.answered(&self.requests).await;
        let tally = self.check().await;
        assert_eq!(tally.answered, tally.requests);
        daemon.stop().await;
    }

    /// Waits until a proof request's row is as wanted.
    pub async fn challenge_row(&self, challenge: &Challenge, wanted: impl Fn(&ChallengeRow) -> bool) -> ChallengeRow {
        let hash = format!("{:?}", challenge.transaction);
        wait_until(format!("the proof request {}", challenge.payload), PROOF_TIMEOUT, async || {
            let rows = self.project.rows().await.ok_or("there is no ledger")?;
            let row = rows.challenges.into_iter().find(|row| row.transaction_hash == hash);
            row.clone().filter(|row| wanted(row)).ok_or_else(|| format!("{row:?}"))
        })
        .await
    }

    /// Waits until a request's row is as wanted.
    pub async fn request_row(&self, request: &Request, wanted: impl Fn(&RequestRow) -> bool) -> RequestRow {
        let id = format!("{:?}", request.id);
        wait_until(format!("the request {id}"), PROOF_TIMEOUT, async || {
            let rows = self.project.rows().await.ok_or("there is no ledger")?;
            let row = rows.requests.into_iter().find(|row| row.id == id);
            row.clone().filter(|row| wanted(row)).ok_or_else(|| format!("{row:?}"))
        })
        .await
    }

    /// Waits until the row of a request's answer is as wanted.
    pub async fn transaction_row(&self, request: &Request, wanted: impl Fn(&TransactionRow) -> bool) -> TransactionRow {
        let id = format!("{:?}", request.id);
        wait_until(format!("the answer to {id}"), PROOF_TIMEOUT, async || {
            let rows = self.project.rows().await.ok_or("there is no ledger")?;
            let row = rows.transactions.into_iter().find(|row| row.purpose == "answer" && row.key.ends_with(&id));
            row.clone().filter(|row| wanted(row)).ok_or_else(|| format!("{row:?}"))
        })
        .await
    }

    /// Waits until a transaction is in a state.
    pub async fn a_transaction_is(&self, state: &str) {
        wait_until(format!("a transaction that is {state}"), DEFAULT_TIMEOUT, async || {
            let rows = self.project.rows().await.ok_or("there is no ledger")?;
            let found = rows.transactions.iter().any(|row| row.state == state);
            if found { Ok(()) } else { Err(format!("{:?}", rows.transactions)) }
        })
        .await;
    }

    /// Uses the daemon's key for something else.
    pub async fn steal_nonce(&mut self) {
        let pay = Call::pay(Address::repeat_byte(7), 1.into());
        let receipt = self.net.devnet.daemon_sender().send(pay).await.unwrap();
        self.foreign.insert(receipt.transaction_hash);
    }

    /// The nonce that the next transaction of the daemon's key gets, with what waits in the pool.
    pub async fn pending_nonce(&self) -> u64 {
        let pending = Some(ethers::types::BlockNumber::Pending.into());
        self.net.node.get_transaction_count(self.net.deployment.signer, pending).await.unwrap().as_u64()
    }
}

fn terms() -> CompetitionParams {
    CompetitionParams { sla_seconds: SLA, ..CompetitionParams::default() }
}
