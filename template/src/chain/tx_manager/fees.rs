//! What a unit of gas may cost: by the settings, and by what was offered before.

use anyhow::Context as _;
use ethers::types::U256;
use ethers::utils::parse_units;

use crate::config;
use crate::fault::{Classify as _, Fault, Result};
use crate::ledger::Attempt;

/// A transaction that is not mined is replaced by one that pays an eighth more (nodes want a tenth), and at most this
/// much more where the market asks for it.
const MIN_BUMP: (u64, u64) = (9, 8);
const MAX_FEE_MULTIPLE: u64 = 3;

/// What is offered for a unit of gas, in wei.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fees {
    pub max: U256,
    /// As `max` where there is no EIP-1559.
    pub priority: U256,
    pub legacy: bool,
}

/// What the settings allow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// `NOVA_MAX_FEE_GWEI`.
    pub cap: Option<U256>,
    /// `NOVA_GAS_PRICE_GWEI`, used as given.
    pub fixed: Option<U256>,
    /// `NOVA_PRIORITY_FEE_GWEI`, in the place of what the node suggests.
    pub priority: Option<U256>,
}

impl Fees {
    pub fn legacy(price: U256) -> Self {
        Self { max: price, priority: price, legacy: true }
    }

    /// What this much gas costs at most, in wei.
    pub fn cost(self, gas: u64) -> U256 {
        self.max.saturating_mul(gas.into())
    }

    /// What was offered before, over all of `attempts`: the most of each.
    pub fn offered<'a>(attempts: impl IntoIterator<Item = &'a Attempt>) -> Result<Self> {
        let mut most = Self { max: U256::zero(), priority: U256::zero(), legacy: false };
        for attempt in attempts {
            most.max = most.max.max(wei(&attempt.max_fee_wei)?);
            most.priority = most.priority.max(wei(&attempt.priority_fee_wei)?);
        }
        Ok(most)
    }

    /// What takes the place of `self` in a node's pool while the market asks for `estimate`.
    ///
    /// # Errors
    /// Why the settings do not allow it.
    pub fn replacement(self, estimate: Self, limits: Limits) -> std::result::Result<Self, String> {
        let least = bump(self.max);
        if limits.fixed.is_some() {
            return if estimate.max >= least {
                Ok(estimate)
            } else {
                Err(format!("NOVA_GAS_PRICE_GWEI is used as given, replacing it would take {} gwei", gwei(least)))
            };
        }
        let cap = limits.cap.unwrap_or(U256::MAX);
        if least > cap {
            let (paid, needed) = (gwei(self.max), gwei(least));
            return Err(format!(
                "it pays {paid} gwei, replacing it takes {needed}, and NOVA_MAX_FEE_GWEI is {}",
                gwei(cap)
            ));
        }
        let max = bump_towards(self.max, estimate.max).min(cap);
        // Where nothing was offered to who orders transactions, an eighth more of that is nothing, too: all that is paid more is.
        let raise = if self.priority.is_zero() { max.saturating_sub(self.max) } else { U256::zero() };
        let priority = bump_towards(self.priority, estimate.priority).max(raise).min(max);
        let priority = if estimate.legacy { max } else { priority };
        Ok(Self { max, priority, legacy: estimate.legacy })
    }
}

impl Limits {
    pub fn of(settings: &config::Chain) -> Result<Self> {
        Ok(Self {
            cap: settings.max_fee_gwei.map(gwei_to_wei).transpose()?,
            fixed: settings.gas_price_gwei.map(gwei_to_wei).transpose()?,
            priority: settings.priority_fee_gwei.map(gwei_to_wei).transpose()?,
        })
    }
}

/// max(old × 1.125, min(estimate, 3 × old)), and always above the old one.
fn bump_towards(old: U256, estimate: U256) -> U256 {
    bump(old).max(estimate.min(old.saturating_mul(MAX_FEE_MULTIPLE.into())))
}

fn bump(old: U256) -> U256 {
    let (times, of) = MIN_BUMP;
    let up = old.saturating_mul(times.into()).saturating_add((of - 1).into()) / of;
    up.max(old.saturating_add(U256::one()))
}

fn wei(text: &str) -> Result<U256> {
    U256::from_dec_str(text).map_err(|_| Fault::Fatal(anyhow::anyhow!("the ledger holds a fee that is none: {text}")))
}

/// For people.
pub(super) fn gwei(wei: U256) -> String {
    let text = ethers::utils::format_units(wei, "gwei").unwrap_or_else(|_| wei.to_string());
    let text = text.trim_end_matches('0');
    text.strip_suffix('.').unwrap_or(text).to_owned()
}

fn gwei_to_wei(gwei: f64) -> Result<U256> {
    Ok(parse_units(format!("{gwei:.9}"), "gwei")
        .with_context(|| format!("{gwei} gwei is no gas price"))
        .fatal()?
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fees(max: u64, priority: u64) -> Fees {
        Fees { max: max.into(), priority: priority.into(), legacy: false }
    }

    fn free() -> Limits {
        Limits { cap: None, fixed: None, priority: None }
    }

    #[test]
    fn a_replacement_pays_an_eighth_more_or_what_the_market_asks_up_to_three_times() {
        for (old, estimate, new) in [
            (fees(800, 80), fees(100, 10), fees(900, 90)),
            (fees(800, 80), fees(2000, 160), fees(2000, 160)),
            (fees(800, 80), fees(9999, 999), fees(2400, 240)),
            // Rounded up.
            (fees(801, 81), fees(0, 0), fees(902, 92)),
            // Never by nothing.
            (fees(1, 0), fees(1, 0), fees(2, 1)),
            // Where nothing was offered to who orders transactions, all that is paid more goes there.
            (fees(800, 0), fees(800, 0), fees(900, 100)),
            // The priority fee is a part of the fee.
            (fees(8, 8), fees(0, 100), fees(9, 9)),
        ] {
            assert_eq!(old.replacement(estimate, free()).unwrap(), new, "{old:?}, {estimate:?}");
        }
    }

    #[test]
    fn the_cap_is_never_passed() {
        let capped = Limits { cap: Some(1000.into()), ..free() };
        assert_eq!(fees(800, 80).replacement(fees(5000, 80), capped).unwrap(), fees(1000, 90));
        let refused = fees(900, 80).replacement(fees(5000, 80), capped).unwrap_err();
        assert!(refused.contains("NOVA_MAX_FEE_GWEI is 0.000001") && refused.contains("0.000001013"), "{refused}");
    }

    #[test]
    fn a_fixed_price_is_used_as_given() {
        let price = |wei: u64| Fees::legacy(wei.into());
        let fixed = Limits { fixed: Some(100.into()), ..free() };
        assert!(price(100).replacement(price(100), fixed).unwrap_err().contains("NOVA_GAS_PRICE_GWEI"));
        // The owner has raised it since.
        assert_eq!(price(80).replacement(price(100), fixed).unwrap(), price(100));
    }
}
