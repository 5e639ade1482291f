//! JSON objects of features → rows; columns of frames → numbers.

use anyhow::{Result as Anyhow, ensure};
use polars::prelude::{Column, DataType, Float64Chunked};
use serde_json::{Map, Value};

use super::cell::Cell;
use super::row::FeatureRow;

/// The one feature that is no model's: whose features these are.
pub const WALLET: &str = "wallet_address";

/// A column that is computed with, and holds no numbers.
#[derive(Debug, thiserror::Error)]
#[error("column {column:?} holds {dtype}, expected numbers")]
pub struct NotNumbers {
    pub column: String,
    dtype: DataType,
}

/// One row of features.
pub fn frame(values: &Map<String, Value>) -> FeatureRow {
    FeatureRow::new(values.iter().map(|(name, value)| (name.clone(), Cell::of_json(value))).collect())
}

/// The column as f64. Only numbers and truth values are: a string is not guessed at.
pub fn numbers(column: &Column) -> Anyhow<Float64Chunked> {
    let dtype = column.dtype();
    ensure!(
        dtype.is_primitive_numeric() || dtype.is_bool(),
        NotNumbers { column: column.name().to_string(), dtype: dtype.clone() }
    );
    Ok(column.cast(&DataType::Float64)?.f64()?.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::df;
    use serde_json::json;

    fn of(value: Value) -> FeatureRow {
        let Value::Object(object) = value else { panic!("{value} is no object") };
        frame(&object)
    }

    #[test]
    fn features_become_columns_in_their_order() {
        let found = of(json!({"b": 1, "wallet_address": "0xab", "a": -2.5e-3, "tier": "gold", "gap": null}));
        let expected = df!("b" => [1.0], "wallet_address" => ["0xab"], "a" => [-0.0025], "tier" => ["gold"], "gap" => [None::<f64>]);
        assert!(found.frame().equals_missing(&expected.unwrap()), "{found:?}");
        assert!(found.frame().column("gap").unwrap().dtype().is_float());
    }

    /// As in CSV and parquet: a sample with them, and requests with them, are the same to the model.
    #[test]
    fn regression_truth_values_are_one_and_zero() {
        let found = of(json!({"defi_user": true, "flagged": false}));
        assert!(found.frame().equals(&df!("defi_user" => [1.0], "flagged" => [0.0]).unwrap()), "{found:?}");
    }

    #[test]
    fn integers_that_f32_would_round_stay_whole() {
        let row = of(json!({"first": 1_700_000_001u64, "wei": u64::MAX}));
        let value = |name| row.frame().column(name).unwrap().f64().unwrap().get(0);
        assert_eq!(value("first"), Some(1_700_000_001.0));
        assert_eq!(value("wei"), Some(u64::MAX as f64));
    }

    #[test]
    fn lists_objects_and_infinite_numbers_are_in_no_frame() {
        for value in [json!([1]), json!({}), json!("Infinity")] {
            let row = of(json!({"ok": 1, "risk": value}));
            assert!(row.frame().equals(&df!("ok" => [1.0]).unwrap()), "{row:?}");
        }
        assert_eq!(of(json!({"wallet_address": 5})).frame().width(), 0);
    }
}
