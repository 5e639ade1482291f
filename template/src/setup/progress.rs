//! What `setup` is doing: the step, for how long, with how much memory, and what comes next. A line that changes on a
//! terminal, plain lines elsewhere.

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::ezkl::Ezkl;

/// How often the line on a terminal changes.
const REDRAW: Duration = Duration::from_millis(120);
/// How often a long step says, where there is no terminal, that it goes on.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// From here on it is said before it begins.
const LONG_SECS: f64 = 60.0;

/// Steps that are shown with the memory of this EZKL's prover.
pub struct Progress {
    ezkl: Ezkl,
}

impl Progress {
    pub fn new(ezkl: Ezkl) -> Self {
        Self { ezkl }
    }

    /// Runs one step and shows it; `next` is what comes after it.
    pub async fn step<T>(&self, what: &str, next: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let start = Instant::now();
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        let is_plain = bar.is_hidden();
        if is_plain {
            eprintln!("  {what} … (then: {next})");
        }
        let mut ticks = tokio::time::interval(if is_plain { LOG_INTERVAL } else { REDRAW });
        ticks.tick().await;
        let mut work = pin!(work);
        let outcome = loop {
            tokio::select! {
                outcome = &mut work => break outcome,
                _ = ticks.tick() => {
                    let now = format!("{what}  {}{}", elapsed(start), self.memory());
                    if is_plain {
                        eprintln!("  … {now}");
                    } else {
                        bar.set_message(format!("{now}  (then: {next})"));
                        bar.tick();
                    }
                }
            }
        };
        bar.finish_and_clear();
        eprintln!("{} {what}  {}", if outcome.is_ok() { "✓" } else { "✗" }, elapsed(start));
        outcome
    }

    fn memory(&self) -> String {
        self.ezkl.prover_memory().map_or_else(String::new, |memory| format!(", EZKL has {} MB", memory.now_mb))
    }
}

/// Says how long something is expected to take, where that is long.
pub fn announce(what: &str, expected_secs: f64) {
    if expected_secs >= LONG_SECS {
        eprintln!("  {what} will take about {:.0} min", (expected_secs / 60.0).ceil());
    }
}

fn elapsed(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f64())
}
