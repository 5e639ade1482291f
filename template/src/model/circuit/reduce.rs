//! Reductions that EZKL reads otherwise.

use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};

use super::arithmetic::whole_quotient;
use super::scale::has_none;
use super::site::{Replacement, Site};
use super::{Change, Family};
use crate::model::tensor::{axes, axis, floats};

pub(super) const RULES: Family = &[
    ("CumSum", running_sum),
    ("GlobalAveragePool", global_mean),
    ("ReduceLogSumExp", log_sum_exp),
    ("ReduceMean", mean),
    ("ReduceProd", product),
];

/// As many factors at full scale stay inside the range checks.
const MAX_FACTORS: usize = 3;
/// The most numbers that a running sum is a matrix product of.
const MAX_SUMMED: usize = 256;
/// The most factors that are multiplied one by one.
const MAX_CHAIN: usize = 256;

/// The axes that a reduction runs over.
fn over(site: &Site) -> Result<Vec<usize>> {
    let rank = site.shape(0)?.len();
    let named = match site.node.ints("axes")? {
        Some(named) => Some(named),
        None => site.constant(1).map(floats).transpose()?.map(|all| all.iter().map(|one| *one as i64).collect()),
    };
    match named {
        Some(named) if !named.is_empty() => axes(&named, rank),
        _ if site.node.flag("noop_with_empty_axes", false)? => Ok(Vec::new()),
        _ => Ok((0..rank).collect()),
    }
}

/// The mean of whole numbers is cut off towards zero; that of many floats is taken exactly.
fn mean(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let (x, dims, dtype, over) = (site.input(0)?, site.shape(0)?, site.dtype(0)?, over(site)?);
    let count: usize = over.iter().map(|at| dims[*at]).product();
    if !dtype.is_float() {
        let sum = to.reduce("ReduceSum", x, &over)?;
        let value = whole_quotient(to, &sum, count as f64, dtype)?;
        let value = to.reshape(&value, site.output_shape()?)?;
        return Change::of(
            value,
            "a sum and a quotient that is cut off towards 0: EZKL would keep what is behind the point",
        );
    }
    if count < MANY || count.is_power_of_two() {
        return Ok(None);
    }
    let kept = (0..dims.len()).filter(|at| !over.contains(at));
    let order: Vec<usize> = kept.chain(over.iter().copied()).collect();
    let is_in_order = order.iter().enumerate().all(|(at, axis)| at == *axis);
    let last = if is_in_order { x.to_owned() } else { to.transpose(x, &order) };
    let moved: Vec<usize> = order.iter().map(|axis| dims[*axis]).collect();
    let last = if has_none(site.facts, x) { to.raised(&last)? } else { last };
    let value = to.mean(&last, &moved, over.len())?;
    let value = to.reshape(&value, site.output_shape()?)?;
    Change::of(value, AVERAGE)
}

const AVERAGE: &str = "an average over one window: EZKL would multiply by a rounded 1/n";

/// From here on 1/n, rounded at the scale 11, may be off by a percent, and by more at a coarser one.
const MANY: usize = 64;

fn global_mean(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let dims = site.shape(0)?;
    let count: usize = dims[2..].iter().product();
    if count < MANY || count.is_power_of_two() {
        return Ok(None);
    }
    let x = site.input(0)?;
    let x = if has_none(site.facts, x) { to.raised(x)? } else { x.to_owned() };
    let value = to.mean(&x, dims, dims.len() - 2)?;
    Change::of(value, AVERAGE)
}

/// max + ln Σ e^(x − max): EZKL's table would have to hold the exponential of the largest value.
fn log_sum_exp(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let (x, over) = (site.input(0)?, over(site)?);
    let greatest = to.reduce("ReduceMax", x, &over)?;
    let shifted = to.sub(x, &greatest);
    let grown = to.exp_below_zero(&shifted)?;
    let sum = to.reduce("ReduceSum", &grown, &over)?;
    let logarithm = to.one("Log", &sum);
    let value = to.add(&greatest, &logarithm);
    let value = to.reshape(&value, site.output_shape()?)?;
    Change::of(value, "shifted by the greatest: EZKL's table would hold exponentials of large numbers")
}

/// A product with a matrix of ones and zeros: EZKL would do neither `exclusive` nor `reverse`, and refuse all where a Reshape stands before
/// or after.
fn running_sum(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let (exclusive, reverse) = (site.node.flag("exclusive", false)?, site.node.flag("reverse", false)?);
    let (x, dims) = (site.input(0)?, site.shape(0)?);
    let at = site.known(1, "its axis")?.first().copied().unwrap_or_default();
    let at = axis(at as i64, dims.len())?;
    let count = dims[at];
    if count > MAX_SUMMED && !exclusive && !reverse {
        return Ok(None);
    }
    ensure!(
        count <= MAX_SUMMED,
        "it runs over {count} numbers: with exclusive or reverse a circuit sums at most {MAX_SUMMED}"
    );
    let is_part = |from: usize, of: usize| {
        let (from, of) = if reverse { (of, from) } else { (from, of) };
        from < of || from == of && !exclusive
    };
    let ones: Vec<f32> =
        (0..count * count).map(|place| f32::from(u8::from(is_part(place / count, place % count)))).collect();
    let matrix = Tensor::from_vec(ones, (count, count), &Device::Cpu)?;
    let dtype = site.dtype(0)?;
    let value = if site.facts.is_cast_to_whole(x) {
        to.as_floats(x, dtype, |to, x| to.along(x, at, dims.len(), &matrix))?
    } else {
        to.along(x, at, dims.len(), &matrix.to_dtype(dtype)?)?
    };
    Change::of(value, "a product with ones: EZKL would ignore exclusive, and refuse reverse and what follows a Reshape")
}

/// Factor by factor: EZKL multiplies all of them at full scale, which no range check holds.
fn product(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let (dims, over) = (site.shape(0)?, over(site)?);
    let count: usize = over.iter().map(|at| dims[*at]).product();
    if count <= MAX_FACTORS || count > MAX_CHAIN || !site.dtype(0)?.is_float() {
        return Ok(None);
    }
    let mut value = site.input(0)?.to_owned();
    for at in over {
        let slices = (0..dims[at]).map(|place| to.gather(&value, &[place], at)).collect::<Result<Vec<_>>>()?;
        let product = slices.into_iter().reduce(|product, slice| to.mul(&product, &slice));
        value = product.unwrap_or(value);
    }
    let value = to.reshape(&value, site.output_shape()?)?;
    Change::of(value, "a product factor by factor: EZKL would multiply all at full scale")
}
