//! Activations that EZKL does not know, or computes otherwise.

use anyhow::Result;
use candle_core::DType;

use super::mask::is_masked;
use super::site::{Replacement, Site};
use super::{Change, Family};
use crate::model::tensor::axis;

pub(super) const RULES: Family = &[
    ("Celu", celu),
    ("Gelu", gelu),
    ("LogSoftmax", log_softmax),
    ("Mish", mish),
    ("Selu", selu),
    ("Softmax", softmax),
    ("Softplus", softplus),
    ("Swish", swish),
];

/// max(0, x) + α (e^(min(0, x) / β) − 1), without the exponential of anything above zero: it would not fit into EZKL's table.
fn bent(to: &mut Replacement, x: &str, alpha: f64, beta: f64) -> Result<String> {
    let above = to.one("Relu", x);
    let below = to.sub(x, &above);
    let scaled = if beta == 1.0 { below } else { to.times(&below, beta.recip())? };
    let grown = to.exp_below_zero(&scaled)?;
    let less = to.plus(&grown, -1.0)?;
    let less = if alpha == 1.0 { less } else { to.times(&less, alpha)? };
    Ok(to.add(&above, &less))
}

/// EZKL computes what α = 1 gives.
fn celu(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let alpha = site.node.float_or("alpha", 1.0)?;
    let value = bent(to, site.input(0)?, alpha, alpha)?;
    Change::of(value, "its formula: EZKL would leave alpha out, and take the exponential of large numbers")
}

fn selu(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let (alpha, gamma) =
        (site.node.float_or("alpha", 1.673_263_192_176_818_8)?, site.node.float_or("gamma", 1.050_700_993_537_902_8)?);
    let value = bent(to, site.input(0)?, alpha, 1.0)?;
    let value = to.times(&value, gamma)?;
    Change::of(value, "its formula: EZKL would take the exponential of large numbers")
}

fn softplus(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let value = softplus_of(to, site.input(0)?)?;
    Change::of(value, "its formula: EZKL would take the exponential of large numbers")
}

/// max(0, x) + ln(1 + e^−|x|)
pub(super) fn softplus_of(to: &mut Replacement, x: &str) -> Result<String> {
    let above = to.one("Relu", x);
    let magnitude = to.one("Abs", x);
    let negative = to.one("Neg", &magnitude);
    let grown = to.exp_below_zero(&negative)?;
    let more = to.plus(&grown, 1.0)?;
    let logarithm = to.one("Log", &more);
    Ok(to.add(&above, &logarithm))
}

/// From here on Tanh and Erf are 1 in float: no table needs to reach further.
const FLAT: f64 = 10.0;

/// Half of x (1 + erf(x / √2)), or its approximation by a hyperbolic tangent.
fn gelu(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let x = site.input(0)?;
    let by_tanh = site.node.choice("approximate", &[("none", false), ("tanh", true)])?;
    let share = if by_tanh {
        let square = to.mul(x, x);
        let inner = to.times(&square, 0.044_715)?;
        let inner = to.plus(&inner, 1.0)?;
        let inner = to.mul(x, &inner);
        let inner = to.times(&inner, std::f64::consts::FRAC_2_PI.sqrt())?;
        let inner = to.within(&inner, FLAT)?;
        to.one("Tanh", &inner)
    } else {
        let scaled = to.times(x, std::f64::consts::FRAC_1_SQRT_2)?;
        let scaled = to.within(&scaled, FLAT)?;
        to.one("Erf", &scaled)
    };
    let share = to.plus(&share, 1.0)?;
    let half = to.times(x, 0.5)?;
    let value = to.mul(&half, &share);
    Change::of(value, if by_tanh { "its formula with Tanh" } else { "its formula with Erf" })
}

/// x tanh(ln(1 + e^x)), as a quotient of what is between 0 and 5, by t = e^−|x|.
fn mish(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let x = site.input(0)?;
    let magnitude = to.one("Abs", x);
    let negative = to.one("Neg", &magnitude);
    let t = to.exp_below_zero(&negative)?;
    let square = to.mul(&t, &t);
    let twice = to.times(&t, 2.0)?;
    let twice_square = to.times(&square, 2.0)?;
    // For x ≥ 0 (1 + 2t) / (1 + 2t + 2t²), below (t² + 2t) / (t² + 2t + 2).
    let zero = to.number(0.0, DType::F32)?;
    let two = to.number(2.0, DType::F32)?;
    let is_above = to.op("Greater", &[x, &zero], Vec::new());
    let above = to.plus(&twice, 1.0)?;
    let below = to.add(&square, &twice);
    let over = to.op("Where", &[&is_above, &above, &below], Vec::new());
    let more = to.op("Where", &[&is_above, &twice_square, &two], Vec::new());
    let under = to.add(&over, &more);
    let share = to.op("Div", &[&over, &under], Vec::new());
    let value = to.mul(x, &share);
    Change::of(value, "its formula with Exp and Div")
}

/// x sigmoid(α x)
fn swish(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let (x, alpha) = (site.input(0)?, site.node.float_or("alpha", 1.0)?);
    let scaled = if alpha == 1.0 { x.to_owned() } else { to.times(x, alpha)? };
    let gate = to.one("Sigmoid", &scaled);
    let value = to.mul(x, &gate);
    Change::of(value, "its formula with Sigmoid")
}

/// Until opset 12 over all axes from this one on; EZKL knows one axis.
fn softmax(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let dims = site.shape(0)?;
    let first = if site.node.opset < 13 { 1 } else { -1 };
    let from = axis(site.node.int_or("axis", first)?, dims.len())?;
    let (several, masked) = (site.node.opset < 13 && from + 1 < dims.len(), is_masked(site.facts, site.input(0)?));
    if !several && !masked {
        return Ok(None);
    }
    let (mut value, over) =
        if several { (flattened(to, site.input(0)?, dims, from)?, 1) } else { (site.input(0)?.to_owned(), from) };
    if masked {
        let greatest = to.reduce("ReduceMax", &value, &[over])?;
        let shifted = to.sub(&value, &greatest);
        let least = to.number(LEAST_LOGIT, DType::F32)?;
        value = to.op("Max", &[&shifted, &least], Vec::new());
    }
    let value = to.op("Softmax", &[&value], vec![super::site::int("axis", over as i64)]);
    let value = if several { to.reshape(&value, dims)? } else { value };
    Change::of(
        value,
        if masked {
            "of what is not far below the greatest: EZKL's table would hold the mask"
        } else {
            "over one axis: EZKL would refuse several"
        },
    )
}

/// From here on below the greatest, a share is less than a step of float.
const LEAST_LOGIT: f64 = -16.0;
fn flattened(to: &mut Replacement, x: &str, dims: &[usize], from: usize) -> Result<String> {
    to.reshape(x, &[dims[..from].iter().product(), dims[from..].iter().product()])
}

/// x − max − ln Σ e^(x − max): EZKL takes the logarithm of the softmax, which is rounded to zero where it is small.
fn log_softmax(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let (x, dims) = (site.input(0)?, site.shape(0)?);
    let first = if site.node.opset < 13 { 1 } else { -1 };
    let at = axis(site.node.int_or("axis", first)?, dims.len())?;
    let (data, over) =
        if site.node.opset < 13 && at + 1 < dims.len() { (flattened(to, x, dims, at)?, 1) } else { (x.to_owned(), at) };
    let greatest = to.reduce("ReduceMax", &data, &[over])?;
    let shifted = to.sub(&data, &greatest);
    let grown = to.exp_below_zero(&shifted)?;
    let sum = to.reduce("ReduceSum", &grown, &[over])?;
    let logarithm = to.one("Log", &sum);
    let value = to.sub(&shifted, &logarithm);
    let value = if data == x { value } else { to.reshape(&value, dims)? };
    Change::of(value, "its formula: EZKL would take the logarithm of a softmax that was rounded to zero")
}
