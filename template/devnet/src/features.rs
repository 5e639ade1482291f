//! Believable features for any wallet: what the devnet's Plumber serves.
//!
//! Everything is drawn from the keccak hash of the address and the name of the draw, so the same wallet has the
//! same features on every machine and at every time. The market features are drawn the same way from one market
//! seed, because on one day every wallet sees the same market.
//!
//! The distributions, in full (`U` uniform, `N` normal, `LN` log-normal given by its median and sigma; every normal
//! draw is cut at ±2.5 sigma, so no wallet is further out than a sample of a few hundred rows; times are Unix
//! seconds or seconds; `TODAY` is 2024-06-01):
//!
//! | feature | how it is drawn |
//! |---|---|
//! | `wallet_age` | U(60, 2,500) days |
//! | `first_tx_timestamp`, `last_tx_timestamp` | TODAY − age; TODAY − age·U(0, 0.2) |
//! | `incoming_tx_count`, `outgoing_tx_count` | ⌊5 + LN(120, 0.9)⌋; ⌊3 + LN(150, 0.9)⌋; net is their difference |
//! | `avg_gas_paid_per_tx_eth` | LN(0.004, 0.6); the total is × outgoing count |
//! | `risky_tx_count` | 0 for 60 % of wallets, else ⌊1 + LN(4, 0.8)⌋ (all other `risky_*` are 0 where it is 0) |
//! | `risky_unique_contract_count` | ⌈risky count·U(0.3, 1)⌉ |
//! | `risky_first_tx_timestamp` | first + (last − first)·U(0, 0.6); the last risky one: + (rest)·U(0, 1) |
//! | `risky_sum_outgoing_amount_eth` | risky count·LN(0.4, 0.8) |
//! | `outgoing_tx_avg_eth`, `incoming_tx_avg_eth` | LN(0.35, 0.8); incoming: that × LN(1.1, 0.3); sums × counts |
//! | `total_balance_eth` | LN(2.5, 1.0) |
//! | `max_eth_ever`, `min_eth_ever` | balance·(1 + LN(1.5, 0.7)); balance·U(0, 0.4) |
//! | lending | 70 % of wallets deposit, 75 % of those borrow (else all of it is 0) |
//! | `deposit_count`, `deposit_amount_sum_eth` | ⌊1 + LN(6, 0.8)⌋; count·LN(1.8, 0.8) |
//! | `time_since_first_deposit` | age·U(0.1, 0.9) |
//! | `withdraw_amount_sum_eth` | deposits·U(0, 1.1); `withdraw_deposit_diff_if_positive_eth` = max(0, it − deposits) |
//! | `total_collateral_eth` | deposits·U(0.2, 1); its average: × U(0.6, 1) |
//! | `borrow_count`, `borrow_amount_sum_eth` | ⌊1 + LN(4, 0.8)⌋; collateral·U(0.1, 0.75); the average is sum / count |
//! | `repay_count`, `repay_amount_sum_eth` | ⌊borrow count·U(0, 1.2)⌋; borrowed·U(0, 1.05), 0 without a repayment |
//! | `borrow_repay_diff_eth` | borrowed − repaid |
//! | `risk_factor` | debt / (0.8·collateral), debt = max(0, borrowed − repaid), at most 1.2 |
//! | `avg_risk_factor`, `max_risk_factor` | risk·U(0.6, 1); borrowed / (0.8·collateral), at least risk, at most 1.5 |
//! | `avg_weighted_risk_factor` | average·U(0.8, 1.1) |
//! | `risk_factor_above_threshold_daily_count` | ⌊60·max(0, max risk − 0.6)·U(0, 1)⌋ |
//! | `total_available_borrows_eth` | max(0, 0.8·collateral − debt); its average: × U(0.6, 1.1) |
//! | `liquidation_count` | ⌊1 + 3·U⌋ with probability 0.5·max(0, max risk − 0.5), else 0 |
//! | `time_since_last_liquidated` | deposit time·U(0.05, 0.9), 0 without a liquidation |
//! | `liquidation_amount_sum_eth` | liquidations·borrowed·U(0.05, 0.25) |
//! | `unique_borrow_protocol_count`, `unique_lending_protocol_count` | ⌊1 + 3·U⌋ where there is a loan or a deposit |
//! | `market_*` | see [`market`] |

mod names;

use ethers::{
    types::{Address, H256},
    utils::keccak256,
};
use serde_json::{Map, Value, json};

pub use names::NAMES;

/// The day on which all wallets are looked at: 2024-06-01 00:00 UTC.
pub const TODAY: f64 = 1_717_200_000.0;

const DAY: f64 = 86_400.0;

/// A source of draws that are the same for the same seed and name.
struct SeededRng(Vec<u8>);

impl SeededRng {
    /// Uniform in (0, 1).
    fn unit(&self, name: &str) -> f64 {
        self.pair(name).0
    }

    fn uniform(&self, name: &str, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit(name)
    }

    /// Normal, cut at ±2.5 standard deviations (Box and Muller).
    fn normal(&self, name: &str, mean: f64, deviation: f64) -> f64 {
        let (a, b) = self.pair(name);
        let z = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        mean + deviation * z.clamp(-2.5, 2.5)
    }

    fn log_normal(&self, name: &str, median: f64, sigma: f64) -> f64 {
        median * self.normal(name, 0.0, sigma).exp()
    }

    fn pair(&self, name: &str) -> (f64, f64) {
        let hash = keccak256([&self.0, name.as_bytes()].concat());
        let unit = |bytes: &[u8]| {
            let word = bytes.iter().fold(0u64, |word, byte| (word << 8) | u64::from(*byte));
            ((word >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        };
        (unit(&hash[..8]), unit(&hash[8..16]))
    }
}

/// What a wallet did itself: all features but the market's.
pub fn wallet(address: Address) -> Map<String, Value> {
    let draws = SeededRng(address.as_bytes().to_vec());
    let mut row = Row(Map::new());
    let times = activity(&draws, &mut row);
    risky(&draws, &mut row, &times);
    let balance = draws.log_normal("total_balance_eth", 2.5, 1.0);
    row.eth("total_balance_eth", balance);
    row.eth("max_eth_ever", balance * (1.0 + draws.log_normal("max_eth_ever", 1.5, 0.7)));
    row.eth("min_eth_ever", balance * draws.uniform("min_eth_ever", 0.0, 0.4));
    lending(&draws, &mut row, &times);
    row.0
}

/// The state of the market on the day of `seed`, the same for all wallets.
///
/// | feature (`market_…`) | distribution |
/// |---|---|
/// | adx, adxr | U(12, 55); 0.9·adx + U(0, 5) |
/// | dx | U(3, 75) |
/// | apo, macd, macd_macdext, macd_macdfix | N(0, 40); macd N(0, 35), the other two macd·N(1, 0.05) |
/// | macdsignal, …_macdext, …_macdfix | 0.8·its macd + N(0, 8) |
/// | aroonup, aroonosc | U(0, 100); aroonup − U(0, 100) |
/// | atr, natr | LN(95, 0.35); LN(4, 0.35) |
/// | cci, cmo | N(0, 100); N(0, 28) |
/// | correl | U(−0.2, 1) |
/// | fastk, fastd | U(0, 100); 0.7·fastk + U(0, 30) |
/// | ht_trendmode | 1 with probability 0.6, else 0 |
/// | linearreg_slope | N(0, 12) |
/// | max_drawdown_365d | U(0.2, 0.7) |
/// | plus_di, plus_dm | U(8, 45); LN(350, 0.4) |
/// | ppo | N(0, 2.2) |
/// | rocp, rocr | N(0, 0.08); 1 + rocp |
pub fn market(seed: H256) -> Map<String, Value> {
    let draws = SeededRng(seed.as_bytes().to_vec());
    let mut row = Row(Map::new());
    let adx = draws.uniform("adx", 12.0, 55.0);
    let macd = draws.normal("macd", 0.0, 35.0);
    let aroonup = draws.uniform("aroonup", 0.0, 100.0);
    let fastk = draws.uniform("fastk", 0.0, 100.0);
    let rocp = draws.normal("rocp", 0.0, 0.08);
    row.number("market_adx", adx);
    row.number("market_adxr", 0.9 * adx + draws.uniform("adxr", 0.0, 5.0));
    row.number("market_apo", draws.normal("apo", 0.0, 40.0));
    row.number("market_aroonosc", aroonup - draws.uniform("aroondown", 0.0, 100.0));
    row.number("market_aroonup", aroonup);
    row.number("market_atr", draws.log_normal("atr", 95.0, 0.35));
    row.number("market_cci", draws.normal("cci", 0.0, 100.0));
    row.number("market_cmo", draws.normal("cmo", 0.0, 28.0));
    row.number("market_correl", draws.uniform("correl", -0.2, 1.0));
    row.number("market_dx", draws.uniform("dx", 3.0, 75.0));
    row.number("market_fastd", 0.7 * fastk + draws.uniform("fastd", 0.0, 30.0));
    row.number("market_fastk", fastk);
    row.integer("market_ht_trendmode", f64::from(draws.unit("ht_trendmode") < 0.6));
    row.number("market_linearreg_slope", draws.normal("linearreg_slope", 0.0, 12.0));
    for (name, kind) in [("macdext", "_macdext"), ("macdfix", "_macdfix"), ("macd", "")] {
        let factor = if kind.is_empty() { 1.0 } else { draws.normal(name, 1.0, 0.05) };
        let signal = draws.normal(&format!("signal {name}"), 0.8 * macd * factor, 8.0);
        row.number(&format!("market_macd{kind}"), macd * factor);
        row.number(&format!("market_macdsignal{kind}"), signal);
    }
    row.number("market_max_drawdown_365d", draws.uniform("max_drawdown", 0.2, 0.7));
    row.number("market_natr", draws.log_normal("natr", 4.0, 0.35));
    row.number("market_plus_di", draws.uniform("plus_di", 8.0, 45.0));
    row.number("market_plus_dm", draws.log_normal("plus_dm", 350.0, 0.4));
    row.number("market_ppo", draws.normal("ppo", 0.0, 2.2));
    row.number("market_rocp", rocp);
    row.number("market_rocr", 1.0 + rocp);
    row.0
}

/// When a wallet was first and last active.
struct Times {
    age: f64,
    first: f64,
    last: f64,
}

fn activity(draws: &SeededRng, row: &mut Row) -> Times {
    let age = (draws.uniform("wallet_age", 60.0, 2500.0) * DAY).floor();
    let times = Times { age, first: TODAY - age, last: (TODAY - age * draws.uniform("idle", 0.0, 0.2)).floor() };
    let incoming = (5.0 + draws.log_normal("incoming_tx_count", 120.0, 0.9)).floor();
    let outgoing = (3.0 + draws.log_normal("outgoing_tx_count", 150.0, 0.9)).floor();
    let gas = draws.log_normal("avg_gas_paid_per_tx_eth", 0.004, 0.6);
    let sent = draws.log_normal("outgoing_tx_avg_eth", 0.35, 0.8);
    let received = sent * draws.log_normal("incoming_tx_avg_eth", 1.1, 0.3);
    row.integer("first_tx_timestamp", times.first);
    row.integer("last_tx_timestamp", times.last);
    row.integer("wallet_age", times.age);
    row.integer("incoming_tx_count", incoming);
    row.integer("outgoing_tx_count", outgoing);
    row.integer("net_incoming_tx_count", incoming - outgoing);
    row.eth("total_gas_paid_eth", gas * outgoing);
    row.eth("avg_gas_paid_per_tx_eth", gas);
    row.eth("outgoing_tx_sum_eth", sent * outgoing);
    row.eth("incoming_tx_sum_eth", received * incoming);
    row.eth("outgoing_tx_avg_eth", sent);
    row.eth("incoming_tx_avg_eth", received);
    times
}

fn risky(draws: &SeededRng, row: &mut Row, times: &Times) {
    let any = f64::from(draws.unit("risky") >= 0.6);
    let count = any * (1.0 + draws.log_normal("risky_tx_count", 4.0, 0.8)).floor();
    let contracts = (count * draws.uniform("risky_unique_contract_count", 0.3, 1.0)).ceil();
    let span = times.last - times.first;
    let first = times.first + (span * draws.uniform("risky_first", 0.0, 0.6)).floor();
    let last = first + ((times.last - first) * draws.unit("risky_last")).floor();
    row.integer("risky_tx_count", count);
    row.integer("risky_unique_contract_count", contracts);
    row.integer("risky_first_tx_timestamp", any * first);
    row.integer("risky_last_tx_timestamp", any * last);
    row.integer("risky_first_last_tx_timestamp_diff", any * (last - first));
    row.eth("risky_sum_outgoing_amount_eth", count * draws.log_normal("risky_amount", 0.4, 0.8));
}

fn lending(draws: &SeededRng, row: &mut Row, times: &Times) {
    let lends = f64::from(draws.unit("deposits") < 0.7);
    let borrows = lends * f64::from(draws.unit("borrows") < 0.75);

    let deposits = lends * (1.0 + draws.log_normal("deposit_count", 6.0, 0.8)).floor();
    let deposited = deposits * draws.log_normal("deposit_amount", 1.8, 0.8);
    let withdrawn = deposited * draws.uniform("withdraw_amount", 0.0, 1.1);
    let since_deposit = (lends * times.age * draws.uniform("time_since_first_deposit", 0.1, 0.9)).floor();
    let collateral = deposited * draws.uniform("collateral", 0.2, 1.0);

    let loans = borrows * (1.0 + draws.log_normal("borrow_count", 4.0, 0.8)).floor();
    let borrowed = borrows * collateral * draws.uniform("borrow_amount", 0.1, 0.75);
    let repayments = (loans * draws.uniform("repay_count", 0.0, 1.2)).floor();
    let repaid = if repayments > 0.0 { borrowed * draws.uniform("repay_amount", 0.0, 1.05) } else { 0.0 };
    let debt = (borrowed - repaid).max(0.0);

    let risk = ratio(debt, 0.8 * collateral).min(1.2);
    let average_risk = risk * draws.uniform("avg_risk_factor", 0.6, 1.0);
    let max_risk = ratio(borrowed, 0.8 * collateral).max(risk).min(1.5);
    let above = (60.0 * (max_risk - 0.6).max(0.0) * draws.unit("above_threshold")).floor();
    let available = (0.8 * collateral - debt).max(0.0);

    let liquidated = draws.unit("liquidated") < 0.5 * (max_risk - 0.5).max(0.0);
    let liquidations = if liquidated { (1.0 + 3.0 * draws.unit("liquidation_count")).floor() } else { 0.0 };
    let since_liquidation = if liquidated { since_deposit * draws.uniform("liquidation_time", 0.05, 0.9) } else { 0.0 };
    let protocols = |name: &str, any: f64| any * (1.0 + 3.0 * draws.unit(name)).floor();

    row.number("risk_factor", risk);
    row.eth("total_collateral_eth", collateral);
    row.eth("total_collateral_avg_eth", collateral * draws.uniform("collateral_avg", 0.6, 1.0));
    row.eth("total_available_borrows_eth", available);
    row.eth("total_available_borrows_avg_eth", available * draws.uniform("available_avg", 0.6, 1.1));
    row.number("avg_weighted_risk_factor", average_risk * draws.uniform("weighted_risk", 0.8, 1.1));
    row.integer("risk_factor_above_threshold_daily_count", above);
    row.number("avg_risk_factor", average_risk);
    row.number("max_risk_factor", max_risk);
    row.eth("borrow_amount_sum_eth", borrowed);
    row.eth("borrow_amount_avg_eth", ratio(borrowed, loans));
    row.integer("borrow_count", loans);
    row.eth("repay_amount_sum_eth", repaid);
    row.eth("repay_amount_avg_eth", ratio(repaid, repayments));
    row.integer("repay_count", repayments);
    row.eth("borrow_repay_diff_eth", borrowed - repaid);
    row.integer("deposit_count", deposits);
    row.eth("deposit_amount_sum_eth", deposited);
    row.integer("time_since_first_deposit", since_deposit);
    row.eth("withdraw_amount_sum_eth", withdrawn);
    row.eth("withdraw_deposit_diff_if_positive_eth", (withdrawn - deposited).max(0.0));
    row.integer("liquidation_count", liquidations);
    row.integer("time_since_last_liquidated", since_liquidation.floor());
    row.eth("liquidation_amount_sum_eth", liquidations * borrowed * draws.uniform("liquidation_amount", 0.05, 0.25));
    row.integer("unique_borrow_protocol_count", protocols("borrow_protocols", borrows));
    row.integer("unique_lending_protocol_count", protocols("lending_protocols", lends));
}

fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator > 0.0 { numerator / denominator } else { 0.0 }
}

/// A row of features, rounded as an API would: counts and times are integers, amounts end at the gwei.
struct Row(Map<String, Value>);

impl Row {
    fn integer(&mut self, name: &str, value: f64) {
        self.0.insert(name.to_owned(), json!(value as i64));
    }

    fn eth(&mut self, name: &str, value: f64) {
        self.0.insert(name.to_owned(), json!((value * 1e9).round() / 1e9));
    }

    fn number(&mut self, name: &str, value: f64) {
        self.0.insert(name.to_owned(), json!((value * 1e6).round() / 1e6));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(index: u64) -> Map<String, Value> {
        let mut row = wallet(Address::from_low_u64_be(index));
        row.extend(market(H256::from_low_u64_be(index)));
        row
    }

    #[test]
    fn every_wallet_has_every_feature_as_a_finite_number_and_nothing_else() {
        for index in 0..500 {
            let row = row(index);
            assert_eq!(row.len(), NAMES.len(), "wallet {index}");
            for name in NAMES {
                let value = row.get(name).and_then(Value::as_f64);
                assert!(value.is_some_and(f64::is_finite), "wallet {index}: {name} is {value:?}");
            }
        }
    }

    #[test]
    fn the_same_wallet_has_the_same_features_and_another_has_others() {
        assert_eq!(row(7), row(7));
        assert_ne!(row(7), row(8));
    }

    #[test]
    fn timestamps_are_integers_that_single_precision_cannot_hold() {
        let row = row(1);
        for name in ["first_tx_timestamp", "last_tx_timestamp"] {
            assert!(row[name].as_i64().is_some_and(|time| time > 1 << 24), "{name}: {}", row[name]);
        }
    }
}
