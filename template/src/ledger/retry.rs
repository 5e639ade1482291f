//! `nova retry`: a person has mended what was wrong.

use super::db::ExecuteExt as _;
use super::{Ledger, db_fault, now};
use crate::fault::Result;

/// Back to where a stage finds it: a request to `seen`, or to `inferred` if it was the sending that failed. From there it is
/// queued again, whatever became of its transactions.
const REQUEST: &str = "UPDATE request SET state = iif(answer IS NULL, 'seen', 'inferred'), reason = NULL, tries = 0,
         next_try = 0, changed_at = ?1
     WHERE id = ?2 AND state = 'failed'";
/// A challenge to `asked`, or to where its delivery is ready. Its day begins again.
const CHALLENGE: &str = "UPDATE challenge SET
         state = iif(cid IS NOT NULL, 'uploaded', iif(delivery IS NOT NULL, 'proved', 'asked')),
         reason = NULL, tries = 0, next_try = 0, seen_at = ?1, changed_at = ?1
     WHERE transaction_hash = ?2 AND state = 'failed'";

impl Ledger {
    /// Brings back the failed request of this id, or the failed challenges whose logs were in this transaction. False if
    /// nothing of the kind has failed.
    pub async fn retry(&self, id: &str) -> Result<bool> {
        let mut db = self.begin().await?;
        let mut retried = 0;
        for query in [REQUEST, CHALLENGE] {
            let done = sqlx::query(query).bind(now()).bind(id).run(&mut *db).await?;
            retried += done;
        }
        if retried == 0 {
            return Ok(false);
        }
        db.commit().await.map_err(db_fault)?;
        Ok(true)
    }
}
