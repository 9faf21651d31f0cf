//! Networks, as an operator names them: whom to believe, who may see what. And where clients come
//! from, as far as that is known.

use ipnet::IpNet;
use std::{
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

/// What `local` means: this host, its links, private networks (RFC 1918, RFC 4193, RFC 3927, RFC
/// 4291), and the network for measurements, which nobody routes either (RFC 2544).
const LOCAL: [&str; 9] = [
    "127.0.0.0/8",
    "::1/128",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "198.18.0.0/15",
    "fe80::/10",
    "fc00::/7",
];

/// Where a client comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An address, which is not IPv4-mapped.
    Address(IpAddr),
    /// A process of this host, by a Unix socket.
    Unix,
    /// A proxy that is believed has not said where.
    Unknown,
}

impl Source {
    /// The source of an address that may be IPv4-mapped; unknown if no client can have it.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let impossible =
            address.is_unspecified() || address.is_multicast() || address == IpAddr::from(Ipv4Addr::BROADCAST);
        if impossible { Self::Unknown } else { Self::Address(address) }
    }

    /// The address, if there is one.
    #[must_use]
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address),
            Self::Unix | Self::Unknown => None,
        }
    }

    /// What stands for the source where clients are told apart by their addresses: those without
    /// one are one client.
    #[must_use]
    pub fn key(self) -> IpAddr {
        self.address().unwrap_or(IpAddr::from(Ipv4Addr::UNSPECIFIED))
    }
}

/// One element of a list of networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// No network at all.
    None,
    /// All addresses, and Unix sockets.
    All,
    /// This host, its links and private networks, and Unix sockets.
    Local,
    /// Processes of this host, by Unix sockets.
    Unix,
    /// A network, or a single address.
    Of(IpNet),
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "none" | "off" => return Ok(Self::None),
            "all" | "any" => return Ok(Self::All),
            "local" => return Ok(Self::Local),
            "unix" => return Ok(Self::Unix),
            _ => {}
        }
        let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        network.map(|network| Self::Of(canonical(network))).ok_or_else(|| {
            format!("{text:?} is no network, such as 192.0.2.0/24, 2001:db8::/32, 192.0.2.1, local, unix, all or none")
        })
    }
}

/// The network without the bits of a host in it; IPv4 as IPv4.
#[must_use]
pub fn canonical(network: IpNet) -> IpNet {
    let mapped = match network {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => {
            v6.addr().to_ipv4_mapped().and_then(|v4| IpNet::new(v4.into(), v6.prefix_len() - 96).ok())
        }
        IpNet::V6(_) | IpNet::V4(_) => None,
    };
    mapped.unwrap_or(network).trunc()
}

/// Some networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    networks: Vec<IpNet>,
    unix: bool,
    all: bool,
}

impl Networks {
    /// Whether everybody is of them.
    #[must_use]
    pub fn are_all(&self) -> bool {
        self.all
    }

    /// Those of a list.
    #[must_use]
    pub fn new(list: &[Network]) -> Self {
        let mut made = Self::default();
        for network in list {
            match network {
                Network::None => {}
                Network::All => (made.unix, made.all) = (true, true),
                Network::Unix => made.unix = true,
                Network::Of(network) => made.networks.push(*network),
                Network::Local => {
                    made.unix = true;
                    made.networks.extend(LOCAL.iter().filter_map(|network| network.parse::<IpNet>().ok()));
                }
            }
        }
        made
    }

    /// Whether a source is of one of the networks. One that is not known is of none.
    #[must_use]
    pub fn contains(&self, source: Source) -> bool {
        match source {
            Source::Address(address) => self.all || self.networks.iter().any(|network| network.contains(&address)),
            Source::Unix => self.unix,
            Source::Unknown => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        Networks::new(&texts.iter().map(|text| text.parse().expect(text)).collect::<Vec<_>>())
    }

    #[test]
    fn networks_have_the_addresses_that_they_say() {
        let rows: &[(&[&str], &[&str], &[&str])] = &[
            (&[], &[], &["127.0.0.1", "::1", "0.0.0.0"]),
            (&["none"], &[], &["127.0.0.1", "::1"]),
            (&["all"], &["127.0.0.1", "192.0.2.1", "2001:db8::1"], &[]),
            (&["192.0.2.1"], &["192.0.2.1", "::ffff:192.0.2.1"], &["192.0.2.2", "::192.0.2.1"]),
            (&["192.0.2.77/24"], &["192.0.2.0", "192.0.2.255"], &["192.0.3.0", "192.0.1.255"]),
            (&["::ffff:10.0.0.0/104"], &["10.1.2.3"], &["11.0.0.0", "::ffff:11.0.0.0"]),
            (&["2001:db8::/32"], &["2001:db8:ffff::1"], &["2001:db9::1", "32.1.13.184"]),
            (&["::/0"], &["2001:db8::1"], &["192.0.2.1"]),
            (&["0.0.0.0/0"], &["192.0.2.1", "::ffff:192.0.2.1"], &["2001:db8::1"]),
            (
                &["local"],
                &["127.9.9.9", "::1", "10.255.0.1", "172.31.0.1", "192.168.1.1", "169.254.0.1", "fe80::1", "fdab::1"],
                &["172.32.0.1", "100.64.0.1", "8.8.8.8", "2001:db8::1", "::2", "128.0.0.1", "fec0::1"],
            ),
            (&["none", "local", "8.8.8.8"], &["8.8.8.8", "10.0.0.1"], &["8.8.8.9"]),
        ];
        for (texts, inside, outside) in rows {
            let networks = networks(texts);
            for (addresses, expected) in [(inside, true), (outside, false)] {
                for address in *addresses {
                    let source = Source::of(address.parse().expect(address));
                    assert_eq!(networks.contains(source), expected, "{address} in {texts:?}");
                }
            }
        }
    }

    #[test]
    fn unix_sockets_are_in_the_networks_that_say_so_and_the_unknown_in_none() {
        for (texts, unix) in [
            (&["unix"][..], true),
            (&["local"], true),
            (&["all"], true),
            (&["none"], false),
            (&["0.0.0.0/0", "::/0"], false),
        ] {
            assert_eq!(networks(texts).contains(Source::Unix), unix, "{texts:?}");
            assert!(!networks(texts).contains(Source::Unknown), "{texts:?}");
        }
        assert!(networks(&["all"]).contains(Source::Address([0, 0, 0, 1].into())));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "/8", "::/129", "localhost", "10.0.0.0 /8"] {
            let error = text.parse::<Network>().expect_err(text);
            assert!(error.contains("is no network"), "{error}");
        }
    }

    #[test]
    fn addresses_that_no_client_can_have_are_unknown() {
        for address in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:0.0.0.0"] {
            assert_eq!(Source::of(address.parse().expect(address)), Source::Unknown, "{address}");
        }
        assert_eq!(Source::of("::ffff:192.0.2.1".parse().expect("one")), Source::Address([192, 0, 2, 1].into()));
    }
}
