//! Whether a worker makes progress. EZKL's `prove` was seen to wait for ever, its threads asleep over a lock that the caller
//! holds; no deadline that leaves room for a slow proof notices that in time.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A clock tick of `/proc/<process>/stat`: `USER_HZ` is 100 on every Linux that Rust runs on.
const TICK: Duration = Duration::from_millis(10);
/// Less than this share of a core is what waiting itself takes: Python's threads look for a lock 200 times a second.
const PROGRESS_PERCENT: u32 = 1;

/// How long a worker may sleep in a call.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    pub interval: Duration,
    /// So many looks in a row that find no progress. They are counted, and not the time: a machine that was suspended gave
    /// its workers none.
    pub looks: u32,
}

impl Default for Patience {
    /// A minute: a step of EZKL that sleeps for as long was never seen to go on.
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), looks: 12 }
    }
}

impl Patience {
    pub fn limit(self) -> Duration {
        self.interval * self.looks
    }
}

/// Returns once the process and its descendants have slept for so long: without using a core, waiting for one, or reading
/// or writing anything. Never where the system does not tell.
pub async fn wait_stalled(process: u32, threads: usize, patience: Patience) {
    let threads = u32::try_from(threads).unwrap_or(u32::MAX);
    let enough = (patience.interval * PROGRESS_PERCENT / 100).saturating_mul(threads);
    let mut before: Option<Look> = None;
    let mut stalled = 0;
    while stalled < patience.looks {
        tokio::time::sleep(patience.interval).await;
        let look = tokio::task::spawn_blocking(move || Look::at_family(process)).await;
        let Ok(Some(look)) = look else { return std::future::pending().await };
        match before {
            Some(before) if look.progressed_since(&before, enough) => stalled = 0,
            // One that has no core is no further, and not to blame for it.
            Some(_) if !look.waits_for_machine => stalled += 1,
            _ => {}
        }
        before = Some(look);
    }
}

/// What the system tells of a process at one moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Look {
    /// Processor time of all its threads, in clock ticks.
    ticks: u64,
    /// Bytes read and written.
    io: u64,
    /// A thread waits for a core (or has one), or for a disk.
    waits_for_machine: bool,
}

impl Look {
    /// Of a process with all its descendants: the configured Python may be a script that starts another. `None` if it is gone.
    fn at_family(process: u32) -> Option<Self> {
        let mut look = Self::at(process)?;
        for descendant in descendants(process) {
            // One that has just ended took its ticks with it, which is a change as well.
            let Some(other) = Self::at(descendant) else { continue };
            look.ticks += other.ticks;
            look.io += other.io;
            look.waits_for_machine |= other.waits_for_machine;
        }
        Some(look)
    }

    fn at(process: u32) -> Option<Self> {
        let folder = format!("/proc/{process}");
        let stat = Stat::read(Path::new(&folder))?;
        let threads = fs::read_dir(format!("{folder}/task")).ok()?.flatten();
        let states: Vec<u8> = threads.filter_map(|thread| Stat::read(&thread.path())).map(|stat| stat.state).collect();
        Some(Self {
            ticks: stat.ticks,
            io: fs::read_to_string(format!("{folder}/io")).map_or(0, |io| io_bytes(&io)),
            waits_for_machine: states.iter().any(|state| matches!(state, b'R' | b'D')),
        })
    }

    fn progressed_since(&self, before: &Self, enough: Duration) -> bool {
        let ticks = u32::try_from(self.ticks.abs_diff(before.ticks)).unwrap_or(u32::MAX);
        self.io != before.io || TICK.saturating_mul(ticks) > enough
    }
}

/// What is read of `/proc/<process>/stat` (proc_pid_stat(5)), or of a thread's.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    parent: u32,
    ticks: u64,
}

impl Stat {
    fn read(folder: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(folder.join("stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name before may hold anything, parentheses too.
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let state = *fields.first()?.as_bytes().first()?;
        // Fields 4, 14 and 15 of the whole line.
        Some(Self { state, parent: number(1)?.try_into().ok()?, ticks: number(11)? + number(12)? })
    }
}

/// The bytes of `/proc/<process>/io` (proc_pid_io(5)): by calls, and by the disk for files that are mapped.
fn io_bytes(io: &str) -> u64 {
    let counted =
        |line: &&str| ["rchar:", "wchar:", "read_bytes:", "write_bytes:"].iter().any(|name| line.starts_with(name));
    io.lines().filter(counted).filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

fn descendants(process: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> =
        ids.filter_map(|id| Some((id, Stat::read(Path::new(&format!("/proc/{id}")))?.parent))).collect();
    let (mut found, mut seen) = (vec![process], HashSet::from([process]));
    let mut index = 0;
    while let Some(parent) = found.get(index).copied() {
        found.extend(parents.iter().filter(|(id, of)| *of == parent && seen.insert(*id)).map(|(id, _)| *id));
        index += 1;
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::process::{Child, Command};
    use tokio::time::timeout;

    use super::*;

    const QUICK: Patience = Patience { interval: Duration::from_millis(50), looks: 4 };
    /// As long as a process is watched that is not to be found stalled.
    const WATCHED: Duration = Duration::from_secs(2);

    fn shell(script: &str) -> (Child, u32) {
        let child = Command::new("sh").args(["-c", script]).kill_on_drop(true).spawn().unwrap();
        let id = child.id().unwrap();
        (child, id)
    }

    async fn is_stalled(script: &str) -> bool {
        let (_child, id) = shell(script);
        timeout(WATCHED, wait_stalled(id, 1, QUICK)).await.is_ok()
    }

    #[tokio::test]
    async fn one_that_sleeps_is_stalled_after_the_limit() {
        let started = Instant::now();
        assert!(is_stalled("exec sleep 60").await);
        assert!(started.elapsed() >= QUICK.limit());
    }

    #[tokio::test]
    async fn one_that_was_stopped_is_stalled() {
        assert!(is_stalled("kill -STOP $$").await);
    }

    #[tokio::test]
    async fn one_that_computes_is_not_stalled() {
        assert!(!is_stalled("while :; do :; done").await);
    }

    #[tokio::test]
    async fn one_whose_child_computes_is_not_stalled() {
        // It ends with its parent, which is killed.
        assert!(!is_stalled("sh -c 'while kill -0 $PPID; do :; done' & wait").await);
    }

    #[tokio::test]
    async fn one_that_gets_no_core_is_not_stalled() {
        let look = |ticks, waits_for_machine| Look { ticks, io: 7, waits_for_machine };
        assert!(!look(5, true).progressed_since(&look(5, true), TICK), "no progress");
        assert!(look(7, false).progressed_since(&look(5, false), TICK), "more than enough");
        assert!(!look(6, false).progressed_since(&look(5, false), TICK), "just what waiting takes");
        assert!(!is_stalled("exec nice -n 19 sh -c 'while :; do :; done'").await);
    }

    #[tokio::test]
    async fn one_that_reads_slowly_is_not_stalled() {
        let reads = Look { io: 1, ..Look::default() };
        assert!(reads.progressed_since(&Look::default(), TICK));
        assert_eq!(io_bytes("rchar: 3\nwchar: 4\nsyscr: 9\nread_bytes: 5\ncancelled_write_bytes: 8\n"), 12);
    }

    #[tokio::test]
    async fn one_that_is_gone_is_not_stalled() {
        let (mut child, id) = shell("exit 0");
        child.wait().await.unwrap();
        assert!(timeout(WATCHED / 4, wait_stalled(id, 1, QUICK)).await.is_err());
    }

    #[test]
    fn a_name_with_parentheses_is_no_field() {
        let text = "7 (a) R (b) S 3 7 7 0 -1 4194560 1 0 0 0 11 4 0 0 20 0 1 0 5 6 7";
        assert_eq!(Stat::parse(text), Some(Stat { state: b'S', parent: 3, ticks: 15 }));
        assert_eq!(Stat::parse("7 (a"), None);
    }
}
