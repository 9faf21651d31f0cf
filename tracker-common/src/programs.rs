//! The XDP programs that others go on in by a tail call, and their places in the map `PROGRAMS`.
//! The loader has to put each of them there.

use crate::outcome::IpVersion;

/// Declares the programs with their names in the object.
macro_rules! programs {
    ($($(#[$doc:meta])* $program:ident = $name:literal,)*) => {
        /// A program that another one goes on in. Its number is its place in the map.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Program { $($(#[$doc])* $program,)* }

        impl Program {
            /// All of them, by place.
            pub const ALL: &'static [Self] = &[$(Self::$program,)*];

            /// Its name in the object.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$program => $name,)* }
            }
        }
    };
}

programs! {
    /// Verifies an announce over IPv4, refreshes a peer that is known, and replies if that is
    /// quickly done.
    AnnounceV4 = "announce_v4",
    /// The same for IPv6.
    AnnounceV6 = "announce_v6",
    /// Stores an announce that is more than the refresh of a known peer.
    StoreV4 = "store_v4",
    /// The same for IPv6.
    StoreV6 = "store_v6",
    /// Splits a partition of a swarm that has grown too large for those it has.
    SplitV4 = "split_v4",
    /// The same for IPv6.
    SplitV6 = "split_v6",
    /// Replies to an announce that has been stored.
    ReplyV4 = "reply_v4",
    /// The same for IPv6.
    ReplyV6 = "reply_v6",
    /// Answers a scrape, over IPv4 and IPv6.
    Scrape = "scrape",
}

impl Program {
    /// The program for announces.
    #[must_use]
    pub const fn announce(version: IpVersion) -> Self {
        match version {
            IpVersion::V4 => Self::AnnounceV4,
            IpVersion::V6 => Self::AnnounceV6,
        }
    }

    /// The program that stores announces.
    #[must_use]
    pub const fn store(version: IpVersion) -> Self {
        match version {
            IpVersion::V4 => Self::StoreV4,
            IpVersion::V6 => Self::StoreV6,
        }
    }

    /// The program that splits partitions.
    #[must_use]
    pub const fn split(version: IpVersion) -> Self {
        match version {
            IpVersion::V4 => Self::SplitV4,
            IpVersion::V6 => Self::SplitV6,
        }
    }

    /// The program that replies to announces that have been stored.
    #[must_use]
    pub const fn reply(version: IpVersion) -> Self {
        match version {
            IpVersion::V4 => Self::ReplyV4,
            IpVersion::V6 => Self::ReplyV6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_numbered_and_names_say_the_version() {
        for (place, program) in Program::ALL.iter().enumerate() {
            assert_eq!(*program as usize, place);
        }
        for (version, suffix) in [(IpVersion::V4, "_v4"), (IpVersion::V6, "_v6")] {
            for program in [Program::announce, Program::store, Program::split, Program::reply] {
                assert!(program(version).name().ends_with(suffix));
            }
        }
    }
}
