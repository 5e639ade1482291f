//! The chain: what is there (`Chain`), what happens on it (`watch`, which `ws_subscription` tells when), and what we do to it
//! (`tx_manager`).
//! Nothing outside this folder knows ethers.

pub mod account;
mod agreement;
mod call;
mod complaint;
pub mod contracts;
mod heights;
mod log_scanner;
mod node_error;
mod range;
mod reorg;
pub mod revert;
pub mod rpc;
mod slot;
pub mod tx_manager;
pub mod wallet;
pub mod watch;
pub mod ws_subscription;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use ethers::providers::{Middleware as _, Provider};
use ethers::types::{Address, BlockNumber, H256, U256};

use crate::config;
use crate::failure_tracker::FailureTracker;
use crate::fault::{Classify as _, Fault, Result};
use crate::ledger::{Identity, Targets};
use crate::services::pulse::Pulse;
use account::Account;
use call::{ask, ask_if_known, call_fault, is_contract_error};
use contracts::{Competition, Consumption, Modeler, ProofRegistry, Verifier};
use log_scanner::RescanHistory;
use range::LogRange;
use rpc::Transport;

/// SLA where `getSAParams` says none: PROTOCOL of the network, 600 s from request to answer.
const DEFAULT_SLA: Duration = Duration::from_secs(600);
/// No contract means a longer one, so that times can be added without overflow.
const MAX_SLA: u64 = 365 * 24 * 60 * 60;

/// Arbitrum One and its Testnet. These chains are never started anew: the chain id identifies them, and a node without their first block
/// will do.
const CHAINS_WITHOUT_RESET: [u64; 2] = [42_161, 421_614];

/// Requests in a row that cannot be read, after which it is no longer one node that lags.
const MAX_FAILED_READS: u32 = 3;

/// No chain is higher, so that block numbers can be added to without overflow, and the ledger can hold them.
const MAX_HEIGHT: u64 = 1 << 50;
/// No chain's clock shows this: in the year 36,812.
const MAX_TIME: u64 = 1 << 40;

pub type Client = Arc<Provider<Transport>>;

/// The network, its contracts, and who we are on it. Checked once, when it is made.
#[derive(Clone)]
pub struct Chain {
    client: Client,
    settings: config::Chain,
    /// Of a chain that is known by its first block.
    genesis: Option<H256>,
    competition: Competition<Provider<Transport>>,
    consumption: Consumption<Provider<Transport>>,
    modeler_contract: Modeler<Provider<Transport>>,
    registry: Option<Registry>,
    account: Account,
    /// Seconds from request to answer, as it was last read.
    sla: Arc<AtomicU64>,
    /// Blocks that the provider was last content to serve in one `eth_getLogs`.
    log_range: Arc<LogRange>,
    /// The same for blocks of long ago, which it may serve otherwise.
    old_log_range: Arc<LogRange>,
    rescans: Arc<RescanHistory>,
    /// How reading requests has gone lately.
    read_failures: Arc<FailureTracker>,
    /// Held by the watcher that looks for a reorg.
    reorg_check_lock: Arc<tokio::sync::Mutex<()>>,
}

/// Where proofs are checked on chain, and by which verifier.
#[derive(Clone)]
struct Registry {
    contract: ProofRegistry<Provider<Transport>>,
    verifier: Address,
}

/// What the signing wallet can pay for.
#[derive(Debug, Clone)]
pub struct Funds {
    pub wallet: String,
    /// Ether, in decimal.
    pub eth: String,
    /// Answers that it pays for at today's gas price.
    pub affordable_answers: u64,
}

/// Gas of an answer through a MultiSig with its commitment, rounded up: what `Funds` reckons with.
const GAS_PER_ANSWER: u64 = 300_000;

/// The newest block, as far as we need it.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    pub number: u64,
    pub hash: H256,
    /// The chain's clock, unix seconds.
    pub time: u64,
    /// Wei a unit of gas; zero on a chain without EIP-1559.
    pub base_fee: U256,
}

impl Chain {
    /// Connects, and checks the chain id, the contracts and the account.
    /// `held_modeler` is who we were before, if that is known.
    pub async fn connect(settings: &config::Chain, pulse: &Pulse, held_modeler: Option<&str>) -> Result<Self> {
        let client = client(settings)?;
        check_chain_id(&client, settings.chain_id).await?;
        let genesis = match CHAINS_WITHOUT_RESET.contains(&settings.chain_id) {
            true => None,
            false => Some(first_block(&client).await?),
        };

        let competition_address = address("NOVA_CHALLENGE_ADDRESS", &settings.challenge_address)?;
        let competition = Competition::new(competition_address, client.clone());
        let (consumption, modeler_contract) = named_by(&competition).await?;
        let account = Account::resolve(settings, &client, pulse, held_modeler).await?;
        let sla = match settings.sla {
            Some(sla) => sla,
            None => sla_of(&competition).await?.unwrap_or(DEFAULT_SLA),
        };
        let registry = match &settings.proof_registry_address {
            Some(registry) => Some(Registry::find(registry, settings, &account, &client).await?),
            None => None,
        };
        Ok(Self {
            settings: settings.clone(),
            log_range: Arc::new(LogRange::new(settings.log_range)),
            old_log_range: Arc::new(LogRange::new(settings.log_range)),
            rescans: Arc::default(),
            read_failures: Arc::new(FailureTracker::new(MAX_FAILED_READS)),
            reorg_check_lock: Arc::default(),
            genesis,
            consumption: Consumption::new(consumption, client.clone()),
            modeler_contract: Modeler::new(modeler_contract, client.clone()),
            competition,
            registry,
            account,
            sla: Arc::new(AtomicU64::new(sla.as_secs())),
            client,
        })
    }

    /// Whose ledger belongs to this chain and modeler.
    pub fn identity(&self) -> Identity {
        Identity {
            chain_id: self.settings.chain_id,
            genesis_hash: self.genesis.map(to_hex),
            competition: to_hex(self.competition.address()),
            consumption: to_hex(self.consumption.address()),
            modeler: to_hex(self.modeler()),
        }
    }

    pub fn targets(&self) -> Targets {
        Targets {
            modeler_contract: to_hex(self.modeler_contract.address()),
            registry: self.registry.as_ref().map(|registry| to_hex(registry.contract.address())),
        }
    }

    /// The address the contracts know us by: the MultiSig if there is one, else the wallet.
    pub fn modeler(&self) -> Address {
        self.account.modeler()
    }

    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Time from request to answer.
    pub fn sla(&self) -> Duration {
        Duration::from_secs(self.sla.load(Ordering::Relaxed))
    }

    pub async fn head(&self) -> Result<Head> {
        newest_block(&self.client).await
    }

    /// Finds out which endpoints are behind the others.
    pub async fn compare_endpoints(&self) {
        self.client.as_ref().as_ref().compare_heights().await;
    }

    /// Wei that the signing wallet holds.
    pub async fn balance(&self) -> Result<U256> {
        self.client.get_balance(self.account.wallet_address(), None).await.map_err(rpc_fault)
    }

    /// What the signing wallet can pay for.
    pub async fn funds(&self) -> Result<Funds> {
        let balance = self.balance().await?;
        let gas_price = match self.settings.gas_price_gwei {
            Some(gwei) => U256::from((gwei * 1e9) as u128),
            None => self.client.get_gas_price().await.map_err(rpc_fault)?,
        };
        let gas = self.settings.gas.unwrap_or(GAS_PER_ANSWER);
        Ok(Funds {
            wallet: to_hex(self.account.wallet_address()),
            eth: ethers::utils::format_ether(balance),
            affordable_answers: (balance / gas_price.saturating_mul(gas.into()).max(U256::one()))
                .min(u64::MAX.into())
                .as_u64(),
        })
    }

    /// The modeler's address, and how it signs.
    pub fn describe_account(&self) -> String {
        let (modeler, wallet) = (to_hex(self.modeler()), to_hex(self.account.wallet_address()));
        if modeler == wallet {
            format!("wallet {wallet}, directly")
        } else {
            format!("MultiSig {modeler}, which lists wallet {wallet} as signer")
        }
    }

    /// True if our answers are still wanted.
    pub async fn in_top_n(&self) -> Result<bool> {
        self.competition
            .is_top_n_modeler(self.modeler())
            .call()
            .await
            .map_err(|error| call_fault(error, "isTopNModeler"))
    }

    /// The calls that answer request `id` with `value`: the answer, and the commitment that goes before it where a proof
    /// registry is set. Instances are big-endian field elements.
    pub fn answer(
        &self,
        id: &str,
        value: f64,
        encoding: config::InferenceEncoding,
        instances: &[[u8; 32]],
    ) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
        let id = request_id(id)?;
        let answer = contracts::answer_calldata(id, value, encoding).permanent()?;
        let commitment = self
            .registry
            .as_ref()
            .map(|registry| contracts::commit_calldata(id, registry.verifier, instances).to_vec());
        Ok((answer.to_vec(), commitment))
    }

    /// What the chain holds as our commitment to request `id`: the hash of the instances. `None` if there is none, or no registry.
    pub async fn commitment(&self, id: &str) -> Result<Option<[u8; 32]>> {
        Ok(self.held_commitment(request_id(id)?.into()).await?.map(|(_, instances_hash)| instances_hash))
    }

    /// The same, with the verifier that it names.
    async fn held_commitment(&self, id: [u8; 32]) -> Result<Option<(Address, [u8; 32])>> {
        let Some(registry) = &self.registry else { return Ok(None) };
        let held = registry.contract.commitments(id, self.modeler()).call().await;
        let (verifier, instances_hash, committed_at) = held.map_err(|error| call_fault(error, "commitments"))?;
        Ok((!committed_at.is_zero()).then_some((verifier, instances_hash)))
    }

    /// Has the registered verifier check a proof, without a transaction: it must be the one of our verification key,
    /// because commitments name it for ever. Nothing to check without a registry.
    ///
    /// # Errors
    /// `Fatal` if it refuses a proof that our own verification key accepts.
    pub async fn check_verifier(&self, proof: Vec<u8>, instances: &[[u8; 32]]) -> Result<()> {
        let Some(registry) = &self.registry else { return Ok(()) };
        let verifier = Verifier::new(registry.verifier, self.client.clone());
        let instances = instances.iter().map(|felt| U256::from_big_endian(felt)).collect();
        match verifier.verify_proof(proof.into(), instances).call().await {
            Ok(true) => Ok(()),
            Err(error) if !is_contract_error(&error) => Err(call_fault(error, "verifyProof")),
            _ => Err(Fault::Fatal(anyhow!(
                "the verifier {} that is registered at the proof registry is not the one of these model files: register \
                 verifier.sol of the model folder, or set NOVA_VERIFIER_ADDRESS",
                to_hex(registry.verifier)
            ))),
        }
    }

    /// The call that has the registry check a proof of request `id`.
    pub fn delivery_on_chain(&self, id: &str, proof: Vec<u8>, instances: &[[u8; 32]]) -> Result<Vec<u8>> {
        Ok(contracts::submit_proof_calldata(request_id(id)?, proof, instances).to_vec())
    }

    /// The call that answers `validator` with the CID of a proof.
    pub fn delivery_by_ipfs(&self, validator: &str, cid: &str) -> Result<Vec<u8>> {
        Ok(contracts::respond_calldata(address("validator", validator)?, cid).to_vec())
    }
}

impl Registry {
    async fn find(address_text: &str, settings: &config::Chain, account: &Account, client: &Client) -> Result<Self> {
        let at = address("NOVA_PROOF_REGISTRY_ADDRESS", address_text)?;
        let contract = ProofRegistry::new(at, client.clone());
        let named = ("getVerifiers", "NOVA_PROOF_REGISTRY_ADDRESS", at);
        let registered = ask(client, contract.get_verifiers(account.modeler()), named).await?;
        let verifier = match &settings.verifier_address {
            Some(wanted) => {
                let wanted = address("NOVA_VERIFIER_ADDRESS", wanted)?;
                registered.into_iter().find(|verifier| *verifier == wanted)
            }
            None => registered.last().copied(),
        };
        let verifier = verifier
            .with_context(|| {
                format!(
                    "the proof registry {address_text} holds no verifier of modeler {}: register the contract that `nova setup` \
                     wrote, or unset NOVA_PROOF_REGISTRY_ADDRESS",
                    to_hex(account.modeler())
                )
            })
            .fatal()?;
        Ok(Self { contract, verifier })
    }
}

/// A client for the configured endpoints.
pub fn client(settings: &config::Chain) -> Result<Client> {
    let transport = Transport::new(&settings.rpc_urls).fatal()?;
    Ok(Arc::new(Provider::new(transport)))
}

async fn newest_block(client: &Client) -> Result<Head> {
    let block = client.get_block(BlockNumber::Latest).await.map_err(rpc_fault)?;
    let block = block.context("the RPC endpoint has no newest block").transient()?;
    let number = block.number.unwrap_or_default().as_u64();
    let time = to_u64("its newest block's time", block.timestamp)?;
    if number > MAX_HEIGHT || time > MAX_TIME {
        let newest = format!("its newest block is number {number}, of the time {time}");
        return Err(Fault::Transient(anyhow!("the RPC endpoint says that {newest}")));
    }
    Ok(Head {
        number,
        hash: block.hash.unwrap_or_default(),
        time,
        base_fee: block.base_fee_per_gas.unwrap_or_default(),
    })
}

/// The hash of block 0. The tag `earliest` would not do: where history is pruned it is the oldest block that is left.
async fn first_block(client: &Client) -> Result<H256> {
    let block = client.get_block(0).await.map_err(rpc_fault)?;
    block.and_then(|block| block.hash).context("the RPC endpoint does not tell of block 0").transient()
}

/// # Errors
/// `Fatal` if the endpoint serves another chain.
pub async fn check_chain_id(client: &Client, expected: u64) -> Result<()> {
    let chain_id = client.get_chainid().await.map_err(rpc_fault)?;
    if chain_id == U256::from(expected) {
        return Ok(());
    }
    Err(Fault::Fatal(anyhow!(
        "the RPC endpoint serves chain {chain_id}, NOVA_CHAIN_ID is {expected}: one of them is wrong"
    )))
}

/// The Consumption contract and the Modeler contract that a Competition names.
async fn named_by(competition: &Competition<Provider<Transport>>) -> Result<(Address, Address)> {
    let (client, at) = (competition.client(), competition.address());
    let named = |method| (method, "NOVA_CHALLENGE_ADDRESS", at);
    let consumption = ask(&client, competition.consumption_contract(), named("consumptionContract")).await?;
    let modeler = ask(&client, competition.modeler_contract(), named("modelerContract")).await?;
    Ok((consumption, modeler))
}

/// The time from request to answer; `None` where the Competition does not say.
async fn sla_of(competition: &Competition<Provider<Transport>>) -> Result<Option<Duration>> {
    let client = competition.client();
    Ok(match ask_if_known(&client, competition.get_sa_params(), "getSAParams").await? {
        // The struct's third field is `requestExpirationTime`.
        Some((_, _, expiration, ..)) if !expiration.is_zero() => {
            Some(Duration::from_secs(expiration.min(MAX_SLA.into()).as_u64()))
        }
        _ => None,
    })
}

/// A number as an endpoint tells it, which no chain makes so large.
fn to_u64(what: &str, number: U256) -> Result<u64> {
    u64::try_from(number).map_err(|_| Fault::Transient(anyhow!("the RPC endpoint says that {what} is {number}")))
}

fn rpc_fault(error: ethers::providers::ProviderError) -> Fault {
    Fault::Transient(anyhow!("{error}"))
}

/// Lower-case `0x…`: the form of the ledger.
fn to_hex(value: impl std::fmt::LowerHex) -> String {
    format!("{value:#x}")
}

fn address(name: &str, value: &str) -> Result<Address> {
    value.parse().map_err(|_| Fault::Fatal(anyhow!("{name}: {value} is not an address (0x and 40 hex digits)")))
}

fn request_id(id: &str) -> Result<H256> {
    id.parse().map_err(|_| Fault::Permanent(anyhow!("{id} is not a request id (0x and 64 hex digits)")))
}
