//! The machine: executes a program's instructions one by one (RFC 9669).

use super::{
    elf::Image,
    instruction::{CALL, Instruction, LOAD_WIDE, PSEUDO_CALL},
    memory::{CONTEXT, Fault, Memory},
    observer::{Access, Depth, Observer},
};

/// More instructions than any program needs for a request.
const LIMIT: u64 = 1 << 32;

/// A function that has called another one.
struct Caller {
    pc: usize,
    /// Registers 6 to 10, which belong to it.
    registers: [u64; 5],
    depths: [Depth; 5],
}

pub struct Machine {
    code: Vec<Instruction>,
    pub memory: Memory,
    pub observer: Observer,
    /// Places of the programs that others go on in, by their numbers.
    pub programs: Vec<usize>,
    /// How drivers make room for longer replies.
    pub room: Room,
    /// Where the next record of a ring buffer begins.
    pub ring: u64,
    /// State of the random numbers that the kernel gives.
    pub random: u64,
    /// Functions that are being executed.
    pub level: u64,
    /// Instructions executed, observed or not.
    executed: u64,
}

/// How much room there is around a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Room {
    /// The rest of a page behind it, as network drivers leave it
    Page,
    /// Only what is missing to a multiple of 64 bytes, as a socket's packet has it on a veth pair
    Tight,
}

/// What a helper leaves behind.
pub enum Outcome {
    /// Its result.
    Returned(u64, Depth),
    /// Another program goes on.
    TailCall(usize),
}

impl Machine {
    pub fn new(image: &Image, memory: Memory, room: Room) -> Self {
        let observer = Observer::new(memory.maps(), image.code.len());
        Self {
            code: image.code.clone(),
            memory,
            observer,
            programs: Vec::new(),
            room,
            ring: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            level: 0,
            executed: 0,
        }
    }

    /// Gives a program the packet in memory, and returns what it makes of it. Counts if `OBSERVE`.
    pub fn run<const OBSERVE: bool>(&mut self, program: usize) -> Result<u32, Fault> {
        self.level = 0;
        self.executed = 0;
        if OBSERVE {
            self.observer.begin();
        }
        let result = self.execute::<OBSERVE>(program, [CONTEXT, 0])?;
        if OBSERVE {
            self.observer.end();
        }
        Ok(result as u32)
    }

    /// Executes a function of two arguments.
    pub fn execute<const OBSERVE: bool>(&mut self, mut pc: usize, arguments: [u64; 2]) -> Result<u64, Fault> {
        // Sixteen, so that no number of a register is out of range.
        let mut r = [0_u64; 16];
        let mut d = [Depth::NONE; 16];
        [r[1], r[2]] = arguments;
        r[10] = Memory::frame(self.level)?;
        let mut callers: Vec<Caller> = Vec::new();
        loop {
            let i = *self.code.get(pc).ok_or(Fault::Instruction(pc))?;
            if OBSERVE {
                self.observer.counts.instructions += 1;
                self.observer.executed[pc] += 1;
            }
            self.executed += 1;
            if self.executed > LIMIT {
                return Err(Fault::Endless);
            }
            let here = pc;
            pc += 1;
            let (destination, source) = (usize::from(i.destination & 15), usize::from(i.source & 15));
            match i.opcode & 7 {
                // Loads of numbers.
                0 if i.opcode == LOAD_WIDE => {
                    r[destination] = i.immediate as u64;
                    d[destination] = Depth::NONE;
                    pc += 1;
                }
                // Loads.
                1 => {
                    let bytes = width(i.opcode);
                    let address = r[source].wrapping_add_signed(i.offset.into());
                    let value = self.memory.load(address, bytes)?;
                    r[destination] = match i.opcode & 0xe0 {
                        0x60 => value,
                        0x80 => extend(value, bytes),
                        _ => return Err(Fault::Instruction(here)),
                    };
                    if OBSERVE {
                        d[destination] = self.observer.access(Access::Load, (address, bytes), d[source], Depth::NONE);
                    }
                }
                // Stores.
                class @ (2 | 3) => {
                    let bytes = width(i.opcode);
                    let address = r[destination].wrapping_add_signed(i.offset.into());
                    match i.opcode & 0xe0 {
                        0x60 => {
                            let value = if class == 2 { i.immediate as u64 } else { r[source] };
                            self.memory.store(address, bytes, value)?;
                            if OBSERVE {
                                let depth = if class == 2 { Depth::NONE } else { d[source] };
                                self.observer.access(Access::Store, (address, bytes), d[destination], depth);
                            }
                        }
                        0xc0 if class == 3 => {
                            let old = self.atomic(i, address, bytes, &r)?;
                            let depth = if OBSERVE {
                                self.observer.counts.atomics += 1;
                                self.observer.access(Access::Atomic, (address, bytes), d[destination], d[source])
                            } else {
                                Depth::NONE
                            };
                            let into = match i.immediate {
                                0xf1 => Some(0),
                                operation if operation & 1 != 0 => Some(source),
                                _ => None,
                            };
                            if let Some(register) = into {
                                r[register] = old;
                                d[register] = depth;
                            }
                        }
                        _ => return Err(Fault::Instruction(here)),
                    }
                }
                // Arithmetic.
                class @ (4 | 7) => {
                    let from_register = i.opcode & 8 != 0;
                    let operand = if from_register { r[source] } else { i.immediate as u64 };
                    let value = if class == 7 {
                        calculate_64(i, r[destination], operand)
                    } else {
                        calculate_32(i, r[destination], operand)
                    };
                    r[destination] = value.ok_or(Fault::Instruction(here))?;
                    if OBSERVE {
                        let other = if from_register { d[source] } else { Depth::NONE };
                        let is_move = i.opcode & 0xf0 == 0xb0;
                        d[destination] = if is_move { other } else { d[destination].max(other) };
                    }
                }
                // Jumps, calls and exits.
                class => match i.opcode {
                    0x05 => pc = target(pc, i.offset.into()),
                    0x06 => pc = target(pc, i.immediate),
                    0x95 => {
                        let Some(caller) = callers.pop() else { return Ok(r[0]) };
                        self.level -= 1;
                        pc = caller.pc;
                        r[6..11].copy_from_slice(&caller.registers);
                        d[6..11].copy_from_slice(&caller.depths);
                    }
                    CALL if i.source == PSEUDO_CALL => {
                        if OBSERVE {
                            self.observer.counts.calls += 1;
                        }
                        let mut caller = Caller { pc, registers: [0; 5], depths: [Depth::NONE; 5] };
                        caller.registers.copy_from_slice(&r[6..11]);
                        caller.depths.copy_from_slice(&d[6..11]);
                        callers.push(caller);
                        self.level += 1;
                        r[10] = Memory::frame(self.level)?;
                        pc = target(pc, i.immediate);
                    }
                    CALL => match self.helper::<OBSERVE>(i.immediate, &[r[1], r[2], r[3], r[4], r[5]])? {
                        Outcome::Returned(value, depth) => {
                            r[0] = value;
                            d[0] = depth;
                        }
                        Outcome::TailCall(program) => {
                            if !callers.is_empty() {
                                return Err(Fault::Instruction(here));
                            }
                            pc = program;
                            r[1] = CONTEXT;
                        }
                    },
                    opcode => {
                        let other = if opcode & 8 != 0 { r[source] } else { i.immediate as u64 };
                        let jumps = if class == 5 {
                            compare(opcode, r[destination], other, (r[destination] as i64).cmp(&(other as i64)))
                        } else {
                            let (a, b) = (r[destination] as u32, other as u32);
                            compare(opcode, a.into(), b.into(), a.cast_signed().cmp(&b.cast_signed()))
                        };
                        if jumps.ok_or(Fault::Instruction(here))? {
                            pc = target(pc, i.offset.into());
                        }
                    }
                },
            }
        }
    }

    /// Does what an atomic instruction does, and returns what was there before.
    fn atomic(&mut self, i: Instruction, address: u64, bytes: usize, r: &[u64; 16]) -> Result<u64, Fault> {
        let old = self.memory.load(address, bytes)?;
        let operand = r[usize::from(i.source & 15)];
        let new = match i.immediate & 0xff {
            0x00 | 0x01 => old.wrapping_add(operand),
            0x40 | 0x41 => old | operand,
            0x50 | 0x51 => old & operand,
            0xa0 | 0xa1 => old ^ operand,
            0xe1 => operand,
            0xf1 => {
                let expected = if bytes == 4 { u64::from(r[0] as u32) } else { r[0] };
                if old == expected { operand } else { old }
            }
            _ => return Err(Fault::Instruction(0)),
        };
        self.memory.store(address, bytes, new)?;
        Ok(old)
    }
}

fn target(pc: usize, distance: i64) -> usize {
    pc.wrapping_add_signed(distance as isize)
}

/// Bytes that a load or store moves.
#[inline(always)]
fn width(opcode: u8) -> usize {
    match opcode & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    }
}

/// Extends a number of so many bytes with its sign.
#[inline(always)]
fn extend(value: u64, bytes: usize) -> u64 {
    let unused = 64 - 8 * bytes as u32;
    ((value << unused) as i64 >> unused) as u64
}

#[inline(always)]
fn calculate_64(i: Instruction, a: u64, b: u64) -> Option<u64> {
    Some(match i.opcode & 0xf0 {
        0x00 => a.wrapping_add(b),
        0x10 => a.wrapping_sub(b),
        0x20 => a.wrapping_mul(b),
        0x30 if i.offset == 0 => a.checked_div(b).unwrap_or(0),
        0x30 => (a as i64).checked_div(b as i64).unwrap_or(if b == 0 { 0 } else { i64::MIN }) as u64,
        0x40 => a | b,
        0x50 => a & b,
        0x60 => a.wrapping_shl(b as u32),
        0x70 => a.wrapping_shr(b as u32),
        0x80 => a.wrapping_neg(),
        0x90 if i.offset == 0 => a.checked_rem(b).unwrap_or(a),
        0x90 if b == 0 => a,
        0x90 => (a as i64).wrapping_rem(b as i64) as u64,
        0xa0 => a ^ b,
        0xb0 if i.offset == 0 => b,
        0xb0 => extend(b, i.offset as usize / 8),
        0xc0 => (a as i64).wrapping_shr(b as u32) as u64,
        0xd0 => swap(a, i.immediate, true)?,
        _ => return None,
    })
}

#[inline(always)]
fn calculate_32(i: Instruction, a: u64, b: u64) -> Option<u64> {
    if i.opcode & 0xf0 == 0xd0 {
        // To little-endian order cuts, to big-endian order swaps.
        return swap(a, i.immediate, i.opcode & 8 != 0);
    }
    let (a, b) = (a as u32, b as u32);
    Some(u64::from(match i.opcode & 0xf0 {
        0x00 => a.wrapping_add(b),
        0x10 => a.wrapping_sub(b),
        0x20 => a.wrapping_mul(b),
        0x30 if i.offset == 0 => a.checked_div(b).unwrap_or(0),
        0x30 => {
            a.cast_signed().checked_div(b.cast_signed()).unwrap_or(if b == 0 { 0 } else { i32::MIN }).cast_unsigned()
        }
        0x40 => a | b,
        0x50 => a & b,
        0x60 => a.wrapping_shl(b),
        0x70 => a.wrapping_shr(b),
        0x80 => a.wrapping_neg(),
        0x90 if i.offset == 0 => a.checked_rem(b).unwrap_or(a),
        0x90 if b == 0 => a,
        0x90 => a.cast_signed().wrapping_rem(b.cast_signed()).cast_unsigned(),
        0xa0 => a ^ b,
        0xb0 if i.offset == 0 => b,
        0xb0 => extend(b.into(), i.offset as usize / 8) as u32,
        0xc0 => a.cast_signed().wrapping_shr(b).cast_unsigned(),
        _ => return None,
    }))
}

/// The low bits of a number, in the other order of bytes if `swaps`.
fn swap(value: u64, bits: i64, swaps: bool) -> Option<u64> {
    Some(match (bits, swaps) {
        (16, true) => (value as u16).swap_bytes().into(),
        (32, true) => (value as u32).swap_bytes().into(),
        (64, true) => value.swap_bytes(),
        (16, false) => (value as u16).into(),
        (32, false) => (value as u32).into(),
        (64, false) => value,
        _ => return None,
    })
}

/// Whether a conditional jump jumps; `signed` is how the numbers compare with their signs.
#[inline(always)]
fn compare(opcode: u8, a: u64, b: u64, signed: std::cmp::Ordering) -> Option<bool> {
    Some(match opcode & 0xf0 {
        0x10 => a == b,
        0x20 => a > b,
        0x30 => a >= b,
        0x40 => a & b != 0,
        0x50 => a != b,
        0x60 => signed.is_gt(),
        0x70 => signed.is_ge(),
        0xa0 => a < b,
        0xb0 => a <= b,
        0xc0 => signed.is_lt(),
        0xd0 => signed.is_le(),
        _ => return None,
    })
}
