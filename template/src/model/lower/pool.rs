//! Pools: `https://onnx.ai/onnx/operators/onnx__MaxPool.html` and its like.

use anyhow::{Result, ensure};
use candle_core::{DType, Tensor, WithDType as _};

use super::reduce::{max as greatest, rows};
use super::sliding_window::slide;
use super::window::{Axis, Window};
use super::{Family, Kernel, Node, kernel, multi_output_kernel};
use crate::model::tensor::{each_float, elements, floats, lines, require_float, tensor, tensor_of};

pub(super) const OPS: Family = &[
    ("AveragePool", average),
    ("GlobalAveragePool", |_| global(|line| line.iter().sum::<f64>() / line.len() as f64)),
    ("GlobalLpPool", |node| {
        let p = node.int_or("p", 2)? as f64;
        global(move |line| line.iter().map(|x| x.abs().powf(p)).sum::<f64>().powf(p.recip()))
    }),
    ("GlobalMaxPool", |_| global(greatest)),
    ("LpPool", lp),
    ("MaxPool", max),
];

/// The spatial axes of a batch of channels.
fn spatial(x: &Tensor) -> Result<&[usize]> {
    require_float(x.dtype())?;
    ensure!(x.rank() > 2, "takes a batch of channels with places, and is given the shape {:?}", x.dims());
    Ok(&x.dims()[2..])
}

fn global(f: impl Fn(&[f64]) -> f64 + Send + Sync + 'static) -> Result<Kernel> {
    kernel(move |args| {
        let x = args.get(0)?;
        let over: Vec<usize> = (2..2 + spatial(x)?.len()).collect();
        let (rows, dims) = rows(x, &over, true)?;
        let pooled = lines(&rows.to_dtype(DType::F64)?, 1, 1, |line: &[f64], out: &mut Vec<f64>| out.push(f(line)))?;
        Ok(pooled.to_dtype(x.dtype())?.reshape(dims)?)
    })
}

/// The sum of what each window sees, over how many that are: with the padding if `count_include_pad` says so.
fn average(node: &Node) -> Result<Kernel> {
    let (window, padding) = (Window::of(node)?, node.flag("count_include_pad", false)?);
    kernel(move |args| {
        let x = args.get(0)?;
        let axes = window.axes(spatial(x)?, window.kernel()?)?;
        let mut dims = x.dims().to_vec();
        each_float!(x.dtype(), T => {
            let mut sums = slide(elements::<T>(x)?, &mut dims, &axes, 0.0, args.budget, |sum, x| sum + x)?;
            let counts: Vec<T> = counts(&axes, padding).into_iter().map(T::from_f64).collect();
            for plane in sums.chunks_mut(counts.len().max(1)) {
                plane.iter_mut().zip(&counts).for_each(|(sum, count)| *sum /= count);
            }
            tensor(sums, dims)
        })
    })
}

/// How many inputs each window sees.
fn counts(axes: &[Axis], padding: bool) -> Vec<f64> {
    axes.iter().fold(vec![1.0], |counts, axis| {
        let along: Vec<f64> = (0..axis.output).map(|output| axis.seen(output, padding) as f64).collect();
        counts.iter().flat_map(|count| along.iter().map(move |one| count * one)).collect()
    })
}

/// (Σ |x|ᵖ)^(1/p)
fn lp(node: &Node) -> Result<Kernel> {
    let (window, p) = (Window::of(node)?, node.int_or("p", 2)? as f64);
    kernel(move |args| {
        let x = args.get(0)?;
        let axes = window.axes(spatial(x)?, window.kernel()?)?;
        let mut dims = x.dims().to_vec();
        let powers = floats(x)?.iter().map(|x| x.abs().powf(p)).collect();
        let sums = slide(powers, &mut dims, &axes, 0.0, args.budget, |sum, x| sum + x)?;
        tensor_of(sums.iter().map(|sum| sum.powf(p.recip())).collect(), dims, x.dtype())
    })
}

/// The greatest, and as a second output where it was found, counted over the whole tensor.
fn max(node: &Node) -> Result<Kernel> {
    let (window, places) = (Window::of(node)?, node.wants(1));
    let column_major = node.flag("storage_order", false)?;
    multi_output_kernel(move |args| {
        let x = args.get(0)?;
        let axes = window.axes(spatial(x)?, window.kernel()?)?;
        let mut dims = x.dims().to_vec();
        if !places {
            return each_float!(x.dtype(), T => {
                let all = elements::<T>(x)?;
                let found = slide(all, &mut dims, &axes, T::NEG_INFINITY, args.budget, |best, x| if x > best || x.is_nan() { x } else { best })?;
                Ok(vec![tensor(found, dims)?])
            });
        }
        let numbered = floats(x)?.into_iter().zip(0..).collect();
        // The first of equals is the one that counts, and what is no number wins, as without places.
        let found = slide(numbered, &mut dims, &axes, (f64::NEG_INFINITY, i64::MAX), args.budget, |best, x| {
            let first = x.0 == best.0 && x.1 < best.1;
            if x.0 > best.0 || first || (x.0.is_nan() && !best.0.is_nan()) { x } else { best }
        })?;
        let (values, mut places): (Vec<f64>, Vec<i64>) = found.into_iter().unzip();
        if column_major {
            let spatial = &x.dims()[2..];
            places.iter_mut().for_each(|place| *place = turned(*place, spatial));
        }
        Ok(vec![tensor_of(values, dims.clone(), x.dtype())?, tensor(places, dims)?])
    })
}

/// The number of a place with the spatial axes column-major, of one that is row-major.
fn turned(place: i64, spatial: &[usize]) -> i64 {
    let plane: i64 = spatial.iter().product::<usize>() as i64;
    let (mut rest, mut inside) = (place % plane, 0);
    for (at, size) in spatial.iter().enumerate().rev() {
        let weight: usize = spatial[..at].iter().product();
        inside += rest % *size as i64 * weight as i64;
        rest /= *size as i64;
    }
    place - place % plane + inside
}
