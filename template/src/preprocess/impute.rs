//! SimpleImputer: what is missing becomes what training found in its column.

use anyhow::{Result, bail};
use polars::prelude::{ChunkApply, Column, Float64Chunked, IntoColumn, NewChunkedArray, PlSmallStr, StringChunked};
use serde::Deserialize;

use super::columns::{MissingValues, Precision, check_length, check_output, numbers};
use super::lookup::strings;
use super::step::{Built, Parameters, Step};

/// What stands for missing (`null` for NaN and null), and what each column gets in its place: null for a column in which
/// training found nothing, and which is left out. The columns of `indicator`, counted from 0, each give a further column
/// that says where they are missing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimpleImputer {
    missing: Option<Scalar>,
    fill: Vec<Option<Scalar>>,
    indicator: Vec<usize>,
    output: Vec<String>,
}

/// A number or a string.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Number(f64),
    String(String),
}

#[derive(Debug)]
struct Impute {
    missing: Option<Scalar>,
    fill: Vec<Option<Scalar>>,
    indicator: Vec<usize>,
}

impl Parameters for SimpleImputer {
    fn build(self, input: &[String]) -> Result<Built> {
        check_length("fill", self.fill.len(), input)?;
        if let Some(at) = self.indicator.iter().find(|at| **at >= input.len()) {
            bail!("\"indicator\" names column {at}, and there are {}", input.len());
        }
        let kept = self.fill.iter().flatten().count();
        check_output(&self.output, kept + self.indicator.len())?;
        let step = Impute { missing: self.missing, fill: self.fill, indicator: self.indicator };
        Built::new(step, self.output)
    }
}

impl Step for Impute {
    fn apply(&self, columns: &[Column], precision: Precision) -> Result<Vec<Column>> {
        let filled = columns.iter().zip(&self.fill).filter_map(|(column, fill)| Some((column, fill.as_ref()?)));
        let filled = filled.map(|(column, fill)| match fill {
            Scalar::Number(fill) => self.fill_numbers(column, precision.round(*fill)),
            Scalar::String(fill) => self.fill_strings(column, fill),
        });
        let indicators = self.indicator.iter().map(|at| self.indicator(&columns[*at]));
        filled.chain(indicators).collect()
    }
}

impl Impute {
    fn fill_numbers(&self, column: &Column, fill: f64) -> Result<Column> {
        let numbers = self.numbers(column)?;
        Ok(numbers.apply_values(|number| if self.is_missing_number(number) { fill } else { number }).into_column())
    }

    fn fill_strings(&self, column: &Column, fill: &str) -> Result<Column> {
        let texts = strings(column)?;
        let filled = texts.iter().map(|text| if self.is_missing_text(text) { Some(fill) } else { text });
        Ok(filled.collect::<StringChunked>().into_column())
    }

    /// 1 where the column is missing, else 0.
    fn indicator(&self, column: &Column) -> Result<Column> {
        let missing: Vec<bool> = if column.dtype().is_string() {
            strings(column)?.iter().map(|text| self.is_missing_text(text)).collect()
        } else {
            self.numbers(column)?.no_null_iter().map(|number| self.is_missing_number(number)).collect()
        };
        let ones = missing.into_iter().map(f64::from);
        Ok(Float64Chunked::from_iter_values(PlSmallStr::EMPTY, ones).into_column())
    }

    /// NaN is refused where something else stands for missing, as scikit-learn refuses it.
    fn numbers(&self, column: &Column) -> Result<Float64Chunked> {
        numbers(column, if self.missing.is_none() { MissingValues::Allowed } else { MissingValues::Refused })
    }

    fn is_missing_number(&self, number: f64) -> bool {
        match &self.missing {
            None => number.is_nan(),
            Some(Scalar::Number(missing)) => number == *missing,
            Some(Scalar::String(_)) => false,
        }
    }

    fn is_missing_text(&self, text: Option<&str>) -> bool {
        match &self.missing {
            None => text.is_none(),
            Some(Scalar::String(missing)) => text == Some(missing),
            Some(Scalar::Number(_)) => false,
        }
    }
}
