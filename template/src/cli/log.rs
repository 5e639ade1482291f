//! Where the log goes: stderr, for people or for machines.

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{Log, LogFormat};

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
        LogFormat::Human => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
