//! What one transaction meets and another may not: a node that has a receipt and not the block, a call that one machine does not answer.

use crate::fault::{Fault, Result};

/// Rows in a row that fail, after which it is no longer the rows.
const ENOUGH: u32 = 2;

/// Of one pass.
#[derive(Default)]
pub(super) struct Hiccups {
    first: Option<Fault>,
    in_a_row: u32,
}

impl Hiccups {
    /// Where one row failed with what may pass the others go on.
    ///
    /// # Errors
    /// What concerns them all: it does not pass, or the row before has failed as well.
    pub fn survive(&mut self, outcome: Result<()>) -> Result<()> {
        match outcome {
            Ok(()) => {
                self.in_a_row = 0;
                Ok(())
            }
            Err(fault @ Fault::Transient(_)) if self.in_a_row + 1 < ENOUGH => {
                self.in_a_row += 1;
                self.tell(fault);
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    /// What is told at the end of the pass, and says nothing of other rows.
    pub fn tell(&mut self, fault: Fault) {
        self.first.get_or_insert(fault);
    }

    /// Other work begins: what failed before does not count for it.
    pub fn begin(&mut self) {
        self.in_a_row = 0;
    }

    /// The end of the pass: what was survived is told all the same.
    pub fn end(&mut self) -> Result<()> {
        self.first.take().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn one_that_fails_is_survived_and_two_in_a_row_are_not() {
        let mut hiccups = Hiccups::default();
        let late = || Err(Fault::Transient(anyhow!("no such block")));
        assert!(hiccups.survive(late()).is_ok());
        assert!(hiccups.survive(Ok(())).is_ok());
        assert!(hiccups.survive(late()).is_ok());
        hiccups.begin();
        assert!(hiccups.survive(late()).is_ok());
        assert!(hiccups.survive(late()).is_err());
        assert!(matches!(hiccups.end(), Err(Fault::Transient(_))));
        assert!(hiccups.end().is_ok());
        assert!(hiccups.survive(Err(Fault::Fatal(anyhow!("the ledger is gone")))).is_err());
    }
}
