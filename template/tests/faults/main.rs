//! The daemon under faults that are really injected: the real program, chain, contracts and EZKL. What is asserted is what
//! the ledger and the chain hold afterwards: no request lost, none answered twice, every answer provable.

#[path = "../common/mod.rs"]
mod common;

mod clock;
mod contracts;
mod crash;
mod disk;
mod files;
mod fork;
mod invariants;
mod kill;
mod kill_chain;
mod kill_failure_paths;
mod kill_pool;
mod kill_watching;
mod load;
mod nonces;
mod pool;
mod promises;
mod reorg;
mod rewards;
mod scenario;
mod sending;
mod shared;
mod toxic;
mod toxic_services;
mod versions;
mod watch;
mod wire;
mod worker;
