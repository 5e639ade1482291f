//! Rows → transactions. One sender a key owns its nonces; the signed bytes of an attempt are in the ledger before any
//! node sees them, and after a crash the same bytes go out again.
//!
//! A pass asks the chain for receipts (`reconcile`, `receipts`), replaces or cancels what is stuck (`replacement`), gives up nonces that
//! another user of the key took or stops beside a second daemon (`nonce_conflict`), then signs what is queued (`sign`) and hands it to a
//! node (`broadcast`).

mod alerts;
mod broadcast;
mod fees;
mod funds_monitor;
mod nonce_conflict;
mod preflight;
mod receipts;
mod reconcile;
mod rejections;
mod replacement;
mod rewards;
mod row_faults;
mod sign;
mod tx_params;

use std::collections::{HashMap, HashSet};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ethers::types::H256;
use tokio::task::JoinSet;

use super::{Chain, Head, to_hex};
use crate::fault::{Classify as _, Fault, Result};
use crate::health::Health;
use crate::ledger::{Ledger, SubmissionPolicy, Tx};
use crate::secure_fs;
use alerts::Alerts;
use broadcast::Broadcasts;
use reconcile::requires_top_n;
use rejections::Refused;
use row_faults::Hiccups;
use tx_params::TxParams;

/// How long a yes to "are we among the top N?" is believed, and how long a no: with that the deadlines come closer.
const TOP_N_TTL: Duration = Duration::from_secs(60);
const NOT_TOP_N_TTL: Duration = Duration::from_secs(5);
/// How often a second process looks whether the first has ended.
const LOCK_POLL_INTERVAL: Duration = Duration::from_secs(2);
/// How often what waits while nothing may be sent is looked at.
const BLOCKED_RETRY_SECS: i64 = 5;
/// Seconds after which what met a hiccup is tried again.
const HICCUP_RETRY_SECS: i64 = 2;

/// The one sender of a key.
pub struct Sender {
    chain: Chain,
    ledger: Ledger,
    alerts: Alerts,
    top_n: Option<(Instant, bool)>,
    /// When the node was last handed what it has not mined; `None` at the start, so that a crash costs no time.
    last_rebroadcast: Option<Instant>,
    /// The newest block when this sender began.
    start_block: Option<u64>,
    /// The newest block of the last look at what is mined.
    last_head: Option<Head>,
    last_check: Option<Instant>,
    last_full_check: Option<Instant>,
    /// When blocks were made in which this pass has found receipts.
    block_times: HashMap<H256, u64>,
    /// When a transaction was last tried to be replaced, by its key.
    last_replacement: HashMap<String, Instant>,
    /// Since when the nonce of a transaction is spent and the endpoint does not show by what, by its key.
    unseen_spends: HashMap<String, Instant>,
    /// A nonce below those of ours may be free.
    has_gap: bool,
    contention: Option<NonceContention>,
    /// Attempts that no node has taken.
    refused: Refused,
    /// A nonce was given back in this pass.
    freed_nonce: bool,
    /// Hashes of attempts that no node could be offered.
    never_broadcast: HashSet<String>,
    /// Why nothing could be offered in this pass.
    broadcast_fault: Option<Fault>,
    /// A node has refused one in this pass because those below it are not there yet, and when one last did.
    is_too_high: bool,
    refused_too_high: Option<Instant>,
    /// What single rows met in this pass.
    hiccups: Hiccups,
    /// A second daemon uses our key: nothing is signed any more.
    conflicting_daemon: Option<String>,
    next_funds_check: Option<Instant>,
    next_claim_check: Option<Instant>,
    /// The look for rewards that is under way.
    claims: JoinSet<Result<Vec<u64>>>,
    /// Held for as long as we live: no second process on this ledger signs with the same key.
    _lock: File,
}

/// The node's pool holds a nonce for somebody else: nothing is signed until it is known who that is.
struct NonceContention {
    nonce: u64,
    since: Instant,
    patience: Duration,
}

impl NonceContention {
    /// Nobody mines the other one: we make way for it.
    fn is_over(&self) -> bool {
        self.since.elapsed() >= self.patience
    }
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
    pub async fn acquire(chain: Chain, ledger: Ledger, artifacts: &Path, health: Arc<Health>) -> Result<Self> {
        let mut said = false;
        loop {
            if let Some(sender) = Self::try_acquire(&chain, &ledger, artifacts, &health)? {
                return Ok(sender);
            }
            if !std::mem::replace(&mut said, true) {
                tracing::info!("another process sends for this key, this one takes over when it ends");
            }
            tokio::time::sleep(LOCK_POLL_INTERVAL).await;
        }
    }

    /// The sender's place, if no other process has it.
    pub fn try_acquire(chain: &Chain, ledger: &Ledger, artifacts: &Path, health: &Arc<Health>) -> Result<Option<Self>> {
        let path = artifacts.join(format!("sender-{}.lock", to_hex(chain.account().wallet_address())));
        let lock = secure_fs::create_file(&path).with_context(|| format!("cannot write {}", path.display())).fatal()?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display())).fatal();
            }
        }
        Ok(Some(Self {
            chain: chain.clone(),
            ledger: ledger.clone(),
            alerts: Alerts::new(health.clone()),
            top_n: None,
            last_rebroadcast: None,
            start_block: None,
            last_head: None,
            last_check: None,
            last_full_check: None,
            block_times: HashMap::new(),
            last_replacement: HashMap::new(),
            unseen_spends: HashMap::new(),
            has_gap: false,
            contention: None,
            refused: Refused::default(),
            freed_nonce: false,
            never_broadcast: HashSet::new(),
            broadcast_fault: None,
            is_too_high: false,
            refused_too_high: None,
            hiccups: Hiccups::default(),
            conflicting_daemon: None,
            next_funds_check: None,
            next_claim_check: None,
            claims: JoinSet::new(),
            _lock: lock,
        }))
    }

    /// Why this sender has stopped for good, if it has: another daemon uses its key.
    pub fn conflicting_daemon(&self) -> Option<&str> {
        self.conflicting_daemon.as_deref()
    }

    /// One pass: looks after what is in flight, queues what is ready, signs and sends what may be.
    pub async fn pass(&mut self, allowed: SubmissionPolicy) -> Result<Pending> {
        if self.start_block.is_none() {
            self.start_block = Some(self.chain.head().await?.number);
        }
        self.broadcast_fault = None;
        self.freed_nonce = false;
        self.is_too_high = false;
        self.hiccups = Hiccups::default();
        match self.check_funds_and_window(allowed).await {
            // No answer waits for that.
            Err(Fault::Transient(error)) => {
                tracing::debug!(reason = format!("{error:#}"), "cannot look after funds and window");
            }
            looked => looked?,
        }
        let targets = self.chain.targets();
        if allowed.answers {
            self.ledger.queue_answers(&targets).await?;
        }
        if allowed.proofs {
            self.ledger.queue_deliveries(&targets).await?;
        }
        let mut terms = None;
        let in_flight = self.reconcile(&mut terms).await?;
        if self.freed_nonce {
            terms = None;
        }
        let room = self.chain.settings.max_in_flight.saturating_sub(in_flight);
        let sent = self.send_all(room, allowed, terms).await?;
        self.claim_daily()?;
        if let Some(unsent) = self.broadcast_fault.take() {
            return Err(unsent);
        }
        self.hiccups.end()?;
        Ok(if in_flight == 0 && !sent { Pending::Nothing } else { Pending::InFlight })
    }

    /// Signs and sends what is queued, as far as there is room, and takes the nonces that are left free below others.
    /// True if there was anything to sign.
    async fn send_all(&mut self, room: usize, allowed: SubmissionPolicy, mut terms: Option<TxParams>) -> Result<bool> {
        let rows = self.sendable(room, allowed).await?;
        let mut sent = false;
        if !rows.is_empty() && self.may_sign() {
            let terms = match &mut terms {
                Some(terms) => terms,
                None => terms.insert(self.tx_params().await?),
            };
            let mut offers = Broadcasts::default();
            let signed = self.sign_all(&rows, terms, &mut offers).await;
            self.finish_broadcasts(&mut offers).await?;
            sent = signed?;
        }
        if self.has_gap && self.may_sign() && self.broadcast_fault.is_none() && !self.freed_nonce {
            sent |= self.fill_nonce_gap(terms).await?;
        }
        Ok(sent)
    }

    /// Signs these, until nothing more may be signed in this pass. True if there were any.
    async fn sign_all(&mut self, rows: &[Tx], terms: &mut TxParams, offers: &mut Broadcasts) -> Result<bool> {
        self.hiccups.begin();
        let mut sent = false;
        let verdicts = self.preflight_all(rows, terms).await;
        for (tx, verdict) in rows.iter().zip(verdicts) {
            self.make_room(offers).await?;
            // While no node can be reached one a pass is signed, so that it goes out with the first that can.
            if !self.may_sign() || (sent && (self.is_broadcast_paused() || self.freed_nonce)) {
                return Ok(sent);
            }
            let outcome = match verdict {
                Ok(verdict) => self.apply_verdict(tx, verdict, terms, offers).await,
                Err(fault) => Err(fault),
            };
            if let Err(fault @ Fault::Transient(_)) = &outcome {
                self.ledger.postpone(&tx.key, &fault.to_string(), HICCUP_RETRY_SECS).await?;
            }
            self.hiccups.survive(outcome)?;
            sent = true;
        }
        Ok(sent)
    }

    /// False while it is not known who else uses the key, and for ever once a second daemon does.
    fn may_sign(&self) -> bool {
        self.conflicting_daemon.is_none() && self.contention.is_none()
    }

    /// What may be signed now. Of what may not, the rows that nobody waits for any more are ended.
    async fn sendable(&mut self, room: usize, allowed: SubmissionPolicy) -> Result<Vec<Tx>> {
        let mut rows = self.ledger.sendable(room, allowed).await?;
        if let Some(rival) = self.conflicting_daemon.clone() {
            self.close_answered(&rows, &rival).await?;
            return Ok(Vec::new());
        }
        // What the owner does not let us send waits no longer than its deadline either.
        let forbidden = SubmissionPolicy { answers: !allowed.answers, proofs: !allowed.proofs };
        self.expire_overdue(&self.ledger.sendable(room, forbidden).await?).await?;
        if rows.iter().any(requires_top_n) && !self.in_top_n().await? {
            self.expire_overdue(&rows).await?;
            // What waits for a rank hides nothing of what does not.
            let without = SubmissionPolicy { answers: false, proofs: false };
            rows = self.ledger.sendable(room, without).await?;
        }
        Ok(rows)
    }

    /// Ends the rows whose deadline passes while nothing may be sent.
    async fn expire_overdue(&self, rows: &[Tx]) -> Result<()> {
        if rows.iter().all(|tx| tx.deadline.is_none()) {
            return Ok(());
        }
        let head = self.chain.head().await?;
        for tx in rows {
            self.expire_if_late(tx, head).await?;
        }
        Ok(())
    }

    /// Beside a second daemon: ends what is late, or what the other one has answered, and says why the rest waits.
    async fn close_answered(&self, rows: &[Tx], rival: &str) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let head = self.chain.head().await?;
        for tx in rows {
            if !self.expire_if_late(tx, head).await? {
                continue;
            }
            if self.is_answered(tx).await? {
                self.ledger.mark_failed(tx, "answered", "the chain holds our answer already").await?;
            } else {
                self.ledger.postpone(&tx.key, rival, BLOCKED_RETRY_SECS).await?;
            }
        }
        Ok(())
    }

    /// A nonce below ours that nobody takes holds up all that are above it: a transfer to ourselves takes it.
    async fn fill_nonce_gap(&mut self, terms: Option<TxParams>) -> Result<bool> {
        let mut terms = match terms {
            Some(terms) => terms,
            None => self.tx_params().await?,
        };
        if !terms.nonces.has_gap() {
            return Ok(false);
        }
        let nonce = terms.nonces.next();
        self.ledger.queue_nonce_fill(&to_hex(self.chain.account().wallet_address()), nonce).await?;
        let fills = self.ledger.nonce_fills().await?;
        if !fills.is_empty() {
            tracing::warn!(nonce, "nothing takes a nonce that others wait for, filling it");
        }
        // It is below all that was refused for being above it.
        self.is_too_high = false;
        let mut offers = Broadcasts::default();
        let signed = self.sign_all(&fills, &mut terms, &mut offers).await;
        self.finish_broadcasts(&mut offers).await?;
        signed
    }

    async fn in_top_n(&mut self) -> Result<bool> {
        if let Some((asked, answer)) = self.top_n
            && asked.elapsed() < if answer { TOP_N_TTL } else { NOT_TOP_N_TTL }
        {
            return Ok(answer);
        }
        let answer = self.chain.in_top_n().await?;
        self.top_n = Some((Instant::now(), answer));
        if !answer && self.alerts.should_log("not among the top N", Duration::from_secs(3600)) {
            tracing::warn!(
                modeler = to_hex(self.chain.modeler()),
                "not among the top N modelers: watching on, sending nothing"
            );
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
