//! What a model may cost: the graphs inside its nodes share one budget with the graph around them, however deep they are.

use std::cell::Cell;

use anyhow::{Result, ensure};

/// The most multiplications, or what takes as long, of one run: less than a minute.
const MAX_WORK: usize = 1 << 34;
/// What a step costs besides: its loops begin, and memory is taken.
const STEP: usize = 1 << 12;
/// The most elements of all tensors that a run holds at once, besides inputs and constants.
const MAX_HELD: usize = 1 << 26;
/// The most elements of all that is computed once, at load, from constants alone. More is computed at each run.
const MAX_FOLDED: usize = 1 << 22;

/// What is left of it: of one run's, or of one load's.
#[derive(Debug)]
pub struct Budget {
    work: Cell<usize>,
    room: Cell<usize>,
    folded: Cell<usize>,
}

impl Budget {
    pub fn new() -> Self {
        Self { work: MAX_WORK.into(), room: MAX_HELD.into(), folded: MAX_FOLDED.into() }
    }

    /// Less work than a model may have.
    #[cfg(test)]
    pub fn of_work(work: usize) -> Self {
        Self { work: work.into(), ..Self::new() }
    }

    /// A loop of these many rounds inside each other, before it begins.
    ///
    /// # Errors
    /// If it would not end in time.
    pub fn spend(&self, rounds: &[usize]) -> Result<()> {
        let work = rounds.iter().try_fold(1usize, |product, rounds| product.checked_mul(*rounds));
        let work = if rounds.contains(&0) { Some(0) } else { work };
        let left = work.and_then(|work| self.work.get().checked_sub(work));
        ensure!(left.is_some(), "it would take too long: {rounds:?} rounds inside each other, after all before it");
        self.work.set(left.unwrap_or_default());
        Ok(())
    }

    /// A step that was run, and made so many elements.
    ///
    /// # Errors
    /// If there were too many of them.
    pub fn spend_step(&self, elements: usize) -> Result<()> {
        self.spend(&[STEP.saturating_add(elements)])
    }

    /// Memory for these elements.
    ///
    /// # Errors
    /// If there is none.
    pub fn hold(&self, elements: usize) -> Result<()> {
        let left = self.room.get().checked_sub(elements);
        ensure!(left.is_some(), "the model holds more than {MAX_HELD} elements at once");
        self.room.set(left.unwrap_or_default());
        Ok(())
    }

    /// Gives memory back.
    pub fn release(&self, elements: usize) {
        self.room.set(self.room.get() + elements);
    }

    /// True if so many elements more may be kept as constants.
    pub fn may_fold(&self, elements: usize) -> bool {
        let left = self.folded.get().checked_sub(elements);
        self.folded.set(left.unwrap_or(self.folded.get()));
        left.is_some()
    }

    /// What is held meanwhile is free again afterwards, whatever became of it.
    pub fn meanwhile<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        let room = self.room.get();
        let done = f();
        self.room.set(room);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_adds_up_and_nothing_costs_nothing() {
        let budget = Budget::new();
        budget.spend(&[usize::MAX, usize::MAX, 0]).unwrap();
        budget.spend(&[MAX_WORK / 2]).unwrap();
        assert!(budget.spend(&[usize::MAX, 2]).is_err());
        budget.spend(&[2, MAX_WORK / 4]).unwrap();
        assert!(budget.spend(&[1]).is_err());
    }

    #[test]
    fn memory_is_given_back_whatever_becomes_of_it() {
        let budget = Budget::new();
        budget.hold(MAX_HELD).unwrap();
        assert!(budget.hold(1).unwrap_err().to_string().contains("at once"));
        budget.release(MAX_HELD);
        let failed = budget.meanwhile(|| {
            budget.hold(MAX_HELD)?;
            budget.hold(1)
        });
        assert!(failed.is_err());
        budget.hold(MAX_HELD).unwrap();
    }

    #[test]
    fn what_is_folded_is_counted_where_it_fits() {
        let budget = Budget::new();
        assert!(!budget.may_fold(MAX_FOLDED + 1));
        assert!(budget.may_fold(MAX_FOLDED));
        assert!(!budget.may_fold(1));
    }
}
