//! Elements by what they are, and lines in another order.

use anyhow::{Result, ensure};
use candle_core::DType;

use super::{Family, Kernel, Node, kernel};
use crate::model::tensor::{
    axis, bounded, each_type, elements, pick, positions, strides, take, tensor, type_name, whole_numbers, with_elements,
};

pub(super) const OPS: Family = &[("Compress", compress), ("NonZero", non_zero), ("ReverseSequence", reverse_sequence)];

/// `https://onnx.ai/onnx/operators/onnx__NonZero.html`: a column for each element that is not 0.
fn non_zero(_: &Node) -> Result<Kernel> {
    kernel(|args| {
        let x = args.get(0)?;
        let places: Vec<usize> = each_type!(x.dtype(), T => with_elements(x, |all: &[T]| {
            let found = all.iter().enumerate().filter(|(_, one)| **one != T::default());
            Ok(found.map(|(place, _)| place).collect())
        }))?;
        bounded(&[x.rank(), places.len()])?;
        let strides = strides(x.dims());
        let coordinates = x
            .dims()
            .iter()
            .zip(&strides)
            .flat_map(|(dim, stride)| places.iter().map(move |place| (place / stride % dim) as i64));
        tensor(coordinates.collect(), [x.rank(), places.len()])
    })
}

/// `https://onnx.ai/onnx/operators/onnx__Compress.html`
fn compress(node: &Node) -> Result<Kernel> {
    let along = node.int("axis")?;
    kernel(move |args| {
        let (x, condition) = (args.get(0)?, args.get(1)?);
        ensure!(condition.dtype() == DType::U8, "its condition is {}, not bool", type_name(condition.dtype()));
        let (x, along) = match along {
            Some(along) => (x.clone(), axis(along, x.rank())?),
            None => (x.flatten_all()?, 0),
        };
        let chosen: Vec<u8> = elements(condition)?;
        let places = chosen.iter().enumerate().filter(|(_, chosen)| **chosen != 0).map(|(place, _)| place);
        let places: Vec<usize> = places.collect();
        let length = x.dims()[along];
        ensure!(
            places.last().is_none_or(|last| *last < length),
            "its condition reaches outside an axis of length {length}"
        );
        take(&x, along, &places)
    })
}

/// `https://onnx.ai/onnx/operators/onnx__ReverseSequence.html`: of each batch, the first elements in reverse.
fn reverse_sequence(node: &Node) -> Result<Kernel> {
    let (time, batch) = (node.int_or("time_axis", 0)?, node.int_or("batch_axis", 1)?);
    kernel(move |args| {
        let x = args.get(0)?;
        let (time, batch) = (axis(time, x.rank())?, axis(batch, x.rank())?);
        let lengths = whole_numbers(args.get(1)?)?;
        ensure!(lengths.len() == x.dims()[batch], "it has {} lengths for {} batches", lengths.len(), x.dims()[batch]);
        ensure!(
            lengths.iter().all(|length| (0..=x.dims()[time] as i64).contains(length)),
            "its lengths {lengths:?} reach outside an axis of length {}",
            x.dims()[time]
        );
        let strides = strides(x.dims());
        let places: Vec<usize> = positions(x.dims())
            .map(|mut position| {
                let length = lengths[position[batch]] as usize;
                if position[time] < length {
                    position[time] = length - 1 - position[time];
                }
                position.iter().zip(&strides).map(|(at, stride)| at * stride).sum()
            })
            .collect();
        pick(x, &places, x.dims())
    })
}
