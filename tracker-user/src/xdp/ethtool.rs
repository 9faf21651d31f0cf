//! What `ethtool` reads and sets, one setting at a time, by the same requests (`linux/ethtool.h`).

use super::offload::ethtool;
use std::io;

/// Commands of `linux/ethtool.h`: what reads, and what sets, where it is set here.
mod command {
    pub const DRIVER: u32 = 0x03;
    pub const RINGS: [u32; 2] = [0x10, 0x11];
    pub const STRINGS: u32 = 0x1b;
    pub const HASH: [u32; 2] = [0x29, 0x2a];
    pub const SET_INFO: u32 = 0x37;
    pub const FEATURES: [u32; 2] = [0x3a, 0x3b];
    pub const CHANNELS: [u32; 2] = [0x3c, 0x3d];
}

/// `RXH_L4_B_0_1 | RXH_L4_B_2_3`: both ports.
pub const PORTS: u32 = 3 << 6;

/// `RXH_IP_SRC | RXH_IP_DST`: both addresses.
pub const ADDRESSES: u32 = 3 << 4;

/// `UDP_V4_FLOW`, `UDP_V6_FLOW`.
pub const UDP_FLOWS: [u32; 2] = [2, 6];

/// `ETH_SS_FEATURES`.
const FEATURE_NAMES: u32 = 4;

/// More names of features than there are.
const MOST_FEATURES: u32 = 1024;

/// A command that gives one word (`struct ethtool_value`).
#[must_use]
pub fn word(name: &str, command: u32) -> Option<u32> {
    let mut value = [command, 0];
    ethtool(name, &mut value).ok()?;
    Some(value[1])
}

/// The driver's name, at the beginning of `struct ethtool_drvinfo`.
#[must_use]
pub fn driver(name: &str) -> Option<String> {
    let mut value = [0; 49];
    value[0] = command::DRIVER;
    ethtool(name, &mut value).ok()?;
    Some(text(&value[1..9]))
}

/// Words as a text that ends with a zero.
fn text(words: &[u32]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `struct ethtool_channels`: the most of rx, tx, other, combined; then how many there are.
fn channels(name: &str) -> io::Result<[u32; 9]> {
    let mut value = [0; 9];
    value[0] = command::CHANNELS[0];
    ethtool(name, &mut value)?;
    Ok(value)
}

/// Queues for receiving: how many there are, and the most there can be.
#[must_use]
pub fn queues(name: &str) -> Option<[u32; 2]> {
    let value = channels(name).ok()?;
    Some([value[5] + value[8], value[1].max(value[4])])
}

/// Sets how many queues for receiving there are; where they are one with those for sending, of these
/// as well.
///
/// # Errors
/// When the driver refuses.
pub fn set_queues(name: &str, count: u32) -> io::Result<()> {
    let mut value = channels(name)?;
    value[0] = command::CHANNELS[1];
    if value[4] == 0 {
        value[5] = count;
    } else {
        value[8] = count.saturating_sub(value[5]);
    }
    ethtool(name, &mut value)
}

/// `struct ethtool_ringparam`.
fn rings(name: &str) -> io::Result<[u32; 9]> {
    let mut value = [0; 9];
    value[0] = command::RINGS[0];
    ethtool(name, &mut value)?;
    Ok(value)
}

/// Descriptors of a ring for receiving, and the most there can be.
#[must_use]
pub fn ring(name: &str) -> Option<[u32; 2]> {
    let value = rings(name).ok()?;
    (value[1] != 0).then_some([value[5], value[1]])
}

/// Sets how many descriptors a ring for receiving has.
///
/// # Errors
/// When the driver refuses.
pub fn set_ring(name: &str, descriptors: u32) -> io::Result<()> {
    let mut value = rings(name)?;
    value[0] = command::RINGS[1];
    value[5] = descriptors;
    ethtool(name, &mut value)
}

/// What counts for the choice of the queue, as bits of `RXH_*`.
///
/// It is in the first 16 bytes of `struct ethtool_rxnfc`, which is all that the kernel takes and gives
/// for this. The rest of the struct is there all the same.
#[must_use]
pub fn hash(name: &str, flow: u32) -> Option<u32> {
    let mut value = [0; 64];
    value[..2].copy_from_slice(&[command::HASH[0], flow]);
    ethtool(name, &mut value).ok()?;
    // A little-endian number of 64 bits.
    Some(value[2])
}

/// Sets what counts for the choice of the queue.
///
/// # Errors
/// When the driver refuses.
pub fn set_hash(name: &str, flow: u32, bits: u32) -> io::Result<()> {
    let mut value = [0; 64];
    value[..3].copy_from_slice(&[command::HASH[1], flow, bits]);
    ethtool(name, &mut value)
}

/// Something that the card or its driver does with packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Whether it is on.
    pub on: bool,
    /// Whether it can be switched.
    pub switchable: bool,
    number: usize,
    blocks: u32,
}

/// The feature of this name, such as `rx-lro`.
#[must_use]
pub fn feature(name: &str, wanted: &str) -> Option<Feature> {
    // `struct ethtool_sset_info`.
    let mut count = [command::SET_INFO, 0, 1 << FEATURE_NAMES, 0, 0];
    ethtool(name, &mut count).ok()?;
    let count = count[4];
    if count == 0 || count > MOST_FEATURES {
        return None;
    }
    // `struct ethtool_gstrings`: 32 bytes each.
    let mut strings = vec![0; 3 + count as usize * 8];
    strings[..3].copy_from_slice(&[command::STRINGS, FEATURE_NAMES, count]);
    ethtool(name, &mut strings).ok()?;
    let number = strings[3..].chunks_exact(8).position(|string| text(string) == wanted)?;
    // `struct ethtool_gfeatures`: four words for 32 features each: what can be switched, what is wanted,
    // what is on, what can never be switched.
    let blocks = count.div_ceil(32);
    let mut features = vec![0; 2 + blocks as usize * 4];
    features[..2].copy_from_slice(&[command::FEATURES[0], blocks]);
    ethtool(name, &mut features).ok()?;
    let has = |word: usize| features[2 + number / 32 * 4 + word] & 1 << (number % 32) != 0;
    Some(Feature { on: has(2), switchable: has(0) && !has(3), number, blocks })
}

/// Switches the feature of this name.
///
/// # Errors
/// When there is none, or the driver refuses. What it leaves as it was without saying so, it has to be
/// asked for.
pub fn set_feature(name: &str, wanted: &str, on: bool) -> io::Result<()> {
    let Feature { number, blocks, .. } = feature(name, wanted).ok_or(io::ErrorKind::NotFound)?;
    // `struct ethtool_sfeatures`: two words for 32 features each: which of them, and what they are to be.
    let mut value = vec![0; 2 + blocks as usize * 2];
    value[..2].copy_from_slice(&[command::FEATURES[1], blocks]);
    let (block, bit) = (2 + number / 32 * 2, 1 << (number % 32));
    value[block] = bit;
    value[block + 1] = if on { bit } else { 0 };
    ethtool(name, &mut value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_end_with_a_zero() {
        let words = [u32::from_ne_bytes(*b"veth"), 0, 7];
        assert_eq!(text(&words), "veth");
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn an_interface_that_is_not_there_says_nothing_and_takes_nothing() {
        let none = "no-such-one";
        assert_eq!((driver(none), queues(none), ring(none), hash(none, 2), word(none, 0x25)), Default::default());
        assert_eq!(feature(none, "rx-gro-hw"), None);
        for set in
            [set_queues(none, 1), set_ring(none, 1), set_hash(none, 2, PORTS), set_feature(none, "rx-lro", false)]
        {
            assert!(set.is_err());
        }
    }
}
