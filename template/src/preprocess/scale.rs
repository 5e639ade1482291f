//! The scalers: StandardScaler, RobustScaler, MaxAbsScaler, MinMaxScaler.

use anyhow::{Result, bail, ensure};
use polars::prelude::Column;
use serde::Deserialize;

use super::columns::{MissingValues, Precision, check_length, labelled, map};
use super::step::{Built, Parameters, Step};

/// (x − mean) / scale, each where training had it: `with_mean`, `with_std`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandardScaler {
    mean: Option<Vec<f64>>,
    scale: Option<Vec<f64>>,
}

/// (x − center) / scale, each where training had it: `with_centering`, `with_scaling`. `unit_variance` is in the scale.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RobustScaler {
    center: Option<Vec<f64>>,
    scale: Option<Vec<f64>>,
}

/// x / scale, then into [−1, 1] with `clip`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxAbsScaler {
    scale: Vec<f64>,
    clip: bool,
}

/// x × scale + min, then into the `feature_range` with `clip`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinMaxScaler {
    scale: Vec<f64>,
    min: Vec<f64>,
    clip: Option<[f64; 2]>,
}

impl Parameters for StandardScaler {
    fn build(self, input: &[String]) -> Result<Built> {
        Built::one_to_one(Affine::new(("mean", self.mean), self.scale, input)?, input)
    }
}

impl Parameters for RobustScaler {
    fn build(self, input: &[String]) -> Result<Built> {
        Built::one_to_one(Affine::new(("center", self.center), self.scale, input)?, input)
    }
}

impl Parameters for MaxAbsScaler {
    fn build(self, input: &[String]) -> Result<Built> {
        let shift = Affine::new(("center", None), Some(self.scale), input)?;
        Built::one_to_one(Affine { clip: self.clip.then_some([-1.0, 1.0]), ..shift }, input)
    }
}

impl Parameters for MinMaxScaler {
    fn build(self, input: &[String]) -> Result<Built> {
        check_length("scale", self.scale.len(), input)?;
        check_length("min", self.min.len(), input)?;
        check_clip(self.clip)?;
        Built::one_to_one(self, input)
    }
}

/// (x − center) / scale, then clipped.
#[derive(Debug)]
pub struct Affine {
    center: Option<Vec<f64>>,
    scale: Option<Vec<f64>>,
    clip: Option<[f64; 2]>,
}

impl Affine {
    /// Both as far as they are there; the center has the name that its class gives it.
    pub fn new(center: (&str, Option<Vec<f64>>), scale: Option<Vec<f64>>, input: &[String]) -> Result<Self> {
        let (name, center) = center;
        if let Some(center) = &center {
            check_length(name, center.len(), input)?;
        }
        if let Some(scale) = &scale {
            check_length("scale", scale.len(), input)?;
            if let Some(at) = scale.iter().position(|scale| *scale == 0.0) {
                bail!("{}: the scale is 0", labelled(input, at));
            }
        }
        Ok(Self { center, scale, clip: None })
    }
}

impl Step for Affine {
    fn apply(&self, columns: &[Column], precision: Precision) -> Result<Vec<Column>> {
        map(columns, MissingValues::Allowed, precision, |at, number| {
            let centered = self.center.as_ref().map_or(number, |center| precision.round(number - center[at]));
            let scaled = self.scale.as_ref().map_or(centered, |scale| precision.round(centered / scale[at]));
            clipped(scaled, self.clip)
        })
    }
}

impl Step for MinMaxScaler {
    fn apply(&self, columns: &[Column], precision: Precision) -> Result<Vec<Column>> {
        map(columns, MissingValues::Allowed, precision, |at, number| {
            let scaled = precision.round(number * self.scale[at]);
            clipped(precision.round(scaled + self.min[at]), self.clip)
        })
    }
}

fn check_clip(clip: Option<[f64; 2]>) -> Result<()> {
    if let Some([low, high]) = clip {
        ensure!(low < high, "\"clip\" is from {low} to {high}");
    }
    Ok(())
}

/// NaN stays NaN.
fn clipped(number: f64, clip: Option<[f64; 2]>) -> f64 {
    clip.map_or(number, |[low, high]| number.clamp(low, high))
}
