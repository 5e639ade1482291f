//! A small disk of a test's own: a tmpfs that can be filled up, freed, and made read-only.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// It is unmounted when this is dropped.
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts `mebibytes` of disk at a folder, which is made if it is not there. Needs root, or sudo without password.
    pub fn mount(folder: &Path, mebibytes: usize) -> Self {
        fs::create_dir_all(folder).unwrap();
        let owner = fs::metadata(folder).unwrap();
        let options = format!("size={mebibytes}m,mode=0700,uid={},gid={}", owner.uid(), owner.gid());
        as_root("mount", &["-t", "tmpfs", "-o", &options, "nova-test", &folder.display().to_string()]);
        Self(folder.to_owned())
    }

    /// Writes until there is no byte left.
    pub fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    pub fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    /// Only while no file on it is open for writing.
    pub fn read_only(&self, read_only: bool) {
        let options = if read_only { "remount,ro" } else { "remount,rw" };
        as_root("mount", &["-o", options, &self.0.display().to_string()]);
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        as_root("umount", &["--lazy", &self.0.display().to_string()]);
    }
}

/// Runs a command that only root may run.
fn as_root(program: &str, arguments: &[&str]) {
    let run = |command: &mut Command| {
        let done = command.args(arguments).output().map_err(|error| error.to_string())?;
        if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
    };
    let Err(refused) = run(&mut Command::new(program)) else { return };
    let with_sudo = run(Command::new("sudo").args(["-n", program]));
    if let Err(error) = with_sudo {
        panic!(
            "cannot run {program} {arguments:?}: {refused}; with sudo: {error}. The tests of full disks need root, or sudo \
             without password, and the right to mount (in Docker: --cap-add SYS_ADMIN)"
        );
    }
}
