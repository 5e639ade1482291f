//! Where the log goes: stderr, for people or for machines.

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::debug_fn;

use crate::config::{Log, LogFormat};
use crate::sanitize;

/// Starts the log. Commands other than `run` tell their results themselves: of the log they show warnings only, unless
/// the level asks for more.
pub fn start(log: &Log, is_daemon: bool) {
    let level = if is_daemon || log.level > LevelFilter::INFO { log.level } else { log.level.min(LevelFilter::WARN) };
    // Other crates are heard from WARN on, and no lower: at TRACE some print whole HTTP requests, keys included.
    let others = level.min(LevelFilter::WARN);
    let filter = EnvFilter::default()
        .add_directive(others.into())
        .add_directive(format!("nova={level}").parse().unwrap_or_else(|_| level.into()));
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Human => {
            builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).fmt_fields(sanitized_fields()).init();
        }
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// Messages and values on one line, without anything that a terminal obeys: much of what is logged is what others sent.
/// (JSON escapes it by itself.)
fn sanitized_fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    debug_fn(|writer, field, value| {
        let value = format!("{value:?}");
        let value = sanitize::escape_control_chars(&value);
        match field.name() {
            "message" => write!(writer, "{value}"),
            name => write!(writer, "{name}={value}"),
        }
    })
    .delimited(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What is written to it.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_can_write_lines_of_their_own_into_the_log() {
        let hostile = "x\n2026-01-01T00:00:00Z ERROR funds lost\u{1b}[2J\u{202e}";
        let written = Written::default();
        let (clone, builder) =
            (written.clone(), fmt().with_ansi(false).with_target(false).fmt_fields(sanitized_fields()));
        let subscriber = builder.with_writer(move || clone.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("request", input = %hostile);
            let _span = span.enter();
            tracing::info!(reason = hostile, shown = %hostile, debug = ?hostile, number = 5, "said {hostile}");
        });
        let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.trim_end().chars().all(|c| !c.is_control() && c != '\u{202e}'), "{log}");
        assert_eq!(log.matches(r"x\n2026").count(), 5, "{log}");
        assert!(log.contains("number=5"), "{log}");
    }
}
