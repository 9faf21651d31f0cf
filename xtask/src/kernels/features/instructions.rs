//! Instructions that older kernels do not know.

use anyhow::ensure;

use super::{
    elf::{Code, Target},
    helpers,
    set::{Features, Version},
};

/// What the objects with calls between functions use.
pub const SUBPROGRAM: &str = "calls of functions";

/// One instruction (`struct bpf_insn` of linux/bpf.h).
#[derive(Clone, Copy)]
struct Instruction {
    opcode: u8,
    source: u8,
    offset: i16,
    immediate: i32,
}

const LD: u8 = 0;
const LDX: u8 = 1;
const ST: u8 = 2;
const STX: u8 = 3;
const ALU: u8 = 4;
const JMP: u8 = 5;
const JMP32: u8 = 6;
const ALU64: u8 = 7;

const LD_IMM64: u8 = 0x18;
const CALL: u8 = 0x85;

/// What an instruction is, if the kernel has not always known it.
enum Kind {
    Always,
    Since(&'static str, Version),
    Unknown,
}

/// Adds what the instructions of a section need.
pub fn read(code: &Code<'_>, features: &mut Features) -> anyhow::Result<()> {
    ensure!(code.instructions.len().is_multiple_of(8), "a section of code does not consist of whole instructions");
    let mut words = code.instructions.chunks_exact(8).enumerate();
    while let Some((number, bytes)) = words.next() {
        let instruction = Instruction {
            opcode: bytes[0],
            source: bytes[1] >> 4,
            offset: i16::from_le_bytes([bytes[2], bytes[3]]),
            immediate: i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        };
        let at = number as u64 * 8;
        let target = code.relocations.iter().find(|(offset, _)| *offset == at).map(|(_, target)| *target);
        match instruction.opcode {
            CALL => call(instruction, target, features),
            LD_IMM64 => {
                ensure!(words.next().is_some(), "an instruction of 16 bytes is cut off");
                constant(instruction, target, features);
            }
            _ => match kind(instruction) {
                Kind::Always => {}
                Kind::Since(name, since) => features.add(name, since),
                Kind::Unknown => features.add_unknown(format!("instruction {:#04x}", instruction.opcode)),
            },
        }
    }
    Ok(())
}

/// Calls are told apart by the source register: helpers, functions of the object, functions of the
/// kernel. Those that the loader still has to complete are told by their symbol.
fn call(instruction: Instruction, target: Option<Target>, features: &mut Features) {
    const HELPER: u8 = 0;
    const FUNCTION: u8 = 1;
    const KERNEL: u8 = 2;

    match (instruction.source, target) {
        (KERNEL, _) | (_, Some(Target::External)) => {
            // Which one it is, and since when there is that one, is not told by the number.
            features.add_unknown("a call of a function of the kernel");
        }
        (FUNCTION, _) | (_, Some(Target::Code)) => features.add(SUBPROGRAM, Version::new(4, 16)),
        (HELPER, None) => {
            let number = instruction.immediate.cast_unsigned();
            match helpers::since(number) {
                Some(since) => features.add(helpers::name(number), since),
                None => features.add_unknown(format!("helper {number}")),
            }
        }
        (source, _) => features.add_unknown(format!("a call of kind {source}")),
    }
}

/// Constants of 64 bits may stand for something else: by the source register, or by the symbol of a
/// relocation.
fn constant(instruction: Instruction, target: Option<Target>, features: &mut Features) {
    match (instruction.source, target) {
        (0, None) | (_, Some(Target::Map)) | (1, None) => {}
        (2, None) | (_, Some(Target::Data)) => features.add("global data", Version::new(5, 2)),
        (4, None) | (_, Some(Target::Code)) => features.add("pointers to functions", Version::new(5, 13)),
        (_, Some(Target::External)) => features.add_unknown("something of the kernel's by its name"),
        (source, None) => features.add_unknown(format!("a constant of kind {source}")),
    }
}

fn kind(instruction: Instruction) -> Kind {
    const V4: Version = Version::new(6, 6);

    let class = instruction.opcode & 0x07;
    let operation = instruction.opcode & 0xf0;
    let by_register = instruction.opcode & 0x08 != 0;
    match class {
        LD => match instruction.opcode & 0xe0 {
            // Packet bytes by the oldest way of all, for socket filters.
            0x20 | 0x40 => Kind::Always,
            _ => Kind::Unknown,
        },
        LDX => match instruction.opcode & 0xe0 {
            0x60 => Kind::Always,
            0x80 => Kind::Since("loads that extend the sign", V4),
            0xa0 => Kind::Since("loads of the arena", Version::new(6, 9)),
            _ => Kind::Unknown,
        },
        ST | STX => match instruction.opcode & 0xe0 {
            0x60 => Kind::Always,
            0xa0 => Kind::Since("stores to the arena", Version::new(6, 9)),
            0xc0 if class == STX => atomic(instruction),
            _ => Kind::Unknown,
        },
        ALU | ALU64 => match (operation, instruction.offset) {
            (0x30 | 0x90, 1) => Kind::Since("division with a sign", V4),
            (0xb0, 8 | 16 | 32) if by_register => Kind::Since("moves that extend the sign", V4),
            (0xb0, 1) if by_register && class == ALU64 => {
                Kind::Since("casts between address spaces", Version::new(6, 9))
            }
            (0xd0, 0) if class == ALU64 => Kind::Since("unconditional byte swaps", V4),
            (0x00..=0xd0, 0) => Kind::Always,
            _ => Kind::Unknown,
        },
        JMP => match operation {
            0xe0 => Kind::Since("may_goto", Version::new(6, 9)),
            0xa0..=0xd0 => Kind::Since("jumps on less", Version::new(4, 14)),
            0x80 => Kind::Unknown,
            0x00..=0x90 => Kind::Always,
            _ => Kind::Unknown,
        },
        JMP32 => match operation {
            0x00 => Kind::Since("jumps of 32 bits' length", V4),
            0x10..=0x70 | 0xa0..=0xd0 => Kind::Since("jumps on 32 bits", Version::new(5, 1)),
            _ => Kind::Unknown,
        },
        _ => Kind::Unknown,
    }
}

/// Atomic instructions are told apart by what would otherwise be their constant.
fn atomic(instruction: Instruction) -> Kind {
    const ADD: i32 = 0x00;
    /// Or, and, exclusive or; and with the bit 1 all of them with their result, exchange, and
    /// compare and exchange.
    const OTHERS: [i32; 9] = [0x40, 0x50, 0xa0, 0x01, 0x41, 0x51, 0xa1, 0xe1, 0xf1];
    const ORDERED: [i32; 2] = [0x100, 0x110];

    let size = instruction.opcode & 0x18;
    let of_word = matches!(size, 0x00 | 0x18);
    match instruction.immediate {
        ADD if of_word => Kind::Always,
        other if of_word && OTHERS.contains(&other) => {
            Kind::Since("atomic instructions other than addition without a result", Version::new(5, 12))
        }
        other if ORDERED.contains(&other) => Kind::Since("load-acquire and store-release", Version::new(6, 15)),
        _ => Kind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opcode, source register, offset, immediate; a relocation's target; what is needed.
    type Row = ((u8, u8, i16, i32), Option<Target>, Result<Option<&'static str>, &'static str>);

    fn features(row: &Row) -> Features {
        let ((opcode, source, offset, immediate), target, _) = *row;
        let mut bytes = vec![opcode, source << 4];
        bytes.extend(offset.to_le_bytes());
        bytes.extend(immediate.to_le_bytes());
        if opcode == LD_IMM64 {
            bytes.extend([0; 8]);
        }
        let relocations = target.map(|target| (0, target)).into_iter().collect();
        let mut features = Features::default();
        read(&Code { instructions: &bytes, relocations }, &mut features).unwrap();
        features
    }

    #[test]
    fn each_instruction_needs_the_kernel_that_brought_it() {
        let old = Version::new(6, 1);
        let rows: [Row; 40] = [
            // Known for ever: mov, add, ldx, st, stx, lock add, ja, jeq, exit, a constant, a map.
            ((0xb7, 0, 0, 2), None, Ok(None)),
            ((0x0f, 1, 0, 0), None, Ok(None)),
            ((0x79, 1, 8, 0), None, Ok(None)),
            ((0x62, 0, 0, 7), None, Ok(None)),
            ((0x7b, 1, 0, 0), None, Ok(None)),
            ((0xdb, 1, 0, 0), None, Ok(None)),
            ((0x05, 0, 3, 0), None, Ok(None)),
            ((0x15, 0, 3, 0), None, Ok(None)),
            ((0x95, 0, 0, 0), None, Ok(None)),
            ((0xdc, 0, 0, 16), None, Ok(None)),
            ((0x18, 0, 0, 1), None, Ok(None)),
            ((0x18, 0, 0, 0), Some(Target::Map), Ok(None)),
            // Newer, but in 6.1.
            ((0xa5, 0, 3, 0), None, Ok(Some("jumps on less"))),
            ((0x16, 0, 3, 0), None, Ok(Some("jumps on 32 bits"))),
            ((0xdb, 1, 0, 0x01), None, Ok(Some("atomic instructions other than addition without a result"))),
            ((0xc3, 1, 0, 0xe1), None, Ok(Some("atomic instructions other than addition without a result"))),
            ((0xdb, 1, 0, 0xf1), None, Ok(Some("atomic instructions other than addition without a result"))),
            ((0x85, 1, 0, 12), None, Ok(Some(SUBPROGRAM))),
            ((0x85, 0, 0, -1), Some(Target::Code), Ok(Some(SUBPROGRAM))),
            ((0x85, 0, 0, 12), None, Ok(Some("bpf_tail_call"))),
            ((0x85, 0, 0, 181), None, Ok(Some("bpf_loop"))),
            ((0x85, 0, 0, 209), None, Ok(Some("helper 209"))),
            ((0x18, 0, 0, 0), Some(Target::Data), Ok(Some("global data"))),
            ((0x18, 4, 0, 0), None, Ok(Some("pointers to functions"))),
            // Too new for 6.1.
            ((0x85, 0, 0, 210), None, Err("helper 210 (Linux 6.2)")),
            ((0x85, 0, 0, 212), None, Err("helper 212 (unknown)")),
            ((0x85, 0, 0, 0), None, Err("helper 0 (unknown)")),
            ((0x85, 2, 0, 4000), None, Err("a function of the kernel")),
            ((0x85, 1, 0, -1), Some(Target::External), Err("a function of the kernel")),
            ((0x91, 1, 0, 0), None, Err("loads that extend the sign (Linux 6.6)")),
            ((0xbf, 1, 8, 0), None, Err("moves that extend the sign (Linux 6.6)")),
            ((0x3f, 1, 1, 0), None, Err("division with a sign (Linux 6.6)")),
            ((0xd7, 0, 0, 16), None, Err("unconditional byte swaps (Linux 6.6)")),
            ((0x06, 0, 0, 9), None, Err("jumps of 32 bits' length (Linux 6.6)")),
            ((0xe5, 0, 3, 0), None, Err("may_goto (Linux 6.9)")),
            ((0xbf, 1, 1, 1), None, Err("casts between address spaces (Linux 6.9)")),
            ((0xdb, 1, 0, 0x100), None, Err("load-acquire and store-release (Linux 6.15)")),
            ((0xd3, 1, 0, 0x110), None, Err("load-acquire and store-release (Linux 6.15)")),
            // Known to nobody.
            ((0xdb, 1, 0, 0x33), None, Err("instruction 0xdb (unknown)")),
            ((0xf7, 0, 0, 0), None, Err("instruction 0xf7 (unknown)")),
        ];
        for row in &rows {
            let features = features(row);
            match row.2 {
                Ok(expected) => {
                    assert_eq!(features.known.keys().map(String::as_str).next(), expected, "{:x?}", row.0);
                    assert!(features.ensure_in(old).is_ok(), "{:x?}: {features:?}", row.0);
                }
                Err(expected) => {
                    let error = features.ensure_in(old).unwrap_err().to_string();
                    assert!(error.contains(expected), "{:x?}: {error}", row.0);
                }
            }
        }
    }

    #[test]
    fn code_that_is_cut_off_is_refused() {
        for bytes in [&[0xb7, 0, 0, 0, 0, 0, 0][..], &[0x18, 0, 0, 0, 0, 0, 0, 0]] {
            let code = Code { instructions: bytes, relocations: Vec::new() };
            assert!(read(&code, &mut Features::default()).is_err(), "{bytes:x?}");
        }
    }
}
