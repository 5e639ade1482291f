//! Rows of raw features, as a file has them.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Result as Anyhow, ensure};
use polars::prelude::{Column, Float64Chunked, StringChunked};
use serde_json::{Map, Value};

use super::cell::Cell;
use super::numbers;
use super::row::FeatureRow;
use crate::fault::{Classify as _, Result};

/// The rows of one file, at least one.
#[derive(Debug, Clone)]
pub struct FeatureTable(Rows);

#[derive(Debug, Clone)]
enum Rows {
    Columns(usize, Vec<(String, Values)>),
    /// With the names of all, in their order.
    Objects(Vec<String>, Vec<Map<String, Value>>),
}

/// A column of a file.
#[derive(Debug, Clone)]
pub(super) enum Values {
    Numbers(Float64Chunked),
    /// Strings, and why the column holds them where the file does not say so.
    Texts(StringChunked, Option<Arc<str>>),
    /// What is no feature: its type, for messages.
    Unusable(String),
}

impl Values {
    /// A column of numbers, truth values or strings.
    pub fn of(column: &Column) -> Anyhow<Self> {
        if column.dtype().is_string() {
            return Ok(Self::Texts(column.str()?.clone(), None));
        }
        Ok(Self::Numbers(numbers(column)?))
    }

    fn cell(&self, row: usize) -> Cell {
        match self {
            Self::Numbers(numbers) => numbers.get(row).map_or(Cell::Missing("empty"), Cell::of_number),
            Self::Texts(texts, why) => match texts.get(row) {
                Some(text) => Cell::Text(text.to_owned(), why.clone()),
                None => Cell::Missing("empty"),
            },
            Self::Unusable(what) => Cell::Unusable(what.clone()),
        }
    }
}

impl FeatureTable {
    pub(super) fn of_columns(height: usize, columns: Vec<(String, Values)>) -> Anyhow<Self> {
        ensure!(height > 0, "the file holds no row");
        Ok(Self(Rows::Columns(height, columns)))
    }

    pub(super) fn of_objects(objects: Vec<Map<String, Value>>) -> Anyhow<Self> {
        ensure!(!objects.is_empty(), "the file holds no row");
        Ok(Self(Rows::Objects(names_of(&objects), objects)))
    }

    /// How many rows there are.
    pub fn height(&self) -> usize {
        match &self.0 {
            Rows::Columns(height, _) => *height,
            Rows::Objects(_, objects) => objects.len(),
        }
    }

    /// Row `at`, counted from 0.
    pub fn row(&self, at: usize) -> Result<FeatureRow> {
        let one = || {
            let rows = self.height();
            ensure!(at < rows, "there is no row {at}: the file has {rows} rows, counted from 0");
            let cells = match &self.0 {
                Rows::Columns(_, columns) => {
                    columns.iter().map(|(name, values)| (name.clone(), values.cell(at))).collect()
                }
                Rows::Objects(names, objects) => {
                    let of = |name: &String| objects[at].get(name).map_or(Cell::Missing("absent"), Cell::of_json);
                    names.iter().map(|name| (name.clone(), of(name))).collect()
                }
            };
            Ok(FeatureRow::new(cells))
        };
        one().permanent()
    }
}

/// The names in all objects: each behind the one that stands before it in the first object that has it.
fn names_of(objects: &[Map<String, Value>]) -> Vec<String> {
    let (mut names, mut seen) = (Vec::<String>::new(), HashSet::new());
    for object in objects {
        let mut before: Option<&String> = None;
        for name in object.keys() {
            if seen.insert(name) {
                let after = before.and_then(|before| names.iter().position(|other| other == before));
                names.insert(after.map_or(0, |after| after + 1), name.clone());
            }
            before = Some(name);
        }
    }
    names
}
