//! Rows about headers, for the XDP program alone.

use super::{
    builder::{REQUESTER, TORRENT, Table, addresses, leechers, seeders},
    row::{
        CLIENT_MAC,
        Family::{V4, V6},
        Id, Peers, Row, Scope, TRACKER, TRACKER_MAC, TRACKER_PORT,
    },
};
use crate::{
    bep15::Announce,
    packet::{self, Checksum, Frame, Tag},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

impl Table {
    /// A row with a right announce in a frame that `change` makes odd.
    fn odd(&mut self, name: &str, change: impl FnOnce(&mut Frame)) -> &mut Row {
        let row = self.row(name, Scope::Frame, Announce::new(TORRENT, REQUESTER.2).bytes());
        row.id = Some(Id::Right);
        change(&mut row.frame);
        row
    }

    /// The same for a frame that is odd, but answered.
    fn answered(&mut self, name: &str, change: impl FnOnce(&mut Frame)) {
        let few = [leechers(self.family, 0..=2), seeders(self.family, 3..=4)].concat();
        let peers = Peers::All(addresses(&few));
        let row = self.announce(name, few, |_| {}, peers);
        row.scope = Scope::Frame;
        change(&mut row.frame);
    }

    pub(super) fn frames(&mut self) {
        let vlan = |number| Tag { protocol: packet::VLAN, control: number };
        let qinq = |number| Tag { protocol: packet::QINQ, control: number };
        self.answered("one VLAN tag", |frame| frame.tags = vec![vlan(0x6007)]);
        self.answered("a tag with VLAN number 0", |frame| frame.tags = vec![vlan(0)]);
        self.answered("hop limit 1", |frame| frame.hops = 1);
        self.answered("bytes behind the IP packet", |frame| frame.padding = 6);
        self.answered("many bytes behind the IP packet", |frame| frame.padding = 300);

        self.odd("two VLAN tags", |frame| frame.tags = vec![vlan(1), vlan(2)]).passed("vlan_stack");
        self.odd("802.1ad and 802.1Q tags", |frame| frame.tags = vec![qinq(1), vlan(2)]).passed("vlan_stack");
        self.odd("three tags", |frame| frame.tags = vec![vlan(1), vlan(2), vlan(3)]).passed("vlan_stack");
        self.odd("EtherType of something else", |frame| frame.ether_type = Some(0x88cc)).passed("not_ip");
        self.odd("EtherType of the other family", |frame| {
            frame.ether_type = Some(if frame.source.is_ipv4() { packet::IPV6 } else { packet::IPV4 });
        })
        .counter = None;
        self.odd("wrong IP version", |frame| frame.version = Some(5)).passed("ip_options");

        for (name, protocol) in
            [("TCP", packet::TCP), ("ICMP", packet::ICMP), ("ICMPv6", packet::ICMPV6), ("SCTP", 132)]
        {
            self.odd(name, |frame| frame.protocol = protocol).passed("not_udp");
        }

        self.odd("another MAC address", |frame| frame.destination_mac[5] ^= 1).passed("not_for_us");
        self.odd("broadcast MAC address", |frame| frame.destination_mac = [0xff; 6]).passed("not_for_us");
        self.odd("multicast MAC address", |frame| frame.destination_mac = [1, 0, 0x5e, 0, 0, 1]).passed("not_for_us");
        let foreign = self.family.host(2);
        self.odd("another host's address", |frame| frame.destination.set_ip(foreign)).passed("not_for_us");
        self.odd("another port", |frame| frame.destination.set_port(TRACKER_PORT + 1)).passed("not_for_us");
        self.odd("port with its bytes swapped", |frame| frame.destination.set_port(TRACKER_PORT.swap_bytes()))
            .passed("not_for_us");
        self.odd("port 0", |frame| frame.destination.set_port(0)).passed("not_for_us");

        self.odd("source port 0", |frame| frame.source.set_port(0)).passed("source_unusable");
        let unusable: &[&str] = match self.family {
            V4 => &["224.0.0.1", "239.1.2.3", "255.255.255.255", "0.0.0.0", "127.0.0.1", "240.0.0.1"],
            V6 => &["ff02::1", "ff0e::1", "::", "::1", "::ffff:198.18.77.9"],
        };
        for address in unusable {
            let source = address.parse().expect("an address");
            self.odd(&format!("from {address}"), |frame| frame.source.set_ip(source)).passed("source_unusable");
        }
        let own = self.family.tracker();
        self.odd("from the tracker's own address and port", |frame| frame.source = own).passed("source_unusable");
        self.odd("from a broadcast MAC address", |frame| frame.source_mac = [0xff; 6]).passed("source_unusable");
        self.odd("from a multicast MAC address", |frame| frame.source_mac[0] |= 1).passed("source_unusable");

        self.odd("wrong UDP checksum", |frame| frame.udp_checksum = Checksum::Wrong).passed("checksum_wrong");
        self.odd("unfinished UDP checksum", |frame| frame.udp_checksum = Checksum::Unfinished).passed("checksum_wrong");
        self.odd("UDP length one too short", |frame| frame.udp_length = -1).passed("length_mismatch");
        self.odd("UDP length one too long", |frame| frame.udp_length = 1).passed("length_mismatch");
        self.odd("UDP length below its header's", |frame| frame.udp_length = -99).passed("length_mismatch");
        self.odd("IP length one too short", |frame| frame.ip_length = -1).passed("length_mismatch");
        self.odd("IP length beyond the frame", |frame| frame.ip_length = 1).passed("length_mismatch");
        self.odd("frame cut in the payload", |frame| frame.cut = 1).passed("length_mismatch");
        self.odd("frame cut in the UDP header", |frame| frame.cut = 98 + 2).passed("length_mismatch");
        self.odd("frame cut in the IP header", |frame| frame.cut = 98 + 8 + 2).passed("header_truncated");
        self.odd("frame cut behind the Ethernet header", |frame| {
            frame.cut = frame.bytes().len() - 14;
        })
        .passed("header_truncated");
        self.odd("frame cut in the VLAN tag", |frame| {
            frame.tags = vec![vlan(7)];
            frame.cut = frame.bytes().len() - 16;
        })
        .passed("header_truncated");

        match self.family {
            V4 => self.frames_v4(),
            V6 => self.frames_v6(),
        }
    }

    fn frames_v4(&mut self) {
        self.answered("do not fragment", |frame| frame.fragment = 0x4000);
        self.answered("no UDP checksum", |frame| frame.udp_checksum = Checksum::Zero);
        self.odd("no UDP checksum, but an odd payload", |frame| {
            frame.udp_checksum = Checksum::Zero;
            frame.payload.truncate(97);
        })
        .dropped("too_short");
        self.odd("IP options", |frame| frame.options = vec![1; 4]).passed("ip_options");
        self.odd("many IP options", |frame| frame.options = vec![1; 40]).passed("ip_options");
        self.odd("IP header length below its minimum", |frame| frame.header_words = Some(4)).passed("ip_options");
        self.odd("first fragment", |frame| frame.fragment = 0x2000).passed("fragment");
        self.odd("last fragment", |frame| frame.fragment = 1).passed("fragment");
        self.odd("middle fragment", |frame| frame.fragment = 0x2000 | 64).passed("fragment");
        self.odd("fragment far behind", |frame| frame.fragment = 0x1fff).passed("fragment");
        self.odd("wrong IP checksum", |frame| frame.ip_checksum = Checksum::Wrong).passed("checksum_wrong");
        self.odd("IP checksum 0", |frame| frame.ip_checksum = Checksum::Zero).passed("checksum_wrong");
        self.odd("to all hosts", |frame| frame.destination.set_ip(Ipv4Addr::BROADCAST.into())).passed("not_for_us");
        self.odd("to a multicast group", |frame| frame.destination.set_ip(Ipv4Addr::new(224, 0, 0, 1).into()))
            .passed("not_for_us");

        let IpAddr::V4(tracker) = TRACKER[0] else { unreachable!("the first is the IPv4 address") };
        let row = self.odd("ARP", |_| {}).passed("not_ip");
        row.bytes = Some(packet::arp_request(CLIENT_MAC, Ipv4Addr::new(198, 18, 77, 9), tracker));
        for length in [14, 20] {
            let row = self.odd(&format!("Ethernet frame of {length} bytes"), |_| {});
            row.bytes = Some([&TRACKER_MAC[..], &CLIENT_MAC, &[0x08, 0x00], &[0x45; 6][..length - 14]].concat());
            row.passed("header_truncated");
        }
    }

    fn frames_v6(&mut self) {
        self.odd("no UDP checksum", |frame| frame.udp_checksum = Checksum::Zero).passed("checksum_wrong");
        for (name, number) in
            [("hop-by-hop options", 0), ("routing header", 43), ("fragment header", 44), ("destination options", 60)]
        {
            self.odd(name, |frame| frame.extension = Some(number)).passed("not_udp");
        }
        self.odd("to a multicast group", |frame| {
            frame.destination.set_ip(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into());
        })
        .passed("not_for_us");
    }
}
