//! The connection key in the state directory: a file of 16 bytes that only the tracker may read.
//!
//! No file there stops the start. One that is no good key is replaced by a new key. One that cannot
//! be replaced is left, and the key is kept in memory only. Both are warned of, because clients
//! have to connect anew then.

use super::{KEY_BYTES, Key, fresh, is_degenerate};
use anyhow::Context as _;
use std::{
    ffi::OsStr,
    fmt,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// The name of the file. While it is written, the number of the process follows the name.
const NAME: &str = "connection.key";

/// How long to wait for another tracker that is using the directory. It needs some milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a file is not used as a key.
enum Unfit {
    Missing,
    NoFile(fs::FileType),
    Unreadable(io::Error),
    Empty,
    Length(u64),
    Guessable,
    Mode(u32),
    Owner(u32),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "is not there"),
            Self::NoFile(kind) => {
                let kind = match kind {
                    kind if kind.is_symlink() => "a symbolic link, which is not followed,",
                    kind if kind.is_dir() => "a directory",
                    kind if kind.is_fifo() => "a FIFO",
                    kind if kind.is_socket() => "a socket",
                    kind if kind.is_block_device() || kind.is_char_device() => "a device",
                    _ => "something",
                };
                write!(f, "is {kind} and no file")
            }
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::Empty => write!(f, "is empty"),
            Self::Length(length) => {
                write!(f, "has {length} bytes where a key of this tracker has exactly {KEY_BYTES} bytes")
            }
            Self::Guessable => write!(f, "is so regular that anybody could guess it"),
            Self::Mode(mode) => write!(f, "could be read or written by others (mode {mode:04o} instead of 0600)"),
            Self::Owner(owner) => write!(f, "belongs to another user (number {owner}), who may know it"),
        }
    }
}

/// The key in `directory`, made there if there is no good one.
///
/// # Errors
/// When the system has no randomness.
pub fn key_in(directory: &Path) -> anyhow::Result<Key> {
    let path = directory.join(NAME);
    let handle = match open_directory(directory) {
        Ok(handle) => handle,
        Err(error) => {
            warn!("the state directory {} cannot be used: {error:#}; {}", directory.display(), InMemory);
            return fresh();
        }
    };
    // Two trackers that are started at once are to have the same key. Until the file is closed:
    lock(&handle, directory);
    remove_stale(directory);
    let unfit = match read(&path) {
        Ok(key) => return Ok(key),
        Err(unfit) => unfit,
    };
    let key = fresh()?;
    match (replace(directory, &handle, &key), unfit) {
        (Ok(()), Unfit::Missing) => info!("made a connection key: {}", path.display()),
        (Ok(()), unfit) => warn!(
            "the connection key {} {unfit}; there is a new one in its place, and clients have to connect anew once",
            path.display()
        ),
        (Err(error), Unfit::Missing) => {
            warn!("the connection key {} cannot be written: {error:#}; {InMemory}", path.display());
        }
        (Err(error), unfit) => warn!(
            "the connection key {} {unfit}, and a new one cannot be put in its place: {error:#}; {InMemory}",
            path.display()
        ),
    }
    Ok(key)
}

/// What it means that no key can be kept, and what to do.
struct InMemory;

impl fmt::Display for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "going on with a key in memory, so clients have to connect anew after each restart until this is put right",
        )
    }
}

/// Opens the directory, made if it is missing.
fn open_directory(directory: &Path) -> anyhow::Result<File> {
    DirBuilder::new().recursive(true).mode(0o755).create(directory).context("it cannot be made")?;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_DIRECTORY | libc::O_NONBLOCK);
    options.open(directory).context("it cannot be opened")
}

/// Locks the directory. If that takes too long, goes on without the lock: two trackers may have two
/// keys then, and the one that was written last is kept.
fn lock(directory: &File, path: &Path) {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match directory.try_lock() {
            Ok(()) => return,
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            Err(TryLockError::WouldBlock) => {
                info!("another process holds the state directory {}; not waiting any longer", path.display());
                return;
            }
            // Some network file systems have no locks.
            Err(TryLockError::Error(_)) => return,
        }
    }
}

/// Removes files of trackers that were killed while they wrote a key. Where the directory can be
/// locked, no other tracker is writing now. Elsewhere, the writer is most likely still a process.
fn remove_stale(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(NAME)?.strip_prefix('.')?.parse::<u32>().ok());
        let Some(number) = number else { continue };
        // The number of the process may be our own by now, which is likely in a container.
        let is_alive = number != std::process::id() && Path::new("/proc").join(number.to_string()).exists();
        let is_file = entry.file_type().is_ok_and(|kind| !kind.is_dir());
        if is_file && !is_alive && fs::remove_file(entry.path()).is_ok() {
            info!("removed {}, which a tracker left behind that was ended too early", entry.path().display());
        }
    }
}

/// The key in a file, if it is one that may be used.
fn read(path: &Path) -> Result<Key, Unfit> {
    let refused = |error: io::Error| match (error.kind(), fs::symlink_metadata(path)) {
        (ErrorKind::NotFound, _) => Unfit::Missing,
        (_, Ok(metadata)) if !metadata.is_file() => Unfit::NoFile(metadata.file_type()),
        _ => Unfit::Unreadable(error),
    };
    let mut options = OpenOptions::new();
    // A FIFO would wait for a writer, and a link could lead anywhere.
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    let mut file = options.open(path).map_err(refused)?;
    let metadata = file.metadata().map_err(Unfit::Unreadable)?;
    if !metadata.is_file() {
        return Err(Unfit::NoFile(metadata.file_type()));
    }
    match metadata.len() {
        0 => return Err(Unfit::Empty),
        length if length != KEY_BYTES as u64 => return Err(Unfit::Length(length)),
        _ => {}
    }
    let mut key = [0; KEY_BYTES];
    file.read_exact(&mut key).map_err(Unfit::Unreadable)?;
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    if mode & 0o077 != 0 {
        return Err(Unfit::Mode(mode));
    }
    let own = rustix::process::geteuid().as_raw();
    if ![own, 0].contains(&owner) {
        return Err(Unfit::Owner(owner));
    }
    if is_degenerate(&key) {
        return Err(Unfit::Guessable);
    }
    Ok(key)
}

/// Puts a key into the file in one step: a reader, also one after a crash of the machine, sees the
/// old key or all of the new one. No other file is left behind.
fn replace(directory: &Path, handle: &File, key: &Key) -> anyhow::Result<()> {
    /// The file under its temporary name, removed on drop.
    struct Temporary(PathBuf);
    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    let path = directory.join(NAME);
    if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
        anyhow::bail!("remove the directory {} first", path.display());
    }
    let name = format!("{NAME}.{}", std::process::id());
    let path_before = directory.join(OsStr::new(&name));
    // `create_new` follows no link.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path_before)
        .with_context(|| format!("cannot make {}", path_before.display()))?;
    let temporary = Temporary(path_before);
    let written = file.write_all(key).and_then(|()| file.sync_all());
    written.with_context(|| format!("cannot write {}", temporary.0.display()))?;
    fs::rename(&temporary.0, &path).with_context(|| format!("cannot rename {}", temporary.0.display()))?;
    std::mem::forget(temporary);
    // Now the name is on the disk as well. Some file systems cannot sync a directory, and need not.
    let _ = handle.sync_all();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    const GOOD: Key = *b"\x8fQ\x02\xee\x91sK\xaa\x10\xfc6\x7f\xd2\x05\xb9D";

    /// A directory of this test's own, removed with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("tracker-keys-{name}-{}", std::process::id())))
        }

        fn with(name: &str, bytes: &[u8], mode: u32) -> Self {
            let directory = Self::new(name);
            fs::create_dir_all(&directory.0).expect("writable");
            let path = directory.0.join(NAME);
            fs::write(&path, bytes).expect("writable");
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own");
            directory
        }

        fn names(&self) -> Vec<std::ffi::OsString> {
            fs::read_dir(&self.0).expect("exists").flatten().map(|entry| entry.file_name()).collect()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn connection_key_survives_a_restart() {
        let directory = Directory::new("restart");
        let first = key_in(&directory.0).expect("made");
        assert_eq!(key_in(&directory.0).expect("read"), first);
        assert_eq!(directory.names(), [NAME], "nothing but the key is left behind");
    }

    #[test]
    fn files_are_used_or_refused_with_a_reason() {
        // (bytes, mode, why it is refused)
        let rows: [(&[u8], u32, Option<&str>); 12] = [
            (&GOOD, 0o600, None),
            (&GOOD, 0o400, None),
            (b"", 0o600, Some("is empty")),
            (b"short", 0o600, Some("has 5 bytes")),
            (&[&GOOD[..], b"\n"].concat(), 0o600, Some("has 17 bytes")),
            (&[7; 100_000], 0o600, Some("has 100000 bytes")),
            (&[0; 16], 0o600, Some("guess")),
            (&[0xaa; 16], 0o600, Some("guess")),
            (&GOOD, 0o640, Some("mode 0640")),
            (&GOOD, 0o604, Some("mode 0604")),
            (&GOOD, 0o620, Some("mode 0620")),
            (&GOOD, 0o666, Some("mode 0666")),
        ];
        for (number, (bytes, mode, reason)) in rows.into_iter().enumerate() {
            let directory = Directory::with(&format!("rows-{number}"), bytes, mode);
            let path = directory.0.join(NAME);
            let said = read(&path).err().map(|unfit| unfit.to_string());
            match reason {
                None => assert_eq!(said, None, "row {number}"),
                Some(reason) => assert!(said.as_ref().is_some_and(|said| said.contains(reason)), "{said:?}: {reason}"),
            }
            let key = key_in(&directory.0).expect("random numbers");
            assert_eq!(key == GOOD, reason.is_none(), "row {number}");
            assert_eq!(fs::read(&path).expect("a key"), key, "row {number}: the key that is used is kept");
            assert_eq!(fs::metadata(&path).expect("a key").mode() & 0o077, 0, "row {number}");
            assert_eq!(directory.names(), [NAME], "row {number}");
        }
    }

    #[test]
    fn links_are_replaced_and_not_followed() {
        let directory = Directory::with("link", &GOOD, 0o600);
        let (path, target) = (directory.0.join(NAME), directory.0.join("target"));
        fs::rename(&path, &target).expect("writable");
        symlink(&target, &path).expect("writable");
        assert!(key_in(&directory.0).expect("random numbers") != GOOD);
        assert_eq!(fs::read(&target).expect("untouched"), GOOD);
        assert!(fs::symlink_metadata(&path).expect("a key").is_file());
    }

    #[test]
    fn leftovers_go_with_their_processes() {
        let directory = Directory::with("stale", &GOOD, 0o600);
        // (what follows the name, whether it stays); 1 is always a process.
        let rows = [(".4194999", false), (".1", true), (".bak", true), (".7x", true), ("", true)];
        let own = format!(".{}", std::process::id());
        for (suffix, _) in rows.iter().chain(&[(own.as_str(), false)]).filter(|(suffix, _)| !suffix.is_empty()) {
            fs::write(directory.0.join(format!("{NAME}{suffix}")), "").expect("writable");
        }
        assert_eq!(key_in(&directory.0).expect("read"), GOOD);
        let mut expected: Vec<_> = rows
            .iter()
            .filter(|(_, stays)| *stays)
            .map(|(suffix, _)| std::ffi::OsString::from(format!("{NAME}{suffix}")))
            .collect();
        let mut names = directory.names();
        names.sort();
        expected.sort();
        assert_eq!(names, expected);
    }

    #[test]
    fn key_that_cannot_be_written_is_one_in_memory() {
        let directory = Directory::new("directory");
        fs::create_dir_all(directory.0.join(NAME).join("x")).expect("writable");
        let first = key_in(&directory.0).expect("random numbers");
        assert!(first != key_in(&directory.0).expect("random numbers"), "nothing is kept");
        assert_eq!(directory.names(), [NAME]);
        // A directory cannot be below a file.
        let file = Directory::with("file", &GOOD, 0o600);
        key_in(&file.0.join(NAME)).expect("random numbers");
        key_in(&file.0.join(NAME).join("below")).expect("random numbers");
        assert_eq!(fs::read(file.0.join(NAME)).expect("untouched"), GOOD);
    }

    #[test]
    fn many_at_once_have_the_same_key() {
        let directory = Directory::new("many");
        let keys: Vec<Key> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| key_in(&directory.0).expect("made"))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        assert_eq!(directory.names(), [NAME]);
    }
}
