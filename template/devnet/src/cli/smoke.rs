//! `devnet smoke`, and `devnet public-node` to try it on.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use ethers::types::U256;

use super::{report, up::until_signal};
use crate::{
    anvil::{Anvil, AnvilOptions},
    deploy, keys,
    public_node::{Manners, PublicNode},
    smoke::{self, Options, Program},
    state,
};

#[derive(Debug, Args)]
pub(super) struct SmokeArgs {
    /// The node. Without one, a chain is started for the run.
    #[arg(long, value_name = "URL", env = "SMOKE_RPC_URL", hide_env_values = true)]
    rpc: Option<String>,
    /// A file with the private key that pays. What is left comes back to it.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The daemon's image; the project's name if not given, as compose builds it.
    #[arg(long, value_name = "NAME", conflicts_with = "native")]
    image: Option<String>,
    /// Run the program instead of the image.
    #[arg(long)]
    native: bool,
    /// The program; the `nova` beside this one if not given.
    #[arg(long, value_name = "FILE", requires = "native")]
    nova: Option<PathBuf>,
    /// How many requests are made, each by a wallet of its own.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    requests: u64,
    /// The folder with what `nova setup` has made.
    #[arg(long, value_name = "FOLDER", default_value = "model_files")]
    model_files: PathBuf,
    /// Where the addresses of the contracts are kept: the next run uses them again.
    #[arg(long, value_name = "FILE", default_value = "smoke.json")]
    addresses: PathBuf,
    /// What the daemon's key gets, in the chain's currency. What it has left comes back.
    #[arg(long, value_name = "AMOUNT", default_value = "0.01", value_parser = deploy::parse_funds)]
    fund: U256,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct PublicNodeArgs {
    /// The node's port; 0 for any free one.
    #[arg(long, value_name = "PORT", default_value_t = 8547)]
    port: u16,
    /// The chain's id: arbitrum-sepolia's, if nothing is said.
    #[arg(long, value_name = "ID", default_value_t = 421_614)]
    chain_id: u64,
    /// What it is like: names, separated by commas (nitro, alchemy-free, …; a name that is none lists them).
    #[arg(long, value_name = "NAMES", default_value = "")]
    like: String,
    /// A chain that runs already, instead of one of its own.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Where to write a private key that has money there.
    #[arg(long, value_name = "FILE", default_value = "public-node.key")]
    key_file: PathBuf,
}

impl SmokeArgs {
    pub(super) async fn run(self) -> Result<()> {
        let options = Options {
            program: self.program()?,
            rpc: self.rpc,
            key_file: self.key_file,
            requests: self.requests,
            model_files: self.model_files,
            addresses: self.addresses,
            fund: self.fund,
        };
        report::smoke(&smoke::run(&options).await?, self.json)
    }

    fn program(&self) -> Result<Program> {
        if !self.native {
            let image = self.image.clone().map_or_else(project_name, Ok)?;
            return Ok(Program::Image(image));
        }
        let beside = || Ok::<_, std::io::Error>(std::env::current_exe()?.with_file_name("nova"));
        let nova = self.nova.clone().map_or_else(beside, Ok)?;
        // Found as the daemon finds it, from here: it is run in a folder of its own.
        let here = std::path::absolute("ezkl/.venv/bin/python")?;
        let named = std::env::var_os("NOVA_PYTHON").map(PathBuf::from);
        let python = named.or_else(|| here.is_file().then_some(here));
        Ok(Program::Native { nova: std::path::absolute(nova)?, python })
    }
}

/// The name in the manifest of the project that we are called in.
fn project_name() -> Result<String> {
    let manifest = fs::read_to_string("Cargo.toml").unwrap_or_default();
    let mut package =
        manifest.lines().skip_while(|line| *line != "[package]").skip(1).take_while(|line| !line.starts_with('['));
    let name = package.find_map(|line| line.strip_prefix("name = ")).map(|name| name.trim_matches('"'));
    name.map(str::to_owned).context("which image? name it with --image, or run the program with --native")
}

impl PublicNodeArgs {
    pub(super) async fn run(self) -> Result<()> {
        until_signal(self.serve()).await
    }

    async fn serve(self) -> Result<()> {
        let manners = Manners::like(&self.like).map_err(anyhow::Error::msg)?;
        if let Some(upstream) = &self.upstream {
            let node = PublicNode::start(upstream, self.port, manners).await?;
            report::print(&format!("public node ready: {}, in front of {upstream}", node.url()))?;
            return std::future::pending().await;
        }
        write_key(&self.key_file, self.chain_id)?;
        let options = AnvilOptions { chain_id: self.chain_id, ..AnvilOptions::default() };
        let mut chain = tokio::task::spawn_blocking(move || Anvil::start(&options)).await??;
        let node = PublicNode::start(&chain.url(), self.port, manners).await?;
        report::print(&format!(
            "public node ready: {} (id {}), key {}",
            node.url(),
            self.chain_id,
            self.key_file.display()
        ))?;
        chain.stopped().await;
        bail!("anvil stopped by itself")
    }
}

/// Writes the key of an account that anvil funds. Any other file is left alone.
fn write_key(file: &Path, chain_id: u64) -> Result<()> {
    let key = format!("{}\n", keys::private_key(&keys::anvil_account(0, chain_id)?));
    match fs::read_to_string(file) {
        Ok(text) if text != key => bail!("{} is there already: name another file with --key-file", file.display()),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot read {}", file.display()))
        }
        _ => state::write_private(file, &key),
    }
}
