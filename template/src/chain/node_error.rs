//! Why a node does not take a transaction. Each kind of node has its own words; they are told apart here and nowhere else.

/// What a refusal means for the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeError {
    /// The node has it: success.
    AlreadyKnown,
    /// Its nonce is spent, by itself or by another: the receipts tell.
    NonceTooLow,
    /// Nonces below it are not there yet.
    NonceTooHigh,
    /// Another transaction has its nonce in the pool, and it pays too little to take its place.
    ReplacementUnderpriced,
    /// It pays less than the node or the next block asks for.
    Underpriced,
    /// The wallet cannot pay for it.
    InsufficientFunds,
    /// It carries less gas than the node asks for now.
    IntrinsicGasTooLow,
    /// No node can ever take these bytes.
    Invalid,
    /// Anything else: it is offered again.
    Other,
}

/// In this order, because some messages hold the words of two. Geth's `txpool`, Nitro's sequencer, Erigon, Nethermind,
/// Besu and anvil; Alchemy and Infura hand on what one of these said.
const PATTERNS: [(NodeError, &[&str]); 8] = [
    (
        NodeError::AlreadyKnown,
        &["already known", "already imported", "alreadyknown", "known transaction", "existing tx with same hash"],
    ),
    (NodeError::NonceTooLow, &["nonce too low", "nonce is too low", "oldnonce", "nonce has already been used"]),
    (NodeError::NonceTooHigh, &["nonce too high", "nonce is too high", "nonce gap", "noncegap"]),
    (NodeError::ReplacementUnderpriced, &["replacement", "could not replace"]),
    (
        NodeError::InsufficientFunds,
        &["insufficient funds", "insufficientfunds", "upfront cost exceeds", "exceeds account balance"],
    ),
    (
        NodeError::Underpriced,
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
    (NodeError::IntrinsicGasTooLow, &["intrinsic gas"]),
    (
        NodeError::Invalid,
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

impl NodeError {
    pub fn of(message: &str) -> Self {
        let message = message.to_lowercase();
        let fits = |words: &[&str]| words.iter().any(|word| message.contains(word));
        PATTERNS.iter().find(|(_, words)| fits(words)).map_or(Self::Other, |(refusal, _)| *refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_every_node_are_understood() {
        for (node, message, refusal) in [
            ("geth", "already known", NodeError::AlreadyKnown),
            ("anvil", "transaction already imported", NodeError::AlreadyKnown),
            ("nethermind", "AlreadyKnown", NodeError::AlreadyKnown),
            ("erigon", "existing tx with same hash", NodeError::AlreadyKnown),
            ("besu", "Known transaction", NodeError::AlreadyKnown),
            ("geth", "nonce too low: next nonce 6, tx nonce 5", NodeError::NonceTooLow),
            ("nitro", "nonce too low: address 0x00, tx: 5 state: 6", NodeError::NonceTooLow),
            ("nethermind", "OldNonce, Current nonce: 6, nonce of rejected tx: 5", NodeError::NonceTooLow),
            ("alchemy", "Nonce too low. Expected nonce to be 6 but got 5", NodeError::NonceTooLow),
            ("nitro", "nonce too high: address 0x00, tx: 9 state: 6", NodeError::NonceTooHigh),
            ("geth", "replacement transaction underpriced", NodeError::ReplacementUnderpriced),
            (
                "geth",
                "replacement transaction underpriced: new tx gas tip cap 1 <= 1 queued",
                NodeError::ReplacementUnderpriced,
            ),
            ("erigon", "could not replace existing tx", NodeError::ReplacementUnderpriced),
            ("nethermind", "ReplacementNotAllowed", NodeError::ReplacementUnderpriced),
            ("geth", "transaction underpriced: gas tip cap 0, minimum needed 1", NodeError::Underpriced),
            ("anvil", "transaction underpriced", NodeError::Underpriced),
            ("anvil", "max fee per gas less than block base fee", NodeError::Underpriced),
            (
                "nitro",
                "max fee per gas less than block base fee: address 0x00, maxFeePerGas: 1, baseFee: 2",
                NodeError::Underpriced,
            ),
            ("erigon", "fee too low", NodeError::Underpriced),
            ("nethermind", "FeeTooLow, MaxFeePerGas too low", NodeError::Underpriced),
            ("besu", "Gas price below configured minimum gas price", NodeError::Underpriced),
            (
                "geth",
                "insufficient funds for gas * price + value: balance 1, tx cost 2, overshot 1",
                NodeError::InsufficientFunds,
            ),
            ("anvil", "Insufficient funds for gas * price + value", NodeError::InsufficientFunds),
            ("besu", "Upfront cost exceeds account balance", NodeError::InsufficientFunds),
            ("geth", "intrinsic gas too low: gas 20000, minimum needed 21000", NodeError::IntrinsicGasTooLow),
            ("nitro", "intrinsic gas too low", NodeError::IntrinsicGasTooLow),
            ("geth", "exceeds block gas limit", NodeError::Invalid),
            ("geth", "txpool is full", NodeError::Other),
            ("infura", "daily request count exceeded", NodeError::Other),
        ] {
            assert_eq!(NodeError::of(message), refusal, "{node}: {message}");
        }
    }
}
