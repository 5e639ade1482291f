//! What `nova status --json` tells.

use std::fmt::LowerHex;

use serde::Deserialize;

use super::project::Project;
use super::{DEFAULT_TIMEOUT, wait_until};

#[derive(Debug, Deserialize)]
pub struct Status {
    pub requests: Vec<RequestRow>,
    pub challenges: Vec<ChallengeRow>,
    pub counts: Vec<Counts>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct RequestRow {
    pub id: String,
    pub state: String,
    pub reason: Option<String>,
    pub model_value: Option<f64>,
    pub circuit_value: Option<f64>,
    pub submitted_value: Option<f64>,
    pub transaction: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct ChallengeRow {
    pub asked_in: String,
    pub state: String,
    pub reason: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Counts {
    pub kind: String,
    pub state: String,
    pub rows: i64,
}

impl Status {
    /// How many rows of a kind (`request`, `challenge`, `transaction`) are in a state.
    pub fn count(&self, kind: &str, state: &str) -> i64 {
        self.counts.iter().filter(|counts| counts.kind == kind && counts.state == state).map(|counts| counts.rows).sum()
    }

    pub fn request(&self, id: impl LowerHex) -> Option<&RequestRow> {
        let id = format!("{id:#x}");
        self.requests.iter().find(|row| row.id == id)
    }

    pub fn challenge(&self, asked_in: impl LowerHex) -> Option<&ChallengeRow> {
        let asked_in = format!("{asked_in:#x}");
        self.challenges.iter().find(|row| row.asked_in == asked_in)
    }
}

impl Project {
    pub async fn status(&self) -> Status {
        self.nova(&["status", "--json", "--limit", "1000"]).json().await
    }

    /// Waits until a request's row is as wanted.
    pub async fn request_row(&self, id: impl LowerHex, what: &str, wanted: impl Fn(&RequestRow) -> bool) -> RequestRow {
        wait_until(format!("request {id:#x} {what}"), DEFAULT_TIMEOUT, async || {
            let status = self.status().await;
            status.request(&id).filter(|row| wanted(row)).cloned().ok_or_else(|| format!("{:?}", status.request(&id)))
        })
        .await
    }

    /// Waits until a request is in a state.
    pub async fn request_in(&self, id: impl LowerHex, state: &str) -> RequestRow {
        self.request_row(id, state, |row| row.state == state).await
    }

    /// Waits until so many transactions are in a state.
    pub async fn transactions_in(&self, state: &str, count: i64) {
        wait_until(format!("{count} transactions in state {state}"), DEFAULT_TIMEOUT, async || {
            let status = self.status().await;
            if status.count("transaction", state) == count { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
    }

    /// Waits until a proof request is as wanted.
    pub async fn challenge_row(
        &self,
        asked_in: impl LowerHex,
        what: &str,
        wanted: impl Fn(&ChallengeRow) -> bool,
    ) -> ChallengeRow {
        wait_until(format!("proof request {asked_in:#x} {what}"), DEFAULT_TIMEOUT, async || {
            let status = self.status().await;
            let row = status.challenge(&asked_in);
            row.filter(|row| wanted(row)).cloned().ok_or_else(|| format!("{row:?}"))
        })
        .await
    }

    /// Waits until a proof request is in a state.
    pub async fn challenge_in(&self, asked_in: impl LowerHex, state: &str) -> ChallengeRow {
        self.challenge_row(asked_in, state, |row| row.state == state).await
    }
}
