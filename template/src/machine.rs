//! What the machine allows, looked at before it is met: open files, processes, memory, disk, and where the ledger lies.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use indicatif::HumanBytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// Files that are open at once when all is busy: 64 requests and their connections, workers, the ledger.
const FILES: u64 = 512;
/// Asked for where it is allowed: what is open beyond `FILES` are connections of others, to our HTTP address.
const FILES_WANTED: u64 = 16_384;
/// Threads of the daemon itself besides those for each processor: tokio's for files, SQLite's, those that read from workers.
const OWN_THREADS: u64 = 64;
/// Threads of an EZKL worker besides those that compute.
const WORKER_THREADS: u64 = 4;
/// Below this much of a disk saving soon fails: some hundred witnesses of the example.
const LEAST_BYTES: u64 = 64 << 20;
/// A request takes six.
const LEAST_INODES: u64 = 600;
/// What the daemon holds besides the proving key, and Python with EZKL's wheel.
const LEAST_MEMORY: u64 = 512 << 20;

/// File systems of other machines, by the number that Linux gives them (statfs(2)), on which SQLite's log is not safe:
/// `https://sqlite.org/wal.html`, "does not work over a network filesystem".
const NETWORK_FILE_SYSTEMS: [(u32, &str); 5] =
    [(0x6969, "NFS"), (0x517b, "SMB"), (0xff53_4d42, "CIFS"), (0xfe53_4d42, "SMB2"), (0x5346_414f, "AFS")];

/// The limits of the machine and its container that this daemon meets.
#[derive(Debug, Clone)]
pub struct Machine {
    artifacts: PathBuf,
    /// Threads of all that we start.
    threads: u64,
    /// Bytes of the proving key, which the prover holds.
    proving_key: u64,
}

impl Machine {
    pub fn of(config: &Config) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let workers = (config.ezkl.witness_workers + 2) as u64;
        let computing = (config.ezkl.witness_workers + config.ezkl.mock_threads + config.ezkl.prover_threads) as u64;
        Self {
            artifacts: config.artifacts.clone(),
            // tokio has one for each processor, and so has polars.
            threads: OWN_THREADS + 2 * cores + workers * WORKER_THREADS + computing,
            proving_key: fs::metadata(&config.model_files.proving_key).map_or(0, |key| key.len()),
        }
    }

    /// What there is, for a person.
    ///
    /// # Errors
    /// What is short, and what to do.
    pub fn check(&self) -> Result<String> {
        refuse_network(&self.artifacts)?;
        let files = files();
        ensure!(
            files >= FILES,
            "{files} files may be open at once, {FILES} are needed: raise the limit (`ulimit -n`, LimitNOFILE= of systemd, `ulimits` of \
             Compose)"
        );
        if let Some((free, limit)) = processes() {
            ensure!(
                free >= self.threads,
                "{free} more processes and threads may run here (the limit is {limit}), about {} are needed: raise it (pids_limit of \
                 Compose, podPidsLimit of Kubernetes, TasksMax= of systemd, `ulimit -u`)",
                self.threads
            );
        }
        let memory = memory();
        if let Some(memory) = memory {
            let needed = self.proving_key + LEAST_MEMORY;
            ensure!(
                memory >= needed,
                "there are {} of memory, and the prover alone needs {} or more: raise the limit (mem_limit of Compose, \
                 resources.limits.memory of Kubernetes)",
                HumanBytes(memory),
                HumanBytes(needed)
            );
        }
        let room = room(&self.artifacts)?;
        let memory = memory.map_or_else(String::new, |memory| format!(", {} of memory", HumanBytes(memory)));
        Ok(format!("{files} open files, {} threads wanted{memory}, {room}", self.threads))
    }

    /// What is running out while the daemon runs.
    pub fn failure_reason(&self) -> Option<String> {
        room(&self.artifacts).err().map(|error| format!("{error:#}"))
    }
}

/// Raises the limit on open files as far as we may ourselves. Many systems begin with 1,024 for programs that use `select`.
pub fn raise_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(FILES_WANTED, |most| most.min(FILES_WANTED));
    if current.is_some_and(|now| now < wanted) {
        // `check` tells where it stays too low.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
}

/// # Errors
/// The folder lies on another machine: two daemons there would not see each other's locks, and SQLite's log is not safe.
#[cfg(target_os = "linux")]
pub fn refuse_network(folder: &Path) -> Result<()> {
    let there = nearest_folder(folder)?;
    let kind = rustix::fs::statfs(&there).with_context(|| format!("cannot look at {}", there.display()))?.f_type as u32;
    if let Some(name) = name_of(kind) {
        anyhow::bail!(
            "{} lies on a file system of another machine ({name}), on which a ledger is not safe: set NOVA_ARTIFACTS_PATH to a local \
             disk; witnesses may go to S3 (NOVA_STORAGE_PROVIDER)",
            folder.display()
        );
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub fn refuse_network(_: &Path) -> Result<()> {
    Ok(())
}

fn name_of(kind: u32) -> Option<&'static str> {
    NETWORK_FILE_SYSTEMS.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

fn files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many more processes and threads may run, and what the limit is; `None` where there is none that is told.
fn processes() -> Option<(u64, u64)> {
    let limit = number_in("pids.max")?;
    Some((limit.saturating_sub(number_in("pids.current").unwrap_or(0)), limit))
}

/// Bytes of memory that we may have, as the container's limit says.
fn memory() -> Option<u64> {
    number_in("memory.max")
}

/// A number of our control group (version 2), as containers show it; `None` for `max`, and where there is no such file.
fn number_in(file: &str) -> Option<u64> {
    fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok()?.trim().parse().ok()
}

/// The folder, or the one above it in which it is to be made.
fn nearest_folder(folder: &Path) -> Result<PathBuf> {
    let cannot = || format!("cannot look at {}", folder.display());
    let whole = std::path::absolute(folder).with_context(cannot)?;
    whole.ancestors().find(|above| above.is_dir()).map(Path::to_owned).with_context(cannot)
}

/// Bytes and files that the disk has room for, for a person.
///
/// # Errors
/// If that is too little.
fn room(folder: &Path) -> Result<String> {
    let there = nearest_folder(folder)?;
    let disk = rustix::fs::statvfs(&there).with_context(|| format!("cannot look at {}", there.display()))?;
    let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    let shown = folder.display();
    ensure!(
        bytes >= LEAST_BYTES,
        "the disk of {shown} has {} left: free some, or no request is accepted soon",
        HumanBytes(bytes)
    );
    // Some file systems (btrfs) have no such limit.
    ensure!(
        disk.f_files == 0 || disk.f_favail >= LEAST_INODES,
        "the disk of {shown} has room for {} more files (inodes), whatever `df` says of its bytes; a request takes six: remove files, or \
         move NOVA_ARTIFACTS_PATH to a disk with more (`df -i`)",
        disk.f_favail
    );
    Ok(format!("{} of disk", HumanBytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(threads: u64, proving_key: u64) -> Machine {
        Machine { artifacts: std::env::temp_dir().join("not/there/yet"), threads, proving_key }
    }

    #[test]
    fn what_is_there_is_told() {
        raise_files();
        let told = machine(1, 0).check().unwrap();
        assert!(told.contains("open files") && told.contains("of disk"), "{told}");
        assert_eq!(machine(1, 0).failure_reason(), None);
    }

    #[test]
    fn limits_of_the_container_are_named() {
        for (file, machine, says) in
            [("pids.max", machine(u64::MAX, 0), "pids_limit"), ("memory.max", machine(1, u64::MAX / 2), "mem_limit")]
        {
            let told = machine.check();
            match number_in(file) {
                Some(_) => assert!(told.unwrap_err().to_string().contains(says)),
                None => assert!(told.is_ok(), "{file} sets no limit here"),
            }
        }
    }

    #[test]
    fn file_systems_of_other_machines_are_known() {
        assert_eq!(name_of(0x6969), Some("NFS"));
        assert_eq!(name_of(0xef53), None, "ext4");
        assert!(refuse_network(&std::env::temp_dir().join("not/there")).is_ok());
    }
}
