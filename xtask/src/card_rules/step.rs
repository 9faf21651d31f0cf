//! What one instruction does to what is known, and whether it keeps the rules.

use std::collections::BTreeMap;

use super::{
    breach::Breach,
    instruction::{ADD, ALU, ALU64, CALL, Instruction, JMP, JMP32, LD_IMM64, LDX, MOV, ST, STX, SUB},
    object::Map,
    value::{State, Value},
};

/// `bpf_map_lookup_elem`.
const LOOK_UP: i32 = 1;

/// Registers that a call leaves nothing in.
const CLOBBERED: std::ops::Range<usize> = 1..6;

/// How a word of a map's values is used.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Use {
    Read,
    Counted,
}

pub struct Step<'o> {
    maps: &'o [Map],
    /// By map, and word of its values.
    uses: BTreeMap<(usize, i32), Use>,
    breaches: Vec<Breach>,
    /// The lowest offset in the stack.
    lowest: i32,
}

impl<'o> Step<'o> {
    pub fn new(maps: &'o [Map]) -> Self {
        Self { maps, uses: BTreeMap::new(), breaches: Vec::new(), lowest: 0 }
    }

    /// What is against the rules, and how many bytes of stack are used.
    pub fn found(self) -> (Vec<Breach>, i32) {
        (self.breaches, -self.lowest)
    }

    /// Looks at an instruction, given what is known before it, and says what is known after it.
    pub fn take(&mut self, at: usize, instruction: Instruction, state: &mut State) {
        if let Err(what) = self.checked(instruction, state) {
            self.breaches.push(Breach { at: Some(at), what });
        }
    }

    fn checked(&mut self, instruction: Instruction, state: &mut State) -> Result<(), String> {
        if let Some(what) = instruction.unknown().or_else(|| instruction.too_wide()) {
            return Err(what);
        }
        if instruction.to > 10 || instruction.from > 10 {
            return Err("a register that there is not".to_owned());
        }
        match (instruction.class(), instruction.code) {
            (_, LD_IMM64) => constant(instruction, state),
            (_, CALL) => self.call(instruction, state),
            (LDX, _) => self.load(instruction, state),
            (ST | STX, _) => self.store(instruction, state),
            (ALU | ALU64, _) => {
                compute(instruction, state);
                Ok(())
            }
            (JMP | JMP32, _) => Ok(()),
            _ => Err(format!("instruction {:#04x}", instruction.code)),
        }
    }

    fn call(&mut self, instruction: Instruction, state: &mut State) -> Result<(), String> {
        match (instruction.from, instruction.immediate) {
            (0, LOOK_UP) => {}
            (0, 12) => return Err("a tail call, which cards do not have".to_owned()),
            (0, helper) => return Err(format!("helper {helper}; cards have the look-up (1) and few others")),
            _ => return Err("a call of a function, for which there is little stack".to_owned()),
        }
        let (map, key) = (state.registers[1], state.registers[2]);
        for register in CLOBBERED {
            state.registers[register] = Value::Unset;
        }
        let Value::Map(map) = map else { return Err("a look-up in no map".to_owned()) };
        state.registers[0] = Value::Element(map, Some(0));
        match key {
            Value::Stack(Some(offset)) if offset % 4 == 0 => {
                self.lowest = self.lowest.min(offset);
                Ok(())
            }
            Value::Stack(Some(offset)) => Err(format!("a key at {offset} in the stack, which is no multiple of 4")),
            Value::Stack(None) => Err("a key somewhere in the stack".to_owned()),
            other @ (Value::Unset
            | Value::Number
            | Value::Context
            | Value::Packet(_)
            | Value::PacketEnd
            | Value::Map(_)
            | Value::Element(..)
            | Value::Mixed) => Err(format!("a key that is not in the stack but at {other:?}")),
        }
    }

    fn load(&mut self, instruction: Instruction, state: &mut State) -> Result<(), String> {
        const DATA: i16 = 0;
        const DATA_END: i16 = 4;
        let width = instruction.width();
        let to = usize::from(instruction.to);
        let from = state.registers[usize::from(instruction.from)].moved_if_address(instruction.offset);
        state.registers[to] = Value::Number;
        match from {
            Value::Context => {
                state.registers[to] = match (instruction.offset, width) {
                    (DATA, 4) => Value::Packet(Some(0)),
                    (DATA_END, 4) => Value::PacketEnd,
                    (offset, width) => {
                        return Err(format!(
                            "{width} bytes at {offset} of the context, of which cards have the packet"
                        ));
                    }
                };
                Ok(())
            }
            Value::Stack(Some(offset)) => {
                aligned(offset, width)?;
                self.lowest = self.lowest.min(offset);
                if width == 8 {
                    state.registers[to] = state.spilled.get(&offset).copied().unwrap_or(Value::Number);
                }
                Ok(())
            }
            Value::Packet(Some(_)) => Ok(()),
            Value::Element(map, Some(offset)) => self.used((map, offset), width, Use::Read),
            other @ (Value::Unset
            | Value::Number
            | Value::Stack(None)
            | Value::Packet(None)
            | Value::PacketEnd
            | Value::Map(_)
            | Value::Element(_, None)
            | Value::Mixed) => Err(unknown_place(other)),
        }
    }

    fn store(&mut self, instruction: Instruction, state: &mut State) -> Result<(), String> {
        let width = instruction.width();
        let to = state.registers[usize::from(instruction.to)].moved_if_address(instruction.offset);
        let value = match instruction.class() {
            STX => state.registers[usize::from(instruction.from)],
            _ => Value::Number,
        };
        if instruction.is_atomic() {
            return match (to, instruction.immediate) {
                (_, 1..) => Err("an atomic instruction that is no addition without a result".to_owned()),
                (Value::Element(map, Some(offset)), 0) => self.used((map, offset), width, Use::Counted),
                (other, _) => Err(format!("an atomic addition to {other:?}, which is in no map")),
            };
        }
        match to {
            Value::Stack(Some(offset)) => {
                aligned(offset, width)?;
                self.lowest = self.lowest.min(offset);
                state.spill(offset, width, value);
                Ok(())
            }
            Value::Packet(Some(_)) => Ok(()),
            Value::Element(..) => Err("a store into a map's value; cards only add to it".to_owned()),
            Value::Context => Err("a store into the context".to_owned()),
            other @ (Value::Unset
            | Value::Number
            | Value::Stack(None)
            | Value::Packet(None)
            | Value::PacketEnd
            | Value::Map(_)
            | Value::Mixed) => Err(unknown_place(other)),
        }
    }

    /// A word is either read or counted in, as it has another order of bytes then.
    fn used(&mut self, place: (usize, i32), width: i32, now: Use) -> Result<(), String> {
        let (map, offset) = place;
        let of = &self.maps[map];
        if offset < 0 || offset + width > of.value.cast_signed() {
            return Err(format!("{width} bytes at {offset} of a value of {}, which has {}", of.name, of.value));
        }
        for word in offset / 4..=(offset + width - 1) / 4 {
            let known = *self.uses.entry((map, word)).or_insert(now);
            if known != now {
                return Err(format!("word {word} of {} is read here and added to there", of.name));
            }
        }
        Ok(())
    }
}

impl Value {
    /// With the offset of an instruction.
    fn moved_if_address(self, offset: i16) -> Self {
        match self {
            Self::Stack(_) | Self::Packet(_) | Self::Element(..) => self.moved(Some(offset.into())),
            other @ (Self::Unset | Self::Number | Self::Context | Self::PacketEnd | Self::Map(_) | Self::Mixed) => {
                other
            }
        }
    }
}

/// As the kernel's own verifier has it.
fn aligned(offset: i32, width: i32) -> Result<(), String> {
    if offset % width == 0 {
        return Ok(());
    }
    Err(format!("{width} bytes at {offset} in the stack, which is no multiple of that"))
}

fn unknown_place(value: Value) -> String {
    match value {
        Value::Stack(None) | Value::Packet(None) | Value::Element(_, None) => {
            format!("an offset that is not known beforehand ({value:?})")
        }
        Value::Mixed => "an address of one kind on one way and of another on another".to_owned(),
        other @ (Value::Unset
        | Value::Number
        | Value::Context
        | Value::Stack(_)
        | Value::Packet(_)
        | Value::PacketEnd
        | Value::Map(_)
        | Value::Element(..)) => format!("no address ({other:?})"),
    }
}

fn constant(instruction: Instruction, state: &mut State) -> Result<(), String> {
    let (value, result) = match instruction.from {
        0 => (Value::Number, Ok(())),
        1 => (Value::Map(instruction.immediate.cast_unsigned() as usize), Ok(())),
        kind => (Value::Unset, Err(format!("a constant of kind {kind}; cards have maps and numbers"))),
    };
    state.registers[usize::from(instruction.to)] = value;
    result
}

fn compute(instruction: Instruction, state: &mut State) {
    let to = usize::from(instruction.to);
    let (one, other) = (state.registers[to], state.registers[usize::from(instruction.from)]);
    let by_register = instruction.by_register();
    state.registers[to] = match (instruction.class(), instruction.operation()) {
        (ALU64, MOV) if by_register => other,
        (ALU64, ADD) if !by_register => one.moved(Some(instruction.immediate)),
        (ALU64, SUB) if !by_register => one.moved(instruction.immediate.checked_neg()),
        // One address is added to a number, or a number to an address.
        (ALU64, ADD) if other.is_address() && !one.is_address() => other.moved(None),
        (ALU64, ADD | SUB) if one.is_address() && !other.is_address() => one.moved(None),
        _ => Value::Number,
    };
}
