//! Why a node does not take a transaction. Each kind of node has its own words; they are told apart here and nowhere else.

/// What a refusal means for the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The node has it: success.
    Known,
    /// Its nonce is spent, by itself or by another: the receipts tell.
    NonceSpent,
    /// Nonces below it are not there yet.
    NonceTooHigh,
    /// Another transaction has its nonce in the pool, and it pays too little to take its place.
    Outbid,
    /// It pays less than the node or the next block asks for.
    Cheap,
    /// The wallet cannot pay for it.
    Unfunded,
    /// It carries less gas than the node asks for now.
    TooLittleGas,
    /// No node can ever take these bytes.
    Unmineable,
    /// Anything else: it is offered again.
    Other,
}

/// In this order, because some messages hold the words of two. Geth's `txpool`, Nitro's sequencer, Erigon, Nethermind,
/// Besu and anvil; Alchemy and Infura hand on what one of these said.
const WORDS: [(Refusal, &[&str]); 8] = [
    (
        Refusal::Known,
        &["already known", "already imported", "alreadyknown", "known transaction", "existing tx with same hash"],
    ),
    (Refusal::NonceSpent, &["nonce too low", "nonce is too low", "oldnonce", "nonce has already been used"]),
    (Refusal::NonceTooHigh, &["nonce too high", "nonce is too high", "nonce gap", "noncegap"]),
    (Refusal::Outbid, &["replacement", "could not replace"]),
    (
        Refusal::Unfunded,
        &["insufficient funds", "insufficientfunds", "upfront cost exceeds", "exceeds account balance"],
    ),
    (
        Refusal::Cheap,
        &[
            "underpriced",
            "less than block base fee",
            "fee too low",
            "feetoolow",
            "fee cap less than",
            "below configured minimum",
            "below the minimum",
        ],
    ),
    (Refusal::TooLittleGas, &["intrinsic gas"]),
    (
        Refusal::Unmineable,
        &[
            "exceeds block gas limit",
            "gas limit is too high",
            "transaction type not supported",
            "invalid chain id",
            "oversized data",
            "invalid sender",
        ],
    ),
];

impl Refusal {
    pub fn of(message: &str) -> Self {
        let message = message.to_lowercase();
        let fits = |words: &[&str]| words.iter().any(|word| message.contains(word));
        WORDS.iter().find(|(_, words)| fits(words)).map_or(Self::Other, |(refusal, _)| *refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_every_node_are_understood() {
        for (node, message, refusal) in [
            ("geth", "already known", Refusal::Known),
            ("anvil", "transaction already imported", Refusal::Known),
            ("nethermind", "AlreadyKnown", Refusal::Known),
            ("erigon", "existing tx with same hash", Refusal::Known),
            ("besu", "Known transaction", Refusal::Known),
            ("geth", "nonce too low: next nonce 6, tx nonce 5", Refusal::NonceSpent),
            ("nitro", "nonce too low: address 0x00, tx: 5 state: 6", Refusal::NonceSpent),
            ("nethermind", "OldNonce, Current nonce: 6, nonce of rejected tx: 5", Refusal::NonceSpent),
            ("alchemy", "Nonce too low. Expected nonce to be 6 but got 5", Refusal::NonceSpent),
            ("nitro", "nonce too high: address 0x00, tx: 9 state: 6", Refusal::NonceTooHigh),
            ("geth", "replacement transaction underpriced", Refusal::Outbid),
            ("geth", "replacement transaction underpriced: new tx gas tip cap 1 <= 1 queued", Refusal::Outbid),
            ("erigon", "could not replace existing tx", Refusal::Outbid),
            ("nethermind", "ReplacementNotAllowed", Refusal::Outbid),
            ("geth", "transaction underpriced: gas tip cap 0, minimum needed 1", Refusal::Cheap),
            ("anvil", "transaction underpriced", Refusal::Cheap),
            ("anvil", "max fee per gas less than block base fee", Refusal::Cheap),
            (
                "nitro",
                "max fee per gas less than block base fee: address 0x00, maxFeePerGas: 1, baseFee: 2",
                Refusal::Cheap,
            ),
            ("erigon", "fee too low", Refusal::Cheap),
            ("nethermind", "FeeTooLow, MaxFeePerGas too low", Refusal::Cheap),
            ("besu", "Gas price below configured minimum gas price", Refusal::Cheap),
            ("geth", "insufficient funds for gas * price + value: balance 1, tx cost 2, overshot 1", Refusal::Unfunded),
            ("anvil", "Insufficient funds for gas * price + value", Refusal::Unfunded),
            ("besu", "Upfront cost exceeds account balance", Refusal::Unfunded),
            ("geth", "intrinsic gas too low: gas 20000, minimum needed 21000", Refusal::TooLittleGas),
            ("nitro", "intrinsic gas too low", Refusal::TooLittleGas),
            ("geth", "exceeds block gas limit", Refusal::Unmineable),
            ("geth", "txpool is full", Refusal::Other),
            ("infura", "daily request count exceeded", Refusal::Other),
        ] {
            assert_eq!(Refusal::of(message), refusal, "{node}: {message}");
        }
    }
}
