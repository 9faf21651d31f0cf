//! The compiled XDP program.
//!
//! It is committed (`bpf/tracker.bpf.o`, written by `cargo xtask build-ebpf`) and becomes part of
//! the daemon, so that neither building nor running the daemon takes an eBPF toolchain.

use std::{borrow::Cow, env, fs, path::Path};

use anyhow::Context as _;

/// The environment variable that names another object to be loaded instead of the embedded one: for
/// trying out a change of the XDP program, and for tests.
pub const VARIABLE: &str = "TRACKER_EBPF_OBJECT";

static EMBEDDED: &[u8] = aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/tracker.bpf.o"));

/// The object to load: the file that [`VARIABLE`] names, if it names one, else the embedded object.
pub fn object() -> anyhow::Result<Cow<'static, [u8]>> {
    let Some(path) = env::var_os(VARIABLE) else { return Ok(Cow::Borrowed(EMBEDDED)) };
    let path = Path::new(&path);
    let object = fs::read(path).with_context(|| {
        format!(
            "cannot read the eBPF object {}, which {VARIABLE} names (unset it to use the embedded one)",
            path.display()
        )
    })?;
    Ok(Cow::Owned(object))
}
