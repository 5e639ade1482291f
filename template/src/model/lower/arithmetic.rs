//! Arithmetic with broadcasting: `https://onnx.ai/onnx/operators/onnx__Add.html` and its like. Whole numbers wrap around in
//! their type, and are divided towards zero.

use anyhow::{Result, bail, ensure};
use candle_core::{DType, Tensor, WithDType as _};

use super::{Family, Kernel, Node, kernel};
use crate::model::tensor::{
    broadcast, each_float, each_type, floats, map_float, tensor_of_whole, type_name, whole_numbers, zip,
};

pub(super) const OPS: Family = &[
    ("Add", |_| binary(Tensor::broadcast_add, i64::wrapping_add)),
    ("BitShift", bit_shift),
    ("BitwiseAnd", |_| kernel(|args| whole(args.get(0)?, args.get(1)?, |a, b| a & b))),
    ("BitwiseOr", |_| kernel(|args| whole(args.get(0)?, args.get(1)?, |a, b| a | b))),
    ("BitwiseXor", |_| kernel(|args| whole(args.get(0)?, args.get(1)?, |a, b| a ^ b))),
    ("Div", |_| kernel(|args| divide(args.get(0)?, args.get(1)?))),
    ("Max", |_| extreme(|a, b| a > b)),
    ("Mean", |_| kernel(|args| mean(&args.all()?))),
    ("Min", |_| extreme(|a, b| a < b)),
    ("Mod", modulo),
    ("Mul", |_| binary(Tensor::broadcast_mul, i64::wrapping_mul)),
    ("Pow", |_| kernel(|args| power(args.get(0)?, args.get(1)?))),
    ("Sub", |_| binary(Tensor::broadcast_sub, i64::wrapping_sub)),
    ("Sum", |_| kernel(|args| sum(&args.all()?))),
];

type OnTensors = fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>;

fn binary(floats: OnTensors, ints: fn(i64, i64) -> i64) -> Result<Kernel> {
    kernel(move |args| apply(args.get(0)?, args.get(1)?, floats, ints))
}

fn apply(a: &Tensor, b: &Tensor, floats: OnTensors, ints: fn(i64, i64) -> i64) -> Result<Tensor> {
    same_type(a, b)?;
    if a.dtype().is_float() {
        // Its own check would come after the memory is taken.
        broadcast(&[a.dims(), b.dims()])?;
        return Ok(floats(a, b)?);
    }
    whole(a, b, ints)
}

pub(super) fn same_type(a: &Tensor, b: &Tensor) -> Result<()> {
    let (a, b) = (a.dtype(), b.dtype());
    ensure!(a == b, "its inputs are {} and {}, which do not mix", type_name(a), type_name(b));
    Ok(())
}

/// Two tensors of whole numbers; results wrap around in their type.
pub(super) fn whole(a: &Tensor, b: &Tensor, f: impl Fn(i64, i64) -> i64) -> Result<Tensor> {
    same_type(a, b)?;
    match a.dtype() {
        DType::I64 => zip(a, b, f),
        DType::I32 => zip(a, b, |a: i32, b: i32| f(i64::from(a), i64::from(b)) as i32),
        other => bail!("does not take {}", type_name(other)),
    }
}

fn without_zero(divisor: &Tensor) -> Result<()> {
    ensure!(!whole_numbers(divisor)?.contains(&0), "divides a whole number by zero");
    Ok(())
}

fn divide(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !b.dtype().is_float() {
        without_zero(b)?;
    }
    apply(a, b, Tensor::broadcast_div, |a, b| a.checked_div(b).unwrap_or(a))
}

/// The remainder has the divisor's sign, with `fmod` the dividend's: `https://onnx.ai/onnx/operators/onnx__Mod.html`.
fn modulo(node: &Node) -> Result<Kernel> {
    let of_dividend = node.flag("fmod", false)?;
    kernel(move |args| {
        let (a, b) = (args.get(0)?, args.get(1)?);
        same_type(a, b)?;
        if a.dtype().is_float() {
            return each_float!(a.dtype(), T => zip(a, b, |a: T, b: T| {
                let rest = a % b;
                if of_dividend || rest == 0.0 || (rest < 0.0) == (b < 0.0) { rest } else { rest + b }
            }));
        }
        without_zero(b)?;
        whole(a, b, |a, b| {
            let rest = a.wrapping_rem(b);
            if of_dividend || rest == 0 || (rest < 0) == (b < 0) { rest } else { rest + b }
        })
    })
}

/// aᵇ in the type of a: `https://onnx.ai/onnx/operators/onnx__Pow.html`.
fn power(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dtype().is_float() {
        return match floats(b)?.as_slice() {
            // What normalisations are made of.
            [2.0] if b.rank() <= a.rank() => same_rank(a, b, a.sqr()?),
            [exponent] if b.rank() <= a.rank() => map_float(a, |base| base.powf(*exponent)),
            _ => {
                let exponent = b.to_dtype(DType::F64)?;
                let power = zip(&a.to_dtype(DType::F64)?, &exponent, f64::powf)?;
                Ok(power.to_dtype(a.dtype())?)
            }
        };
    }
    if b.dtype().is_float() {
        let power = zip(&a.to_dtype(DType::F64)?, &b.to_dtype(DType::F64)?, f64::powf)?;
        return Ok(power.to_dtype(a.dtype())?);
    }
    let wide = zip(&a.to_dtype(DType::I64)?, &b.to_dtype(DType::I64)?, |a: i64, b: i64| match u32::try_from(b) {
        Ok(exponent) => a.wrapping_pow(exponent),
        // The reciprocal of a whole number is none, but for 1 and −1.
        Err(_) => (a as f64).powf(b as f64) as i64,
    })?;
    Ok(wide.to_dtype(a.dtype())?)
}

fn same_rank(a: &Tensor, b: &Tensor, result: Tensor) -> Result<Tensor> {
    Ok(result.reshape(broadcast(&[a.dims(), b.dims()])?)?)
}

/// `https://onnx.ai/onnx/operators/onnx__BitShift.html`: bits that leave the type are lost.
fn bit_shift(node: &Node) -> Result<Kernel> {
    let left = match node.text("direction")? {
        Some("LEFT") => true,
        Some("RIGHT") => false,
        other => bail!("its attribute \"direction\" is {other:?}, neither LEFT nor RIGHT"),
    };
    kernel(move |args| {
        whole(args.get(0)?, args.get(1)?, |a, b| {
            // As if all bits had left, where there are fewer.
            let by = u32::try_from(b).unwrap_or(u32::MAX);
            if left { a.checked_shl(by).unwrap_or(0) } else { a >> by.min(i64::BITS - 1) }
        })
    })
}

/// The greatest or the least of all inputs; what is no number wins.
fn extreme(wins: fn(f64, f64) -> bool) -> Result<Kernel> {
    kernel(move |args| {
        fold(&args.all()?, |a, b| {
            same_type(a, b)?;
            if a.dtype().is_float() {
                let choose = |a: f64, b: f64| if a.is_nan() || (!b.is_nan() && !wins(b, a)) { a } else { b };
                return each_float!(a.dtype(), T => zip(a, b, |a: T, b: T| choose(a.to_f64(), b.to_f64()) as T));
            }
            let greatest = wins(1.0, 0.0);
            each_type!(a.dtype(), T => zip(a, b, |a: T, b: T| if (b > a) == greatest { b } else { a }))
        })
    })
}

fn fold(all: &[&Tensor], f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let [first, others @ ..] = all else { bail!("it has no input") };
    others.iter().try_fold((*first).clone(), |folded, other| f(&folded, other))
}

fn sum(all: &[&Tensor]) -> Result<Tensor> {
    fold(all, |a, b| apply(a, b, Tensor::broadcast_add, i64::wrapping_add))
}

fn mean(all: &[&Tensor]) -> Result<Tensor> {
    let sum = sum(all)?;
    let count = all.len() as i64;
    divide(&sum, &tensor_of_whole(vec![count], Vec::new(), sum.dtype())?)
}
