//! The two stages between the chain and the chain: `infer` answers requests, `prove` proves answers. Both find their work
//! in the ledger and leave the result there.

pub mod canary;
pub mod circuit;
pub mod infer;
pub mod predict;
pub mod prove;
pub mod stop_loss;
pub mod tolerance;
