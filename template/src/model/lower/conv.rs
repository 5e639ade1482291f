//! Convolutions over any number of spatial axes, as products of matrices: `https://onnx.ai/onnx/operators/onnx__Conv.html`,
//! `https://onnx.ai/onnx/operators/onnx__ConvTranspose.html`.
//!
//! What the kernel sees is unfolded into columns, one for each output place; candle multiplies them with the kernel. A
//! transposed convolution goes the other way: it multiplies first and folds the columns back.

use std::ops::{AddAssign, Range};

use anyhow::{Context as _, Result, ensure};
use candle_core::{Tensor, WithDType};

use super::arithmetic::same_type;
use super::window::{Axis, Window, outputs};
use super::{Family, Kernel, Node, kernel};
use crate::model::tensor::{bounded, dim, each_float, tensor, with_elements};

pub(super) const OPS: Family = &[("Conv", conv), ("ConvTranspose", conv_transpose)];

fn groups(node: &Node) -> Result<usize> {
    let groups = dim(node.int_or("group", 1)?)?;
    ensure!(groups > 0, "it has no groups");
    Ok(groups)
}

fn check(x: &Tensor, w: &Tensor, groups: usize, channels: usize) -> Result<()> {
    same_type(x, w)?;
    let fits = x.rank() > 2 && w.rank() == x.rank() && x.dims()[1] == channels;
    ensure!(
        fits && channels.is_multiple_of(groups) && w.dims()[0].is_multiple_of(groups),
        "a kernel of shape {:?} in {groups} groups does not fit the shape {:?}",
        w.dims(),
        x.dims()
    );
    Ok(())
}

fn conv(node: &Node) -> Result<Kernel> {
    let (window, groups) = (Window::of(node)?, groups(node)?);
    kernel(move |args| {
        let (x, w) = (args.get(0)?, args.get(1)?);
        let per_group = w.dims().get(1).copied().unwrap_or(0);
        check(x, w, groups, per_group.saturating_mul(groups))?;
        let axes = window.axes(&x.dims()[2..], &w.dims()[2..])?;
        let taps: usize = w.dims()[2..].iter().product();
        let places = bounded(&outputs(&axes))?;
        let maps = w.dims()[0];
        args.budget.spend(&[x.dims()[0], maps, places, per_group * taps])?;
        let w = w.reshape((groups, maps / groups, per_group * taps))?;
        let images = (0..x.dims()[0]).map(|image| {
            let image = x.get(image)?;
            let seen = if per_group == 1 && maps == groups {
                depthwise(&image, &w, &axes)?
            } else {
                let columns = unfolded(&image, &axes)?.reshape((groups, per_group * taps, places))?;
                if groups == 1 { w.squeeze(0)?.matmul(&columns.squeeze(0)?)? } else { w.matmul(&columns)? }
            };
            Ok(seen.reshape([&[1, maps], outputs(&axes).as_slice()].concat())?)
        });
        with_bias(joined(images.collect::<Result<_>>()?)?, args.optional(2))
    })
}

fn joined(images: Vec<Tensor>) -> Result<Tensor> {
    ensure!(!images.is_empty(), "its batch is empty");
    Ok(if images.len() == 1 { images[0].clone() } else { Tensor::cat(&images, 0)? })
}

/// One number for each channel.
fn with_bias(x: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let Some(bias) = bias else { return Ok(x) };
    let mut dims = vec![1; x.rank()];
    dims[1] = x.dims()[1];
    ensure!(bias.elem_count() == dims[1], "its bias has {} numbers for {} channels", bias.elem_count(), dims[1]);
    Ok(x.broadcast_add(&bias.reshape(dims)?)?)
}

/// A row for each channel and tap, a column for each output place.
fn unfolded(image: &Tensor, axes: &[Axis]) -> Result<Tensor> {
    let plain = axes.iter().all(|axis| axis.kernel == 1 && axis.stride == 1 && axis.before == 0 && axis.after == 0);
    if plain {
        return Ok(image.clone());
    }
    let taps: Vec<usize> = axes.iter().map(|axis| axis.kernel).collect();
    let (channels, rows, places) = (image.dims()[0], bounded(&taps)?, bounded(&outputs(axes))?);
    let plane: usize = axes.iter().map(|axis| axis.input).product();
    let total = bounded(&[channels, rows, places]).context("what its windows see together")?;
    let axes = Taps::of(axes);
    each_float!(image.dtype(), T => {
        let columns = with_elements(image, |all: &[T]| {
            let mut columns = vec![T::default(); total];
            if total > 0 {
                for (at, row) in columns.chunks_exact_mut(places).enumerate() {
                    unfold(&all[at / rows * plane..][..plane], &axes, at % rows, row, &|place, seen| *place = seen);
                }
            }
            Ok(columns)
        })?;
        tensor(columns, [channels, rows, places])
    })
}

/// One spatial axis, with what each tap sees worked out: the outputs that see an input, and the first input that they see.
struct Taps {
    seen: Vec<(Range<usize>, usize)>,
    stride: usize,
    input: usize,
    output: usize,
}

impl Taps {
    fn of(axes: &[Axis]) -> Vec<Self> {
        let taps = |axis: &Axis| {
            let seen = (0..axis.kernel).map(|tap| (axis.inside(tap), tap));
            let first =
                |outputs: &Range<usize>, tap| if outputs.is_empty() { 0 } else { axis.place(outputs.start, tap) };
            seen.map(|(outputs, tap)| (outputs.clone(), first(&outputs, tap))).collect()
        };
        let axis = |axis| Self { seen: taps(axis), stride: axis.stride, input: axis.input, output: axis.output };
        axes.iter().map(axis).collect()
    }
}

/// A convolution with one kernel for each channel: too little for a product of matrices each.
fn depthwise(image: &Tensor, w: &Tensor, axes: &[Axis]) -> Result<Tensor> {
    let taps: usize = axes.iter().map(|axis| axis.kernel).product();
    let (channels, places) = (image.dims()[0], bounded(&outputs(axes))?);
    let plane: usize = axes.iter().map(|axis| axis.input).product();
    let total = bounded(&[channels, places])?;
    let axes = Taps::of(axes);
    each_float!(image.dtype(), T => {
        let seen = with_elements(image, |all: &[T]| with_elements(w, |w: &[T]| {
            let mut seen = vec![T::default(); total];
            for (channel, row) in seen.chunks_exact_mut(places.max(1)).enumerate() {
                for tap in 0..taps {
                    let weight = w[channel * taps + tap];
                    unfold(&all[channel * plane..][..plane], &axes, tap, row, &|place, seen| *place += weight * seen);
                }
            }
            Ok(seen)
        }))?;
        tensor(seen, [channels, places])
    })
}

/// What each place sees through one tap, put there by `f`; where it sees padding, nothing is.
fn unfold<T: Copy>(plane: &[T], axes: &[Taps], tap: usize, row: &mut [T], f: &impl Fn(&mut T, T)) {
    let [axis, inner @ ..] = axes else {
        f(&mut row[0], plane[0]);
        return;
    };
    let inner_taps: usize = inner.iter().map(|axis| axis.seen.len()).product();
    let (outputs, first) = &axis.seen[tap / inner_taps];
    if inner.is_empty() {
        let (row, seen) = (&mut row[outputs.clone()], &plane[*first..]);
        // Neighbours, which the processor takes many at a time.
        if axis.stride == 1 {
            row.iter_mut().zip(seen).for_each(|(place, seen)| f(place, *seen));
        } else {
            row.iter_mut().zip(seen.iter().step_by(axis.stride)).for_each(|(place, seen)| f(place, *seen));
        }
        return;
    }
    let length: usize = inner.iter().map(|axis| axis.input).product();
    let places: usize = inner.iter().map(|axis| axis.output).product();
    for (nth, output) in outputs.clone().enumerate() {
        let part = &plane[(first + nth * axis.stride) * length..][..length];
        unfold(part, inner, tap % inner_taps, &mut row[output * places..][..places], f);
    }
}

fn conv_transpose(node: &Node) -> Result<Kernel> {
    let (window, groups) = (Window::of(node)?, groups(node)?);
    let sizes = |name: &str| -> Result<Option<Vec<usize>>> {
        node.ints(name)?.map(|sizes| sizes.iter().map(|size| dim(*size)).collect()).transpose()
    };
    let (extra, stated) = (sizes("output_padding")?, sizes("output_shape")?);
    kernel(move |args| {
        let (x, w) = (args.get(0)?, args.get(1)?);
        check(x, w, groups, w.dims().first().copied().unwrap_or(0))?;
        let spatial = x.rank() - 2;
        let extra = extra.clone().unwrap_or_else(|| vec![0; spatial]);
        // Some exporters state batch and channels as well.
        let stated = stated.as_ref().map(|sizes| &sizes[sizes.len().saturating_sub(spatial)..]);
        let fits = extra.len() == spatial && stated.is_none_or(|sizes| sizes.len() == spatial);
        ensure!(fits, "its output_padding or output_shape is not one for {spatial} spatial axes");
        let small =
            extra.iter().chain(stated.unwrap_or_default()).all(|size| *size <= crate::model::tensor::MAX_ELEMENTS);
        ensure!(small, "its output_padding or output_shape is too large");
        let axes = window.transposed_axes(&x.dims()[2..], &w.dims()[2..], &extra, stated)?;
        let taps: usize = w.dims()[2..].iter().product();
        let (channels, per_group) = (w.dims()[0] / groups, w.dims()[1]);
        args.budget.spend(&[x.dims()[0], channels, per_group * taps * groups, outputs(&axes).iter().product()])?;
        let w = w.reshape((groups, channels, per_group * taps))?.transpose(1, 2)?.contiguous()?;
        bounded(&[groups, per_group * taps, outputs(&axes).iter().product()])?;
        let images = (0..x.dims()[0]).map(|image| {
            let places: usize = outputs(&axes).iter().product();
            let columns = w.matmul(&x.get(image)?.reshape((groups, channels, places))?.contiguous()?)?;
            folded(&columns.reshape((groups * per_group, taps, places))?, &axes)
        });
        with_bias(joined(images.collect::<Result<_>>()?)?, args.optional(2))
    })
}

/// The sum of what every column puts at a place: an image for each channel.
fn folded(columns: &Tensor, axes: &[Axis]) -> Result<Tensor> {
    let (channels, taps, places) = columns.dims3()?;
    let image: Vec<usize> = axes.iter().map(|axis| axis.input).collect();
    let dims = [&[1, channels], image.as_slice()].concat();
    let (total, plane) = (bounded(&dims)?, bounded(&image)?);
    let axes = Taps::of(axes);
    each_float!(columns.dtype(), T => {
        let folded = with_elements(columns, |all: &[T]| {
            let mut folded = vec![T::default(); total];
            for (at, row) in all.chunks(places.max(1)).enumerate() {
                fold(&mut folded[at / taps * plane..][..plane], &axes, at % taps, row);
            }
            Ok(folded)
        })?;
        tensor(folded, dims)
    })
}

/// Adds one tap's row to the image.
fn fold<T: WithDType + AddAssign>(plane: &mut [T], axes: &[Taps], tap: usize, row: &[T]) {
    let [axis, inner @ ..] = axes else {
        plane[0] += row[0];
        return;
    };
    let inner_taps: usize = inner.iter().map(|axis| axis.seen.len()).product();
    let length: usize = inner.iter().map(|axis| axis.input).product();
    let places: usize = inner.iter().map(|axis| axis.output).product();
    let (outputs, first) = &axis.seen[tap / inner_taps];
    for (nth, output) in outputs.clone().enumerate() {
        let part = &mut plane[(first + nth * axis.stride) * length..][..length];
        fold(part, inner, tap % inner_taps, &row[output * places..][..places]);
    }
}
