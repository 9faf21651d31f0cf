//! The scope of a peer's address: from how far away it can be reached.
//!
//! A client on the tracker's own host, link or private network announces from an address that means
//! nothing to others, or worse, another host. So a requester with a public address is given peers
//! with public addresses only; one with a private address, private ones as well; one with a
//! link-local address, those of links too; and one over loopback, all.
//!
//! Swarms without such peers must not pay for this. A swarm record, for the few peers in it, and
//! every partition carry the scopes of all peers that they ever held
//! ([`super::layout::Swarm::scopes`], [`super::layout::Partition::scopes`]). Only where these
//! exceed what the requester may see, each peer is looked at.

use crate::codegen::is_equal;

/// Peers of private networks (RFC 1918, RFC 6598, RFC 4193; fec0::/10 of RFC 3879).
pub const PRIVATE: u32 = 1;
/// Peers of a link (RFC 3927, RFC 4291).
pub const LINK: u32 = 2;
/// Peers of this host.
pub const HOST: u32 = 4;

/// How many bits there are.
pub const BITS: u32 = 3;

/// What a requester sees that sees every peer ([`visible`]).
pub const EVERYTHING: u32 = 3;

/// What a requester sees whose own address has this scope: how many of the bits, from the lowest
/// on, may be set of a peer.
#[inline(always)]
#[must_use]
pub fn visible(scope: u32) -> u32 {
    scope - (scope >> 2)
}

/// Whether one of these scopes is beyond what is visible.
#[inline(always)]
#[must_use]
pub fn exceeds(scopes: u32, visible: u32) -> bool {
    scopes >> visible != 0
}

/// The scope of an IPv4 address, in memory order in the low 32 bits of `word`; 0 if it is public.
#[inline(always)]
pub(super) fn of_v4(word: u64) -> u32 {
    let (first, two) = (word & 0xff, word & 0xffff);
    let private = is_equal(first, 10)
        | is_equal(two, u64::from(u16::from_le_bytes([192, 168])))
        | is_equal(word & 0xf0ff, u64::from(u16::from_le_bytes([172, 16])))
        | is_equal(word & 0xc0ff, u64::from(u16::from_le_bytes([100, 64])));
    let link = is_equal(two, u64::from(u16::from_le_bytes([169, 254])));
    (private | link << 1 | is_equal(first, 127) << 2) as u32
}

/// The scope of an IPv6 address, as two words in memory order; 0 if it is public.
#[inline(always)]
pub(super) fn of_v6(address: [u64; 2]) -> u32 {
    let ten_bits = address[0] & 0xc0ff;
    let private = is_equal(address[0] & 0xfe, 0xfc) | is_equal(ten_bits, u64::from(u16::from_le_bytes([0xfe, 0xc0])));
    let link = is_equal(ten_bits, u64::from(u16::from_le_bytes([0xfe, 0x80])));
    let host = is_equal(address[0] | (address[1] ^ 1 << 56), 0);
    (private | link << 1 | host << 2) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::family::{Family as _, V4, V6};
    use core::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn addresses_have_the_scope_of_their_networks() {
        for (address, expected) in [
            ("1.1.1.1", 0),
            ("9.255.255.255", 0),
            ("10.0.0.0", PRIVATE),
            ("10.255.255.255", PRIVATE),
            ("11.0.0.0", 0),
            ("100.63.255.255", 0),
            ("100.64.0.0", PRIVATE),
            ("100.127.255.255", PRIVATE),
            ("100.128.0.0", 0),
            ("126.255.255.255", 0),
            ("127.0.0.1", HOST),
            ("127.255.255.255", HOST),
            ("128.0.0.0", 0),
            ("169.253.255.255", 0),
            ("169.254.0.1", LINK),
            ("169.255.0.0", 0),
            ("172.15.255.255", 0),
            ("172.16.0.0", PRIVATE),
            ("172.31.255.255", PRIVATE),
            ("172.32.0.0", 0),
            ("192.167.255.255", 0),
            ("192.168.0.0", PRIVATE),
            ("192.168.255.255", PRIVATE),
            ("192.169.0.0", 0),
            ("198.18.0.1", 0),
            ("223.255.255.255", 0),
        ] {
            let ip: Ipv4Addr = address.parse().expect("an address");
            assert_eq!(V4::scope(V4::key(ip.octets(), 0xffff)), expected, "{address}");
        }
        for (address, expected) in [
            ("2001:db8::1", 0),
            ("::2", 0),
            ("::1", HOST),
            ("::100:0:0:0:1", 0),
            ("fbff::1", 0),
            ("fc00::1", PRIVATE),
            ("fdff:ffff::1", PRIVATE),
            ("fe00::1", 0),
            ("fe7f::1", 0),
            ("fe80::1", LINK),
            ("febf::1", LINK),
            ("fec0::1", PRIVATE),
            ("feff::1", PRIVATE),
            ("ff02::1", 0),
            ("64:ff9b::a00:1", 0),
        ] {
            let ip: Ipv6Addr = address.parse().expect("an address");
            assert_eq!(V6::scope(V6::key(ip.octets(), 0xffff)), expected, "{address}");
        }
    }

    #[test]
    fn requesters_see_their_own_scope_and_wider_ones() {
        // (requester, what peers may have)
        for (requester, seen) in [(0, 0), (PRIVATE, PRIVATE), (LINK, PRIVATE | LINK), (HOST, PRIVATE | LINK | HOST)] {
            for peer in [0, PRIVATE, LINK, HOST] {
                assert_eq!(exceeds(peer, visible(requester)), peer & !seen != 0, "{requester} {peer}");
            }
        }
        assert!(!exceeds(PRIVATE | LINK | HOST, EVERYTHING));
    }
}
