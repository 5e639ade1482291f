//! Deploying the contracts, on any chain.

use std::{fmt, str::FromStr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ethers::{
    abi::Token,
    providers::Middleware as _,
    types::{Address, U256},
    utils::{get_contract_address, parse_ether},
};
use serde::{Deserialize, Serialize};

use crate::{
    contracts::{
        COMPETITION_ABI, COMPETITION_BYTECODE, CONSUMPTION_ABI, CONSUMPTION_BYTECODE, CONSUMPTIONSTRING_ABI,
        CONSUMPTIONSTRING_BYTECODE, Competition, Consumption, MODELER_ABI, MODELER_BYTECODE, Modeler, PAYMENTTOKEN_ABI,
        PAYMENTTOKEN_BYTECODE, PROOFREGISTRY_ABI, PROOFREGISTRY_BYTECODE, PaymentToken, WALLETSIMPLE_ABI,
        WALLETSIMPLE_BYTECODE,
    },
    rpc::Node,
    sender::{Call, Sender},
    wait::wait_for,
};

/// How long a node may take to know of tokens that were just sent.
const TOKENS_WITHIN: Duration = Duration::from_secs(60);

/// How an answer goes on chain: which of the two Consumption contracts is deployed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InferenceEncoding {
    /// The documented contract, whose requests are read back flat.
    #[default]
    Uint256,
    /// The newer interface, whose requests are read back as one struct.
    String,
}

impl FromStr for InferenceEncoding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "uint256" => Ok(Self::Uint256),
            "string" => Ok(Self::String),
            other => Err(format!("`{other}` is neither uint256 nor string")),
        }
    }
}

impl fmt::Display for InferenceEncoding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Uint256 => "uint256",
            Self::String => "string",
        })
    }
}

/// The terms on which the contracts are deployed.
#[derive(Clone, Debug)]
pub struct CompetitionParams {
    pub encoding: InferenceEncoding,
    /// Seconds; 0 leaves it to the contract's default.
    pub sla_seconds: u64,
    /// What one request costs, in the token's smallest unit.
    pub fee: U256,
    /// Whether the modeler answers through a MultiSig wallet or with its key itself.
    pub multisig: bool,
    /// The modeler's key is given what it lacks of this, to pay for gas.
    pub signer_funds: U256,
}

impl Default for CompetitionParams {
    fn default() -> Self {
        Self {
            encoding: InferenceEncoding::default(),
            sla_seconds: 600,
            fee: U256::exp10(18),
            multisig: true,
            signer_funds: U256::exp10(16),
        }
    }
}

/// Where everything is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deployment {
    pub chain_id: u64,
    /// Nothing of ours happened before this block.
    pub block: u64,
    pub encoding: InferenceEncoding,
    pub token: Address,
    pub competition: Address,
    pub consumption: Address,
    /// The contract of that name, not the modeler's own address.
    pub modeler_contract: Address,
    pub proof_registry: Address,
    /// The daemon's key.
    pub signer: Address,
    /// The modeler's address: its MultiSig, else its key.
    pub modeler: Address,
    pub multisig: Option<Address>,
}

/// Deploys all contracts with the admin's key, makes `signer`'s modeler one of the top N, lets `validator` challenge
/// it, gives `consumer` a deposit, and opens the window.
pub async fn deploy(
    node: &Node,
    admin: &Sender,
    consumer: &Sender,
    validator: Address,
    signer: Address,
    terms: &CompetitionParams,
) -> Result<Deployment> {
    let deployment = create(node, admin, signer, terms).await?;
    arrange(node, admin, consumer.address(), validator, terms, &deployment).await?;
    deposit(node, consumer, &deployment).await?;
    Ok(deployment)
}

/// Creates the contracts, all in one go: their addresses follow from the admin's nonces.
pub(crate) async fn create(
    node: &Node,
    admin: &Sender,
    signer: Address,
    terms: &CompetitionParams,
) -> Result<Deployment> {
    let chain_id = node.get_chainid().await.context("cannot read the chain id")?.as_u64();
    let block = node.get_block_number().await?.as_u64();
    let nonce = admin.next_nonce().await?;
    let address = |index: u64| get_contract_address(admin.address(), nonce + index);
    let wallet = address(5);
    let deployment = Deployment {
        chain_id,
        block,
        encoding: terms.encoding,
        token: address(0),
        competition: address(1),
        modeler_contract: address(2),
        consumption: address(3),
        proof_registry: address(4),
        signer,
        modeler: if terms.multisig { wallet } else { signer },
        multisig: terms.multisig.then_some(wallet),
    };
    let receipts = admin.send_all(creations(&deployment, admin.address(), terms)?).await?;
    for (index, receipt) in receipts.iter().enumerate() {
        ensure!(
            receipt.contract_address == Some(address(index as u64)),
            "somebody else used the key {:?} while the contracts were deployed",
            admin.address()
        );
    }
    Ok(deployment)
}

/// Its place among them.
const CONSUMPTION: usize = 3;

/// In the order of the addresses.
fn creations(deployment: &Deployment, admin: Address, terms: &CompetitionParams) -> Result<Vec<Call>> {
    let (consumption_abi, consumption_bytecode) = match terms.encoding {
        InferenceEncoding::Uint256 => (&CONSUMPTION_ABI, &CONSUMPTION_BYTECODE),
        InferenceEncoding::String => (&CONSUMPTIONSTRING_ABI, &CONSUMPTIONSTRING_BYTECODE),
    };
    let competition = Token::Address(deployment.competition);
    let token = Token::Address(deployment.token);
    let supply = Token::Uint(terms.fee * 1_000_000_000u64);
    let mut calls = vec![
        Call::create("PaymentToken", &PAYMENTTOKEN_ABI, &PAYMENTTOKEN_BYTECODE, &[supply])?,
        Call::create("Competition", &COMPETITION_ABI, &COMPETITION_BYTECODE, &[competition_terms(deployment, terms)])?,
        Call::create("Modeler", &MODELER_ABI, &MODELER_BYTECODE, &[])?,
        Call::create("Consumption", consumption_abi, consumption_bytecode, &[competition.clone(), token])?,
        Call::create("ProofRegistry", &PROOFREGISTRY_ABI, &PROOFREGISTRY_BYTECODE, &[competition])?,
    ];
    if terms.multisig {
        calls.push(multisig_creation(deployment.signer, admin)?);
    }
    Ok(calls)
}

/// A MultiSig wallet that one of two keys acts for.
pub(crate) fn multisig_creation(signer: Address, other: Address) -> Result<Call> {
    let signers = [Token::FixedArray(vec![Token::Address(signer), Token::Address(other)])];
    Call::create("WalletSimple", &WALLETSIMPLE_ABI, &WALLETSIMPLE_BYTECODE, &signers)
}

/// The struct `SAParams`.
fn competition_terms(deployment: &Deployment, terms: &CompetitionParams) -> Token {
    let none = || Token::Uint(U256::zero());
    Token::Tuple(vec![
        none(),
        Token::Uint(terms.fee),
        Token::Uint(terms.sla_seconds.into()),
        Token::String(terms.encoding.to_string()),
        Token::Uint(U256::from(u64::MAX)),
        Token::Address(deployment.competition),
        Token::Address(deployment.token),
        none(),
        none(),
        none(),
    ])
}

/// What the admin sets up between the contracts.
pub(crate) async fn arrange(
    node: &Node,
    admin: &Sender,
    consumer: Address,
    validator: Address,
    terms: &CompetitionParams,
    deployment: &Deployment,
) -> Result<()> {
    let competition = Competition::new(deployment.competition, node.clone());
    let modeler = Modeler::new(deployment.modeler_contract, node.clone());
    let consumption = Consumption::new(deployment.consumption, node.clone());
    let token = PaymentToken::new(deployment.token, node.clone());
    let mut calls = vec![
        Call::new(
            "name the contracts to the Competition",
            &competition.set_contracts(deployment.modeler_contract, deployment.consumption),
        ),
        Call::new("set the top N modelers", &competition.set_top_n_modelers(vec![deployment.modeler])),
        Call::new("allow the validator", &modeler.set_validator(validator, true)),
        Call::new("open the window", &consumption.toggle_consumption_window(true)),
    ];
    if consumer != admin.address() {
        let half = terms.fee * 500_000_000u64;
        calls.push(Call::new("give the consumer tokens", &token.transfer(consumer, half)));
    }
    let funds = node.get_balance(deployment.signer, None).await?;
    if funds < terms.signer_funds {
        calls.push(Call::pay(deployment.signer, terms.signer_funds - funds));
    }
    admin.send_all(calls).await?;
    Ok(())
}

/// Another Consumption contract with an open window, in which the consumer has a deposit. The Competition does not name it.
pub(crate) async fn another_consumption(
    node: &Node,
    admin: &Sender,
    consumer: &Sender,
    first: &Deployment,
) -> Result<Address> {
    let terms = CompetitionParams { encoding: first.encoding, ..CompetitionParams::default() };
    let creation = creations(first, admin.address(), &terms)?.swap_remove(CONSUMPTION);
    let created = admin.send(creation).await?;
    let address = created.contract_address.context("the contract was not created")?;
    let consumption = Consumption::new(address, node.clone());
    let token = PaymentToken::new(first.token, node.clone());
    admin.send(Call::new("open the window", &consumption.toggle_consumption_window(true))).await?;
    let tokens = token.transfer(consumer.address(), terms.fee * 1_000u64);
    admin.send(Call::new("give the consumer tokens", &tokens)).await?;
    deposit(node, consumer, &Deployment { consumption: address, ..first.clone() }).await?;
    Ok(address)
}

/// Deposits all tokens that the consumer has.
async fn deposit(node: &Node, consumer: &Sender, deployment: &Deployment) -> Result<()> {
    let token = PaymentToken::new(deployment.token, node.clone());
    let consumption = Consumption::new(deployment.consumption, node.clone());
    // A node that is late does not know of them yet.
    let amount = wait_for(node, "the consumer's tokens", TOKENS_WITHIN, || async {
        let amount = token.balance_of(consumer.address()).call().await?;
        Ok((!amount.is_zero()).then_some(amount))
    })
    .await?;
    let approve = token.approve(deployment.consumption, amount);
    consumer.send(Call::new("approve the deposit", &approve)).await?;
    consumer.send(Call::new("deposit", &consumption.deposit_payment_token(amount))).await?;
    Ok(())
}

/// An amount of the chain's currency in its main unit, `0.02`.
pub fn parse_funds(text: &str) -> Result<U256, String> {
    parse_ether(text).map_err(|error| format!("`{text}` is no amount: {error}"))
}
