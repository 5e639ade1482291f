//! Elements by their places: `https://onnx.ai/onnx/operators/onnx__Gather.html` and its kin.

use anyhow::{Result, ensure};
use candle_core::Tensor;

use super::{Family, Kernel, Node, kernel};
use crate::model::tensor::{axis, bounded, pick, positions, strides, take, whole_numbers};

pub(super) const OPS: Family = &[
    ("Gather", |node| {
        let along = node.int_or("axis", 0)?;
        kernel(move |args| gather(args.get(0)?, args.get(1)?, along))
    }),
    ("GatherElements", |node| {
        let along = node.int_or("axis", 0)?;
        kernel(move |args| elements_along(args.get(0)?, args.get(1)?, axis(along, args.get(0)?.rank())?))
    }),
    ("GatherND", gather_nd),
];

/// A place counted from the front, of one that may be counted from behind.
pub(super) fn resolve_index(index: i64, length: usize) -> Result<usize> {
    let signed = length as i64;
    ensure!((-signed..signed).contains(&index), "index {index} is outside an axis of length {length}");
    Ok(if index < 0 { index + signed } else { index } as usize)
}

/// Slices along an axis.
fn gather(data: &Tensor, indices: &Tensor, along: i64) -> Result<Tensor> {
    let along = axis(along, data.rank())?;
    let length = data.dims()[along];
    let places =
        whole_numbers(indices)?.iter().map(|index| resolve_index(*index, length)).collect::<Result<Vec<_>>>()?;
    let dims = [&data.dims()[..along], indices.dims(), &data.dims()[along + 1..]].concat();
    bounded(&dims)?;
    Ok(take(data, along, &places)?.reshape(dims)?)
}

/// Where `indices` points in the row-major order of a tensor of shape `data`, along an axis.
pub(super) fn flat_indices(data: &[usize], indices: &Tensor, along: usize) -> Result<Vec<usize>> {
    ensure!(data.len() == indices.rank(), "its indices have {} axes, the tensor has {}", indices.rank(), data.len());
    let strides = strides(data);
    let walk = positions(indices.dims()).zip(whole_numbers(indices)?);
    walk.map(|(mut position, index)| {
        position[along] = resolve_index(index, data[along])?;
        let inside = position.iter().zip(data).all(|(at, dim)| at < dim);
        ensure!(inside, "its indices of shape {:?} reach outside a tensor of shape {data:?}", indices.dims());
        Ok(position.iter().zip(&strides).map(|(at, stride)| at * stride).sum())
    })
    .collect()
}

/// `https://onnx.ai/onnx/operators/onnx__GatherElements.html`
pub(super) fn elements_along(data: &Tensor, indices: &Tensor, along: usize) -> Result<Tensor> {
    pick(data, &flat_indices(data.dims(), indices, along)?, indices.dims())
}

/// What `indices`, whose last axis holds a position each, points at: the offset of each in a tensor of shape `data`,
/// and the shape of what lies there. The first `batch` axes are walked, not pointed into.
pub(super) fn offsets(data: &[usize], indices: &Tensor, batch: usize) -> Result<(Vec<usize>, Vec<usize>)> {
    let rank = indices.rank();
    ensure!(rank > batch, "its indices have {rank} axes, and the first {batch} are batches");
    let depth = indices.dims()[rank - 1];
    ensure!(
        batch + depth <= data.len() && indices.dims()[..batch] == data[..batch],
        "its indices of shape {:?} do not fit a tensor of shape {data:?}",
        indices.dims()
    );
    let strides = strides(data);
    let numbers = whole_numbers(indices)?;
    let found = positions(&indices.dims()[..rank - 1]).enumerate().map(|(at, position)| {
        let start: usize = position.iter().zip(&strides).take(batch).map(|(at, stride)| at * stride).sum();
        numbers[at * depth..][..depth].iter().enumerate().try_fold(start, |offset, (axis, index)| {
            Ok(offset + resolve_index(*index, data[batch + axis])? * strides[batch + axis])
        })
    });
    Ok((found.collect::<Result<_>>()?, data[batch + depth..].to_vec()))
}

/// `https://onnx.ai/onnx/operators/onnx__GatherND.html`
fn gather_nd(node: &Node) -> Result<Kernel> {
    let batch = usize::try_from(node.int_or("batch_dims", 0)?)?;
    kernel(move |args| {
        let (data, indices) = (args.get(0)?, args.get(1)?);
        let (offsets, slice) = offsets(data.dims(), indices, batch)?;
        let dims = [&indices.dims()[..indices.rank() - 1], &slice].concat();
        bounded(&dims)?;
        let length: usize = slice.iter().product();
        let places: Vec<usize> = offsets.iter().flat_map(|offset| *offset..offset + length).collect();
        pick(data, &places, &dims)
    })
}
