//! A whole Spectral in a box: a chain, its contracts, and the services beside it.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use nova_devnet::{Devnet, Options};
//! let devnet = Devnet::start(Options::default()).await?; // free ports; all of it stops on drop
//! let request = devnet.network.request("0x00000000000000000000000000000000000000a1").await?;
//! let answer = devnet.network.wait_answer(&request, std::time::Duration::from_secs(60)).await?;
//! # Ok(()) }
//! ```

pub mod anvil;
pub mod challenge;
pub mod cli;
pub mod contracts;
pub mod deploy;
mod devnet;
pub mod fault;
pub mod features;
pub mod json_rpc;
pub mod keys;
pub mod network;
pub mod public_node;
pub mod request;
pub mod rpc;
pub mod sender;
pub mod services;
pub mod smoke;
pub mod state;
pub mod status;
pub mod verifier;
pub mod wait;

pub use deploy::{CompetitionParams, Deployment, InferenceEncoding};
pub use devnet::{Devnet, Options};
pub use fault::Fault;
pub use network::Network;
