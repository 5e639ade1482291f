//! What providers and their nodes are known to do, under the names by which `--like` asks for it.

use std::time::Duration;

/// How a provider behaves.
#[derive(Clone, Debug)]
pub struct Manners {
    pub requests_per_second: usize,
    /// Blocks in one question for logs.
    pub log_range: u64,
    /// How a wider one is refused: code and words, in turn.
    pub range_words: &'static [(i64, &'static str)],
    /// Blocks that the second machine is behind the first.
    pub lag: u64,
    /// A question for logs that ends beyond the head of the machine that answers is refused; else the machine says nothing of the rest.
    pub refuses_beyond_head: bool,
    /// The block that `earliest` is: history before it was removed.
    pub earliest: u64,
    pub finalized: Finalized,
    /// Who takes what cannot be mined yet.
    pub pool: Pool,
    /// How long each call takes, and how long one that sends takes besides.
    pub round_trip: Duration,
    pub send_takes: Duration,
    /// Blocks with whole transactions begin with one of Arbitrum's own.
    pub odd_transactions: bool,
    /// Why the first sends are refused, and how many.
    pub first_sends: Option<(usize, &'static str)>,
}

/// What the tag `finalized` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finalized {
    /// As the chain has it.
    Known,
    Unknown,
    /// The block that it was at the start: the batch poster has stopped.
    Still,
}

/// What becomes of a transaction whose nonce is above the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// It waits in a pool, as on most chains.
    Usual,
    /// Nitro: so many wait so long, and are refused then.
    Parking { most: usize, patience: Duration },
    /// It is refused at once.
    None,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            requests_per_second: 25,
            log_range: 1_000,
            range_words: &[(-32600, "query exceeds the range of {n} blocks")],
            lag: 3,
            refuses_beyond_head: false,
            earliest: 0,
            finalized: Finalized::Known,
            pool: Pool::Usual,
            round_trip: Duration::ZERO,
            send_takes: Duration::ZERO,
            odd_transactions: false,
            first_sends: None,
        }
    }
}

/// A name, what it stands for, and what that changes.
pub type Kind = (&'static str, &'static str, fn(&mut Manners));

/// All of them. Sources: Nitro's execution/gethexec/sequencer.go (nonce failures are kept a second,
/// 1,024 of them; `max-revert-gas-reject`), geth's eth/filters (a range beyond the head, since 1.16), the plans of Alchemy and QuickNode
/// for Arbitrum.
pub const KINDS: [Kind; 11] = [
    (
        "nitro",
        "a node of Arbitrum: no pool, a parked nonce waits a second, sends take until they are sequenced",
        |manners| {
            manners.requests_per_second = 1_000;
            manners.pool = Pool::Parking { most: 1_024, patience: Duration::from_secs(1) };
            manners.refuses_beyond_head = true;
            manners.odd_transactions = true;
            manners.round_trip = Duration::from_millis(100);
            manners.send_takes = Duration::from_millis(250);
        },
    ),
    ("no-parking", "a nonce above the next is refused at once", |manners| manners.pool = Pool::None),
    ("alchemy-free", "10 blocks of logs at once", |manners| {
        manners.log_range = 10;
        manners.range_words = &[(
            -32600,
            "Under the Free tier plan, you can make eth_getLogs requests with up to a {n} block range. Based on your parameters, this block \
             range should work: [0x0, 0x9]. Upgrade to PAYG for expanded block range.",
        )];
    }),
    ("quicknode-free", "5 blocks of logs at once, 15 calls a second", |manners| {
        (manners.requests_per_second, manners.log_range) = (15, 5);
        manners.range_words = &[(-32614, "eth_getLogs is limited to a {n} range")];
    }),
    ("few-blocks", "10 blocks of logs at once, refused in the words of one provider after the other", |manners| {
        manners.log_range = 10;
        manners.range_words = &[
            (-32005, "please limit the query to at most {n} blocks"),
            (-32602, "query exceeds max block range {n}"),
            (-32614, "eth_getLogs is limited to a {n} range"),
            (-32600, "block range is too wide"),
            (-32000, "exceed maximum block range: {n}"),
            (35, "ranges over {n} blocks are not supported on freetier"),
        ];
    }),
    ("late", "every other call comes from a machine that is 20 blocks behind", |manners| manners.lag = 20),
    ("pruned", "history begins at block 10", |manners| manners.earliest = 10),
    ("no-finalized", "the tag `finalized` is unknown", |manners| manners.finalized = Finalized::Unknown),
    ("old-finalized", "`finalized` stands still", |manners| manners.finalized = Finalized::Still),
    ("intrinsic", "the first three sends carry too little gas, for a moment", |manners| {
        manners.first_sends = Some((3, "intrinsic gas too low"));
    }),
    ("full", "the sequencer's queue is full for the first three sends", |manners| {
        manners.first_sends = Some((3, "sequencer pending tx pool full, please try again"));
    }),
];

impl Manners {
    /// Those of all these kinds, separated by commas; a later one counts where two differ.
    ///
    /// # Errors
    /// The name that none has, and all names.
    pub fn like(names: &str) -> Result<Self, String> {
        let mut manners = Self::default();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let Some((_, _, change)) = KINDS.iter().find(|(kind, ..)| *kind == name) else {
                let kinds: Vec<_> = KINDS.iter().map(|(kind, what, _)| format!("{kind} ({what})")).collect();
                return Err(format!("no node is like `{name}`; there are {}", kinds.join(", ")));
            };
            change(&mut manners);
        }
        Ok(manners)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manners_of_several_kinds_are_put_together() {
        let manners = Manners::like("nitro, alchemy-free").unwrap();
        assert_eq!((manners.log_range, manners.refuses_beyond_head), (10, true));
        assert!(matches!(manners.pool, Pool::Parking { most: 1_024, .. }));
        let unknown = Manners::like("nitro,geth").unwrap_err();
        assert!(unknown.contains("`geth`") && unknown.contains("alchemy-free"), "{unknown}");
    }
}
