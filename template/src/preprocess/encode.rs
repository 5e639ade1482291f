//! OneHotEncoder and OrdinalEncoder: categories as columns of zeros and ones, or as numbers.

use anyhow::{Context as _, Result, bail, ensure};
use polars::prelude::{Column, Float64Chunked, IntoColumn, NewChunkedArray, PlSmallStr};
use serde::Deserialize;
use serde_json::Value;

use super::columns::{Precision, check_length, check_output, labelled};
use super::lookup::Lookup;
use super::step::{Built, Parameters, Step};

/// For each column its categories, and the place that each has among the columns that are made of it: null for one that was
/// dropped, the same for all that were too rare. `unknown` is the place of other values: null for none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneHotEncoder {
    columns: Vec<Places>,
    handle_unknown: UnknownPlace,
    output: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Places {
    categories: Vec<Value>,
    places: Vec<Option<usize>>,
    unknown: Option<usize>,
    /// Of its categories: a frame's columns keep their own.
    #[serde(default)]
    dtype: Precision,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum UnknownPlace {
    Error,
    Ignore,
}

/// For each column its categories, and the number that each becomes: null for NaN.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrdinalEncoder {
    columns: Vec<Codes>,
    handle_unknown: UnknownCode,
    unknown_value: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Codes {
    categories: Vec<Value>,
    codes: Vec<Option<f64>>,
    #[serde(default)]
    dtype: Precision,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum UnknownCode {
    Error,
    UseEncodedValue,
}

/// Which category each value is, and what each category becomes.
#[derive(Debug)]
struct Encoding<T> {
    lookup: Lookup,
    becomes: Vec<T>,
    /// What an unknown value becomes; without it, one is an error.
    unknown: Option<T>,
    precision: Precision,
}

#[derive(Debug)]
struct OneHot(Vec<(Encoding<Option<usize>>, usize)>);

#[derive(Debug)]
struct Ordinal(Vec<Encoding<f64>>);

impl Parameters for OneHotEncoder {
    fn build(self, input: &[String]) -> Result<Built> {
        check_length("columns", self.columns.len(), input)?;
        let ignore = self.handle_unknown == UnknownPlace::Ignore;
        let columns = self.columns.into_iter().enumerate();
        let columns: Result<Vec<_>> =
            columns.map(|(at, column)| column.build(ignore).with_context(|| labelled(input, at))).collect();
        let columns = columns?;
        check_output(&self.output, columns.iter().map(|(_, width)| width).sum())?;
        Built::new(OneHot(columns), self.output)
    }
}

impl Places {
    /// The encoding, and how many columns it makes.
    fn build(self, ignore: bool) -> Result<(Encoding<Option<usize>>, usize)> {
        let width = self.places.iter().flatten().max().map_or(0, |place| place.saturating_add(1));
        // So that a place cannot ask for more columns than the file has categories.
        ensure!(width <= self.categories.len(), "a place is {}, beyond the categories", width - 1);
        ensure!(
            self.unknown.is_none_or(|place| place < width),
            "the place of unknown values is beyond the categories'"
        );
        let unknown = ignore.then_some(self.unknown);
        let encoding = Encoding::new(&self.categories, ("places", self.places), unknown, self.dtype)?;
        Ok((encoding, width))
    }
}

impl Parameters for OrdinalEncoder {
    fn build(self, input: &[String]) -> Result<Built> {
        check_length("columns", self.columns.len(), input)?;
        let or_nan = |code: Option<f64>| code.unwrap_or(f64::NAN);
        let unknown = (self.handle_unknown == UnknownCode::UseEncodedValue).then_some(or_nan(self.unknown_value));
        let columns = self.columns.into_iter().enumerate().map(|(at, column)| {
            let codes = column.codes.into_iter().map(or_nan).collect();
            Encoding::new(&column.categories, ("codes", codes), unknown, column.dtype)
                .with_context(|| labelled(input, at))
        });
        Built::one_to_one(Ordinal(columns.collect::<Result<_>>()?), input)
    }
}

impl<T: Copy> Encoding<T> {
    fn new(
        categories: &[Value],
        (parameter, becomes): (&str, Vec<T>),
        unknown: Option<T>,
        precision: Precision,
    ) -> Result<Self> {
        ensure!(
            categories.len() == becomes.len(),
            "{parameter:?} has {} entries for {} categories",
            becomes.len(),
            categories.len()
        );
        Ok(Self { lookup: Lookup::new(categories)?, becomes, unknown, precision })
    }

    /// What each row becomes.
    fn encode(&self, column: &Column) -> Result<Vec<T>> {
        let found = self.lookup.find(&self.precision.round_column(column)?)?.into_iter().enumerate();
        found
            .map(|(row, category)| match (category, self.unknown) {
                (Some(category), _) => Ok(self.becomes[category]),
                (None, Some(unknown)) => Ok(unknown),
                (None, None) => bail!(
                    "column {:?} has {} in row {row}, which training did not have there (handle_unknown is \"error\")",
                    column.name(),
                    column.get(row)?
                ),
            })
            .collect()
    }
}

impl Step for OneHot {
    fn apply(&self, columns: &[Column], _: Precision) -> Result<Vec<Column>> {
        let mut made = Vec::new();
        for (column, (encoding, width)) in columns.iter().zip(&self.0) {
            made.extend(one_hot(&encoding.encode(column)?, *width));
        }
        Ok(made)
    }
}

impl Step for Ordinal {
    fn apply(&self, columns: &[Column], _: Precision) -> Result<Vec<Column>> {
        let each = columns.iter().zip(&self.0).map(|(column, encoding)| {
            let codes = encoding.encode(column)?;
            Ok(Float64Chunked::from_vec(PlSmallStr::EMPTY, codes).into_column())
        });
        each.collect()
    }
}

/// A column for each place: 1 where a row has it, else 0.
pub fn one_hot(places: &[Option<usize>], width: usize) -> impl Iterator<Item = Column> {
    (0..width).map(move |place| {
        let ones = places.iter().map(|other| f64::from(*other == Some(place)));
        Float64Chunked::from_iter_values(PlSmallStr::EMPTY, ones).into_column()
    })
}
