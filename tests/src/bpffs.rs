//! A BPF file system of a test's own, for what trackers pin, and what is pinned there.

use crate::{
    bpf::{self, Object},
    namespace::require_root,
};
use anyhow::{Context as _, Result, ensure};
use std::{
    collections::BTreeSet,
    ffi::CString,
    fs, io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    process,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

/// Where the mount points are.
const DIRECTORY: &str = "/run";

/// What their names begin with; the number of the process and a number of their own follow.
const PREFIX: &str = "tracker-test-bpf-";

/// A mounted BPF file system, which nothing outlives that is pinned in it.
#[derive(Debug)]
pub struct BpfFs(PathBuf);

impl BpfFs {
    /// Mounts one. Processes that are started from now on see it, in whatever network namespace.
    /// Those of processes that were killed are removed first.
    ///
    /// # Errors
    /// When the system refuses; without root it always does.
    pub fn mount() -> Result<Self> {
        static STALE: Once = Once::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        require_root()?;
        STALE.call_once(remove_stale);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(DIRECTORY).join(format!("{PREFIX}{}-{number}", process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let this = Self(path);
        let target = CString::new(this.0.as_os_str().as_bytes())?;
        let (kind, options) = (c"bpf", c"mode=0700");
        // SAFETY: all pointers are to strings that end with zero and outlive the call.
        let result = unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
        ensure!(result == 0, "cannot mount a BPF file system on {}: {}", this.0.display(), io::Error::last_os_error());
        Ok(this)
    }

    /// A path in it, for `--pin-path`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.0.join("tracker")
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

fn unmount(path: &Path) {
    if let Ok(target) = CString::new(path.as_os_str().as_bytes()) {
        // SAFETY: a string that ends with zero and outlives the call.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
    let _ = fs::remove_dir(path);
}

/// Those of processes that are no more.
fn remove_stale() {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-')).map(|(owner, _)| owner);
        if owner.is_some_and(|owner| owner.parse::<u32>().is_ok() && !Path::new("/proc").join(owner).exists()) {
            unmount(&entry.path());
        }
    }
}

/// Something that is pinned.
///
/// # Errors
/// When nothing is pinned at `path`.
pub fn open(path: &Path) -> Result<(Object, OwnedFd)> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let file = bpf::object(&name).with_context(|| format!("nothing can be opened at {}", path.display()))?;
    let target = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)))?;
    let object = match target.to_str() {
        Some("anon_inode:bpf-map") => Object::Map,
        Some("anon_inode:bpf-prog") => Object::Program,
        _ => Object::Link,
    };
    Ok((object, file))
}

/// Pins something.
///
/// # Errors
/// When the kernel refuses it.
pub fn pin(file: &OwnedFd, path: &Path) -> Result<()> {
    bpf::pin(file, &CString::new(path.as_os_str().as_bytes())?)
}

/// Kinds and numbers of all that is pinned in a directory and those in it.
///
/// # Errors
/// When it cannot be read.
pub fn pinned(directory: &Path) -> Result<BTreeSet<(Object, u32)>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.append(&mut pinned(&entry.path())?);
        } else {
            let (object, file) = open(&entry.path())?;
            found.insert((object, bpf::number(&file, object)?));
        }
    }
    Ok(found)
}
