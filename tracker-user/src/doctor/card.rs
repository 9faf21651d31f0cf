//! What an interface says of itself: driver, queues, rings, offloads, hashes, interrupts, XDP.

use super::files::Files;
use crate::xdp::{
    ethtool, generic,
    netlink::{AttachedMode, Interface},
    other_end::OtherEnd,
    tune,
};
use aya::programs::loaded_programs;
use std::collections::BTreeSet;

/// `ETHTOOL_GTXCSUM`, `ETHTOOL_GFLAGS`.
const TRANSMIT_CHECKSUMS: u32 = 0x16;
const FLAGS: u32 = 0x25;

/// `ETH_FLAG_LRO`, `ETH_FLAG_RXVLAN`.
const LARGE_RECEIVE: u32 = 1 << 15;
const VLAN: u32 = 1 << 8;

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
    /// Rules that choose queues for packets to UDP ports.
    pub rules: Option<Vec<ethtool::Rule>>,
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
        let flags = ethtool::word(name, FLAGS);
        let has_vlan = all.iter().any(|other| other.vlan_of == Some(interface.index));
        let peer = interface.veth_peer.filter(|peer| peer.namespace.is_none());
        let peer = peer.and_then(|peer| all.iter().find(|other| other.index == peer.index));
        let mut card = Self {
            name: name.clone(),
            driver: ethtool::driver(name),
            mtu: interface.mtu,
            xdp_features: generic::xdp_features(interface.index),
            attached: attached(interface),
            queues: ethtool::queues(name),
            cores: tune::cores(&files.path("/")).len() as u32,
            ring: ethtool::ring(name),
            large_receive: flags.map(|flags| flags & LARGE_RECEIVE != 0),
            hardware_gro: ethtool::feature(name, "rx-gro-hw").map(|feature| feature.on),
            vlan_offload: flags.map(|flags| flags & VLAN != 0 && has_vlan),
            port_hash: ethtool::UDP_FLOWS
                .map(|flow| Some(ethtool::hash(name, flow)? & ethtool::PORTS == ethtool::PORTS)),
            rules: ethtool::rules(name),
            open_checksums: None,
            loses_replies: OtherEnd::of(interface).loses_replies(),
            interrupts: interrupts(files, name),
        };
        card.open_checksums =
            peer.and_then(|peer| Some((peer.name.clone(), ethtool::word(&peer.name, TRANSMIT_CHECKSUMS)? != 0)));
        card
    }
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
    let numbers = tune::interrupts(&files.path("/"), name);
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
}
