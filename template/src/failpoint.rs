//! Where the process can be made to die, for tests: before and after every step that must survive it. Without the feature
//! `failpoints` there is nothing of this in the program.
//!
//! `FAILPOINTS="tx.signed.after=return"` kills the process, as SIGKILL does, the first time that an attempt has been
//! written; `2*off->return` the third time. `return(FILE)` makes FILE and stands still until somebody removes it. The grammar
//! is that of the crate `fail`.

macro_rules! steps {
    ($($step:ident = $name:literal,)*) => {
        /// What is written down on the way of a request or of a proof.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Step { $($step,)* }

        impl Step {
            /// Every step there is: the fault tests kill the daemon before and after each.
            pub const ALL: &[Self] = &[$(Self::$step,)*];

            /// `tx.signed`: the name of its failpoints, which `.before` and `.after` follow.
            pub fn name(self) -> &'static str {
                match self { $(Self::$step => $name,)* }
            }
        }
    };
}

steps! {
    GapLeft = "gap.left",
    ReorgRewound = "reorg.rewound",
    ReorgOrphaned = "reorg.orphaned",
    RequestSeen = "request.seen",
    RequestRead = "request.read",
    RequestInferred = "request.inferred",
    RequestFault = "request.fault",
    RequestExpired = "request.expired",
    WitnessSaved = "witness.saved",
    AnswerQueued = "answer.queued",
    ChallengeSeen = "challenge.seen",
    ChallengeNamed = "challenge.named",
    ProofSaved = "proof.saved",
    ProofMade = "proof.made",
    ChallengeProved = "challenge.proved",
    ChallengeUploaded = "challenge.uploaded",
    ChallengeFault = "challenge.fault",
    ChallengePostponed = "challenge.postponed",
    DeliveryQueued = "delivery.queued",
    ClaimQueued = "claim.queued",
    FillQueued = "fill.queued",
    TxSigned = "tx.signed",
    TxBroadcast = "tx.broadcast",
    TxReplaced = "tx.replaced",
    TxCancelling = "tx.cancelling",
    TxMined = "tx.mined",
    TxUnmined = "tx.unmined",
    TxVoid = "tx.void",
    TxFinal = "tx.final",
    TxDone = "tx.done",
    TxRequeued = "tx.requeued",
    TxPostponed = "tx.postponed",
    TxFatal = "tx.fatal",
}

/// Runs what writes the step down, between its two failpoints.
pub async fn around<T>(step: Step, write: impl Future<Output = T>) -> T {
    reach(step, "before");
    let written = write.await;
    reach(step, "after");
    written
}

#[cfg(feature = "failpoints")]
fn reach(step: Step, when: &str) {
    fail::eval(&format!("{}.{when}", step.name()), |file| file.map_or_else(die, |file| hold(file.as_ref())));
}

#[cfg(not(feature = "failpoints"))]
fn reach(_: Step, _: &str) {}

/// Ends as a process ends whose machine is pulled: no destructor runs, nothing is flushed.
#[cfg(feature = "failpoints")]
fn die() {
    let own = std::process::id().to_string();
    let killed = std::process::Command::new("sh").args(["-c", "kill -KILL \"$0\"", &own]).status();
    unreachable!("alive after kill: {killed:?}");
}

/// Stands still as a process does that waits for a disk.
#[cfg(feature = "failpoints")]
fn hold(file: &std::path::Path) {
    std::fs::write(file, "").unwrap_or_else(|error| panic!("FAILPOINTS: cannot write {}: {error}", file.display()));
    while file.exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Reads `FAILPOINTS`. They are in force while what this returns lives.
#[cfg(feature = "failpoints")]
pub fn from_environment() -> impl Drop {
    fail::FailScenario::setup()
}
