//! Which addresses and interfaces the XDP program answers for: written into the settings record at
//! the start and whenever they change.
//!
//! A named `--udp` address is one of them, once packets to it are for this host. A wildcard stands
//! for all addresses of its family on the interfaces that the program is attached to, and on VLAN
//! interfaces upon them. Requests to other addresses go to the sockets.

use super::{
    netlink::{self, Interface, LocalAddress},
    offload,
};
use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};
use tracker_common::{
    settings::{LISTENERS, Settings},
    store::family::{V4, V6},
};

/// What the kernel says of interfaces and addresses, and what the operator wants.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// All interfaces.
    pub interfaces: &'a [Interface],
    /// All usable addresses.
    pub addresses: &'a [LocalAddress],
    /// Numbers of the interfaces that the program is attached to.
    pub attached: &'a [u32],
    /// Where UDP is listened for.
    pub listen: &'a [SocketAddr],
    /// Whether the card of the interface of this number takes VLAN tags off.
    pub takes_tags_off: &'a dyn Fn(u32) -> bool,
    /// Whether packets to an address that no interface has are for this host all the same.
    pub is_local: &'a dyn Fn(IpAddr) -> bool,
}

/// What the XDP program answers for, and what the operator should know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destinations {
    /// Interface numbers, MAC addresses, and MTUs in bytes.
    pub interfaces: Vec<(u32, [u8; 6], u32)>,
    /// Addresses and ports, most important first.
    pub listeners: Vec<SocketAddr>,
    /// Addresses that were named but that this host does not have, or not yet.
    pub absent: Vec<SocketAddr>,
    /// VLAN interfaces whose addresses are left to the sockets, with the interfaces whose cards
    /// take the tags off.
    pub untagged: Vec<(String, String)>,
}

impl Destinations {
    /// The destinations in these surroundings.
    #[must_use]
    pub fn new(surroundings: Surroundings<'_>) -> Self {
        let Surroundings { interfaces, addresses, attached, listen, takes_tags_off, is_local } = surroundings;
        // VLAN interfaces upon attached interfaces, with the numbers of those.
        let vlans: Vec<_> = interfaces
            .iter()
            .filter_map(|vlan| Some((vlan, vlan.vlan_of.filter(|lower| attached.contains(lower))?)))
            .collect();
        // Where the card takes the tag off, the program would answer without it, and the answer
        // would be lost.
        let (untagged, tagged): (Vec<_>, Vec<_>) = vlans.into_iter().partition(|(_, lower)| takes_tags_off(*lower));
        let on_attached = |index: u32| attached.contains(&index) || tagged.iter().any(|(vlan, _)| vlan.index == index);
        let on_untagged = |index: u32| untagged.iter().any(|(vlan, _)| vlan.index == index);

        let mut listeners = Vec::new();
        let mut known = HashSet::new();
        let mut absent = Vec::new();
        let mut add = |address: IpAddr, port: u16| {
            let listener = SocketAddr::new(address, port);
            if known.insert(listener) {
                listeners.push(listener);
            }
        };
        for listen in listen.iter().filter(|listen| !listen.ip().is_unspecified()) {
            let owners: Vec<_> =
                addresses.iter().filter(|local| local.address == listen.ip()).map(|local| local.interface).collect();
            if owners.is_empty() && !is_local(listen.ip()) {
                absent.push(*listen);
            } else if !listen.ip().is_loopback()
                && (owners.is_empty() || !owners.iter().all(|owner| on_untagged(*owner)))
            {
                add(listen.ip(), listen.port());
            }
        }
        // Link-local addresses come last, because the number of addresses is limited.
        for link_local in [false, true] {
            for listen in listen.iter().filter(|listen| listen.ip().is_unspecified()) {
                for local in addresses {
                    if local.address.is_ipv4() == listen.is_ipv4()
                        && is_link_local(local.address) == link_local
                        && on_attached(local.interface)
                    {
                        add(local.address, listen.port());
                    }
                }
            }
        }
        let listened = |address: IpAddr| {
            listen.iter().any(|listen| {
                listen.ip() == address || listen.ip().is_unspecified() && listen.is_ipv4() == address.is_ipv4()
            })
        };
        let name = |index: u32| {
            interfaces
                .iter()
                .find(|interface| interface.index == index)
                .map_or_else(String::new, |interface| interface.name.clone())
        };
        let untagged = untagged
            .iter()
            .filter(|(vlan, _)| addresses.iter().any(|local| local.interface == vlan.index && listened(local.address)))
            .map(|(vlan, lower)| (vlan.name.clone(), name(*lower)))
            .collect();
        let interfaces = interfaces
            .iter()
            .filter(|interface| attached.contains(&interface.index))
            .filter_map(|interface| Some((interface.index, interface.mac?, interface.mtu)))
            .collect();
        Self { interfaces, listeners, absent, untagged }
    }

    /// Writes this into the settings record, up to the number of entries there is room for. A
    /// reader in the middle of it may pass a packet on to the sockets, which answer it; so nothing is
    /// written if all of it is there, as in a store that was taken over.
    pub fn store(&self, settings: &Settings) {
        let there = Settings::default();
        self.write(&there);
        if !same(settings, &there) {
            self.write(settings);
        }
    }

    fn write(&self, settings: &Settings) {
        // The counts are set to 0 first and raised last, so that all entries below them are valid.
        settings.interface_count.store(0);
        for ((index, mac, mtu), words) in self.interfaces.iter().zip(&settings.interfaces) {
            let [a, b, c, d, e, f] = *mac;
            words[0].store(u64::from(*index));
            let [low, high] = u16::try_from(*mtu).unwrap_or(u16::MAX).to_le_bytes();
            words[1].store(u64::from_le_bytes([a, b, c, d, e, f, low, high]));
        }
        settings.interface_count.store(self.interfaces.len().min(LISTENERS) as u32);

        settings.listener_v4_count.store(0);
        settings.listener_v6_count.store(0);
        let (mut v4, mut v6) = (0, 0);
        for listener in &self.listeners {
            match listener.ip() {
                IpAddr::V4(address) => {
                    if let Some(word) = settings.listeners_v4.get(v4) {
                        word.store(V4::key(address.octets(), listener.port()));
                        v4 += 1;
                    }
                }
                IpAddr::V6(address) => {
                    if let Some(words) = settings.listeners_v6.get(v6) {
                        for (word, value) in words.iter().zip(V6::key(address.octets(), listener.port())) {
                            word.store(value);
                        }
                        v6 += 1;
                    }
                }
            }
        }
        settings.listener_v4_count.store(v4 as u32);
        settings.listener_v6_count.store(v6 as u32);
    }

    /// Logs what is new compared with `before`.
    pub fn log_changes(&self, before: &Self) {
        let (answered, surplus) = self.divided();
        let (answered_before, surplus_before) = before.divided();
        if answered != answered_before {
            tracing::info!("XDP answers for {}", list(&answered));
        }
        for listener in self.absent.iter().filter(|listener| !before.absent.contains(listener)) {
            tracing::info!("XDP does not answer for {listener} yet: this host does not have the address, or not yet");
        }
        for (vlan, lower) in self.untagged.iter().filter(|one| !before.untagged.contains(one)) {
            tracing::warn!(
                "the card of {lower} takes the VLAN tags off, and XDP would answer requests to {vlan} without: sockets answer \
                 them. To have XDP answer, leave the tags on: ethtool -K {lower} rxvlan off"
            );
        }
        for (vlan, lower) in before.untagged.iter().filter(|one| !self.untagged.contains(one)) {
            tracing::info!(
                "{lower} leaves the VLAN tags on, or no longer has to: nothing keeps XDP from {vlan} any more"
            );
        }
        // There may be thousands, and one of them may come and go again and again.
        if let (Some(first), true) = (surplus.first(), surplus_before.is_empty()) {
            let more = match surplus.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            tracing::warn!(
                "XDP answers for {LISTENERS} addresses of a family at most: requests to {first}{more} go to the sockets; \
                 name the most important addresses with --udp"
            );
        }
    }

    /// The listeners that there is room for in the settings record, and the others.
    fn divided(&self) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        let (mut v4, mut v6) = (0, 0);
        self.listeners.iter().partition(|listener| {
            let count = if listener.is_ipv4() { &mut v4 } else { &mut v6 };
            *count += 1;
            *count <= LISTENERS
        })
    }
}

/// Whether two records have the same interfaces and listeners.
fn same(one: &Settings, other: &Settings) -> bool {
    let counts = |of: &Settings| {
        [&of.interface_count, &of.listener_v4_count, &of.listener_v6_count].map(|count| count.load() as usize)
    };
    let [interfaces, v4, v6] = counts(one);
    let pairs = |of: &Settings| {
        of.interfaces.iter().take(interfaces).map(|words| words.each_ref().map(|word| word.load())).collect::<Vec<_>>()
    };
    let v4_of = |of: &Settings| of.listeners_v4.iter().take(v4).map(|word| word.load()).collect::<Vec<_>>();
    let v6_of = |of: &Settings| {
        of.listeners_v6.iter().take(v6).map(|words| words.each_ref().map(|word| word.load())).collect::<Vec<_>>()
    };
    counts(one) == counts(other)
        && pairs(one) == pairs(other)
        && v4_of(one) == v4_of(other)
        && v6_of(one) == v6_of(other)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The destinations as they are now.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn current(interfaces: &[Interface], attached: &[u32], listen: &[SocketAddr]) -> anyhow::Result<Destinations> {
    let takes_tags_off = |index: u32| {
        interfaces.iter().find(|interface| interface.index == index).is_some_and(offload::takes_vlan_tags_off)
    };
    let is_local = |address| {
        netlink::is_local(address).unwrap_or_else(|error| {
            tracing::debug!("{error:#}");
            false
        })
    };
    Ok(Destinations::new(Surroundings {
        interfaces,
        addresses: &netlink::addresses()?,
        attached,
        listen,
        takes_tags_off: &takes_tags_off,
        is_local: &is_local,
    }))
}

fn list(listeners: &[SocketAddr]) -> String {
    let listeners: Vec<_> = listeners.iter().map(SocketAddr::to_string).collect();
    if listeners.is_empty() { "no address".into() } else { listeners.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, vlan_of: Option<u32>) -> Interface {
        Interface {
            index,
            name: format!("if{index}"),
            mac: Some([2, 0, 0, 0, 0, index as u8]),
            mtu: 1500,
            loopback: false,
            vlan_of,
            veth_peer: None,
            xdp: Vec::new(),
            card: super::super::status::Card::default(),
        }
    }

    fn local(interface: u32, address: &str) -> LocalAddress {
        LocalAddress { interface, address: address.parse().expect("an address") }
    }

    /// Interface 2 is attached to, 4 and 5 are VLAN interfaces upon it, 6 is one upon 3.
    /// 10.0.1.0/24 is routed to this host without any interface having an address of it.
    fn served_by(listen: &[&str], takes_tags_off: &dyn Fn(u32) -> bool) -> Destinations {
        let interfaces = [
            interface(2, None),
            interface(3, None),
            interface(4, Some(2)),
            interface(5, Some(2)),
            interface(6, Some(3)),
        ];
        let addresses = [
            local(1, "127.0.0.1"),
            local(2, "fe80::2"),
            local(2, "10.0.0.2"),
            local(3, "10.0.0.3"),
            local(4, "10.0.0.4"),
            local(6, "10.0.0.6"),
            local(2, "2001:db8::2"),
        ];
        let listen: Vec<SocketAddr> = listen.iter().map(|listen| listen.parse().expect("an address")).collect();
        Destinations::new(Surroundings {
            interfaces: &interfaces,
            addresses: &addresses,
            attached: &[2],
            listen: &listen,
            takes_tags_off,
            is_local: &|address| address.to_string().starts_with("10.0.1."),
        })
    }

    fn served(listen: &[&str]) -> Destinations {
        served_by(listen, &|_| false)
    }

    #[test]
    fn wildcards_stand_for_the_addresses_of_attached_interfaces() {
        for (listen, expected) in [
            (&["0.0.0.0:6969"][..], &["10.0.0.2:6969", "10.0.0.4:6969"][..]),
            (&["[::]:80"], &["[2001:db8::2]:80", "[fe80::2]:80"]),
            (&["0.0.0.0:1", "10.0.0.3:2"], &["10.0.0.3:2", "10.0.0.2:1", "10.0.0.4:1"]),
            (&["10.0.0.2:5", "0.0.0.0:5"], &["10.0.0.2:5", "10.0.0.4:5"]),
            (&[], &[]),
        ] {
            let listeners: Vec<_> = served(listen).listeners.iter().map(SocketAddr::to_string).collect();
            assert_eq!(listeners, expected, "{listen:?}");
        }
    }

    #[test]
    fn named_addresses_are_served_when_packets_to_them_are_for_this_host() {
        for (listen, served_now, absent) in [
            ("10.0.0.2:1", true, false),
            ("10.0.0.6:1", true, false),
            ("10.0.1.77:1", true, false),
            ("192.0.2.1:1", false, true),
            ("[2001:db8::2]:1", true, false),
            ("[2001:db8::3]:1", false, true),
            // What comes by a cable to such an address is dropped by the kernel.
            ("127.0.0.1:1", false, false),
        ] {
            let served = served(&[listen]);
            assert_eq!(served.listeners.len(), usize::from(served_now), "{listen}");
            assert_eq!(served.absent.len(), usize::from(absent), "{listen}");
        }
    }

    #[test]
    fn addresses_of_vlans_are_left_to_the_sockets_while_the_card_takes_tags_off() {
        let wildcard = &["0.0.0.0:1"][..];
        for (listen, off, expected, untagged) in [
            (wildcard, None, &["10.0.0.2:1", "10.0.0.4:1"][..], &[][..]),
            (wildcard, Some(2), &["10.0.0.2:1"], &[("if4", "if2")]),
            (wildcard, Some(3), &["10.0.0.2:1", "10.0.0.4:1"], &[]),
            (&["10.0.0.4:1", "10.0.0.2:1"], Some(2), &["10.0.0.2:1"], &[("if4", "if2")]),
            // Nothing is listened for on the address of the VLAN.
            (&["10.0.0.2:1"], Some(2), &["10.0.0.2:1"], &[]),
            (&["[::]:1"], Some(2), &["[2001:db8::2]:1", "[fe80::2]:1"], &[]),
        ] {
            let served = served_by(listen, &|index| Some(index) == off);
            let listeners: Vec<_> = served.listeners.iter().map(SocketAddr::to_string).collect();
            assert_eq!(listeners, expected, "{listen:?} {off:?}");
            let named: Vec<_> = served.untagged.iter().map(|(vlan, lower)| (vlan.as_str(), lower.as_str())).collect();
            assert_eq!(named, untagged, "{listen:?} {off:?}");
        }
    }

    #[test]
    fn settings_hold_addresses_as_the_store_keeps_peers() {
        let settings = Settings::default();
        served(&["0.0.0.0:6969", "[::]:6969"]).store(&settings);
        assert_eq!(settings.interface_count.load(), 1);
        assert_eq!(settings.interfaces[0].each_ref().map(|word| word.load()), [2, 0x05dc_0200_0000_0002]);
        assert_eq!(settings.listener_v4_count.load(), 2);
        assert_eq!(settings.listeners_v4[0].load(), u64::from_le_bytes([10, 0, 0, 2, 0x1b, 0x39, 0, 0]));
        assert_eq!(settings.listener_v6_count.load(), 2);
        assert_eq!(settings.listeners_v6[0][2].load(), u64::from(6969u16.to_be()));
    }

    #[test]
    fn surplus_addresses_are_left_out() {
        let settings = Settings::default();
        let listeners = (0..40u8).map(|i| SocketAddr::from(([10, 0, 0, i], 1))).collect();
        let destinations = Destinations { listeners, ..Destinations::default() };
        destinations.store(&settings);
        assert_eq!(settings.listener_v4_count.load() as usize, LISTENERS);
        let (answered, surplus) = destinations.divided();
        assert_eq!((answered.len(), surplus.len()), (LISTENERS, 8));
        assert!(surplus[0] == SocketAddr::from(([10, 0, 0, LISTENERS as u8], 1)), "{surplus:?}");
    }

    #[test]
    fn records_are_the_same_only_if_all_that_counts_is() {
        let destinations = Destinations {
            interfaces: vec![(2, [2; 6], 1500), (3, [3; 6], 1500)],
            listeners: ["10.0.0.2:80", "10.0.0.3:80", "[2001:db8::2]:80"]
                .map(|one| one.parse().expect("an address"))
                .into(),
            ..Destinations::default()
        };
        let stored = |destinations: &Destinations| {
            let settings = Settings::default();
            destinations.store(&settings);
            settings
        };
        let settings = stored(&destinations);
        settings.interfaces[2][0].store(7);
        assert!(same(&settings, &stored(&destinations)), "what is beyond the count does not count");
        let changes: [fn(&mut Destinations); 5] = [
            |changed| changed.interfaces.truncate(1),
            |changed| changed.interfaces[1].2 = 1400,
            |changed| changed.listeners.truncate(2),
            |changed| changed.listeners[1].set_port(81),
            |changed| changed.listeners[2].set_port(81),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = destinations.clone();
            change(&mut changed);
            assert!(!same(&settings, &stored(&changed)), "change {number}");
        }
    }
}
