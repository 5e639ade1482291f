//! What must hold after any fault: `docs/reliability.md` numbers it. Read from the ledger's file and from the chain, never
//! from the log.

use std::collections::{HashMap, HashSet};
use std::{fmt, fs};

use ethers::providers::Middleware as _;
use ethers::types::{H256, Transaction};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::common::ledger::{RequestRow, Rows};
use crate::common::{PROOF_TIMEOUT, python, wait_until};
use crate::scenario::Scenario;

/// Ends of a request, and of a proof request.
const REQUEST_ENDS: [&str; 5] = ["final", "failed", "expired", "answered", "orphaned"];
const CHALLENGE_ENDS: [&str; 3] = ["final", "failed", "orphaned"];
/// What a scenario came to. That nothing was lost, doubled, unprovable or reverted is asserted, not counted.
#[derive(Debug)]
pub struct Tally {
    pub requests: usize,
    pub answered: usize,
    /// Not answered, and the row says why.
    pub explained: usize,
    pub proofs: usize,
    pub transactions: usize,
    pub proven: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests, {} answered, {} that say why not, {} proof requests, {} transactions, {} answers proven from outside; \
             0 lost, 0 doubled, 0 unprovable, 0 reverted",
            self.requests, self.answered, self.explained, self.proofs, self.transactions, self.proven
        )
    }
}

impl Scenario {
    /// Waits until nothing is under way any more.
    pub async fn settled(&self) {
        wait_until("the end of all work", PROOF_TIMEOUT, async || {
            let rows = self.project.rows().await.ok_or("there is no ledger")?;
            self.unsettled(&rows).map_or(Ok(()), Err)
        })
        .await;
    }

    /// What is still under way.
    fn unsettled(&self, rows: &Rows) -> Option<String> {
        let states: HashMap<_, _> = rows.requests.iter().map(|row| (row.id.as_str(), row)).collect();
        for request in &self.requests {
            match states.get(hex(request.id).as_str()) {
                Some(row) if REQUEST_ENDS.contains(&row.state.as_str()) => {}
                row => return Some(format!("request {:?}: {row:?}", request.id)),
            }
        }
        for challenge in &self.challenges {
            let row = rows.challenges.iter().find(|row| row.transaction_hash == hex(challenge.transaction));
            let may_wait = self.may_wait.contains(&challenge.transaction);
            match row {
                Some(row) if CHALLENGE_ENDS.contains(&row.state.as_str()) => {}
                Some(row) if may_wait && row.reason.is_some() => {}
                row => return Some(format!("proof request {:?}: {row:?}", challenge.transaction)),
            }
        }
        let busy = rows.transactions.iter().find(|row| !matches!(row.state.as_str(), "final" | "fatal"));
        busy.map(|row| format!("{row:?}"))
    }

    /// Waits until nothing is under way, then asserts all guarantees.
    pub async fn check(&self) -> Tally {
        self.settled().await;
        let rows = self.project.rows().await.unwrap();
        let own = self.own_transactions().await;
        self.assert_nothing_is_lost(&rows).await;
        self.assert_transactions(&rows, &own).await;
        let answered = self.assert_answers(&rows).await;
        let proven = self.assert_provable(&answered).await;
        let tally = Tally {
            requests: self.requests.len(),
            answered: answered.len(),
            explained: self.requests.len() - answered.len(),
            proofs: self.challenges.len(),
            transactions: own.len(),
            proven,
        };
        println!("{tally}");
        tally
    }

    /// Every request that the chain has is in the ledger, and every row that is no answer says why.
    async fn assert_nothing_is_lost(&self, rows: &Rows) {
        let known: HashSet<_> = rows.requests.iter().map(|row| row.id.as_str()).collect();
        for request in self.net.all_requests().await.unwrap() {
            assert!(known.contains(hex(request.id).as_str()), "{request:?} is not in the ledger");
        }
        let says_why = |state: &str, reason: &Option<String>| state == "final" || reason.is_some();
        for row in &rows.requests {
            assert!(says_why(&row.state, &row.reason), "{row:?} says nothing");
        }
        for row in &rows.challenges {
            assert!(says_why(&row.state, &row.reason), "{row:?} says nothing");
        }
        for row in &rows.transactions {
            assert!(says_why(&row.state, &row.reason), "{row:?} says nothing");
        }
    }

    /// What the daemon's key sent is in the ledger, was signed before it was sent, and was not for nothing.
    async fn assert_transactions(&self, rows: &Rows, own: &[Transaction]) {
        let attempts: HashMap<_, _> = rows.attempts.iter().map(|row| (row.hash.as_str(), row)).collect();
        let (mut mined, mut reverted): (HashMap<&str, Vec<&str>>, _) = (HashMap::new(), Vec::new());
        for transaction in own {
            let attempt = attempts.get(hex(transaction.hash).as_str());
            let attempt = attempt.unwrap_or_else(|| panic!("the ledger does not know {transaction:?}"));
            let receipt = self.net.node.get_transaction_receipt(transaction.hash).await.unwrap().unwrap();
            match receipt.status {
                Some(status) if status == 1.into() => mined.entry(&attempt.tx).or_default().push(&attempt.hash),
                _ if self.overtaken.contains(&transaction.hash) => {}
                _ => reverted.push(attempt),
            }
        }
        assert_eq!(reverted.len(), self.reverted, "gas was spent for nothing: {reverted:?}");
        for row in &rows.transactions {
            let hashes = mined.remove(row.key.as_str()).unwrap_or_default();
            match row.state.as_str() {
                "final" => match row.mined_hash.as_deref() {
                    Some(hash) => assert_eq!(hashes, [hash], "{row:?}"),
                    None => assert!(hashes.is_empty() && row.reason.is_some(), "not needed any more: {row:?}"),
                },
                // A cancelled one is a transfer to itself.
                _ => assert!(hashes.len() <= 1, "{row:?}: {hashes:?}"),
            }
        }
        assert!(mined.is_empty(), "{mined:?}");
        let sent = self.net.sent().await;
        assert_eq!(self.pending_nonce().await, sent, "something still waits in the pool");
        assert_eq!(sent - self.first_nonce, (own.len() + self.foreign.len()) as u64, "nonces have gaps");
    }

    /// Each answer is on chain exactly once. Returns the ids of those.
    async fn assert_answers(&self, rows: &Rows) -> Vec<H256> {
        let mut answered = Vec::new();
        for request in &self.requests {
            let row = rows.requests.iter().find(|row| row.id == hex(request.id)).unwrap();
            let on_chain = matches!(row.state.as_str(), "final" | "answered");
            self.net.assert_answers(request, usize::from(on_chain)).await;
            if on_chain {
                self.assert_witness(row);
                answered.push(request.id);
            }
        }
        answered
    }

    /// What was promised with an answer is on disk, whole, with the model files that it was made with.
    fn assert_witness(&self, row: &RequestRow) {
        let id: H256 = row.id.parse().unwrap();
        let read = |file: &str| {
            let path = self.project.saved(id, file);
            fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let manifest: Value = serde_json::from_slice(&read("manifest.json")).unwrap();
        let digest = Sha256::digest(read("witness.json")).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(manifest["witness_sha256"], digest, "the witness of {row:?} is torn");
        read("input.json");
        let model = self.project.artifacts().join("models").join(manifest["model_digest"].as_str().unwrap());
        assert!(model.join("model_pk.pk").is_file(), "the model files of {row:?} are gone");
    }

    /// EZKL accepts a proof of the last answer, and it shows what is on chain. (The daemon has checked that each can be proven;
    /// to prove them all would take hours.)
    async fn assert_provable(&self, answered: &[H256]) -> usize {
        let Some(id) = answered.last() else { return 0 };
        let output = format!("{id:?}-proof.json");
        self.project.nova(&["prove", &format!("{id:?}"), "--output", &output]).succeed().await;
        let manifest = fs::read(self.project.saved(*id, "manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let model = self.project.artifacts().join("models").join(manifest["model_digest"].as_str().unwrap());
        let shown = python::verify(&self.project.path().join(&output), &model).unwrap();
        let request = self.requests.iter().find(|request| request.id == *id).unwrap();
        let answers = self.net.answers(std::slice::from_ref(request)).await.unwrap();
        assert_eq!(answers[0].value, shown, "the proof of {id:?} shows something else than was answered");
        1
    }

    /// What the daemon's key sent since the scenario began, but for what the test sent.
    async fn own_transactions(&self) -> Vec<Transaction> {
        let head = self.net.node.get_block_number().await.unwrap().as_u64();
        let blocks = stream::iter(self.net.deployment.block..=head)
            .map(async |number| self.net.node.get_block_with_txs(number).await)
            .buffered(16)
            .try_collect::<Vec<_>>()
            .await
            .unwrap();
        let transactions = blocks.into_iter().flatten().flat_map(|block| block.transactions);
        let ours = transactions.filter(|transaction| {
            transaction.from == self.net.deployment.signer
                && transaction.nonce.as_u64() >= self.first_nonce
                && !self.foreign.contains(&transaction.hash)
        });
        ours.collect()
    }
}

fn hex(hash: H256) -> String {
    format!("{hash:?}")
}
