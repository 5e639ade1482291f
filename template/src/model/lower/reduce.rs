//! Reductions over axes: `https://onnx.ai/onnx/operators/onnx__ReduceSum.html` and its like. Sums are taken in double
//! precision, those of whole numbers in 64 bits.

use anyhow::Result;
use candle_core::{DType, Tensor};

use super::{Family, Kernel, Node, kernel};
use crate::model::tensor::{axes, bounded, lines};

pub(super) const OPS: Family = &[
    ("ReduceL1", |node| {
        reduce(node, &Formula { floats: l1, ints: |line| sum_of(line.iter().map(|x| x.wrapping_abs())) })
    }),
    ("ReduceL2", |node| reduce(node, &Formula { floats: l2, ints: |line| through_floats(line, l2) })),
    ("ReduceLogSum", |node| reduce(node, &Formula { floats: log_sum, ints: |line| through_floats(line, log_sum) })),
    ("ReduceLogSumExp", |node| {
        reduce(node, &Formula { floats: log_sum_exp, ints: |line| through_floats(line, log_sum_exp) })
    }),
    ("ReduceMax", |node| {
        reduce(node, &Formula { floats: max, ints: |line| line.iter().copied().max().unwrap_or(i64::MIN) })
    }),
    ("ReduceMean", |node| reduce(node, &Formula { floats: mean, ints: mean_of })),
    ("ReduceMin", |node| {
        reduce(node, &Formula { floats: min, ints: |line| line.iter().copied().min().unwrap_or(i64::MAX) })
    }),
    ("ReduceProd", |node| {
        reduce(
            node,
            &Formula {
                floats: |line| line.iter().product(),
                ints: |line| line.iter().fold(1, |a, b| a.wrapping_mul(*b)),
            },
        )
    }),
    ("ReduceSum", |node| {
        reduce(node, &Formula { floats: |line| line.iter().sum(), ints: |line| sum_of(line.iter().copied()) })
    }),
    ("ReduceSumSquare", |node| {
        reduce(node, &Formula { floats: squares, ints: |line| sum_of(line.iter().map(|x| x.wrapping_mul(*x))) })
    }),
];

/// What becomes of the elements that are reduced to one.
struct Formula {
    floats: fn(&[f64]) -> f64,
    ints: fn(&[i64]) -> i64,
}

fn sum_of(line: impl Iterator<Item = i64>) -> i64 {
    line.fold(0, i64::wrapping_add)
}

/// Rounded towards 0; of nothing, 0.
fn mean_of(line: &[i64]) -> i64 {
    let sum: i128 = line.iter().map(|one| i128::from(*one)).sum();
    sum.checked_div(line.len() as i128).unwrap_or(0) as i64
}

fn through_floats(line: &[i64], f: fn(&[f64]) -> f64) -> i64 {
    let wide: Vec<f64> = line.iter().map(|x| *x as f64).collect();
    f(&wide) as i64
}

fn l1(line: &[f64]) -> f64 {
    line.iter().map(|x| x.abs()).sum()
}

fn squares(line: &[f64]) -> f64 {
    line.iter().map(|x| x * x).sum()
}

fn l2(line: &[f64]) -> f64 {
    squares(line).sqrt()
}

fn log_sum(line: &[f64]) -> f64 {
    line.iter().sum::<f64>().ln()
}

/// max + ln Σ e^(xᵢ − max)
fn log_sum_exp(line: &[f64]) -> f64 {
    let max = max(line);
    if !max.is_finite() {
        return max;
    }
    max + line.iter().map(|x| (x - max).exp()).sum::<f64>().ln()
}

fn mean(line: &[f64]) -> f64 {
    line.iter().sum::<f64>() / line.len() as f64
}

/// What is no number wins, as in numpy.
pub(super) fn max(line: &[f64]) -> f64 {
    line.iter().copied().fold(f64::NEG_INFINITY, |a, b| if a.is_nan() || a > b { a } else { b })
}

fn min(line: &[f64]) -> f64 {
    line.iter().copied().fold(f64::INFINITY, |a, b| if a.is_nan() || a < b { a } else { b })
}

fn reduce(node: &Node, formula: &Formula) -> Result<Kernel> {
    let Formula { floats: on_floats, ints: on_ints } = *formula;
    let given = node.ints_or_input("axes", 1)?;
    let (keep, nothing) = (node.flag("keepdims", true)?, node.flag("noop_with_empty_axes", false)?);
    kernel(move |args| {
        let x = args.get(0)?;
        let over = match given.get(args)?.filter(|given| !given.is_empty()) {
            Some(given) => axes(&given, x.rank())?,
            None if nothing => Vec::new(),
            None => (0..x.rank()).collect(),
        };
        let (rows, dims) = rows(x, &over, keep)?;
        let reduced = if x.dtype().is_float() {
            let wide = rows.to_dtype(DType::F64)?;
            lines(&wide, 1, 1, |line, out: &mut Vec<f64>| out.push(on_floats(line)))?
        } else {
            let wide = rows.to_dtype(DType::I64)?;
            // The extreme of nothing is the type's own: that of 64 bits would lose its high ones.
            let (low, high) = range(x.dtype());
            lines(&wide, 1, 1, |line, out: &mut Vec<i64>| {
                out.push(if line.is_empty() { on_ints(line).clamp(low, high) } else { on_ints(line) });
            })?
        };
        Ok(reduced.reshape(dims)?.to_dtype(x.dtype())?)
    })
}

/// The least and the greatest whole number of a type.
fn range(dtype: DType) -> (i64, i64) {
    match dtype {
        DType::U8 => (0, 1),
        DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    }
}

/// The tensor as a matrix with a row for each element of the result, and the result's shape.
pub(super) fn rows(x: &Tensor, over: &[usize], keep: bool) -> Result<(Tensor, Vec<usize>)> {
    let kept: Vec<usize> = (0..x.rank()).filter(|axis| !over.contains(axis)).collect();
    let size = |axes: &[usize]| bounded(&axes.iter().map(|axis| x.dims()[*axis]).collect::<Vec<_>>());
    let (count, length) = (size(&kept)?, size(over)?);
    let dims = match keep {
        true => x.dims().iter().enumerate().map(|(at, dim)| if over.contains(&at) { 1 } else { *dim }).collect(),
        false => kept.iter().map(|axis| x.dims()[*axis]).collect(),
    };
    let order: Vec<usize> = kept.iter().chain(over).copied().collect();
    Ok((x.permute(order)?.reshape((count, length))?, dims))
}
