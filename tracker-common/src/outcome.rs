//! What became of a request, and what happened in the store: every outcome has a name, a sentence and a counter.
//!
//! The XDP program and every thread of the daemon count in an array of [`COUNTERS`] 64-bit numbers of their own:
//! first the [`Event`]s, then the [`Reason`]s, then [`RENEWALS`] for known peers that announced again. The daemon adds them up.

/// Declares an enum whose variants carry a metric label and a sentence for people.
macro_rules! outcomes {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $label:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name { $(#[doc = $text] $variant,)* }

        impl $name {
            /// All of them, in the order of their counters.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The metric label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $($name::$variant => $label,)* }
            }

            /// One sentence for people.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }
    };
}

outcomes! {
    /// Something that was done.
    Event {
        Connect4 = "connect_ipv4", "IPv4 connect answered";
        Connect6 = "connect_ipv6", "IPv6 connect answered";
        Announce4 = "announce_ipv4", "IPv4 announce answered";
        Announce6 = "announce_ipv6", "IPv6 announce answered";
        Scrape4 = "scrape_ipv4", "IPv4 scrape answered";
        Scrape6 = "scrape_ipv6", "IPv6 scrape answered";
        Error4 = "error_ipv4", "IPv4 request answered with an error";
        Error6 = "error_ipv6", "IPv6 request answered with an error";
        ReplyBytes = "reply_bytes", "bytes of BEP 15 or HTTP replies, without their headers below";
        PeersGiven = "peers_given", "peers handed out";
        RepliesShortened = "replies_shortened", "replies that carried fewer peers because no more fitted the packet or the link";
        TorrentCreated = "torrent_created", "torrent stored for the first time";
        TorrentRemoved = "torrent_removed", "idle torrent removed";
        Peer4Added = "peer_added_ipv4", "IPv4 peer stored for the first time";
        Peer4Removed = "peer_removed_ipv4", "IPv4 peer removed, because it stopped, expired or was evicted";
        Peer6Added = "peer_added_ipv6", "IPv6 peer stored for the first time";
        Peer6Removed = "peer_removed_ipv6", "IPv6 peer removed, because it stopped, expired or was evicted";
        Completed = "completed", "peer completed its download";
        Evicted = "peer_evicted", "peer evicted in favour of a newer one, because no memory was left";
        Expired = "peer_expired", "peer removed because it had not announced for the peer timeout";
        Grown = "swarm_grown", "swarm given another chunk of peer slots";
        Split = "swarm_split", "partition of a swarm split in two";
        Recounted = "swarm_recounted", "swarm whose counts had drifted and were set right";
    }
}

outcomes! {
    /// Why a request was not answered as asked.
    Reason {
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
        TooShort = "too_short", "shorter than the BEP 15 request it claims to be";
        BadMagic = "bad_magic", "connect without the BEP 15 protocol id";
        UnknownAction = "unknown_action", "an action that BEP 15 does not define for requests";
        ConnectionIdWrong = "connection_id_wrong", "connection id that is wrong or too old";
        PortZero = "port_zero", "announce with port 0";
        TorrentsFull = "torrents_full", "new torrent, but the configured number of torrents is reached";
        MemoryFull = "memory_full", "new peer, but no memory and nobody to evict";
        Contended = "contended", "somebody else held what this request needs";
        NoRoom = "no_room", "no room for the peers that are usual, so the sockets answer";
        Internal = "internal", "a map element that has to be there was not";
    }
}

/// How many counters there are.
pub const COUNTERS: usize = Event::ALL.len() + Reason::ALL.len() + RENEWALS;

/// Known peers that announce again are counted by whole minutes since their last announce, up to this many less one, and more.
pub const RENEWALS: usize = 45;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Something done.
    Event(Event),
    /// Something not done.
    Reason(Reason),
    /// A known peer announced again, so many minutes after its last announce.
    Renewed(u32),
}

impl Counter {
    /// Its place in an array of [`COUNTERS`].
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Counter::Event(event) => event as usize,
            Counter::Reason(reason) => Event::ALL.len() + reason as usize,
            Counter::Renewed(minutes) => {
                let minutes = if minutes as usize >= RENEWALS { RENEWALS - 1 } else { minutes as usize };
                Event::ALL.len() + Reason::ALL.len() + minutes
            }
        }
    }
}

impl Reason {
    /// What a client is told (BEP 15 error text, HTTP failure reason), for the reasons that clients are told of.
    #[inline(always)]
    #[must_use]
    pub const fn message(self) -> Option<&'static str> {
        match self {
            Reason::ConnectionIdWrong => Some("Connection ID mismatch"),
            Reason::PortZero => Some("Port 0 is not valid"),
            Reason::TorrentsFull => Some("Tracker is full"),
            Reason::MemoryFull => Some("Tracker is full"),
            Reason::NotIp
            | Reason::VlanStack
            | Reason::NotUdp
            | Reason::HeaderTruncated
            | Reason::IpOptions
            | Reason::Fragment
            | Reason::LengthMismatch
            | Reason::NotForUs
            | Reason::SourceUnusable
            | Reason::ChecksumWrong
            | Reason::TooLong
            | Reason::TooShort
            | Reason::BadMagic
            | Reason::UnknownAction
            | Reason::Contended
            | Reason::NoRoom
            | Reason::Internal => None,
        }
    }
}
