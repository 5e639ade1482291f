//! Random faults for as long as `NOVA_SOAK_SECONDS` says (20 minutes), from the seed `NOVA_SOAK_SEED` (else from the clock,
//! and printed): the same seed gives the same faults in the same order. Then everything is healed, and all guarantees must
//! hold. Run by `ci/test --soak`.

#[path = "../common/mod.rs"]
mod common;
#[path = "../faults/invariants.rs"]
mod invariants;
mod random;
#[allow(dead_code)]
#[path = "../faults/scenario.rs"]
mod scenario;

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ethers::providers::Middleware as _;
use ethers::types::{Address, H256, U256};
use nova::failpoint::Step;
use nova_devnet::Fault;
use nova_devnet::sender::Call;
use serde_json::json;

use common::daemon::{Daemon, try_signal};
use common::toxic::{Toxic, ToxicProxy};
use common::{DEFAULT_TIMEOUT, wait_until};
use random::Random;
use scenario::Scenario;

const SECONDS: u64 = 20 * 60;
/// How long the proofs may take that were asked for meanwhile.
const PROOFS: Duration = Duration::from_secs(20 * 60);

/// What an RPC endpoint may do to a few calls in a row.
const RPC: &[Toxic] = &[
    Toxic::Reset,
    Toxic::ResetInBody,
    Toxic::PassAndReset,
    Toxic::Hang(5),
    Toxic::Respond(429, "retry-after: 1", ""),
    Toxic::Respond(502, "content-type: text/html", "<html>502 Bad Gateway</html>"),
    Toxic::Respond(200, "content-type: application/json", "{"),
    Toxic::HalfGzip,
    Toxic::Flood(50),
    Toxic::RpcError(200, -32005, "limit exceeded"),
    Toxic::RpcError(200, -32016, "over rate limit"),
    Toxic::RpcError(200, -32000, "header not found"),
    Toxic::Lag(3),
    Toxic::Lag(30),
];
/// What Plumber and the gateway may do.
const SERVICES: &[Toxic] = &[
    Toxic::Reset,
    Toxic::ResetInBody,
    Toxic::Hang(5),
    Toxic::Respond(429, "retry-after: 2", ""),
    Toxic::Respond(500, "", ""),
    Toxic::Respond(200, "content-type: text/html", "<html>"),
    Toxic::HalfGzip,
];

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Event {
    Ask(u64),
    Prove,
    Kill,
    KillAt(Step, bool),
    Stop,
    Rpc(Toxic, usize),
    Services(Toxic, usize),
    BadFeatures,
    NonceTaken,
    NoMoney,
    Money,
    NoBlocks,
    Blocks,
    WorkersKilled,
    WorkersStopped,
    Unranked,
    Ranked,
    Reorg(u64),
    Quiet(u64),
}

/// Blocks that a reorg takes at most, and from where on what is mined is final.
const DEEPEST: u64 = 8;
const FINAL: u64 = 10;

fn event(random: &mut Random) -> Event {
    match random.below(25) {
        0..6 => Event::Ask(1 + random.below(5)),
        6..8 => Event::Prove,
        8 => Event::Kill,
        9..11 => Event::KillAt(*random.of(Step::ALL), random.below(2) == 0),
        11 => Event::Stop,
        12..14 => Event::Rpc(*random.of(RPC), 1 + random.below(20) as usize),
        14 => Event::Services(*random.of(SERVICES), 1 + random.below(10) as usize),
        15 => Event::BadFeatures,
        16 => Event::NonceTaken,
        17 => Event::NoMoney,
        18 => Event::Money,
        19 => {
            if random.below(2) == 0 {
                Event::NoBlocks
            } else {
                Event::Unranked
            }
        }
        20 => {
            if random.below(2) == 0 {
                Event::Blocks
            } else {
                Event::Ranked
            }
        }
        21 => Event::WorkersKilled,
        22 => Event::WorkersStopped,
        23 => Event::Reorg(1 + random.below(DEEPEST)),
        _ => Event::Quiet(1 + random.below(5)),
    }
}

/// The stage, and how it stands.
struct Soak {
    scenario: Scenario,
    rpc: ToxicProxy,
    services: ToxicProxy,
    daemon: Option<Daemon>,
    bad: Vec<Address>,
    /// Blocks come.
    mining: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_lose_nothing_and_double_nothing() {
    let setting = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = setting("NOVA_SOAK_SEED").unwrap_or(clock);
    let seconds = setting("NOVA_SOAK_SECONDS").unwrap_or(SECONDS);
    println!("NOVA_SOAK_SEED={seed} NOVA_SOAK_SECONDS={seconds}");
    let mut random = Random::new(seed);
    let mut soak = Soak::start().await;
    let started = Instant::now();
    let mut events = 0;
    while started.elapsed() < Duration::from_secs(seconds) {
        let next = event(&mut random);
        events += 1;
        println!("{:6.1} s {next:?}", started.elapsed().as_secs_f64());
        soak.play(next).await;
        tokio::time::sleep(Duration::from_millis(200 + random.below(1500))).await;
    }
    soak.heal().await;
    soak.proofs_are_done().await;
    let tally = soak.scenario.check().await;
    println!("{events} events, seed {seed}: {tally}");
}

impl Soak {
    async fn start() -> Self {
        let scenario = Scenario::with_verifier().await;
        // A reorg takes nothing of the deployment.
        scenario.net.anvil("anvil_mine", [DEEPEST]).await;
        let rpc = ToxicProxy::start(scenario.net.devnet.rpc_url()).await;
        let services = ToxicProxy::start(scenario.net.devnet.services.url()).await;
        let mut soak = Self { scenario, rpc, services, daemon: None, bad: Vec::new(), mining: true };
        soak.start_daemon("").await;
        soak
    }

    async fn start_daemon(&mut self, failpoints: &str) {
        let run = self.scenario.run().env("NOVA_RPC_URLS", self.rpc.rpc_url());
        let run = run.env("NOVA_PLUMBER_HOST", self.services.url()).env("NOVA_IPFS_GATEWAY", self.services.url());
        let run = run.env("NOVA_WITNESS_TIMEOUT", "10").env("NOVA_MAX_PROOFS_PER_DAY", "100000");
        let run = run.env("NOVA_FINALITY", FINAL.to_string());
        self.daemon = Some(run.env("FAILPOINTS", failpoints).start());
    }

    async fn play(&mut self, event: Event) {
        // One that died at its failpoint comes back, as a service manager brings it.
        if let Some(daemon) = self.daemon.take_if(|daemon| daemon.has_ended()) {
            daemon.wait_killed().await;
            self.start_daemon("").await;
        }
        match event {
            Event::Ask(count) if self.mining => drop(self.scenario.ask(count).await),
            Event::Prove if self.mining => self.prove().await,
            Event::NonceTaken if self.mining => self.take_nonce().await,
            Event::Reorg(depth) if self.mining => self.reorg(depth).await,
            // Without blocks nobody gets anything onto the chain.
            Event::Ask(_) | Event::Prove | Event::NonceTaken | Event::Reorg(_) => {}
            Event::Kill => self.kill("").await,
            Event::KillAt(step, before) => {
                let when = if before { "before" } else { "after" };
                self.kill(&format!("{}.{when}=return", step.name())).await;
            }
            Event::Stop => {
                self.daemon.take().unwrap().stop_unchecked().await;
                self.start_daemon("").await;
            }
            Event::Rpc(toxic, times) => self.rpc.course(&vec![toxic; times], |_| true),
            Event::Services(toxic, times) => self.services.course(&vec![toxic; times], |_| true),
            Event::BadFeatures if self.mining => {
                let wallet = self.scenario.net.fresh_wallets(1).await.unwrap()[0];
                self.scenario.net.devnet.services.set_fault(wallet, Some(Fault::Error));
                self.scenario.ask_about(wallet).await;
                self.bad.push(wallet);
            }
            Event::BadFeatures => self.good_features(),
            Event::NoMoney => self.scenario.net.fund(U256::zero()).await,
            Event::Money => self.scenario.net.fund(U256::exp10(19)).await,
            Event::NoBlocks => {
                self.scenario.net.stop_mining().await;
                self.mining = false;
            }
            Event::Blocks => self.mine().await,
            Event::Unranked if self.mining => self.unrank().await,
            Event::Ranked if self.mining => self.scenario.net.rank(true).await,
            Event::Unranked | Event::Ranked => self.mine().await,
            Event::WorkersKilled => self.signal_workers("KILL").await,
            Event::WorkersStopped => self.signal_workers("STOP").await,
            Event::Quiet(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
        }
    }

    /// A request that is answered is asked about, on chain: there each can be asked about once.
    async fn prove(&mut self) {
        let Some(rows) = self.scenario.project.rows().await else { return };
        let asked: Vec<_> = self.scenario.challenges.iter().map(|challenge| challenge.payload.clone()).collect();
        let next = rows.requests.iter().find(|row| row.state == "final" && !asked.contains(&row.id));
        if let Some(row) = next {
            self.scenario.request_proof(row.id.parse().unwrap()).await;
        }
    }

    async fn take_nonce(&mut self) {
        self.scenario.net.fund(U256::exp10(19)).await;
        let pay = Call::pay(Address::repeat_byte(7), 1.into());
        // Where the daemon was faster, its transaction has the nonce.
        if let Ok(receipt) = self.scenario.net.devnet.daemon_sender().send(pay).await {
            self.scenario.foreign.insert(receipt.transaction_hash);
        }
    }

    /// Our modeler is not among the top N any more. What was signed before the daemon could know may be reverted.
    async fn unrank(&mut self) {
        let before = self.scenario.net.head().await;
        self.scenario.net.rank(false).await;
        let since = self.scenario.net.head().await;
        wait_until("another block", DEFAULT_TIMEOUT, async || {
            let head = self.scenario.net.head().await;
            if head > since { Ok(()) } else { Err(head.to_string()) }
        })
        .await;
        for block in before..=self.scenario.net.head().await {
            let block = self.scenario.net.node.get_block(block).await.unwrap().expect("the block is there");
            self.scenario.overtaken.extend(block.transactions);
        }
        self.pool_is_overtaken().await;
    }

    /// What waits in the pool is of before.
    async fn pool_is_overtaken(&mut self) {
        let pool = self.scenario.net.node.txpool_content().await.unwrap();
        let ours = [pool.pending, pool.queued].map(|mut pool| pool.remove(&self.scenario.net.deployment.signer));
        let ours = ours.into_iter().flatten().flat_map(|ours| ours.into_values());
        self.scenario.overtaken.extend(ours.map(|transaction| transaction.hash));
    }

    /// The newest blocks are made anew, empty. What was asked in them was never asked.
    async fn reorg(&mut self, depth: u64) {
        self.scenario.net.stop_mining().await;
        self.pool_is_overtaken().await;
        let net = &self.scenario.net;
        let newest = net.node.get_block(net.head().await).await.unwrap().expect("the head is there");
        net.anvil("anvil_reorg", json!([depth, []])).await;
        net.go_on_mining().await;
        // The same wallet, asked about in the same second, would be the same request.
        net.pass_by(newest.timestamp.as_u64()).await;

        let on_chain: HashSet<H256> = net.all_requests().await.unwrap().iter().map(|request| request.id).collect();
        self.scenario.requests.retain(|request| on_chain.contains(&request.id));
        let mut mined = HashSet::new();
        for hash in
            self.scenario.challenges.iter().map(|challenge| challenge.transaction).chain(self.scenario.foreign.clone())
        {
            if self.scenario.net.node.get_transaction_receipt(hash).await.unwrap().is_some() {
                mined.insert(hash);
            }
        }
        self.scenario.challenges.retain(|challenge| mined.contains(&challenge.transaction));
        self.scenario.foreign.retain(|hash| mined.contains(hash));
    }

    async fn kill(&mut self, failpoints: &str) {
        let mut daemon = self.daemon.take().unwrap();
        if daemon.has_ended() {
            daemon.wait_killed().await
        } else {
            daemon.kill().await
        }
        self.start_daemon(failpoints).await;
    }

    async fn signal_workers(&self, name: &str) {
        for (worker, _) in self.daemon.as_ref().unwrap().workers() {
            try_signal(name, worker).await;
        }
    }

    fn good_features(&mut self) {
        for wallet in self.bad.drain(..) {
            self.scenario.net.devnet.services.set_fault(wallet, None);
        }
    }

    async fn mine(&mut self) {
        self.scenario.net.go_on_mining().await;
        self.mining = true;
    }

    /// Waits until every proof that was asked for had its turn: they are made one after the other.
    async fn proofs_are_done(&self) {
        wait_until("the end of all proof requests", PROOFS, async || {
            let rows = self.scenario.project.rows().await.ok_or("there is no ledger")?;
            let ended = |state: &str| matches!(state, "final" | "failed" | "orphaned");
            let open = rows.challenges.iter().filter(|row| !ended(&row.state)).count();
            if open == 0 { Ok(()) } else { Err(format!("{open} are open")) }
        })
        .await;
    }

    /// All that was broken is well again, and the daemon runs.
    async fn heal(&mut self) {
        self.rpc.heal();
        self.services.heal();
        self.good_features();
        self.mine().await;
        self.scenario.net.fund(U256::exp10(19)).await;
        self.scenario.net.rank(true).await;
        self.kill("").await;
    }
}
