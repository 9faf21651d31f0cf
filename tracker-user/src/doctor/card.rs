//! What an interface says of itself: driver, queues, rings, offloads, hashes, interrupts, XDP.

use super::files::Files;
use crate::xdp::{
    generic,
    netlink::{AttachedMode, Interface},
    offload::ethtool,
    other_end::OtherEnd,
};
use aya::programs::loaded_programs;
use std::collections::BTreeSet;

/// Commands of `linux/ethtool.h`.
mod command {
    pub const DRIVER: u32 = 0x03;
    pub const RINGS: u32 = 0x10;
    pub const TRANSMIT_CHECKSUMS: u32 = 0x16;
    pub const STRINGS: u32 = 0x1b;
    pub const FLAGS: u32 = 0x25;
    pub const HASH: u32 = 0x29;
    pub const SET_INFO: u32 = 0x37;
    pub const FEATURES: u32 = 0x3a;
    pub const CHANNELS: u32 = 0x3c;
}

/// `ETH_FLAG_LRO`, `ETH_FLAG_RXVLAN`.
const LARGE_RECEIVE: u32 = 1 << 15;
const VLAN: u32 = 1 << 8;

/// `RXH_L4_B_0_1 | RXH_L4_B_2_3`: both ports.
const PORTS: u32 = 3 << 6;

/// `ETH_SS_FEATURES`.
const FEATURE_NAMES: u32 = 4;

/// An XDP program that is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Where it runs.
    pub mode: &'static str,
    /// Its name.
    pub name: String,
    /// The kernel's number of it.
    pub number: u32,
}

/// What is known; `None` where the interface does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: Option<String>,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// Bits of `NETDEV_XDP_ACT_*`.
    pub xdp_features: Option<u64>,
    /// Programs that are attached.
    pub attached: Vec<Attached>,
    /// Queues for receiving, and the most there can be.
    pub queues: Option<[u32; 2]>,
    /// Cores that are online.
    pub cores: u32,
    /// Descriptors of a ring for receiving, and the most there can be.
    pub ring: Option<[u32; 2]>,
    /// Packets are put together in the card or driver (LRO).
    pub large_receive: Option<bool>,
    /// The same in the card, so that they can be taken apart again (GRO-HW).
    pub hardware_gro: Option<bool>,
    /// VLAN tags are taken off, and there are VLANs.
    pub vlan_offload: Option<bool>,
    /// UDP ports count for the choice of the queue, over IPv4 and IPv6.
    pub port_hash: [Option<bool>; 2],
    /// For an end of a veth pair: the name of the other end if it is in this namespace, and whether it
    /// leaves checksums of what it sends open.
    pub open_checksums: Option<(String, bool)>,
    /// For an end of a veth pair: whether replies in native mode are lost.
    pub loses_replies: bool,
    /// Cores that take interrupts of its queues, and how many interrupts there are.
    pub interrupts: Option<(BTreeSet<String>, usize)>,
}

impl Card {
    /// Asks. What cannot be asked is left out.
    #[must_use]
    pub fn read(files: &Files, interface: &Interface, all: &[Interface]) -> Self {
        let name = &interface.name;
        let flags = word(name, command::FLAGS);
        let has_vlan = all.iter().any(|other| other.vlan_of == Some(interface.index));
        let peer = interface.veth_peer.filter(|peer| peer.namespace.is_none());
        let peer = peer.and_then(|peer| all.iter().find(|other| other.index == peer.index));
        let mut card = Self {
            name: name.clone(),
            driver: driver(name),
            mtu: interface.mtu,
            xdp_features: generic::xdp_features(interface.index),
            attached: attached(interface),
            queues: queues(name),
            cores: std::thread::available_parallelism().map_or(1, usize::from) as u32,
            ring: ring(name),
            large_receive: flags.map(|flags| flags & LARGE_RECEIVE != 0),
            hardware_gro: feature(name, "rx-gro-hw"),
            vlan_offload: flags.map(|flags| flags & VLAN != 0 && has_vlan),
            port_hash: [2, 6].map(|flow| port_hash(name, flow)),
            open_checksums: None,
            loses_replies: OtherEnd::of(interface).loses_replies(),
            interrupts: interrupts(files, name),
        };
        card.open_checksums =
            peer.and_then(|peer| Some((peer.name.clone(), word(&peer.name, command::TRANSMIT_CHECKSUMS)? != 0)));
        card
    }
}

/// A command that gives one word.
fn word(name: &str, command: u32) -> Option<u32> {
    let mut value = [command, 0];
    ethtool(name, &mut value).ok()?;
    Some(value[1])
}

/// `struct ethtool_drvinfo`: the driver's name is at its beginning.
fn driver(name: &str) -> Option<String> {
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
fn queues(name: &str) -> Option<[u32; 2]> {
    let mut value = [0; 9];
    value[0] = command::CHANNELS;
    ethtool(name, &mut value).ok()?;
    Some([value[5] + value[8], value[1].max(value[4])])
}

/// `struct ethtool_ringparam`.
fn ring(name: &str) -> Option<[u32; 2]> {
    let mut value = [0; 9];
    value[0] = command::RINGS;
    ethtool(name, &mut value).ok()?;
    (value[1] != 0).then_some([value[5], value[1]])
}

/// The first 16 bytes of `struct ethtool_rxnfc`, which is all that the kernel takes and gives for
/// this. The rest of the struct is there all the same.
fn port_hash(name: &str, flow: u32) -> Option<bool> {
    let mut value = [0; 64];
    value[0] = command::HASH;
    value[1] = flow;
    ethtool(name, &mut value).ok()?;
    // A little-endian number of 64 bits.
    Some(value[2] & PORTS == PORTS)
}

/// Whether a feature is on, by its name.
fn feature(name: &str, wanted: &str) -> Option<bool> {
    // `struct ethtool_sset_info`.
    let mut count = [command::SET_INFO, 0, 1 << FEATURE_NAMES, 0, 0];
    ethtool(name, &mut count).ok()?;
    let count = count[4];
    if count == 0 || count > 1024 {
        return None;
    }
    // `struct ethtool_gstrings`: 32 bytes each.
    let mut strings = vec![0; 3 + count as usize * 8];
    strings[..3].copy_from_slice(&[command::STRINGS, FEATURE_NAMES, count]);
    ethtool(name, &mut strings).ok()?;
    let number = strings[3..].chunks_exact(8).position(|string| text(string) == wanted)?;
    // `struct ethtool_gfeatures`: four words for 32 features each, of which the third says what is on.
    let blocks = count.div_ceil(32);
    let mut features = vec![0; 2 + blocks as usize * 4];
    features[..2].copy_from_slice(&[command::FEATURES, blocks]);
    ethtool(name, &mut features).ok()?;
    Some(features[2 + number / 32 * 4 + 2] & 1 << (number % 32) != 0)
}

fn attached(interface: &Interface) -> Vec<Attached> {
    let name = |number: u32| {
        let program = loaded_programs().flatten().find(|program| program.id() == number);
        program.map_or_else(|| "?".into(), |program| String::from_utf8_lossy(program.name()).into_owned())
    };
    let mode = |mode: AttachedMode| mode.label();
    interface
        .xdp
        .iter()
        .map(|program| Attached { mode: mode(program.mode), name: name(program.program), number: program.program })
        .collect()
}

/// Where the interrupts of a card's queues go.
fn interrupts(files: &Files, name: &str) -> Option<(BTreeSet<String>, usize)> {
    let numbers = files.names(&format!("/sys/class/net/{name}/device/msi_irqs"));
    // With virtio the interrupts are those of the device behind it.
    let numbers =
        if numbers.is_empty() { files.names(&format!("/sys/class/net/{name}/device/../msi_irqs")) } else { numbers };
    let cores: Vec<_> = numbers
        .iter()
        .filter_map(|number| files.text(&format!("/proc/irq/{number}/effective_affinity_list")))
        .collect();
    // One is for changes of the configuration.
    (cores.len() > 2).then(|| (cores.iter().cloned().collect(), cores.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::files::Staged;

    #[test]
    fn interrupts_are_those_of_the_card() {
        let file = |number: u32| format!("/sys/class/net/eth0/device/msi_irqs/{number}");
        let core = |number: u32| format!("/proc/irq/{number}/effective_affinity_list");
        let (a, b, c) = (file(7), file(8), file(9));
        let (core_a, core_b, core_c) = (core(7), core(8), core(9));
        let staged = Staged::new(
            "interrupts",
            &[
                (&a, "msix"),
                (&b, "msix"),
                (&c, "msix"),
                (&core_a, "0\n"),
                (&core_b, "1\n"),
                (&core_c, "1\n"),
                (&core(10), "5"),
            ],
        );
        let cores = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(interrupts(&staged.files(), "eth0"), Some((cores(&["0", "1"]), 3)));
        assert_eq!(interrupts(&staged.files(), "eth1"), None);
    }

    #[test]
    fn texts_end_with_a_zero() {
        let words = [u32::from_ne_bytes(*b"veth"), 0, 7];
        assert_eq!(text(&words), "veth");
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn an_interface_that_is_not_there_says_nothing() {
        assert_eq!(
            (driver("no-such-one"), queues("no-such-one"), feature("no-such-one", "rx-gro-hw")),
            (None, None, None)
        );
    }
}
