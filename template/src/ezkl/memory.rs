//! How much memory a worker has: as Linux tells it, and nowhere else.

/// Of one process, in megabytes of 2^20 bytes, as its limit is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub now_mb: u64,
    /// The most it ever had.
    pub peak_mb: u64,
}

/// `None` where the process is gone, or the system tells nobody.
pub fn of(process: u32) -> Option<Memory> {
    read(&std::fs::read_to_string(format!("/proc/{process}/status")).ok()?)
}

/// From the text of `/proc/<process>/status` (proc_pid_status(5)), which counts in kibibytes.
fn read(status: &str) -> Option<Memory> {
    let field = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes >> 10)
    };
    Some(Memory { now_mb: field("VmRSS:")?, peak_mb: field("VmHWM:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_figures_are_read() {
        let status = "Name:\tpython\nVmPeak:\t 9000000 kB\nVmHWM:\t  524288 kB\nVmRSS:\t  262144 kB\n";
        assert_eq!(read(status), Some(Memory { now_mb: 256, peak_mb: 512 }));
        assert_eq!(read("Name:\tpython\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_some() {
        let memory = of(std::process::id()).unwrap();
        assert!(memory.now_mb > 0 && memory.now_mb <= memory.peak_mb, "{memory:?}");
        assert_eq!(of(u32::MAX), None);
    }
}
