//! What one feature of a row holds, whatever the source: a number, a string, nothing, or what no model takes.

use std::fmt;
use std::sync::Arc;

use polars::prelude::{Column, Float64Chunked, IntoColumn as _, NewChunkedArray as _, PlSmallStr};
use serde_json::Value;

use crate::sanitize;

/// The value of one feature.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    /// A finite number. `true` and `false` are 1 and 0. Integers beyond 2^53 become the nearest f64, as they did in training.
    Number(f64),
    /// A string, and why its column is one where the file does not say so.
    Text(String, Option<Arc<str>>),
    /// null, NaN, an empty cell: as the source writes it.
    Missing(&'static str),
    /// A list, an object, a date, an infinite number: what it is, for a message.
    Unusable(String),
}

impl Cell {
    pub fn of_number(number: f64) -> Self {
        match number {
            _ if number.is_nan() => Self::Missing("NaN"),
            _ if number.is_infinite() => Self::Unusable(number.to_string()),
            _ => Self::Number(number),
        }
    }

    /// A value of JSON. `"NaN"`, `"Infinity"` and `"-Infinity"` are numbers that Python writes without quotes.
    pub fn of_json(value: &Value) -> Self {
        match value {
            Value::Null => Self::Missing("null"),
            Value::Bool(truth) => Self::Number(f64::from(u8::from(*truth))),
            // Digits beyond f64's range are no number that anything computes with.
            Value::Number(number) => {
                number.as_f64().map_or_else(|| Self::Unusable(number.to_string()), Self::of_number)
            }
            Value::String(text) if text == "NaN" => Self::Missing("\"NaN\""),
            Value::String(text) if text == "Infinity" || text == "-Infinity" => Self::Unusable(format!("{text:?}")),
            Value::String(text) => Self::Text(text.clone(), None),
            Value::Array(_) => Self::Unusable("a list".to_owned()),
            Value::Object(_) => Self::Unusable("an object".to_owned()),
        }
    }

    /// The column of one row: f64, whose gap is null, or strings. `None` for what is in no frame.
    pub fn column(&self, name: &str) -> Option<Column> {
        let name = PlSmallStr::from(name);
        match self {
            Self::Number(number) => Some(Column::new(name, [*number])),
            Self::Text(text, _) => Some(Column::new(name, [text.as_str()])),
            Self::Missing(_) => Some(Float64Chunked::from_slice_options(name, &[None]).into_column()),
            Self::Unusable(_) => None,
        }
    }
}

/// As much of it as an error bears.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text, None) => f.write_str(&sanitize::truncate(&format!("{text:?}"), 40)),
            Self::Text(text, Some(why)) => write!(f, "{} ({why})", sanitize::truncate(&format!("{text:?}"), 40)),
            Self::Missing(holds) => f.write_str(holds),
            Self::Unusable(holds) => f.write_str(holds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_json_value_becomes_number_text_gap_or_nothing() {
        let text = |text: &str| Cell::Text(text.to_owned(), None);
        for (value, cell, shown) in [
            (json!(1), Cell::Number(1.0), "1"),
            (json!(true), Cell::Number(1.0), "1"),
            (json!(u64::MAX), Cell::Number(u64::MAX as f64), "18446744073709552000"),
            (json!("12"), text("12"), r#""12""#),
            (json!(""), text(""), r#""""#),
            (json!(null), Cell::Missing("null"), "null"),
            (json!("NaN"), Cell::Missing("\"NaN\""), r#""NaN""#),
            (json!("-Infinity"), Cell::Unusable("\"-Infinity\"".to_owned()), r#""-Infinity""#),
            (json!([1]), Cell::Unusable("a list".to_owned()), "a list"),
            (json!({}), Cell::Unusable("an object".to_owned()), "an object"),
            (json!("é".repeat(60)), text(&"é".repeat(60)), &format!("\"{}…", "é".repeat(39))),
        ] {
            let found = Cell::of_json(&value);
            assert_eq!((&found, found.to_string().as_str()), (&cell, shown), "{value}");
        }
        assert_eq!(Cell::of_number(f64::NAN), Cell::Missing("NaN"));
        assert_eq!(Cell::of_number(f64::NEG_INFINITY).to_string(), "-inf");
    }
}
