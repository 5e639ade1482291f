//! Spectral's services off chain: Plumber (features, uploads), Pulse (MultiSig), and the IPFS gateway.

pub mod http_service;
pub mod ipfs_gateway;
pub mod plumber;
pub mod pulse;
pub(crate) mod python_json;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
pub(crate) mod test_server;
