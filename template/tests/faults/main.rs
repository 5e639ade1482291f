//! The daemon under faults that are really injected: the real program, chain, contracts and EZKL. What is asserted is what
//! the ledger and the chain hold afterwards: no request lost, none answered twice, every answer provable.

#[path = "../common/mod.rs"]
mod common;
mod fork;
mod reorg;
mod watch;
mod wire;
mod nonces;
mod pool;
mod rewards;
mod sending;
