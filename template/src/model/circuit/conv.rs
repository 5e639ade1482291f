//! Convolutions: EZKL takes none whose strides are left out, and knows no dilation.

use anyhow::{Context as _, Result, ensure};
use candle_core::{DType, Tensor};

use super::site::{Replacement, Site, ints, remove, set};
use super::{Change, Family};
use crate::model::lower::window::Window;
use crate::model::tensor::{floats, positions, strides, tensor_of};

pub(super) const RULES: Family = &[("Conv", conv), ("ConvTranspose", transposed)];

/// Strides that EZKL computes with. From three on its output is longer than ONNX says by what they have beyond two, and it ends.
const MAX_STRIDE: usize = 2;

/// EZKL takes explicit pads alone, ignores the shape that is asked for, and ends at an output_padding and at strides beyond the kernel:
/// zeros behind the kernel are the same, and zeros between the places are the same as strides.
fn transposed(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let sizes = site.node.ints("output_shape")?;
    let (given, kernel) = (&site.shape(0)?[2..], &site.shape(1)?[2..]);
    let extra = site.node.ints("output_padding")?.unwrap_or_else(|| vec![0; given.len()]);
    let extra: Vec<usize> = extra.iter().map(|one| *one as usize).collect();
    let window = Window::of(&site.node)?;
    let has_pads = sizes.is_none() && matches!(site.node.text_or("auto_pad", "NOTSET")?, "NOTSET" | "");
    let sizes =
        sizes.map(|sizes| sizes[sizes.len() - given.len()..].iter().map(|one| *one as usize).collect::<Vec<_>>());
    let axes = window.transposed_axes(given, kernel, &extra, sizes.as_deref())?;
    ensure!(axes.iter().all(|axis| axis.before >= 0), "its output is larger than what it computes: pad it afterwards");
    let is_far = |stride: usize| stride > MAX_STRIDE;
    let steps: Vec<usize> = axes.iter().map(|axis| if is_far(axis.stride) { 1 } else { axis.stride }).collect();
    // What the kernel reaches to: as far as the output goes, and as the next step begins.
    let reaches = axes.iter().zip(&steps).map(|(axis, step)| {
        let own = (axis.kernel - 1) * axis.dilation + 1;
        let last = axis.stride * (axis.output - 1);
        own.max(*step).max((axis.input + axis.before as usize).saturating_sub(last))
    });
    let reaches: Vec<usize> = reaches.collect();
    let is_whole = reaches.iter().zip(kernel).all(|(reach, size)| reach == size);
    if has_pads && is_whole && !axes.iter().any(|axis| is_far(axis.stride)) {
        return conv(site, to);
    }
    let before = axes.iter().map(|axis| axis.before);
    let after = axes
        .iter()
        .zip(&reaches)
        .map(|(axis, reach)| (axis.stride * (axis.output - 1) + reach) as i64 - axis.before - axis.input as i64);
    let pads: Vec<i64> = before.chain(after).collect();
    let mut data = site.input(0)?.to_owned();
    for (at, axis) in axes.iter().enumerate().filter(|(_, axis)| is_far(axis.stride)) {
        data = to.along(&data, at + 2, axes.len() + 2, &spacing(given[at], axis.stride)?)?;
    }
    let longer = if is_whole {
        None
    } else {
        let known = site.constant(1).context(
            "its kernel is computed, and has dilations, an output_padding, or strides that are longer than it: use pads, and a larger kernel",
        )?;
        let apart: Vec<usize> = axes.iter().map(|axis| axis.dilation).collect();
        Some(to.constant(&spread(known, &apart, &reaches)?)?)
    };
    let whole = |sizes: &[usize]| sizes.iter().map(|size| *size as i64).collect::<Vec<_>>();
    let value = to.keep(site.node.proto(), |node| {
        ["output_shape", "auto_pad", "output_padding", "dilations"].iter().for_each(|name| remove(node, name));
        node.input[0] = data;
        if let Some(kernel) = longer {
            node.input[1] = kernel;
        }
        set(node, ints("kernel_shape", &whole(&reaches)));
        set(node, ints("pads", &pads));
        set(node, ints("strides", &whole(&steps)));
    });
    Change::of(
        value,
        "its pads are written out, with zeros in its kernel and for strides of three and more: EZKL would ignore output_shape, and refuse \
         the rest",
    )
}

fn conv(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let places = site.shape(0)?.len().checked_sub(2).context("its input has no places")?;
    let dilations = site.node.ints("dilations")?.unwrap_or_default();
    let is_dense = dilations.iter().all(|dilation| *dilation == 1);
    if is_dense && let Some(change) = thinned(site, to)? {
        return Ok(Some(change));
    }
    if is_dense && site.node.ints("strides")?.is_some() {
        return Ok(None);
    }
    let steps = site.node.ints("strides")?.unwrap_or_else(|| vec![1; places]);
    if is_dense {
        let value = to.keep(site.node.proto(), |node| set(node, ints("strides", &steps)));
        return Change::of(value, "its strides are written out");
    }
    let kernel =
        site.constant(1).context("its kernel is computed, and dilated: EZKL cannot compute that; use no dilation")?;
    ensure!(dilations.len() == places, "its dilations are not those of its kernel");
    let apart: Vec<usize> = dilations.iter().map(|one| (*one).max(1) as usize).collect();
    let reaches = kernel.dims()[2..].iter().zip(&apart).map(|(size, apart)| (size - 1) * apart + 1);
    let kernel = spread(kernel, &apart, &reaches.collect::<Vec<_>>())?;
    let sizes: Vec<i64> = kernel.dims()[2..].iter().map(|size| *size as i64).collect();
    let kernel = to.constant(&kernel)?;
    let value = to.keep(site.node.proto(), |node| {
        node.input[1] = kernel;
        remove(node, "dilations");
        set(node, ints("kernel_shape", &sizes));
        set(node, ints("strides", &steps));
    });
    Change::of(value, "zeros are put into its kernel: EZKL would refuse dilations")
}

/// A kernel of one element whose steps leave places out takes the others of a gather: tract moves such steps towards the input, and fails
/// where a Reshape is in the way.
fn thinned(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let (dims, kernel) = (&site.shape(0)?[2..], &site.shape(1)?[2..]);
    let steps = site.node.ints("strides")?.unwrap_or_default();
    let is_padded = site.node.ints("pads")?.unwrap_or_default().iter().any(|pad| *pad != 0);
    let is_thin = |at: &usize| kernel[*at] == 1 && steps.get(*at).is_some_and(|step| *step > 1);
    let axes: Vec<usize> = (0..kernel.len()).filter(is_thin).collect();
    let has_pads = matches!(site.node.text_or("auto_pad", "NOTSET")?, "NOTSET" | "" | "VALID");
    if site.operator() != "Conv" || axes.is_empty() || is_padded || !has_pads {
        return Ok(None);
    }
    let (mut data, mut steps) = (site.input(0)?.to_owned(), steps);
    for at in axes {
        let places: Vec<usize> = (0..dims[at]).step_by(steps[at] as usize).collect();
        data = to.gather(&data, &places, at + 2)?;
        steps[at] = 1;
    }
    let value = to.keep(site.node.proto(), |node| {
        node.input[0] = data;
        set(node, ints("strides", &steps));
    });
    Change::of(value, "of the places that its steps reach: EZKL may refuse steps that leave places out")
}

/// A line times this matrix has zeros between its elements, which are so far apart.
fn spacing(places: usize, stride: usize) -> Result<Tensor> {
    let wide = (places - 1) * stride + 1;
    let ones = (0..places * wide).map(|flat| f64::from(u8::from(flat % wide == flat / wide * stride))).collect();
    tensor_of(ones, [places, wide], DType::F32)
}

/// The kernel with zeros between its elements, which are so far apart, and behind them, up to these sizes.
fn spread(kernel: &Tensor, apart: &[usize], sizes: &[usize]) -> Result<Tensor> {
    let dims = [&kernel.dims()[..2], sizes].concat();
    let apart = [&[1, 1], apart].concat();
    let wide = strides(&dims);
    let mut all = vec![0.0; dims.iter().product()];
    for (place, number) in positions(kernel.dims()).zip(floats(kernel)?) {
        let flat: usize = place.iter().zip(&apart).zip(&wide).map(|((at, apart), stride)| at * apart * stride).sum();
        all[flat] = number;
    }
    tensor_of(all, dims, kernel.dtype())
}
