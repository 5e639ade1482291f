//! Functions of one number, element by element: `https://onnx.ai/onnx/operators/onnx__Sin.html` and its like.

use anyhow::{Result, bail};
use candle_core::{DType, Tensor, WithDType as _};

use super::{Family, Kernel, kernel};
use crate::model::tensor::{each_float, map, map_float, require_float, type_name};

pub(super) const OPS: Family = &[
    ("Abs", |_| number(f64::abs, i64::wrapping_abs)),
    ("Acos", |_| float(f64::acos)),
    ("Acosh", |_| float(f64::acosh)),
    ("Asin", |_| float(f64::asin)),
    ("Asinh", |_| float(f64::asinh)),
    ("Atan", |_| float(f64::atan)),
    ("Atanh", |_| float(f64::atanh)),
    ("BitwiseNot", |_| kernel(|args| whole(args.get(0)?, |x| !x))),
    ("Ceil", |_| float(f64::ceil)),
    ("Cos", |_| candle(Tensor::cos)),
    ("Cosh", |_| float(f64::cosh)),
    ("Erf", |_| candle(Tensor::erf)),
    ("Exp", |_| candle(Tensor::exp)),
    ("Floor", |_| float(f64::floor)),
    ("IsInf", is_infinite),
    ("IsNaN", |_| kernel(|args| truth(args.get(0)?, f64::is_nan))),
    ("Log", |_| candle(Tensor::log)),
    ("Neg", |_| number(|x| -x, i64::wrapping_neg)),
    ("Not", |_| kernel(|args| map(args.get(0)?, |x: u8| u8::from(x == 0)))),
    ("Reciprocal", |_| float(f64::recip)),
    // Halves to the even neighbour.
    ("Round", |_| float(f64::round_ties_even)),
    ("Sign", |_| number(|x| if x == 0.0 { x } else { x.signum() }, i64::signum)),
    ("Sin", |_| candle(Tensor::sin)),
    ("Sinh", |_| float(f64::sinh)),
    ("Sqrt", |_| candle(Tensor::sqrt)),
    ("Tan", |_| float(f64::tan)),
    ("Tanh", |_| candle(Tensor::tanh)),
];

/// A function of floating-point numbers.
fn float(f: impl Fn(f64) -> f64 + Copy + Send + Sync + 'static) -> Result<Kernel> {
    kernel(move |args| map_float(args.get(0)?, f))
}

/// One that candle has.
fn candle(f: fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Kernel> {
    kernel(move |args| {
        let x = args.get(0)?;
        // candle's are not written for whole numbers: some panic, some give 0.
        require_float(x.dtype())?;
        Ok(f(x)?)
    })
}

/// A function of floating-point and of whole numbers.
fn number(
    float: impl Fn(f64) -> f64 + Copy + Send + Sync + 'static,
    int: impl Fn(i64) -> i64 + Copy + Send + Sync + 'static,
) -> Result<Kernel> {
    kernel(move |args| {
        let x = args.get(0)?;
        if x.dtype().is_float() { map_float(x, float) } else { whole(x, int) }
    })
}

/// Each whole number by itself; results wrap around in the tensor's type.
pub(super) fn whole(x: &Tensor, f: impl Fn(i64) -> i64) -> Result<Tensor> {
    match x.dtype() {
        DType::I64 => map(x, f),
        DType::I32 => map(x, |one: i32| f(i64::from(one)) as i32),
        other => bail!("does not take {}", type_name(other)),
    }
}

/// A property of floating-point numbers.
fn truth(x: &Tensor, f: impl Fn(f64) -> bool) -> Result<Tensor> {
    each_float!(x.dtype(), T => map(x, |one: T| u8::from(f(one.to_f64()))))
}

/// `https://onnx.ai/onnx/operators/onnx__IsInf.html`
fn is_infinite(node: &super::Node) -> Result<Kernel> {
    let (negative, positive) = (node.flag("detect_negative", true)?, node.flag("detect_positive", true)?);
    kernel(move |args| {
        truth(args.get(0)?, |x| (positive && x == f64::INFINITY) || (negative && x == f64::NEG_INFINITY))
    })
}
