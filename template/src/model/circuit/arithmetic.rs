//! Arithmetic that EZKL reads otherwise: greatest values beside constants, powers, and what whole numbers do.

use anyhow::{Result, bail, ensure};
use candle_core::DType;

use super::cast::truncated;
use super::scale::is_for_a_table;
use super::site::{Replacement, Site};
use super::{Change, Family};
use crate::model::tensor::{floats, tensor_of};

pub(super) const RULES: Family =
    &[("BitShift", shift), ("Div", divide), ("Max", greatest), ("Mod", remainder), ("Mul", multiply), ("Pow", power)];

/// From here on a divisor's reciprocal, rounded at the scale 11, may be off by a percent, and by more at a coarser one.
const LARGE: f64 = 64.0;

/// How many different exponents one node may have.
const MAX_EXPONENTS: usize = 8;

/// c + max(0, x − c): beside a constant EZKL takes a single number.
fn greatest(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let inputs: Vec<&str> = (0..site.node.inputs()).map(|at| site.input(at)).collect::<Result<_>>()?;
    let is_large = |at: usize| site.constant(at).is_some_and(|constant| constant.elem_count() != 1);
    if inputs.len() < 2 || !(0..inputs.len()).any(is_large) {
        return Ok(None);
    }
    let mut value = inputs[0].to_owned();
    for input in &inputs[1..] {
        let more = to.sub(&value, input);
        let more = to.one("Relu", &more);
        value = to.add(input, &more);
    }
    Change::of(value, "a sum with Relu: EZKL would refuse a constant of several numbers")
}

/// EZKL knows whole exponents above zero and broken ones, one for all elements.
fn power(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let x = site.input(0)?;
    let Some(exponents) = site.constant(1) else {
        let base = site.constant(0).map(floats).transpose()?;
        return match base {
            Some(base) if base.len() == 1 && base[0] > 0.0 => Ok(None),
            Some(base) if base.iter().all(|one| *one > 0.0) => of_base(site, to, &base),
            _ => bail!("its exponent is computed: write it as Exp(exponent · Log(base)), where the base is positive"),
        };
    };
    let all = floats(exponents)?;
    if !site.dtype(0)?.is_float() {
        return whole_power(site, to, &all);
    }
    let is_known = |exponent: f64| exponent.fract() != 0.0 || exponent > 0.0;
    if all.len() == 1 && is_known(all[0]) {
        return Ok(None);
    }
    let mut different = all.clone();
    different.sort_by(f64::total_cmp);
    different.dedup();
    ensure!(
        different.len() <= MAX_EXPONENTS,
        "it has {} different exponents: {MAX_EXPONENTS} are the most",
        different.len()
    );
    let mut value: Option<String> = None;
    for exponent in &different {
        let one = raised(to, x, *exponent)?;
        let share = if different.len() == 1 && all.len() == 1 {
            one
        } else {
            let mask = all.iter().map(|other| if other == exponent { 1.0 } else { 0.0 }).collect();
            let mask = to.constant(&tensor_of(mask, exponents.dims(), DType::F32)?)?;
            to.mul(&one, &mask)
        };
        value = Some(match value {
            None => share,
            Some(sum) => to.add(&sum, &share),
        });
    }
    let Some(value) = value else { bail!("it has no exponent") };
    Change::of(value, "a power for each exponent: EZKL would take one that is negative for 0, and 0 for 1")
}

/// Factor by factor.
fn whole_power(site: &Site, to: &mut Replacement, exponents: &[f64]) -> Result<Option<Change>> {
    let x = site.input(0)?;
    let [exponent] = exponents[..] else { bail!("whole numbers are raised to several exponents: cast them to float") };
    ensure!(
        (1.0..=8.0).contains(&exponent) && exponent.fract() == 0.0,
        "whole numbers are raised to {exponent}: cast them to float"
    );
    let x = to.cast(x, DType::F32)?;
    let mut value = x.clone();
    for _ in 1..exponent as usize {
        value = to.mul(&value, &x);
    }
    let value = to.cast(&value, site.dtype(0)?)?;
    Change::of(value, "a product of floats: EZKL would refuse powers of whole numbers")
}

fn raised(to: &mut Replacement, x: &str, exponent: f64) -> Result<String> {
    if exponent == 0.0 {
        let nothing = to.times(x, 0.0)?;
        return to.plus(&nothing, 1.0);
    }
    if exponent > 0.0 || exponent.fract() != 0.0 {
        return raised_to(to, x, exponent);
    }
    let power = raised_to(to, x, -exponent)?;
    Ok(to.one("Reciprocal", &power))
}

fn raised_to(to: &mut Replacement, x: &str, exponent: f64) -> Result<String> {
    if exponent == 1.0 {
        return Ok(x.to_owned());
    }
    let exponent = to.number(exponent, DType::F32)?;
    Ok(to.op("Pow", &[x, &exponent], Vec::new()))
}

/// b^y = e^(y ln b)
fn of_base(site: &Site, to: &mut Replacement, base: &[f64]) -> Result<Option<Change>> {
    let dims = site.shape(0)?;
    let logarithms = tensor_of(base.iter().map(|one| one.ln()).collect(), dims, DType::F32)?;
    let logarithms = to.constant(&logarithms)?;
    let product = to.mul(site.input(1)?, &logarithms);
    let value = to.one("Exp", &product);
    Change::of(value, "an exponential: EZKL would refuse several bases")
}

/// The one number that is divided by where the quotient is rounded.
fn divisor(site: &Site) -> Result<f64> {
    let Some(divisor) = site.constant(1) else {
        bail!("it divides by what is computed, and rounds: EZKL cannot do that; divide floats, or by a constant")
    };
    let all = floats(divisor)?;
    let first = all.first().copied().unwrap_or_default();
    ensure!(
        all.iter().all(|one| *one == first) && first != 0.0,
        "it rounds quotients by several numbers, or by 0: divide by one number"
    );
    Ok(first)
}

/// The quotient of whole numbers by one. EZKL's has digits behind the point, and is exact: what is left is to cut them off, which changes
/// nothing for others. By a negative number it has no proof, whatever is divided.
pub(super) fn whole_quotient(to: &mut Replacement, x: &str, divisor: f64, dtype: DType) -> Result<String> {
    let magnitude = to.number(divisor.abs(), dtype)?;
    let quotient = to.op("Div", &[x, &magnitude], Vec::new());
    let quotient = to.cast(&quotient, DType::F32)?;
    let quotient = truncated(to, &quotient, dtype)?;
    Ok(if divisor < 0.0 { to.one("Neg", &quotient) } else { quotient })
}

/// What a quotient that is cut off leaves of whole numbers: it has the sign of `x`.
fn rest(to: &mut Replacement, x: &str, quotient: &str, divisor: f64, dtype: DType) -> Result<String> {
    let divisor = to.number(divisor, dtype)?;
    let product = to.mul(quotient, &divisor);
    Ok(to.sub(x, &product))
}

/// EZKL divides whole numbers as if they were floats, and floats by a constant through its rounded reciprocal.
fn divide(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let (x, dtype) = (site.input(0)?, site.dtype(0)?);
    if !dtype.is_float() {
        let value = whole_quotient(to, x, divisor(site)?, dtype)?;
        return Change::of(value, "cut off towards 0: EZKL would divide whole numbers as floats");
    }
    match single(site, 1)? {
        Some(number) if number.is_finite() && number.abs() >= LARGE && number.abs().log2().fract() != 0.0 => {
            let value = before_a_table(site, to, x, number)?;
            Change::of(value, "two products: EZKL would round the reciprocal of a large number to a few digits")
        }
        _ => Ok(None),
    }
}

/// EZKL rounds a factor to steps of its scale.
fn multiply(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let (a, b, dtype) = (site.input(0)?, site.input(1)?, site.dtype(0)?);
    if a == b && !dtype.is_float() {
        let x = to.cast(a, DType::F32)?;
        let square = to.mul(&x, &x);
        let value = to.cast(&square, dtype)?;
        return Change::of(value, "a square of floats: EZKL would refuse that of whole numbers");
    }
    for (factor, other) in [(0, 1), (1, 0)] {
        let Some(number) = single(site, factor)? else { continue };
        let is_small = number != 0.0 && number.abs() < LARGE.recip() && number.abs().log2().fract() != 0.0;
        // A factor with more axes than what it multiplies gives the product its axes.
        if is_small && site.dtype(other)?.is_float() && site.shape(factor)?.len() <= site.shape(other)?.len() {
            let value = before_a_table(site, to, site.input(other)?, number.recip())?;
            return Change::of(value, "two products: EZKL would round a small factor to a few digits");
        }
    }
    Ok(None)
}

/// A quotient has more digits behind the point, and a table of EZKL as many entries more: before one they are rounded off.
fn before_a_table(site: &Site, to: &mut Replacement, x: &str, number: f64) -> Result<String> {
    let quotient = to.divided(x, number)?;
    if is_for_a_table(site.facts, site.output()) { to.raised(&quotient) } else { Ok(quotient) }
}

/// The number that an input is, if it is known and only one.
fn single(site: &Site, at: usize) -> Result<Option<f64>> {
    let all = site.constant(at).map(floats).transpose()?.unwrap_or_default();
    Ok(if let [only] = all[..] { Some(only) } else { None })
}

/// `fmod` of whole numbers is what the quotient leaves; else it has the divisor's sign. Of floats the rest may be off by one divisor where
/// the quotient was rounded, and is put right.
fn remainder(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let (x, dtype, cut) = (site.input(0)?, site.dtype(0)?, site.node.flag("fmod", false)?);
    let divisor = divisor(site)?;
    let value = if dtype.is_float() {
        float_rest(to, x, divisor.abs())?
    } else {
        let quotient = whole_quotient(to, x, divisor, dtype)?;
        let rest = rest(to, x, &quotient, divisor, dtype)?;
        if cut { rest } else { on_the_side_of(to, &rest, divisor, dtype)? }
    };
    Change::of(value, "what a quotient leaves: EZKL does not know it")
}

/// The rest with the sign of the divisor.
fn on_the_side_of(to: &mut Replacement, rest: &str, divisor: f64, dtype: DType) -> Result<String> {
    let (zero, number) = (to.number(0.0, dtype)?, to.number(divisor, dtype)?);
    let wrong = to.op(if divisor > 0.0 { "Less" } else { "Greater" }, &[rest, &zero], Vec::new());
    let other = to.add(rest, &number);
    Ok(to.op("Where", &[&wrong, &other, rest], Vec::new()))
}

fn float_rest(to: &mut Replacement, x: &str, divisor: f64) -> Result<String> {
    let magnitude = to.one("Abs", x);
    let quotient = to.divided(&magnitude, divisor)?;
    let quotient = to.one("Floor", &quotient);
    let product = to.times(&quotient, divisor)?;
    let rest = to.sub(&magnitude, &product);
    let rest = on_the_side_of(to, &rest, divisor, DType::F32)?;
    let number = to.number(divisor, DType::F32)?;
    let less = to.sub(&rest, &number);
    let below = to.op("Less", &[&rest, &number], Vec::new());
    let rest = to.op("Where", &[&below, &rest, &less], Vec::new());
    let sign = to.one("Sign", x);
    Ok(to.mul(&rest, &sign))
}

/// A shift to the left is read rightly; one to the right EZKL takes for a division. Below zero it rounds down.
fn shift(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    if !site.node.choice("direction", &[("LEFT", false), ("RIGHT", true)])? {
        return Ok(None);
    }
    let by = site.known(1, "by how much it shifts")?;
    let first = by.first().copied().unwrap_or_default();
    ensure!(by.iter().all(|one| *one == first), "it shifts by several numbers: shift by one");
    let (x, dtype, divisor) = (site.input(0)?, site.dtype(0)?, first.exp2());
    let quotient = whole_quotient(to, x, divisor, dtype)?;
    let rest = rest(to, x, &quotient, divisor, dtype)?;
    let (zero, one) = (to.number(0.0, dtype)?, to.number(1.0, dtype)?);
    let below = to.op("Less", &[&rest, &zero], Vec::new());
    let less = to.sub(&quotient, &one);
    let value = to.op("Where", &[&below, &less, &quotient], Vec::new());
    Change::of(value, "a quotient that is rounded down: EZKL would keep what is behind the point")
}
