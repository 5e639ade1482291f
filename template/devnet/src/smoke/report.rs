//! What a run has seen, and what it has cost.

use std::sync::Arc;

use ethers::{types::U256, utils::format_units};
use serde::Serialize;

use crate::{
    request::{Answer, Request},
    sender::Sender,
};

/// What was seen.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub chain_id: u64,
    /// Whether the contracts of an earlier run were used.
    pub contracts_reused: bool,
    pub served: Vec<Served>,
    pub costs: Vec<Cost>,
    /// What all of it has cost, in wei: what we had before less what we have after.
    pub spent: U256,
    /// Seconds that the daemon took to stop.
    pub stopped_in: f64,
}

/// A request, its answer, and how that was proven.
#[derive(Debug, Serialize)]
pub struct Served {
    pub request: Request,
    pub answer: Answer,
    /// Of the answer's transaction.
    pub gas: U256,
    pub wei: U256,
    pub proof: Option<String>,
}

/// Transactions of a kind.
#[derive(Debug, Serialize)]
pub struct Cost {
    pub who: &'static str,
    pub what: String,
    pub transactions: usize,
    pub gas: U256,
    pub wei: U256,
}

/// What each of these has paid for, by its kind.
pub(super) fn costs<'a>(senders: impl Iterator<Item = &'a (&'static str, Arc<Sender>)>) -> Vec<Cost> {
    let mut costs: Vec<Cost> = Vec::new();
    for &(who, ref sender) in senders {
        for spent in sender.spent() {
            let what = kind(&spent.what);
            match costs.iter_mut().find(|cost| cost.who == who && cost.what == what) {
                Some(cost) => {
                    cost.transactions += 1;
                    cost.gas += spent.gas;
                    cost.wei += spent.wei;
                }
                None => {
                    let what = what.to_owned();
                    costs.push(Cost { who, what, transactions: 1, gas: spent.gas, wei: spent.wei });
                }
            }
        }
    }
    costs
}

/// What was done, without to whom: "request an inference" for "request an inference for `0x…`".
fn kind(what: &str) -> &str {
    let end = what.find('`').or_else(|| what.find(" 0x")).unwrap_or(what.len());
    what[..end].trim_end().trim_end_matches(" for").trim_end_matches(" of")
}

/// An amount of wei in the chain's main unit.
pub fn ether(wei: U256) -> String {
    format_units(wei, 18).unwrap_or_else(|_| wei.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_of_a_kind_are_added_up() {
        for (what, expected) in [
            ("deploy PaymentToken", "deploy PaymentToken"),
            ("pay 0x00000000000000000000000000000000000000aa", "pay"),
            ("request an inference for `0xaa`", "request an inference"),
            ("request the proof of 0xaa", "request the proof"),
        ] {
            assert_eq!(kind(what), expected);
        }
    }
}
