//! How long things take, for logs and for people.

use std::time::{Duration, Instant};

/// How long each stage took, in the order in which they ran.
#[derive(Debug, Clone, Default)]
pub struct StageTimings(pub Vec<(&'static str, Duration)>);

impl StageTimings {
    /// The time of a stage that has run.
    pub fn get(&self, stage: &str) -> Option<Duration> {
        self.0.iter().find(|(name, _)| *name == stage).map(|(_, time)| *time)
    }

    /// Runs a stage and keeps its time.
    pub async fn stage<T>(&mut self, name: &'static str, work: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let result = work.await;
        self.0.push((name, start.elapsed()));
        result
    }
}

impl std::fmt::Display for StageTimings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (name, time)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {:.1} ms", time.as_secs_f64() * 1000.0)?;
        }
        Ok(())
    }
}

/// For the log: two decimals are as fine as these stages repeat.
pub fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 1e2
}
