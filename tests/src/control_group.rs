//! Control groups with a limit of memory.

use anyhow::{Context as _, Result};
use std::{
    ffi::CString,
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// How long the last process of a group may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// A control group with a limit of memory, below that of this process; removed on drop.
#[derive(Debug)]
pub struct ControlGroup {
    directory: PathBuf,
    /// Where the kernel says how much it was at most.
    peak: &'static str,
}

impl ControlGroup {
    /// Makes one, with a limit in bytes.
    ///
    /// # Errors
    /// When there are no control groups, memory is not controlled, or without root.
    pub fn new(limit: u64) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let own = fs::read_to_string("/proc/self/cgroup").context("no control groups")?;
        let version_1 = own.lines().find_map(|line| line.split_once(":memory:").map(|(_, path)| path));
        let (parent, file, peak) = match version_1 {
            Some(path) => (
                Path::new("/sys/fs/cgroup/memory").join(path.trim_start_matches('/')),
                "memory.limit_in_bytes",
                "memory.max_usage_in_bytes",
            ),
            // A group of version 2 that has processes gives no limits to those below it, except the
            // first one.
            None => (PathBuf::from("/sys/fs/cgroup"), "memory.max", "memory.peak"),
        };
        let name = format!("tracker-test-{}-{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let directory = parent.join(name);
        fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let group = Self { directory, peak };
        fs::write(group.directory.join(file), limit.to_string()).context("memory is not controlled")?;
        Ok(group)
    }

    /// Starts the command in this group.
    ///
    /// # Panics
    /// When the path of the group has a zero byte.
    pub fn join(&self, command: &mut Command) {
        let processes = self.directory.join("cgroup.procs").into_os_string().into_encoded_bytes();
        let path = CString::new(processes).expect("no zero");
        // SAFETY: between fork and exec only system calls are made, on memory that the child has a
        // copy of.
        unsafe {
            command.pre_exec(move || {
                let file = libc::open(path.as_ptr(), libc::O_WRONLY);
                let written = libc::write(file, c"0".as_ptr().cast(), 1);
                libc::close(file);
                if written == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
            });
        }
    }

    /// The most memory that the group has had so far, in bytes, if the kernel says that.
    #[must_use]
    pub fn peak(&self) -> Option<u64> {
        fs::read_to_string(self.directory.join(self.peak)).ok()?.trim().parse().ok()
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // The last process may be on its way out.
        let deadline = Instant::now() + PATIENCE;
        while fs::remove_dir(&self.directory).is_err() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(50));
        }
    }
}
