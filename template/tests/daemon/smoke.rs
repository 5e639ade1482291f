//! `devnet smoke` with this daemon, on a node that looks like a public one: some methods, so many requests a second, short ranges
//! of logs, and of the two machines behind it one is late.

use std::fs;
use std::path::PathBuf;

use ethers::types::U256;
use nova_devnet::anvil::{Anvil, AnvilOptions};
use nova_devnet::keys::{anvil_account, private_key};
use nova_devnet::public_node::{Manners, PublicNode};
use nova_devnet::smoke::{self, Options, Program};

use crate::common::model_files::model_files;
use crate::common::python;

const SEPOLIA: u64 = 421_614;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_node_like_a_public_one_it_answers_and_proves_and_the_money_comes_back() {
    let chain = Anvil::start(&AnvilOptions { chain_id: SEPOLIA, ..AnvilOptions::default() }).unwrap();
    let node = PublicNode::start(&chain.url(), 0, Manners::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    fs::write(&key_file, private_key(&anvil_account(7, SEPOLIA).unwrap())).unwrap();
    let options = Options {
        rpc: Some(node.url()),
        key_file: Some(key_file),
        program: Program::Native { nova: PathBuf::from(env!("CARGO_BIN_EXE_nova")), python: Some(python::program()) },
        requests: 2,
        model_files: model_files(),
        addresses: folder.path().join("smoke.json"),
        fund: U256::exp10(17),
    };
    // The second run finds the contracts of the first.
    for reused in [false, true] {
        let report = smoke::run(&options).await.unwrap();
        assert_eq!((report.chain_id, report.contracts_reused, report.served.len()), (SEPOLIA, reused, 2));
        let proofs: Vec<_> = report.served.iter().map(|served| served.proof.clone().unwrap_or_default()).collect();
        assert!(proofs[0].starts_with("IPFS ") && proofs[1].starts_with("on chain "), "{proofs:?}");
        // Of what the daemon and the consumers got, most came back.
        assert!(report.spent < options.fund, "{} wei", report.spent);
        let deployed = report.costs.iter().any(|cost| cost.what == "deploy Competition");
        assert_eq!(deployed, !reused, "{:?}", report.costs);
        assert!(!folder.path().join(format!("smoke.{SEPOLIA}.keys")).exists(), "keys are kept that have nothing");
    }
}
