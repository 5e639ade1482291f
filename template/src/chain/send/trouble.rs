//! What the sender tells its operator while something outside is wrong: to whoever asks at once, to the log once a minute.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::health::Health;

/// How often what lasts is said again.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The parts that are in trouble, and when that was last said.
pub(super) struct Troubles {
    health: Arc<Health>,
    said: HashMap<&'static str, Instant>,
}

impl Troubles {
    pub fn new(health: Arc<Health>) -> Self {
        Self { health, said: HashMap::new() }
    }

    /// How a part is.
    pub fn set(&mut self, part: &'static str, state: Result<(), String>) {
        match &state {
            Ok(()) if self.said.remove(part).is_some() => tracing::info!(part, "is well again"),
            Ok(()) => {}
            Err(reason) if self.may_say(part, SAY_AGAIN) => tracing::error!(part, reason, "in trouble"),
            Err(_) => {}
        }
        self.health.set(part, state);
    }

    /// True, once in a while, if `what` may be logged again.
    pub fn may_say(&mut self, what: &'static str, every: Duration) -> bool {
        let due = self.said.get(what).is_none_or(|said| said.elapsed() >= every);
        if due {
            self.said.insert(what, Instant::now());
        }
        due
    }
}
