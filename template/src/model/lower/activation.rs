//! Activations, element by element. Every formula is the one of the operator's own page,
//! `https://onnx.ai/onnx/operators/onnx__Elu.html` and its like.

use anyhow::{Result, ensure};
use candle_core::{DType, Tensor};

use super::arithmetic::whole as whole_pairs;
use super::{Family, Kernel, Node, kernel};
use crate::model::tensor::{broadcast, each_float, each_type, floats, map, map_float, require_float, zip};

pub(super) const OPS: Family = &[
    ("Celu", celu),
    ("Clip", clip),
    ("Elu", elu),
    ("Gelu", gelu),
    ("HardSigmoid", hard_sigmoid),
    ("HardSwish", |_| float(|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0))),
    ("LeakyRelu", leaky_relu),
    ("Mish", |_| float(|x| x * softplus(x).tanh())),
    ("PRelu", |_| kernel(|args| p_relu(args.get(0)?, args.get(1)?))),
    ("Relu", |_| kernel(|args| relu(args.get(0)?))),
    ("Selu", selu),
    ("Shrink", shrink),
    ("Sigmoid", |_| float(sigmoid)),
    ("Softplus", |_| float(softplus)),
    ("Softsign", |_| float(|x| x / (1.0 + x.abs()))),
    ("Swish", swish),
    ("ThresholdedRelu", thresholded_relu),
];

fn float(f: impl Fn(f64) -> f64 + Copy + Send + Sync + 'static) -> Result<Kernel> {
    kernel(move |args| map_float(args.get(0)?, f))
}

/// 1 / (1 + e⁻ˣ), written so that e is only raised to what is negative: it never overflows.
pub(super) fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// ln(1 + eˣ), written so that it never overflows.
pub(super) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// α (eˣ − 1) below 0, x above.
pub(super) fn elu_of(x: f64, alpha: f64) -> f64 {
    if x < 0.0 { alpha * x.exp_m1() } else { x }
}

/// max(0, min(1, α x + β))
pub(super) fn hard_sigmoid_of(x: f64, alpha: f64, beta: f64) -> f64 {
    (alpha * x + beta).clamp(0.0, 1.0)
}

/// x above 0. What is no number stays none: as a 0 it would hide that the model has no answer.
fn relu(x: &Tensor) -> Result<Tensor> {
    match x.dtype() {
        DType::F32 => map(x, |x: f32| if x < 0.0 { 0.0 } else { x }),
        DType::F64 => map(x, |x: f64| if x < 0.0 { 0.0 } else { x }),
        _ => super::unary::whole(x, |x| x.max(0)),
    }
}

/// max(0, x) + min(0, α (e^(x/α) − 1)); what is no number stays none.
fn celu(node: &Node) -> Result<Kernel> {
    let alpha = node.float_or("alpha", 1.0)?;
    float(move |x| if x.is_nan() { x } else { x.max(0.0) + (alpha * (x / alpha).exp_m1()).min(0.0) })
}

fn elu(node: &Node) -> Result<Kernel> {
    let alpha = node.float_or("alpha", 1.0)?;
    float(move |x| elu_of(x, alpha))
}

/// γ α (eˣ − 1) for x ≤ 0, γ x above.
fn selu(node: &Node) -> Result<Kernel> {
    let alpha = node.float_or("alpha", 1.673_263_192_176_818_8)?;
    let gamma = node.float_or("gamma", 1.050_700_984_894_439)?;
    float(move |x| gamma * elu_of(x, alpha))
}

fn hard_sigmoid(node: &Node) -> Result<Kernel> {
    let (alpha, beta) = (node.float_or("alpha", 0.2)?, node.float_or("beta", 0.5)?);
    float(move |x| hard_sigmoid_of(x, alpha, beta))
}

fn leaky_relu(node: &Node) -> Result<Kernel> {
    let alpha = node.float_or("alpha", 0.01)?;
    float(move |x| if x < 0.0 { alpha * x } else { x })
}

fn thresholded_relu(node: &Node) -> Result<Kernel> {
    let alpha = node.float_or("alpha", 1.0)?;
    float(move |x| if x <= alpha { 0.0 } else { x })
}

/// x + bias below −λ, x − bias above λ, 0 between.
fn shrink(node: &Node) -> Result<Kernel> {
    let (lambda, bias) = (node.float_or("lambd", 0.5)?, node.float_or("bias", 0.0)?);
    float(move |x| match x {
        _ if x < -lambda => x + bias,
        _ if x > lambda => x - bias,
        _ if x.is_nan() => x,
        _ => 0.0,
    })
}

/// x · sigmoid(α x)
fn swish(node: &Node) -> Result<Kernel> {
    let alpha = node.float_or("alpha", 1.0)?;
    float(move |x| x * sigmoid(alpha * x))
}

/// x Φ(x), or its approximation by tanh.
fn gelu(node: &Node) -> Result<Kernel> {
    let exact = node.choice("approximate", &[("none", true), ("tanh", false)])?;
    kernel(move |args| {
        let x = args.get(0)?;
        require_float(x.dtype())?;
        Ok(if exact { x.gelu_erf()? } else { x.gelu()? })
    })
}

/// slope · x below 0, x above; the slope is broadcast, but does not enlarge `x`.
fn p_relu(x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    let fits = broadcast(&[x.dims(), slope.dims()]).is_ok_and(|dims| dims == x.dims());
    ensure!(fits, "its slope of shape {:?} does not fit the shape {:?}", slope.dims(), x.dims());
    if !x.dtype().is_float() {
        return whole_pairs(x, slope, |x, slope| if x < 0 { slope.wrapping_mul(x) } else { x });
    }
    each_float!(x.dtype(), T => zip(x, slope, |x: T, slope: T| if x < 0.0 { slope * x } else { x }))
}

/// min(max(x, low), high); both bounds are optional, and attributes before opset 11.
fn clip(node: &Node) -> Result<Kernel> {
    let (low, high) = (node.float("min")?, node.float("max")?);
    kernel(move |args| {
        let x = args.get(0)?;
        let bound = |at: usize, fixed: Option<f64>| match args.optional(at) {
            Some(bound) if bound.elem_count() == 1 => Ok(Some(bound.to_dtype(x.dtype())?.flatten_all()?)),
            Some(bound) => anyhow::bail!("its input {at} must be one number, and has {}", floats(bound)?.len()),
            None => Ok(fixed.map(|fixed| Tensor::new(&[fixed], x.device())?.to_dtype(x.dtype())).transpose()?),
        };
        let (low, high) = (bound(1, low)?, bound(2, high)?);
        each_type!(x.dtype(), T => {
            let number = |bound: Option<Tensor>| bound.map(|bound| bound.to_vec1::<T>()).transpose();
            let low = number(low)?.map(|low| low[0]);
            let high = number(high)?.map(|high| high[0]);
            map(x, |x: T| {
                let x = low.filter(|low| x < *low).unwrap_or(x);
                high.filter(|high| x > *high).unwrap_or(x)
            })
        })
    })
}
