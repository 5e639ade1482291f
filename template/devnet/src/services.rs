//! Plumber, Pulse and an IPFS gateway behind one listener.

mod ipfs;
mod plumber;
mod pulse;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use anyhow::{Context as _, Result};
use axum::{Router, body::Bytes, extract::DefaultBodyLimit, routing::get};
use ethers::types::{Address, H256};
use serde_json::{Map, Value};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{fault::Fault, features, rpc};

/// The largest body taken: a ZIP of many proofs.
const MAX_BODY: usize = 256 << 20;

/// The running services. They stop when this is dropped.
#[derive(Debug)]
pub struct Services {
    shared: Shared,
    address: SocketAddr,
    server: JoinHandle<()>,
}

/// What the handlers know.
#[derive(Clone, Debug)]
struct Shared(Arc<State>);

#[derive(Debug)]
struct State {
    /// The key that Plumber wants to see.
    api_key: String,
    market: Map<String, Value>,
    faults: RwLock<HashMap<Address, Fault>>,
    /// Wallets that have the features of others.
    likenesses: RwLock<HashMap<Address, Address>>,
    multisigs: RwLock<HashMap<Address, Address>>,
    files: RwLock<HashMap<String, Bytes>>,
}

impl Services {
    /// Serves on `port` (0 for any free one) of the loopback.
    pub async fn start(port: u16, api_key: &str) -> Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, port).into(), api_key).await
    }

    /// Serves at an address of this machine.
    pub async fn start_at(address: SocketAddr, api_key: &str) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("the services cannot listen at {address}: is port {} taken?", address.port()))?;
        let address = listener.local_addr()?;
        let shared = Shared(Arc::new(State {
            api_key: api_key.to_owned(),
            market: features::market(H256::zero()),
            faults: RwLock::default(),
            likenesses: RwLock::default(),
            multisigs: RwLock::default(),
            files: RwLock::default(),
        }));
        let router = router(shared.clone());
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!("the services stopped: {error}");
            }
        });
        Ok(Self { shared, address, server })
    }

    /// Where Plumber, Pulse and the gateway are, as this machine reaches them.
    pub fn url(&self) -> String {
        rpc::url_of(self.address)
    }

    /// Makes Plumber answer badly for a wallet, or well again.
    pub fn set_fault(&self, wallet: Address, fault: Option<Fault>) {
        let mut faults = write(&self.shared.0.faults);
        match fault {
            Some(fault) => faults.insert(wallet, fault),
            None => faults.remove(&wallet),
        };
    }

    /// From now on a wallet has the features of another, as one has that went on trading.
    pub fn set_features_like(&self, wallet: Address, other: Address) {
        write(&self.shared.0.likenesses).insert(wallet, other);
    }

    /// Says which MultiSig Pulse names for a wallet.
    pub fn set_multisig(&self, wallet: Address, multisig: Option<Address>) {
        let mut multisigs = write(&self.shared.0.multisigs);
        match multisig {
            Some(multisig) => multisigs.insert(wallet, multisig),
            None => multisigs.remove(&wallet),
        };
    }

    /// Puts a file on the gateway and returns its CID.
    pub fn add_file(&self, content: impl Into<Bytes>) -> String {
        ipfs::add(&self.shared, content.into())
    }

    /// A file that was uploaded.
    pub fn file(&self, cid: &str) -> Option<Bytes> {
        read(&self.shared.0.files).get(cid).cloned()
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn router(shared: Shared) -> Router {
    Router::new()
        .merge(plumber::routes(&shared))
        .route("/getMultiSigAddress/{wallet}", get(pulse::multisig_address))
        .route("/ipfs/{cid}", get(ipfs::file))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(shared)
}

// A poisoned lock only tells that another handler panicked: the tables are whole.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
