//! How often one client may begin a TLS handshake, which costs the tracker a hundred times what it
//! costs the client to ask for one.
//!
//! A client, which is an IPv4 address or an IPv6 network, has a bucket of tokens, and the network around
//! it (IPv4 /24, IPv6 /48) has one with eight times as many. They lie in a table of fixed size, as those
//! of requests do ([`tracker_common::limits::table`], where it is said what a bucket is and who gives way
//! to whom), which all HTTP threads share.

use crate::listen::Source;
use std::{
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};
use tracker_common::limits::table::{FULL, TICKS, WAYS, bucket, cost, missing, tag, tag_of};

/// Sets of buckets: 64 KiB. A power of two.
const SETS: usize = 1024;

/// A network is given so many times what an address is.
const NETWORKS: u32 = 8;

/// Bits of an address that are its network.
const NETWORK_V4: u32 = 24;
const NETWORK_V6: u32 = 48;

/// The table.
pub struct Rates {
    sets: Box<[[AtomicU64; WAYS]]>,
    keys: RandomState,
    begin: Instant,
}

impl Default for Rates {
    fn default() -> Self {
        Self { sets: (0..SETS).map(|_| Default::default()).collect(), keys: RandomState::new(), begin: Instant::now() }
    }
}

impl Rates {
    /// Counts a handshake. False if the client, or its network, has begun too many lately. IPv6 addresses
    /// with `prefix_v6` bits in common are one client.
    pub fn admit(&self, source: Source, per_minute: u32, prefix_v6: u32) -> bool {
        let now = (self.begin.elapsed().as_micros() * u128::from(TICKS) / 1_000_000) as u64;
        self.admit_at(now, source.key(), per_minute, prefix_v6)
    }

    fn admit_at(&self, now: u64, address: IpAddr, per_minute: u32, prefix_v6: u32) -> bool {
        let client = match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(_) => beginning(address, prefix_v6),
        };
        let network = beginning(address, if address.is_ipv4() { NETWORK_V4 } else { NETWORK_V6.min(prefix_v6) });
        self.take(now, (client, false), per_minute)
            && self.take(now, (network, true), per_minute.saturating_mul(NETWORKS))
    }

    /// Two that count at the same moment may count one.
    fn take(&self, now: u64, whose: (IpAddr, bool), per_minute: u32) -> bool {
        let hash = self.keys.hash_one(whose);
        let set = &self.sets[hash as usize % SETS];
        let missing_in = |word: &AtomicU64| missing(word.load(Ordering::Relaxed), now);
        let own = set.iter().find(|word| tag(word.load(Ordering::Relaxed)) == tag_of(hash));
        let Some(word) = own.or_else(|| set.iter().min_by_key(|word| missing_in(word))) else { return true };
        let missing = own.map_or(0, missing_in) + u64::from(cost(per_minute));
        if missing > FULL {
            return false;
        }
        word.store(bucket(tag_of(hash), now, missing), Ordering::Relaxed);
        true
    }
}

/// The first so many bits of an address.
fn beginning(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & !u32::MAX.checked_shr(bits).unwrap_or(0)).into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::MAX.checked_shr(bits).unwrap_or(0)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PER_MINUTE: u32 = 60;

    /// How many of so many handshakes a client may begin, `second` seconds after the table was made.
    fn admitted(rates: &Rates, second: u64, address: &str, asked: u32) -> u32 {
        let address = address.parse().expect("an address");
        (0..asked).filter(|_| rates.admit_at(second * TICKS, address, PER_MINUTE, 64)).count() as u32
    }

    #[test]
    fn clients_begin_so_many_and_as_many_again_in_a_minute() {
        let rates = Rates::default();
        // (second, client, handshakes, how many it may begin)
        for (second, client, asked, expected) in [
            (0, "192.0.2.1", 1000, PER_MINUTE),
            (0, "192.0.2.1", 1, 0),
            (0, "192.0.2.2", 10, 10),
            (0, "2001:db8::1", 1000, PER_MINUTE),
            (0, "2001:db8::2", 1000, 0),
            (0, "2001:db8:0:1::1", 1000, PER_MINUTE),
            (1, "192.0.2.1", 1000, 1),
            (31, "192.0.2.1", 1000, 30),
            (31, "2001:db8::3", 1000, 31),
            (1000, "192.0.2.1", 1000, PER_MINUTE),
        ] {
            assert_eq!(admitted(&rates, second, client, asked), expected, "{client} at {second}");
        }
    }

    #[test]
    fn a_network_has_eight_times_as_many_and_takes_nothing_from_others() {
        for (network, other) in [("192.0.2.", "192.0.3.1"), ("2001:db8:0:", "2001:db8:1::1")] {
            let rates = Rates::default();
            let end = if network.contains(':') { "::1" } else { "" };
            let all: u32 = (0..200).map(|host| admitted(&rates, 0, &format!("{network}{host}{end}"), 10)).sum();
            assert_eq!(all, PER_MINUTE * NETWORKS, "{network}");
            assert_eq!(admitted(&rates, 0, other, 1000), PER_MINUTE, "{other}");
        }
    }

    #[test]
    fn ipv6_clients_have_as_many_bits_as_is_configured() {
        for (prefix, of_two_subnets) in [(64, 2 * PER_MINUTE), (56, PER_MINUTE), (32, PER_MINUTE)] {
            let rates = Rates::default();
            let count = |address: &str| {
                let address = address.parse().expect("an address");
                (0..1000).filter(|_| rates.admit_at(0, address, PER_MINUTE, prefix)).count() as u32
            };
            assert_eq!(count("2001:db8:0:1::1") + count("2001:db8:0:2::1"), of_two_subnets, "/{prefix}");
        }
    }

    #[test]
    fn who_asks_most_is_not_forgotten_among_many_others() {
        let rates = Rates::default();
        let mut given = 0;
        for number in 0..100_000_u32 {
            let [_, a, b, c] = number.to_be_bytes();
            assert!(rates.admit_at(0, IpAddr::from([20 + a, b, c, 1]), PER_MINUTE, 64), "{number}");
            given += admitted(&rates, 0, "192.0.2.1", 1);
        }
        assert!(given < 3 * PER_MINUTE, "{given}");
    }
}
