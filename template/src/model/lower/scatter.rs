//! Elements put at places: `https://onnx.ai/onnx/operators/onnx__ScatterElements.html` and its kin.

use anyhow::{Result, ensure};
use candle_core::{Tensor, WithDType};

use super::arithmetic::same_type;
use super::gather::{flat_indices, offsets};
use super::{Family, Kernel, Node, kernel};
use crate::model::tensor::{axis, elements, tensor, with_elements};

pub(super) const OPS: Family =
    &[("Scatter", scatter_elements), ("ScatterElements", scatter_elements), ("ScatterND", scatter_nd)];

/// What becomes of the element that is there already.
#[derive(Clone, Copy)]
enum Reduction {
    Replace,
    Add,
    Multiply,
    Max,
    Min,
}

impl Reduction {
    fn of(node: &Node) -> Result<Self> {
        node.choice(
            "reduction",
            &[
                ("none", Self::Replace),
                ("add", Self::Add),
                ("mul", Self::Multiply),
                ("max", Self::Max),
                ("min", Self::Min),
            ],
        )
    }

    fn of_floats(self, old: f64, new: f64) -> f64 {
        match self {
            Self::Replace => new,
            Self::Add => old + new,
            Self::Multiply => old * new,
            Self::Max => old.max(new),
            Self::Min => old.min(new),
        }
    }

    /// Whole numbers wrap around.
    fn of_ints(self, old: i64, new: i64) -> i64 {
        match self {
            Self::Replace => new,
            Self::Add => old.wrapping_add(new),
            Self::Multiply => old.wrapping_mul(new),
            Self::Max => old.max(new),
            Self::Min => old.min(new),
        }
    }

    /// Puts the updates at their places, in their order.
    fn put(self, data: &Tensor, updates: &Tensor, places: impl Iterator<Item = usize>) -> Result<Tensor> {
        same_type(data, updates)?;
        let put = if data.dtype().is_float() {
            put_all(data, updates, places, |old: f64, new| self.of_floats(old, new))
        } else {
            put_all(data, updates, places, |old: i64, new| self.of_ints(old, new))
        };
        Ok(put?.to_dtype(data.dtype())?)
    }
}

fn put_all<T: WithDType>(
    data: &Tensor,
    updates: &Tensor,
    places: impl Iterator<Item = usize>,
    f: impl Fn(T, T) -> T,
) -> Result<Tensor> {
    let mut all: Vec<T> = elements(&data.to_dtype(T::DTYPE)?)?;
    with_elements(&updates.to_dtype(T::DTYPE)?, |updates: &[T]| {
        for (place, update) in places.zip(updates) {
            all[place] = f(all[place], *update);
        }
        Ok(())
    })?;
    tensor(all, data.dims())
}

fn scatter_elements(node: &Node) -> Result<Kernel> {
    let (along, reduction) = (node.int_or("axis", 0)?, Reduction::of(node)?);
    kernel(move |args| {
        let (data, indices, updates) = (args.get(0)?, args.get(1)?, args.get(2)?);
        ensure!(
            indices.dims() == updates.dims(),
            "its indices have the shape {:?}, its updates {:?}",
            indices.dims(),
            updates.dims()
        );
        let places = flat_indices(data.dims(), indices, axis(along, data.rank())?)?;
        reduction.put(data, updates, places.into_iter())
    })
}

/// `https://onnx.ai/onnx/operators/onnx__ScatterND.html`
fn scatter_nd(node: &Node) -> Result<Kernel> {
    let reduction = Reduction::of(node)?;
    kernel(move |args| {
        let (data, indices, updates) = (args.get(0)?, args.get(1)?, args.get(2)?);
        let (offsets, slice) = offsets(data.dims(), indices, 0)?;
        let dims = [&indices.dims()[..indices.rank() - 1], &slice].concat();
        ensure!(updates.dims() == dims, "its updates have the shape {:?}, and should have {dims:?}", updates.dims());
        let length: usize = slice.iter().product();
        reduction.put(data, updates, offsets.into_iter().flat_map(|offset| offset..offset + length))
    })
}
