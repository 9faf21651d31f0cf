//! Files of `/proc` and `/sys`, below a directory that tests give.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{fs, os::fd::AsFd as _, path::PathBuf, thread};

/// Where they are.
#[derive(Clone, Debug)]
pub struct Files(PathBuf);

impl Default for Files {
    fn default() -> Self {
        Self("/".into())
    }
}

impl Files {
    /// Below a directory.
    #[must_use]
    pub fn below(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// A path below it.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// What a file holds, without the spaces around it; `None` if it cannot be read.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        // Names of vendors are in any encoding.
        let bytes = fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The number that a file holds.
    #[must_use]
    pub fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// Whether it is there.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// What `look` sees of `/proc/sys/net` in the network namespace of the first process, which shows what
    /// others do not; `None` if this process may not go there.
    pub fn in_the_first_network<T: Send>(&self, look: impl FnOnce(&Self) -> T + Send) -> Option<T> {
        let place = fs::File::open(self.path("/proc/1/ns/net")).ok()?;
        // A thread goes there, so that this one need not come back.
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network)).ok().map(|()| look(self))
            });
            there.join().ok().flatten()
        })
    }

    /// Names in a directory, in order.
    #[must_use]
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }
}

/// Files of a test's own, removed on drop.
#[cfg(test)]
pub struct Staged(PathBuf);

#[cfg(test)]
impl Staged {
    /// These files with what they hold. `name` is the test's own.
    pub fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let directory = std::env::temp_dir().join(format!("tracker-doctor-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        for (path, text) in files {
            let path = directory.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().expect("a directory")).expect("writable");
            fs::write(path, text).expect("writable");
        }
        Self(directory)
    }

    /// The files.
    pub fn files(&self) -> Files {
        Files::below(&self.0)
    }
}

#[cfg(test)]
impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
