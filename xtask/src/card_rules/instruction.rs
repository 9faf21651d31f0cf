//! Instructions, and which of them the card's driver translates.

/// One instruction (`struct bpf_insn` of linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u8,
    pub to: u8,
    pub from: u8,
    pub offset: i16,
    pub immediate: i32,
}

pub const LDX: u8 = 1;
pub const ST: u8 = 2;
pub const STX: u8 = 3;
pub const ALU: u8 = 4;
pub const JMP: u8 = 5;
pub const JMP32: u8 = 6;
pub const ALU64: u8 = 7;

pub const LD_IMM64: u8 = 0x18;
pub const CALL: u8 = 0x85;
pub const EXIT: u8 = 0x95;
pub const JUMP: u8 = 0x05;

pub const ADD: u8 = 0x00;
pub const SUB: u8 = 0x10;
pub const MUL: u8 = 0x20;
pub const DIV: u8 = 0x30;
pub const MOV: u8 = 0xb0;
const NEG: u8 = 0x80;
const MOD: u8 = 0x90;

impl Instruction {
    pub fn class(self) -> u8 {
        self.code & 7
    }

    pub fn operation(self) -> u8 {
        self.code & 0xf0
    }

    pub fn by_register(self) -> bool {
        self.code & 8 != 0
    }

    /// Bytes of a load or store.
    pub fn width(self) -> i32 {
        match self.code & 0x18 {
            0x00 => 4,
            0x08 => 2,
            0x10 => 1,
            _ => 8,
        }
    }

    pub fn is_atomic(self) -> bool {
        self.class() == STX && self.code & 0xe0 == 0xc0
    }

    /// Why the driver does not translate it, if it does not: `instr_cb` of its `jit.c`, and what
    /// later kernels have made of the fields that were always 0.
    pub fn unknown(self) -> Option<String> {
        let known = match self.class() {
            0 => self.code == LD_IMM64,
            LDX | ST => self.code & 0xe0 == 0x60,
            STX => self.code & 0xe0 == 0x60 || self.is_atomic() && self.width() >= 4,
            ALU => match self.operation() {
                // To big-endian; the driver knows no other exchange of bytes.
                0xd0 => self.code == 0xdc && self.offset == 0,
                NEG => self.code == 0x84,
                MOD => false,
                0x00..=0xc0 => self.offset == 0,
                _ => false,
            },
            ALU64 => match self.operation() {
                NEG => self.code == 0x87,
                MOD => false,
                0x00..=0xc0 => self.offset == 0,
                _ => false,
            },
            JMP => match self.operation() {
                0x00 => self.code == JUMP,
                0x80 => self.code == CALL,
                0x90 => self.code == EXIT,
                0x10..=0xd0 => true,
                _ => false,
            },
            _ => matches!(self.operation(), 0x10..=0x70 | 0xa0..=0xd0),
        };
        if self.operation() == MOD && matches!(self.class(), ALU | ALU64) {
            return Some("a remainder, which cards do not compute".to_owned());
        }
        (!known).then(|| format!("instruction {:#04x}, which cards do not know", self.code))
    }

    /// Why its numbers are too wide, if they are.
    pub fn too_wide(self) -> Option<String> {
        match (self.class(), self.operation()) {
            (ALU64, MUL) => Some("a multiplication of 64 bits; cards multiply 32".to_owned()),
            (ALU64, DIV) => Some("a division of 64 bits; cards divide 32".to_owned()),
            (ALU, DIV) if self.by_register() => Some("a division by something that is not constant".to_owned()),
            (ALU, DIV) if self.immediate <= 0 => Some("a division by a negative number".to_owned()),
            _ => None,
        }
    }
}
