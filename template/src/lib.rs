//! The daemon: it watches a chain for inference requests, answers them with an ONNX model, and proves any answer later.
//!
//! Data flows one way: `chain::watch` writes rows into the `ledger`, `pipeline` works on them, `chain::send` carries
//! the results to the chain. The ledger is the only queue. The owner of the model edits `hooks`, and nothing else.

pub mod address;
pub mod chain;
pub mod cli;
pub mod condition;
pub mod config;
pub mod context;
pub mod digest;
pub mod ezkl;
pub mod failpoint;
pub mod fault;
pub mod features;
pub mod health;
pub mod hook_runner;
pub mod hooks;
pub mod http;
pub mod http_client;
pub mod ledger;
pub mod model;
pub mod panics;
pub mod pipeline;
pub mod plain;
pub mod prelude;
pub mod private;
pub mod scaler;
pub mod service;
pub mod spectral;
pub mod supervise;
pub mod times;
pub mod witness;
