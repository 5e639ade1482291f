//! Products of matrices: `https://onnx.ai/onnx/operators/onnx__MatMul.html` and `onnx__Gemm.html`.

use anyhow::{Result, bail, ensure};
use candle_core::Tensor;

use super::arithmetic::same_type;
use super::layout::transposed;
use super::{Family, Kernel, Node, kernel};
use crate::model::budget::Budget;
use crate::model::tensor::{bounded, broadcast, elements, strides, tensor};

pub(super) const OPS: Family =
    &[("Gemm", gemm), ("MatMul", |_| kernel(|args| matmul(args.get(0)?, args.get(1)?, args.budget)))];

/// numpy's matmul: vectors are rows or columns, what lies before the last two axes is broadcast.
pub(super) fn matmul(a: &Tensor, b: &Tensor, budget: &Budget) -> Result<Tensor> {
    same_type(a, b)?;
    ensure!(a.rank() > 0 && b.rank() > 0, "multiplies a number without axes");
    let (row, column) = (a.rank() == 1, b.rank() == 1);
    let a = if row { a.unsqueeze(0)? } else { a.clone() };
    let b = if column { b.unsqueeze(1)? } else { b.clone() };
    let product = matrices(&a, &b, budget)?;
    let mut dims = product.dims().to_vec();
    if column {
        dims.pop();
    }
    if row {
        dims.remove(dims.len() - 1 - usize::from(!column));
    }
    Ok(if row || column { product.reshape(dims)? } else { product })
}

fn matrices(a: &Tensor, b: &Tensor, budget: &Budget) -> Result<Tensor> {
    let ([batch_a @ .., m, k], [batch_b @ .., k_b, n]) = (a.dims(), b.dims()) else {
        bail!("multiplies what are no matrices");
    };
    ensure!(k == k_b, "the shapes {:?} and {:?} cannot be multiplied", a.dims(), b.dims());
    let batch = broadcast(&[batch_a, batch_b])?;
    let count = bounded(&[&batch, [*m, *n].as_slice()].concat())?;
    budget.spend(&[count, *k])?;
    // What is broadcast to the batch is copied for each of it: a product may be small, and its factors not.
    bounded(&[&batch, [*m, *k].as_slice()].concat())?;
    bounded(&[&batch, [*k, *n].as_slice()].concat())?;
    if !a.dtype().is_float() {
        return whole(a, b, &batch);
    }
    if a.rank() == 2 && b.rank() == 2 {
        return Ok(a.matmul(b)?);
    }
    Ok(a.contiguous()?.broadcast_matmul(&if b.rank() == 2 { b.clone() } else { b.contiguous()? })?)
}

/// Whole numbers, which candle does not multiply.
fn whole(a: &Tensor, b: &Tensor, batch: &[usize]) -> Result<Tensor> {
    let (m, k, n) = (a.dims()[a.rank() - 2], a.dims()[a.rank() - 1], b.dims()[b.rank() - 1]);
    let wide = |x: &Tensor, rows: usize, columns: usize| {
        let dims = [batch, &[rows, columns]].concat();
        elements::<i64>(&x.to_dtype(candle_core::DType::I64)?.broadcast_as(dims)?)
    };
    let (left, right) = (wide(a, m, k)?, wide(b, k, n)?);
    let dims = [batch, &[m, n]].concat();
    let (steps, count) = (strides(&dims), bounded(&dims)?);
    let matrix = steps.get(batch.len().wrapping_sub(1)).copied().unwrap_or(m * n).max(1);
    let product = (0..count).map(|at| {
        let (batch, row, column) = (at / matrix, at % matrix / n, at % n);
        (0..k).fold(0i64, |sum, i| {
            let term = left[(batch * m + row) * k + i].wrapping_mul(right[(batch * k + i) * n + column]);
            sum.wrapping_add(term)
        })
    });
    Ok(tensor(product.collect(), dims)?.to_dtype(a.dtype())?)
}

/// α A′ B′ + β C, where A′ and B′ may be transposed.
fn gemm(node: &Node) -> Result<Kernel> {
    let (alpha, beta) = (node.float_or("alpha", 1.0)?, node.float_or("beta", 1.0)?);
    let (turn_a, turn_b) = (node.flag("transA", false)?, node.flag("transB", false)?);
    kernel(move |args| {
        let side = |x: &Tensor, turn: bool| {
            ensure!(x.rank() == 2, "takes matrices, and is given the shape {:?}", x.dims());
            if turn { transposed(x) } else { Ok(x.clone()) }
        };
        let product = matmul(&side(args.get(0)?, turn_a)?, &side(args.get(1)?, turn_b)?, args.budget)?;
        let product = scaled(&product, alpha)?;
        match args.optional(2) {
            None => Ok(product),
            Some(c) => {
                same_type(&product, c)?;
                let dims = broadcast(&[product.dims(), c.dims()])?;
                ensure!(dims == product.dims(), "adds the shape {:?} to {:?}", c.dims(), product.dims());
                Ok(product.broadcast_add(&scaled(c, beta)?)?)
            }
        }
    })
}

fn scaled(x: &Tensor, by: f64) -> Result<Tensor> {
    if by == 1.0 {
        return Ok(x.clone());
    }
    if !x.dtype().is_float() {
        ensure!(by.fract() == 0.0, "multiplies whole numbers by {by}");
        return super::unary::whole(x, |one| one.wrapping_mul(by as i64));
    }
    Ok(x.affine(by, 0.0)?)
}
