//! Choices by whole numbers, truth values and limits. EZKL knows places that are inputs, or what ArgMax finds; numbers that were cut off from
//! floats it takes for 2^scale times as large.

use anyhow::{Result, bail, ensure};
use candle_core::DType;

use super::guard::safe;
use super::movement::{behind, moved};
use super::site::{Replacement, Site};
use super::{Change, Family};
use crate::model::tensor::{axis, floats, tensor_of};

pub(super) const RULES: Family = &[
    ("Clip", clip),
    ("Gather", gather),
    ("GatherElements", places),
    ("GatherND", places),
    ("OneHot", one_hot),
    ("Relu", relu),
    ("Where", choose),
];

/// Limits that are computed: EZKL refuses them.
fn clip(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let limits = [("Max", 1), ("Min", 2)];
    let is_fixed = |at: usize| site.optional(at).is_none() || site.constant(at).is_some();
    if limits.iter().all(|(_, at)| is_fixed(*at)) {
        return Ok(None);
    }
    let mut value = site.input(0)?.to_owned();
    for (operator, at) in limits {
        if let Some(limit) = site.optional(at) {
            value = to.op(operator, &[&value, limit], Vec::new());
        }
    }
    Change::of(value, "Max and Min: EZKL would refuse limits that are computed")
}

/// Of whole numbers through floats: the runtime that EZKL calibrates with knows no other.
fn relu(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let dtype = site.dtype(0)?;
    if dtype.is_float() {
        return Ok(None);
    }
    let x = to.cast(site.input(0)?, DType::F32)?;
    let above = to.one("Relu", &x);
    let value = to.cast(&above, dtype)?;
    Change::of(value, "that of a float: EZKL would refuse whole numbers")
}

/// Between truth values; or one whose branches are not defined everywhere.
fn choose(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    if site.dtype(1)? != DType::U8 {
        return safe(site, to);
    }
    let (condition, yes, no) = (site.input(0)?, site.input(1)?, site.input(2)?);
    let otherwise = to.one("Not", condition);
    let (yes, no) = (to.op("And", &[condition, yes], Vec::new()), to.op("And", &[&otherwise, no], Vec::new()));
    let value = to.op("Or", &[&yes, &no], Vec::new());
    Change::of(value, "And, Or and Not: EZKL would refuse truth values")
}

/// Where places are fixed, or whole numbers without a scale, EZKL finds them.
fn places(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    if site.constant(1).is_none() && !site.facts.is_unscaled(site.input(1)?) {
        bail!(
            "its places are computed from floats, which EZKL takes for larger ones: use Gather along one axis, or ArgMax"
        );
    }
    // EZKL lists all places of the data for each that is taken: 24 numbers of which one was took it 20 GB.
    if site.operator() == "GatherND" && site.constant(1).is_some() {
        return moved(site, to);
    }
    behind(site, to)
}

/// At computed places: the product of the data with rows that are 1 at the place and 0 elsewhere.
fn gather(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let places = site.input(1)?;
    if site.constant(1).is_some() || site.facts.is_unscaled(places) {
        return behind(site, to);
    }
    let dims = site.shape(0)?;
    let at = axis(site.node.int_or("axis", 0)?, dims.len())?;
    let (wanted, data, dtype) = (site.shape(1)?, site.input(0)?, site.dtype(0)?);
    let hot = hot(to, places, wanted.iter().product(), dims[at], site.dtype(1)?)?;
    let hot = to.cast(&hot, DType::F32)?;
    let taken = |to: &mut Replacement, data: &str| taken(to, &hot, data, dims, at, wanted);
    let value = if dtype.is_float() { taken(to, data)? } else { to.as_floats(data, dtype, taken)? };
    Change::of(
        value,
        "a product with rows that are 1 at the place: EZKL would take places that were cut off for larger ones",
    )
}

/// The rows of `hot` [places, columns] times data of these dimensions, along the axis. The places, of the dimensions that are wanted, stand
/// where the axis was.
fn taken(to: &mut Replacement, hot: &str, data: &str, dims: &[usize], at: usize, wanted: &[usize]) -> Result<String> {
    let order: Vec<usize> = std::iter::once(at).chain((0..dims.len()).filter(|axis| *axis != at)).collect();
    let others: Vec<usize> = order[1..].iter().map(|axis| dims[*axis]).collect();
    let data = if at == 0 { data.to_owned() } else { to.transpose(data, &order) };
    let data = to.reshape(&data, &[dims[at], others.iter().product()])?;
    let value = to.op("MatMul", &[hot, &data], Vec::new());
    let value = to.reshape(&value, &[wanted, &others].concat())?;
    if at == 0 {
        return Ok(value);
    }
    let (places, others) = (0..wanted.len(), wanted.len()..wanted.len() + others.len());
    let back: Vec<usize> = others.clone().take(at).chain(places).chain(others.skip(at)).collect();
    Ok(to.transpose(&value, &back))
}

/// True where a place, or one counted from behind, is the column: [places, columns].
fn hot(to: &mut Replacement, places: &str, count: usize, columns: usize, dtype: DType) -> Result<String> {
    let flat = to.reshape(places, &[count, 1])?;
    let columns = columns as i64;
    let classes =
        |from: i64| tensor_of((from..from + columns).map(|one| one as f64).collect(), [1, columns as usize], dtype);
    let (classes, behind) = (to.constant(&classes(0)?)?, to.constant(&classes(-columns)?)?);
    let here = to.op("Equal", &[&flat, &classes], Vec::new());
    let from_behind = to.op("Equal", &[&flat, &behind], Vec::new());
    Ok(to.op("Or", &[&here, &from_behind], Vec::new()))
}

/// EZKL gives 1 and 0, whatever the two values are.
fn one_hot(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let values = site.known(2, "what it puts")?;
    let [off, on] = values[..] else { bail!("its values are {values:?}: two are needed") };
    let places = site.input(0)?;
    if off == 0.0 && on == 1.0 && site.facts.is_unscaled(places) {
        return Ok(None);
    }
    let depth =
        site.constant(1).map(floats).transpose()?.and_then(|depth| depth.first().copied()).unwrap_or_default() as usize;
    let (dims, dtype) = (site.shape(0)?, site.dtype(2)?);
    ensure!(dtype != DType::U8, "its values are truth values: give it numbers");
    let hot = hot(to, places, dims.iter().product(), depth, site.dtype(0)?)?;
    let hot = to.reshape(&hot, &[dims, &[depth]].concat())?;
    let at = axis(site.node.int_or("axis", -1)?, dims.len() + 1)?;
    // The classes are last; they belong at this axis.
    let mut order: Vec<usize> = (0..dims.len()).collect();
    order.insert(at, dims.len());
    let hot = if at == dims.len() { hot } else { to.transpose(&hot, &order) };
    let (on, off) = (to.number(on, dtype)?, to.number(off, dtype)?);
    let value = to.op("Where", &[&hot, &on, &off], Vec::new());
    Change::of(
        value,
        "comparisons with the classes: EZKL would give 0 and 1, and take places that were cut off for larger ones",
    )
}
