//! Who we are on chain: a wallet, and the MultiSig it may act through (whose address is then the modeler's).

use std::fmt;

use anyhow::{Context as _, anyhow};
use ethers::abi::AbiEncode as _;
use ethers::signers::{LocalWallet, Signer as _};
use ethers::types::transaction::eip2718::TypedTransaction;
use ethers::types::{Address, Bytes, H256, U256};
use ethers::utils::keccak256;

use super::call::{ask, call_fault, is_contract_error, knows_newest_blocks};
use super::contracts::{MultiSig, SendMultiSigCall};
use super::{Client, to_hex, wallet};
use crate::config;
use crate::fault::{Classify as _, Fault, Result};
use crate::services::pulse::Pulse;

/// Seconds for which the MultiSig accepts a signed call, as the seed system has it.
const MULTISIG_LIFETIME: u64 = 3600;

type Contract = MultiSig<ethers::providers::Provider<super::Transport>>;

/// The signing key and the MultiSig in front of it.
#[derive(Clone)]
pub struct Account {
    wallet: LocalWallet,
    multisig: Option<Contract>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("wallet", &self.wallet.address()).finish_non_exhaustive()
    }
}

impl Account {
    /// The wallet of the settings, and the MultiSig that the settings name or Pulse knows. Who we were before, as the ledger holds it, we
    /// are still, whatever has become of Pulse: as long as the wallet signs for that modeler.
    pub async fn resolve(
        settings: &config::Chain,
        client: &Client,
        pulse: &Pulse,
        held_modeler: Option<&str>,
    ) -> Result<Self> {
        let wallet = wallet::open(&settings.wallet_key, settings.chain_id).await?;
        if let (None, Some(held)) = (&settings.multisig_address, held_modeler) {
            if held == to_hex(wallet.address()) {
                return Ok(Self { wallet, multisig: None });
            }
            if let Some(multisig) = signed_by(client, held, wallet.address()).await? {
                return Ok(Self { wallet, multisig: Some(multisig) });
            }
        }
        let (named, from) = match &settings.multisig_address {
            Some(named) => (Some(named.clone()), "NOVA_MULTISIG_ADDRESS"),
            None => (pulse.multisig(&to_hex(wallet.address())).await?, "Pulse"),
        };
        let Some(named) = named else { return Ok(Self { wallet, multisig: None }) };
        let at: Address = named
            .parse()
            .map_err(|_| Fault::Fatal(anyhow!("{from} names {named} as MultiSig, which is no address")))?;
        let multisig = MultiSig::new(at, client.clone());
        let listed = ask(client, multisig.is_signer(wallet.address()), ("isSigner", from, at)).await?;
        if !listed {
            return Err(Fault::Fatal(anyhow!(
                "the MultiSig {named} (from {from}) does not list wallet {} as a signer: use the key that made it, or set \
                 NOVA_MULTISIG_ADDRESS to yours",
                to_hex(wallet.address())
            )));
        }
        Ok(Self { wallet, multisig: Some(multisig) })
    }

    /// The address the contracts know us by.
    pub fn modeler(&self) -> Address {
        self.multisig.as_ref().map_or(self.wallet.address(), |multisig| multisig.address())
    }

    /// The address that signs and pays for gas.
    pub fn wallet_address(&self) -> Address {
        self.wallet.address()
    }

    /// # Errors
    /// `Transient` if the MultiSig does not list this wallet as a signer any more: the MultiSig's owner may list it again.
    pub async fn check_listed(&self) -> Result<()> {
        let Some(multisig) = &self.multisig else { return Ok(()) };
        let wallet = self.wallet.address();
        match multisig.is_signer(wallet).call().await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let (multisig, wallet) = (to_hex(multisig.address()), to_hex(wallet));
                Err(Fault::Transient(anyhow!(
                    "the MultiSig {multisig} does not list wallet {wallet} as a signer any more"
                )))
            }
            Err(error) => Err(call_fault(error, "isSigner")),
        }
    }

    /// The next sequence id of the MultiSig as the chain has it; `None` without a MultiSig.
    pub async fn next_sequence_id(&self) -> Result<Option<u64>> {
        match &self.multisig {
            None => Ok(None),
            Some(multisig) => {
                let next = multisig
                    .get_next_sequence_id()
                    .call()
                    .await
                    .map_err(|error| call_fault(error, "getNextSequenceId"))?;
                u64::try_from(next)
                    .map(Some)
                    .map_err(|_| Fault::Permanent(anyhow!("the MultiSig names {next} as its next sequence id")))
            }
        }
    }

    /// Where a call to `target` is really sent, with which data, and until when that is valid: through the MultiSig
    /// under `sequence_id`, or directly.
    pub fn route(&self, target: Address, calldata: Bytes, sequence_id: Option<u64>, chain_time: u64) -> RoutedCall {
        match (&self.multisig, sequence_id) {
            (Some(multisig), Some(sequence_id)) => {
                let expires = chain_time + MULTISIG_LIFETIME;
                let call = SendMultiSigCall {
                    to: target,
                    value: U256::zero(),
                    data: calldata,
                    expire_time: expires.into(),
                    sequence_id: sequence_id.into(),
                    signature: Bytes::new(),
                };
                RoutedCall { to: multisig.address(), data: call.encode().into(), expires: Some(expires) }
            }
            _ => RoutedCall { to: target, data: calldata, expires: None },
        }
    }

    /// The signed bytes of a transaction, and its hash.
    pub fn sign(&self, transaction: &TypedTransaction) -> Result<(Bytes, H256)> {
        let signature = self.wallet.sign_transaction_sync(transaction).context("cannot sign").fatal()?;
        let raw = transaction.rlp_signed(&signature);
        let hash = H256(keccak256(&raw));
        Ok((raw, hash))
    }
}

/// The modeler, if it is a MultiSig that takes this wallet's signature. What does not say so is none.
async fn signed_by(client: &Client, modeler: &str, wallet: Address) -> Result<Option<Contract>> {
    let Ok(at) = modeler.parse::<Address>() else { return Ok(None) };
    let multisig = MultiSig::new(at, client.clone());
    match multisig.is_signer(wallet).call().await {
        Ok(listed) => Ok(listed.then_some(multisig)),
        Err(error) if is_contract_error(&error) => knows_newest_blocks(client).await.map(|()| None),
        Err(error) => Err(call_fault(error, "isSigner")),
    }
}

/// A call in the form in which it is sent.
pub struct RoutedCall {
    pub to: Address,
    pub data: Bytes,
    /// When the MultiSig refuses it, on the chain's clock.
    pub expires: Option<u64>,
}
