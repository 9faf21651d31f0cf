//! A program and its maps, as they stand in an object.

use std::collections::HashSet;

use anyhow::{Context as _, ensure};
use aya_obj::generated::bpf_insn;

use super::instruction::Instruction;

/// A program for a card.
pub struct Offloaded {
    pub instructions: Vec<Instruction>,
    /// Instructions name them by their numbers here.
    pub maps: Vec<Map>,
}

/// A map of it.
pub struct Map {
    pub name: String,
    /// `enum bpf_map_type` of linux/bpf.h.
    pub kind: u32,
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    pub flags: u32,
}

impl Offloaded {
    /// The one program of an object.
    pub fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let mut object = aya_obj::Object::parse(bytes).context("cannot read it as an eBPF object")?;
        let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let mut maps: Vec<(String, aya_obj::Map)> = object.maps.drain().collect();
        maps.sort_by(|(one, _), (other, _)| one.cmp(other));
        let numbered = (0..).zip(&maps).map(|(number, (name, map))| (name.as_str(), number, map));
        object.relocate_maps(numbered, &sections).context("cannot put the maps' numbers into its instructions")?;
        object.relocate_calls(&sections).context("cannot put its functions together")?;
        ensure!(object.programs.len() == 1, "it has {} programs instead of one", object.programs.len());
        let program = object.programs.values().next().context("it has no program")?;
        let function = object.functions.get(&program.function_key()).context("its program has no instructions")?;
        Ok(Self {
            instructions: function.instructions.iter().map(instruction).collect(),
            maps: maps.iter().map(|(name, map)| self::map(name, map)).collect(),
        })
    }
}

fn map(name: &str, map: &aya_obj::Map) -> Map {
    Map {
        name: name.to_owned(),
        kind: map.map_type(),
        key: map.key_size(),
        value: map.value_size(),
        flags: map.map_flags(),
    }
}

fn instruction(instruction: &bpf_insn) -> Instruction {
    Instruction {
        code: instruction.code,
        to: instruction.dst_reg(),
        from: instruction.src_reg(),
        offset: instruction.off,
        immediate: instruction.imm,
    }
}
