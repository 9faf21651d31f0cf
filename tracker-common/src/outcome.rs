//! What became of a request, and what happened in the store: every outcome has a name, a sentence
//! and a counter.
//!
//! The XDP program and every thread of the daemon count in an array of [`COUNTERS`] 64-bit numbers
//! of their own: first the [`Event`]s, then the [`Reason`]s, then [`REFRESH_AGES`] for known peers
//! that announced again, then [`BLOCK_LISTS`] for lists of blocked addresses, then [`REPLY_SIZES`] for
//! replies by the peers in them. The daemon adds them up.

labelled! {
    /// Something that was done.
    Event from (0) {
        Connect4 = "connect_ipv4", "IPv4 connect answered";
        Connect6 = "connect_ipv6", "IPv6 connect answered";
        Announce4 = "announce_ipv4", "IPv4 announce answered";
        Announce6 = "announce_ipv6", "IPv6 announce answered";
        Scrape4 = "scrape_ipv4", "IPv4 scrape answered";
        Scrape6 = "scrape_ipv6", "IPv6 scrape answered";
        Error4 = "error_ipv4", "IPv4 request answered with an error";
        Error6 = "error_ipv6", "IPv6 request answered with an error";
        ReplyBytes = "reply_bytes", "bytes of BEP 15 or HTTP replies, without their headers below";
        PeersReturned = "peers_given", "peers handed out";
        RepliesShortened = "replies_shortened", "replies that carried fewer peers because no more fitted the packet or the link";
        TorrentCreated = "torrent_created", "torrent stored for the first time";
        TorrentRemoved = "torrent_removed", "torrent removed, because it was idle or evicted";
        Peer4Added = "peer_added_ipv4", "IPv4 peer stored for the first time";
        Peer4Removed = "peer_removed_ipv4", "IPv4 peer removed, because it stopped, expired or was evicted";
        Peer6Added = "peer_added_ipv6", "IPv6 peer stored for the first time";
        Peer6Removed = "peer_removed_ipv6", "IPv6 peer removed, because it stopped, expired or was evicted";
        Completed = "completed", "peer completed its download";
        Evicted = "peer_evicted", "peer evicted in favour of a newer one, because no memory was left";
        Expired = "peer_expired", "peer removed because it had not announced for the peer timeout";
        Grown = "swarm_grown", "swarm given another chunk of peer slots";
        Split = "swarm_split", "partition of a swarm split in two";
        Unstored = "announce_unstored", "announce answered but not stored, because the daemon has died or was stopped and holds what that takes";
        Recounted = "swarm_recounted", "swarm whose counts had drifted and were set right";
        Crowded = "peer_crowded_out", "peer replaced by a newer one of its address, which has as many as it may in a swarm";
        TorrentEvicted = "torrent_evicted", "torrent without peers, or of one address alone, that gave way to a new one because there was no room";
        PeerBlocked = "peer_blocked", "peer removed because its address is on a list of those blocked";
        KeyWrong = "peer_key_wrong", "stop or completed download that was not taken, as its key is not the peer's";
    }
}

/// The version of IP that a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpVersion {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// Events that are counted for each version of IP.
impl Event {
    /// A connect was answered.
    #[must_use]
    pub const fn connect(version: IpVersion) -> Self {
        Self::of(version, Self::Connect4, Self::Connect6)
    }

    /// An announce was answered.
    #[must_use]
    pub const fn announce(version: IpVersion) -> Self {
        Self::of(version, Self::Announce4, Self::Announce6)
    }

    /// A scrape was answered.
    #[must_use]
    pub const fn scrape(version: IpVersion) -> Self {
        Self::of(version, Self::Scrape4, Self::Scrape6)
    }

    /// A request was answered with an error.
    #[must_use]
    pub const fn error(version: IpVersion) -> Self {
        Self::of(version, Self::Error4, Self::Error6)
    }

    /// A peer was stored.
    #[must_use]
    pub const fn peer_added(version: IpVersion) -> Self {
        Self::of(version, Self::Peer4Added, Self::Peer6Added)
    }

    /// A peer was removed.
    #[must_use]
    pub const fn peer_removed(version: IpVersion) -> Self {
        Self::of(version, Self::Peer4Removed, Self::Peer6Removed)
    }

    #[inline(always)]
    const fn of(version: IpVersion, v4: Self, v6: Self) -> Self {
        match version {
            IpVersion::V4 => v4,
            IpVersion::V6 => v6,
        }
    }
}

labelled! {
    /// Why the XDP program left a frame to the kernel: it is not for us, not understood, or has no
    /// room for the reply.
    FrameReason from (0) {
        NotIp = "not_ip", "not an IPv4 or IPv6 packet";
        VlanStack = "vlan_stack", "more than one VLAN tag";
        NotUdp = "not_udp", "not a UDP packet";
        HeaderTruncated = "header_truncated", "the headers do not fit into the packet";
        IpOptions = "ip_options", "IPv4 options or a wrong header length";
        Fragment = "fragment", "an IPv4 fragment";
        LengthMismatch = "length_mismatch", "IP, UDP and frame lengths do not agree";
        NotForUs = "not_for_us", "destination MAC, address or port is not one we answer for";
        SourceUnusable = "source_unusable", "source address or port that no answer can be sent to";
        TooLong = "too_long", "longer than any request that the XDP program looks into";
        ChecksumWrong = "checksum_wrong", "wrong, missing or unfinished IP or UDP checksum";
        NoRoom = "no_room", "no room for the peers that are usual, so the sockets answer";
    }
}

labelled! {
    /// What is wrong with a BEP 15 request.
    RequestReason from (FrameReason::ALL.len() as u8) {
        TooShort = "too_short", "shorter than the BEP 15 request it claims to be";
        BadMagic = "bad_magic", "connect without the BEP 15 protocol id";
        UnknownAction = "unknown_action", "an action that BEP 15 does not define for requests";
        ConnectionIdWrong = "connection_id_wrong", "connection id that is wrong or too old";
        PortZero = "port_zero", "announce with port 0";
        Blocked = "blocked", "from an address that is on a list of those blocked";
        ConnectsLimited = "rate_limited_connect", "connect from a source that has asked too often";
        AnnouncesLimited = "rate_limited_announce", "announce from a source that has asked too often";
        ScrapesLimited = "rate_limited_scrape", "scrape from a source that has asked too often";
        ErrorHeldBack = "error_held_back", "connection id that is wrong or too old, of which nobody is told, as many were told in this second";
    }
}

labelled! {
    /// Why the store could not do what it was asked for.
    StoreError from ((FrameReason::ALL.len() + RequestReason::ALL.len()) as u8) {
        TorrentsFull = "torrents_full", "new torrent, but the configured number of torrents is reached";
        MemoryFull = "memory_full", "new peer, but no memory and nobody to evict";
        Denied = "denied", "torrent that is on the list of those denied";
        NotAllowed = "not_allowed", "torrent that is not on the list of those allowed";
        AddressBusy = "address_busy", "new torrent or much room for peers, while little is left and the address has just had a lot";
        Contended = "contended", "somebody else held what this request needs";
        Internal = "internal", "a map element that has to be there was not";
    }
}

/// Why a request was not answered as asked. The discriminants of the three layers do not overlap:
/// each is the number of the reason's counter behind those of the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The frame was left to the kernel.
    Frame(FrameReason),
    /// The request is wrong.
    Request(RequestReason),
    /// The store could not do it.
    Store(StoreError),
}

impl From<FrameReason> for Reason {
    #[inline(always)]
    fn from(reason: FrameReason) -> Self {
        Self::Frame(reason)
    }
}

impl From<RequestReason> for Reason {
    #[inline(always)]
    fn from(reason: RequestReason) -> Self {
        Self::Request(reason)
    }
}

impl From<StoreError> for Reason {
    #[inline(always)]
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Reason {
    /// How many there are.
    pub const COUNT: usize = FrameReason::ALL.len() + RequestReason::ALL.len() + StoreError::ALL.len();

    /// All of them, in the order of their counters.
    pub fn all() -> impl Iterator<Item = Self> {
        let frames = FrameReason::ALL.iter().copied().map(Self::Frame);
        let requests = RequestReason::ALL.iter().copied().map(Self::Request);
        frames.chain(requests).chain(StoreError::ALL.iter().copied().map(Self::Store))
    }

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Frame(reason) => reason.label(),
            Self::Request(reason) => reason.label(),
            Self::Store(error) => error.label(),
        }
    }

    /// One sentence for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Frame(reason) => reason.text(),
            Self::Request(reason) => reason.text(),
            Self::Store(error) => error.text(),
        }
    }

    /// What a client is told (BEP 15 error text), for the reasons that clients are told of.
    #[inline(always)]
    #[must_use]
    pub const fn message(self) -> Option<&'static str> {
        match self {
            Self::Frame(_) => None,
            Self::Request(reason) => reason.message(),
            Self::Store(error) => error.message(),
        }
    }

    #[inline(always)]
    const fn number(self) -> usize {
        match self {
            Self::Frame(reason) => reason as usize,
            Self::Request(reason) => reason as usize,
            Self::Store(error) => error as usize,
        }
    }
}

impl RequestReason {
    /// What a client is told.
    #[inline(always)]
    #[must_use]
    pub const fn message(self) -> Option<&'static str> {
        match self {
            Self::ConnectionIdWrong => Some("Connection ID mismatch"),
            Self::PortZero => Some("Port 0 is not valid"),
            Self::TooShort
            | Self::BadMagic
            | Self::UnknownAction
            | Self::Blocked
            | Self::ConnectsLimited
            | Self::AnnouncesLimited
            | Self::ScrapesLimited
            | Self::ErrorHeldBack => None,
        }
    }
}

impl StoreError {
    /// What a client is told.
    #[inline(always)]
    #[must_use]
    pub const fn message(self) -> Option<&'static str> {
        match self {
            Self::TorrentsFull | Self::MemoryFull => Some("Tracker is full"),
            Self::Denied | Self::NotAllowed => Some("Torrent is not allowed"),
            Self::AddressBusy => Some("Nearly full, slow down"),
            Self::Contended | Self::Internal => None,
        }
    }

    /// A result in one 64-bit number, as functions of the XDP program have to return it: the value
    /// in the low half; in the high half 0, or 1 and up for the errors in their order.
    ///
    /// Also for results that are kept on the stack. LLVM writes the part of a `Result` that does
    /// not apply from whatever register, and the verifier refuses registers that were never
    /// written.
    #[inline(always)]
    #[must_use]
    pub const fn pack(result: Result<u32, Self>) -> u64 {
        match result {
            Ok(value) => value as u64,
            Err(error) => Self::packed(error),
        }
    }

    /// An error alone, likewise.
    #[inline(always)]
    #[must_use]
    pub const fn packed(self) -> u64 {
        (self as u64 - Self::TorrentsFull as u64 + 1) << 32
    }

    /// The reverse of [`StoreError::pack`].
    ///
    /// # Errors
    /// The one that was packed.
    #[inline(always)]
    pub const fn unpack(packed: u64) -> Result<u32, Self> {
        const TORRENTS_FULL: u64 = StoreError::TorrentsFull.packed();
        const MEMORY_FULL: u64 = StoreError::MemoryFull.packed();
        const DENIED: u64 = StoreError::Denied.packed();
        const NOT_ALLOWED: u64 = StoreError::NotAllowed.packed();
        const ADDRESS_BUSY: u64 = StoreError::AddressBusy.packed();
        const CONTENDED: u64 = StoreError::Contended.packed();
        const INTERNAL: u64 = StoreError::Internal.packed();
        match packed {
            TORRENTS_FULL => Err(Self::TorrentsFull),
            MEMORY_FULL => Err(Self::MemoryFull),
            DENIED => Err(Self::Denied),
            NOT_ALLOWED => Err(Self::NotAllowed),
            ADDRESS_BUSY => Err(Self::AddressBusy),
            CONTENDED => Err(Self::Contended),
            INTERNAL => Err(Self::Internal),
            value => Ok(value as u32),
        }
    }
}

/// How many counters there are.
pub const COUNTERS: usize = Event::ALL.len() + Reason::COUNT + REFRESH_AGES + BLOCK_LISTS + REPLY_SIZES;

/// Known peers that announce again are counted by whole minutes since their last announce: 0 to
/// this many less two, and more.
pub const REFRESH_AGES: usize = 45;

/// Most lists of blocked addresses. Each has a counter. A power of two.
pub const BLOCK_LISTS: usize = 16;

const _: () = assert!(BLOCK_LISTS.is_power_of_two());

/// Replies are counted by the number of peers in them, in steps of [`REPLY_STEP`]: none, 1 to 8, 9 to
/// 16, and so on. A power of two, and more than the largest reply needs.
pub const REPLY_SIZES: usize = 32;

/// Peers that replies of neighbouring sizes differ by.
pub const REPLY_STEP: u32 = 8;

const _: () = assert!(REPLY_SIZES.is_power_of_two());

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Something done.
    Event(Event),
    /// Something not done.
    Reason(Reason),
    /// A known peer announced again, so many minutes after its last announce.
    Refreshed(u32),
    /// A source was on the list of blocked addresses with this number, from 1 on.
    Blocked(u32),
    /// A reply with so many peers was sent. Connects, scrapes and errors are among those without any.
    Replied(u32),
}

impl Counter {
    /// Its place in an array of [`COUNTERS`].
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Event(event) => event as usize,
            Self::Reason(reason) => Event::ALL.len() + reason.number(),
            Self::Refreshed(minutes) => {
                let minutes = if minutes as usize >= REFRESH_AGES { REFRESH_AGES - 1 } else { minutes as usize };
                Event::ALL.len() + Reason::COUNT + minutes
            }
            Self::Blocked(list) => {
                // Masked, as the verifier sees no bound where LLVM makes an `or` of the sum.
                let place = list.wrapping_sub(1) as usize & (BLOCK_LISTS - 1);
                Event::ALL.len() + Reason::COUNT + REFRESH_AGES + place
            }
            Self::Replied(peers) => {
                // No branch, as each reply is counted so; nobody is given as many peers as the mask cuts.
                let place = (peers.wrapping_add(REPLY_STEP - 1) / REPLY_STEP) as usize & (REPLY_SIZES - 1);
                Event::ALL.len() + Reason::COUNT + REFRESH_AGES + BLOCK_LISTS + place
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_a_counter_of_its_own_and_they_are_in_order() {
        let events = Event::ALL.iter().map(|event| Counter::Event(*event));
        let reasons = Reason::all().map(Counter::Reason);
        let ages = (0..REFRESH_AGES as u32).map(Counter::Refreshed);
        let lists = (1..=BLOCK_LISTS as u32).map(Counter::Blocked);
        let sizes = (0..REPLY_SIZES as u32).map(|size| Counter::Replied(size * REPLY_STEP));
        let indexes: Vec<_> = events.chain(reasons).chain(ages).chain(lists).chain(sizes).map(Counter::index).collect();
        assert_eq!(indexes, (0..COUNTERS).collect::<Vec<_>>());
        assert_eq!(Counter::Refreshed(u32::MAX).index(), Counter::Refreshed(REFRESH_AGES as u32 - 1).index());
        for wrong in [0, BLOCK_LISTS as u32 + 1, u32::MAX] {
            assert!(Counter::Blocked(wrong).index() < COUNTERS);
            assert!(Counter::Replied(wrong).index() < COUNTERS);
        }
    }

    #[test]
    fn replies_are_counted_by_steps_of_peers() {
        let place = |peers| Counter::Replied(peers).index() - Counter::Replied(0).index();
        for (peers, expected) in [(0, 0), (1, 1), (8, 1), (9, 2), (50, 7), (67, 9), (200, 25), (248, 31)] {
            assert_eq!(place(peers), expected, "{peers}");
        }
    }

    #[test]
    fn labels_are_unique_and_fit_metrics() {
        let mut labels: Vec<_> =
            Event::ALL.iter().map(|event| event.label()).chain(Reason::all().map(Reason::label)).collect();
        for label in &labels {
            assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{label}");
        }
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Event::ALL.len() + Reason::COUNT);
    }

    #[test]
    fn packed_results_come_back() {
        for result in [Ok(0), Ok(7), Ok(u32::MAX)].into_iter().chain(StoreError::ALL.iter().map(|error| Err(*error))) {
            assert_eq!(StoreError::unpack(StoreError::pack(result)), result);
        }
    }
}
