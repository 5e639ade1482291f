"""Synthetic credit data: wallets with the 74 features of the credit-scoring challenge, and whether they defaulted.

The distributions are those that template/devnet/src/features.rs documents and serves, so a model trained here meets
at run time what it has seen. The one difference: here each row has a market day of its own, while all wallets of one
devnet see the same day.
"""

import numpy as np

DAY = 86_400.0
TODAY = 1_717_200_000.0  # 2024-06-01 00:00 UTC


class Draws:
    """The random draws of `rows` wallets, one array a draw."""

    def __init__(self, rng: np.random.Generator, rows: int):
        self.rng = rng
        self.rows = rows

    def unit(self) -> np.ndarray:
        return self.rng.random(self.rows)

    def uniform(self, low: float, high: float) -> np.ndarray:
        return low + (high - low) * self.unit()

    def normal(self, mean, deviation: float) -> np.ndarray:
        """Normal, cut at 2.5 standard deviations: no wallet is further out than a sample of a few hundred rows."""
        return mean + deviation * np.clip(self.rng.standard_normal(self.rows), -2.5, 2.5)

    def log_normal(self, median: float, sigma: float) -> np.ndarray:
        return median * np.exp(self.normal(0.0, sigma))


def integer(values: np.ndarray) -> np.ndarray:
    """Counts and times are whole numbers."""
    return np.floor(values).astype(np.int64)


def eth(values: np.ndarray) -> np.ndarray:
    """Amounts end at the gwei."""
    return np.round(values, 9)


def number(values: np.ndarray) -> np.ndarray:
    """Indices and ratios have six decimals."""
    return np.round(values, 6)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """numerator / denominator, 0 where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)


def features(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    """`rows` wallets: feature name -> one value a wallet, in Plumber's order."""
    draws = Draws(rng, rows)
    table = activity(draws)
    table |= risky(draws, table)
    table |= holdings(draws)
    lending_table, protocols = lending(draws, table)
    return table | lending_table | market(draws) | protocols


def activity(draws: Draws) -> dict[str, np.ndarray]:
    """When a wallet was active and what it moved."""
    age = np.floor(draws.uniform(60.0, 2500.0) * DAY)
    last = np.floor(TODAY - age * draws.uniform(0.0, 0.2))
    incoming = np.floor(5.0 + draws.log_normal(120.0, 0.9))
    outgoing = np.floor(3.0 + draws.log_normal(150.0, 0.9))
    gas = draws.log_normal(0.004, 0.6)
    sent = draws.log_normal(0.35, 0.8)
    received = sent * draws.log_normal(1.1, 0.3)
    return {
        "first_tx_timestamp": integer(TODAY - age),
        "last_tx_timestamp": integer(last),
        "wallet_age": integer(age),
        "incoming_tx_count": integer(incoming),
        "outgoing_tx_count": integer(outgoing),
        "net_incoming_tx_count": integer(incoming - outgoing),
        "total_gas_paid_eth": eth(gas * outgoing),
        "avg_gas_paid_per_tx_eth": eth(gas),
        "outgoing_tx_sum_eth": eth(sent * outgoing),
        "incoming_tx_sum_eth": eth(received * incoming),
        "outgoing_tx_avg_eth": eth(sent),
        "incoming_tx_avg_eth": eth(received),
    }


def risky(draws: Draws, table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Dealings with contracts known to be risky: 60 % of wallets have none."""
    some = (draws.unit() >= 0.6).astype(float)
    count = some * np.floor(1.0 + draws.log_normal(4.0, 0.8))
    contracts = np.ceil(count * draws.uniform(0.3, 1.0))
    start, end = table["first_tx_timestamp"].astype(float), table["last_tx_timestamp"].astype(float)
    first = start + np.floor((end - start) * draws.uniform(0.0, 0.6))
    last = first + np.floor((end - first) * draws.unit())
    return {
        "risky_tx_count": integer(count),
        "risky_unique_contract_count": integer(contracts),
        "risky_first_tx_timestamp": integer(some * first),
        "risky_last_tx_timestamp": integer(some * last),
        "risky_first_last_tx_timestamp_diff": integer(some * (last - first)),
        "risky_sum_outgoing_amount_eth": eth(count * draws.log_normal(0.4, 0.8)),
    }


def holdings(draws: Draws) -> dict[str, np.ndarray]:
    """What a wallet holds and held."""
    balance = draws.log_normal(2.5, 1.0)
    return {
        "max_eth_ever": eth(balance * (1.0 + draws.log_normal(1.5, 0.7))),
        "min_eth_ever": eth(balance * draws.uniform(0.0, 0.4)),
        "total_balance_eth": eth(balance),
    }


def lending(draws: Draws, table: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Deposits, loans and liquidations, and the counts of protocols used."""
    lends = (draws.unit() < 0.7).astype(float)
    borrows = lends * (draws.unit() < 0.75)

    deposits = lends * np.floor(1.0 + draws.log_normal(6.0, 0.8))
    deposited = deposits * draws.log_normal(1.8, 0.8)
    withdrawn = deposited * draws.uniform(0.0, 1.1)
    since_deposit = np.floor(lends * table["wallet_age"] * draws.uniform(0.1, 0.9))
    collateral = deposited * draws.uniform(0.2, 1.0)

    loans = borrows * np.floor(1.0 + draws.log_normal(4.0, 0.8))
    borrowed = borrows * collateral * draws.uniform(0.1, 0.75)
    repayments = np.floor(loans * draws.uniform(0.0, 1.2))
    repaid = np.where(repayments > 0.0, borrowed * draws.uniform(0.0, 1.05), 0.0)
    debt = np.maximum(borrowed - repaid, 0.0)

    risk = np.minimum(ratio(debt, 0.8 * collateral), 1.2)
    average_risk = risk * draws.uniform(0.6, 1.0)
    max_risk = np.minimum(np.maximum(ratio(borrowed, 0.8 * collateral), risk), 1.5)
    above = np.floor(60.0 * np.maximum(max_risk - 0.6, 0.0) * draws.unit())
    available = np.maximum(0.8 * collateral - debt, 0.0)

    liquidated = draws.unit() < 0.5 * np.maximum(max_risk - 0.5, 0.0)
    liquidations = liquidated * np.floor(1.0 + 3.0 * draws.unit())
    since_liquidation = liquidated * since_deposit * draws.uniform(0.05, 0.9)

    table = {
        "risk_factor": number(risk),
        "total_collateral_eth": eth(collateral),
        "total_collateral_avg_eth": eth(collateral * draws.uniform(0.6, 1.0)),
        "total_available_borrows_eth": eth(available),
        "total_available_borrows_avg_eth": eth(available * draws.uniform(0.6, 1.1)),
        "avg_weighted_risk_factor": number(average_risk * draws.uniform(0.8, 1.1)),
        "risk_factor_above_threshold_daily_count": integer(above),
        "avg_risk_factor": number(average_risk),
        "max_risk_factor": number(max_risk),
        "borrow_amount_sum_eth": eth(borrowed),
        "borrow_amount_avg_eth": eth(ratio(borrowed, loans)),
        "borrow_count": integer(loans),
        "repay_amount_sum_eth": eth(repaid),
        "repay_amount_avg_eth": eth(ratio(repaid, repayments)),
        "repay_count": integer(repayments),
        "borrow_repay_diff_eth": eth(borrowed - repaid),
        "deposit_count": integer(deposits),
        "deposit_amount_sum_eth": eth(deposited),
        "time_since_first_deposit": integer(since_deposit),
        "withdraw_amount_sum_eth": eth(withdrawn),
        "withdraw_deposit_diff_if_positive_eth": eth(np.maximum(withdrawn - deposited, 0.0)),
        "liquidation_count": integer(liquidations),
        "time_since_last_liquidated": integer(since_liquidation),
        "liquidation_amount_sum_eth": eth(liquidations * borrowed * draws.uniform(0.05, 0.25)),
    }
    protocols = {
        "unique_borrow_protocol_count": integer(borrows * np.floor(1.0 + 3.0 * draws.unit())),
        "unique_lending_protocol_count": integer(lends * np.floor(1.0 + 3.0 * draws.unit())),
    }
    return table, protocols


def market(draws: Draws) -> dict[str, np.ndarray]:
    """The market's indicators on some day."""
    adx = draws.uniform(12.0, 55.0)
    aroonup = draws.uniform(0.0, 100.0)
    fastk = draws.uniform(0.0, 100.0)
    rocp = draws.normal(0.0, 0.08)
    macd = draws.normal(0.0, 35.0)
    macdext, macdfix = macd * draws.normal(1.0, 0.05), macd * draws.normal(1.0, 0.05)
    return {
        "market_adx": number(adx),
        "market_adxr": number(0.9 * adx + draws.uniform(0.0, 5.0)),
        "market_apo": number(draws.normal(0.0, 40.0)),
        "market_aroonosc": number(aroonup - draws.uniform(0.0, 100.0)),
        "market_aroonup": number(aroonup),
        "market_atr": number(draws.log_normal(95.0, 0.35)),
        "market_cci": number(draws.normal(0.0, 100.0)),
        "market_cmo": number(draws.normal(0.0, 28.0)),
        "market_correl": number(draws.uniform(-0.2, 1.0)),
        "market_dx": number(draws.uniform(3.0, 75.0)),
        "market_fastd": number(0.7 * fastk + draws.uniform(0.0, 30.0)),
        "market_fastk": number(fastk),
        "market_ht_trendmode": integer(draws.unit() < 0.6),
        "market_linearreg_slope": number(draws.normal(0.0, 12.0)),
        "market_macd_macdext": number(macdext),
        "market_macd_macdfix": number(macdfix),
        "market_macd": number(macd),
        "market_macdsignal_macdext": number(draws.normal(0.8 * macdext, 8.0)),
        "market_macdsignal_macdfix": number(draws.normal(0.8 * macdfix, 8.0)),
        "market_macdsignal": number(draws.normal(0.8 * macd, 8.0)),
        "market_max_drawdown_365d": number(draws.uniform(0.2, 0.7)),
        "market_natr": number(draws.log_normal(4.0, 0.35)),
        "market_plus_di": number(draws.uniform(8.0, 45.0)),
        "market_plus_dm": number(draws.log_normal(350.0, 0.4)),
        "market_ppo": number(draws.normal(0.0, 2.2)),
        "market_rocp": number(rocp),
        "market_rocr": number(1.0 + rocp),
    }


def defaulted(rng: np.random.Generator, table: dict[str, np.ndarray]) -> np.ndarray:
    """Which wallets default (1) or do not (0): drawn from a probability that their history and the market set."""
    coverage = np.log1p(table["total_balance_eth"]) - np.log1p(np.maximum(table["borrow_repay_diff_eth"], 0.0))
    repaid_share = ratio(table["repay_amount_sum_eth"], table["borrow_amount_sum_eth"])
    borrows = table["borrow_count"] > 0
    log_odds = (
        -1.6
        + 2.6 * table["risk_factor"]
        + 0.9 * np.maximum(table["max_risk_factor"] - 0.5, 0.0)
        + 0.9 * (table["liquidation_count"] > 0)
        - 1.4 * borrows * repaid_share
        - 0.8 * coverage
        - 1.0 * (table["wallet_age"] / (1000.0 * DAY) - 1.3)
        + 0.35 * np.log1p(table["risky_tx_count"])
        - 0.25 * (np.log1p(table["outgoing_tx_count"]) - 5.0)
        + 1.2 * (table["market_max_drawdown_365d"] - 0.45)
        - 5.0 * table["market_rocp"]
        + 0.5 * np.tanh(table["market_natr"] - 4.0) * borrows
    )
    probability = 1.0 / (1.0 + np.exp(-0.7 * log_odds))
    return (rng.random(len(probability)) < probability).astype(np.int64)
