//! The keys of a run, which are made for it. They get money and give back what is left; until they have, they are in a file, so
//! that a run that was killed costs nothing: the next one finds them.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use ethers::{
    core::rand,
    providers::Middleware as _,
    signers::{LocalWallet, Signer as _},
    types::{Address, U256},
};

use crate::{
    contracts::{Consumption, PaymentToken},
    deploy::Deployment,
    keys::private_key,
    rpc::Node,
    sender::{Call, Sender},
};

/// How often giving back is tried, and how long it waits in between: a node that is late shows more than there is.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_secs(3);

/// Keys that have money, or may have.
#[derive(Debug)]
pub struct WalletPool {
    file: PathBuf,
    chain_id: u64,
    wallets: Vec<LocalWallet>,
}

impl WalletPool {
    /// Beside the file of addresses, one for each chain. Finds what a run has left that was killed.
    pub fn open(addresses: &Path, chain_id: u64) -> Result<Self> {
        let file = addresses.with_extension(format!("{chain_id}.keys"));
        let named = || format!("cannot read {}", file.display());
        let text = match fs::read_to_string(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            text => text.with_context(named)?,
        };
        let mut wallets = Vec::new();
        for (number, line) in text.lines().enumerate() {
            // The parse error may quote the key.
            let wallet: Option<LocalWallet> = line.parse().ok();
            let wallet = wallet.with_context(|| format!("line {} of {} is no key", number + 1, file.display()))?;
            wallets.push(wallet.with_chain_id(chain_id));
        }
        Ok(Self { file, chain_id, wallets })
    }

    /// A new key. It is in the file before anybody can send it anything.
    pub fn add(&mut self) -> Result<LocalWallet> {
        let wallet = LocalWallet::new(&mut rand::thread_rng()).with_chain_id(self.chain_id);
        let named = || format!("cannot write {}", self.file.display());
        let mut options = fs::OpenOptions::new();
        let mut out = options.append(true).create(true).mode(0o600).open(&self.file).with_context(named)?;
        writeln!(out, "{}", private_key(&wallet)).and_then(|()| out.sync_all()).with_context(named)?;
        self.wallets.push(wallet.clone());
        Ok(wallet)
    }

    /// Sends what is left to `home`: deposits and tokens of the contracts, then the chain's currency. The file goes when
    /// all is back.
    pub async fn give_back(&mut self, node: &Node, contracts: Option<&Deployment>, home: Address) -> Result<()> {
        let mut failed = None;
        for wallet in &self.wallets {
            let sender = Sender::new(node.clone(), wallet.clone());
            if let Err(error) = give_back(&sender, node, contracts, home).await {
                tracing::error!("{:?} keeps what it has: {error:#}", sender.address());
                failed = Some(sender.address());
            }
        }
        if let Some(address) = failed {
            let file = self.file.display();
            return Err(anyhow!(
                "not all of the money is back, {address:?} has some: the next run tries again with {file}"
            ));
        }
        self.wallets.clear();
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.file.display()))
            }
            _ => Ok(()),
        }
    }
}

async fn give_back(sender: &Sender, node: &Node, contracts: Option<&Deployment>, home: Address) -> Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        let outcome = give_back_once(sender, node, contracts, home).await;
        if outcome.is_ok() || tries == TRIES {
            return outcome;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether an account has nothing. A node that is late may not know yet what was sent to it: so it is asked once more.
async fn is_empty(node: &Node, address: Address) -> Result<bool> {
    if !node.get_balance(address, None).await?.is_zero() {
        return Ok(false);
    }
    tokio::time::sleep(PAUSE).await;
    Ok(node.get_balance(address, None).await?.is_zero())
}

async fn give_back_once(sender: &Sender, node: &Node, contracts: Option<&Deployment>, home: Address) -> Result<()> {
    if is_empty(node, sender.address()).await? {
        return Ok(());
    }
    if let Some(contracts) = contracts {
        give_tokens_back(sender, node, contracts, home).await?;
    }
    if let Some(value) = sender.send_rest(home).await? {
        tracing::info!("{:?} has given back {value} wei", sender.address());
    }
    Ok(())
}

async fn give_tokens_back(sender: &Sender, node: &Node, contracts: &Deployment, home: Address) -> Result<()> {
    let consumption = Consumption::new(contracts.consumption, node.clone());
    let token = PaymentToken::new(contracts.token, node.clone());
    let deposit: U256 = consumption.balances(sender.address()).call().await?;
    let held: U256 = token.balance_of(sender.address()).call().await?;
    if !deposit.is_zero() {
        sender.send(Call::new("withdraw the deposit", &consumption.withdraw_payment_token())).await?;
    }
    let all = deposit + held;
    if !all.is_zero() {
        sender.send(Call::new("give back tokens", &token.transfer(home, all))).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_private_and_found_again_until_they_have_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let addresses = folder.path().join("smoke.json");
        let mut purse = WalletPool::open(&addresses, 7).unwrap();
        let made = [purse.add().unwrap(), purse.add().unwrap()];
        assert_eq!(fs::metadata(&purse.file).unwrap().permissions().mode() & 0o777, 0o600);
        let found = WalletPool::open(&addresses, 7).unwrap();
        assert_eq!(found.wallets, made);
        assert!(WalletPool::open(&addresses, 8).unwrap().wallets.is_empty());

        fs::write(&purse.file, "0xdead\n").unwrap();
        let error = format!("{:#}", WalletPool::open(&addresses, 7).unwrap_err());
        assert!(error.contains("line 1") && !error.contains("dead"), "{error}");
    }
}
