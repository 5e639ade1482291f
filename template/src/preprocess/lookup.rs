//! The categories of a column, and which of them a value is.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail, ensure};
use polars::prelude::{ChunkFullNull as _, Column, StringChunked};
use serde_json::Value;

use super::columns::{MissingValues, any_numbers, numbers};

/// Categories are all numbers or all strings; null among them stands for what is missing: NaN, null.
#[derive(Debug)]
pub struct Lookup {
    known: Known,
    missing: Option<usize>,
}

#[derive(Debug)]
enum Known {
    /// By the bits of the number.
    Numbers(HashMap<u64, usize>),
    Strings(HashMap<String, usize>),
}

impl Lookup {
    /// The categories in their order.
    pub fn new(categories: &[Value]) -> Result<Self> {
        ensure!(!categories.is_empty(), "it has no categories");
        let mut lookup = match categories.iter().find(|value| !value.is_null()) {
            Some(Value::String(_)) => Self { known: Known::Strings(HashMap::new()), missing: None },
            _ => Self { known: Known::Numbers(HashMap::new()), missing: None },
        };
        for (at, category) in categories.iter().enumerate() {
            if lookup.insert(category, at)?.is_some() {
                bail!("category {category} is there twice");
            }
        }
        Ok(lookup)
    }

    fn insert(&mut self, category: &Value, at: usize) -> Result<Option<usize>> {
        Ok(match (&mut self.known, category) {
            (_, Value::Null) => self.missing.replace(at),
            (Known::Strings(known), Value::String(text)) => known.insert(text.clone(), at),
            (Known::Numbers(known), Value::Number(number)) => {
                known.insert(bits(number.as_f64().context("a category is too large")?), at)
            }
            (_, other) => bail!("categories are numbers or strings, not both, and {other} is among them"),
        })
    }

    /// Each row's category; `None` for a value that is not among them.
    pub fn find(&self, column: &Column) -> Result<Vec<Option<usize>>> {
        match &self.known {
            Known::Numbers(known) => {
                let numbers = numbers(column, MissingValues::Allowed)?;
                let find = |number: f64| if number.is_nan() { self.missing } else { known.get(&bits(number)).copied() };
                Ok(numbers.no_null_iter().map(find).collect())
            }
            Known::Strings(known) => {
                let texts = strings(column)?;
                let find = |text: Option<&str>| text.map_or(self.missing, |text| known.get(text).copied());
                Ok(texts.iter().map(find).collect())
            }
        }
    }
}

/// The column's strings. A number is not made one: "1" and "1.0" would be two categories.
pub fn strings(column: &Column) -> Result<StringChunked> {
    // A column without a value has the type of numbers.
    if column.dtype().is_float() && any_numbers(column)?.no_null_iter().all(f64::is_nan) {
        return Ok(StringChunked::full_null(column.name().clone(), column.len()));
    }
    ensure!(
        column.dtype().is_string(),
        "column {:?} holds {}, and training had strings there",
        column.name(),
        column.dtype()
    );
    Ok(column.str()?.clone())
}

/// −0 is 0.
fn bits(number: f64) -> u64 {
    (number + 0.0).to_bits()
}
