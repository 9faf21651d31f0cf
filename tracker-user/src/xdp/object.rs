//! The compiled XDP program.
//!
//! It is committed (`bpf/tracker.bpf.o`, written by `cargo xtask build-ebpf`) and becomes part of
//! the daemon, so that neither building nor running the daemon takes an eBPF toolchain.

use super::system::os_error;
use crate::{store::sizes::Sizes, text::human_bytes};
use anyhow::{Context as _, anyhow};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel, programs::Xdp};
use std::{
    borrow::Cow,
    env, fs,
    path::{Path, PathBuf},
};

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

/// What is loaded.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// The object.
    pub object: &'a [u8],
    /// Sizes of the store's maps.
    pub sizes: &'a Sizes,
    /// Maps that are there already, by their names, and where they are pinned.
    pub pinned: &'a [(&'static str, PathBuf)],
}

/// Makes the maps that are not there yet; the program is not loaded yet.
pub(super) fn open(source: Source<'_>, log: VerifierLogLevel) -> anyhow::Result<Ebpf> {
    let Source { object, sizes, pinned } = source;
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(log);
    let regions = sizes.regions();
    for region in &regions {
        loader.map_max_entries(region.name, region.count);
    }
    for (name, path) in pinned {
        loader.map_pin_path(name, path.as_path());
    }
    let ebpf = loader.load(object).map_err(|error| {
        let advice = match os_error(&error) {
            Some(libc::ENOMEM | libc::E2BIG) => {
                format!(
                    ": its maps take {}, which this machine does not have free; lower --max-torrents and --max-peers",
                    human_bytes(sizes.bytes())
                )
            }
            Some(libc::EPERM) => {
                ": not permitted; in a container the privileges have to be those of the host, and the \
                                  kernel must not be locked down (/sys/kernel/security/lockdown)"
                    .into()
            }
            _ => String::new(),
        };
        anyhow!(error).context(format!("cannot make the maps of the XDP program{advice}"))
    })?;
    Ok(ebpf)
}

/// A program of the object.
pub(super) fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> anyhow::Result<&'e mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| format!("the eBPF object has no program {name}"))?;
    program.try_into().with_context(|| format!("the eBPF object's program {name} is not an XDP program"))
}
