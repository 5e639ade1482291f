//! The three kinds of failure. Each is decided where the failure arises, because only there is it known what helps.

use std::fmt;

use crate::plain;

/// Characters of a reason. What a provider or a contract says may be long.
pub(crate) const MAX_TOLD: usize = 2_000;

/// What a failure means for the work in hand.
#[derive(Debug)]
pub enum Fault {
    /// May succeed later: the row is tried again with backoff until its deadline.
    Retry(anyhow::Error),
    /// Will not succeed however often it is tried: the row fails and keeps the reason (`nova retry` brings it back).
    Row(anyhow::Error),
    /// Nothing that the daemon does would be right until a person has acted: the daemon stops.
    Stop(anyhow::Error),
}

/// A result whose error says what it means for the work in hand.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

impl Fault {
    /// The failure without its kind.
    pub fn error(&self) -> &anyhow::Error {
        match self {
            Self::Retry(error) | Self::Row(error) | Self::Stop(error) => error,
        }
    }

    /// The same kind of failure, with what was being done put in front.
    pub fn context(self, doing: impl fmt::Display + Send + Sync + 'static) -> Self {
        match self {
            Self::Retry(error) => Self::Retry(error.context(doing)),
            Self::Row(error) => Self::Row(error.context(doing)),
            Self::Stop(error) => Self::Stop(error.context(doing)),
        }
    }
}

impl fmt::Display for Fault {
    /// The whole chain of causes on one line, harmless and of a length that can be kept: others have a say in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = format!("{:#}", self.error());
        f.write_str(&plain::one_line(&plain::at_most(&told, MAX_TOLD)))
    }
}

impl From<Fault> for anyhow::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Retry(error) | Fault::Row(error) | Fault::Stop(error) => error,
        }
    }
}

/// Gives any error its kind: `read(path).fail_row()?`.
pub trait Classify<T> {
    fn retry(self) -> Result<T>;
    fn fail_row(self) -> Result<T>;
    fn stop(self) -> Result<T>;
}

impl<T, E: Into<anyhow::Error>> Classify<T> for std::result::Result<T, E> {
    fn retry(self) -> Result<T> {
        self.map_err(|error| Fault::Retry(error.into()))
    }

    fn fail_row(self) -> Result<T> {
        self.map_err(|error| Fault::Row(error.into()))
    }

    fn stop(self) -> Result<T> {
        self.map_err(|error| Fault::Stop(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_harmless_and_short() {
        let hostile = anyhow::anyhow!("reverted: a\nb\u{1b}[2J{}", "x".repeat(10_000));
        let told = Fault::Row(hostile).context("cannot send").to_string();
        assert!(told.starts_with(r"cannot send: reverted: a\nb\u{1b}[2Jxxx"), "{told}");
        assert!(told.chars().count() < 2_100);
    }
}
