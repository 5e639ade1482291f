//! Truths, and choices by them: `https://onnx.ai/onnx/operators/onnx__Less.html` and its like.

use anyhow::{Result, ensure};
use candle_core::{DType, Tensor};

use super::arithmetic::same_type;
use super::{Family, Kernel, kernel};
use crate::model::tensor::{broadcast, type_name, zip};

pub(super) const OPS: Family = &[
    ("And", |_| logic(|a, b| a && b)),
    ("Equal", |_| compare(Tensor::broadcast_eq)),
    ("Greater", |_| compare(Tensor::broadcast_gt)),
    ("GreaterOrEqual", |_| compare(Tensor::broadcast_ge)),
    ("Less", |_| compare(Tensor::broadcast_lt)),
    ("LessOrEqual", |_| compare(Tensor::broadcast_le)),
    ("Or", |_| logic(|a, b| a || b)),
    ("Where", |_| kernel(|args| choose(args.get(0)?, args.get(1)?, args.get(2)?))),
    ("Xor", |_| logic(|a, b| a != b)),
];

fn compare(f: fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>) -> Result<Kernel> {
    kernel(move |args| {
        let (a, b) = (args.get(0)?, args.get(1)?);
        same_type(a, b)?;
        broadcast(&[a.dims(), b.dims()])?;
        Ok(f(a, b)?)
    })
}

fn logic(f: fn(bool, bool) -> bool) -> Result<Kernel> {
    kernel(move |args| {
        let (a, b) = (args.get(0)?, args.get(1)?);
        truths(a)?;
        truths(b)?;
        zip(a, b, |a: u8, b: u8| u8::from(f(a != 0, b != 0)))
    })
}

fn truths(x: &Tensor) -> Result<()> {
    ensure!(x.dtype() == DType::U8, "takes bool, and is given {}", type_name(x.dtype()));
    Ok(())
}

/// `https://onnx.ai/onnx/operators/onnx__Where.html`
pub(super) fn choose(condition: &Tensor, yes: &Tensor, no: &Tensor) -> Result<Tensor> {
    truths(condition)?;
    same_type(yes, no)?;
    let dims = broadcast(&[condition.dims(), yes.dims(), no.dims()])?;
    let all = |x: &Tensor| x.broadcast_as(dims.as_slice());
    Ok(all(condition)?.where_cond(&all(yes)?, &all(no)?)?)
}
