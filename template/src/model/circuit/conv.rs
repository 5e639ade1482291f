//! Convolutions: EZKL takes none whose strides are left out, and knows no dilation.

use anyhow::{Context as _, Result, ensure};
use candle_core::Tensor;

use super::site::{Replacement, Site, ints, remove, set};
use super::{Change, Family};
use crate::model::lower::window::Window;
use crate::model::tensor::{floats, positions, strides, tensor_of};

pub(super) const RULES: Family = &[("Conv", conv), ("ConvTranspose", transposed)];

/// EZKL ignores the shape that is asked for, and knows explicit pads only.
fn transposed(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let sizes = site.node.ints("output_shape")?;
    if sizes.is_none() && matches!(site.node.text_or("auto_pad", "NOTSET")?, "NOTSET" | "") {
        return conv(site, to);
    }
    let (given, kernel) = (&site.shape(0)?[2..], &site.shape(1)?[2..]);
    let extra = site.node.ints("output_padding")?.unwrap_or_else(|| vec![0; given.len()]);
    let extra: Vec<usize> = extra.iter().map(|one| *one as usize).collect();
    let sizes =
        sizes.map(|sizes| sizes[sizes.len() - given.len()..].iter().map(|one| *one as usize).collect::<Vec<_>>());
    let axes = Window::of(&site.node)?.transposed_axes(given, kernel, &extra, sizes.as_deref())?;
    let pads: Vec<i64> = axes.iter().map(|axis| axis.before).chain(axes.iter().map(|axis| axis.after)).collect();
    ensure!(pads.iter().all(|pad| *pad >= 0), "its output is larger than what it computes: pad it afterwards");
    ensure!(axes.iter().all(|axis| axis.dilation == 1), "it has dilations, and output_shape or auto_pad: use pads");
    let steps: Vec<i64> = axes.iter().map(|axis| axis.stride as i64).collect();
    let value = to.keep(site.node.proto(), |node| {
        ["output_shape", "auto_pad"].iter().for_each(|name| remove(node, name));
        set(node, ints("pads", &pads));
        set(node, ints("strides", &steps));
    });
    Change::of(value, "its pads are written out: EZKL would ignore output_shape, and refuse auto_pad")
}

fn conv(site: &Site, to: &mut Replacement) -> Result<Option<Change>> {
    let places = site.shape(0)?.len().checked_sub(2).context("its input has no places")?;
    let dilations = site.node.ints("dilations")?.unwrap_or_default();
    let is_dense = dilations.iter().all(|dilation| *dilation == 1);
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
    let kernel = dilated(kernel, &dilations)?;
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

/// The kernel with zeros between its elements.
fn dilated(kernel: &Tensor, dilations: &[i64]) -> Result<Tensor> {
    let mut dims = kernel.dims().to_vec();
    ensure!(dims.len() == dilations.len() + 2, "its dilations are not those of its kernel");
    let apart: Vec<usize> = [1, 1].into_iter().chain(dilations.iter().map(|one| (*one).max(1) as usize)).collect();
    dims.iter_mut().zip(&apart).skip(2).for_each(|(dim, apart)| *dim = (*dim - 1) * apart + 1);
    let wide = strides(&dims);
    let mut all = vec![0.0; dims.iter().product()];
    for (place, number) in positions(kernel.dims()).zip(floats(kernel)?) {
        let flat: usize = place.iter().zip(&apart).zip(&wide).map(|((at, apart), stride)| at * apart * stride).sum();
        all[flat] = number;
    }
    tensor_of(all, dims, kernel.dtype())
}
