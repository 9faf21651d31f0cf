//! The directory of the pins: made, locked, and what is in it.

use super::identity::{self, Identity};
use crate::{store::sizes::STORE_MAPS, xdp::tune};
use anyhow::{Context as _, anyhow};
use rustix::fs::{major, minor, statfs};
use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FILE_SYSTEM: i64 = 0xcafe_4a11;

/// How long to wait for another process that works with the directory: one that was just stopped or
/// killed may take some milliseconds to end.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// What the names of links begin with; a number follows.
const LINK: &str = "link_";

/// What the names of sets of programs begin with; the object's hash follows.
const SET: &str = "programs_";

/// What the names of directories of stores begin with; a number follows, from 1 on.
const STORE: &str = "store_";

/// Why there are no pins.
#[derive(Debug)]
pub enum Failure {
    /// It is not possible here: no BPF file system, or no permission.
    Unusable(anyhow::Error),
    /// It must not be, because of what is there.
    Refused(anyhow::Error),
}

/// A directory of pins, locked for as long as this is there.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Carries the lock.
    handle: File,
}

/// What is in a directory.
#[derive(Debug)]
pub enum Contents {
    /// Nothing of use: nothing at all, or what a daemon has left that was killed while it pinned.
    Incomplete,
    /// A store with its programs.
    Complete(Identity),
}

/// What an entry of the directory is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A map of the store that is pinned in the directory itself.
    Store,
    /// The directory of another one.
    StoreBelow,
    Set,
    Identity,
    Link,
    /// The record of what was tuned.
    Tuned,
    Foreign,
}

impl Entry {
    pub(super) fn of(name: &OsStr) -> Self {
        match name.to_str() {
            Some(identity::NAME) => Self::Identity,
            Some(tune::NAME) => Self::Tuned,
            Some(name) if STORE_MAPS.contains(&name) => Self::Store,
            Some(name) if name.starts_with(SET) => Self::Set,
            Some(name) if name.strip_prefix(STORE).is_some_and(|number| number.parse::<u32>().is_ok()) => {
                Self::StoreBelow
            }
            Some(name) if name.strip_prefix(LINK).is_some_and(|number| number.parse::<u32>().is_ok()) => Self::Link,
            Some(_) | None => Self::Foreign,
        }
    }
}

impl Directory {
    /// Makes the directory if it is missing, locks it, and withholds it from other users.
    ///
    /// # Errors
    /// When that is not possible, another process works with it, or it is not the tracker's.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        check_file_system(path).map_err(Failure::Unusable)?;
        // Again if the one that is locked was removed meanwhile.
        loop {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .with_context(|| format!("cannot make the directory {} for pins", path.display()))
                .map_err(Failure::Unusable)?;
            if let Some(directory) = Self::lock(path)? {
                // Others may work in what is not ours.
                directory.contents().map_err(Failure::Refused)?;
                directory.withhold().map_err(Failure::Unusable)?;
                return Ok(directory);
            }
        }
    }

    /// The directory, locked, if it is there. Nothing of it is changed.
    ///
    /// # Errors
    /// When another process works with it, it cannot be opened, or no pins can be there.
    pub fn existing(path: &Path) -> anyhow::Result<Option<Self>> {
        while path.is_dir() {
            check_file_system(path)?;
            match Self::lock(path) {
                Ok(Some(directory)) => return Ok(Some(directory)),
                Ok(None) => {}
                Err(Failure::Unusable(error) | Failure::Refused(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// `None` if it is there no more.
    fn lock(path: &Path) -> Result<Option<Self>, Failure> {
        let shown = path.display();
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW);
        let handle = match options.open(path) {
            Ok(handle) => handle,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Failure::Unusable(
                    anyhow!(error).context(format!("cannot open the directory {shown} for pins")),
                ));
            }
        };
        let metadata = handle
            .metadata()
            .with_context(|| format!("cannot ask whose the directory {shown} is"))
            .map_err(Failure::Unusable)?;
        // Whoever can write there decides what is taken over.
        let own = rustix::process::geteuid().as_raw();
        if metadata.uid() != own && own != 0 {
            return Err(Failure::Unusable(anyhow!(
                "the directory {shown} for pins belongs to another user (number {}); `chown` it, or name another one with \
                 --pin-path",
                metadata.uid()
            )));
        }
        lock(&handle).map_err(|error| Failure::Refused(error.context(in_use(path, &handle))))?;
        let is_the_same =
            fs::metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == (metadata.dev(), metadata.ino()));
        Ok(is_the_same.then(|| Self { path: path.to_owned(), handle }))
    }

    fn withhold(&self) -> anyhow::Result<()> {
        let cannot = || format!("cannot withhold the directory {} for pins from other users", self.path.display());
        if self.handle.metadata().with_context(cannot)?.mode() & 0o077 != 0 {
            self.handle.set_permissions(Permissions::from_mode(0o700)).with_context(cannot)?;
        }
        Ok(())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What there is by name.
    pub(super) fn entries(&self) -> anyhow::Result<Vec<(PathBuf, Entry)>> {
        let cannot = || format!("cannot list the pins in {}", self.path.display());
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.path).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            entries.push((entry.path(), Entry::of(&entry.file_name())));
        }
        entries.sort_by(|one: &(PathBuf, Entry), other| one.0.cmp(&other.0));
        Ok(entries)
    }

    /// Whether there is nothing at all, so that it may be anybody's.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn is_empty(&self) -> anyhow::Result<bool> {
        Ok(self.entries()?.is_empty())
    }

    /// What is there.
    ///
    /// # Errors
    /// When it is not the tracker's.
    pub fn contents(&self) -> anyhow::Result<Contents> {
        let entries = self.entries()?;
        if entries.iter().any(|(_, entry)| *entry == Entry::Identity) {
            return Identity::read(&self.identity()).map(Contents::Complete).with_context(|| {
                format!("the pins in {} are not a tracker's, or those of a much newer one: name another directory with --pin-path", self.path.display())
            });
        }
        let foreign = entries.iter().find(|(_, entry)| *entry == Entry::Foreign);
        if let Some((path, _)) = foreign {
            anyhow::bail!(
                "{} is not the tracker's: name an empty directory, or one that is not there yet, with --pin-path",
                path.display()
            );
        }
        Ok(Contents::Incomplete)
    }

    /// Where the maps of the store are pinned.
    pub(in crate::xdp) fn store(&self, identity: &Identity) -> PathBuf {
        store_below(&self.path, identity)
    }

    /// Where the set of programs is pinned.
    pub(in crate::xdp) fn set(&self, identity: &Identity) -> PathBuf {
        set_below(&self.path, identity)
    }

    /// Where the record is pinned.
    pub(super) fn identity(&self) -> PathBuf {
        self.path.join(identity::NAME)
    }

    /// Where the record of what was tuned is pinned.
    pub(in crate::xdp) fn tuned(&self) -> PathBuf {
        self.path.join(tune::NAME)
    }

    /// A name for a link that is not taken.
    pub(in crate::xdp) fn free_link(&self) -> PathBuf {
        let path = |number: u32| self.path.join(format!("{LINK}{number}"));
        (0..).map(path).find(|path| !path.exists()).expect("there are not so many links")
    }

    /// Where the pinned links are.
    pub(in crate::xdp) fn links(&self) -> anyhow::Result<Vec<PathBuf>> {
        let links = self.entries()?.into_iter().filter(|(_, entry)| *entry == Entry::Link);
        Ok(links.map(|(path, _)| path).collect())
    }
}

/// Where the maps of the store in use are that a tracker has pinned in `path`: for whoever looks at
/// them without the lock.
#[must_use]
pub fn store_in(path: &Path) -> PathBuf {
    Identity::read(&path.join(identity::NAME)).map_or_else(|_| path.to_owned(), |identity| store_below(path, &identity))
}

/// Where the set of programs in use is that a tracker has pinned in `path`, likewise.
///
/// # Errors
/// When none is.
pub(in crate::xdp) fn set_in(path: &Path) -> anyhow::Result<PathBuf> {
    Identity::read(&path.join(identity::NAME)).map(|identity| set_below(path, &identity))
}

fn set_below(path: &Path, identity: &Identity) -> PathBuf {
    let mut name = SET.to_owned();
    for byte in identity.object {
        let _infallible = write!(name, "{byte:02x}");
    }
    // The same object with another store is another set.
    if identity.store != 0 {
        let _infallible = write!(name, "_{}", identity.store);
    }
    path.join(name)
}

fn store_below(path: &Path, identity: &Identity) -> PathBuf {
    match identity.store {
        0 => path.to_owned(),
        number => path.join(format!("{STORE}{number}")),
    }
}

/// Makes sure that pins can be where `path` is, or will be.
fn check_file_system(path: &Path) -> anyhow::Result<()> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let kind = statfs(there).with_context(|| format!("cannot ask what file system {} is on", there.display()))?;
    if kind.f_type == BPF_FILE_SYSTEM {
        return Ok(());
    }
    let mount = if path.starts_with("/sys/fs/bpf") { Path::new("/sys/fs/bpf") } else { path.parent().unwrap_or(path) };
    Err(anyhow!(
        "{} is not on a BPF file system, which pins need; `sudo mount -t bpf bpf {}` mounts one",
        path.display(),
        mount.display()
    ))
}

/// Locks the directory.
fn lock(directory: &File) -> anyhow::Result<()> {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            Err(TryLockError::WouldBlock) => return Err(io::Error::from(ErrorKind::WouldBlock).into()),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
}

/// Who works with a directory, for people.
fn in_use(path: &Path, directory: &File) -> String {
    let holder = directory.metadata().ok().and_then(|directory| {
        let file = format!("{:02x}:{:02x}:{}", major(directory.dev()), minor(directory.dev()), directory.ino());
        holder(&fs::read_to_string("/proc/locks").unwrap_or_default(), &file)
    });
    let who = holder.map_or_else(|| "another process".into(), |process| format!("process {process}"));
    format!(
        "{who} works with the pins in {}: only one tracker can. Stop it first, or name another directory with --pin-path",
        path.display()
    )
}

/// The process that has locked a file, which is given as device and number, from `/proc/locks`.
fn holder(locks: &str, file: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (kind, process) = (fields.next()?, fields.nth(2)?);
        (kind == "FLOCK" && fields.next()? == file).then(|| process.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_known_by_their_names() {
        for (name, entry) in [
            ("SETTINGS", Entry::Store),
            ("CHUNKS_V6", Entry::Store),
            ("IDENTITY", Entry::Identity),
            ("programs_0123", Entry::Set),
            ("TUNED", Entry::Tuned),
            ("link_0", Entry::Link),
            ("link_17", Entry::Link),
            ("link_", Entry::Foreign),
            ("link_x", Entry::Foreign),
            ("store_1", Entry::StoreBelow),
            ("store_12", Entry::StoreBelow),
            ("store_", Entry::Foreign),
            ("store_x", Entry::Foreign),
            ("SCRATCH", Entry::Foreign),
            ("settings", Entry::Foreign),
            ("other", Entry::Foreign),
        ] {
            assert_eq!(Entry::of(OsStr::new(name)), entry, "{name}");
        }
    }

    #[test]
    fn holder_of_a_lock_is_found_by_the_file() {
        let locks = "1: FLOCK  ADVISORY  WRITE 812 00:2b:17 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 813 00:2b:18 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 815 00:2b:18 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 814 00:2b:18 0 EOF\n";
        for (file, process) in [("00:2b:17", Some(812)), ("00:2b:18", Some(814)), ("00:2b:1", None), ("", None)] {
            assert_eq!(holder(locks, file), process, "{file}");
        }
    }

    #[test]
    fn a_directory_that_is_not_on_a_bpf_file_system_is_refused_with_the_command() {
        let path = std::env::temp_dir().join("no-pins-here/tracker");
        let Err(Failure::Unusable(error)) = Directory::open(&path) else { panic!("that is no BPF file system") };
        assert!(format!("{error:#}").contains("mount -t bpf bpf"), "{error:#}");
        assert!(!path.exists(), "nothing is made");
        assert!(Directory::existing(&path).expect("nothing there").is_none());
    }

    #[test]
    fn directories_elsewhere_stay_as_they_are() {
        let path = std::env::temp_dir().join(format!("tracker-no-pins-{}", std::process::id()));
        DirBuilder::new().create(&path).expect("writable");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("ours");
        let error = format!("{:#}", Directory::existing(&path).expect_err("no BPF file system"));
        assert!(error.contains("not on a BPF file system"), "{error}");
        let Err(Failure::Unusable(_)) = Directory::open(&path) else { panic!("that is no BPF file system") };
        assert_eq!(fs::metadata(&path).expect("still there").mode() & 0o7777, 0o755);
        fs::remove_dir(&path).expect("empty");
    }
}
