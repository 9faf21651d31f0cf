//! What the benchmark's XDP programs and `cargo xtask bench` have to agree on: the records in the
//! maps, and which peers announce.
//!
//! # Population
//!
//! A *population* is a list of [`Visit`]s: torrent number and member number. [`info_hash`] turns
//! the torrent number into a hash, and [`Placement`] turns a visit into source address and
//! announced port, so that no two members of a torrent share both. Nothing else is stored: the
//! generator walks the list and builds every request from these numbers. Random order, skewed
//! popularity and the like are put into the list when it is written, so the walk itself costs the
//! same in every scenario.

#![no_std]

/// Bytes of the longest request frame without scrape hashes: Ethernet 14, IPv6 40, UDP 8, announce
/// 98.
pub const TEMPLATE_BYTES: usize = 160;

/// How much longer than requests the frames are that the generator gets, so that it has to change
/// the length of each.
pub const FRAME_EXCESS: u32 = 2;

/// Most info_hashes in a generated scrape (BEP 15: "up to about 74").
pub const SCRAPE_MAX: u32 = 74;

/// One request in so many is timed, and its reply's UDP checksum is verified. A power of two.
pub const SAMPLE_EVERY: u32 = 64;

/// How many sampled requests may be on their way. A power of two.
pub const IN_FLIGHT_SAMPLES: u32 = 4096;

/// Nanoseconds are counted in units of 2^-10, so that a pace can be set to within a per mille at
/// any rate.
pub const PACE_SHIFT: u32 = 10;

/// A generator that was held up may catch up with at most this much; what is due beyond is never
/// sent. Nanoseconds.
pub const CATCH_UP_NS: u64 = 20_000;

/// Buckets of the latency histogram; see [`latency_bucket`].
pub const LATENCY_BUCKETS: u32 = 1024;

/// Calls that each of the programs `cost_` makes.
pub const COST_CALLS: u32 = 64;

/// Networks that addresses are looked for in.
pub const LISTED_NETWORKS: u32 = 500_000;

/// Words with a bit for each /24 of IPv4.
pub const PAGE_WORDS: u32 = 1 << 18;

/// Tail calls that the program `cost_tail` makes: as many as the kernel lets a packet have.
pub const COST_TAIL_CALLS: u32 = 33;

/// BEP 15 connect.
pub const REQUEST_CONNECT: u32 = 0;
/// BEP 15 announce.
pub const REQUEST_ANNOUNCE: u32 = 1;
/// BEP 15 scrape.
pub const REQUEST_SCRAPE: u32 = 2;

/// How the generator works: one element of the map `LOAD`, written from outside before a run.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The request frame up to the end of its fixed part. Everything that differs from request to
    /// request is zero.
    pub template: [u8; TEMPLATE_BYTES],
    /// Time from one request to the next, in units of 2^-[`PACE_SHIFT`] ns; 0 sends as fast as it
    /// can.
    pub pace: u64,
    /// Nothing is sent from this sequence number on.
    pub sequence_limit: u64,
    /// One of the `REQUEST_` constants; also the action that replies have to carry.
    pub request: u32,
    /// 4 or 6.
    pub family: u32,
    /// Length of a request frame in bytes.
    pub frame_length: u32,
    /// How many info_hashes a scrape asks for.
    pub hashes: u32,
    /// Internet checksum, not complemented and not folded, over the template's IPv4 header. Native
    /// byte order.
    pub ip_sum: u32,
    /// The same over the template's UDP header and payload and the pseudo-header, without the
    /// source address.
    pub udp_sum: u32,
    /// Length of the population.
    pub visits: u32,
    /// How many of 256 peers are seeders.
    pub seeders: u32,
    /// Number of source addresses; a power of two.
    pub addresses: u32,
    /// Its binary logarithm.
    pub addresses_shift: u32,
    /// The port requests come from, as it stands in the packet.
    pub client_port: u16,
    /// The port requests go to, as it stands in the packet.
    pub tracker_port: u16,
    /// 1: every valid reply is turned into the next request, so that the number of requests on
    /// their way stays the same.
    pub closed_loop: u32,
    /// Not 0: the generator sends only while fewer requests than this were sent after the one
    /// answered last. The other way to a closed loop, for requests so much longer than their
    /// replies that these cannot be turned into requests.
    pub window: u32,
    /// Reflector only: length of the UDP payload of its replies.
    pub reflected_payload: u32,
    /// Whether the checksums of sampled replies are verified. Off where they are left to a network
    /// card that is not there.
    pub verify_checksums: u32,
    /// Fills the record up to a multiple of its alignment.
    pub reserved: u32,
}

/// A generator with a window sends after so long a silence even when the window is full: all in it
/// must have been lost. Nanoseconds.
pub const WINDOW_PATIENCE_NS: u64 = 20_000_000;

/// How far the load has come, on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Requests built so far, over all runs; the low 32 bits are the next transaction id.
    pub sequence: u64,
    /// When the next request is due, in units of 2^-[`PACE_SHIFT`] ns of the monotonic clock.
    pub due: u64,
    /// With a window: when a request was sent last. Nanoseconds of the monotonic clock.
    pub sent: u64,
    /// Transaction id of the request answered last.
    pub answered: u32,
    /// Next element of the population.
    pub position: u32,
    /// Requests that could not be built, because the frame was too short or could not be given its
    /// length.
    pub failed: u32,
    /// Fills the record up to a multiple of its alignment.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Load>().is_multiple_of(8) && size_of::<Progress>().is_multiple_of(8));

/// The replies that one CPU has validated.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Replies {
    /// Valid replies.
    pub answered: u64,
    /// Peers in valid announce replies.
    pub peers: u64,
    /// Their UDP payload bytes.
    pub bytes: u64,
    /// Error packets (action 3).
    pub errors: u64,
    /// Replies with another action than the request's.
    pub wrong_action: u64,
    /// Replies with an impossible length.
    pub wrong_length: u64,
    /// Replies with a transaction id that was not sent lately.
    pub wrong_transaction: u64,
    /// Sampled replies with a wrong UDP checksum.
    pub wrong_checksum: u64,
    /// Sampled replies with a right UDP checksum.
    pub right_checksum: u64,
    /// Sampled replies whose checksum has only the sum of the pseudo header, for a network card to go
    /// on with: a socket has sent them over a veth pair, as XDP had passed the request on.
    pub left_checksum: u64,
    /// The most seeders and leechers together that an announce reply told of.
    pub largest_swarm: u64,
    /// How many requests had been sent after the one that was answered last: in a closed loop, how
    /// many are on their way.
    pub outstanding: u64,
    /// Packets that were no replies to the generator, and were passed on.
    pub passed: u64,
}

/// A source address and the connection id that the tracker gave it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Client {
    /// As it stands in the packet.
    pub connection_id: [u32; 2],
    /// As it stands in the packet; IPv4 uses the first word.
    pub address: [u32; 4],
}

/// One element of the population: a peer of a torrent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visit {
    /// Torrent number.
    pub torrent: u32,
    /// Number of the peer among the torrent's peers, from 0.
    pub member: u32,
}

/// Where a peer announces from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Which of the source addresses.
    pub client: u32,
    /// The port it claims to listen on; 32768 and above.
    pub port: u16,
}

impl Placement {
    /// Unique among the members of a torrent as long as these are fewer than 32768 × addresses.
    /// Torrents begin at different addresses, so that small torrents do not all meet at the first
    /// few.
    #[inline(always)]
    #[must_use]
    pub fn of(visit: Visit, addresses: u32, addresses_shift: u32) -> Self {
        let spread = visit.torrent.wrapping_mul(0x9e37_79b1);
        let client = visit.member.wrapping_add(spread >> 8) & addresses.wrapping_sub(1);
        let turn = (visit.member >> addresses_shift).wrapping_mul(12_347).wrapping_add(spread);
        Self { client, port: 0x8000 | (turn & 0x7fff) as u16 }
    }
}

/// Whether a peer is a seeder, with `share` of 256 being seeders.
#[inline(always)]
#[must_use]
pub fn is_seeder(visit: Visit, share: u32) -> bool {
    let mixed = visit.member.wrapping_mul(0x85eb_ca6b) ^ visit.torrent.wrapping_mul(0xc2b2_ae35);
    ((mixed ^ (mixed >> 15)).wrapping_mul(0x2c1b_3c6d) >> 24) < share
}

/// The info_hash of a torrent, as five words that are laid into a packet as they are. Looks random,
/// as a SHA-1 does: trackers choose buckets and shards by its bits.
#[inline(always)]
#[must_use]
pub fn info_hash(torrent: u32) -> [u32; 5] {
    // The finaliser of splitmix64, then two cheaper steps.
    let mut first = u64::from(torrent).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    first = (first ^ (first >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    first = (first ^ (first >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    first ^= first >> 31;
    let mut second = first.wrapping_mul(0xd6e8_feb8_6659_fd93);
    second ^= second >> 32;
    let third = second.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
    [first as u32, (first >> 32) as u32, second as u32, (second >> 32) as u32, third as u32]
}

/// The bucket of a latency: sixteen per factor of two, so a bucket is at most 6 % wide.
#[inline(always)]
#[must_use]
pub fn latency_bucket(nanoseconds: u64) -> u32 {
    // The highest bit by halving: BPF has no instruction for it.
    let mut exponent = 0;
    let mut rest = nanoseconds | 1;
    if rest >> 32 != 0 {
        rest >>= 32;
        exponent += 32;
    }
    if rest >> 16 != 0 {
        rest >>= 16;
        exponent += 16;
    }
    if rest >> 8 != 0 {
        rest >>= 8;
        exponent += 8;
    }
    if rest >> 4 != 0 {
        rest >>= 4;
        exponent += 4;
    }
    if rest >> 2 != 0 {
        rest >>= 2;
        exponent += 2;
    }
    if rest >> 1 != 0 {
        exponent += 1;
    }
    if exponent < 4 {
        return nanoseconds as u32;
    }
    (((exponent - 3) << 4) as u32) | ((nanoseconds >> (exponent - 4)) & 15) as u32
}

/// The smallest latency in a bucket, in nanoseconds.
#[must_use]
pub fn latency_of_bucket(bucket: u32) -> u64 {
    let (step, rest) = (bucket >> 4, u64::from(bucket & 15));
    if step == 0 { rest } else { (16 + rest) << (step - 1) }
}

/// Adds up bytes as the Internet checksum does, without folding or complementing: native 16-bit
/// words.
#[must_use]
pub fn checksum_words(bytes: &[u8]) -> u32 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        let word = [pair[0], pair.get(1).copied().unwrap_or(0)];
        sum += u32::from(u16::from_ne_bytes(word));
    }
    sum
}

/// Folds a sum of native words of any width to 16 bits.
#[inline(always)]
#[must_use]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::collections::HashSet;

    #[test]
    fn latency_buckets_are_in_order_and_narrow() {
        let mut last = 0;
        for nanoseconds in (0..100_000u64).chain((17..60).map(|bit| (1 << bit) + 1)) {
            let bucket = latency_bucket(nanoseconds);
            if nanoseconds < 100_000 {
                assert!(bucket == last || bucket == last + 1, "{nanoseconds}: {bucket} after {last}");
                last = bucket;
            }
            assert!(bucket < LATENCY_BUCKETS);
            let start = latency_of_bucket(bucket);
            assert!(start <= nanoseconds && nanoseconds - start <= nanoseconds / 16, "{nanoseconds} in {start}");
        }
    }

    #[test]
    fn members_of_a_torrent_have_distinct_places() {
        for torrent in [0, 1, 99_999] {
            let places: HashSet<_> = (0..1_000_000)
                .map(|member| Placement::of(Visit { torrent, member }, 4096, 12))
                .map(|place| (place.client, place.port))
                .collect();
            assert_eq!(places.len(), 1_000_000);
        }
    }

    #[test]
    fn info_hashes_are_distinct() {
        let hashes: HashSet<_> = (0..2_000_000).map(info_hash).collect();
        assert_eq!(hashes.len(), 2_000_000);
    }

    #[test]
    fn seeders_are_as_many_as_asked() {
        let seeders = (0..100_000).filter(|&member| is_seeder(Visit { torrent: 7, member }, 64)).count();
        assert!((24_000..26_000).contains(&seeders), "{seeders}");
    }
}
