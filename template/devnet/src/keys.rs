//! The keys of those who take part.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use ethers::signers::{LocalWallet, MnemonicBuilder, Signer as _, coins_bip39::English};

use crate::{rpc::Node, sender::Sender};

/// The words behind anvil's accounts, public and worth nothing.
const ANVIL_WORDS: &str = "test test test test test test test test test test test junk";

/// The anvil account that is the daemon's key on a devnet.
pub const DAEMON_ACCOUNT: u32 = 3;

/// Who acts besides the daemon.
#[derive(Clone, Debug)]
pub struct Accounts {
    /// Deploys and owns the contracts.
    pub admin: Arc<Sender>,
    /// Makes requests and pays for them.
    pub consumer: Arc<Sender>,
    /// Asks for proofs.
    pub validator: Arc<Sender>,
}

impl Accounts {
    /// Three of anvil's accounts.
    pub fn of_anvil(node: &Node, chain_id: u64) -> Result<Self> {
        let sender = |account| -> Result<Arc<Sender>> {
            Ok(Arc::new(Sender::new(node.clone(), anvil_account(account, chain_id)?)))
        };
        Ok(Self { admin: sender(0)?, consumer: sender(1)?, validator: sender(2)? })
    }

    /// One key that plays all parts.
    pub fn single(node: &Node, wallet: LocalWallet) -> Self {
        let sender = Arc::new(Sender::new(node.clone(), wallet));
        Self { admin: sender.clone(), consumer: sender.clone(), validator: sender }
    }
}

/// One of anvil's ten accounts, which it funds.
pub fn anvil_account(index: u32, chain_id: u64) -> Result<LocalWallet> {
    let wallet = MnemonicBuilder::<English>::default().phrase(ANVIL_WORDS).index(index)?.build()?;
    Ok(wallet.with_chain_id(chain_id))
}

/// The private key of a wallet as `0x` and 64 hex digits.
pub fn private_key(wallet: &LocalWallet) -> String {
    let bytes = wallet.signer().to_bytes();
    format!("0x{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// Reads a private key from a file that holds nothing else.
pub fn read_key_file(file: &Path, chain_id: u64) -> Result<LocalWallet> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    // The parse error may quote the key, so it is left out.
    let wallet: Option<LocalWallet> = text.trim().parse().ok();
    let wallet = wallet
        .with_context(|| format!("{} holds no private key: expected 64 hex digits and nothing else", file.display()))?;
    Ok(wallet.with_chain_id(chain_id))
}
