//! More elements around a tensor: `https://onnx.ai/onnx/operators/onnx__Pad.html`.

use anyhow::{Result, ensure};
use candle_core::Tensor;

use super::cast::to;
use super::{Family, Kernel, Node, kernel};
use crate::model::tensor::{MAX_ELEMENTS, axes_in_order, dims, take, tensor_of};

pub(super) const OPS: Family = &[("Pad", pad)];

/// What the new elements are, if not a given number.
#[derive(Clone, Copy)]
enum Mode {
    /// The tensor, mirrored at its edges.
    Reflect,
    /// The outermost elements.
    Edge,
    /// The tensor again.
    Wrap,
}

fn pad(node: &Node) -> Result<Kernel> {
    let modes =
        [("constant", None), ("reflect", Some(Mode::Reflect)), ("edge", Some(Mode::Edge)), ("wrap", Some(Mode::Wrap))];
    let mode = node.choice("mode", &modes)?;
    let (pads, fixed) = (node.ints_or_input("pads", 1)?, node.float_or("value", 0.0)?);
    kernel(move |args| {
        let x = args.get(0)?;
        let pads = pads.required(args)?;
        let along: Vec<usize> = match args.ints(3)? {
            Some(axes) => axes_in_order(&axes, x.rank())?,
            None => (0..x.rank()).collect(),
        };
        ensure!(pads.len() == 2 * along.len(), "it has {} pads for {} axes", pads.len(), along.len());
        let value = match args.optional(2) {
            Some(value) => to(&value.reshape(())?, x.dtype())?,
            None => tensor_of(vec![fixed], [], x.dtype())?,
        };
        let small = pads.iter().all(|pad| pad.unsigned_abs() <= MAX_ELEMENTS as u64);
        ensure!(small, "its pads are too large: {MAX_ELEMENTS} are the most");
        let (before, after) = pads.split_at(along.len());
        let mut sizes: Vec<i64> = x.dims().iter().map(|size| *size as i64).collect();
        for ((at, before), after) in along.iter().zip(before).zip(after) {
            sizes[*at] = sizes[*at].saturating_add(*before).saturating_add(*after);
        }
        dims(&sizes)?;
        let mut each = along.iter().zip(before).zip(after);
        each.try_fold(x.clone(), |x, ((at, before), after)| padded(&x, *at, *before, *after, mode, &value))
    })
}

/// One axis; a negative pad cuts off.
fn padded(x: &Tensor, at: usize, before: i64, after: i64, mode: Option<Mode>, value: &Tensor) -> Result<Tensor> {
    let length = x.dims()[at] as i64;
    let range = -before..length + after;
    if range.start == 0 && range.end == length {
        return Ok(x.clone());
    }
    let Some(mode) = mode else {
        // Where the range leaves the tensor: it may lie on one side of it altogether.
        let (start, end) = (0.clamp(range.start, range.end), length.clamp(range.start, range.end));
        let inside = x.narrow(at, start.clamp(0, length) as usize, (end.min(length) - start.max(0)).max(0) as usize)?;
        let filled = |count: i64| {
            let mut dims = x.dims().to_vec();
            dims[at] = count as usize;
            value.broadcast_as(dims)
        };
        let all = [filled(start - range.start)?, inside, filled(range.end - end)?];
        let all: Vec<&Tensor> = all.iter().filter(|part| part.elem_count() > 0).collect();
        return Ok(match all.as_slice() {
            [] => x.narrow(at, 0, 0)?,
            parts => Tensor::cat(parts, at)?,
        });
    };
    ensure!(length > 0, "pads an empty axis with its own elements");
    let place = |at: i64| match mode {
        Mode::Edge => at.clamp(0, length - 1),
        Mode::Wrap => at.rem_euclid(length),
        Mode::Reflect => {
            let period = (2 * (length - 1)).max(1);
            let folded = at.rem_euclid(period);
            folded.min(period - folded).min(length - 1)
        }
    };
    take(x, at, &range.map(|at| place(at) as usize).collect::<Vec<_>>())
}
