//! KBinsDiscretizer: the number of the bin that a number lies in, or one column a bin.

use anyhow::{Context as _, Result};
use polars::prelude::Column;
use serde::Deserialize;

use super::columns::{MissingValues, Precision, check_length, check_output, check_sorted, labelled, map, numbers};
use super::encode::one_hot;
use super::step::{Built, Parameters, Step};

/// The edges between each column's bins: one fewer than bins. A number on an edge lies in the bin above it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KBinsDiscretizer {
    edges: Vec<Vec<f64>>,
    encode: Encode,
    /// The names of the columns, with `onehot`.
    output: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encode {
    Ordinal,
    Onehot,
}

#[derive(Debug)]
struct Bins {
    edges: Vec<Vec<f64>>,
    encode: Encode,
}

impl Parameters for KBinsDiscretizer {
    fn build(self, input: &[String]) -> Result<Built> {
        check_length("edges", self.edges.len(), input)?;
        for (at, edges) in self.edges.iter().enumerate() {
            check_sorted(edges).with_context(|| format!("{}: \"edges\"", labelled(input, at)))?;
        }
        let made = match self.encode {
            Encode::Ordinal => self.edges.len(),
            Encode::Onehot => self.edges.iter().map(|edges| edges.len() + 1).sum(),
        };
        let output = self.output.unwrap_or_else(|| input.to_vec());
        check_output(&output, made)?;
        Built::new(Bins { edges: self.edges, encode: self.encode }, output)
    }
}

impl Step for Bins {
    fn apply(&self, columns: &[Column], precision: Precision) -> Result<Vec<Column>> {
        match self.encode {
            Encode::Ordinal => {
                map(columns, MissingValues::Refused, precision, |at, number| self.bin(at, number) as f64)
            }
            Encode::Onehot => {
                let mut made = Vec::new();
                for (at, column) in columns.iter().enumerate() {
                    let numbers = numbers(column, MissingValues::Refused)?;
                    let bins: Vec<_> = numbers.no_null_iter().map(|number| Some(self.bin(at, number))).collect();
                    made.extend(one_hot(&bins, self.edges[at].len() + 1));
                }
                Ok(made)
            }
        }
    }
}

impl Bins {
    fn bin(&self, at: usize, number: f64) -> usize {
        self.edges[at].partition_point(|edge| *edge <= number)
    }
}
