//! What the sender does, on the ledger and on its reference.

use super::events::TxEvent;
use super::play::{LATER, SENDER, Stage, equal, expect};
use super::reference_tx::Attempt;
use crate::ledger::{AttemptKind, Mined, NewAttempt, SubmissionPolicy};

const ALL: SubmissionPolicy = SubmissionPolicy { answers: true, proofs: true };

impl Stage<'_> {
    pub async fn sendable(&self) -> Result<Vec<String>, String> {
        let mut keys: Vec<_> =
            expect(self.processes[0].sendable(99, ALL).await)?.into_iter().map(|tx| tx.key).collect();
        keys.sort();
        equal("sendable", &keys, &self.reference.sendable())?;
        Ok(keys)
    }

    pub async fn sign(&mut self, key: &str) -> Result<(), String> {
        let held = expect(self.processes[0].reserved_nonces(SENDER, 0).await)?;
        equal("held nonces", &held, &self.reference.held_nonces())?;
        let nonce = (self.reference.spent_nonces()..).find(|nonce| !held.contains(nonce)).unwrap_or_default();
        let attempt = self.attempt(AttemptKind::Work, nonce);
        expect(self.processes[0].mark_signed(key, &attempt).await)?;
        self.reference.sign(key, &attempt.hash, nonce, false);
        let again = self.attempt(AttemptKind::Work, nonce + 1);
        if self.processes[0].mark_signed(key, &again).await.is_ok() {
            return Err("it was signed twice".to_owned());
        }
        Ok(())
    }

    fn attempt(&mut self, kind: AttemptKind, nonce: u64) -> NewAttempt {
        self.signed += 1;
        NewAttempt {
            hash: format!("0x{:03}", self.signed),
            kind,
            sender: SENDER.to_owned(),
            nonce,
            sequence_id: None,
            expires: None,
            raw: vec![3],
            max_fee_wei: "1".to_owned(),
            priority_fee_wei: "1".to_owned(),
            gas: 21_000,
            chain_time: self.reference.chain_time,
        }
    }

    pub async fn tx_event(&mut self, event: TxEvent, key: &str) -> Result<(), String> {
        let tx = expect(self.processes[0].tx(key).await)?.ok_or("the transaction is gone")?;
        let hash = match event {
            TxEvent::Mine(which) | TxEvent::Void(which) => match self.minable(key, which) {
                Some(hash) => Some(hash),
                None => return Ok(()),
            },
            _ => None,
        };
        let event = match event {
            // Only an answer can be late, or on chain already.
            TxEvent::Fatal(_) if key.starts_with("deliver") => TxEvent::Fatal("failed"),
            TxEvent::Replace => return self.replace(key, &tx.state).await,
            // The sender ends what was cancelled, and what is signed it does not call done.
            TxEvent::Finalise if self.is_cancelled(key) => return Ok(()),
            TxEvent::Done if tx.state != "queued" => return Ok(()),
            event => event,
        };
        let ledger = &self.processes[0];
        let hash = hash.as_deref();
        match event {
            TxEvent::Broadcast => expect(ledger.mark_broadcast(key).await)?,
            TxEvent::Replace => {}
            TxEvent::Cancel => expect(ledger.mark_cancelling(key, "nobody wants it").await)?,
            TxEvent::Mine(_) => {
                let hash = hash.unwrap_or_default().to_owned();
                let mined = Mined { hash, block: 9, block_hash: "0xb9".to_owned(), time: 990, gas_used: 50_000 };
                expect(ledger.mark_mined(key, &mined).await)?;
            }
            TxEvent::Unmine => expect(ledger.mark_unmined(key).await)?,
            TxEvent::Finalise => expect(ledger.mark_final(&tx).await)?,
            TxEvent::SignAnew => expect(ledger.requeue(key, "its nonce was spent").await)?,
            TxEvent::Void(_) => {
                expect(ledger.mark_ineffective(key, hash.unwrap_or_default(), "reverted", LATER).await)?
            }
            TxEvent::Done => expect(ledger.mark_already_done(&tx, "the chain holds it already").await)?,
            TxEvent::Postpone => expect(ledger.postpone(key, "no money", LATER).await)?,
            TxEvent::Fatal(end) => expect(ledger.mark_failed(&tx, end, "it cannot be").await)?,
        }
        self.reference.tx_event(event, key, hash);
        Ok(())
    }

    /// Another attempt on the nonce of the newest one; a transfer to ourselves if nobody wants the work any more.
    async fn replace(&mut self, key: &str, state: &str) -> Result<(), String> {
        let Some(newest) = self.reference.hashes(key, &["live"]).pop() else { return Ok(()) };
        let nonce = self.reference.attempts[&newest].nonce;
        let is_cancel = state == "cancelling";
        let kind = if is_cancel { AttemptKind::Cancel } else { AttemptKind::Work };
        let attempt = self.attempt(kind, nonce);
        expect(self.processes[0].mark_replaced(key, &attempt).await)?;
        self.reference.sign(key, &attempt.hash, nonce, is_cancel);
        Ok(())
    }

    /// An attempt that the chain may have mined: not one whose nonce it has spent on another transaction.
    fn minable(&self, key: &str, which: usize) -> Option<String> {
        let attempts = &self.reference.attempts;
        let is_spent = |nonce: u64| {
            let spent =
                |of: &Attempt| of.nonce == nonce && (of.state == "void" || (of.state == "mined" && of.tx != key));
            attempts.values().any(spent)
        };
        let mut hashes = self.reference.hashes(key, &["live", "lost", "mined"]);
        hashes.retain(|hash| !is_spent(attempts[hash].nonce));
        (!hashes.is_empty()).then(|| hashes[which % hashes.len()].clone())
    }

    fn is_cancelled(&self, key: &str) -> bool {
        self.reference.hashes(key, &["mined"]).iter().any(|hash| self.reference.attempts[hash].is_cancel)
    }
}
