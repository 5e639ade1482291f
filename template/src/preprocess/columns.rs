//! Columns as scikit-learn takes them: numbers whose gaps are NaN, never infinite.

use std::collections::HashSet;

use anyhow::{Context as _, Result, bail, ensure};
use polars::prelude::{ChunkApply, ChunkFillNullValue, Column, Float64Chunked, IntoColumn};
use serde::Deserialize;

use crate::features;

/// Whether NaN, or null, which is the same here, may stand in a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MissingValues {
    Allowed,
    Refused,
}

/// In what a step computes: the type of the array that it was fitted on, as NumPy names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
pub enum Precision {
    #[default]
    #[serde(rename = "float64")]
    Double,
    #[serde(rename = "float32")]
    Single,
}

impl Precision {
    /// What NumPy keeps of a number: after each operation, so that results are equal to the last bit.
    pub fn round(self, number: f64) -> f64 {
        match self {
            Self::Double => number,
            Self::Single => f64::from(number as f32),
        }
    }

    /// The column as an array of this type has it. Strings stay.
    pub fn round_column(self, column: &Column) -> Result<Column> {
        if self == Self::Double || column.dtype().is_string() {
            return Ok(column.clone());
        }
        Ok(features::numbers(column)?.apply_values(|number| self.round(number)).into_column())
    }
}

/// The column's numbers. An infinite one is refused, as scikit-learn refuses it.
pub fn numbers(column: &Column, gaps: MissingValues) -> Result<Float64Chunked> {
    let numbers = any_numbers(column)?;
    let refused = |number: f64| number.is_infinite() || (gaps == MissingValues::Refused && number.is_nan());
    if let Some(row) = numbers.no_null_iter().position(refused) {
        let what = if numbers.get(row).is_some_and(f64::is_nan) { "no number" } else { "an infinite number" };
        bail!("column {:?} has {what} in row {row}", column.name());
    }
    Ok(numbers)
}

/// The column's numbers, infinite ones too.
pub fn any_numbers(column: &Column) -> Result<Float64Chunked> {
    Ok(features::numbers(column)?.fill_null_with_values(f64::NAN)?)
}

/// Each column's numbers under a function of its own, `function(which column, number)`, rounded.
pub fn map(
    columns: &[Column],
    gaps: MissingValues,
    precision: Precision,
    function: impl Fn(usize, f64) -> f64,
) -> Result<Vec<Column>> {
    let each = columns.iter().enumerate().map(|(at, column)| {
        let numbers = numbers(column, gaps)?;
        Ok(numbers.apply_values(|number| precision.round(function(at, number))).into_column())
    });
    each.collect()
}

/// A parameter that has one entry a column.
pub fn check_length(parameter: &str, length: usize, input: &[String]) -> Result<()> {
    ensure!(length == input.len(), "{parameter:?} has {length} entries, and there are {} columns", input.len());
    Ok(())
}

/// Values that must not fall.
pub fn check_sorted(values: &[f64]) -> Result<()> {
    match values.array_windows().position(|[one, next]| one > next) {
        Some(at) => bail!("entry {} is smaller than the one before it", at + 1),
        None => Ok(()),
    }
}

/// Names of which none is there twice.
pub fn check_unique(names: &[String]) -> Result<()> {
    let mut seen = HashSet::with_capacity(names.len());
    match names.iter().find(|name| !seen.insert(name.as_str())) {
        Some(twice) => bail!("column {twice:?} is there twice"),
        None => Ok(()),
    }
}

/// Names for as many columns as a step makes.
pub fn check_output(names: &[String], made: usize) -> Result<()> {
    ensure!(names.len() == made, "\"output\" has {} names, and the step makes {made} columns", names.len());
    check_unique(names).context("\"output\"")
}

/// The column of that name at this place, for messages.
pub fn labelled(input: &[String], at: usize) -> String {
    format!("column {:?}", input[at])
}
