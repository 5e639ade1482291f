//! From nodes to steps: every ONNX operator that can run, a file a family.
//!
//! An operator is lowered once, at load: its attributes are read and checked, and what is left is a function on candle
//! tensors. candle does the arithmetic wherever it has the operation for every type and shape; the rest are small loops
//! over a tensor's elements. candle's own ONNX evaluator is not used: it reads attributes and weights again at each run,
//! knows one version of each operator, and gives wrong numbers without an error for a third of ONNX's own test cases.
//!
//! Each operator is on a page of its own, with all its versions: `https://onnx.ai/onnx/operators/onnx__NAME.html`.

mod activation;
mod arithmetic;
mod axis_scan;
mod cast;
mod compare;
pub(in crate::model) mod control;
mod conv;
mod create;
mod einsum;
mod gather;
mod layout;
mod matmul;
mod norm;
mod pad;
mod pool;
mod reduce;
mod resize;
mod rnn;
pub(in crate::model) mod rnn_gates;
mod scatter;
mod select;
mod shape;
mod sliding_window;
mod softmax;
mod unary;
pub(in crate::model) mod window;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use anyhow::{Result, bail};
use candle_core::Tensor;

use super::node::{Args, Node};

/// What a node computes: its outputs from its inputs.
pub type Kernel = Box<dyn Fn(&Args) -> Result<Vec<Tensor>> + Send + Sync>;

/// Reads a node's attributes.
type Lowering = fn(&Node) -> Result<Kernel>;

/// The operators of one file.
type Family = &'static [(&'static str, Lowering)];

const FAMILIES: &[Family] = &[
    activation::OPS,
    arithmetic::OPS,
    cast::OPS,
    compare::OPS,
    control::OPS,
    conv::OPS,
    create::OPS,
    einsum::OPS,
    gather::OPS,
    layout::OPS,
    axis_scan::OPS,
    matmul::OPS,
    norm::OPS,
    pad::OPS,
    pool::OPS,
    reduce::OPS,
    resize::OPS,
    rnn::OPS,
    scatter::OPS,
    select::OPS,
    shape::OPS,
    softmax::OPS,
    unary::OPS,
];

static OPS: LazyLock<BTreeMap<&'static str, Lowering>> =
    LazyLock::new(|| FAMILIES.iter().copied().flatten().copied().collect());

/// Why a node cannot run, if its operator is not among ours at all.
pub const UNKNOWN: &str = "the operator is not supported";

/// What a node computes.
///
/// # Errors
/// The operator, one of its attributes, or what it is combined with is not supported.
pub fn lower(node: &Node) -> Result<Kernel> {
    match OPS.get(node.proto().op_type.as_str()) {
        Some(lowering) => lowering(node),
        None => bail!(UNKNOWN),
    }
}

/// The names of all operators that can run.
#[cfg(test)]
pub fn operators() -> impl Iterator<Item = &'static str> {
    OPS.keys().copied()
}

/// A kernel with one output.
fn kernel(f: impl Fn(&Args) -> Result<Tensor> + Send + Sync + 'static) -> Result<Kernel> {
    Ok(Box::new(move |args| Ok(vec![f(args)?])))
}

/// A kernel with several outputs.
fn multi_output_kernel(f: impl Fn(&Args) -> Result<Vec<Tensor>> + Send + Sync + 'static) -> Result<Kernel> {
    Ok(Box::new(f))
}

#[cfg(test)]
mod any_tests;
