//! A whole Spectral in a box: a chain, its contracts, and the services beside it.

pub mod anvil;
pub mod contracts;
pub mod features;
pub mod rpc;
pub mod sender;
