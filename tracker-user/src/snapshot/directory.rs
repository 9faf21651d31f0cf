//! The state directory as snapshots use it: who may write, files that are set aside, and a new file
//! in place of the old one.

use super::{NAME, path_in, wall_clock};
use anyhow::Context as _;
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

/// Held by whoever writes snapshots, as long as he does.
const LOCK_NAME: &str = "swarms.lock";

/// Files set aside that are kept.
const ASIDE: usize = 3;

/// What a file's name goes on with when it is set aside; a time follows.
const ASIDE_SUFFIX: &str = ".aside-";

/// What it goes on with while it is written.
const NEW_SUFFIX: &str = ".new";

fn with_suffix(directory: &Path, suffix: &str) -> PathBuf {
    directory.join(format!("{NAME}{suffix}"))
}

/// The right to write snapshots into a directory; one process has it at a time.
pub struct Claim(#[expect(dead_code, reason = "the lock ends when it is closed")] File);

/// Claims the directory; `None` if somebody else has.
///
/// # Errors
/// When there is no such directory, or it cannot be written to.
pub fn claim(directory: &Path) -> anyhow::Result<Option<Claim>> {
    let path = directory.join(LOCK_NAME);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    own_as_directory(&file, directory);
    match file.try_lock() {
        // What a process has left behind that was killed meanwhile.
        Ok(()) => {
            let _ = fs::remove_file(with_suffix(directory, NEW_SUFFIX));
            Ok(Some(Claim(file)))
        }
        Err(TryLockError::WouldBlock) => Ok(None),
        // Some network file systems have no locks.
        Err(TryLockError::Error(_)) => Ok(Some(Claim(file))),
    }
}

/// A file that root makes is to be read by the tracker, which may be another user.
fn own_as_directory(file: &File, directory: &Path) {
    if rustix::process::geteuid().is_root()
        && let Ok(metadata) = fs::metadata(directory)
        && metadata.uid() != 0
    {
        let _ = fchown(file, Some(metadata.uid()), Some(metadata.gid()));
    }
}

/// Opens the snapshot in the directory for reading.
///
/// # Errors
/// `Ok(None)` if there is none; else why it is not to be read.
pub fn open(directory: &Path) -> Result<Option<File>, String> {
    let path = path_in(directory);
    let refused = |error: io::Error| match (error.kind(), fs::symlink_metadata(&path)) {
        (_, Ok(metadata)) if metadata.is_symlink() => "is a symbolic link, which is not followed".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let mut options = OpenOptions::new();
    // A FIFO would wait for a writer, and a link could lead anywhere.
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = match options.open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.map_err(refused)?,
    };
    let metadata = file.metadata().map_err(refused)?;
    if !metadata.is_file() {
        return Err("is no file".into());
    }
    let own = rustix::process::geteuid().as_raw();
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    if ![own, 0].contains(&owner) && own != 0 {
        return Err(format!("belongs to another user (number {owner}), who may have made it up"));
    }
    if mode & 0o022 != 0 {
        return Err(format!("could be written by others (mode {mode:04o} instead of 0600)"));
    }
    Ok(Some(file))
}

/// Renames the snapshot, so that no new one takes its place, and removes the oldest of those that
/// were set aside before. Returns its new name.
///
/// # Errors
/// When it cannot be renamed.
pub fn set_aside(directory: &Path) -> anyhow::Result<PathBuf> {
    let name = |time: u64| with_suffix(directory, &format!("{ASIDE_SUFFIX}{time}"));
    let mut times = times_aside(directory);
    // Later than all others, or it would be the first to go.
    let time = times.iter().map(|time| time.saturating_add(1)).fold(wall_clock(), u64::max);
    fs::rename(path_in(directory), name(time))
        .with_context(|| format!("cannot rename it to {}", name(time).display()))?;
    times.push(time);
    times.sort_unstable();
    for old in times.iter().rev().skip(ASIDE) {
        let _ = fs::remove_file(name(*old));
    }
    Ok(name(time))
}

fn times_aside(directory: &Path) -> Vec<u64> {
    let prefix = format!("{NAME}{ASIDE_SUFFIX}");
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok()).collect()
}

/// Writes a file that takes the place of the snapshot in one step: whoever reads it, also after a
/// crash of the machine, reads the old one or all of the new one. `write` returns `None` to give
/// up. The directory is claimed.
///
/// # Errors
/// When it cannot be written; the old file is there then, and nothing else is left.
pub fn replace<T>(
    directory: &Path,
    _claim: &Claim,
    write: impl FnOnce(&mut File) -> io::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    /// The file under its temporary name, removed on drop.
    struct Temporary(PathBuf);
    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    let path = path_in(directory);
    let temporary = with_suffix(directory, NEW_SUFFIX);
    let _ = fs::remove_file(&temporary);
    // `create_new` follows no link.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .with_context(|| format!("cannot make {}", temporary.display()))?;
    let temporary = Temporary(temporary);
    own_as_directory(&file, directory);
    let written = write(&mut file).with_context(|| format!("cannot write {}", temporary.0.display()))?;
    let Some(written) = written else { return Ok(None) };
    file.sync_all().with_context(|| format!("cannot write {}", temporary.0.display()))?;
    fs::rename(&temporary.0, &path).with_context(|| format!("cannot rename {}", temporary.0.display()))?;
    std::mem::forget(temporary);
    // Now the name is on the disk as well. Some file systems cannot sync a directory, and need not.
    if let Ok(directory) = File::open(directory) {
        let _ = directory.sync_all();
    }
    Ok(Some(written))
}
