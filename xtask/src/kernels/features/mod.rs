//! Which kernel an object needs, as far as that can be read in the object itself: helpers, kernel
//! functions, types and flags of maps, kinds of instructions, kinds of types in its BTF.
//!
//! This says nothing about what a verifier understands; that is what the guests are for. But it
//! needs no kernel, so it is a test that runs everywhere, and it names what is too new, which a
//! verifier's log does not ("invalid func unknown#…").
//!
//! The versions of helpers, map types and flags are those of `data/feature-versions.yaml` of the
//! eBPF documentation (<https://github.com/isovalent/ebpf-docs>), which names the commit of each;
//! of instructions and calls, those of its pages and of the kernel's
//! `Documentation/bpf/standardization/instruction-set.rst`.

mod btf;
mod elf;
mod helpers;
mod instructions;
mod maps;
mod set;

use std::path::Path;

use anyhow::Context as _;

pub use self::set::{Features, Version};

/// The oldest kernel that the documentation promises. The daemon refuses to load the program into
/// an older one.
pub const MINIMUM: Version = Version::new(6, 1);

/// What an object uses, read from its ELF file.
///
/// # Errors
/// When it cannot be read as one for BPF.
fn read(elf: &[u8]) -> anyhow::Result<Features> {
    let object = elf::Object::parse(elf)?;
    let mut features = Features::default();
    for section in &object.code {
        instructions::read(section, &mut features)?;
    }
    if features.known.contains_key(helpers::TAIL_CALL) && features.known.contains_key(instructions::SUBPROGRAM) {
        features.add("a tail call from an object with functions", Version::new(5, 10));
    }
    maps::read(elf, &mut features)?;
    if let Some(types) = object.btf {
        btf::read(types, &mut features)?;
    }
    if object.has_fragments {
        features.add("an XDP program for packets in fragments", Version::new(5, 18));
    }
    Ok(features)
}

/// Prints which kernel the object at `path` needs.
///
/// # Errors
/// When that is a newer one than the documentation promises.
pub fn check(path: &Path) -> anyhow::Result<()> {
    let elf = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let features = read(&elf).with_context(|| format!("cannot tell what {} uses", path.display()))?;
    if let Some((version, names)) = features.oldest() {
        println!("the object uses nothing newer than Linux {version}: {}", names.join(", "));
    }
    features.ensure_in(MINIMUM)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{ebpf_package::EbpfPackage, workspace};

    #[test]
    fn committed_object_uses_nothing_newer_than_the_documented_minimum() {
        let elf = fs::read(EbpfPackage::TrackerEbpf.committed_object()).unwrap();
        let features = read(&elf).unwrap();
        features.ensure_in(MINIMUM).unwrap();
        // That it was read at all: what every version of the program needs.
        for name in [
            "bpf_xdp_adjust_tail",
            "bpf_ringbuf_reserve",
            helpers::TAIL_CALL,
            "BPF_MAP_TYPE_PROG_ARRAY",
            "BPF_MAP_TYPE_RINGBUF",
            "BPF_F_MMAPABLE",
        ] {
            assert!(features.known.contains_key(name), "{name} is not among {:?}", features.known);
        }
        assert!(features.ensure_in(Version::new(4, 18)).is_err());
    }

    #[test]
    fn minimum_is_the_same_in_the_documentation_and_in_the_daemon() {
        let Version { major, minor } = MINIMUM;
        for (file, words) in [
            ("docs/operation/requirements.md", format!("| {major}.{minor} or newer; checked at the start |")),
            (
                "tracker-user/src/xdp/system.rs",
                format!("OLDEST_KERNEL: KernelVersion = KernelVersion::new({major}, {minor}, 0)"),
            ),
        ] {
            let text = fs::read_to_string(workspace::root().join(file)).unwrap();
            assert!(text.contains(&words), "{file} does not say {words:?}");
        }
    }
}
