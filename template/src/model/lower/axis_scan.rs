//! What walks along one axis: places of extremes, running sums, the greatest few.

use std::cmp::Ordering;

use anyhow::{Context as _, Result, ensure};
use candle_core::DType;

use super::gather::elements_along;
use super::{Family, Kernel, Node, kernel, multi_output_kernel};
use crate::model::node::Ints;
use crate::model::tensor::{axis, dim, each_type, lines};

pub(super) const OPS: Family = &[
    ("ArgMax", |node| place(node, Ordering::Greater)),
    ("ArgMin", |node| place(node, Ordering::Less)),
    ("CumProd", |node| running(node, 1.0, |a, b| a * b, i64::wrapping_mul)),
    ("CumSum", |node| running(node, 0.0, |a, b| a + b, i64::wrapping_add)),
    ("TopK", top_k),
];

/// Ascending, with what is no number at the end: an order of all elements, as sorting needs.
fn compare<T: PartialOrd>(a: &T, b: &T) -> Ordering {
    a.partial_cmp(b).unwrap_or_else(|| is_nan(a).cmp(&is_nan(b)))
}

fn is_nan<T: PartialOrd>(x: &T) -> bool {
    x.partial_cmp(x).is_none()
}

/// `https://onnx.ai/onnx/operators/onnx__ArgMax.html`
fn place(node: &Node, wins: Ordering) -> Result<Kernel> {
    let (along, keep) = (node.int_or("axis", 0)?, node.flag("keepdims", true)?);
    let last = node.flag("select_last_index", false)?;
    kernel(move |args| {
        let x = args.get(0)?;
        let along = axis(along, x.rank())?;
        ensure!(x.dims()[along] > 0, "axis {along} has no elements to choose from");
        let places = each_type!(x.dtype(), T => lines(x, along, 1, |line: &[T], out: &mut Vec<i64>| {
            let mut best = 0;
            for (at, one) in line.iter().enumerate().skip(1) {
                let found = compare(one, &line[best]);
                if found == wins || (last && found == Ordering::Equal) {
                    best = at;
                }
            }
            out.push(best as i64);
        }))?;
        Ok(if keep { places } else { places.squeeze(along)? })
    })
}

/// `https://onnx.ai/onnx/operators/onnx__CumSum.html`
fn running(node: &Node, start: f64, floats: fn(f64, f64) -> f64, ints: fn(i64, i64) -> i64) -> Result<Kernel> {
    let (exclusive, reverse) = (node.flag("exclusive", false)?, node.flag("reverse", false)?);
    kernel(move |args| {
        let x = args.get(0)?;
        let along = axis(args.int(1)?.context("its input 1, the axis, is missing")?, x.rank())?;
        let run = Running { exclusive, reverse };
        let length = x.dims()[along];
        let sums = if x.dtype().is_float() {
            lines(&x.to_dtype(DType::F64)?, along, length, |line, out| run.over(line, out, start, floats))?
        } else {
            lines(&x.to_dtype(DType::I64)?, along, length, |line, out| run.over(line, out, start as i64, ints))?
        };
        Ok(sums.to_dtype(x.dtype())?)
    })
}

/// How a running sum is taken.
#[derive(Clone, Copy)]
struct Running {
    /// Without the element at its own place.
    exclusive: bool,
    /// From the end.
    reverse: bool,
}

impl Running {
    fn over<T: Copy>(self, line: &[T], out: &mut Vec<T>, start: T, f: fn(T, T) -> T) {
        let begin = out.len();
        let mut sum = start;
        let mut step = |one: &T| {
            let before = sum;
            sum = f(sum, *one);
            out.push(if self.exclusive { before } else { sum });
        };
        if self.reverse {
            line.iter().rev().for_each(&mut step);
            out[begin..].reverse();
        } else {
            line.iter().for_each(&mut step);
        }
    }
}

/// `https://onnx.ai/onnx/operators/onnx__TopK.html`: of equals, the one with the lower index comes first.
fn top_k(node: &Node) -> Result<Kernel> {
    let count = match node.int("k")? {
        Some(fixed) => Ints::Fixed(vec![fixed]),
        None => Ints::Input(1),
    };
    let (along, largest) = (node.int_or("axis", -1)?, node.flag("largest", true)?);
    multi_output_kernel(move |args| {
        let x = args.get(0)?;
        let along = axis(along, x.rank())?;
        let count = count.required(args)?;
        ensure!(count.len() == 1, "k must be one number, and has {}", count.len());
        let (count, length) = (dim(count[0])?, x.dims()[along]);
        ensure!(count <= length, "takes the top {count} of {length}");
        let places = each_type!(x.dtype(), T => lines(x, along, count, |line: &[T], out: &mut Vec<i64>| {
            let mut order: Vec<usize> = (0..line.len()).collect();
            order.sort_by(|a, b| {
                let ascending = compare(&line[*a], &line[*b]);
                if largest { ascending.reverse() } else { ascending }
            });
            out.extend(order[..count].iter().map(|place| *place as i64));
        }))?;
        Ok(vec![elements_along(x, &places, along)?, places])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_sorted_too() {
        let mut numbers = [f64::NAN, 1.0, f64::NEG_INFINITY, f64::NAN, 0.5];
        numbers.sort_by(compare);
        assert_eq!(numbers[..3], [f64::NEG_INFINITY, 0.5, 1.0]);
    }
}
