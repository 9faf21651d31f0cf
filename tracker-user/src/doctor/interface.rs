//! What the state of an interface means for the tracker.

use super::{card::Card, finding::Finding};
use crate::xdp::tune::SHORT_RING;

/// `NETDEV_XDP_ACT_BASIC`, `NETDEV_XDP_ACT_HW_OFFLOAD`, `NETDEV_XDP_ACT_RX_SG`.
const BASIC: u64 = 1;
const OFFLOAD: u64 = 1 << 4;
const FRAGMENTS: u64 = 1 << 5;

/// The longest packet that fits a page with what native XDP keeps free in it. Drivers differ by some
/// bytes.
const LONGEST: u32 = 3498;

/// What IPv6 asks of every link.
const SHORTEST: u32 = 1280;

/// All that is to be said.
#[must_use]
pub fn findings(card: &Card) -> Vec<Finding> {
    let mut found: Vec<_> = [
        features(card),
        mtu(card),
        other_program(card),
        queues(card),
        interrupts(card),
        ring(card),
        together(card),
        vlan(card),
        checksums(card),
        other_end(card),
    ]
    .into_iter()
    .flatten()
    .collect();
    found.extend(hash(card));
    found.into_iter().map(|finding| finding.of(&card.name)).collect()
}

fn driver(card: &Card) -> &str {
    card.driver.as_deref().unwrap_or("unknown driver")
}

fn features(card: &Card) -> Option<Finding> {
    const CODE: &str = "xdp_features";
    let driver = driver(card);
    let Some(bits) = card.xdp_features else {
        let text = "The kernel does not say which XDP features the driver has (Linux 6.3 does)";
        return Some(Finding::good(CODE, text, driver));
    };
    let value = format!("{driver}, {bits:#x}");
    Some(if bits & BASIC == 0 {
        let text = "The driver has no native XDP; the generic mode works, but each packet costs a socket buffer first";
        Finding::advice(CODE, text, value).command(format!("tracker run --interface {} --xdp-mode generic", card.name))
    } else if bits & OFFLOAD != 0 {
        Finding::good(CODE, "The driver runs XDP natively, and the card can run programs itself", value)
    } else {
        Finding::good(CODE, "The driver runs XDP natively", value)
    })
}

fn mtu(card: &Card) -> Option<Finding> {
    const CODE: &str = "mtu";
    let Card { name, mtu, .. } = card;
    let takes_fragments = card.xdp_features.is_some_and(|bits| bits & FRAGMENTS != 0);
    Some(if *mtu > LONGEST {
        let text = if takes_fragments {
            "Packets may be longer than a page, which the driver takes only from programs that know fragments; the tracker's \
             does not"
        } else {
            "Packets may be longer than a page, which drivers refuse for native XDP"
        };
        Finding::problem(CODE, text, mtu.to_string()).command(format!("ip link set dev {name} mtu 1500"))
    } else if *mtu < SHORTEST {
        let text = "Packets are shorter than IPv6 needs, and replies carry fewer peers";
        Finding::advice(CODE, text, mtu.to_string()).command(format!("ip link set dev {name} mtu 1500"))
    } else {
        Finding::good(CODE, "Packets have a usual length", mtu.to_string())
    })
}

fn other_program(card: &Card) -> Option<Finding> {
    const CODE: &str = "other_xdp";
    let ours = |name: &str| name == "tracker";
    let value =
        |attached: &super::card::Attached| format!("{} ({}, number {})", attached.name, attached.mode, attached.number);
    if let Some(other) = card.attached.iter().find(|attached| !ours(&attached.name)) {
        let text = "Another XDP program is attached, and there is room for one";
        return Some(Finding::problem(CODE, text, value(other)).command(format!(
            "bpftool link show    # what holds it; or: ip link set dev {} xdp off; or: tracker run --force",
            card.name
        )));
    }
    Some(match card.attached.first() {
        Some(ours) => Finding::good(CODE, "The tracker's program is attached", value(ours)),
        None => Finding::good(CODE, "No other XDP program is attached", "none"),
    })
}

fn queues(card: &Card) -> Option<Finding> {
    const CODE: &str = "queues";
    let [now, most] = card.queues?;
    let Card { name, cores, .. } = card;
    let value = format!("{now} of {most}, {cores} cores");
    let wanted = most.min(*cores);
    Some(if now < wanted && driver(card) != "veth" {
        let text = "Fewer queues than cores: the others stay idle, as XDP runs where a packet arrives";
        Finding::advice(CODE, text, value).command_or_tune(format!("ethtool -L {name} combined {wanted}"))
    } else if now > *cores {
        Finding::good(CODE, "More queues than cores, which does no harm", value)
    } else {
        Finding::good(CODE, "A queue for each core, or as many as there can be", value)
    })
}

fn hash(card: &Card) -> Vec<Finding> {
    const CODE: &str = "port_hash";
    // With one queue nothing is chosen.
    if card.queues.is_none_or(|[now, _]| now < 2) {
        return Vec::new();
    }
    let of = |(flow, ports): (&str, Option<bool>)| {
        let value = flow.to_owned();
        Some(if ports? {
            Finding::good(CODE, "Clients are spread over the queues by their ports as well", value)
        } else {
            let text = "The queue is chosen by addresses alone, so users behind one address share a core";
            Finding::advice(CODE, text, value)
                .command_or_tune(format!("ethtool -N {} rx-flow-hash {flow} sdfn", card.name))
        })
    };
    ["udp4", "udp6"].into_iter().zip(card.port_hash).filter_map(of).collect()
}

fn interrupts(card: &Card) -> Option<Finding> {
    const CODE: &str = "interrupts";
    let (cores, count) = card.interrupts.as_ref()?;
    let list: Vec<_> = cores.iter().map(String::as_str).collect();
    let value = format!("{count} interrupts on cores {}", list.join(" "));
    Some(if cores.len() == 1 && card.cores > 1 {
        let text = "All queues interrupt one core, which then does all the work";
        Finding::advice(CODE, text, value)
            .command_or_tune("systemctl start irqbalance    # or /proc/irq/NUMBER/smp_affinity_list, one by one")
    } else {
        Finding::good(CODE, "Interrupts are spread", value)
    })
}

fn ring(card: &Card) -> Option<Finding> {
    const CODE: &str = "ring";
    let [now, most] = card.ring?;
    let value = format!("{now} of {most}");
    let wanted = most.min(SHORT_RING);
    Some(if now < wanted {
        let text = "The ring for receiving is short: bursts are lost before XDP sees them";
        Finding::advice(CODE, text, value).command_or_tune(format!("ethtool -G {} rx {wanted}", card.name))
    } else {
        Finding::good(CODE, "The ring for receiving is long enough", value)
    })
}

fn together(card: &Card) -> Option<Finding> {
    const CODE: &str = "receive_offload";
    let name = &card.name;
    if card.large_receive == Some(true) {
        let text = "Packets are put together before XDP (LRO), which drivers refuse for native XDP";
        return Some(Finding::problem(CODE, text, "LRO on").command_or_tune(format!("ethtool -K {name} lro off")));
    }
    if card.hardware_gro == Some(true) && card.attached.is_empty() {
        let text = "Packets are put together in the card (GRO-HW), which some drivers refuse for native XDP";
        return Some(
            Finding::advice(CODE, text, "rx-gro-hw on").command_or_tune(format!("ethtool -K {name} rx-gro-hw off")),
        );
    }
    card.large_receive.map(|_| Finding::good(CODE, "Packets come one by one", "LRO and GRO-HW off"))
}

fn vlan(card: &Card) -> Option<Finding> {
    const CODE: &str = "vlan_offload";
    Some(if card.vlan_offload? {
        let text = "The card takes VLAN tags off, so packets of VLANs look untagged to XDP, and are left to sockets";
        Finding::advice(CODE, text, "rxvlan on").command_or_tune(format!("ethtool -K {} rxvlan off", card.name))
    } else {
        Finding::good(CODE, "VLAN tags stay on packets, or there are no VLANs", "")
    })
}

fn checksums(card: &Card) -> Option<Finding> {
    const CODE: &str = "veth_checksums";
    let (peer, open) = card.open_checksums.as_ref()?;
    Some(if *open {
        let text = "The other end of the veth pair leaves checksums open, so XDP passes its packets on to sockets";
        Finding::advice(CODE, text, peer.clone()).command(format!("ethtool -K {peer} tx off"))
    } else {
        Finding::good(CODE, "The other end of the veth pair sends whole checksums", peer.clone())
    })
}

fn other_end(card: &Card) -> Option<Finding> {
    const CODE: &str = "veth_other_end";
    if driver(card) != "veth" {
        return None;
    }
    Some(if card.loses_replies {
        let text = "The other end of the veth pair has no native XDP program, as far as can be seen, so replies of native XDP \
                    would be lost; mode auto takes generic";
        Finding::advice(CODE, text, "veth").command(format!("tracker run --interface {} --xdp-mode auto", card.name))
    } else {
        Finding::good(CODE, "The other end of the veth pair takes replies of native XDP", "veth")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{card::Attached, finding::Severity};

    /// A card as it should be.
    fn right() -> Card {
        Card {
            name: "eth0".into(),
            driver: Some("ice".into()),
            mtu: 1500,
            xdp_features: Some(0x6f),
            attached: Vec::new(),
            queues: Some([8, 64]),
            cores: 8,
            ring: Some([2048, 8160]),
            large_receive: Some(false),
            hardware_gro: Some(false),
            vlan_offload: Some(false),
            port_hash: [Some(true), Some(true)],
            rules: Some(Vec::new()),
            open_checksums: None,
            loses_replies: false,
            interrupts: Some((["0", "1"].map(str::to_owned).into(), 9)),
        }
    }

    fn wrong(card: &Card) -> Vec<(&'static str, Severity)> {
        let found = findings(card);
        assert!(found.iter().all(|finding| finding.interface.as_deref() == Some("eth0")));
        let wrong = found.iter().filter(|finding| finding.severity != Severity::Good);
        wrong.map(|finding| (finding.code, finding.severity)).collect()
    }

    #[test]
    fn a_card_as_it_should_be_is_not_complained_about() {
        let ours = Attached { mode: "native", name: "tracker".into(), number: 7 };
        let one_queue = Card { queues: Some([1, 1]), port_hash: [Some(false); 2], cores: 1, ..right() };
        let silent = Card { name: "eth0".into(), mtu: 1500, ..Card::default() };
        let veth = Card { driver: Some("veth".into()), open_checksums: Some(("p".into(), false)), ..right() };
        for card in [right(), Card { attached: vec![ours], ..right() }, one_queue, silent, veth] {
            assert_eq!(wrong(&card), [], "{card:?}");
        }
    }

    #[test]
    fn each_thing_that_is_wrong_is_found_and_nothing_else() {
        let other = Attached { mode: "generic", name: "dispatcher".into(), number: 9 };
        let one = |core: &str| ([core.to_owned()].into(), 9);
        let veth = || Card { driver: Some("veth".into()), ..right() };
        let rows: [(Card, &[(&str, Severity)]); 15] = [
            (Card { xdp_features: Some(0), ..right() }, &[("xdp_features", Severity::Advice)]),
            (Card { mtu: 9000, ..right() }, &[("mtu", Severity::Problem)]),
            (Card { mtu: 9000, xdp_features: Some(1), ..right() }, &[("mtu", Severity::Problem)]),
            (Card { mtu: 3499, ..right() }, &[("mtu", Severity::Problem)]),
            (Card { mtu: 1279, ..right() }, &[("mtu", Severity::Advice)]),
            (Card { attached: vec![other], ..right() }, &[("other_xdp", Severity::Problem)]),
            (Card { queues: Some([2, 64]), ..right() }, &[("queues", Severity::Advice)]),
            (Card { port_hash: [Some(false), Some(true)], ..right() }, &[("port_hash", Severity::Advice)]),
            (Card { interrupts: Some(one("3")), ..right() }, &[("interrupts", Severity::Advice)]),
            (Card { ring: Some([256, 4096]), ..right() }, &[("ring", Severity::Advice)]),
            (Card { large_receive: Some(true), ..right() }, &[("receive_offload", Severity::Problem)]),
            (Card { hardware_gro: Some(true), ..right() }, &[("receive_offload", Severity::Advice)]),
            (Card { vlan_offload: Some(true), ..right() }, &[("vlan_offload", Severity::Advice)]),
            (Card { open_checksums: Some(("p".into(), true)), ..veth() }, &[("veth_checksums", Severity::Advice)]),
            (Card { loses_replies: true, ..veth() }, &[("veth_other_end", Severity::Advice)]),
        ];
        for (card, expected) in rows {
            assert_eq!(wrong(&card), expected, "{card:?}");
        }
    }

    #[test]
    fn what_tune_sets_is_said_to_be_set_by_it() {
        let card = Card {
            mtu: 9000,
            queues: Some([2, 8]),
            ring: Some([256, 4096]),
            hardware_gro: Some(true),
            vlan_offload: Some(true),
            port_hash: [Some(false); 2],
            interrupts: Some((["0".to_owned()].into(), 9)),
            ..right()
        };
        let tuned: Vec<_> = findings(&card).into_iter().filter(|finding| finding.tuned).collect();
        let codes: Vec<_> = tuned.iter().map(|finding| finding.code).collect();
        assert_eq!(
            codes,
            ["queues", "interrupts", "ring", "receive_offload", "vlan_offload", "port_hash", "port_hash"]
        );
        assert!(tuned.iter().all(|finding| finding.severity != Severity::Good && finding.command.is_some()));
    }

    #[test]
    fn what_is_to_be_done_says_how() {
        let card = Card { mtu: 9000, large_receive: Some(true), queues: Some([1, 4]), ..right() };
        let commands: Vec<_> = findings(&card).into_iter().filter_map(|finding| finding.command).collect();
        assert_eq!(
            commands,
            ["ip link set dev eth0 mtu 1500", "ethtool -L eth0 combined 4", "ethtool -K eth0 lro off"]
        );
    }
}
