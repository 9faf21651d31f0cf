//! How often one source may ask, and for whom no limit holds.

use super::{invalid::number, network::network, value::count};
use clap::Args;
use ipnet::IpNet;
use tracker_common::{
    limits::table::{ERRORS, Kind, MOST_PER_MINUTE, cost},
    settings::{EXEMPT, Settings},
};

/// How often one source may ask.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Limits")]
pub struct LimitOptions {
    /// Connects that one IPv4 address or IPv6 network may send by UDP at once, and as many again in
    /// each minute; more are not answered. 300 is ample for a household; 0 for no limit [default: 0]
    #[arg(long, value_name = "N", value_parser = count)]
    pub limit_connects: Option<u64>,
    /// Announces, by UDP and HTTP, likewise. 1200 leaves room for clients with a thousand torrents
    /// [default: 0]
    #[arg(long, value_name = "N", value_parser = count)]
    pub limit_announces: Option<u64>,
    /// Scrapes, by UDP and HTTP, likewise. 300 is ample [default: 0]
    #[arg(long, value_name = "N", value_parser = count)]
    pub limit_scrapes: Option<u64>,
    /// TLS handshakes that one of them may begin, likewise; more connections are closed. A network (IPv4
    /// /24, IPv6 /48) may begin eight times as many, and the proxies of --proxy-from as many as they like;
    /// 0 for no limit [default: 1200]
    #[arg(long, value_name = "N", value_parser = count)]
    pub limit_handshakes: Option<u64>,
    /// Clients that are told by UDP in a second, all together, that their connection id is wrong,
    /// which anybody can ask for in anybody's name; further ones are not answered. 1000 is ample; 0 for
    /// no limit [default: 0]
    #[arg(long, value_name = "N", value_parser = count)]
    pub limit_errors: Option<u64>,
    /// IPv6 addresses with so many bits in common, 16 to 64, count as one source, for all limits per
    /// source or address [default: 64]
    #[arg(long, value_name = "BITS", value_parser = count)]
    pub limit_prefix_v6: Option<u64>,
    /// No limit per source or address, also of peers in a swarm, holds for this network, such as
    /// 192.0.2.0/24 or 2001:db8::/48; may be given several times
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    pub unlimited: Option<Vec<IpNet>>,
}

/// How often one source may ask; 0 for no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Requests per minute, by [`Kind`].
    pub per_minute: [u32; Kind::ALL.len()],
    /// Wrong connection ids that are told of in a second.
    pub errors: u32,
    /// Bits of an IPv6 address that say whose it is.
    pub prefix_v6: u32,
    /// For whom no limit holds.
    pub unlimited: Vec<IpNet>,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { per_minute: [0; Kind::ALL.len()], errors: 0, prefix_v6: 64, unlimited: Vec::new() }
    }
}

impl RequestLimits {
    /// Fills in the defaults and checks everything.
    ///
    /// # Errors
    /// The first option that is out of range.
    pub(super) fn new(options: &LimitOptions) -> anyhow::Result<Self> {
        let default = Self::default();
        let rate =
            |name, given| -> anyhow::Result<u32> { Ok(number(name, given, 0, 0..=u64::from(MOST_PER_MINUTE))? as u32) };
        let prefix_v6 = number("limit-prefix-v6", options.limit_prefix_v6, default.prefix_v6.into(), 16..=64)? as u32;
        let unlimited = options.unlimited.clone().unwrap_or_default();
        for ipv4 in [true, false] {
            let count = unlimited.iter().filter(|network| network.addr().is_ipv4() == ipv4).count();
            number("unlimited", Some(count as u64), 0, 0..=EXEMPT as u64)?;
        }
        for network in unlimited.iter().filter(|network| network.addr().is_ipv6()) {
            number("unlimited", Some(network.prefix_len().into()), 64, 0..=64)?;
        }
        Ok(Self {
            per_minute: [
                rate("limit-connects", options.limit_connects)?,
                rate("limit-announces", options.limit_announces)?,
                rate("limit-scrapes", options.limit_scrapes)?,
            ],
            errors: number("limit-errors", options.limit_errors, 0, 0..=u64::from(u32::MAX))? as u32,
            prefix_v6,
            unlimited,
        })
    }

    /// Options, and whether they differ in another configuration.
    pub(super) fn differences(&self, other: &Self) -> [(&'static str, bool); 6] {
        let Self { per_minute, errors, prefix_v6, unlimited } = self;
        let differs = |kind: Kind| per_minute[kind as usize] != other.per_minute[kind as usize];
        [
            ("limit-connects", differs(Kind::Connect)),
            ("limit-announces", differs(Kind::Announce)),
            ("limit-scrapes", differs(Kind::Scrape)),
            ("limit-errors", *errors != other.errors),
            ("limit-prefix-v6", *prefix_v6 != other.prefix_v6),
            ("unlimited", *unlimited != other.unlimited),
        ]
    }

    /// Writes them into the settings record, which XDP program and sockets read for each request.
    pub fn apply(&self, settings: &Settings) {
        let mut in_force = if self.errors == 0 { 0 } else { ERRORS };
        for kind in Kind::ALL {
            let per_minute = self.per_minute[kind as usize];
            if per_minute != 0 {
                settings.limit_costs[kind as usize].store(cost(per_minute));
                in_force |= kind.bit();
            }
        }
        settings.limit_errors.store(self.errors);
        settings.limit_mask_v6.store(high_bits(self.prefix_v6, 64).to_be());
        let of = |ipv4| self.unlimited.iter().filter(move |network| network.addr().is_ipv4() == ipv4);
        for (networks, count, ipv4) in [
            (&settings.exempt_v4, &settings.exempt_counts[0], true),
            (&settings.exempt_v6, &settings.exempt_counts[1], false),
        ] {
            // For a moment a limit may hold for those, too.
            count.store(0);
            for ([address, mask], network) in networks.iter().zip(of(ipv4)) {
                let words = words(*network);
                address.store(words[0]);
                mask.store(words[1]);
            }
            count.store(of(ipv4).count() as u32);
        }
        settings.limits.store(in_force);
    }
}

/// A number with the highest so many of its `width` bits set.
fn high_bits(bits: u32, width: u32) -> u64 {
    (u64::MAX >> (64 - width)) & !(u64::MAX >> (64 - width)).checked_shr(bits).unwrap_or(0)
}

/// Address and mask as they stand in the settings record.
fn words(network: IpNet) -> [u64; 2] {
    match network {
        IpNet::V4(network) => {
            [network.network(), network.netmask()].map(|half| u32::from_le_bytes(half.octets()).into())
        }
        IpNet::V6(network) => {
            [network.network(), network.netmask()].map(|whole| ((whole.to_bits() >> 64) as u64).to_be())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_become_masks() {
        for (bits, width, mask) in [
            (0, 32, 0),
            (1, 32, 0x8000_0000),
            (24, 32, 0xffff_ff00),
            (32, 32, 0xffff_ffff),
            (0, 64, 0),
            (56, 64, u64::MAX << 8),
            (64, 64, u64::MAX),
        ] {
            assert_eq!(high_bits(bits, width), mask, "{bits} of {width}");
        }
    }

    #[test]
    fn what_is_written_is_what_is_asked_for_and_goes_again() {
        let settings = Settings::default();
        let network = |text: &str| network(text).expect(text);
        let limits = RequestLimits {
            per_minute: [0, 60, 1],
            errors: 5,
            prefix_v6: 48,
            unlimited: vec![network("10.0.0.0/8"), network("2001:db8::/32"), network("192.0.2.1")],
        };
        limits.apply(&settings);
        assert_eq!(settings.limits.load(), Kind::Announce.bit() | Kind::Scrape.bit() | ERRORS);
        assert_eq!(settings.limit_errors.load(), 5);
        assert_eq!(settings.limit_mask_v6.load().to_ne_bytes(), [255, 255, 255, 255, 255, 255, 0, 0]);
        assert_eq!(settings.exempt_counts.each_ref().map(|count| count.load()), [2, 1]);
        let is_exempt = |text: &str| {
            let [address, _] = words(network(text));
            tracker_common::limits::is_exempt(&settings, address, text.contains(':'))
        };
        for (address, expected) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.1", true),
            ("192.0.2.0", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(is_exempt(address), expected, "{address}");
        }
        RequestLimits::default().apply(&settings);
        assert_eq!(settings.limits.load(), 0);
        assert!(!is_exempt("10.255.0.1"));
    }
}
