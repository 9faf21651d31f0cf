//! Turning what the linker wrote into the object that is committed.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use object::{
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

/// Removes the DWARF from an ELF object; code, maps, BTF and .BTF.ext stay. DWARF is two thirds of
/// the object, and the kernel has no use for it.
pub fn without_dwarf(elf: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut builder = Builder::read64(elf).context("cannot read what bpf-linker wrote as a 64-bit ELF object")?;
    for section in &mut builder.sections {
        let name = section.name.to_string();
        if name.starts_with(".debug_") || name.starts_with(".rel.debug_") {
            section.delete = true;
        }
    }
    // LLVM keeps the names of sections and of symbols in one table; the writer wants a table for
    // each.
    if !builder.sections.iter().any(|section| matches!(section.data, SectionData::SectionString)) {
        let names = builder.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("cannot write the object without its DWARF")?;
    Ok(stripped)
}

/// Fails when one of `paths` can be read in the object: it would tell where it was built, and
/// differ from machine to machine.
pub fn ensure_without_paths(object: &[u8], paths: impl IntoIterator<Item = PathBuf>) -> anyhow::Result<()> {
    for path in paths {
        if let Some(at) = find_path(object, path.as_os_str().as_encoded_bytes()) {
            let end = object[at..].iter().position(|&byte| byte == 0).map_or(object.len(), |length| at + length);
            bail!(
                "the object names a path of this machine, `{}`: add its prefix to remapped_paths in \
                 xtask/src/ebpf_cargo.rs",
                String::from_utf8_lossy(&object[at..end])
            );
        }
    }
    Ok(())
}

/// Where `path` stands in `bytes` as the beginning of a path: `/src` is not found in
/// `./tracker-ebpf/src`, nor in `/srcs`.
fn find_path(bytes: &[u8], path: &[u8]) -> Option<usize> {
    let is_part_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    bytes.windows(path.len()).enumerate().position(|(at, window)| {
        let before = at.checked_sub(1).map(|before| bytes[before]);
        let after = bytes.get(at + path.len()).copied();
        window == path && !before.is_some_and(is_part_of_name) && !after.is_some_and(is_part_of_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_the_object_is_found() {
        let object = b"\x7fELF\0./tracker-ebpf/src/main.rs\0/home/somebody/tracker/main.rs\0";
        assert!(ensure_without_paths(object, ["/home/somebody".into()]).is_err());
        assert!(ensure_without_paths(object, ["/usr/src".into(), "/src".into(), "/home/some".into()]).is_ok());
    }
}
