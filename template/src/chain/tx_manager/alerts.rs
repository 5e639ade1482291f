//! What the sender tells its operator while something outside is wrong: to whoever asks at once, to the log once a minute.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::health::Health;

/// How often what lasts is said again.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The parts that are in trouble, and when that was last said.
pub(super) struct Alerts {
    health: Arc<Health>,
    last_logged: HashMap<&'static str, Instant>,
}

impl Alerts {
    pub fn new(health: Arc<Health>) -> Self {
        Self { health, last_logged: HashMap::new() }
    }

    /// How a part is.
    pub fn set(&mut self, part: &'static str, state: Result<(), String>) {
        match &state {
            Ok(()) if self.last_logged.remove(part).is_some() => tracing::info!(part, "is well again"),
            Ok(()) => {}
            Err(reason) if self.should_log(part, LOG_INTERVAL) => tracing::error!(part, reason, "in trouble"),
            Err(_) => {}
        }
        self.health.set(part, state);
    }

    /// True, once in a while, if `what` may be logged again.
    pub fn should_log(&mut self, what: &'static str, every: Duration) -> bool {
        let due = self.last_logged.get(what).is_none_or(|said| said.elapsed() >= every);
        if due {
            self.last_logged.insert(what, Instant::now());
        }
        due
    }
}
