//! BPF instructions as the machine runs them (RFC 9669), and the opcodes that other modules know.

/// Loads a number of 64 bits; takes two places.
pub const LOAD_WIDE: u8 = 0x18;
/// Calls a helper, or a function of the program.
pub const CALL: u8 = 0x85;
/// In the source register of a call: a function of the program is called.
pub const PSEUDO_CALL: u8 = 1;

#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    pub opcode: u8,
    pub destination: u8,
    pub source: u8,
    pub offset: i16,
    /// Extended to 64 bits with its sign; of [`LOAD_WIDE`] the whole number.
    pub immediate: i64,
}

impl Instruction {
    /// Reads one of 8 bytes.
    pub fn decode(bytes: &[u8]) -> Self {
        Self {
            opcode: bytes[0],
            destination: bytes[1] & 15,
            source: bytes[1] >> 4,
            offset: i16::from_le_bytes([bytes[2], bytes[3]]),
            immediate: i64::from(i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]])),
        }
    }
}
