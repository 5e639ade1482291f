//! Shapes: the same elements in the same order. `https://onnx.ai/onnx/operators/onnx__Reshape.html` and its kin.

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::{DType, Tensor};

use super::{Family, Kernel, Node, kernel, multi_output_kernel};
use crate::model::tensor::{MAX_ELEMENTS, MAX_RANK, axes, axis, bounded, dim, dims, tensor, whole_numbers};

pub(super) const OPS: Family = &[
    ("Dropout", dropout),
    ("Flatten", flatten),
    ("Identity", |_| kernel(|args| Ok(args.get(0)?.clone()))),
    ("Reshape", reshape),
    ("Shape", shape),
    ("Size", |_| kernel(|args| tensor(vec![args.get(0)?.elem_count() as i64], []))),
    ("Squeeze", squeeze),
    ("Unsqueeze", unsqueeze),
];

/// `https://onnx.ai/onnx/operators/onnx__Reshape.html`: 0 keeps a dimension, −1 is what is left.
fn reshape(node: &Node) -> Result<Kernel> {
    let keep = !node.flag("allowzero", false)?;
    kernel(move |args| {
        let x = args.get(0)?;
        let wanted = whole_numbers(args.get(1)?)?;
        let sizes = wanted.iter().enumerate().map(|(at, size)| match size {
            0 if keep => x.dims().get(at).map(|size| *size as i64).context("keeps a dimension that is not there"),
            size => Ok(*size),
        });
        let sizes: Vec<i64> = sizes.collect::<Result<_>>()?;
        Ok(x.reshape(inferred(&sizes, x.elem_count())?)?)
    })
}

/// The sizes with −1 as what is left of so many elements.
fn inferred(sizes: &[i64], elements: usize) -> Result<Vec<usize>> {
    let Some(open) = sizes.iter().position(|size| *size == -1) else {
        return dims(sizes);
    };
    let mut sizes = sizes.to_vec();
    sizes[open] = 1;
    let mut found = dims(&sizes).context("only one dimension may be −1")?;
    let known = bounded(&found)?;
    ensure!(known > 0 && elements.is_multiple_of(known), "{elements} elements do not fit the shape {sizes:?}");
    found[open] = elements / known;
    Ok(found)
}

/// `https://onnx.ai/onnx/operators/onnx__Flatten.html`: a matrix.
fn flatten(node: &Node) -> Result<Kernel> {
    let at = node.int_or("axis", 1)?;
    kernel(move |args| {
        let x = args.get(0)?;
        let at = if at == x.rank() as i64 { x.rank() } else { axis(at, x.rank())? };
        Ok(x.reshape((bounded(&x.dims()[..at])?, bounded(&x.dims()[at..])?))?)
    })
}

/// `https://onnx.ai/onnx/operators/onnx__Shape.html`: a part of the dimensions.
fn shape(node: &Node) -> Result<Kernel> {
    let (start, end) = (node.int_or("start", 0)?, node.int("end")?);
    kernel(move |args| {
        let sizes: Vec<i64> = args.get(0)?.dims().iter().map(|size| *size as i64).collect();
        let rank = sizes.len() as i64;
        let place = |at: i64| (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank) as usize;
        let (start, end) = (place(start), place(end.unwrap_or(rank)));
        let part = sizes.get(start..end).unwrap_or_default().to_vec();
        let length = part.len();
        tensor(part, [length])
    })
}

/// `https://onnx.ai/onnx/operators/onnx__Squeeze.html`: without these axes of length 1, or without all.
fn squeeze(node: &Node) -> Result<Kernel> {
    let given = node.ints_or_input("axes", 1)?;
    kernel(move |args| {
        let x = args.get(0)?;
        let drop = match given.get(args)? {
            Some(given) => axes(&given, x.rank())?,
            None => (0..x.rank()).filter(|at| x.dims()[*at] == 1).collect(),
        };
        if let Some(at) = drop.iter().find(|at| x.dims()[**at] != 1) {
            bail!("drops axis {at} of the shape {:?}, which is not of length 1", x.dims());
        }
        let left: Vec<usize> = (0..x.rank()).filter(|at| !drop.contains(at)).map(|at| x.dims()[at]).collect();
        Ok(x.reshape(left)?)
    })
}

/// `https://onnx.ai/onnx/operators/onnx__Unsqueeze.html`: new axes of length 1, counted in the result.
fn unsqueeze(node: &Node) -> Result<Kernel> {
    let given = node.ints_or_input("axes", 1)?;
    kernel(move |args| {
        let x = args.get(0)?;
        let new = given.required(args)?;
        let rank = x.rank() + new.len();
        ensure!(rank <= MAX_RANK, "makes a tensor with {rank} axes: {MAX_RANK} are the most");
        let new = axes(&new, rank)?;
        let mut old = x.dims().iter();
        let sizes = (0..rank).map(|at| if new.contains(&at) { Some(1) } else { old.next().copied() });
        let sizes = sizes.collect::<Option<Vec<usize>>>().context("its axes do not fit")?;
        bounded(&sizes)?;
        Ok(x.reshape(sizes)?)
    })
}

/// `https://onnx.ai/onnx/operators/onnx__Dropout.html`: what it drops in training stays. The second output says so.
fn dropout(node: &Node) -> Result<Kernel> {
    let mask = node.wants(1);
    multi_output_kernel(move |args| {
        let x = args.get(0)?;
        let training = args.int(2)?.unwrap_or(0) != 0;
        let ratio = args.float(1)?.unwrap_or(0.5);
        ensure!(!training || ratio == 0.0, "drops at random, as in training: export the model for inference");
        let mut outputs = vec![x.clone()];
        if mask {
            outputs.push(Tensor::ones(x.dims(), DType::U8, x.device())?);
        }
        Ok(outputs)
    })
}

/// A dimension that a node's attribute states.
pub(super) fn size(node: &Node, name: &str) -> Result<usize> {
    let stated = node.int(name)?.with_context(|| format!("its attribute {name:?} is missing"))?;
    let size = dim(stated)?;
    ensure!((1..=MAX_ELEMENTS).contains(&size), "its attribute {name:?} is {size}");
    Ok(size)
}
