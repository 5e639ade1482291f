//! A window that slides along one axis. One over several axes is one over each in turn: the greatest of a square is the
//! greatest of its columns' greatest, and so for sums.

use anyhow::Result;

use super::window::Axis;
use crate::model::tensor::{bounded, feasible};

/// Folds what each window sees, axis by axis from the last; `dims` are the data's, the axes are its last ones.
pub(super) fn slide<E: Copy>(
    mut data: Vec<E>,
    dims: &mut [usize],
    axes: &[Axis],
    start: E,
    f: impl Fn(E, E) -> E,
) -> Result<Vec<E>> {
    let first = dims.len() - axes.len();
    for (at, axis) in axes.iter().enumerate().rev() {
        let place = first + at;
        let (outer, inner) = (dims[..place].iter().product(), dims[place + 1..].iter().product());
        dims[place] = axis.output;
        feasible(&[outer, axis.output, axis.kernel, inner])?;
        let mut folded = vec![start; bounded(dims)?];
        for block in 0..outer {
            let old = &data[block * axis.input * inner..][..axis.input * inner];
            let new = &mut folded[block * axis.output * inner..][..axis.output * inner];
            for tap in 0..axis.kernel {
                for output in axis.inside(tap) {
                    let seen = &old[axis.place(output, tap) * inner..][..inner];
                    for (folded, one) in new[output * inner..][..inner].iter_mut().zip(seen) {
                        *folded = f(*folded, *one);
                    }
                }
            }
        }
        data = folded;
    }
    Ok(data)
}
