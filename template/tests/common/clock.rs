//! A clock that can be put forward and back under a running daemon: libfaketime, told by a file.

use std::fs;
use std::path::{Path, PathBuf};

use super::nova::Nova;

/// What the daemon takes for the time: this machine's, and an offset.
pub struct Clock(PathBuf);

impl Clock {
    /// The right time, until it is set.
    pub fn new(folder: &Path) -> Self {
        let clock = Self(folder.join("clock"));
        clock.set(0);
        clock
    }

    /// Puts the clock so many seconds off the right time.
    pub fn set(&self, seconds: i64) {
        let unfinished = self.0.with_extension("unfinished");
        fs::write(&unfinished, format!("{seconds:+}\n")).unwrap();
        fs::rename(unfinished, &self.0).unwrap();
    }

    /// `nova` by this clock. The monotonic clock goes on as it does when an operator sets the time.
    pub fn rules(&self, nova: Nova) -> Nova {
        nova.env("LD_PRELOAD", library().display().to_string())
            .env("FAKETIME_TIMESTAMP_FILE", self.0.display().to_string())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }
}

/// Where distributions put it.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path().join("faketime"));
    let places = folders.chain([PathBuf::from("/usr/lib/faketime"), PathBuf::from("/usr/lib64/faketime")]);
    let found = places.map(|folder| folder.join("libfaketimeMT.so.1")).find(|file| file.is_file());
    found.expect("libfaketime is not installed: `ci/setup` installs it, or `apt-get install faketime`")
}
