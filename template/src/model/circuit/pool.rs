//! Pools. EZKL pads with zeros whatever is sought, divides by the whole window, and knows neither dilations nor windows that reach
//! past the end.

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use candle_onnx::onnx::{AttributeProto, NodeProto};

use super::site::{Replacement, Site, int, ints, set};
use super::{Change, Family};
use crate::model::lower::window::{Axis, Window};
use crate::model::tensor::tensor_of;

pub(super) const RULES: Family =
    &[("AveragePool", average), ("GlobalLpPool", global_lp), ("LpPool", lp), ("MaxPool", greatest)];

fn axes(site: &Site) -> Result<Vec<Axis>> {
    let window = Window::of(&site.node)?;
    window.axes(&site.shape(0)?[2..], window.kernel()?)
}

/// True if EZKL finds the windows where ONNX has them.
fn is_plain(site: &Site, axes: &[Axis]) -> Result<bool> {
    let is_dense = axes.iter().all(|axis| axis.dilation == 1);
    Ok(is_dense && !site.node.flag("ceil_mode", false)?)
}

fn is_padded(axes: &[Axis]) -> bool {
    axes.iter().any(|axis| axis.before > 0 || axis.after > 0)
}

/// The node itself, with all that it says: EZKL takes no pool whose strides are left out.
fn with_strides(site: &Site, to: &mut Replacement, axes: &[Axis], more: impl FnOnce(&mut NodeProto)) -> String {
    let strides: Vec<i64> = axes.iter().map(|axis| axis.stride as i64).collect();
    to.keep(site.node.proto(), |node| {
        set(node, ints("strides", &strides));
        more(node);
    })
}

/// A pool that EZKL computes as ONNX does; it may lack its strides.
fn as_it_is(site: &Site, to: &mut Replacement, axes: &[Axis]) -> Result<Option<Change>> {
    if site.node.ints("strides")?.is_some() {
        return Ok(None);
    }
    let value = with_strides(site, to, axes, |_| ());
    Change::of(value, "its strides are written out")
}

fn greatest(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    ensure!(
        !site.node.wants(1),
        "its second output, the places, cannot be computed in a circuit: export the model without it"
    );
    let axes = axes(site)?;
    if is_plain(site, &axes)? && (!is_padded(&axes) || site.facts.is_non_negative(site.input(0)?)) {
        return as_it_is(site, to, &axes);
    }
    let mut value = site.input(0)?.to_owned();
    for (at, axis) in axes.iter().enumerate() {
        value = to.gather(&value, &places_inside(axis)?, at + 2)?;
    }
    let value = to.op("MaxPool", &[&value], gathered(&axes));
    Change::of(value, "its windows are gathered side by side: EZKL would pad with zeros, and knows no dilation")
}

/// What each window sees of an axis. What lies outside is as an element of the same window: the greatest is the same.
fn places_inside(axis: &Axis) -> Result<Vec<usize>> {
    let mut places = Vec::new();
    for output in 0..axis.output {
        let start = (output * axis.stride) as i64 - axis.before;
        let seen: Vec<i64> = (0..axis.kernel).map(|tap| start + (tap * axis.dilation) as i64).collect();
        let is_inside = |place: &i64| (0..axis.input as i64).contains(place);
        let Some(inside) = seen.iter().copied().find(is_inside) else {
            bail!("a window lies wholly in the padding: pad less");
        };
        places.extend(seen.into_iter().map(|place| if is_inside(&place) { place } else { inside } as usize));
    }
    Ok(places)
}

/// The attributes of a pool whose windows stand side by side.
fn gathered(axes: &[Axis]) -> Vec<AttributeProto> {
    let kernel: Vec<i64> = axes.iter().map(|axis| axis.kernel as i64).collect();
    vec![ints("kernel_shape", &kernel), ints("strides", &kernel)]
}

/// EZKL's average counts the padding as zeros. What it then lacks is the same factor for each place, whatever the input is.
fn average(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let axes = axes(site)?;
    let (plain, counted) = (is_plain(site, &axes)?, site.node.flag("count_include_pad", false)?);
    if plain && (counted || !is_padded(&axes)) {
        return as_it_is(site, to, &axes);
    }
    let pooled = if plain {
        with_strides(site, to, &axes, |node| set(node, int("count_include_pad", 1)))
    } else {
        let seen = with_zeros_outside(to, site.input(0)?, site.shape(0)?, &axes)?;
        to.op("AveragePool", &[&seen], gathered(&axes))
    };
    let factors = to.constant(&factors(&axes, counted, site.shape(0)?.len())?)?;
    let value = to.mul(&pooled, &factors);
    Change::of(value, "its sums are divided by what each window sees: EZKL would count the padding")
}

/// What the windows see, side by side. What lies outside is a zero that is put at the end of each axis.
fn with_zeros_outside(to: &mut Replacement, x: &str, dims: &[usize], axes: &[Axis]) -> Result<String> {
    let (mut value, mut dims) = (x.to_owned(), dims.to_vec());
    for (at, axis) in axes.iter().enumerate() {
        dims[at + 2] = 1;
        let zeros = to.constant(&Tensor::zeros(dims.as_slice(), DType::F32, &Device::Cpu)?)?;
        value = to.op("Concat", &[&value, &zeros], vec![int("axis", at as i64 + 2)]);
        let taps = (0..axis.output).flat_map(|output| (0..axis.kernel).map(move |tap| (output, tap)));
        let places = taps.map(|(output, tap)| {
            let place = (output * axis.stride + tap * axis.dilation) as i64 - axis.before;
            usize::try_from(place).ok().filter(|place| *place < axis.input).unwrap_or(axis.input)
        });
        let places: Vec<usize> = places.collect();
        dims[at + 2] = places.len();
        value = to.gather(&value, &places, at + 2)?;
    }
    Ok(value)
}

/// How much larger each average is than the share that its window's inputs have in the whole window.
fn factors(axes: &[Axis], counted: bool, rank: usize) -> Result<Tensor> {
    let mut factors = vec![1.0];
    for axis in axes {
        let seen: Vec<usize> = (0..axis.output).map(|output| axis.seen(output, counted)).collect();
        ensure!(!seen.contains(&0), "a window lies wholly in the padding: pad less");
        let along: Vec<f64> = seen.into_iter().map(|seen| axis.kernel as f64 / seen as f64).collect();
        factors = factors.iter().flat_map(|factor| along.iter().map(move |one| factor * one)).collect();
    }
    let mut dims = vec![1; rank];
    axes.iter().zip(&mut dims[2..]).for_each(|(axis, dim)| *dim = axis.output);
    tensor_of(factors, dims, DType::F32)
}

/// (Σ |x|^p)^(1/p) over each window.
fn lp(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let (axes, p) = (axes(site)?, site.node.int_or("p", 2)?);
    let powers = powers(to, site.input(0)?, p)?;
    let seen = with_zeros_outside(to, &powers, site.shape(0)?, &axes)?;
    let mean = to.op("AveragePool", &[&seen], gathered(&axes));
    let sums = to.times(&mean, axes.iter().map(|axis| axis.kernel as f64).product())?;
    let value = root(to, &sums, p)?;
    Change::of(value, "powers, averages and roots: EZKL does not know it")
}

fn global_lp(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let p = site.node.int_or("p", 2)?;
    let over: Vec<usize> = (2..site.shape(0)?.len()).collect();
    let powers = powers(to, site.input(0)?, p)?;
    let sums = to.reduce("ReduceSum", &powers, &over)?;
    let value = root(to, &sums, p)?;
    Change::of(value, "powers, sums and roots: EZKL would divide by the number of places")
}

/// |x|^p
pub(super) fn powers(to: &mut Replacement, x: &str, p: i64) -> Result<String> {
    Ok(match p {
        1 => to.one("Abs", x),
        2 => to.mul(x, x),
        _ => {
            let p = u32::try_from(p).ok().filter(|p| *p > 0).with_context(|| format!("its attribute \"p\" is {p}"))?;
            let magnitude = to.one("Abs", x);
            let exponent = to.number(f64::from(p), DType::F32)?;
            to.op("Pow", &[&magnitude, &exponent], Vec::new())
        }
    })
}

/// x^(1/p) of what is not negative.
pub(super) fn root(to: &mut Replacement, x: &str, p: i64) -> Result<String> {
    Ok(match p {
        1 => x.to_owned(),
        2 => to.one("Sqrt", x),
        _ => {
            let exponent = to.number((p as f64).recip(), DType::F32)?;
            to.op("Pow", &[x, &exponent], Vec::new())
        }
    })
}
