//! Rows → transactions. One sender a key owns its nonces; the signed bytes of an attempt are in the ledger before any
//! node sees them, and after a crash the same bytes go out again.

mod reconcile;
mod sign;
mod terms;

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ethers::providers::{ProviderError, RpcError as _};

use super::contracts::describe_revert;
use super::{Chain, text};
use crate::fault::{Classify as _, Result};
use crate::ledger::{Allowed, Ledger, Tx};
use crate::private;

/// How long a yes to "are we among the top N?" is believed, and how long a no: with that the deadlines come closer.
const TOP_N_LIFETIME: Duration = Duration::from_secs(60);
const NOT_TOP_N_LIFETIME: Duration = Duration::from_secs(5);
/// How often a second process looks whether the first has ended.
const PLACE_TAKEN: Duration = Duration::from_secs(2);

/// The one sender of a key.
pub struct Sender {
    chain: Chain,
    ledger: Ledger,
    top_n: Option<(Instant, bool)>,
    said_not_top_n: Option<Instant>,
    /// When the node was last handed what it has not mined; `None` at the start, so that a crash costs no time.
    rebroadcast: Option<Instant>,
    /// When it was last said that the wallet cannot pay.
    said_unfunded: Option<Instant>,
    /// Held for as long as we live: no second process on this ledger signs with the same key.
    _lock: File,
}

/// Whether there is more to do at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    Nothing,
    /// Transactions wait for the chain.
    InFlight,
}

impl Sender {
    /// Waits until no other process sends for this key from this ledger, then takes its place.
    pub async fn take_place(chain: Chain, ledger: Ledger, artifacts: &Path) -> Result<Self> {
        let path = artifacts.join(format!("sender-{}.lock", text(chain.account().wallet_address())));
        let lock = private::create_file(&path).with_context(|| format!("cannot write {}", path.display())).stop()?;
        let mut said = false;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::info!("another process sends for this key, this one takes over when it ends");
                    }
                    tokio::time::sleep(PLACE_TAKEN).await;
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display())).stop();
                }
            }
        }
        Ok(Self {
            chain,
            ledger,
            top_n: None,
            said_not_top_n: None,
            rebroadcast: None,
            said_unfunded: None,
            _lock: lock,
        })
    }

    /// One pass: looks after what is in flight, queues what is ready, signs and sends what may be.
    pub async fn pass(&mut self, allowed: Allowed) -> Result<Pending> {
        let targets = self.chain.targets();
        if allowed.answers {
            self.ledger.queue_answers(&targets).await?;
        }
        if allowed.proofs {
            self.ledger.queue_deliveries(&targets).await?;
        }
        let in_flight = self.reconcile().await?;
        let pending = if in_flight == 0 { Pending::Nothing } else { Pending::InFlight };
        let mut room = self.chain.settings.max_in_flight.saturating_sub(in_flight);
        let mut sendable = self.ledger.sendable(room, allowed).await?;
        if sendable.is_empty() {
            return Ok(pending);
        }
        if !self.in_top_n().await? {
            self.end_late(&sendable).await?;
            return Ok(pending);
        }
        let mut terms = self.terms().await?;
        // A commitment that was just signed frees its answer.
        while !sendable.is_empty() {
            for tx in &sendable {
                self.send(tx, &mut terms).await?;
            }
            room = room.saturating_sub(sendable.len());
            sendable = self.ledger.sendable(room, allowed).await?;
        }
        Ok(Pending::InFlight)
    }

    /// Ends the rows whose deadline passes while nothing may be sent.
    async fn end_late(&self, rows: &[Tx]) -> Result<()> {
        let head = self.chain.head().await?;
        for tx in rows {
            self.is_in_time(tx, head).await?;
        }
        Ok(())
    }

    async fn in_top_n(&mut self) -> Result<bool> {
        if let Some((asked, answer)) = self.top_n
            && asked.elapsed() < if answer { TOP_N_LIFETIME } else { NOT_TOP_N_LIFETIME }
        {
            return Ok(answer);
        }
        let answer = self.chain.in_top_n().await?;
        self.top_n = Some((Instant::now(), answer));
        if answer {
            self.said_not_top_n = None;
        } else if self.said_not_top_n.is_none_or(|said| said.elapsed() >= Duration::from_secs(3600)) {
            tracing::warn!(
                modeler = text(self.chain.modeler()),
                "not among the top N modelers: watching on, sending nothing"
            );
            self.said_not_top_n = Some(Instant::now());
        }
        Ok(answer)
    }
}

impl Chain {
    /// Where a person can look at a transaction; `None` on a network without explorer.
    fn explorer(&self, hash: &str) -> Option<String> {
        let explorer = self.settings.tx_explorer_url.trim_end_matches('/');
        (!explorer.is_empty()).then(|| format!("{explorer}/{hash}"))
    }
}

/// What a node says of a call that reverts; `None` if that is not what it says.
fn revert_reason(error: &ProviderError) -> Option<String> {
    let response = error.as_error_response()?;
    if let Some(data) = response.as_revert_data() {
        return Some(describe_revert(&data));
    }
    response.is_revert().then(|| response.message.clone())
}
