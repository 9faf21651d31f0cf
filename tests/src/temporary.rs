//! Directories and files of a test's own, in the system's directory for such, removed on drop.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
};

fn path(name: &str) -> PathBuf {
    env::temp_dir().join(format!("tracker-test-{name}-{}", process::id()))
}

/// A directory.
#[derive(Debug)]
pub struct Directory(pub PathBuf);

impl Directory {
    /// An empty one of this name, which no other test of the process uses.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let path = path(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    /// Where something in it is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file, which need not be there.
#[derive(Debug)]
pub struct File(PathBuf);

impl File {
    /// One of this name, which no other test of the process uses.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(path(name))
    }

    /// Writes all of it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, text: &str) {
        fs::write(&self.0, text).expect("writable");
    }

    /// Where it is.
    ///
    /// # Panics
    /// When the system's directory is not named in UTF-8.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl AsRef<Path> for File {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
