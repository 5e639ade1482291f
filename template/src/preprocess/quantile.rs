//! QuantileTransformer: each number's place among those of training, as a share or as a normal distribution's value.

use anyhow::{Context as _, Result, ensure};
use polars::prelude::Column;
use serde::Deserialize;

use super::columns::{MissingValues, Precision, check_length, check_sorted, labelled, map};
use super::normal;
use super::step::{Built, Parameters, Step};

/// How near to an end of training's range a number counts as beyond it, and how near to 0 and 1 a share may come before
/// it is made normal: scikit-learn's `BOUNDS_THRESHOLD`.
const BOUNDS: f64 = 1e-7;

/// For each column its quantiles at the references, which are shares from 0 to 1.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantileTransformer {
    quantiles: Vec<Vec<f64>>,
    references: Vec<f64>,
    output_distribution: Distribution,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Distribution {
    Uniform,
    Normal,
}

impl Parameters for QuantileTransformer {
    fn build(self, input: &[String]) -> Result<Built> {
        check_length("quantiles", self.quantiles.len(), input)?;
        ensure!(!self.references.is_empty(), "\"references\" is empty");
        check_sorted(&self.references).context("\"references\"")?;
        for (at, quantiles) in self.quantiles.iter().enumerate() {
            ensure!(
                quantiles.len() == self.references.len(),
                "{}: there are {} quantiles for {} references",
                labelled(input, at),
                quantiles.len(),
                self.references.len()
            );
            check_sorted(quantiles).with_context(|| format!("{}: \"quantiles\"", labelled(input, at)))?;
        }
        Built::one_to_one(self, input)
    }
}

impl Step for QuantileTransformer {
    fn apply(&self, columns: &[Column], precision: Precision) -> Result<Vec<Column>> {
        let ends = [normal::quantile(BOUNDS - f64::EPSILON), normal::quantile(1.0 - (BOUNDS - f64::EPSILON))];
        map(columns, MissingValues::Allowed, precision, |at, number| {
            let share = precision.round(self.share(&self.quantiles[at], number, precision));
            match self.output_distribution {
                Distribution::Uniform => share,
                Distribution::Normal if share.is_nan() => share,
                Distribution::Normal => normal::quantile(share).clamp(ends[0], ends[1]),
            }
        })
    }
}

impl QuantileTransformer {
    /// The number's share. Where quantiles are equal it is halfway between the least and the greatest that is right, hence
    /// the two directions.
    fn share(&self, quantiles: &[f64], number: f64, precision: Precision) -> f64 {
        let (first, last) = (quantiles[0], quantiles[quantiles.len() - 1]);
        let (below, above) = match self.output_distribution {
            Distribution::Uniform => (number == first, number == last),
            Distribution::Normal => (precision.round(number - BOUNDS) < first, precision.round(number + BOUNDS) > last),
        };
        // Both, where training saw one number only: then the lower bound decides.
        if below {
            return 0.0;
        }
        if above {
            return 1.0;
        }
        let greatest = interpolate(number, quantiles, &self.references, |x| quantiles.partition_point(|q| *q <= x));
        let least = interpolate(number, quantiles, &self.references, |x| quantiles.partition_point(|q| *q < x));
        0.5 * (greatest + least)
    }
}

/// The straight line through the two points around x; beyond the ends, the end. `after` counts the points before it.
fn interpolate(x: f64, xs: &[f64], ys: &[f64], after: impl Fn(f64) -> usize) -> f64 {
    if x.is_nan() {
        return x;
    }
    match after(x) {
        0 => ys[0],
        after if after == xs.len() => ys[after - 1],
        after => {
            let (x0, x1, y0, y1) = (xs[after - 1], xs[after], ys[after - 1], ys[after]);
            if x1 == x { y1 } else { y0 + (y1 - y0) / (x1 - x0) * (x - x0) }
        }
    }
}
