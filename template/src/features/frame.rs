//! JSON objects of features → rows.

use anyhow::{Result as Anyhow, ensure};
use polars::prelude::{Column, DataFrame, DataType, Float64Chunked};
use serde_json::{Map, Value};

use super::row::{FeatureRow, UnusableFeature};
use crate::plain;

/// The one feature that is a string: whose features these are.
pub const WALLET: &str = "wallet_address";

/// One row of features. What holds no number is left out of the frame.
pub fn frame(values: &Map<String, Value>) -> FeatureRow {
    let (mut columns, mut unusable) = (Vec::with_capacity(values.len()), Vec::new());
    for (at, (name, value)) in values.iter().enumerate() {
        match (number(value), value) {
            (Some(number), _) if name != WALLET => columns.push(Column::new(name.as_str().into(), [number])),
            (_, Value::String(wallet)) if name == WALLET => {
                columns.push(Column::new(name.as_str().into(), [wallet.as_str()]))
            }
            _ => unusable.push(UnusableFeature { at, name: name.clone(), holds: shown(value) }),
        }
    }
    // One value each, and an object has no name twice.
    FeatureRow::new(DataFrame::new(1, columns).unwrap_or_default(), unusable)
}

/// The number that a value is, if it is one: `true` and `false` are 1 and 0, as in CSV and parquet. Integers beyond 2^53
/// become the nearest f64, as they did in training.
fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

/// As much of a value as an error bears.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => plain::at_most(&other.to_string(), 40).into_owned(),
    }
}

/// The column as f64. Only numbers and truth values are: a string is not guessed at.
pub fn numbers(column: &Column) -> Anyhow<Float64Chunked> {
    let dtype = column.dtype();
    ensure!(
        dtype.is_primitive_numeric() || dtype.is_bool(),
        "column {:?} holds {dtype}, expected numbers",
        column.name()
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
    fn features_become_f64_columns_in_their_order() {
        let found = of(json!({"b": 1, "wallet_address": "0xab", "a": -2.5e-3}));
        let expected = df!("b" => [1.0], "wallet_address" => ["0xab"], "a" => [-0.0025]).unwrap();
        assert!(found.frame().equals(&expected), "{found:?}");
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
    fn what_is_no_number_is_left_out_and_told_by_its_name() {
        for (value, holds) in [
            (json!("NaN"), r#""NaN""#),
            (json!("12"), r#""12""#),
            (json!(null), "null"),
            (json!([1]), "a list"),
            (json!({}), "an object"),
            (json!("é".repeat(60)), &format!("\"{}…", "é".repeat(39))),
        ] {
            let row = of(json!({"ok": 1, "risk": value}));
            assert!(row.frame().equals(&df!("ok" => [1.0]).unwrap()), "{row:?}");
            let fault = row.explain(crate::fault::Fault::Row(anyhow::anyhow!("not found: \"risk\"")));
            assert!(
                fault.to_string().starts_with(&format!("feature \"risk\" is {holds}, expected a number")),
                "{fault}"
            );
        }
        assert_eq!(of(json!({"wallet_address": 5})).frame().width(), 0);
    }
}
