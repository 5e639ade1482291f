//! The standard scaler that training exported: every column becomes (value − mean) / scale.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail, ensure};
use polars::prelude::{ChunkApply, Column, DataFrame, IntoColumn};
use serde::Deserialize;

use crate::features::numbers;

/// One mean and one scale a column.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaler {
    columns: HashMap<String, (f64, f64)>,
}

/// The file: three lists of equal length.
#[derive(Deserialize)]
struct File {
    columns: Vec<String>,
    mean: Vec<f64>,
    scale: Vec<f64>,
}

impl Scaler {
    /// Reads `{"columns": […], "mean": […], "scale": […]}`.
    pub fn from_json(text: &str) -> Result<Self> {
        let file: File = serde_json::from_str(text)
            .context(r#"expected {"columns": [names], "mean": [numbers], "scale": [numbers]}"#)?;
        let lengths = [file.columns.len(), file.mean.len(), file.scale.len()];
        ensure!(
            lengths.iter().all(|length| *length == lengths[0]),
            "columns, mean and scale must be of one length, and are {lengths:?}"
        );
        let mut columns = HashMap::with_capacity(lengths[0]);
        for ((name, mean), scale) in file.columns.into_iter().zip(file.mean).zip(file.scale) {
            ensure!(scale != 0.0, "the scale of {name:?} is 0");
            if columns.insert(name.clone(), (mean, scale)).is_some() {
                bail!("column {name:?} is there twice");
            }
        }
        Ok(Self { columns })
    }

    /// Scales every column of the frame, in the frame's order. The frame has to have the scaler's columns and no others.
    pub fn transform(&self, frame: &DataFrame) -> Result<DataFrame> {
        let mut absent: Vec<_> = self.columns.keys().filter(|name| frame.get_column_index(name).is_none()).collect();
        absent.sort();
        ensure!(absent.is_empty(), "columns to scale are missing: {absent:?}");
        let scaled: Result<Vec<Column>> = frame.columns().iter().map(|column| self.transform_column(column)).collect();
        Ok(DataFrame::new(frame.height(), scaled?)?)
    }

    fn transform_column(&self, column: &Column) -> Result<Column> {
        let name = column.name();
        let Some((mean, scale)) = self.columns.get(name.as_str()) else {
            bail!("the scaler does not know column {name:?}");
        };
        let numbers = numbers(column)?;
        Ok(numbers.apply_values(|value| (value - mean) / scale).into_column())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::df;

    const SCALER: &str = r#"{"columns": ["a", "b"], "mean": [1.0, 1700000000], "scale": [2.0, 0.5], "note": "extra"}"#;

    #[test]
    fn columns_are_scaled_by_name_in_f64() {
        let scaler = Scaler::from_json(SCALER).unwrap();
        // 1700000000.25 does not survive f32.
        let frame = df!("b" => [1_700_000_000.25], "a" => [2i64]).unwrap();
        let scaled = scaler.transform(&frame).unwrap();
        let expected = df!("b" => [0.5], "a" => [0.5]).unwrap();
        assert!(scaled.equals(&expected), "{scaled}");
    }

    #[test]
    fn other_columns_than_the_scalers_are_refused_by_name() {
        let scaler = Scaler::from_json(SCALER).unwrap();
        let refused = |frame| scaler.transform(&frame).unwrap_err().to_string();
        let error = refused(df!("a" => [1.0]).unwrap());
        assert!(error.contains(r#"missing: ["b"]"#), "{error}");
        let error = refused(df!("a" => [1.0], "b" => [1.0], "c" => [1.0]).unwrap());
        assert!(error.contains(r#"does not know column "c""#), "{error}");
        let error = refused(df!("a" => ["x"], "b" => [1.0]).unwrap());
        assert!(error.contains(r#"column "a" holds str, expected numbers"#), "{error}");
    }

    #[test]
    fn a_wrong_file_says_what_is_wrong() {
        let error = |text| format!("{:#}", Scaler::from_json(text).unwrap_err());
        assert!(error("{").contains("expected {\"columns\""));
        let short = error(r#"{"columns": ["a", "b"], "mean": [1], "scale": [1, 1]}"#);
        assert!(short.contains("[2, 1, 2]"), "{short}");
        let zero = error(r#"{"columns": ["a"], "mean": [1], "scale": [0]}"#);
        assert!(zero.contains(r#"the scale of "a" is 0"#), "{zero}");
        let twice = error(r#"{"columns": ["a", "a"], "mean": [1, 1], "scale": [1, 1]}"#);
        assert!(twice.contains(r#""a" is there twice"#), "{twice}");
    }
}
