//! Tensors out of nothing, or nearly: `https://onnx.ai/onnx/operators/onnx__ConstantOfShape.html` and its like.

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};

use super::compare::choose;
use super::{Family, Kernel, Node, kernel};
use crate::model::tensor::{bounded, dim, dims, dtype, each_float, each_type, elements, floats, tensor, whole_numbers};
use crate::model::weights::decoded;

pub(super) const OPS: Family = &[
    ("Constant", |node| {
        let value = constant(node)?;
        kernel(move |_| Ok(value.clone()))
    }),
    ("ConstantOfShape", constant_of_shape),
    ("EyeLike", eye_like),
    ("OneHot", one_hot),
    ("Range", |_| kernel(|args| range(args.get(0)?, args.get(1)?, args.get(2)?))),
    ("Trilu", trilu),
];

/// `https://onnx.ai/onnx/operators/onnx__Constant.html`: a tensor, a number, or a list of them.
fn constant(node: &Node) -> Result<Tensor> {
    if let Some(value) = node.tensor("value")? {
        return decoded(value);
    }
    if let Some(number) = node.float("value_float")? {
        return tensor(vec![number as f32], []);
    }
    if let Some(number) = node.int("value_int")? {
        return tensor(vec![number], []);
    }
    if let Some(numbers) = node.floats("value_floats")? {
        let length = numbers.len();
        return tensor(numbers.iter().map(|one| *one as f32).collect(), [length]);
    }
    if let Some(numbers) = node.ints("value_ints")? {
        let length = numbers.len();
        return tensor(numbers, [length]);
    }
    bail!("it is neither a tensor nor numbers")
}

/// `https://onnx.ai/onnx/operators/onnx__ConstantOfShape.html`
fn constant_of_shape(node: &Node) -> Result<Kernel> {
    let value = match node.tensor("value")? {
        Some(value) => decoded(value)?,
        None => tensor(vec![0f32], [1])?,
    };
    ensure!(value.elem_count() == 1, "its value must be one number, and has {}", value.elem_count());
    let value = value.reshape(())?;
    kernel(move |args| Ok(value.broadcast_as(dims(&whole_numbers(args.get(0)?)?)?)?))
}

/// `https://onnx.ai/onnx/operators/onnx__Range.html`: start + i · step, up to but without the limit.
fn range(start: &Tensor, limit: &Tensor, step: &Tensor) -> Result<Tensor> {
    let one = |x: &Tensor| floats(x)?.first().copied().context("has an empty input");
    if start.dtype().is_float() {
        let (start, limit, step, dtype) = (one(start)?, one(limit)?, one(step)?, start.dtype());
        let count = ((limit - start) / step).ceil().max(0.0);
        ensure!(count.is_finite(), "its step is {step}");
        let count = bounded(&[count as usize])?;
        return each_float!(dtype, T => {
            tensor((0..count).map(|at| (start + at as f64 * step) as T).collect::<Vec<T>>(), [count])
        });
    }
    let one = |x: &Tensor| whole_numbers(x)?.first().copied().context("has an empty input");
    let (from, limit, step) = (i128::from(one(start)?), i128::from(one(limit)?), i128::from(one(step)?));
    ensure!(step != 0, "its step is 0");
    // Rounded up, whichever way it goes.
    let count = ((limit - from + step - step.signum()) / step).max(0);
    let count = bounded(&[usize::try_from(count).unwrap_or(usize::MAX)])?;
    let numbers = (0..count).map(|at| (from + at as i128 * step) as i64).collect::<Vec<_>>();
    Ok(tensor(numbers, [count])?.to_dtype(start.dtype())?)
}

/// Ones where the column is `k` places right of the row, in a matrix of this shape.
fn diagonal(rows: usize, columns: usize, k: i64, dtype: DType) -> Result<Tensor> {
    let on = |at: usize| (at % columns) as i64 == k.saturating_add((at / columns) as i64);
    let ones = (0..bounded(&[rows, columns])?).map(|at| u8::from(on(at))).collect();
    Ok(tensor(ones, [rows, columns])?.to_dtype(dtype)?)
}

/// `https://onnx.ai/onnx/operators/onnx__EyeLike.html`
fn eye_like(node: &Node) -> Result<Kernel> {
    let given = node.int("dtype")?.map(|given| dtype(i32::try_from(given).unwrap_or(-1))).transpose()?;
    let k = node.int_or("k", 0)?;
    kernel(move |args| {
        let x = args.get(0)?;
        let (rows, columns) = x.dims2()?;
        diagonal(rows, columns, k, given.unwrap_or(x.dtype()))
    })
}

/// `https://onnx.ai/onnx/operators/onnx__OneHot.html`: on at the place that the index names, counted from behind where it
/// is negative; off everywhere if it names none.
fn one_hot(node: &Node) -> Result<Kernel> {
    let along = node.int_or("axis", -1)?;
    kernel(move |args| {
        let (indices, values) = (args.get(0)?, args.get(2)?);
        let depth = dim(args.float(1)?.context("its input 1, the depth, is missing")? as i64)?;
        ensure!(values.elem_count() == 2, "its values must be off and on, and are {}", values.elem_count());
        let at = crate::model::tensor::axis(along, indices.rank() + 1)?;
        let mut dims = indices.dims().to_vec();
        dims.push(depth);
        bounded(&dims)?;
        let places: Vec<i64> = floats(indices)?.iter().map(|index| *index as i64).collect();
        let hot = each_type!(values.dtype(), T => {
            let values: Vec<T> = elements(values)?;
            let line = |place: i64| {
                let place = if place < 0 { place.saturating_add(depth as i64) } else { place };
                (0..depth as i64).map(move |at| usize::from(at == place))
            };
            tensor(places.iter().flat_map(|place| line(*place)).map(|on| values[on]).collect::<Vec<T>>(), dims)
        })?;
        let mut order: Vec<usize> = (0..indices.rank()).collect();
        order.insert(at, indices.rank());
        Ok(hot.permute(order)?)
    })
}

/// `https://onnx.ai/onnx/operators/onnx__Trilu.html`: one triangle of each matrix, zeros in the other.
fn trilu(node: &Node) -> Result<Kernel> {
    let upper = node.flag("upper", true)?;
    kernel(move |args| {
        let x = args.get(0)?;
        let k = args.int(1)?.unwrap_or(0);
        let [.., rows, columns] = x.dims() else { bail!("takes matrices, and is given the shape {:?}", x.dims()) };
        let keeps = |at: usize| {
            let (row, column) = ((at / columns) as i64, (at % columns) as i64);
            let edge = k.saturating_add(row);
            if upper { column >= edge } else { column <= edge }
        };
        let mask = tensor((0..rows * columns).map(|at| u8::from(keeps(at))).collect(), [*rows, *columns])?;
        choose(&mask, x, &Tensor::zeros((), x.dtype(), &Device::Cpu)?)
    })
}
