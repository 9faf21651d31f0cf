//! What an operator may do about requests that were not answered as asked.

use tracker_common::outcome::{FrameReason, Reason, RequestReason, StoreError};

/// What becomes of a request for some reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// XDP leaves it to the network stack, where the sockets may answer it: nothing is refused.
    PassedOn,
    /// Nobody is answered.
    Dropped,
    /// The client is told.
    Told,
}

impl Fate {
    /// That of a reason.
    #[must_use]
    pub fn of(reason: Reason) -> Self {
        match reason {
            Reason::Frame(_) | Reason::Store(StoreError::Contended | StoreError::Internal) => Self::PassedOn,
            _ if reason.message().is_some() => Self::Told,
            Reason::Request(_) | Reason::Store(_) => Self::Dropped,
        }
    }

    /// Its name for programs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::PassedOn => "passed_on",
            Self::Dropped => "dropped",
            Self::Told => "told",
        }
    }
}

/// What to do about a reason; the tables of `docs/operation/trouble.md` say more.
#[must_use]
pub const fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::Frame(reason) => frame(reason),
        Reason::Request(reason) => request(reason),
        Reason::Store(error) => store(error),
    }
}

const fn frame(reason: FrameReason) -> &'static str {
    match reason {
        FrameReason::NotIp | FrameReason::NotUdp => "Nothing: ARP, TCP and the like share the interface.",
        FrameReason::NotForUs => {
            "If requests stay unanswered: tracker trace --reason not_for_us names them; --udp with the address."
        }
        FrameReason::ChecksumWrong => "A sender on this machine is normal; else look at cable and card.",
        FrameReason::NoRoom => {
            "Normal on veth and in generic mode. From a network card: report it, with the driver's name."
        }
        FrameReason::VlanStack
        | FrameReason::HeaderTruncated
        | FrameReason::IpOptions
        | FrameReason::Fragment
        | FrameReason::LengthMismatch
        | FrameReason::SourceUnusable
        | FrameReason::TooLong => "Nothing: odd, damaged or made up.",
    }
}

const fn request(reason: RequestReason) -> &'static str {
    match reason {
        RequestReason::TooShort | RequestReason::BadMagic | RequestReason::UnknownAction => {
            "Nothing: another protocol."
        }
        RequestReason::ConnectionIdWrong => {
            "Many after a start: keep the key by --state-dir. All the time: forged addresses, of which nothing is stored."
        }
        RequestReason::PortZero => "Nothing: a broken client.",
        RequestReason::Blocked => "Nothing: that is what --block-addresses is for.",
        RequestReason::ConnectsLimited | RequestReason::AnnouncesLimited | RequestReason::ScrapesLimited => {
            "tracker trace --reason names the source; --unlimited if it is many users."
        }
        RequestReason::ErrorHeldBack => "Nothing: a flood with forged addresses is told less than it asks.",
    }
}

const fn store(error: StoreError) -> &'static str {
    match error {
        StoreError::TorrentsFull => "Raise --max-torrents, or shorten --torrent-timeout.",
        StoreError::MemoryFull => "Raise --max-peers.",
        StoreError::Denied | StoreError::NotAllowed => "Nothing: that is what the lists are for.",
        StoreError::AddressBusy => "Nearly full. If it is no flood, raise --max-torrents and --max-peers.",
        StoreError::Contended => "A few are normal. Many: does the tracker get processor time?",
        StoreError::Internal => "A bug: please report it.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_on_is_told_from_what_is_refused() {
        let rows: [(Reason, Fate); 7] = [
            (FrameReason::NotUdp.into(), Fate::PassedOn),
            (FrameReason::NoRoom.into(), Fate::PassedOn),
            (Reason::Store(StoreError::Contended), Fate::PassedOn),
            (Reason::Request(RequestReason::BadMagic), Fate::Dropped),
            (Reason::Request(RequestReason::Blocked), Fate::Dropped),
            (Reason::Request(RequestReason::ConnectionIdWrong), Fate::Told),
            (Reason::Store(StoreError::TorrentsFull), Fate::Told),
        ];
        for (reason, fate) in rows {
            assert_eq!(Fate::of(reason), fate, "{reason:?}");
        }
        for reason in Reason::all() {
            assert!(advice(reason).ends_with(['.', '?']), "{reason:?}");
            assert_eq!(Fate::of(reason) == Fate::Told, reason.message().is_some(), "{reason:?}");
        }
    }
}
