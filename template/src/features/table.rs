//! Rows of raw features, as a file has them.

use anyhow::{Result as Anyhow, ensure};
use polars::prelude::{AnyValue, Column, DataFrame, IntoColumn as _};
use serde_json::{Map, Value};

use super::row::{FeatureRow, UnusableFeature};
use super::{WALLET, frame, numbers};
use crate::fault::{Classify as _, Result};
use crate::plain;

/// The rows of one file, at least one.
#[derive(Debug, Clone)]
pub struct FeatureTable(Rows);

#[derive(Debug, Clone)]
enum Rows {
    /// Columns of numbers are f64, all others are as they were read.
    Frame(DataFrame),
    /// Columns of strings, each of which may be a number: CSV knows nothing else.
    Texts(DataFrame),
    Objects(Vec<Map<String, Value>>),
}

impl FeatureTable {
    /// # Errors
    /// Names a column whose numbers cannot be read.
    pub(super) fn of_frame(frame: &DataFrame) -> Anyhow<Self> {
        ensure!(frame.height() > 0, "the file holds no row");
        let columns: Anyhow<Vec<Column>> = frame.columns().iter().map(as_numbers).collect();
        Ok(Self(Rows::Frame(DataFrame::new(frame.height(), columns?)?)))
    }

    /// The cells of a CSV file, as strings.
    pub(super) fn of_texts(frame: DataFrame) -> Anyhow<Self> {
        ensure!(frame.height() > 0, "the file holds no row");
        Ok(Self(Rows::Texts(frame)))
    }

    pub(super) fn of_objects(objects: Vec<Map<String, Value>>) -> Anyhow<Self> {
        ensure!(!objects.is_empty(), "the file holds no row");
        Ok(Self(Rows::Objects(objects)))
    }

    /// How many rows there are.
    pub fn height(&self) -> usize {
        match &self.0 {
            Rows::Frame(frame) | Rows::Texts(frame) => frame.height(),
            Rows::Objects(objects) => objects.len(),
        }
    }

    /// Row `at`, counted from 0.
    pub fn row(&self, at: usize) -> Result<FeatureRow> {
        let one = || {
            let rows = self.height();
            ensure!(at < rows, "there is no row {at}: the file has {rows} rows, counted from 0");
            match &self.0 {
                Rows::Frame(frame) => one_row(&frame.slice(i64::try_from(at)?, 1), |_| None),
                Rows::Texts(frame) => one_row(&frame.slice(i64::try_from(at)?, 1), number_in),
                Rows::Objects(objects) => Ok(frame(&objects[at])),
            }
        };
        one().fail_row()
    }
}

/// A column of numbers or truth values as f64; any other as it is.
fn as_numbers(column: &Column) -> Anyhow<Column> {
    if column.dtype().is_primitive_numeric() || column.dtype().is_bool() {
        return Ok(numbers(column)?.into_column());
    }
    Ok(column.clone())
}

/// One row, whose strings may be numbers.
fn one_row(frame: &DataFrame, number_in: impl Fn(&str) -> Option<f64>) -> Anyhow<FeatureRow> {
    let (mut columns, mut unusable) = (Vec::with_capacity(frame.width()), Vec::new());
    for (at, column) in frame.columns().iter().enumerate() {
        let (name, value) = (column.name(), column.get(0)?);
        let number = match value {
            AnyValue::Float64(number) => Some(number),
            _ => value.get_str().filter(|_| name != WALLET).and_then(&number_in),
        };
        match number.filter(|number| number.is_finite()) {
            Some(number) => columns.push(Column::new(name.clone(), [number])),
            None if name == WALLET && value.get_str().is_some() => columns.push(column.clone()),
            None => unusable.push(UnusableFeature { at, name: name.to_string(), holds: shown(&value) }),
        }
    }
    Ok(FeatureRow::new(DataFrame::new(1, columns)?, unusable))
}

/// The number that a cell of a CSV file is. Truth values are 1 and 0, as pandas and polars write them.
fn number_in(cell: &str) -> Option<f64> {
    let cell = cell.trim();
    match cell {
        "true" | "True" | "TRUE" => Some(1.0),
        "false" | "False" | "FALSE" => Some(0.0),
        number => number.parse().ok(),
    }
}

/// What a value is, for a message.
fn shown(value: &AnyValue) -> String {
    match value.get_str() {
        Some(text) => format!("{:?}", plain::at_most(text, 40)),
        None if value.is_null() => "empty".to_owned(),
        None => plain::at_most(&value.to_string(), 40).into_owned(),
    }
}
