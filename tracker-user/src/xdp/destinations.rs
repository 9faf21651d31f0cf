//! Which addresses and interfaces the XDP program answers for: written into the settings record at the start and whenever
//! they change.
//!
//! An explicit `--udp` address stands for itself. A wildcard stands for every address of its family on the interfaces that the
//! program is attached to, and on VLAN interfaces upon them. Requests to other addresses go to the sockets.

use crate::{
    memory::Store,
    netlink::{self, Interface, LocalAddress},
    shutdown::Shutdown,
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    thread,
    time::Duration,
};
use tracker_common::{
    settings::{LISTENERS, Settings},
    store::{V4, V6},
};

/// How often addresses are compared with what is in the settings.
const REFRESH: Duration = Duration::from_secs(5);

/// What the XDP program is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Interface numbers and MAC addresses.
    pub interfaces: Vec<(u32, [u8; 6])>,
    /// Addresses and ports, most important first.
    pub listeners: Vec<SocketAddr>,
}

impl Served {
    /// What to serve when the program is attached to the interfaces of the numbers `attached` and UDP is listened for on
    /// `listen`.
    #[must_use]
    pub fn new(interfaces: &[Interface], addresses: &[LocalAddress], attached: &[u32], listen: &[SocketAddr]) -> Self {
        let on_attached = |index: u32| {
            attached.contains(&index)
                || interfaces.iter().any(|interface| {
                    interface.index == index && interface.vlan_of.is_some_and(|lower| attached.contains(&lower))
                })
        };
        let mut listeners = Vec::new();
        let mut add = |address: IpAddr, port: u16| {
            let listener = SocketAddr::new(address, port);
            if !listeners.contains(&listener) {
                listeners.push(listener);
            }
        };
        for listen in listen.iter().filter(|listen| !listen.ip().is_unspecified()) {
            add(listen.ip(), listen.port());
        }
        // Addresses that are valid on one link only come last: there is room for a limited number.
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
        let interfaces = interfaces
            .iter()
            .filter(|interface| attached.contains(&interface.index))
            .filter_map(|interface| Some((interface.index, interface.mac?)))
            .collect();
        Self { interfaces, listeners }
    }

    /// Writes this into the settings record, up to the number of entries there is room for. A reader in the middle of it may
    /// pass a packet on to the sockets, which answer it.
    pub fn store(&self, settings: &Settings) {
        // The counts go down first and up last, so that what is counted is always valid.
        settings.interface_count.store(0);
        for ((index, mac), words) in self.interfaces.iter().zip(&settings.interfaces) {
            let [a, b, c, d, e, f] = *mac;
            words[0].store(u64::from(*index));
            words[1].store(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]));
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

    /// Says which addresses found no room.
    fn warn_of_surplus(&self) {
        for family in [SocketAddr::is_ipv4, SocketAddr::is_ipv6] {
            for listener in self.listeners.iter().filter(|listener| family(listener)).skip(LISTENERS) {
                tracing::warn!(
                    "XDP answers for {LISTENERS} addresses of a family at most: requests to {listener} go to the sockets; \
                     name the most important addresses with --udp"
                );
            }
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Asks the kernel what is to be served.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn current(attached: &[u32], listen: &[SocketAddr]) -> anyhow::Result<Served> {
    Ok(Served::new(&netlink::interfaces()?, &netlink::addresses()?, attached, listen))
}

/// Writes the present addresses into the settings and keeps them up to date in a thread until shutdown.
///
/// # Errors
/// When the kernel cannot be asked, or no thread can be started.
pub fn start(
    store: Arc<Store>,
    attached: Vec<u32>,
    listen: Vec<SocketAddr>,
    shutdown: Shutdown,
) -> anyhow::Result<thread::JoinHandle<()>> {
    let mut served = current(&attached, &listen)?;
    served.store(store.settings());
    served.warn_of_surplus();
    let follow = move || {
        let mut since = Duration::ZERO;
        while !shutdown.has_begun() {
            // Short sleeps, so that nobody waits for this thread at the end.
            const NAP: Duration = Duration::from_millis(250);
            thread::sleep(NAP);
            since += NAP;
            if since < REFRESH {
                continue;
            }
            since = Duration::ZERO;
            match current(&attached, &listen) {
                Ok(now) if now != served => {
                    tracing::info!("addresses changed; XDP now answers for {}", list(&now.listeners));
                    for (index, _) in
                        served.interfaces.iter().filter(|old| !now.interfaces.iter().any(|new| new.0 == old.0))
                    {
                        tracing::error!(
                            "the interface with number {index} is gone, and the XDP program with it; the sockets go on. Restart the tracker when it is back"
                        );
                    }
                    now.store(store.settings());
                    now.warn_of_surplus();
                    served = now;
                }
                Ok(_) => (),
                Err(error) => tracing::warn!("cannot look for changed addresses: {error:#}"),
            }
        }
    };
    Ok(thread::Builder::new().name("addresses".into()).spawn(follow)?)
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
        }
    }

    fn local(interface: u32, address: &str) -> LocalAddress {
        LocalAddress { interface, address: address.parse().expect("an address") }
    }

    fn served(listen: &[&str]) -> Served {
        let interfaces = [interface(2, None), interface(3, None), interface(4, Some(2))];
        let addresses = [
            local(2, "fe80::2"),
            local(2, "10.0.0.2"),
            local(3, "10.0.0.3"),
            local(4, "10.0.0.4"),
            local(2, "2001:db8::2"),
        ];
        let listen: Vec<SocketAddr> = listen.iter().map(|listen| listen.parse().expect("an address")).collect();
        Served::new(&interfaces, &addresses, &[2], &listen)
    }

    #[test]
    fn wildcards_stand_for_the_addresses_of_attached_interfaces() {
        for (listen, expected) in [
            (&["0.0.0.0:6969"][..], &["10.0.0.2:6969", "10.0.0.4:6969"][..]),
            (&["[::]:80"], &["[2001:db8::2]:80", "[fe80::2]:80"]),
            (&["0.0.0.0:1", "192.0.2.1:2"], &["192.0.2.1:2", "10.0.0.2:1", "10.0.0.4:1"]),
            (&["10.0.0.2:5", "0.0.0.0:5"], &["10.0.0.2:5", "10.0.0.4:5"]),
            (&[], &[]),
        ] {
            let listeners: Vec<_> = served(listen).listeners.iter().map(SocketAddr::to_string).collect();
            assert_eq!(listeners, expected, "{listen:?}");
        }
    }

    #[test]
    fn settings_hold_addresses_as_the_store_keeps_peers() {
        let settings = Settings::default();
        served(&["0.0.0.0:6969", "[::]:6969"]).store(&settings);
        assert_eq!(settings.interface_count.load(), 1);
        assert_eq!(settings.interfaces[0].each_ref().map(|word| word.load()), [2, 0x0200_0000_0002]);
        assert_eq!(settings.listener_v4_count.load(), 2);
        assert_eq!(settings.listeners_v4[0].load(), u64::from_le_bytes([10, 0, 0, 2, 0x1b, 0x39, 0, 0]));
        assert_eq!(settings.listener_v6_count.load(), 2);
        assert_eq!(settings.listeners_v6[0][2].load(), u64::from(6969u16.to_be()));
    }

    #[test]
    fn surplus_addresses_are_left_out() {
        let settings = Settings::default();
        let listeners = (0..40u8).map(|i| SocketAddr::from(([10, 0, 0, i], 1))).collect();
        Served { interfaces: Vec::new(), listeners }.store(&settings);
        assert_eq!(settings.listener_v4_count.load() as usize, LISTENERS);
    }
}
