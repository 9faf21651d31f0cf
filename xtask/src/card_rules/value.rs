//! What registers and the stack hold, as far as the rules ask for it.

use std::collections::BTreeMap;

/// What a register holds. Offsets are `None` where they are not known beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// Nothing that may be used.
    #[default]
    Unset,
    Number,
    Context,
    /// An address in the stack, from its end.
    Stack(Option<i32>),
    /// An address in the packet.
    Packet(Option<i32>),
    PacketEnd,
    Map(usize),
    /// An address in a value of a map.
    Element(usize, Option<i32>),
    /// On one way to here this, on another that.
    Mixed,
}

impl Value {
    /// What it is where two ways meet.
    pub fn joined(self, other: Self) -> Self {
        match (self, other) {
            (one, other) if one == other => one,
            (Self::Unset, _) | (_, Self::Unset) => Self::Unset,
            (Self::Stack(_), Self::Stack(_)) => Self::Stack(None),
            (Self::Packet(_), Self::Packet(_)) => Self::Packet(None),
            (Self::Element(one, _), Self::Element(other, _)) if one == other => Self::Element(one, None),
            _ => Self::Mixed,
        }
    }

    /// The same address, further on by so much, or by what nobody knows.
    pub fn moved(self, by: Option<i32>) -> Self {
        let add = |offset: Option<i32>| offset?.checked_add(by?);
        match self {
            Self::Stack(offset) => Self::Stack(add(offset)),
            Self::Packet(offset) => Self::Packet(add(offset)),
            Self::Element(map, offset) => Self::Element(map, add(offset)),
            Self::Unset => Self::Unset,
            Self::Number | Self::Context | Self::PacketEnd | Self::Map(_) | Self::Mixed => Self::Number,
        }
    }

    pub fn is_address(self) -> bool {
        !matches!(self, Self::Unset | Self::Number)
    }
}

/// Registers, and addresses that were put on the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub registers: [Value; 11],
    /// Words of eight bytes, by their offsets. What is not here is a number.
    pub spilled: BTreeMap<i32, Value>,
}

impl State {
    /// At the beginning.
    pub fn new() -> Self {
        let mut registers = [Value::Unset; 11];
        registers[1] = Value::Context;
        registers[10] = Value::Stack(Some(0));
        Self { registers, spilled: BTreeMap::new() }
    }

    /// What is true on both ways.
    pub fn join(&mut self, other: &Self) {
        for (one, other) in self.registers.iter_mut().zip(other.registers) {
            *one = one.joined(other);
        }
        let places: Vec<i32> = self.spilled.keys().chain(other.spilled.keys()).copied().collect();
        for place in places {
            let of = |state: &Self| state.spilled.get(&place).copied().unwrap_or(Value::Number);
            let joined = of(self).joined(of(other));
            self.spilled.insert(place, joined);
        }
    }

    /// Something of so many bytes is stored there.
    pub fn spill(&mut self, at: i32, width: i32, value: Value) {
        self.spilled.retain(|place, _| *place + 8 <= at || at + width <= *place);
        if width == 8 && value.is_address() {
            self.spilled.insert(at, value);
        }
    }
}
