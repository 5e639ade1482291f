//! The key that signs: raw, or out of a keystore. No error quotes either, nor what opens it.

use anyhow::anyhow;
use ethers::signers::{LocalWallet, Signer as _};
use secrecy::ExposeSecret as _;

use super::to_hex;
use crate::config::WalletKey;
use crate::fault::{Fault, Result};

/// The wallet of a key, for a chain.
pub async fn open(key: &WalletKey, chain_id: u64) -> Result<LocalWallet> {
    let wallet = match key.clone() {
        // The parser's own error may quote the key.
        WalletKey::Raw(key) => {
            key.expose_secret().trim_start_matches("0x").parse().map_err(|_| {
                Fault::Fatal(anyhow!("NOVA_CLI_WALLET_PRIVATE_KEY is not a private key (32 bytes in hex)"))
            })?
        }
        WalletKey::Keystore { file, password } => {
            let name = file.display().to_string();
            // Deriving its key is meant to take a while.
            let opening = move || LocalWallet::decrypt_keystore(file, password.expose_secret());
            let opened = tokio::task::spawn_blocking(opening).await.map_err(|panic| Fault::Fatal(anyhow!(panic)))?;
            opened.map_err(|error| {
                Fault::Fatal(anyhow!("the keystore {name} cannot be opened: {}", keystore_problem(&error)))
            })?
        }
    };
    Ok(wallet.with_chain_id(chain_id))
}

/// The wallet's address and where its key is from: the line of `doctor`.
pub async fn describe(key: &WalletKey) -> Result<String> {
    let address = to_hex(open(key, 1).await?.address());
    Ok(match key {
        WalletKey::Raw(_) => format!("{address}, its key is given as it is"),
        WalletKey::Keystore { file, .. } => format!("{address}, its key is in the keystore {}", file.display()),
    })
}

/// Errors about the file's form may quote it.
fn keystore_problem(error: &impl std::fmt::Display) -> &'static str {
    if error.to_string().to_lowercase().contains("mac mismatch") {
        "the password in NOVA_CLI_WALLET_KEYSTORE_PASSWORD_FILE is not the one it was made with"
    } else {
        "it is damaged, or of another form than geth's version 3"
    }
}

#[cfg(test)]
#[path = "wallet_tests.rs"]
mod tests;
