//! Spectral's services off chain: Plumber (features, uploads), Pulse (MultiSig), and the IPFS gateway.

pub mod gateway;
pub(crate) mod lenient;
pub mod plumber;
pub mod pulse;
pub mod service;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
pub(crate) mod test_server;
