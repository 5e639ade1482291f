//! What every op needs of tensors: their types, bounds on their sizes, their elements.
//!
//! ONNX's types are candle's: bool is `U8` (0 or 1), int32 `I32`, int64 `I64`, float `F32`, double `F64`. No other type is
//! let in, so that the type of a tensor is known from its dtype.

use anyhow::{Result, bail, ensure};
use candle_core::{DType, Device, Storage, Tensor, WithDType};
use candle_onnx::onnx::tensor_proto::DataType;

/// The most elements that a tensor may have: a shape that is computed is checked against it before memory is taken. No
/// circuit comes near it.
pub const MAX_ELEMENTS: usize = 1 << 24;
/// The most axes.
pub const MAX_RANK: usize = 32;

/// The types of elements that models may use, as ONNX names them.
const TYPES: [(DataType, DType, &str); 5] = [
    (DataType::Bool, DType::U8, "bool"),
    (DataType::Int32, DType::I32, "int32"),
    (DataType::Int64, DType::I64, "int64"),
    (DataType::Float, DType::F32, "float"),
    (DataType::Double, DType::F64, "double"),
];

/// The type that ONNX gives this number.
pub fn dtype(onnx: i32) -> Result<DType> {
    let known = DataType::try_from(onnx).ok();
    match TYPES.iter().find(|(name, _, _)| Some(*name) == known) {
        Some((_, dtype, _)) => Ok(*dtype),
        None => {
            let name = known.map_or(format!("number {onnx}"), |known| known.as_str_name().to_lowercase());
            bail!("elements of type {name} are not supported, only bool, int32, int64, float and double are")
        }
    }
}

/// ONNX's name of a type.
pub fn type_name(dtype: DType) -> &'static str {
    TYPES.iter().find(|(_, known, _)| *known == dtype).map_or(dtype.as_str(), |(_, _, name)| name)
}

/// `body` with `T` as the Rust type of the dtype.
macro_rules! each_type {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::U8 => {
                type $T = u8;
                $body
            }
            candle_core::DType::I32 => {
                type $T = i32;
                $body
            }
            candle_core::DType::I64 => {
                type $T = i64;
                $body
            }
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            other => anyhow::bail!("elements of type {} are not supported", other.as_str()),
        }
    };
}

/// `body` with `T` as the Rust type of a dtype of floating-point numbers.
macro_rules! each_float {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            other => return Err($crate::model::tensor::require_float(other).unwrap_err()),
        }
    };
}

pub(crate) use {each_float, each_type};

/// That an operator is given floating-point numbers.
pub fn require_float(dtype: DType) -> Result<()> {
    ensure!(dtype.is_float(), "takes float or double, and is given {}", type_name(dtype));
    Ok(())
}

/// How many elements a shape has, if that is no more than a tensor may have.
pub fn bounded(dims: &[usize]) -> Result<usize> {
    // A dimension of 0 does not excuse the others: some work is by the axis.
    let elements = dims.iter().try_fold(1usize, |product, dim| product.checked_mul((*dim).max(1)));
    match elements {
        _ if dims.len() > MAX_RANK => bail!("a tensor with {} axes has too many: {MAX_RANK} are the most", dims.len()),
        Some(elements) if elements <= MAX_ELEMENTS => Ok(if dims.contains(&0) { 0 } else { elements }),
        _ => bail!("a tensor of shape {dims:?} is too large: {MAX_ELEMENTS} elements are the most"),
    }
}

/// A dimension that the model computes or states.
pub fn dim(size: i64) -> Result<usize> {
    usize::try_from(size).map_err(|_| anyhow::anyhow!("a dimension of {size} is not possible"))
}

/// Dimensions that the model computes or states, of a tensor that is not too large.
pub fn dims(sizes: &[i64]) -> Result<Vec<usize>> {
    let dims = sizes.iter().map(|size| dim(*size)).collect::<Result<Vec<_>>>()?;
    bounded(&dims)?;
    Ok(dims)
}

/// An axis counted from the front, of one that may be counted from behind.
pub fn axis(axis: i64, rank: usize) -> Result<usize> {
    let signed = rank as i64;
    ensure!((-signed..signed).contains(&axis), "axis {axis} does not exist: the tensor has {rank}");
    Ok(if axis < 0 { axis + signed } else { axis } as usize)
}

/// Axes counted from the front, in ascending order, none twice.
pub fn axes(axes: &[i64], rank: usize) -> Result<Vec<usize>> {
    let mut counted = axes_in_order(axes, rank)?;
    counted.sort_unstable();
    Ok(counted)
}

/// Axes counted from the front, in the order they are given in, none twice.
pub fn axes_in_order(axes: &[i64], rank: usize) -> Result<Vec<usize>> {
    // Before anything is done with each: the list may be as long as a tensor.
    ensure!(axes.len() <= rank, "it names {} axes, and the tensor has {rank}", axes.len());
    let counted = axes.iter().map(|one| axis(*one, rank)).collect::<Result<Vec<_>>>()?;
    let mut sorted = counted.clone();
    sorted.sort_unstable();
    ensure!(sorted.windows(2).all(|pair| pair[0] != pair[1]), "the axes {axes:?} name one twice");
    Ok(counted)
}

/// The shape that shapes are broadcast to: <https://github.com/onnx/onnx/blob/main/docs/Broadcasting.md>.
pub fn broadcast(shapes: &[&[usize]]) -> Result<Vec<usize>> {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    let mut common = vec![1; rank];
    for shape in shapes {
        for (dim, size) in common[rank - shape.len()..].iter_mut().zip(*shape) {
            ensure!(*dim == 1 || *size == 1 || dim == size, "the shapes {shapes:?} do not fit together");
            *dim = if *dim == 1 { *size } else { *dim };
        }
    }
    bounded(&common)?;
    Ok(common)
}

/// How far apart neighbours along each axis are in a contiguous tensor.
pub fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for at in (1..dims.len()).rev() {
        strides[at - 1] = strides[at] * dims[at];
    }
    strides
}

/// Lends the elements in row-major order.
pub fn with_elements<T: WithDType, R>(x: &Tensor, f: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
    // An empty part may begin past the end of what it is a part of.
    if x.elem_count() == 0 {
        return f(&[]);
    }
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { bail!("a tensor is not in the processor's memory") };
    let elements = T::cpu_storage_as_slice(storage)?;
    f(&elements[layout.start_offset()..][..layout.shape().elem_count()])
}

/// The elements in row-major order.
pub fn elements<T: WithDType>(x: &Tensor) -> Result<Vec<T>> {
    with_elements(x, |elements: &[T]| Ok(elements.to_vec()))
}

/// The elements of a tensor of whole numbers.
pub fn whole_numbers(x: &Tensor) -> Result<Vec<i64>> {
    match x.dtype() {
        DType::I64 => elements(x),
        DType::I32 | DType::U8 => elements(&x.to_dtype(DType::I64)?),
        other => bail!("takes whole numbers, and is given {}", type_name(other)),
    }
}

/// The elements as f64.
pub fn floats(x: &Tensor) -> Result<Vec<f64>> {
    each_type!(x.dtype(), T => with_elements(x, |all: &[T]| Ok(all.iter().map(|one| one.to_f64()).collect())))
}

/// A tensor of these elements, in row-major order.
pub fn tensor<T: WithDType>(elements: Vec<T>, dims: impl Into<Vec<usize>>) -> Result<Tensor> {
    Ok(Tensor::from_vec(elements, dims.into(), &Device::Cpu)?)
}

/// A tensor of this dtype of these numbers.
pub fn tensor_of(numbers: Vec<f64>, dims: impl Into<Vec<usize>>, dtype: DType) -> Result<Tensor> {
    Ok(tensor(numbers, dims)?.to_dtype(dtype)?)
}

/// A tensor of this dtype of these whole numbers; those out of its range wrap around.
pub fn tensor_of_whole(numbers: Vec<i64>, dims: impl Into<Vec<usize>>, dtype: DType) -> Result<Tensor> {
    Ok(tensor(numbers, dims)?.to_dtype(dtype)?)
}

/// Every element by itself.
pub fn map<T: WithDType, U: WithDType>(x: &Tensor, f: impl Fn(T) -> U) -> Result<Tensor> {
    let mapped = with_elements(x, |all: &[T]| Ok(all.iter().map(|one| f(*one)).collect::<Vec<U>>()))?;
    tensor(mapped, x.dims())
}

/// Every element of a tensor of floating-point numbers by itself, in double precision.
pub fn map_float(x: &Tensor, f: impl Fn(f64) -> f64) -> Result<Tensor> {
    each_float!(x.dtype(), T => map(x, |one: T| f(one.to_f64()) as T))
}

/// Two tensors, broadcast, element by element.
pub fn zip<T: WithDType, U: WithDType>(a: &Tensor, b: &Tensor, f: impl Fn(T, T) -> U) -> Result<Tensor> {
    let dims = broadcast(&[a.dims(), b.dims()])?;
    // The usual case by far besides equal shapes: something and a number.
    if b.elem_count() == 1 && a.dims() == dims {
        let only = with_elements(b, |all: &[T]| Ok(all[0]))?;
        return map(a, |one: T| f(one, only));
    }
    let (a, b) = (a.broadcast_as(dims.as_slice())?, b.broadcast_as(dims.as_slice())?);
    let zipped = with_elements(&a, |a: &[T]| {
        with_elements(&b, |b: &[T]| Ok(a.iter().zip(b).map(|(a, b)| f(*a, *b)).collect::<Vec<U>>()))
    })?;
    tensor(zipped, dims)
}

/// The slices at these places of an axis, in this order.
pub fn take(x: &Tensor, axis: usize, places: &[usize]) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    dims[axis] = places.len();
    if bounded(&dims)? == 0 {
        return Ok(Tensor::zeros(dims, x.dtype(), &Device::Cpu)?);
    }
    let places: Vec<i64> = places.iter().map(|place| *place as i64).collect();
    Ok(x.contiguous()?.index_select(&Tensor::new(places, &Device::Cpu)?, axis)?)
}

/// The elements at these places of the row-major order, in a new shape.
pub fn pick(x: &Tensor, places: &[usize], dims: &[usize]) -> Result<Tensor> {
    bounded(dims)?;
    each_type!(x.dtype(), T => {
        tensor(with_elements(x, |all: &[T]| Ok(places.iter().map(|place| all[*place]).collect::<Vec<T>>()))?, dims)
    })
}

/// Turns every line along an axis into a line of `length` elements.
pub fn lines<T, U>(x: &Tensor, axis: usize, length: usize, mut f: impl FnMut(&[T], &mut Vec<U>)) -> Result<Tensor>
where
    T: WithDType,
    U: WithDType,
{
    let last = x.rank() - 1;
    let moved = x.transpose(axis, last)?;
    let mut dims = moved.dims().to_vec();
    let old = std::mem::replace(&mut dims[last], length);
    let mut turned = Vec::with_capacity(bounded(&dims)?);
    let count: usize = dims[..last].iter().product();
    with_elements(&moved, |all: &[T]| {
        (0..count).for_each(|line| f(&all[line * old..][..old], &mut turned));
        Ok(())
    })?;
    Ok(tensor(turned, dims)?.transpose(axis, last)?.contiguous()?)
}

/// Every position of a shape, in row-major order.
pub fn positions(dims: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let count: usize = dims.iter().product();
    let strides = strides(dims);
    let dims = dims.to_vec();
    (0..count).map(move |flat| dims.iter().zip(&strides).map(|(dim, stride)| flat / stride % dim).collect())
}
