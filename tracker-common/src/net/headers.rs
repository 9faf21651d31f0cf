//! Headers below BEP 15: Ethernet, 802.1Q, IPv4, IPv6, UDP.
//!
//! Every struct is made of byte arrays, so that it has alignment 1, no padding and can be laid over
//! a packet. Integers are in network byte order.

/// An Ethernet header, without tags.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ethernet {
    /// Destination MAC address.
    pub destination: [u8; 6],
    /// Source MAC address.
    pub source: [u8; 6],
    /// What follows.
    pub ether_type: [u8; 2],
}

/// The first 16 bytes of a frame as two numbers in memory order: destination and source MAC address,
/// and 4 bytes behind them. So they are compared and exchanged in registers.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct FrameHead(pub [u64; 2]);

impl FrameHead {
    /// The destination MAC address in the low 48 bits; what is above them is something else.
    #[inline(always)]
    #[must_use]
    pub fn destination(self) -> u64 {
        self.0[0]
    }

    /// Whether the source MAC address is that of a group.
    #[inline(always)]
    #[must_use]
    pub fn is_source_group(self) -> bool {
        self.0[0] >> 48 & 1 != 0
    }

    /// The same with the two addresses exchanged.
    #[inline(always)]
    #[must_use]
    pub fn turned(self) -> Self {
        let [first, second] = self.0;
        let from = first >> 48 | (second & 0xffff_ffff) << 16;
        Self([from | first << 48, (first >> 16 & 0xffff_ffff) | (second & !0xffff_ffff)])
    }
}

/// An 802.1Q tag, as it follows the source MAC's `ether_type`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Vlan {
    /// Priority and VLAN number.
    pub tci: [u8; 2],
    /// What follows.
    pub ether_type: [u8; 2],
}

/// An IPv4 header without options (RFC 791).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv4 {
    /// Version 4, header length 5.
    pub version_ihl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Length with this header.
    pub total_length: [u8; 2],
    /// Identification.
    pub identification: [u8; 2],
    /// Flags and fragment offset.
    pub fragment: [u8; 2],
    /// Time to live.
    pub ttl: u8,
    /// What follows.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: [u8; 2],
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

/// An IPv6 header (RFC 8200).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv6 {
    /// Version 6, traffic class, flow label.
    pub version_flow: [u8; 4],
    /// Length after this header.
    pub payload_length: [u8; 2],
    /// What follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
}

/// A UDP header (RFC 768).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Udp {
    /// Source port.
    pub source: [u8; 2],
    /// Destination port.
    pub destination: [u8; 2],
    /// Length with this header.
    pub length: [u8; 2],
    /// Checksum; 0 for none (IPv4 only).
    pub checksum: [u8; 2],
}

const _: () = assert!(size_of::<Ethernet>() == 14 && align_of::<Ethernet>() == 1);
const _: () = assert!(size_of::<FrameHead>() == 16 && align_of::<FrameHead>() == 1);
const _: () = assert!(size_of::<Vlan>() == 4 && align_of::<Vlan>() == 1);
const _: () = assert!(size_of::<Ipv4>() == 20 && align_of::<Ipv4>() == 1);
const _: () = assert!(size_of::<Ipv6>() == 40 && align_of::<Ipv6>() == 1);
const _: () = assert!(size_of::<Udp>() == 8 && align_of::<Udp>() == 1);

/// `ether_type` of IPv4.
pub const ETHER_IPV4: [u8; 2] = [0x08, 0x00];

/// `ether_type` of IPv6.
pub const ETHER_IPV6: [u8; 2] = [0x86, 0xdd];

/// `ether_type` of an 802.1Q tag.
pub const ETHER_VLAN: [u8; 2] = [0x81, 0x00];

/// `ether_type` of an 802.1ad tag.
pub const ETHER_QINQ: [u8; 2] = [0x88, 0xa8];

/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;

#[cfg(test)]
mod tests {
    use super::FrameHead;

    fn head(bytes: [u8; 16]) -> FrameHead {
        let words = u128::from_le_bytes(bytes);
        FrameHead([words as u64, (words >> 64) as u64])
    }

    #[test]
    fn a_turned_frame_goes_back_where_it_came_from_with_the_same_type() {
        let frame = head(*b"DDddDDSSssSStype");
        let turned = frame.turned().0;
        assert_eq!(turned.map(u64::to_le_bytes).as_flattened(), b"SSssSSDDddDDtype");
        let again = FrameHead(turned).turned().0;
        assert_eq!(again, { frame.0 });
    }

    #[test]
    fn only_the_lowest_bit_of_the_sources_first_byte_says_that_it_is_a_group() {
        for (first, group) in [(0x01, true), (0xff, true), (0x33, true), (0x00, false), (0x02, false), (0xfe, false)] {
            let mut bytes = [if group { 0 } else { 0xff }; 16];
            bytes[6] = first;
            assert_eq!(head(bytes).is_source_group(), group, "{first:#x}");
        }
        assert_eq!(head(*b"DDddDDSSssSStype").destination() << 16, u64::from_le_bytes(*b"DDddDD\0\0") << 16);
    }
}
