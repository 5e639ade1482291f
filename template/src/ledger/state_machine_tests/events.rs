//! What may happen to a ledger.

use proptest::prelude::*;

/// Which of the two processes that share the ledger.
pub type Process = usize;
/// Which request or challenge, of a few: so that events meet. A number beyond them is one that the process has claimed.
pub type Slot = u8;
/// Which branch of the chain a block is of.
pub type Branch = u8;
/// Which transaction of those there are.
pub type Pick = prop::sample::Index;

pub const REQUESTS: Slot = 5;
pub const CHALLENGES: Slot = 3;

#[derive(Debug, Clone)]
pub enum Event {
    /// The watcher reads these requests, new ones or old, in a block of this branch of the chain.
    See {
        requests: Vec<Slot>,
        branch: Branch,
        unread: bool,
    },
    /// The chain forgets this branch.
    Reorg(Branch),
    /// The chain's clock goes on.
    ChainTime(u64),
    /// Whatever waits for its next try has waited long enough.
    NextTries,
    /// A process held its claims for longer than their lease.
    LeasesEnd(Process),
    Renew(Process),
    Release(Process),
    /// SIGKILL, and a new process in its place.
    Crash(Process),
    Claim(Process, usize),
    Infer {
        process: Process,
        request: Slot,
        commitment: bool,
    },
    RequestFault {
        process: Process,
        request: Slot,
        for_good: bool,
    },
    Expire,
    QueueAnswers,
    SeeChallenge(Slot, Branch),
    ClaimChallenge(Process),
    Prove(Process, Slot),
    Upload(Process, Slot),
    ChallengeFault {
        process: Process,
        challenge: Slot,
        for_good: bool,
    },
    PostponeChallenge(Process, Slot),
    QueueDeliveries,
    Sign(Pick),
    Tx(TxEvent, Pick),
    RetryRequest(Slot),
    RetryChallenge(Slot),
    QueueClaim(u64),
    QueueFill,
}

/// What the sender writes down of a transaction. It may also be tried on one that is elsewhere by now.
#[derive(Debug, Clone, Copy)]
pub enum TxEvent {
    Broadcast,
    Replace,
    Cancel,
    /// Any of its attempts, be it one that was given up.
    Mine(usize),
    Unmine,
    Finalise,
    SignAnew,
    /// It was mined and did nothing.
    Void(usize),
    Done,
    Postpone,
    Fatal(&'static str),
}

/// A whole play: first requests and challenges, so that there is something to work on.
pub fn plays() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(event(), 1..250).prop_map(|events| {
        let first = [Event::See { requests: vec![0, 1, 2], branch: 0, unread: false }, Event::SeeChallenge(0, 0)];
        first.into_iter().chain(events).collect()
    })
}

fn event() -> impl Strategy<Value = Event> {
    let process = 0..2_usize;
    let request = 0..REQUESTS;
    let challenge = 0..CHALLENGES;
    let claimed = 0..5 * REQUESTS;
    let claimed_challenge = 0..5 * CHALLENGES;
    let branch = 0..2_u8;
    let rare = prop_oneof![
        (prop::collection::vec(0..REQUESTS, 0..4), branch.clone(), prop::bool::weighted(0.1))
            .prop_map(|(requests, branch, unread)| Event::See { requests, branch, unread }),
        branch.clone().prop_map(Event::Reorg),
        process.clone().prop_map(Event::LeasesEnd),
        process.clone().prop_map(Event::Renew),
        process.clone().prop_map(Event::Release),
        process.clone().prop_map(Event::Crash),
        request.clone().prop_map(Event::RetryRequest),
        challenge.clone().prop_map(Event::RetryChallenge),
        (challenge.clone(), branch).prop_map(|(slot, branch)| Event::SeeChallenge(slot, branch)),
        (0..2_u64).prop_map(Event::QueueClaim),
        Just(Event::QueueFill),
        (process.clone(), claimed.clone(), any::<bool>())
            .prop_map(|(process, request, for_good)| Event::RequestFault { process, request, for_good }),
        (process.clone(), claimed_challenge.clone(), any::<bool>())
            .prop_map(|(process, challenge, for_good)| Event::ChallengeFault { process, challenge, for_good }),
        (process.clone(), claimed_challenge.clone())
            .prop_map(|(process, slot)| Event::PostponeChallenge(process, slot)),
    ];
    let work = prop_oneof![
        2 => Just(Event::NextTries),
        1 => (0..12_u64).prop_map(Event::ChainTime),
        1 => Just(Event::Expire),
        2 => (process.clone(), 1..4_usize).prop_map(|(process, limit)| Event::Claim(process, limit)),
        4 => (process.clone(), claimed, any::<bool>())
            .prop_map(|(process, request, commitment)| Event::Infer { process, request, commitment }),
        3 => process.clone().prop_map(Event::ClaimChallenge),
        3 => (process.clone(), claimed_challenge.clone()).prop_map(|(process, slot)| Event::Prove(process, slot)),
        3 => (process, claimed_challenge).prop_map(|(process, slot)| Event::Upload(process, slot)),
        2 => Just(Event::QueueAnswers),
        2 => Just(Event::QueueDeliveries),
    ];
    prop_oneof![
        2 => rare,
        4 => work,
        3 => any::<Pick>().prop_map(Event::Sign),
        7 => (tx_event(), any::<Pick>()).prop_map(|(event, pick)| Event::Tx(event, pick)),
    ]
}

fn tx_event() -> impl Strategy<Value = TxEvent> {
    prop_oneof![
        3 => Just(TxEvent::Broadcast),
        2 => Just(TxEvent::Replace),
        1 => Just(TxEvent::Cancel),
        6 => any::<usize>().prop_map(TxEvent::Mine),
        1 => Just(TxEvent::Unmine),
        6 => Just(TxEvent::Finalise),
        1 => Just(TxEvent::SignAnew),
        1 => any::<usize>().prop_map(TxEvent::Void),
        1 => Just(TxEvent::Done),
        1 => Just(TxEvent::Postpone),
        2 => prop::sample::select(vec!["failed", "answered", "expired"]).prop_map(TxEvent::Fatal),
    ]
}
