//! Where the gaps of a frame came from, for the error of a model that takes none. A hook gives frames only: what its preprocessors know is
//! left on its thread, which it has to itself.

use std::cell::RefCell;

thread_local! {
    static GAPS: RefCell<Vec<(String, String)>> = const { RefCell::new(Vec::new()) };
}

/// Columns of this thread's hook that have a gap, each with where it came from.
pub(super) fn remember(gaps: Vec<(String, String)>) {
    GAPS.with_borrow_mut(|held| held.extend(gaps));
}

/// All that was remembered on this thread.
pub fn take() -> Vec<(String, String)> {
    GAPS.take()
}
