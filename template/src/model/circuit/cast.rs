//! Casts, and comparisons with them: EZKL rounds down where ONNX cuts off, has no truth values, and labels what an `Equal` of
//! floats gives with their scale.

use anyhow::Result;
use candle_core::DType;

use super::site::{Replacement, Site};
use super::{Change, Family};

pub(super) const RULES: Family = &[("Cast", cast), ("CastLike", cast), ("Equal", equal), ("Sign", sign)];

/// What takes truth values as they are, whatever they are labelled with.
const LOGICAL: [&str; 4] = ["And", "Or", "Xor", "Not"];

fn cast(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let x = site.input(0)?;
    let (from, into) = (site.dtype(0)?, site.facts.dtype(site.output())?);
    let like = site.operator() == "CastLike";
    match (from.is_float(), into) {
        _ if site.constant(0).is_some() => Ok(None),
        (_, DType::U8) if from != DType::U8 => {
            let value = truth(to, x, from)?;
            Change::of(value, "a comparison with 0: EZKL would round down")
        }
        (true, DType::I32 | DType::I64) if !site.facts.is_whole(x) && !site.facts.is_non_negative(x) => {
            let value = truncated(to, x, into)?;
            Change::of(value, "cut off towards 0: EZKL would round down")
        }
        _ if like => {
            let value = to.cast(x, into)?;
            Change::of(value, "a Cast")
        }
        _ => Ok(None),
    }
}

/// x ≠ 0
fn truth(to: &mut Replacement, x: &str, dtype: DType) -> Result<String> {
    let zero = to.number(0.0, dtype)?;
    let is_zero = to.op("Equal", &[x, &zero], Vec::new());
    Ok(to.one("Not", &is_zero))
}

/// The sign of floats, times what is rounded down of their magnitude.
pub(super) fn truncated(to: &mut Replacement, x: &str, into: DType) -> Result<String> {
    let (sign, magnitude) = (to.one("Sign", x), to.one("Abs", x));
    let (sign, magnitude) = (to.cast(&sign, into)?, to.cast(&magnitude, into)?);
    Ok(to.mul(&sign, &magnitude))
}

/// What only chooses or is combined with others takes the truth value as it is; two negations take the label off.
fn equal(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let (a, b, dtype) = (site.input(0)?, site.input(1)?, site.dtype(0)?);
    if dtype == DType::U8 {
        let differs = to.op("Xor", &[a, b], Vec::new());
        let value = to.one("Not", &differs);
        return Change::of(value, "Not of Xor: EZKL would refuse truth values");
    }
    let takers = site.facts.takers(site.output());
    let is_taken_as_it_is = !site.facts.is_output(site.output())
        && takers
            .iter()
            .all(|(operator, at)| LOGICAL.contains(&operator.as_str()) || (operator == "Where" && *at == 0));
    if is_taken_as_it_is || (site.facts.is_unscaled(a) && site.facts.is_unscaled(b)) {
        return Ok(None);
    }
    let equal = to.op("Equal", &[a, b], Vec::new());
    let differs = to.one("Not", &equal);
    let value = to.one("Not", &differs);
    Change::of(value, "negated twice: EZKL would label what is true with the scale of what is compared")
}

/// The runtime that EZKL calibrates with knows no signs of whole numbers.
fn sign(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let dtype = site.dtype(0)?;
    if dtype.is_float() {
        return Ok(None);
    }
    let value = to.as_floats(site.input(0)?, dtype, |to, x| Ok(to.one("Sign", x)))?;
    Change::of(value, "the sign of a float: EZKL would refuse whole numbers")
}
