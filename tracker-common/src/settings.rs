//! What the daemon tells the XDP program: clock, keys, limits, addresses. One record, written by
//! the daemon, read by all, word by word. The clock is moved on by both.

use crate::{
    outcome::IpVersion,
    word::{Word, Word32},
};

/// How many addresses per family, and how many interfaces, the XDP program can answer for. Requests
/// to further addresses are passed on to the daemon's sockets.
pub const LISTENERS: usize = 32;

/// How many keys the hash functions of the store need.
pub const HASH_KEYS: usize = 12;

/// Nanoseconds of a second.
const NANOSECONDS: u64 = 1_000_000_000;

/// Seconds without a heartbeat of the daemon after which nobody waits for it any longer. It sets the
/// clock four times a second.
const SILENCE: u32 = 2;

/// How often moving the clock on is tried: each other that comes first moves it on, too.
const RACES: u32 = 4;

/// The record. All zero bytes is a valid one that answers nothing.
#[repr(C)]
#[derive(Default)]
pub struct Settings {
    /// Seconds, counted from any fixed point that is not before the daemon's first start; drives
    /// connection ids.
    pub second: Word32,
    /// Minutes since the same point; drives the age of peers and torrents.
    pub minute: Word32,
    /// Key of the connection ids (SipHash-2-4).
    pub connection_key: [Word; 2],
    /// Keys of the store's hash functions. Changing them loses the store's contents.
    pub hash_keys: [Word; HASH_KEYS],
    /// Seconds between a client's announces, as told to it.
    pub interval: Word32,
    /// The interval told varies by up to this many seconds in both directions.
    pub interval_jitter: Word32,
    /// Peers given when the client does not say how many it wants.
    pub default_numwant: Word32,
    /// At most this many IPv4 peers in a UDP reply ([`crate::store::family::Family::NUMWANT_LIMIT`]
    /// at most).
    pub max_numwant_v4: Word32,
    /// At most this many IPv6 peers in a UDP reply ([`crate::store::family::Family::NUMWANT_LIMIT`]
    /// at most).
    pub max_numwant_v6: Word32,
    /// Not 0: peers with private and other local addresses are given to all requesters
    /// ([`crate::store::scope`]).
    pub give_local_peers: Word32,
    /// Buckets of the swarm index that are in use.
    pub index_buckets: Word32,
    /// Swarm records, partitions, IPv4 chunks and IPv6 chunks that may be used
    /// ([`crate::store::layout::Pools`]).
    pub pool_limits: [Word32; 4],
    /// How many of `interfaces` are set.
    pub interface_count: Word32,
    /// How many of `listeners_v4` are set.
    pub listener_v4_count: Word32,
    /// How many of `listeners_v6` are set.
    pub listener_v6_count: Word32,
    /// The second up to which packets are traced ([`crate::trace`]), on the clock `second`; 0 for
    /// not at all. The tracer moves it on, so that nothing stays on when it is killed.
    pub trace_until: Word32,
    /// Which outcomes are traced: bit n for the one whose counter is number n
    /// ([`crate::outcome::Counter::index`]).
    pub trace_wanted: Word,
    /// Packets that were to be traced and had no room in the ring buffer. Written by the XDP
    /// program.
    pub traces_lost: Word32,
    /// The process that traces.
    pub tracer: Word32,
    /// Which lists of torrents are in force: the sum of their [`crate::admission::List::bit`].
    pub access_lists: Word32,
    /// Buckets of the table of listed torrents.
    pub access_buckets: Word32,
    /// Key of the fingerprints in that table (SipHash-2-4). Changing it loses the table's contents.
    pub access_key: [Word; 2],
    /// At most so many peers of one IPv4 address or IPv6 /64 in a swarm ([`crate::store::crowd`]); 0
    /// for no limit.
    pub max_peers_per_address: Word32,
    /// Not 0: what a snapshot had is in the store. A store without it was left half filled.
    pub filled: Word32,
    /// Nanoseconds from the kernel's monotonic clock to the clock `second`, counted from 1970: what
    /// daemon and XDP program both compute the time from ([`Settings::clock_at`]). 0 for a clock
    /// that only the daemon sets. It stays as it is when a daemon takes a store over.
    pub clock_offset: Word,
    /// The second in which the daemon last set the clock. If it stays behind `second`, no daemon is
    /// running, or it was stopped ([`Settings::is_unattended`]).
    pub heartbeat: Word32,
    /// The low half of the kernel's jiffies when the XDP program last looked at the time. Written by
    /// the XDP program.
    pub looked_at: Word32,
    /// Interface index, and the 6 bytes of its MAC address as the low 48 bits (first byte lowest),
    /// with the MTU in bytes above them, cut to 16 bits.
    pub interfaces: [[Word; 2]; LISTENERS],
    /// IPv4 address (bytes 0 to 3) and port (bytes 4 and 5, network order) as in
    /// [`crate::store::family::V4`]'s keys.
    pub listeners_v4: [Word; LISTENERS],
    /// IPv6 address as two words in memory order, then the port (network order in the low 16 bits).
    pub listeners_v6: [[Word; 3]; LISTENERS],
}

/// The first of the hash keys by which peers of one address ([`crate::store::crowd`]) differ.
const WITHIN_ADDRESS: usize = 9;

impl Settings {
    /// Has all peers of one IPv4 address or IPv6 /64 in one partition of a swarm, where they can be
    /// counted. Before the store is used: its contents are lost with a change of the keys.
    pub fn keep_addresses_together(&self) {
        for key in &self.hash_keys[WITHIN_ADDRESS..] {
            key.store(0);
        }
    }

    /// The second that the clock has to show when the kernel's monotonic clock shows so many
    /// nanoseconds; `None` for a clock that only the daemon sets.
    #[inline(always)]
    #[must_use]
    pub fn clock_at(&self, monotonic: u64) -> Option<u32> {
        let offset = self.clock_offset.load();
        // 32 bits of seconds last until 2106.
        if offset == 0 { None } else { Some((monotonic.wrapping_add(offset) / NANOSECONDS) as u32) }
    }

    /// Moves the clock on to this second, and never back, whoever else moves it at the same time.
    #[inline(always)]
    pub fn advance_clock(&self, second: u32) {
        advance(&self.second, second);
        advance(&self.minute, second / 60);
    }

    /// Whether no daemon has set the clock for a while: it has died, or was stopped. What is passed
    /// on to its sockets is not answered then, and locks that it holds stay held.
    #[inline(always)]
    #[must_use]
    pub fn is_unattended(&self) -> bool {
        let silent = self.second.load().wrapping_sub(self.heartbeat.load());
        // Whoever has just moved the clock on may be ahead of, or behind, whoever reads it.
        silent > SILENCE && silent < 1 << 31
    }

    /// At most this many peers in a UDP reply over that version of IP.
    #[inline(always)]
    #[must_use]
    pub fn max_numwant(&self, version: IpVersion) -> u32 {
        match version {
            IpVersion::V4 => self.max_numwant_v4.load(),
            IpVersion::V6 => self.max_numwant_v6.load(),
        }
    }
}

/// Moves a word on to a number that is ahead of it by less than half of what it holds; from 0 to any.
#[inline(always)]
fn advance(word: &Word32, to: u32) {
    for _ in 0..RACES {
        let seen = word.load();
        if (seen != 0 && (to.wrapping_sub(seen) as i32) <= 0) || word.replace(seen, to) {
            break;
        }
    }
}

const _: () = assert!(size_of::<Settings>().is_multiple_of(8));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_on_and_never_back() {
        let late = Settings::default();
        late.advance_clock(0xf000_0000);
        assert_eq!(late.second.load(), 0xf000_0000, "whenever it begins");
        let settings = Settings::default();
        // (moved to, second, minute)
        for (to, second, minute) in
            [(600, 600, 10), (599, 600, 10), (600, 600, 10), (661, 661, 11), (0, 661, 11), (659, 661, 11)]
        {
            settings.advance_clock(to);
            assert_eq!((settings.second.load(), settings.minute.load()), (second, minute), "{to}");
        }
        settings.minute.store(10);
        settings.advance_clock(661);
        assert_eq!(settings.minute.load(), 11, "somebody was interrupted between the two words");
    }

    #[test]
    fn the_clock_follows_the_monotonic_one_by_its_offset() {
        let settings = Settings::default();
        assert_eq!(settings.clock_at(5_000_000_000), None, "set by hand");
        settings.clock_offset.store(1_700_000_000_900_000_000);
        for (monotonic, second) in [
            (0, 1_700_000_000),
            (99_999_999, 1_700_000_000),
            (100_000_000, 1_700_000_001),
            (3_600_100_000_000, 1_700_003_601),
        ] {
            assert_eq!(settings.clock_at(monotonic), Some(second), "{monotonic}");
        }
        // After a restart of the machine the offset is less than what the clock had before.
        settings.clock_offset.store(5_000_000_000_u64.wrapping_neg());
        assert_eq!(settings.clock_at(7_000_000_000), Some(2));
    }

    #[test]
    fn a_daemon_that_is_silent_for_longer_than_two_seconds_is_missed() {
        let settings = Settings::default();
        // (clock, heartbeat, missed)
        for (second, heartbeat, missed) in
            [(1000, 1000, false), (1002, 1000, false), (1003, 1000, true), (999, 1000, false), (90_000, 1000, true)]
        {
            settings.second.store(second);
            settings.heartbeat.store(heartbeat);
            assert_eq!(settings.is_unattended(), missed, "{second} {heartbeat}");
        }
    }
}
