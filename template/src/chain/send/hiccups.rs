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
    /// The reason if one row failed with what may pass: the others go on.
    ///
    /// # Errors
    /// What concerns them all: it does not pass, or the row before has failed as well.
    pub fn survive(&mut self, outcome: Result<()>) -> Result<Option<String>> {
        match outcome {
            Ok(()) => {
                self.in_a_row = 0;
                Ok(None)
            }
            Err(fault @ Fault::Retry(_)) if self.in_a_row + 1 < ENOUGH => {
                self.in_a_row += 1;
                let reason = fault.to_string();
                self.first.get_or_insert(fault);
                Ok(Some(reason))
            }
            Err(fault) => Err(fault),
        }
    }

    /// The end of the pass: what was survived is told all the same.
    pub fn end(&mut self) -> Result<()> {
        self.in_a_row = 0;
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
        let late = || Err(Fault::Retry(anyhow!("no such block")));
        assert_eq!(hiccups.survive(late()).unwrap().as_deref(), Some("no such block"));
        assert_eq!(hiccups.survive(Ok(())).unwrap(), None);
        assert!(hiccups.survive(late()).unwrap().is_some());
        assert!(hiccups.survive(late()).is_err());
        assert!(matches!(hiccups.end(), Err(Fault::Retry(_))));
        assert!(hiccups.end().is_ok());
        assert!(hiccups.survive(Err(Fault::Stop(anyhow!("the ledger is gone")))).is_err());
    }
}
