//! Operators that only move elements, or put fixed ones beside them. EZKL reads some of them otherwise, or refuses them; one gather
//! at fixed places does what all of them do.

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::{DType, Tensor};

use super::facts::evaluate;
use super::site::{Replacement, Site};
use super::{Change, Family};
use crate::model::tensor::{floats, tensor_of};

pub(super) const RULES: Family = &[
    ("Compress", always),
    ("Expand", expand),
    ("Pad", pad),
    ("ReverseSequence", always),
    ("Scatter", scatter),
    ("ScatterElements", scatter),
    ("ScatterND", scatter),
    ("Slice", slice),
    ("Tile", always),
    ("Trilu", always),
];

fn always(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    moved(site, to)
}

/// EZKL mixes up the axes where there are more of them than before.
fn expand(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    if site.shape(0)?.len() == site.output_shape()?.len() {
        return Ok(None);
    }
    moved(site, to)
}

/// EZKL takes a fixed place below −1 for the first.
pub(super) fn behind(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let places = site.constant(1).map(floats).transpose()?.unwrap_or_default();
    if places.iter().all(|place| *place >= 0.0) {
        return Ok(None);
    }
    moved(site, to)
}

/// EZKL pads with the zero of float alone, before and after all axes.
fn pad(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let old = site.node.opset < 11;
    let value = if old {
        site.node.float_or("value", 0.0)?
    } else {
        let value = site.constant(2).map(floats).transpose()?;
        value.and_then(|value| value.first().copied()).unwrap_or_default()
    };
    let pads = match site.node.ints("pads")? {
        Some(pads) if old => pads.iter().map(|one| *one as f64).collect(),
        _ => site.known(1, "how much it pads")?,
    };
    ensure!(
        site.optional(2).is_none() || site.constant(2).is_some(),
        "what it pads with is computed: the circuit needs it fixed"
    );
    let is_constant = site.node.text_or("mode", "constant")? == "constant";
    let is_known = is_constant && value == 0.0 && site.dtype(0)?.is_float() && site.optional(3).is_none();
    if is_known && pads.iter().all(|one| *one >= 0.0) {
        return Ok(None);
    }
    moved(site, to)
}

/// A slice that leaves places out, or goes backwards, tract moves towards the input, and fails where a Reshape is in the way.
fn slice(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let steps = site.constant(4).map(floats).transpose()?.unwrap_or_default();
    if steps.iter().all(|step| *step == 1.0) { Ok(None) } else { moved(site, to) }
}

/// EZKL ignores how what is there and what is new are combined, takes places counted from behind for the first, and mixes up scales.
fn scatter(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let reduction = site.node.text_or("reduction", "none")?;
    ensure!(
        reduction == "none",
        "its reduction {reduction:?} is not computed in a circuit: export it as an addition or a product"
    );
    if site.constant(1).is_some() { moved(site, to) } else { Ok(None) }
}

/// The node as a gather of its data, flat, and of the constants that it puts between. What moves where is found by running it on
/// the elements' places.
pub(super) fn moved(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let proto = site.node.proto();
    let data: Vec<usize> =
        (0..proto.input.len()).filter(|at| site.optional(*at).is_some() && site.constant(*at).is_none()).collect();
    ensure!(!data.is_empty(), "it moves nothing but constants");
    let dtype = site.facts.dtype(site.output())?;
    for at in &data {
        ensure!(site.dtype(*at)? == dtype, "its input {at} is computed: the circuit needs it fixed");
    }
    let sizes: Vec<usize> = data.iter().map(|at| Ok(site.shape(*at)?.iter().product())).collect::<Result<_>>()?;
    let count: usize = sizes.iter().sum();
    let first = run_on_places(site, &data, 0)?;
    let second = run_on_places(site, &data, count)?;
    let mut constants = Vec::new();
    let mut places = Vec::with_capacity(first.len());
    for (one, other) in first.iter().zip(&second) {
        if other - one == count as f64 {
            places.push(*one as usize - 1);
        } else if one == other {
            places.push(count + constants.len());
            constants.push(*one);
        } else {
            bail!("it does more than to move elements");
        }
    }
    let value = gathered(to, site, &data, &sizes, constants, &places, dtype)?;
    Change::of(value, "a gather at fixed places: EZKL would read it otherwise, or refuse it")
}

/// What the node gives where each element is its place, counted from `after` + 1 over all inputs.
pub(super) fn run_on_places(site: &Site, data: &[usize], after: usize) -> Result<Vec<f64>> {
    let mut next = after + 1;
    let mut places = Vec::new();
    for at in data {
        let dims = site.shape(*at)?;
        let count: usize = dims.iter().product();
        // In double precision all places are exact, and constants are what they are in float.
        places.push(tensor_of((next..next + count).map(|place| place as f64).collect(), dims, DType::F64)?);
        next += count;
    }
    let mut places = places.iter();
    let converted: Vec<Option<Tensor>> = (0..site.node.proto().input.len())
        .map(|at| match site.constant(at) {
            // What is put between the elements has their type.
            Some(constant) if constant.dtype() == site.facts.dtype(site.output())? && !is_parameter(site, at) => {
                Ok(Some(constant.to_dtype(DType::F64)?))
            }
            Some(constant) => Ok(Some(constant.clone())),
            None if data.contains(&at) => Ok(Some(places.next().context("an input is missing")?.clone())),
            None => Ok(None),
        })
        .collect::<Result<_>>()?;
    let inputs: Vec<Option<&Tensor>> = converted.iter().map(Option::as_ref).collect();
    let made = evaluate(site.node.proto(), &inputs, site.node.opset)?;
    floats(made.first().context("it gives nothing")?)
}

/// True if an input says where, and is no element.
fn is_parameter(site: &Site, at: usize) -> bool {
    match site.operator() {
        "Pad" => at == 1 || at == 3,
        "Scatter" | "ScatterElements" | "ScatterND" => at == 1,
        _ => at > 0,
    }
}

fn gathered(
    to: &mut Replacement,
    site: &Site,
    data: &[usize],
    sizes: &[usize],
    constants: Vec<f64>,
    places: &[usize],
    dtype: DType,
) -> Result<String> {
    let mut parts = Vec::new();
    for (at, size) in data.iter().zip(sizes) {
        parts.push(to.reshape(site.input(*at)?, &[*size])?);
    }
    if !constants.is_empty() {
        let count = constants.len();
        parts.push(to.constant(&tensor_of(constants, [count], dtype)?)?);
    }
    let flat = match parts.as_slice() {
        [only] => only.clone(),
        parts => {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            to.op("Concat", &parts, vec![super::site::int("axis", 0)])
        }
    };
    let taken = to.gather(&flat, places, 0)?;
    to.reshape(&taken, site.output_shape()?)
}
