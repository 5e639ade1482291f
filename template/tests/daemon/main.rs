//! The daemon as its operator has it: the real program, on a real chain with real contracts, with the real EZKL. Only
//! Spectral's own services are stand-ins. What is asserted is what the chain, the ledger and the operator see.

mod answers;
mod bad_challenges;
mod bad_requests;
mod bundle;
mod circuit;
#[path = "../common/mod.rs"]
mod common;
mod data;
mod doctor;
mod magnitudes;
mod offline;
mod restart;
mod rpc;
mod s3;
mod secrets;
mod security;
mod sending;
mod setup;
mod smoke;
mod startup_errors;
