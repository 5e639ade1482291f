//! `devnet up` and `devnet serve`: the devnet, or its services alone, as a process.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use clap::Args;
use ethers::types::Address;
use tokio::signal::unix::{SignalKind, signal};

use super::{TermsArgs, report};
use crate::{
    anvil::AnvilOptions,
    devnet::{Devnet, Options},
    fault::Fault,
    network::ServicesAt,
    services::Services,
    state::{self, State},
};

#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// A node that runs already, with an empty chain and anvil's accounts, as hardhat's has them, instead of anvil.
    #[arg(long, value_name = "URL", conflicts_with_all = ["port", "block_time"])]
    rpc: Option<String>,
    /// The chain's port; 0 for any free one.
    #[arg(long, value_name = "PORT", default_value_t = 8545)]
    port: u16,
    /// Seconds from block to block.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.25)]
    block_time: f64,
    /// The folder with the model files; its verifier is registered if it has one.
    #[arg(long, value_name = "FOLDER", default_value = "model_files")]
    model_files: PathBuf,
    /// Where to write the daemon's settings. The state file `devnet.json` goes beside it.
    #[arg(long, value_name = "FILE", default_value = ".env")]
    env_file: PathBuf,
    #[command(flatten)]
    terms: TermsArgs,
    #[command(flatten)]
    services: ServicesArgs,
}

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// What `devnet deploy` wrote about the network; where the services are is added to it.
    #[arg(long, value_name = "FILE", default_value = "devnet.json")]
    state_file: PathBuf,
    #[command(flatten)]
    services: ServicesArgs,
}

/// How Plumber, Pulse and the gateway are to be.
#[derive(Debug, Args)]
struct ServicesArgs {
    /// Where to listen; 0.0.0.0 to be reached from outside of a container. Anybody who reaches a devnet may do anything
    /// to it.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// The port of Plumber, Pulse and the IPFS gateway; 0 for any free one.
    #[arg(long, value_name = "PORT", default_value_t = 8546)]
    services_port: u16,
    /// Make Plumber answer badly for a wallet: KIND is unknown, error, html, half-json, nan, string, missing, extra
    /// or out-of-range. May be given more than once.
    #[arg(long, value_name = "WALLET=KIND", value_parser = Fault::parse_assignment)]
    fault: Vec<(Address, Fault)>,
}

impl UpArgs {
    pub(super) async fn run(self) -> Result<()> {
        until_signal(self.serve()).await
    }

    async fn serve(self) -> Result<()> {
        let mut devnet = Devnet::start(self.options()).await?;
        let state_file = self.env_file.parent().unwrap_or(Path::new("")).join("devnet.json");
        self.write_files(&devnet, &state_file)?;
        let verifier = devnet.verifier.map_or("none".to_owned(), |verifier| format!("{verifier:?}"));
        report::print(&format!(
            "devnet ready: chain {} (id {}), services {}, modeler {:?}, verifier {verifier}, settings {}, state {}",
            devnet.rpc_url(),
            devnet.network.deployment.chain_id,
            devnet.services.url(),
            devnet.network.deployment.modeler,
            self.env_file.display(),
            state_file.display(),
        ))?;
        devnet.chain_stopped().await;
        bail!("anvil stopped by itself")
    }

    fn options(&self) -> Options {
        let anvil = AnvilOptions {
            host: self.services.host,
            port: self.port,
            block_time: self.block_time,
            ..AnvilOptions::default()
        };
        Options {
            node: self.rpc.clone(),
            anvil,
            terms: self.terms.terms(),
            services_port: self.services.services_port,
            model_files: Some(self.model_files.clone()),
            faults: self.services.fault.clone(),
            ..Options::default()
        }
    }

    fn write_files(&self, devnet: &Devnet, state_file: &Path) -> Result<()> {
        let mut settings = devnet.env();
        settings.push(("NOVA_MODEL_FILES_PATH", self.model_files.display().to_string()));
        state::write_env(&self.env_file, &settings)?;
        let state = State {
            rpc_url: devnet.rpc_url(),
            services: devnet.network.services.clone(),
            anvil_accounts: true,
            deployment: devnet.network.deployment.clone(),
        };
        state.write(state_file)
    }
}

impl ServeArgs {
    pub(super) async fn run(self) -> Result<()> {
        until_signal(self.serve()).await
    }

    async fn serve(self) -> Result<()> {
        let mut state = State::read(&self.state_file)?;
        let api_key = Options::default().api_key;
        let address = SocketAddr::new(self.services.host, self.services.services_port);
        let services = Services::start_at(address, &api_key).await?;
        for (wallet, fault) in &self.services.fault {
            services.set_fault(*wallet, Some(*fault));
        }
        services.set_multisig(state.deployment.signer, state.deployment.multisig);
        state.services = Some(ServicesAt { url: services.url(), api_key: api_key.clone() });
        state.write(&self.state_file)?;
        report::settings(&[
            ("NOVA_PLUMBER_HOST", services.url()),
            ("NOVA_PULSE_HOST", services.url()),
            ("NOVA_IPFS_GATEWAY", services.url()),
            ("NOVA_SPECTRAL_API_KEY", api_key),
        ])?;
        std::future::pending().await
    }
}

/// Works until Ctrl-C or SIGTERM, which from here on no longer kill us: what the work holds is dropped in order.
pub(super) async fn until_signal(work: impl Future<Output = Result<()>>) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}
