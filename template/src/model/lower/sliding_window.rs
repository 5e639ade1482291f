//! A window that slides along one axis. One over several axes is one over each in turn: the greatest of a square is the
//! greatest of its columns' greatest, and so for sums.

use anyhow::Result;

use super::window::Axis;
use crate::model::budget::Budget;
use crate::model::tensor::bounded;

/// Folds what each window sees, axis by axis; `dims` are the data's, the axes are its last ones. The first comes first: its
/// windows fold whole rows, and leave fewer of them to the last, which folds element by element.
pub(super) fn slide<E: Copy>(
    mut data: Vec<E>,
    dims: &mut [usize],
    axes: &[Axis],
    start: E,
    budget: &Budget,
    f: impl Fn(E, E) -> E,
) -> Result<Vec<E>> {
    let first = dims.len() - axes.len();
    for (at, axis) in axes.iter().enumerate() {
        let place = first + at;
        let (outer, inner) = (dims[..place].iter().product(), dims[place + 1..].iter().product());
        dims[place] = axis.output;
        budget.spend(&[outer, axis.output, axis.kernel, inner])?;
        let mut folded = vec![start; bounded(dims)?];
        // Each tap that sees an input, with the outputs that do.
        let taps = (0..axis.kernel).map(|tap| (tap, axis.inside(tap)));
        let taps: Vec<_> = taps.filter(|(_, inside)| !inside.is_empty()).collect();
        for block in 0..outer {
            let old = &data[block * axis.input * inner..][..axis.input * inner];
            let new = &mut folded[block * axis.output * inner..][..axis.output * inner];
            for (tap, inside) in &taps {
                // The last axis has no inner ones: its elements are walked, not folded in runs of one.
                if inner == 1 {
                    let seen = old[axis.place(inside.start, *tap)..].iter().step_by(axis.stride);
                    new[inside.clone()].iter_mut().zip(seen).for_each(|(folded, one)| *folded = f(*folded, *one));
                    continue;
                }
                for output in inside.clone() {
                    let seen = &old[axis.place(output, *tap) * inner..][..inner];
                    let folded = &mut new[output * inner..][..inner];
                    folded.iter_mut().zip(seen).for_each(|(folded, one)| *folded = f(*folded, *one));
                }
            }
        }
        data = folded;
    }
    Ok(data)
}
