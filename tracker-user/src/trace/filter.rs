//! Which packets are shown.

use super::options;
use clap::Args;
use std::net::IpAddr;
use tracker_common::{
    id::InfoHash,
    outcome::{FrameReason, Reason},
    trace::{Outcome, Traced},
};

/// Outcomes of packets that are not for the tracker, which are often most packets. They are shown
/// only when they are named: over a network connection, each line shown makes such packets itself.
const UNRELATED: [Reason; 3] =
    [Reason::Frame(FrameReason::NotIp), Reason::Frame(FrameReason::NotUdp), Reason::Frame(FrameReason::NotForUs)];

/// What a packet has to be like.
#[derive(Args, Clone, Debug, Default)]
pub struct Filter {
    /// Only packets with one of these outcomes, such as connection_id_wrong or announce_ipv4
    /// [default: all but not_ip, not_udp and not_for_us, which are other people's traffic]
    #[arg(long, value_name = "LABEL", num_args = 1.., value_delimiter = ',', value_parser = options::outcome)]
    pub reason: Vec<Outcome>,
    /// Only packets from this address
    #[arg(long, value_name = "ADDRESS", value_parser = options::source)]
    pub source: Option<IpAddr>,
    /// Only announces and scrapes of this torrent; of a scrape, the first five info_hashes are
    /// looked at
    #[arg(long, value_name = "HEX", value_parser = options::info_hash)]
    pub info_hash: Option<InfoHash>,
}

impl Filter {
    /// Bits of the outcomes that the program is to report.
    pub(super) fn wanted(&self) -> u64 {
        let bits = |outcomes: &mut dyn Iterator<Item = Outcome>| outcomes.fold(0, |bits, outcome| bits | outcome.bit());
        if self.reason.is_empty() {
            bits(&mut Outcome::all().filter(|outcome| !UNRELATED.map(Outcome::Refused).contains(outcome)))
        } else {
            bits(&mut self.reason.iter().copied())
        }
    }

    /// Whether a packet is to be shown.
    pub(super) fn is_wanted(&self, traced: &Traced<'_>) -> bool {
        let source = traced.flow.map(|[source, _]| source.ip());
        let hashes = traced.request.map_or(&[][..], |request| request.info_hashes);
        // The program may have sent some before it read which outcomes are wanted.
        self.wanted() & traced.outcome.bit() != 0
            && self.source.is_none_or(|wanted| source == Some(wanted))
            && self.info_hash.is_none_or(|wanted| hashes.contains(&wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracker_common::outcome::{Event, RequestReason};

    #[test]
    fn traffic_of_others_is_shown_by_name_only() {
        let bit = |reason| Outcome::Refused(reason).bit();
        let wanted = |reason: &[Outcome]| Filter { reason: reason.to_vec(), ..Filter::default() }.wanted();
        for reason in UNRELATED {
            assert_eq!(wanted(&[]) & bit(reason), 0, "{reason:?}");
            assert_eq!(wanted(&[Outcome::Refused(reason)]), bit(reason));
        }
        for reason in
            [RequestReason::ConnectionIdWrong.into(), FrameReason::ChecksumWrong.into(), FrameReason::NoRoom.into()]
        {
            assert_ne!(wanted(&[]) & bit(reason), 0, "{reason:?}");
        }
        assert_ne!(wanted(&[]) & Outcome::Answered(Event::Announce6).bit(), 0);
    }
}
