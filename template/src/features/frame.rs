//! JSON objects of features → a frame, one row each.

use anyhow::{Result as Anyhow, bail, ensure};
use polars::prelude::{Column, DataFrame, DataType, Float64Chunked};
use serde_json::{Map, Value};

use crate::fault::{Classify, Result};

/// The one feature that is a string: whose features these are.
pub const WALLET: &str = "wallet_address";

/// One row of features.
pub fn frame(values: &Map<String, Value>) -> Result<DataFrame> {
    rows(std::slice::from_ref(values)).fail_row()
}

/// One row an object. All have the first one's features.
pub(super) fn rows(objects: &[Map<String, Value>]) -> Anyhow<DataFrame> {
    let Some(first) = objects.first() else {
        bail!("there is no row");
    };
    for (at, object) in objects.iter().enumerate() {
        if let Some(extra) = object.keys().find(|name| !first.contains_key(*name)) {
            bail!("row {at} has feature {extra:?}, which row 0 does not have");
        }
    }
    let columns: Anyhow<Vec<Column>> = first.keys().map(|name| column(name, objects)).collect();
    Ok(DataFrame::new(objects.len(), columns?)?)
}

fn column(name: &str, objects: &[Map<String, Value>]) -> Anyhow<Column> {
    let found = objects.iter().enumerate().map(|(at, object)| {
        let value = object.get(name);
        value.ok_or_else(|| anyhow::anyhow!("row {at} has no feature {name:?}"))
    });
    if name == WALLET {
        let texts: Anyhow<Vec<&str>> = found.map(|value| text(name, value?)).collect();
        return Ok(Column::new(name.into(), texts?));
    }
    let numbers: Anyhow<Vec<f64>> = found.map(|value| number(name, value?)).collect();
    Ok(Column::new(name.into(), numbers?))
}

fn text<'a>(name: &str, value: &'a Value) -> Anyhow<&'a str> {
    match value.as_str() {
        Some(text) => Ok(text),
        None => bail!("feature {name:?} is {}, expected a string", shown(value)),
    }
}

/// Integers beyond 2^53 become the nearest f64, as they did in training.
fn number(name: &str, value: &Value) -> Anyhow<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        _ => None,
    };
    match number {
        Some(number) if number.is_finite() => Ok(number),
        _ => bail!("feature {name:?} is {}, expected a number", shown(value)),
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    let short: String = text.chars().take(40).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short}{more}")
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
    use crate::fault::Fault;
    use polars::df;
    use serde_json::json;

    fn of(value: Value) -> Result<DataFrame> {
        let Value::Object(object) = value else { panic!("{value} is no object") };
        frame(&object)
    }

    fn refused(value: Value) -> String {
        match of(value) {
            Err(Fault::Row(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn features_become_f64_columns_in_their_order() {
        let found = of(json!({"b": 1, "wallet_address": "0xab", "a": -2.5e-3})).unwrap();
        let expected = df!("b" => [1.0], "wallet_address" => ["0xab"], "a" => [-0.0025]).unwrap();
        assert!(found.equals(&expected), "{found}");
    }

    #[test]
    fn integers_that_f32_would_round_stay_whole() {
        let frame = of(json!({"first": 1_700_000_001u64, "wei": u64::MAX})).unwrap();
        let value = |name| frame.column(name).unwrap().f64().unwrap().get(0);
        assert_eq!(value("first"), Some(1_700_000_001.0));
        assert_eq!(value("wei"), Some(u64::MAX as f64));
    }

    #[test]
    fn what_is_no_number_is_refused_by_the_features_name() {
        for (value, shown) in [
            (json!("NaN"), r#"feature "risk" is "NaN", expected a number"#),
            (json!("12"), r#"feature "risk" is "12", expected a number"#),
            (json!(null), r#"feature "risk" is null, expected a number"#),
            (json!(true), r#"feature "risk" is true, expected a number"#),
            (json!([1]), r#"feature "risk" is [1], expected a number"#),
        ] {
            assert_eq!(refused(json!({"ok": 1, "risk": value})), shown);
        }
        let wallet = refused(json!({"wallet_address": 5}));
        assert_eq!(wallet, r#"feature "wallet_address" is 5, expected a string"#);
    }

    #[test]
    fn rows_must_have_the_same_features() {
        let objects = |value: Value| serde_json::from_value::<Vec<Map<_, _>>>(value).unwrap();
        let error = |value| rows(&objects(value)).unwrap_err().to_string();
        let missing = error(json!([{"a": 1, "b": 1}, {"a": 1}]));
        assert_eq!(missing, r#"row 1 has no feature "b""#);
        let extra = error(json!([{"a": 1}, {"a": 1, "c": 2}]));
        assert!(extra.contains(r#"row 1 has feature "c""#), "{extra}");
    }
}
