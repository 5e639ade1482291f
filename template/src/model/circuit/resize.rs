//! Resizing. EZKL repeats elements by whole factors, whatever the node says; what it repeats at fixed places is gathered, and what
//! is interpolated is a product with a fixed matrix, axis by axis.

use anyhow::{Context as _, Result, ensure};
use candle_core::{DType, Tensor};

use super::facts::evaluate;
use super::movement::{moved, run_on_places};
use super::site::{Replacement, Site};
use super::{Change, Family};
use crate::model::tensor::{floats, positions, strides, tensor, tensor_of};

pub(super) const RULES: Family = &[("Resize", resize), ("Upsample", resize)];

/// The most elements that are computed to find the matrices.
const MAX_TRIALS: usize = 1 << 26;

fn resize(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let mode = site.node.text_or("mode", "nearest")?;
    if mode == "nearest" {
        return if is_known(site)? { Ok(None) } else { moved(site, to) };
    }
    let how = site.node.text_or("coordinate_transformation_mode", "half_pixel")?;
    ensure!(how != "tf_crop_and_resize", "it crops as well: that is not computed in a circuit; use Slice and Resize");
    let (old, new) = (site.shape(0)?, site.output_shape()?);
    let mut value = site.input(0)?.to_owned();
    for at in (0..old.len()).filter(|at| old[*at] != new[*at]) {
        value = to.along(&value, at, old.len(), &matrix(site, at, old, new)?)?;
    }
    Change::of(value, "products with fixed matrices: EZKL would refuse it")
}

/// True if ONNX repeats what EZKL repeats: each element by whole factors, in order.
fn is_known(site: &Site) -> Result<bool> {
    let (old, new) = (site.shape(0)?, site.output_shape()?);
    let scales = site.constant(2).map(floats).transpose()?.unwrap_or_default();
    // tract knows no other, and refuses the model.
    let mode = site.node.text_or("coordinate_transformation_mode", "half_pixel")?;
    let is_read = matches!(mode, "half_pixel" | "asymmetric" | "align_corners");
    let is_whole = scales.len() == old.len() && scales.iter().all(|scale| scale.fract() == 0.0 && *scale >= 1.0);
    if !is_whole || !is_read || site.operator() != "Resize" || site.node.opset < 11 {
        return Ok(false);
    }
    let apart = strides(old);
    let repeated = positions(new).map(|place| -> usize {
        place.iter().zip(&scales).zip(&apart).map(|((at, scale), stride)| at / *scale as usize * stride).sum()
    });
    let found = run_on_places(site, &[0], 0)?;
    Ok(found.iter().zip(repeated).all(|(found, repeated)| *found == repeated as f64 + 1.0))
}

/// What each element of an axis adds to each of the new ones: a row for each old element.
fn matrix(site: &Site, at: usize, old: &[usize], new: &[usize]) -> Result<Tensor> {
    let trials = new.iter().product::<usize>().saturating_mul(old[at]);
    ensure!(
        trials <= MAX_TRIALS,
        "it interpolates {old:?} to {new:?}, which is too much for a circuit: use mode \"nearest\""
    );
    let (before, after) = (strides(old), strides(new));
    let mut rows = Vec::with_capacity(old[at] * new[at]);
    for row in 0..old[at] {
        // The same in all lines along the axis: along the others nothing changes then.
        let basis =
            (0..old.iter().product()).map(|flat: usize| if flat / before[at] % old[at] == row { 1.0f32 } else { 0.0 });
        let basis = tensor(basis.collect(), old)?;
        let mut inputs: Vec<Option<&Tensor>> = vec![Some(&basis)];
        inputs.extend((1..site.node.inputs()).map(|at| site.constant(at)));
        let made = evaluate(site.node.proto(), &inputs, site.node.opset)?;
        let made = floats(made.first().context("it gives nothing")?)?;
        rows.extend((0..new[at]).map(|column| made[column * after[at]]));
    }
    tensor_of(rows, [old[at], new[at]], DType::F32)
}
