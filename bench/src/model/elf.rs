//! A compiled BPF object: its instructions with everything the loader would have filled in, its
//! maps, its functions, and which source line each instruction comes from.
//!
//! All code sections lie one behind the other in one list, and a place in it is a *pc*. So a call
//! is a number like a jump is, and what a function costs is counted once for all its callers.

use std::collections::HashMap;

use anyhow::{Context as _, anyhow, bail, ensure};
use object::{
    LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex, SymbolKind,
    elf::{self, FileHeader64},
    read::elf::ElfFile,
};

use super::{
    instruction::{CALL, Instruction, LOAD_WIDE, PSEUDO_CALL},
    lines::Lines,
    memory::{self, MapDefinition},
};

/// Bytes of an instruction in the object.
const INSTRUCTION_BYTES: usize = 8;
/// The section of maps as `aya_ebpf` declares them, each a record of seven words: type, sizes of
/// key and value, number of elements, flags, and two that nothing here needs.
const MAPS: &str = "maps";
const MAP_RECORD: usize = 28;

pub struct Image {
    pub code: Vec<Instruction>,
    pub maps: Vec<MapDefinition>,
    /// Names of functions and programs, by where they begin.
    pub functions: HashMap<String, usize>,
    pub lines: Lines,
}

type Elf<'data> = ElfFile<'data, FileHeader64<LittleEndian>>;

impl Image {
    pub fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let file: Elf = ElfFile::parse(bytes).context("cannot read it as a 64-bit little-endian ELF object")?;
        ensure!(
            file.elf_header().e_machine.get(LittleEndian) == elf::EM_BPF,
            "it is an ELF object for another machine than BPF"
        );
        let (maps, map_of) = maps(&file)?;
        let mut image = Self { code: Vec::new(), maps, functions: HashMap::new(), lines: Lines::default() };

        // Sections of code, and where each begins.
        let mut bases = HashMap::new();
        let mut names = HashMap::new();
        for section in file.sections() {
            let flags = section.flags();
            let is_code = matches!(flags, object::SectionFlags::Elf { sh_flags } if sh_flags & u64::from(elf::SHF_EXECINSTR) != 0);
            if !is_code {
                continue;
            }
            let base = image.code.len();
            let data = section.data()?;
            ensure!(data.len().is_multiple_of(INSTRUCTION_BYTES), "a section of code does not hold whole instructions");
            image.code.extend(data.chunks_exact(INSTRUCTION_BYTES).map(Instruction::decode));
            bases.insert(section.index(), base);
            names.insert(section.name()?.to_owned(), base);
        }
        for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
            if let Some(base) = symbol.section_index().and_then(|section| bases.get(&section)) {
                image.functions.insert(symbol.name()?.to_owned(), base + symbol.address() as usize / INSTRUCTION_BYTES);
            }
        }
        image.resolve_wide();
        for section in file.sections() {
            let Some(&base) = bases.get(&section.index()) else { continue };
            for (at, relocation) in section.relocations() {
                let RelocationTarget::Symbol(symbol) = relocation.target() else {
                    bail!("a relocation without a symbol")
                };
                let symbol = file.symbol_by_index(symbol)?;
                let target = symbol.section_index().context("an instruction refers to what is not in the object")?;
                let pc = base + at as usize / INSTRUCTION_BYTES;
                let place = Place { section: target, offset: symbol.address() };
                image.relocate(pc, place, &bases, &map_of).with_context(|| {
                    format!("cannot resolve `{}` at instruction {pc}", symbol.name().unwrap_or("a section"))
                })?;
            }
        }
        let section = |name| file.section_by_name(name).and_then(|section| section.data().ok());
        if let (Some(types), Some(extended)) = (section(".BTF"), section(".BTF.ext")) {
            image.lines = Lines::parse(types, extended, &names).context("cannot read the object's line information")?;
        }
        Ok(image)
    }

    /// Gives instructions of two words their whole number.
    fn resolve_wide(&mut self) {
        for pc in 1..self.code.len() {
            let high = self.code[pc].immediate;
            let low = &mut self.code[pc - 1];
            if low.opcode == LOAD_WIDE {
                low.immediate = (low.immediate & 0xffff_ffff) | (high << 32);
            }
        }
    }

    fn relocate(
        &mut self,
        pc: usize,
        place: Place,
        bases: &HashMap<SectionIndex, usize>,
        maps: &HashMap<(SectionIndex, u64), usize>,
    ) -> anyhow::Result<()> {
        let code = self.code.len();
        let instruction = self.code.get_mut(pc).context("it is not in the code")?;
        let addend = instruction.immediate;
        instruction.immediate = match (instruction.opcode, bases.get(&place.section)) {
            // A function that is called: relative to the instruction behind the call. The addend is
            // -1, or the distance from the section's beginning.
            (CALL, Some(base)) if instruction.source == PSEUDO_CALL => {
                let target = *base as i64 + place.offset as i64 / INSTRUCTION_BYTES as i64 + addend + 1;
                ensure!((0..code as i64).contains(&target), "it leads out of the code");
                target - (pc as i64 + 1)
            }
            // A function whose address is taken.
            (LOAD_WIDE, Some(base)) => *base as i64 + (place.offset as i64 + addend) / INSTRUCTION_BYTES as i64,
            // A map, or a place in a section of constants.
            (LOAD_WIDE, None) => match maps.get(&(place.section, place.offset)) {
                Some(&map) if self.maps[map].contents.is_none() => memory::map_pointer(map) as i64,
                _ => {
                    let map = maps.get(&(place.section, 0)).context("it is no map")?;
                    memory::value_address(*map) as i64 + place.offset as i64 + addend
                }
            },
            _ => bail!("no instruction of that kind refers to a symbol"),
        };
        Ok(())
    }

    /// Where a function or a program begins.
    pub fn function(&self, name: &str) -> anyhow::Result<usize> {
        self.functions.get(name).copied().with_context(|| format!("the object has no program {name}"))
    }

    /// The function that an instruction is in.
    pub fn function_at(&self, pc: usize) -> &str {
        let before = self.functions.iter().filter(|(_, begin)| **begin <= pc);
        before.max_by_key(|(_, begin)| **begin).map_or("?", |(name, _)| name)
    }
}

/// What a symbol stands for.
struct Place {
    section: SectionIndex,
    offset: u64,
}

/// Maps in the order of their names, and which is at which place.
type Maps = (Vec<MapDefinition>, HashMap<(SectionIndex, u64), usize>);

fn maps(file: &Elf<'_>) -> anyhow::Result<Maps> {
    let mut found = Vec::new();
    for section in file.sections() {
        let name = section.name()?;
        if name == MAPS {
            let data = section.data()?;
            for symbol in file.symbols().filter(|symbol| symbol.section_index() == Some(section.index())) {
                if symbol.kind() != SymbolKind::Data {
                    continue;
                }
                let record = data
                    .get(symbol.address() as usize..)
                    .and_then(|record| record.get(..MAP_RECORD))
                    .ok_or_else(|| anyhow!("a map's record is cut off"))?;
                let word = |number: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| record[4 * number + byte]));
                let definition = MapDefinition {
                    name: symbol.name()?.to_owned(),
                    kind: word(0),
                    value_bytes: word(2),
                    entries: word(3),
                    contents: None,
                };
                found.push(((section.index(), symbol.address()), definition));
            }
        } else if name.starts_with(".rodata") || name.starts_with(".data") || name.starts_with(".bss") {
            let contents = section.data()?.to_vec();
            let value_bytes = u32::try_from(contents.len())?;
            let definition =
                MapDefinition { name: name.to_owned(), kind: 2, value_bytes, entries: 1, contents: Some(contents) };
            found.push(((section.index(), 0), definition));
        }
    }
    ensure!(!found.is_empty(), "it declares no maps in a section `{MAPS}`");
    found.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
    let places = found.iter().enumerate().map(|(number, (place, _))| (*place, number)).collect();
    Ok((found.into_iter().map(|(_, map)| map).collect(), places))
}
