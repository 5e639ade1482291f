//! Waiting for what is to come on chain.

use std::{future::Future, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::time::Instant;

use crate::rpc::Node;

/// How often in a row looking may fail: a public node refuses a call now and then.
const FAILURES: u32 = 5;

/// Looks again and again, at the pace that suits the node, until there is something, or gives up.
pub async fn wait_for<T, F, Fut>(node: &Node, what: &str, timeout: Duration, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + timeout;
    let mut ticks = tokio::time::interval(node.get_interval());
    let mut failures = 0;
    loop {
        ticks.tick().await;
        match look().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => failures = 0,
            Err(error) => {
                failures += 1;
                if failures == FAILURES {
                    return Err(error).with_context(|| format!("while waiting for {what}"));
                }
            }
        }
        if Instant::now() > deadline {
            bail!("{what} did not come within {} s", timeout.as_secs());
        }
    }
}
