//! Other arrangements of the same elements: parts, joints, repetitions, permutations.

use std::ops::Range;

use anyhow::{Result, ensure};
use candle_core::{D, Tensor};

use super::arithmetic::same_type;
use super::shape::size;
use super::{Family, Kernel, Node, kernel, multi_output_kernel};
use crate::model::node::Ints;
use crate::model::tensor::{axes_in_order, axis, bounded, broadcast, dim, dims, take, whole_numbers};

pub(super) const OPS: Family = &[
    ("Concat", concat),
    ("DepthToSpace", depth_to_space),
    ("Expand", |_| kernel(|args| expand(args.get(0)?, &whole_numbers(args.get(1)?)?))),
    ("Slice", slice),
    ("SpaceToDepth", space_to_depth),
    ("Split", split),
    ("Tile", |_| kernel(|args| tile(args.get(0)?, &whole_numbers(args.get(1)?)?))),
    ("Transpose", transpose),
];

/// `https://onnx.ai/onnx/operators/onnx__Concat.html`
fn concat(node: &Node) -> Result<Kernel> {
    let along = node.int_or("axis", 1)?;
    kernel(move |args| {
        let all = args.all()?;
        ensure!(!all.is_empty(), "it has no input");
        let along = axis(along, all[0].rank())?;
        let length: usize = all.iter().filter_map(|x| x.dims().get(along)).sum();
        let mut dims = all[0].dims().to_vec();
        for x in &all {
            same_type(all[0], x)?;
            let fits = x.rank() == dims.len() && (0..dims.len()).all(|at| at == along || x.dims()[at] == dims[at]);
            ensure!(fits, "the shapes {:?} and {dims:?} cannot be joined along axis {along}", x.dims());
        }
        dims[along] = length;
        bounded(&dims)?;
        let filled: Vec<&Tensor> = all.iter().copied().filter(|x| x.elem_count() > 0).collect();
        match filled.as_slice() {
            [] => Ok(Tensor::zeros(dims, all[0].dtype(), all[0].device())?),
            filled => Ok(Tensor::cat(filled, along)?),
        }
    })
}

/// `https://onnx.ai/onnx/operators/onnx__Transpose.html`
fn transpose(node: &Node) -> Result<Kernel> {
    let order = node.ints("perm")?;
    kernel(move |args| {
        let x = args.get(0)?;
        let order = match &order {
            Some(order) => order.iter().map(|at| axis(*at, x.rank())).collect::<Result<Vec<_>>>()?,
            None => (0..x.rank()).rev().collect(),
        };
        Ok(x.permute(order)?)
    })
}

/// `https://onnx.ai/onnx/operators/onnx__Expand.html`: broadcast to this shape, both ways.
fn expand(x: &Tensor, shape: &[i64]) -> Result<Tensor> {
    let common = broadcast(&[x.dims(), &dims(shape)?])?;
    Ok(x.broadcast_as(common)?)
}

/// `https://onnx.ai/onnx/operators/onnx__Tile.html`
fn tile(x: &Tensor, repeats: &[i64]) -> Result<Tensor> {
    ensure!(repeats.len() == x.rank(), "repeats {} axes of {}", repeats.len(), x.rank());
    let sizes: Vec<usize> = repeats.iter().map(|times| dim(*times)).collect::<Result<_>>()?;
    let whole: Vec<usize> = x.dims().iter().zip(&sizes).map(|(size, times)| size.saturating_mul(*times)).collect();
    bounded(&whole)?;
    let mut tiled = x.clone();
    for (at, times) in sizes.iter().enumerate() {
        let length = x.dims()[at];
        tiled = take(&tiled, at, &(0..length * times).map(|place| place % length).collect::<Vec<_>>())?;
    }
    Ok(tiled)
}

/// `https://onnx.ai/onnx/operators/onnx__Split.html`: into these lengths, or into equal parts; since opset 18 the last one may
/// be smaller.
fn split(node: &Node) -> Result<Kernel> {
    let (along, lengths) = (node.int_or("axis", 0)?, node.ints_or_input("split", 1)?);
    let (parts, unequal) = (node.outputs(), node.opset >= 18);
    let stated = node.int("num_outputs")?.unwrap_or(parts as i64);
    ensure!(parts > 0 && stated == parts as i64, "it has {parts} outputs, its attribute \"num_outputs\" says {stated}");
    multi_output_kernel(move |args| {
        let x = args.get(0)?;
        let along = axis(along, x.rank())?;
        let whole = x.dims()[along];
        let lengths = match lengths.get(args)? {
            Some(lengths) => lengths.iter().map(|length| dim(*length)).collect::<Result<Vec<_>>>()?,
            None => {
                ensure!(
                    unequal || whole.is_multiple_of(parts),
                    "splits an axis of length {whole} into {parts} equal parts"
                );
                let length = whole.div_ceil(parts);
                (0..parts).map(|part| length.min(whole.saturating_sub(part * length))).collect()
            }
        };
        let total = lengths.iter().try_fold(0usize, |sum, length| sum.checked_add(*length));
        ensure!(
            total == Some(whole),
            "splits an axis of length {whole} into {} lengths that do not add up to it",
            lengths.len()
        );
        let mut start = 0;
        lengths
            .iter()
            .map(|length| {
                let part = x.narrow(along, start, *length)?;
                start += length;
                Ok(part)
            })
            .collect()
    })
}

/// `https://onnx.ai/onnx/operators/onnx__Slice.html`: attributes before opset 10, inputs since.
fn slice(node: &Node) -> Result<Kernel> {
    let (starts, ends) = (node.ints_or_input("starts", 1)?, node.ints_or_input("ends", 2)?);
    let axes = node.ints_or_input("axes", 3)?;
    kernel(move |args| {
        let x = args.get(0)?;
        let (starts, ends) = (starts.required(args)?, ends.required(args)?);
        let axes = axes.get(args)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = Ints::Input(4).get(args)?.unwrap_or_else(|| vec![1; starts.len()]);
        let same = [ends.len(), axes.len(), steps.len()].iter().all(|length| *length == starts.len());
        ensure!(same, "its starts, ends, axes and steps are not of one length");
        let axes = axes_in_order(&axes, x.rank())?;
        let mut part = x.clone();
        for (((start, end), at), step) in starts.iter().zip(&ends).zip(axes).zip(&steps) {
            let length = part.dims()[at];
            part = match places(*start, *end, *step, length)? {
                Places::Range(range) => part.narrow(at, range.start, range.len())?,
                Places::List(list) => take(&part, at, &list)?,
            };
        }
        Ok(part)
    })
}

/// The part of an axis that a slice takes.
enum Places {
    Range(Range<usize>),
    List(Vec<usize>),
}

fn places(start: i64, end: i64, step: i64, length: usize) -> Result<Places> {
    ensure!(step != 0, "takes steps of 0");
    let signed = length as i64;
    let counted = |at: i64| if at < 0 { at.saturating_add(signed) } else { at };
    if step > 0 {
        let (start, end) = (counted(start).clamp(0, signed) as usize, counted(end).clamp(0, signed) as usize);
        let range = start..end.max(start);
        return Ok(match usize::try_from(step)? {
            1 => Places::Range(range),
            step => Places::List(range.step_by(step).collect()),
        });
    }
    let (start, end) = (counted(start).clamp(-1, signed - 1), counted(end).clamp(-1, signed - 1));
    let list = std::iter::successors(Some(start), |at| at.checked_add(step)).take_while(|at| *at > end);
    Ok(Places::List(list.map(|at| at as usize).collect()))
}

/// How long a block is on each side, and whether channels come before a block's places.
fn blocks(node: &Node) -> Result<(usize, bool)> {
    Ok((size(node, "blocksize")?, node.choice("mode", &[("DCR", true), ("CRD", false)])?))
}

/// `https://onnx.ai/onnx/operators/onnx__DepthToSpace.html`
fn depth_to_space(node: &Node) -> Result<Kernel> {
    let (block, depth_first) = blocks(node)?;
    kernel(move |args| {
        let x = args.get(0)?;
        let (n, c, h, w) = x.dims4()?;
        let square = block.checked_mul(block).filter(|square| c % square == 0);
        ensure!(square.is_some(), "{c} channels do not make blocks of {block} by {block}");
        let depth = c / block / block;
        let blocks = if depth_first {
            x.reshape(vec![n, block, block, depth, h, w])?.permute(vec![0, 3, 4, 1, 5, 2])?
        } else {
            x.reshape(vec![n, depth, block, block, h, w])?.permute(vec![0, 1, 4, 2, 5, 3])?
        };
        Ok(blocks.reshape((n, depth, h * block, w * block))?)
    })
}

/// `https://onnx.ai/onnx/operators/onnx__SpaceToDepth.html`
fn space_to_depth(node: &Node) -> Result<Kernel> {
    let (block, depth_first) = blocks(node)?;
    kernel(move |args| {
        let x = args.get(0)?;
        let (n, c, h, w) = x.dims4()?;
        ensure!(h % block == 0 && w % block == 0, "{h} by {w} is not made of blocks of {block} by {block}");
        let (rows, columns) = (h / block, w / block);
        let order = if depth_first { vec![0, 3, 5, 1, 2, 4] } else { vec![0, 1, 3, 5, 2, 4] };
        let blocks = x.reshape(vec![n, c, rows, block, columns, block])?.permute(order)?;
        Ok(blocks.reshape((n, c * block * block, rows, columns))?)
    })
}

/// A matrix, or a batch of them, with rows and columns exchanged.
pub(super) fn transposed(x: &Tensor) -> Result<Tensor> {
    Ok(x.transpose(D::Minus2, D::Minus1)?)
}
