//! Runs the owner's hooks where they can do no harm: on a thread of their own, with a deadline, panics caught.
//!
//! A thread cannot be stopped from outside. A hook that does not return keeps its thread; such hooks are counted, and too
//! many stop the daemon before it drowns in them. The threads are not tokio's, which would wait for them at the end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::oneshot;

use crate::fault::{Classify, Fault, Result};
use crate::panics;

/// So many hooks that do not return are no accident.
const MAX_STUCK: usize = 8;

/// Runs one hook. Its error, its panic and its silence fail the row, in the hook's own words.
pub async fn run_hook<T: Send + 'static>(
    name: &'static str,
    timeout: Duration,
    hook: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T> {
    static STUCK: std::sync::LazyLock<Arc<AtomicUsize>> = std::sync::LazyLock::new(Arc::default);
    run(&STUCK, name, timeout, hook).await
}

async fn run<T: Send + 'static>(
    stuck: &Arc<AtomicUsize>,
    name: &'static str,
    timeout: Duration,
    hook: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T> {
    let (answer, answered) = oneshot::channel();
    let run = Arc::new(Run::new(Arc::clone(stuck)));
    let (span, here) = (tracing::Span::current(), Arc::clone(&run));
    thread::Builder::new()
        .name(name.to_string())
        .spawn(move || {
            let outcome = span.in_scope(|| catch_unwind(AssertUnwindSafe(hook)));
            // Nobody listens any more if it comes too late.
            let _ = answer.send(outcome);
            here.returned();
        })
        .map_err(|error| anyhow!("{name}: no thread to run on: {error}"))
        .transient()?;

    match tokio::time::timeout(timeout, answered).await {
        Ok(Ok(Ok(outcome))) => outcome.map_err(|error| error.context(name.to_string())).permanent(),
        Ok(Ok(Err(panic))) => {
            let message = panics::message(&*panic);
            Err(Fault::Permanent(anyhow!("{name} panicked: {message}")))
        }
        Ok(Err(_)) => Err(Fault::Permanent(anyhow!("{name} ended without an answer"))),
        Err(_) => Err(overdue(name, timeout, run.given_up())),
    }
}

fn overdue(name: &str, timeout: Duration, stuck: usize) -> Fault {
    let late = format!("{name} did not return within {timeout:?}");
    if stuck < MAX_STUCK {
        return Fault::Permanent(anyhow!(late));
    }
    Fault::Fatal(anyhow!(
        "{late}, and {stuck} hooks have not returned at all by now: does src/hooks.rs wait for something that never comes?"
    ))
}

/// Whether a hook is running, given up, or done: the count of those stuck must be right whichever comes first.
struct Run {
    state: AtomicU8,
    stuck: Arc<AtomicUsize>,
}

const RUNNING: u8 = 0;
const GIVEN_UP: u8 = 1;
const DONE: u8 = 2;

impl Run {
    fn new(stuck: Arc<AtomicUsize>) -> Self {
        Self { state: AtomicU8::new(RUNNING), stuck }
    }

    /// The deadline has passed. Gives the number of hooks that are stuck.
    fn given_up(&self) -> usize {
        let counted = self.stuck.fetch_add(1, Ordering::SeqCst) + 1;
        if self.state.swap(GIVEN_UP, Ordering::SeqCst) == DONE {
            return self.stuck.fetch_sub(1, Ordering::SeqCst) - 1;
        }
        counted
    }

    /// It has returned after all.
    fn returned(&self) {
        if self.state.swap(DONE, Ordering::SeqCst) == GIVEN_UP {
            self.stuck.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;
    use std::sync::mpsc;

    const SOON: Duration = Duration::from_millis(20);
    const LATE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_hooks_answer_comes_back() {
        assert_eq!(run_hook("post_process", LATE, || Ok(5)).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn a_hooks_error_fails_the_row_in_its_own_words() {
        let fault = run_hook::<()>("pre_process", LATE, || bail!("risk is below 0")).await.unwrap_err();
        assert!(matches!(fault, Fault::Permanent(_)));
        assert_eq!(fault.to_string(), "pre_process: risk is below 0");
    }

    #[tokio::test]
    async fn a_hooks_panic_fails_the_row_with_its_message() {
        let hook = || -> anyhow::Result<()> {
            let none: Vec<f64> = Vec::new();
            panic!("no value in {none:?}")
        };
        let fault = run_hook("pre_process", LATE, hook).await.unwrap_err();
        assert!(matches!(fault, Fault::Permanent(_)));
        assert_eq!(fault.to_string(), "pre_process panicked: no value in []");
    }

    #[tokio::test]
    async fn a_hook_that_does_not_return_fails_its_row_and_many_stop_the_daemon() {
        let stuck = Arc::new(AtomicUsize::new(0));
        let mut held = Vec::new();
        for at in 1..=MAX_STUCK {
            let (release, released) = mpsc::channel::<()>();
            held.push(release);
            let hook = move || Ok(released.recv()?);
            let fault = run(&stuck, "pre_process", SOON, hook).await.unwrap_err();
            let text = fault.to_string();
            assert!(text.contains("did not return within 20ms"), "{text}");
            assert_eq!(matches!(fault, Fault::Fatal(_)), at == MAX_STUCK, "{text}");
        }
        assert_eq!(stuck.load(Ordering::SeqCst), MAX_STUCK);

        // Those that come back are not counted any longer.
        drop(held);
        let all_back = async {
            while stuck.load(Ordering::SeqCst) > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LATE, all_back).await.unwrap();
        let again = run(&stuck, "pre_process", LATE, || Ok(())).await;
        assert!(again.is_ok());
    }

    #[test]
    fn the_count_is_right_whichever_comes_first() {
        let stuck = Arc::new(AtomicUsize::new(0));
        let (early, late) = (Run::new(Arc::clone(&stuck)), Run::new(Arc::clone(&stuck)));
        early.returned();
        assert_eq!(early.given_up(), 0);
        assert_eq!(late.given_up(), 1);
        late.returned();
        assert_eq!(stuck.load(Ordering::SeqCst), 0);
    }
}
