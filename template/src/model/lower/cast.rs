//! From one type to another: `https://onnx.ai/onnx/operators/onnx__Cast.html`.

use anyhow::{Context as _, Result};
use candle_core::{DType, Tensor};

use super::{Family, Kernel, Node, kernel};
use crate::model::tensor::{dtype, each_type, map};

pub(super) const OPS: Family =
    &[("Cast", cast), ("CastLike", |_| kernel(|args| to(args.get(0)?, args.get(1)?.dtype())))];

fn cast(node: &Node) -> Result<Kernel> {
    let to_type = node.int("to")?.context("its attribute \"to\" is missing")?;
    let to_type = i32::try_from(to_type).ok().with_context(|| format!("its attribute \"to\" is {to_type}"))?;
    let to_type = dtype(to_type)?;
    kernel(move |args| to(args.get(0)?, to_type))
}

/// Towards zero from floats to whole numbers, wrapping around among whole numbers; what is not 0 is true.
pub(super) fn to(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if dtype == DType::U8 {
        return each_type!(x.dtype(), T => map(x, |one: T| u8::from(one != T::default())));
    }
    Ok(x.to_dtype(dtype)?)
}
