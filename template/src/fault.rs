//! The three kinds of failure. Each is decided where the failure arises, because only there is it known what helps.

use std::fmt;

use crate::sanitize;

/// Characters of a reason. What a provider or a contract says may be long.
pub(crate) const MAX_REASON_CHARS: usize = 2_000;

/// What a failure means for the work in hand.
#[derive(Debug)]
pub enum Fault {
    /// May succeed later: the row is tried again with backoff until its deadline.
    Transient(anyhow::Error),
    /// Will not succeed however often it is tried: the row fails and keeps the reason (`nova retry` brings it back).
    Permanent(anyhow::Error),
    /// Nothing that the daemon does would be right until a person has acted: the daemon stops.
    Fatal(anyhow::Error),
}

/// A result whose error says what it means for the work in hand.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

impl Fault {
    /// The failure without its kind.
    pub fn error(&self) -> &anyhow::Error {
        match self {
            Self::Transient(error) | Self::Permanent(error) | Self::Fatal(error) => error,
        }
    }

    /// The same kind of failure, with what was being done put in front.
    pub fn context(self, doing: impl fmt::Display + Send + Sync + 'static) -> Self {
        match self {
            Self::Transient(error) => Self::Transient(error.context(doing)),
            Self::Permanent(error) => Self::Permanent(error.context(doing)),
            Self::Fatal(error) => Self::Fatal(error.context(doing)),
        }
    }
}

impl fmt::Display for Fault {
    /// The whole chain of causes on one line, harmless and of a length that can be kept: others have a say in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = format!("{:#}", self.error());
        f.write_str(&sanitize::escape_control_chars(&sanitize::truncate(&told, MAX_REASON_CHARS)))
    }
}

impl From<Fault> for anyhow::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Transient(error) | Fault::Permanent(error) | Fault::Fatal(error) => error,
        }
    }
}

/// Gives any error its kind: `read(path).permanent()?`.
pub trait Classify<T> {
    fn transient(self) -> Result<T>;
    fn permanent(self) -> Result<T>;
    fn fatal(self) -> Result<T>;
}

impl<T, E: Into<anyhow::Error>> Classify<T> for std::result::Result<T, E> {
    fn transient(self) -> Result<T> {
        self.map_err(|error| Fault::Transient(error.into()))
    }

    fn permanent(self) -> Result<T> {
        self.map_err(|error| Fault::Permanent(error.into()))
    }

    fn fatal(self) -> Result<T> {
        self.map_err(|error| Fault::Fatal(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_harmless_and_short() {
        let hostile = anyhow::anyhow!("reverted: a\nb\u{1b}[2J{}", "x".repeat(10_000));
        let told = Fault::Permanent(hostile).context("cannot send").to_string();
        assert!(told.starts_with(r"cannot send: reverted: a\nb\u{1b}[2Jxxx"), "{told}");
        assert!(told.chars().count() < 2_100);
    }
}
