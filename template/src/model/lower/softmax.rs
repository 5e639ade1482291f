//! Softmax and its kin: `https://onnx.ai/onnx/operators/onnx__Softmax.html`.

use anyhow::Result;
use candle_core::{Tensor, WithDType as _};

use super::{Family, Kernel, Node, kernel};
use crate::model::tensor::{axis, bounded, each_float, lines};

pub(super) const OPS: Family = &[
    ("Hardmax", |node| along(node, hardmax)),
    ("LogSoftmax", |node| along(node, log_softmax)),
    ("Softmax", |node| along(node, softmax)),
];

/// Turns each line into another of its length.
fn along(node: &Node, f: fn(&[f64], &mut Vec<f64>)) -> Result<Kernel> {
    // Until opset 12 all axes from this one on were one line.
    let flat = node.opset < 13;
    let place = node.int_or("axis", if flat { 1 } else { -1 })?;
    kernel(move |args| {
        let x = args.get(0)?;
        if !flat {
            return apply(x, if x.rank() == 0 { 0 } else { axis(place, x.rank())? }, f);
        }
        let at = if place == x.rank() as i64 { x.rank() } else { axis(place, x.rank())? };
        let (rows, columns) = (bounded(&x.dims()[..at])?, bounded(&x.dims()[at..])?);
        Ok(apply(&x.reshape((rows, columns))?, 1, f)?.reshape(x.dims())?)
    })
}

fn apply(x: &Tensor, axis: usize, f: fn(&[f64], &mut Vec<f64>)) -> Result<Tensor> {
    if x.rank() == 0 {
        return Ok(apply(&x.reshape(1)?, 0, f)?.reshape(())?);
    }
    let (mut wide, mut turned) = (Vec::new(), Vec::new());
    each_float!(x.dtype(), T => lines(x, axis, x.dims()[axis], |line: &[T], out: &mut Vec<T>| {
        wide.clear();
        wide.extend(line.iter().map(|one| one.to_f64()));
        turned.clear();
        f(&wide, &mut turned);
        out.extend(turned.iter().map(|one| *one as T));
    }))
}

fn greatest(line: &[f64]) -> f64 {
    line.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// e^(xᵢ − max) / Σ e^(xⱼ − max)
fn softmax(line: &[f64], out: &mut Vec<f64>) {
    let max = greatest(line);
    out.extend(line.iter().map(|x| (x - max).exp()));
    let sum: f64 = out.iter().sum();
    out.iter_mut().for_each(|x| *x /= sum);
}

/// xᵢ − max − ln Σ e^(xⱼ − max)
fn log_softmax(line: &[f64], out: &mut Vec<f64>) {
    let max = greatest(line);
    let sum: f64 = line.iter().map(|x| (x - max).exp()).sum();
    out.extend(line.iter().map(|x| x - max - sum.ln()));
}

/// 1 at the first greatest element, 0 elsewhere.
fn hardmax(line: &[f64], out: &mut Vec<f64>) {
    let max = greatest(line);
    let first = line.iter().position(|x| *x == max);
    out.extend((0..line.len()).map(|at| f64::from(u8::from(Some(at) == first))));
}
