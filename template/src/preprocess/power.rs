//! PowerTransformer: each column bent into the shape of a normal distribution.

use anyhow::{Result, bail};
use polars::prelude::Column;
use serde::Deserialize;

use super::columns::{MissingValues, Precision, check_length, map, numbers};
use super::scale::Affine;
use super::step::{Built, Parameters, Step};

/// One λ a column. With `standardize`, a StandardScaler's mean and scale follow.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerTransformer {
    method: Method,
    lambdas: Vec<f64>,
    mean: Option<Vec<f64>>,
    scale: Option<Vec<f64>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Method {
    BoxCox,
    YeoJohnson,
}

#[derive(Debug)]
struct Power {
    method: Method,
    lambdas: Vec<f64>,
    standardize: Affine,
}

impl Parameters for PowerTransformer {
    fn build(self, input: &[String]) -> Result<Built> {
        check_length("lambdas", self.lambdas.len(), input)?;
        let standardize = Affine::new(("mean", self.mean), self.scale, input)?;
        Built::one_to_one(Power { method: self.method, lambdas: self.lambdas, standardize }, input)
    }
}

impl Step for Power {
    fn apply(&self, columns: &[Column], precision: Precision) -> Result<Vec<Column>> {
        let bent = match self.method {
            Method::BoxCox => {
                columns.iter().try_for_each(check_positive)?;
                map(columns, MissingValues::Allowed, precision, |at, number| box_cox(number, self.lambdas[at]))?
            }
            Method::YeoJohnson => {
                map(columns, MissingValues::Allowed, precision, |at, number| yeo_johnson(number, self.lambdas[at]))?
            }
        };
        self.standardize.apply(&bent, precision)
    }
}

fn check_positive(column: &Column) -> Result<()> {
    match numbers(column, MissingValues::Allowed)?.no_null_iter().position(|number| number <= 0.0) {
        Some(row) => {
            bail!("column {:?} is not positive in row {row}, and box-cox takes positive numbers", column.name())
        }
        None => Ok(()),
    }
}

/// (xᵏ − 1) / k, and ln x for k = 0: Box and Cox, An Analysis of Transformations, 1964.
fn box_cox(x: f64, lambda: f64) -> f64 {
    power_less_one(x.ln(), lambda)
}

/// Box-Cox of x + 1 for x ≥ 0, and with 2 − λ, mirrored, below: Yeo and Johnson, A New Family of Power Transformations
/// to Improve Normality or Symmetry, 2000.
fn yeo_johnson(x: f64, lambda: f64) -> f64 {
    if x < 0.0 { -power_less_one((-x).ln_1p(), 2.0 - lambda) } else { power_less_one(x.ln_1p(), lambda) }
}

/// (eᵏˡ − 1) / k, from the logarithm l: to the last bits where the power is nearly 1.
fn power_less_one(log: f64, exponent: f64) -> f64 {
    if exponent.abs() < f64::EPSILON { log } else { (exponent * log).exp_m1() / exponent }
}
