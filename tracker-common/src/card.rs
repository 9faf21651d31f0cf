//! What the daemon tells a network card that runs a program of its own, `tracker-offload`, and what
//! that counts: the records of its maps. They are made of words of 32 bits, and no key has more than
//! 64 bytes together with its value, as cards have no room for more.

/// The map of what the tracker answers for: [`Destination`], [`Mac`].
pub const DESTINATIONS: &str = "DESTINATIONS";

/// The map of addresses whose packets are dropped: an IPv4 address in memory order, and any number.
pub const BLOCKED: &str = "BLOCKED";

/// The map of the one [`Window`].
pub const WINDOW: &str = "WINDOW";

/// The map of the one record of counters.
pub const COUNTERS: &str = "COUNTERS";

/// An address and a port of the tracker. In words of 64 bits, since the verifier wants what is stored
/// on the stack to be aligned, and the compiler joins smaller ones.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The address in memory order, zeros behind one of IPv4.
    pub address: [u64; 2],
    /// The port in memory order, and above it the version of IP, so that no address of the one is
    /// taken for one of the other.
    pub port: u64,
}

impl Destination {
    /// What stands above the port.
    #[inline(always)]
    #[must_use]
    pub const fn port(port: [u8; 2], is_v6: bool) -> u64 {
        u16::from_ne_bytes(port) as u64 | (if is_v6 { 6 } else { 4 }) << 16
    }
}

/// The MAC address that packets to a [`Destination`] have to be sent to, in memory order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac {
    /// Its first four bytes.
    pub first: u32,
    /// Its last two bytes.
    pub last: u32,
}

/// What connection ids are made of ([`crate::bep15::card_id`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Not 0: connects are answered.
    pub answers: u32,
    /// The window.
    pub number: u32,
    /// Its key.
    pub key: [u32; 2],
}

/// What the program counts, by place in its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Connects over IPv4 that were answered.
    ConnectsV4,
    /// Connects over IPv6 that were answered.
    ConnectsV6,
    /// Packets of blocked addresses.
    Blocked,
    /// Packets to the tracker that are too short for what they are to be.
    TooShort,
    /// Connects without the number that they begin with.
    BadMagic,
    /// Requests of a kind that there is not.
    UnknownAction,
}

/// The record of counters. They begin again at 0 behind their 32 bits: whoever reads them does so
/// more often than that happens.
pub type Counters = [u32; 8];
