//! What the daemon tells the XDP program: clock, keys, limits, addresses. One record, written by
//! the daemon, read by all, word by word. The clock is moved on by both.

use crate::{
    outcome::IpVersion,
    word::{Word, Word32},
};

/// How many addresses per family, and how many interfaces, the XDP program can answer for. Requests
/// to further addresses are passed on to the daemon's sockets.
pub const LISTENERS: usize = 32;

/// How many networks of each family can be named that no limit holds for.
pub const EXEMPT: usize = 16;

/// How many keys the hash functions of the store need.
pub const HASH_KEYS: usize = 12;

/// Nanoseconds of a second.
const NANOSECONDS: u64 = 1_000_000_000;

/// Pauses are told in units of so many nanoseconds, as a power of two.
const PAUSE_UNIT: u32 = 20;

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
    /// Not 0: a network card answers connects, and its connection ids are accepted
    /// ([`crate::bep15::card_id`]).
    pub card: Word32,
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
    /// At most so many peers of one IPv4 address or IPv6 /64 (or a larger network, if `limit_mask_v6`
    /// says so) in a swarm ([`crate::store::crowd`]); 0 for no limit.
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
    /// Not 0: up to this time on the kernel's monotonic clock, in units of 2^20 nanoseconds, the XDP
    /// program leaves all requests to the daemon's sockets ([`Settings::is_paused`]).
    pub paused_until: Word32,
    /// Where the table of blocked addresses begins that is in use, in words
    /// ([`crate::admission::blocklist`]); 0 for none.
    pub blocked: Word32,
    /// How many words there are for such tables.
    pub block_words: Word32,
    /// Torrents and chunks that one IPv4 address or IPv6 /64 is given at once while little is left
    /// ([`crate::store::admit`]); 0 for no limit.
    pub creations_per_address: Word,
    /// Which limits per source are in force: the sum of their [`crate::limits::table::Kind::bit`],
    /// and [`crate::limits::table::ERRORS`].
    pub limits: Word32,
    /// At most so many wrong connection ids are told of in a second.
    pub limit_errors: Word32,
    /// What a request takes out of its source's bucket, by kind ([`crate::limits::table::cost`]). One
    /// more than there are kinds.
    pub limit_costs: [Word32; 4],
    /// The bits of the first half of an IPv6 address, in memory order, that say whose it is, for all
    /// limits ([`crate::limits::source_of`]).
    pub limit_mask_v6: Word,
    /// How many of `exempt_v4` and `exempt_v6` are set.
    pub exempt_counts: [Word32; 2],
    /// IPv4 networks that no limit per address holds for: address and mask, in memory order.
    pub exempt_v4: [[Word; 2]; EXEMPT],
    /// IPv6 networks, likewise: first halves of address and mask.
    pub exempt_v6: [[Word; 2]; EXEMPT],
    /// Other trackers are told of a known peer once in so many minutes at most, and of each change
    /// ([`crate::store::tell`]); 0 if nobody is told of anything.
    pub tell_every: Word32,
    /// Changes that were to be told of and had no room in the ring buffer or in the daemon's queue.
    pub changes_lost: Word32,
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

    /// Has the XDP program leave all requests to the sockets, where they wait, for so many
    /// nanoseconds from `monotonic` on: for a daemon that wants the store for itself for a moment, and
    /// makes that longer as it goes on. It ends by itself, should the daemon be killed.
    pub fn pause(&self, monotonic: u64, nanoseconds: u64) {
        // 0 is no pause.
        self.paused_until.store(((monotonic + nanoseconds) >> PAUSE_UNIT) as u32 | 1);
    }

    /// Has every request look at the time, and find that there is a pause. Afterwards all programs
    /// that were running before it began must have ended: who was looking at the time just then, and
    /// knew nothing of it, writes when that was. Returns what [`Settings::has_gone_on`] is given.
    pub fn have_all_look(&self) -> u32 {
        let long_ago = self.looked_at.load().wrapping_sub(1 << 30);
        self.looked_at.store(long_ago);
        long_ago
    }

    /// Whether a request was answered although there was to be a pause, which had run out.
    #[must_use]
    pub fn has_gone_on(&self, long_ago: u32) -> bool {
        self.looked_at.load() != long_ago
    }

    /// Whether requests are to be left to the sockets at this time. For whoever looks at it, which
    /// every request does then.
    #[inline(always)]
    #[must_use]
    pub fn is_paused(&self, monotonic: u64) -> bool {
        let until = self.paused_until.load();
        until != 0 && (until.wrapping_sub((monotonic >> PAUSE_UNIT) as u32) as i32) > 0
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
// A change of the size is one of the layout ([`crate::store::layout::LAYOUT_VERSION`]).
const _: () = assert!(size_of::<Settings>() == 2368);

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
    fn a_pause_ends_by_itself_and_who_goes_on_is_seen() {
        const MILLISECOND: u64 = 1_000_000;
        let settings = Settings::default();
        assert!(!settings.is_paused(77), "without one");
        // Also where the units of 32 bits end.
        for begin in [5_000 * MILLISECOND, u64::from(u32::MAX) << PAUSE_UNIT] {
            settings.looked_at.store(77);
            settings.pause(begin, 250 * MILLISECOND);
            let long_ago = settings.have_all_look();
            assert!(77_u32.wrapping_sub(long_ago) > 1000, "every packet looks at the time");
            for (milliseconds, paused) in [(0, true), (100, true), (245, true), (260, false), (90_000, false)] {
                assert_eq!(settings.is_paused(begin + milliseconds * MILLISECOND), paused, "{milliseconds}");
            }
            assert!(!settings.has_gone_on(long_ago));
            settings.looked_at.store(80);
            assert!(settings.has_gone_on(long_ago));
        }
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
