//! The daemon: it watches a chain for inference requests, answers them with an ONNX model, and proves any answer later.
//!
//! Data flows one way: `chain::watch` writes rows into the `ledger`, `pipeline` works on them, `chain::tx_manager` carries
//! the results to the chain. The ledger is the only queue. The owner of the model edits `hooks`, and nothing else.

// The fuzz targets see the library by the name that others have for it.
#[cfg(test)]
extern crate self as nova;

pub mod address;
pub mod bundle;
pub mod chain;
pub mod cli;
pub mod config;
pub mod context;
pub mod daemon;
#[cfg(test)]
mod docs_tests;
pub mod ezkl;
pub mod failpoint;
pub mod failure_tracker;
pub mod fault;
pub mod features;
#[cfg(test)]
mod fuzz_corpus_tests;
#[cfg(test)]
#[path = "../fuzz/src/lib.rs"]
mod fuzz_targets;
pub mod health;
pub mod hook_runner;
pub mod hooks;
pub mod http;
pub mod http_client;
pub mod ledger;
mod locked_folder;
pub mod machine;
pub mod model;
pub mod panics;
pub mod pipeline;
pub mod prelude;
pub mod preprocess;
pub mod retry;
pub mod sanitize;
pub mod scrub;
pub mod secure_fs;
pub mod services;
pub mod setup;
pub mod sha256;
pub mod timing;
pub mod witness_store;
