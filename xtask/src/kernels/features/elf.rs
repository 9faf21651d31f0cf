//! The parts of an ELF object that tell what it needs.

use anyhow::{Context as _, ensure};
use object::{
    LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionFlags, SectionIndex,
    SymbolIndex,
    elf::{self, FileHeader64},
    read::elf::ElfFile,
};

/// Code and types of an object.
pub struct Object<'data> {
    pub code: Vec<Code<'data>>,
    pub btf: Option<&'data [u8]>,
    /// Whether a program takes packets that lie in several buffers.
    pub has_fragments: bool,
}

/// A section of instructions.
pub struct Code<'data> {
    pub instructions: &'data [u8],
    /// What the loader writes into instructions, by their offsets.
    pub relocations: Vec<(u64, Target)>,
}

/// What an instruction will refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A function or a program.
    Code,
    /// A map that is named by its file descriptor.
    Map,
    /// A section of data, which becomes a map whose value is addressed.
    Data,
    /// Something that only the kernel has.
    External,
}

impl<'data> Object<'data> {
    pub fn parse(bytes: &'data [u8]) -> anyhow::Result<Self> {
        let file: ElfFile<'data, FileHeader64<LittleEndian>> =
            ElfFile::parse(bytes).context("cannot read it as a 64-bit little-endian ELF object")?;
        ensure!(
            file.elf_header().e_machine.get(LittleEndian) == elf::EM_BPF,
            "it is an ELF object for another machine than BPF"
        );
        let (mut code, mut btf, mut has_fragments) = (Vec::new(), None, false);
        for section in file.sections() {
            let name = section.name().context("a section's name cannot be read")?;
            if name == ".BTF" {
                btf = Some(section.data()?);
            }
            if !is_code(section.flags()) {
                continue;
            }
            has_fragments |= name == "xdp.frags" || name.starts_with("xdp.frags/");
            let relocations = section.relocations().map(|(at, relocation)| {
                let RelocationTarget::Symbol(symbol) = relocation.target() else {
                    return Ok((at, Target::External));
                };
                Ok((at, target(&file, symbol)?))
            });
            code.push(Code {
                instructions: section.data().with_context(|| format!("cannot read section {name}"))?,
                relocations: relocations.collect::<anyhow::Result<_>>()?,
            });
        }
        Ok(Self { code, btf, has_fragments })
    }
}

fn is_code(flags: SectionFlags) -> bool {
    matches!(flags, SectionFlags::Elf { sh_flags } if sh_flags & u64::from(elf::SHF_EXECINSTR) != 0)
}

fn target(file: &ElfFile<'_, FileHeader64<LittleEndian>>, symbol: SymbolIndex) -> anyhow::Result<Target> {
    let symbol = file.symbol_by_index(symbol).context("a relocation names a symbol that is not there")?;
    let Some(SectionIndex(index)) = symbol.section_index() else { return Ok(Target::External) };
    let section = file.section_by_index(SectionIndex(index)).context("a symbol is in a section that is not there")?;
    let name = section.name().context("a section's name cannot be read")?;
    Ok(match name {
        _ if is_code(section.flags()) => Target::Code,
        "maps" | ".maps" => Target::Map,
        _ => Target::Data,
    })
}
