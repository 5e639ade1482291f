//! FunctionTransformer, with the functions of numpy that are known here.

use anyhow::Result;
use polars::prelude::{ChunkApply, Column, IntoColumn};
use serde::Deserialize;

use super::columns::{MissingValues, Precision, any_numbers, numbers};
use super::step::{Built, Parameters, Step};

/// A function of each number. With `validate`, NaN and infinite numbers are refused before it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionTransformer {
    function: Function,
    validate: bool,
}

/// Outside its domain each gives NaN or an infinite number, as numpy does.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Function {
    Identity,
    Log1p,
    Sqrt,
}

impl Parameters for FunctionTransformer {
    fn build(self, input: &[String]) -> Result<Built> {
        Built::one_to_one(self, input)
    }
}

impl Step for FunctionTransformer {
    fn apply(&self, columns: &[Column], precision: Precision) -> Result<Vec<Column>> {
        if let (Function::Identity, false) = (self.function, self.validate) {
            return Ok(columns.to_vec());
        }
        let function: fn(f64) -> f64 = match self.function {
            Function::Identity => |number| number,
            Function::Log1p => f64::ln_1p,
            Function::Sqrt => f64::sqrt,
        };
        let each = columns.iter().map(|column| {
            let numbers = if self.validate { numbers(column, MissingValues::Refused)? } else { any_numbers(column)? };
            Ok(numbers.apply_values(|number| precision.round(function(number))).into_column())
        });
        each.collect()
    }
}
