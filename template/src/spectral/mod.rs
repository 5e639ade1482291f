//! Spectral's services off chain: Plumber (features, uploads), Pulse (MultiSig), and the IPFS gateway.

pub mod gateway;
pub mod http;
mod lenient;
pub mod plumber;
pub mod pulse;

#[cfg(test)]
mod test_server;
