//! What the commands tell each other: a state file about the network, and the daemon's `.env`.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use ethers::providers::Middleware as _;
use serde::{Deserialize, Serialize};

use crate::{
    deploy::Deployment,
    keys::{self, Accounts},
    network::{Network, ServicesAt},
    rpc,
};

/// The first line of an `.env` that may be replaced.
const ENV_HEADER: &str = "# Written by `devnet up`, which replaces it at each start.";

/// A network that was deployed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    pub rpc_url: String,
    /// None where no Plumber is known.
    pub services: Option<ServicesAt>,
    /// Whether consumer and validator are anvil's public accounts.
    pub anvil_accounts: bool,
    pub deployment: Deployment,
}

impl State {
    /// Reads a state file.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file)
            .with_context(|| format!("cannot read {}: `devnet up` or `devnet deploy` writes it", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))
    }

    /// Writes a state file. An RPC URL may hold a key, so nobody else may read it.
    pub fn write(&self, file: &Path) -> Result<()> {
        write_private(file, &format!("{}\n", serde_json::to_string_pretty(self)?))
    }

    /// Connects to the network, with the key of a file where one is named.
    pub async fn connect(&self, rpc_url: Option<&str>, key_file: Option<&Path>) -> Result<Network> {
        let node = rpc::connect(rpc_url.unwrap_or(&self.rpc_url))?;
        let expected = self.deployment.chain_id;
        let chain_id = node.get_chainid().await.context("is the devnet up?")?.as_u64();
        ensure!(chain_id == expected, "the contracts are on chain {expected}, this is {chain_id}");
        let code = node.get_code(self.deployment.competition, None).await?;
        ensure!(!code.is_empty(), "the contracts are not on this chain: was the devnet restarted?");
        let parties = match key_file {
            Some(file) => Accounts::single(&node, keys::read_key_file(file, chain_id)?),
            None if self.anvil_accounts => Accounts::of_anvil(&node, chain_id)?,
            None => bail!("whose key? name the file that holds it with --key-file"),
        };
        let (deployment, services) = (self.deployment.clone(), self.services.clone());
        Ok(Network { node, deployment, parties, services })
    }
}

/// Writes the daemon's settings. A file that somebody else wrote is left alone.
pub fn write_env(file: &Path, settings: &[(&str, String)]) -> Result<()> {
    match fs::read_to_string(file) {
        Ok(text) if !text.starts_with(ENV_HEADER) => bail!(
            "{} was not written by `devnet up`: move it away, or name another file with --env-file",
            file.display()
        ),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot read {}", file.display()));
        }
        _ => {}
    }
    let lines = settings.iter().map(|(name, value)| format!("{name}={value}\n"));
    write_private(file, &format!("{ENV_HEADER}\n{}", lines.collect::<String>()))
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(file: &Path, text: &str) -> Result<()> {
    let named = || format!("cannot write {}", file.display());
    // Replaced rather than overwritten: an older file may have had wider permissions.
    if let Err(error) = fs::remove_file(file)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error).with_context(named);
    }
    let mut options = fs::OpenOptions::new();
    let mut out = options.write(true).create_new(true).mode(0o600).open(file).with_context(named)?;
    out.write_all(text.as_bytes()).with_context(named)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_env_file_is_private_and_replaced_only_if_it_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(".env");
        for value in ["1", "2"] {
            write_env(&file, &[("NOVA_CHAIN_ID", value.to_owned())]).unwrap();
            assert!(fs::read_to_string(&file).unwrap().ends_with(&format!("NOVA_CHAIN_ID={value}\n")));
        }
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&file, "NOVA_SPECTRAL_API_KEY=precious\n").unwrap();
        let error = write_env(&file, &[]).unwrap_err().to_string();
        assert!(error.contains("was not written by `devnet up`"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "NOVA_SPECTRAL_API_KEY=precious\n");
    }
}
