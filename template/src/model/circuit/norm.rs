//! Normalisations. EZKL leaves epsilon out, so that equal values divide by zero, or does not know them.

use anyhow::{Context as _, Result};
use candle_core::DType;

use super::pool::{powers, root};
use super::site::{Replacement, Site};
use super::{Change, Family};
use crate::model::tensor::{axes, axis, tensor_of};

pub(super) const RULES: Family = &[
    ("GroupNormalization", group),
    ("InstanceNormalization", instance),
    ("LRN", local_response),
    ("LayerNormalization", layer),
    ("LpNormalization", lp),
    ("MeanVarianceNormalization", mean_variance),
    ("RMSNormalization", root_mean_square),
];

/// What numbers are multiplied by before they are squared: squares of small ones would be rounded away, and epsilon with them. It is a
/// power of two: to divide by it again is exact in a circuit.
const ENLARGEMENT: f64 = 32.0;
/// One step of the coarsest scale that EZKL chooses: what is divided by is never 0. Of enlarged squares that is an epsilon of 7.6e-6.
const LEAST_EPSILON: f64 = 1.0 / 128.0;

/// √(mean of the squares over the last axes + ε), of what is enlarged.
fn deviation(to: &mut Replacement, large: &str, dims: &[usize], last: usize, epsilon: f64) -> Result<String> {
    let squares = to.mul(large, large);
    let mean = to.mean(&squares, dims, last)?;
    let more = to.plus(&mean, (epsilon * ENLARGEMENT * ENLARGEMENT).max(LEAST_EPSILON))?;
    let root = to.one("Sqrt", &more);
    to.times(&root, ENLARGEMENT.recip())
}

struct Standard {
    normal: String,
    mean: String,
    deviation: String,
}

/// (x − mean) / √(variance + ε) over the last axes.
fn standardised(to: &mut Replacement, x: &str, dims: &[usize], last: usize, epsilon: f64) -> Result<Standard> {
    let large = to.times(x, ENLARGEMENT)?;
    let mean = to.mean(&large, dims, last)?;
    let centred = to.sub(&large, &mean);
    let deviation = deviation(to, &centred, dims, last, epsilon)?;
    let centred = to.times(&centred, ENLARGEMENT.recip())?;
    let normal = to.op("Div", &[&centred, &deviation], Vec::new());
    let mean = to.times(&mean, ENLARGEMENT.recip())?;
    Ok(Standard { normal, mean, deviation })
}

const WITH_EPSILON: &str =
    "its formula with epsilon: EZKL would leave it out, and divide by 0 where all values are equal";

fn layer(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let dims = site.shape(0)?;
    let last = dims.len() - axis(site.node.int_or("axis", -1)?, dims.len())?;
    let found = standardised(to, site.input(0)?, dims, last, site.node.float_or("epsilon", 1e-5)?)?;
    let mut value = to.mul(&found.normal, site.input(1)?);
    if let Some(bias) = site.optional(2) {
        value = to.add(&value, bias);
    }
    let inverse = if site.node.wants(2) { to.one("Reciprocal", &found.deviation) } else { String::new() };
    Change::of_all(vec![value, found.mean, inverse], WITH_EPSILON)
}

fn root_mean_square(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let (x, dims) = (site.input(0)?, site.shape(0)?);
    let last = dims.len() - axis(site.node.int_or("axis", -1)?, dims.len())?;
    let large = to.times(x, ENLARGEMENT)?;
    let deviation = deviation(to, &large, dims, last, site.node.float_or("epsilon", 1e-5)?)?;
    let normal = to.op("Div", &[x, &deviation], Vec::new());
    let value = to.mul(&normal, site.input(1)?);
    Change::of(value, WITH_EPSILON)
}

/// A number for each channel, as it is broadcast to a tensor whose axis 1 is the channels.
fn per_channel(to: &mut Replacement, numbers: &str, channels: usize, rank: usize) -> Result<String> {
    let mut dims = vec![1; rank];
    dims[1] = channels;
    to.reshape(numbers, &dims)
}

fn instance(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let dims = site.shape(0)?;
    let found = standardised(to, site.input(0)?, dims, dims.len() - 2, site.node.float_or("epsilon", 1e-5)?)?;
    let scale = per_channel(to, site.input(1)?, dims[1], dims.len())?;
    let bias = per_channel(to, site.input(2)?, dims[1], dims.len())?;
    let value = to.mul(&found.normal, &scale);
    let value = to.add(&value, &bias);
    Change::of(value, WITH_EPSILON)
}

/// Scale and bias are a group's until opset 20, a channel's since.
fn group(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let dims = site.shape(0)?;
    let groups =
        site.node.int("num_groups")?.and_then(|groups| usize::try_from(groups).ok()).context("it has no groups")?;
    let (batch, channels) = (dims[0], dims[1]);
    let length = dims[1..].iter().product::<usize>() / groups;
    let flat = to.reshape(site.input(0)?, &[batch * groups, length])?;
    let found = standardised(to, &flat, &[batch * groups, length], 1, site.node.float_or("epsilon", 1e-5)?)?;
    let mut value = to.reshape(&found.normal, dims)?;
    for (at, operator) in [(1, "Mul"), (2, "Add")] {
        let mut numbers = site.input(at)?.to_owned();
        if site.node.opset < 21 {
            let places: Vec<usize> = (0..channels).map(|channel| channel / (channels / groups)).collect();
            numbers = to.gather(&numbers, &places, 0)?;
        }
        let numbers = per_channel(to, &numbers, channels, dims.len())?;
        value = to.op(operator, &[&value, &numbers], Vec::new());
    }
    Change::of(value, WITH_EPSILON)
}

/// Over the batch and all places, or over the axes that are named.
fn mean_variance(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let dims = site.shape(0)?;
    let over = axes(&site.node.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]), dims.len())?;
    let order: Vec<usize> = (0..dims.len()).filter(|at| !over.contains(at)).chain(over.iter().copied()).collect();
    let moved: Vec<usize> = order.iter().map(|axis| dims[*axis]).collect();
    let back: Vec<usize> =
        (0..dims.len()).map(|axis| order.iter().position(|one| *one == axis).unwrap_or(axis)).collect();
    let last = to.transpose(site.input(0)?, &order);
    let found = standardised(to, &last, &moved, over.len(), 0.0)?;
    let value = to.transpose(&found.normal, &back);
    Change::of(value, "its formula: EZKL does not know it")
}

/// x / (Σ |x|^p)^(1/p)
fn lp(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let (x, p) = (site.input(0)?, site.node.int_or("p", 2)?);
    let over = axis(site.node.int_or("axis", -1)?, site.shape(0)?.len())?;
    let powers = powers(to, x, p)?;
    let sum = to.reduce("ReduceSum", &powers, &[over])?;
    let length = root(to, &sum, p)?;
    let value = to.op("Div", &[x, &length], Vec::new());
    Change::of(value, "its formula: EZKL does not know it")
}

/// x / (bias + α/size · Σ x²)^β, over neighbouring channels.
fn local_response(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let (x, dims) = (site.input(0)?, site.shape(0)?);
    let size = site.node.int("size")?.filter(|size| *size > 0).context("its attribute \"size\" is missing")?;
    let (alpha, beta, bias) =
        (site.node.float_or("alpha", 1e-4)?, site.node.float_or("beta", 0.75)?, site.node.float_or("bias", 1.0)?);
    let channels = dims[1] as i64;
    let (before, after) = ((size - 1) / 2, size / 2);
    let near = |a: i64, b: i64| if (a - before..=a + after).contains(&b) { alpha / size as f64 } else { 0.0 };
    let band: Vec<f64> = (0..channels).flat_map(|a| (0..channels).map(move |b| near(a, b))).collect();
    let band = to.constant(&tensor_of(band, [dims[1], dims[1]], DType::F32)?)?;
    let squares = to.mul(x, x);
    let flat = to.reshape(&squares, &[dims[0], dims[1], dims[2..].iter().product()])?;
    let sums = to.op("MatMul", &[&band, &flat], Vec::new());
    let sums = to.reshape(&sums, dims)?;
    let sums = to.plus(&sums, bias)?;
    let beta = to.number(beta, DType::F32)?;
    let under = to.op("Pow", &[&sums, &beta], Vec::new());
    let value = to.op("Div", &[x, &under], Vec::new());
    Change::of(value, "its formula: EZKL does not know it")
}
