//! Normalisations. Means and variances are taken in double precision.

use anyhow::{Context as _, Result, ensure};
use candle_core::{DType, Tensor, WithDType as _};

use super::reduce::rows;
use super::shape::size;
use super::{Family, Kernel, Node, kernel, multi_output_kernel};
use crate::model::node::Args;
use crate::model::tensor::{axes, axis, bounded, broadcast, each_float, elements, floats, lines, tensor_of};

pub(super) const OPS: Family = &[
    ("BatchNormalization", batch),
    ("GroupNormalization", group),
    ("InstanceNormalization", instance),
    ("LRN", local_response),
    ("LayerNormalization", layer),
    ("LpNormalization", lp),
    ("MeanVarianceNormalization", mean_variance),
    ("RMSNormalization", root_mean_square),
];

/// A vector with an element a channel, as it is broadcast to a tensor whose axis 1 is the channels.
fn per_channel(numbers: Vec<f64>, rank: usize, dtype: DType) -> Result<Tensor> {
    let mut dims = vec![1; rank.max(2)];
    dims[1] = numbers.len();
    tensor_of(numbers, dims, dtype)
}

/// The numbers of an input that has one for each channel, or for each group of them.
fn numbers(args: &Args, at: usize, count: usize) -> Result<Vec<f64>> {
    let given = args.get(at)?;
    ensure!(given.elem_count() == count, "its input {at} has {} numbers, and {count} are needed", given.elem_count());
    floats(given)
}

fn mean_and_variance(line: &[f64]) -> (f64, f64) {
    let count = line.len() as f64;
    let mean = line.iter().sum::<f64>() / count;
    (mean, line.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count)
}

/// (x − mean) / √(var + ε) · scale + bias: `https://onnx.ai/onnx/operators/onnx__BatchNormalization.html`. In training mode the
/// mean and variance are the batch's, and the running ones are mixed with them.
fn batch(node: &Node) -> Result<Kernel> {
    let (epsilon, momentum) = (node.float_or("epsilon", 1e-5)?, node.float_or("momentum", 0.9)?);
    let training = node.flag("training_mode", false)?;
    ensure!(node.flag("spatial", true)?, "statistics for each place (spatial = 0) are not supported");
    multi_output_kernel(move |args| {
        let x = args.get(0)?;
        ensure!(x.rank() >= 2, "takes a batch of channels, and is given the shape {:?}", x.dims());
        let numbers = |at: usize| {
            let numbers = floats(args.get(at)?)?;
            let channels = x.dims()[1];
            ensure!(
                numbers.len() == channels,
                "its input {at} is of {} channels, its data of {channels}",
                numbers.len()
            );
            Ok(numbers)
        };
        let (scale, bias, mut mean, mut variance) = (numbers(1)?, numbers(2)?, numbers(3)?, numbers(4)?);
        let mut running = Vec::new();
        if training {
            let over: Vec<usize> = (0..x.rank()).filter(|at| *at != 1).collect();
            let batch = elements::<f64>(&rows(&x.to_dtype(DType::F64)?, &over, false)?.0)?;
            let length = batch.len() / mean.len().max(1);
            let found: Vec<_> = batch.chunks(length.max(1)).map(mean_and_variance).collect();
            let mix = |old: &[f64], new: Vec<f64>| {
                let mixed: Vec<f64> = old.iter().zip(&new).map(|(a, b)| a * momentum + b * (1.0 - momentum)).collect();
                let length = mixed.len();
                Ok::<_, anyhow::Error>((tensor_of(mixed, [length], x.dtype())?, new))
            };
            let (running_mean, batch_mean) = mix(&mean, found.iter().map(|(mean, _)| *mean).collect())?;
            let (running_variance, batch_variance) = mix(&variance, found.iter().map(|(_, var)| *var).collect())?;
            running = vec![running_mean, running_variance];
            (mean, variance) = (batch_mean, batch_variance);
        }
        let factor: Vec<f64> = scale.iter().zip(&variance).map(|(scale, var)| scale / (var + epsilon).sqrt()).collect();
        let offset = bias.iter().zip(&mean).zip(&factor).map(|((bias, mean), factor)| bias - mean * factor).collect();
        let factor = per_channel(factor, x.rank(), x.dtype())?;
        let normal = x.broadcast_mul(&factor)?.broadcast_add(&per_channel(offset, x.rank(), x.dtype())?)?;
        Ok([vec![normal], running].concat())
    })
}

/// Each row of a matrix with mean 0 and variance 1, with the means and the inverse deviations.
fn standardised(matrix: &Tensor, epsilon: f64) -> Result<(Tensor, Vec<f64>, Vec<f64>)> {
    let (mut means, mut inverses) = (Vec::new(), Vec::new());
    let normal = lines(&matrix.to_dtype(DType::F64)?, 1, matrix.dims()[1], |line, out: &mut Vec<f64>| {
        let (mean, variance) = mean_and_variance(line);
        let inverse = (variance + epsilon).sqrt().recip();
        out.extend(line.iter().map(|x| (x - mean) * inverse));
        means.push(mean);
        inverses.push(inverse);
    })?;
    Ok((normal, means, inverses))
}

/// The tensor as a matrix whose rows are what lies from an axis on.
fn from_axis(x: &Tensor, at: usize) -> Result<Tensor> {
    Ok(x.reshape((bounded(&x.dims()[..at])?, bounded(&x.dims()[at..])?))?)
}

/// normal · scale + bias in double precision, then in the type of `x`. Neither may enlarge it: two small tensors can make one
/// that no memory holds.
fn affine(normal: &Tensor, x: &Tensor, scale: Option<&Tensor>, bias: Option<&Tensor>) -> Result<Tensor> {
    for one in scale.iter().chain(&bias) {
        let fits = broadcast(&[x.dims(), one.dims()]).is_ok_and(|dims| dims == x.dims());
        ensure!(fits, "its scale or bias of shape {:?} does not fit the shape {:?}", one.dims(), x.dims());
    }
    let mut y = normal.reshape(x.dims())?;
    if let Some(scale) = scale {
        y = y.broadcast_mul(&scale.to_dtype(DType::F64)?)?;
    }
    if let Some(bias) = bias {
        y = y.broadcast_add(&bias.to_dtype(DType::F64)?)?;
    }
    Ok(y.to_dtype(x.dtype())?)
}

/// `https://onnx.ai/onnx/operators/onnx__LayerNormalization.html`: over the axes from this one on.
fn layer(node: &Node) -> Result<Kernel> {
    let (from, epsilon) = (node.int_or("axis", -1)?, node.float_or("epsilon", 1e-5)?);
    let statistics = node.wants(1) || node.wants(2);
    multi_output_kernel(move |args| {
        let x = args.get(0)?;
        let from = axis(from, x.rank())?;
        let (normal, means, inverses) = standardised(&from_axis(x, from)?, epsilon)?;
        let mut outputs = vec![affine(&normal, x, Some(args.get(1)?), args.optional(2))?];
        if statistics {
            let dims: Vec<usize> = (0..x.rank()).map(|at| if at < from { x.dims()[at] } else { 1 }).collect();
            outputs.push(tensor_of(means, dims.clone(), x.dtype())?);
            outputs.push(tensor_of(inverses, dims, x.dtype())?);
        }
        Ok(outputs)
    })
}

/// x / √(mean x² + ε) · scale: `https://onnx.ai/onnx/operators/onnx__RMSNormalization.html`.
fn root_mean_square(node: &Node) -> Result<Kernel> {
    let (from, epsilon) = (node.int_or("axis", -1)?, node.float_or("epsilon", 1e-5)?);
    kernel(move |args| {
        let x = args.get(0)?;
        let matrix = from_axis(x, axis(from, x.rank())?)?.to_dtype(DType::F64)?;
        let normal = lines(&matrix, 1, matrix.dims()[1], |line: &[f64], out: &mut Vec<f64>| {
            let square = line.iter().map(|x| x * x).sum::<f64>() / line.len() as f64;
            out.extend(line.iter().map(|x| x / (square + epsilon).sqrt()));
        })?;
        affine(&normal, x, Some(args.get(1)?), None)
    })
}

/// `https://onnx.ai/onnx/operators/onnx__InstanceNormalization.html`: over all places of a channel.
fn instance(node: &Node) -> Result<Kernel> {
    let epsilon = node.float_or("epsilon", 1e-5)?;
    kernel(move |args| {
        let x = args.get(0)?;
        ensure!(x.rank() >= 2, "takes a batch of channels, and is given the shape {:?}", x.dims());
        let (normal, _, _) = standardised(&from_axis(x, 2)?, epsilon)?;
        let channel = |at: usize| per_channel(numbers(args, at, x.dims()[1])?, x.rank(), DType::F64);
        affine(&normal, x, Some(&channel(1)?), Some(&channel(2)?))
    })
}

/// `https://onnx.ai/onnx/operators/onnx__GroupNormalization.html`: over a group of channels. Scale and bias are a group's until
/// opset 20, a channel's since.
fn group(node: &Node) -> Result<Kernel> {
    let (groups, epsilon) = (size(node, "num_groups")?, node.float_or("epsilon", 1e-5)?);
    let per_group = node.opset < 21;
    kernel(move |args| {
        let x = args.get(0)?;
        ensure!(x.rank() >= 2 && x.dims()[1] % groups == 0, "the shape {:?} does not make {groups} groups", x.dims());
        let (batch, channels) = (x.dims()[0], x.dims()[1]);
        let length = bounded(&x.dims()[1..])? / groups;
        let (normal, _, _) = standardised(&x.reshape((batch * groups, length))?, epsilon)?;
        let channel = |at: usize| {
            let (count, each) = if per_group { (groups, channels / groups) } else { (channels, 1) };
            let numbers = numbers(args, at, count)?;
            let numbers = numbers.iter().flat_map(|one| std::iter::repeat_n(*one, each)).collect();
            per_channel(numbers, x.rank(), DType::F64)
        };
        affine(&normal, x, Some(&channel(1)?), Some(&channel(2)?))
    })
}

/// (x − mean) / √var, over these axes: `https://onnx.ai/onnx/operators/onnx__MeanVarianceNormalization.html`.
fn mean_variance(node: &Node) -> Result<Kernel> {
    /// What keeps a constant from being divided by 0, as the operator's own definition has it.
    const EPSILON: f64 = 1e-9;
    let over = node.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    kernel(move |args| {
        let x = args.get(0)?;
        let over = axes(&over, x.rank())?;
        let kept: Vec<usize> = (0..x.rank()).filter(|at| !over.contains(at)).collect();
        let order: Vec<usize> = kept.iter().chain(&over).copied().collect();
        let (matrix, _) = rows(&x.to_dtype(DType::F64)?, &over, false)?;
        let normal = lines(&matrix, 1, matrix.dims()[1], |line, out: &mut Vec<f64>| {
            let (mean, variance) = mean_and_variance(line);
            out.extend(line.iter().map(|x| (x - mean) / (variance.sqrt() + EPSILON)));
        })?;
        let moved: Vec<usize> = order.iter().map(|at| x.dims()[*at]).collect();
        let mut back = vec![0; order.len()];
        order.iter().enumerate().for_each(|(new, old)| back[*old] = new);
        Ok(normal.reshape(moved)?.permute(back)?.to_dtype(x.dtype())?.contiguous()?)
    })
}

/// x / (Σ |x|ᵖ)^(1/p) along an axis: `https://onnx.ai/onnx/operators/onnx__LpNormalization.html`. A line of zeros stays one.
fn lp(node: &Node) -> Result<Kernel> {
    let (along, p) = (node.int_or("axis", -1)?, node.int_or("p", 2)?);
    ensure!(p == 1 || p == 2, "its attribute \"p\" is {p}, neither 1 nor 2");
    kernel(move |args| {
        let x = args.get(0)?;
        let along = axis(along, x.rank())?;
        each_float!(x.dtype(), T => lines(x, along, x.dims()[along], |line: &[T], out: &mut Vec<T>| {
            let wide = line.iter().map(|x| x.to_f64());
            let norm = if p == 1 { wide.map(f64::abs).sum() } else { wide.map(|x| x * x).sum::<f64>().sqrt() };
            let norm = if norm == 0.0 { 1.0 } else { norm };
            out.extend(line.iter().map(|x| (x.to_f64() / norm) as T));
        }))
    })
}

/// x / (bias + α/size · Σ x²)^β over neighbouring channels: `https://onnx.ai/onnx/operators/onnx__LRN.html`.
fn local_response(node: &Node) -> Result<Kernel> {
    let (alpha, beta) = (node.float_or("alpha", 1e-4)?, node.float_or("beta", 0.75)?);
    let (bias, size) = (node.float_or("bias", 1.0)?, size(node, "size")?);
    kernel(move |args| {
        let x = args.get(0)?;
        let channels = *x.dims().get(1).context("takes a batch of channels")?;
        args.budget.spend(&[x.elem_count(), size.min(channels)])?;
        each_float!(x.dtype(), T => lines(x, 1, channels, |line: &[T], out: &mut Vec<T>| {
            out.extend((0..channels).map(|at| {
                let first = at.saturating_sub((size - 1) / 2);
                let last = at.saturating_add(size / 2).min(channels - 1);
                let square: f64 = line[first..=last].iter().map(|x| x.to_f64() * x.to_f64()).sum();
                (line[at].to_f64() / (bias + alpha / size as f64 * square).powf(beta)) as T
            }));
        }))
    })
}
