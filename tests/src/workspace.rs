//! Where things are in this workspace.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Names an object to be used instead of the one embedded in the daemon. Read at run time by the
/// daemon and the tests.
pub const OBJECT_VARIABLE: &str = "TRACKER_EBPF_OBJECT";

/// The workspace root.
pub fn root() -> PathBuf {
    // Cargo sets the variable for `cargo run`, so the tree may be moved or mounted elsewhere after
    // this was built.
    let manifest_dir =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest_dir.parent().expect("every package is a directory of the workspace").to_owned()
}

/// Cargo's target directory.
pub fn target_dir() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        // Cargo takes a relative one as relative to where it was started, and `cargo run` does not
        // change directory.
        Some(dir) => env::current_dir().unwrap_or_else(|_| root()).join(dir),
        None => root().join("target"),
    }
}

/// `path` as it is best shown to a person: relative to the workspace root where possible.
pub fn display(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
