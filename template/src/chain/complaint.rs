//! What nodes and the providers before them say when they have no result. All of it comes as JSON-RPC errors, whose codes the
//! specification leaves to each of them; what they mean is told here and nowhere else, by code and by words.

use ethers::providers::JsonRpcError;

use super::node_error::NodeError;
use super::revert::data_text;

/// What an error means for the call that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Complaint {
    /// Limits, quotas, plans and keys: another endpoint may answer, or this one later.
    Busy,
    /// The node, or what stands before it, is in trouble.
    Broken,
    /// The machine has not heard of a block yet.
    Behind,
    /// The machine has no history so far back.
    Pruned,
    /// Too many blocks or logs at once.
    TooWide,
    /// The node has answered: the call reverted, the transaction was refused, or its words are in none of the lists below.
    Spoken,
}

/// Codes that mean the same whatever is said: of HTTP and of Alchemy (429), dRPC (15 no answer in time, 19 for a moment, 30 free tier),
/// Base and OP's proxyd (-32016, -32011 no backend), QuickNode (-32007), GetBlock (-32029), Blast (-32090).
const BUSY_CODES: [i64; 9] = [429, 15, 19, 30, -32007, -32011, -32016, -32029, -32090];
/// EIP-1474: "limit exceeded". Also said of too many logs.
const LIMIT_EXCEEDED: i64 = -32005;
/// JSON-RPC 2.0, section 5.1.
const INTERNAL_ERROR: i64 = -32603;
/// EIP-4444: history that is gone; execution-apis reserves it.
const PRUNED_HISTORY: i64 = 4444;
/// Geth, and with it Nitro: "execution reverted", with the data.
const REVERTED: i64 = 3;

const BUSY: [&str; 19] = [
    // Alchemy, Infura, QuickNode, Base, Blast, GetBlock, LlamaNodes
    "rate limit",
    "request rate exceeded",
    "too many requests",
    "request limit",
    "request count exceeded",
    "compute units",
    "limit exceeded",
    "quota",
    "capacity exceeded",
    // Plans: dRPC, Ankr, Tenderly
    "upgrade",
    "your plan",
    "free tier",
    "freetier",
    // Keys: Ankr, Infura, Alchemy
    "api key",
    "unauthorized",
    "must be authenticated",
    "project id",
    "app is inactive",
    // Nitro's sequencer and gateways in maintenance
    "not available at this time",
];

const BROKEN: [&str; 13] = [
    "missing trie node",
    "upstream",
    "no backend",
    "unable to complete request",
    "request timed out",
    "request timeout",
    "temporary internal error",
    "temporarily unavailable",
    "service unavailable",
    "bad gateway",
    "connection refused",
    "overloaded",
    "try again",
];

/// For a block by number or hash, and for logs up to one: geth and Nitro, Erigon, Nethermind, reth, Besu (execution-apis#875).
const BEHIND: [&str; 10] = [
    "header not found",
    "header for hash not found",
    "block not found",
    "unknown block",
    "cannot find block",
    "extends beyond current head",
    "invalid block range params",
    "beyond the latest block",
    "beyond latest executed block",
    "request beyond head",
];

const PRUNED: [&str; 4] = ["pruned", "old data not available", "history unavailable", "missing historical"];

/// Of logs: Alchemy, Infura, QuickNode, Ankr, dRPC, Blast, Cloudflare, Erigon, Nethermind, Nitro.
const TOO_WIDE: [&str; 17] = [
    "block range",
    "blocks range",
    "range limit",
    "range is too",
    "range too",
    "ranges over",
    "range exceed",
    "exceeds the range",
    "max range",
    "limited to a",
    "at most",
    "returned more than",
    "response size",
    "too many logs",
    "too many results",
    "exceeds limit of",
    "exceed max",
];

impl Complaint {
    /// Of an error that a node gave for a call of this method.
    pub fn of(method: &str, error: &JsonRpcError) -> Self {
        let message = error.message.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
        if has_reverted(error, &message) {
            return Self::Spoken;
        }
        // The pool's limit for one account is none of the provider's.
        if method == "eth_sendRawTransaction"
            && (NodeError::of(&message) != NodeError::Other || message.contains("account limit"))
        {
            return Self::Spoken;
        }
        if says(&BEHIND) {
            return Self::Behind;
        }
        if error.code == PRUNED_HISTORY || says(&PRUNED) {
            return Self::Pruned;
        }
        if BUSY_CODES.contains(&error.code) {
            return Self::Busy;
        }
        if method == "eth_getLogs" && says(&TOO_WIDE) {
            return Self::TooWide;
        }
        if error.code == LIMIT_EXCEEDED || says(&BUSY) {
            return Self::Busy;
        }
        if error.code == INTERNAL_ERROR || says(&BROKEN) {
            return Self::Broken;
        }
        Self::Spoken
    }

    /// Of an error that a node gave for a block by its tag (`finalized`): that the node does not know the tag is an answer.
    pub fn of_tag(error: &JsonRpcError) -> Self {
        match Self::of("eth_getBlockByNumber", error) {
            Self::Behind => Self::Spoken,
            other => other,
        }
    }

    /// True if another endpoint, or the same one later, may answer.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Busy | Self::Broken | Self::Behind | Self::Pruned)
    }
}

/// A call that reverted has the contract's own data in hex, or says so.
fn has_reverted(error: &JsonRpcError, message: &str) -> bool {
    let has_data = error.data.as_ref().and_then(data_text).is_some_and(|data| data.starts_with("0x"));
    error.code == REVERTED || has_data || message.contains("revert")
}

/// The most blocks that are served at once, where the refusal of a longer range names it: "up to a 10 block range", "max block range
/// 500", "2K block range".
pub(super) fn named_range(message: &str) -> Option<u64> {
    let message = message.to_lowercase().replace([',', '_'], "");
    let words: Vec<&str> =
        message.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let is_of_blocks = |word: Option<&&str>| word.is_some_and(|word| ["block", "blocks", "range"].contains(word));
    let of = |at: usize| is_of_blocks(words.get(at + 1)) || at > 0 && is_of_blocks(words.get(at - 1));
    words.iter().enumerate().filter(|(at, _)| of(*at)).find_map(|(_, word)| number(word)).filter(|blocks| *blocks > 0)
}

/// `500`, `2k`
fn number(word: &str) -> Option<u64> {
    match word.strip_suffix('k') {
        Some(thousands) => thousands.parse::<u64>().ok()?.checked_mul(1000),
        None => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Complaint::{Behind, Broken, Busy, Pruned, Spoken, TooWide};
    use super::*;

    fn error(code: i64, message: &str) -> JsonRpcError {
        JsonRpcError { code, message: message.to_owned(), data: None }
    }

    #[test]
    fn regression_the_words_of_every_provider_are_understood() {
        for (who, code, message, complaint) in [
            ("alchemy", 429, "Your app has exceeded its compute units per second capacity", Busy),
            ("alchemy", -32000, "Unable to complete request at this time.", Broken),
            ("infura", -32005, "project ID request rate exceeded", Busy),
            ("infura", -32005, "daily request count exceeded, request rate limited", Busy),
            ("base", -32016, "over rate limit", Busy),
            ("base", -32000, "429 Too Many Requests: {\"code\":-32016}", Busy),
            ("proxyd", -32011, "no backend is currently healthy to serve traffic", Busy),
            ("quicknode", -32007, "25/second request limit reached - reduce calls per second", Busy),
            ("drpc", 30, "Request timeout on the free tier, please upgrade to paid", Busy),
            ("drpc", 19, "Temporary internal error. Please retry", Busy),
            ("drpc", 15, "the request took too long", Busy),
            ("one rpc", -32001, "Exceeded the quota usage", Busy),
            ("getblock", -32029, "Too Many Requests", Busy),
            ("blast", -32090, "Too many requests, reason: call rate limit exhausted, retry in 10s", Busy),
            ("ankr", -32000, "Unauthorized: You must authenticate your request with an API key", Busy),
            ("a plan", -32601, "the method is not available on your plan", Busy),
            ("a gateway", -32601, "the method is not available at this time", Busy),
            ("any", -32000, "capacity exceeded, try again later", Busy),
            ("espresso", -32000, "App is inactive", Busy),
            ("any", -32603, "Internal error", Broken),
            ("geth", -32000, "missing trie node 3f5a (path ) state 0x3f5a is not available", Broken),
            ("any", -32002, "request timed out", Broken),
            ("geth", -32000, "header not found", Behind),
            ("geth", -32000, "header for hash not found", Behind),
            ("besu", -32000, "Block not found", Behind),
            ("erigon", -32000, "Unknown block", Behind),
            ("geth", 4444, "pruned history unavailable", Pruned),
            ("reth", -32000, "old data not available due to pruning", Pruned),
            ("geth", -32601, "the method eth_foo does not exist/is not available", Spoken),
            ("geth", -32602, "missing value for required argument 0", Spoken),
            ("geth", 3, "execution reverted: rate limit", Spoken),
            ("anvil", -32603, "execution reverted", Spoken),
        ] {
            assert_eq!(Complaint::of("eth_call", &error(code, message)), complaint, "{who}: {message}");
        }
    }

    #[test]
    fn an_internal_error_is_a_revert_if_the_contract_speaks_in_it() {
        let with = |data: Value| JsonRpcError { data: Some(data), ..error(-32603, "service temporarily unavailable") };
        assert_eq!(Complaint::of("eth_call", &with(json!({ "reason": "overloaded" }))), Broken);
        for reverted in [json!("0x08c379a0"), json!("Reverted 0x08c379a0"), json!({ "data": "0x08c379a0" })] {
            assert_eq!(Complaint::of("eth_call", &with(reverted)), Spoken);
        }
    }

    #[test]
    fn regression_what_a_node_says_of_a_transaction_is_an_answer_in_every_code() {
        for (code, message, complaint) in [
            (-32603, "nonce too low: next nonce 6, tx nonce 5", Spoken),
            (-32000, "insufficient funds for gas * price + value", Spoken),
            (-32010, "already known", Spoken),
            (-32000, "txpool is full", Spoken),
            (-32000, "account limit exceeded", Spoken),
            (-32603, "Internal error", Broken),
            (-32016, "over rate limit", Busy),
        ] {
            assert_eq!(Complaint::of("eth_sendRawTransaction", &error(code, message)), complaint, "{message}");
        }
    }

    #[test]
    fn a_tag_that_a_node_does_not_know_is_an_answer() {
        for message in ["Unknown block", "finalized block not found"] {
            assert_eq!(Complaint::of_tag(&error(-39001, message)), Spoken);
        }
        assert_eq!(Complaint::of("eth_getBlockByNumber", &error(-32000, "header not found")), Behind);
        assert_eq!(Complaint::of_tag(&error(-32016, "over rate limit")), Busy);
    }

    #[test]
    fn regression_a_range_that_is_too_wide_is_told_from_one_that_ends_beyond_the_head() {
        for (who, code, message, complaint, named) in [
            ("infura", -32005, "please limit the query to at most 10 blocks", TooWide, Some(10)),
            ("infura", -32005, "query returned more than 10000 results", TooWide, None),
            ("ankr", -32602, "query exceeds max block range 10", TooWide, Some(10)),
            ("quicknode", -32614, "eth_getLogs is limited to a 10 range", TooWide, Some(10)),
            ("ankr", -32600, "block range is too wide", TooWide, None),
            ("any", -32000, "exceed maximum block range: 500", TooWide, Some(500)),
            ("any", -32000, "exceed maximum block range: 5,000", TooWide, Some(5000)),
            ("alchemy", 429, "at most 25 requests per second", Busy, None),
            ("alchemy", -32602, "Log response size exceeded. this block range should work: [0x1, 0x2]", TooWide, None),
            (
                "alchemy",
                -32600,
                "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range.",
                TooWide,
                Some(10),
            ),
            (
                "alchemy",
                -32602,
                "Log response size exceeded. You can make requests with up to a 2K block range",
                TooWide,
                Some(2000),
            ),
            ("drpc", 35, "ranges over 10000 blocks are not supported on freetier", TooWide, Some(10_000)),
            ("llama", -32000, "logs matched by query exceeds limit of 10000", TooWide, None),
            ("our stand-in", -32600, "query exceeds the range of 10 blocks", TooWide, Some(10)),
            ("nitro", -32602, "block range extends beyond current head block", Behind, None),
            ("geth", -32000, "invalid block range params", Behind, None),
            ("nethermind", -32602, "requested block is beyond the latest block", Behind, None),
            ("geth", 4444, "pruned history unavailable", Pruned, None),
            ("base", -32016, "over rate limit", Busy, None),
        ] {
            assert_eq!(Complaint::of("eth_getLogs", &error(code, message)), complaint, "{who}: {message}");
            assert_eq!(named_range(message), named, "{who}: {message}");
        }
    }
}
