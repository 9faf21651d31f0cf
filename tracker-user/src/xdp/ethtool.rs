//! What `ethtool` reads and sets, one setting at a time, by the same requests (`linux/ethtool.h`).

use super::offload::ethtool;
use std::io;

/// Commands of `linux/ethtool.h`: what reads, and what sets, where it is set here.
mod command {
    pub const DRIVER: u32 = 0x03;
    pub const RINGS: [u32; 2] = [0x10, 0x11];
    pub const STRINGS: u32 = 0x1b;
    pub const HASH: [u32; 2] = [0x29, 0x2a];
    pub const RULE_COUNT: u32 = 0x2e;
    pub const RULE: u32 = 0x2f;
    pub const RULES: u32 = 0x30;
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

/// More rules than are looked at.
const MOST_RULES: usize = 4096;

/// Words of `struct ethtool_rxnfc`, behind which the numbers of rules follow.
const RULE_WORDS: usize = 48;

/// Where in that struct is how many rules there are, or the RSS context of one; and where their numbers
/// begin. In words.
const RULE_COUNT_AT: usize = 46;
const RULE_NUMBERS_AT: usize = 47;

/// Where in that struct the rule itself is (`struct ethtool_rx_flow_spec`), and in this what has to match,
/// which bits of it count, where packets go, and its number. In bytes.
const SPECIFICATION_AT: usize = 16;
const MATCHED_AT: usize = SPECIFICATION_AT + 4;
const COUNTING_AT: usize = SPECIFICATION_AT + 76;
const TARGET_AT: usize = SPECIFICATION_AT + 152;
const NUMBER_AT: usize = SPECIFICATION_AT + 160;

/// Where in what has to match the destination's port is, over IPv4 and IPv6 (`struct ethtool_tcpip4_spec`,
/// `struct ethtool_tcpip6_spec`).
const PORT_AT: [usize; 2] = [10, 34];

/// `FLOW_RSS`: the target is an RSS context. `FLOW_EXT`, `FLOW_MAC_EXT`: more than this has to match.
const FLOW_RSS: u32 = 0x2000_0000;
const FLOW_EXTENSIONS: u32 = 0xc000_0000;

/// `RX_CLS_FLOW_DISC`.
const TARGET_DROP: u64 = u64::MAX;

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

/// Where a rule sends packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To one queue.
    Queue(u32),
    /// To the queues of an RSS context.
    Context(u32),
    /// Nowhere.
    Drop,
}

/// A rule by which the card chooses queues for packets to one UDP port (n-tuple).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its number.
    pub number: u32,
    /// Whether it is for IPv6.
    pub v6: bool,
    /// The port that packets go to.
    pub port: u16,
    /// Where it sends them.
    pub target: Target,
}

/// Rules for single UDP ports, whatever else they ask for. `None` if the driver takes no rules.
#[must_use]
pub fn rules(name: &str) -> Option<Vec<Rule>> {
    let mut count = [0; RULE_WORDS];
    count[0] = command::RULE_COUNT;
    ethtool(name, &mut count).ok()?;
    let count = (count[RULE_COUNT_AT] as usize).min(MOST_RULES);
    if count == 0 {
        return Some(Vec::new());
    }
    let mut all = vec![0; RULE_NUMBERS_AT + count];
    all.resize(all.len().max(RULE_WORDS), 0);
    all[0] = command::RULES;
    all[RULE_COUNT_AT] = count as u32;
    ethtool(name, &mut all).ok()?;
    let numbers = &all[RULE_NUMBERS_AT..][..count.min(all[RULE_COUNT_AT] as usize)];
    let read = |number: &u32| {
        let mut words = [0; RULE_WORDS];
        words[0] = command::RULE;
        words[NUMBER_AT / 4] = *number;
        ethtool(name, &mut words).ok()?;
        rule(*number, &words)
    };
    Some(numbers.iter().filter_map(read).collect())
}

/// A rule as the kernel gives it. `None` if it is not for a UDP port.
fn rule(number: u32, words: &[u32; RULE_WORDS]) -> Option<Rule> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let flow = words[SPECIFICATION_AT / 4];
    let family = UDP_FLOWS.iter().position(|udp| *udp == flow & !(FLOW_RSS | FLOW_EXTENSIONS))?;
    let port = |at: usize| u16::from_be_bytes([bytes[at + PORT_AT[family]], bytes[at + PORT_AT[family] + 1]]);
    if port(COUNTING_AT) != u16::MAX {
        return None;
    }
    let target = u64::from_ne_bytes(bytes[TARGET_AT..TARGET_AT + 8].try_into().ok()?);
    let target = if target == TARGET_DROP {
        Target::Drop
    } else if flow & FLOW_RSS != 0 {
        Target::Context(words[RULE_COUNT_AT])
    } else {
        // The upper half names a virtual function.
        Target::Queue(target as u32)
    };
    Some(Rule { number, v6: family == 1, port: port(MATCHED_AT), target })
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

    /// `linux/ethtool.h`, with what has to match as bytes.
    mod kernel {
        #[repr(C)]
        pub struct RxFlowSpec {
            pub flow_type: u32,
            pub h_u: [u8; 52],
            pub h_ext: [u8; 20],
            pub m_u: [u8; 52],
            pub m_ext: [u8; 20],
            pub ring_cookie: u64,
            pub location: u32,
        }

        #[repr(C)]
        pub struct RxNfc {
            pub cmd: u32,
            pub flow_type: u32,
            pub data: u64,
            pub fs: RxFlowSpec,
            pub rule_cnt: u32,
            pub rule_locs: [u32; 0],
        }

        #[repr(C)]
        pub struct TcpIp4Spec {
            pub ip4src: u32,
            pub ip4dst: u32,
            pub psrc: u16,
            pub pdst: u16,
            pub tos: u8,
        }

        #[repr(C)]
        pub struct TcpIp6Spec {
            pub ip6src: [u32; 4],
            pub ip6dst: [u32; 4],
            pub psrc: u16,
            pub pdst: u16,
            pub tclass: u8,
        }
    }

    #[test]
    fn rules_are_where_the_kernel_has_them() {
        use kernel::{RxFlowSpec, RxNfc, TcpIp4Spec, TcpIp6Spec};
        use std::mem::offset_of;
        // As a C compiler has it on x86-64 and on all others with 64 bits.
        assert_eq!((size_of::<RxFlowSpec>(), size_of::<RxNfc>()), (168, RULE_WORDS * 4));
        assert_eq!(offset_of!(RxNfc, fs), SPECIFICATION_AT);
        assert_eq!(SPECIFICATION_AT + offset_of!(RxFlowSpec, h_u), MATCHED_AT);
        assert_eq!(SPECIFICATION_AT + offset_of!(RxFlowSpec, m_u), COUNTING_AT);
        assert_eq!(SPECIFICATION_AT + offset_of!(RxFlowSpec, ring_cookie), TARGET_AT);
        assert_eq!(SPECIFICATION_AT + offset_of!(RxFlowSpec, location), NUMBER_AT);
        assert_eq!(offset_of!(RxNfc, rule_cnt), RULE_COUNT_AT * 4);
        assert_eq!(offset_of!(RxNfc, rule_locs), RULE_NUMBERS_AT * 4);
        assert_eq!([offset_of!(TcpIp4Spec, pdst), offset_of!(TcpIp6Spec, pdst)], PORT_AT);
    }

    #[test]
    fn rules_for_one_udp_port_are_understood_and_others_left_out() {
        const TCP: u32 = 1;
        let [udp4, udp6] = UDP_FLOWS;
        let some = |v6: bool, target: Target| Some(Rule { number: 9, v6, port: 6969, target });
        // (kind of flow, bits of the port that count, where to, RSS context, the rule)
        for (flow, counting, cookie, context, expected) in [
            (udp4, 0xffff, 3, 0, some(false, Target::Queue(3))),
            (udp6, 0xffff, 0, 0, some(true, Target::Queue(0))),
            (udp4 | FLOW_RSS, 0xffff, 0, 2, some(false, Target::Context(2))),
            (udp6 | FLOW_RSS, 0xffff, 0, 1, some(true, Target::Context(1))),
            (udp4 | 0x8000_0000, 0xffff, 1, 0, some(false, Target::Queue(1))),
            (udp4, 0xffff, 1 << 32 | 5, 0, some(false, Target::Queue(5))),
            (udp4, 0xffff, u64::MAX, 0, some(false, Target::Drop)),
            (udp4 | FLOW_RSS, 0xffff, u64::MAX, 1, some(false, Target::Drop)),
            (udp4, 0xff00, 3, 0, None),
            (udp4, 0, 3, 0, None),
            (TCP, 0xffff, 3, 0, None),
            (0, 0xffff, 3, 0, None),
        ] {
            let mut bytes = [0_u8; RULE_WORDS * 4];
            let at = PORT_AT[usize::from(flow & 0xff == udp6)];
            bytes[SPECIFICATION_AT..][..4].copy_from_slice(&flow.to_ne_bytes());
            bytes[MATCHED_AT + at..][..2].copy_from_slice(&6969_u16.to_be_bytes());
            bytes[COUNTING_AT + at..][..2].copy_from_slice(&(counting as u16).to_be_bytes());
            bytes[TARGET_AT..][..8].copy_from_slice(&u64::to_ne_bytes(cookie));
            bytes[RULE_COUNT_AT * 4..][..4].copy_from_slice(&u32::to_ne_bytes(context));
            let mut words = [0; RULE_WORDS];
            for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
                *word = u32::from_ne_bytes(bytes.try_into().expect("four"));
            }
            assert_eq!(rule(9, &words), expected, "{flow:#x}, {counting:#x}, {cookie:#x}");
        }
    }

    #[test]
    fn an_interface_that_is_not_there_says_nothing_and_takes_nothing() {
        let none = "no-such-one";
        assert_eq!(rules(none), None);
        assert_eq!((driver(none), queues(none), ring(none), hash(none, 2), word(none, 0x25)), Default::default());
        assert_eq!(feature(none, "rx-gro-hw"), None);
        for set in
            [set_queues(none, 1), set_ring(none, 1), set_hash(none, 2, PORTS), set_feature(none, "rx-lro", false)]
        {
            assert!(set.is_err());
        }
    }
}
