//! What a card is told, out of what the program in the driver is told.

use super::program::Told;
use crate::{store::Store, xdp::destinations::Destinations};
use std::net::{IpAddr, SocketAddr};
use tracker_common::{
    admission::blocklist,
    bep15::card_id,
    card::{Destination, Mac, Window},
    limits::table::Kind,
    settings::Settings,
};

/// Addresses that are blocked one by one, as of a table of the store.
#[derive(Default)]
pub struct Blocked {
    /// [`Settings::blocked`].
    base: u32,
    /// IPv4, in memory order.
    pub addresses: Vec<u32>,
}

impl Blocked {
    /// Reads the table that is in use, if it is another one.
    pub fn follow(&mut self, store: &Store) {
        let base = store.settings().blocked.load();
        if base == self.base {
            return;
        }
        let mut addresses = Vec::new();
        if base != 0 {
            blocklist::alone_v4(
                |number| store.block_word(number),
                base,
                |address| addresses.push(address.swap_bytes()),
            );
        }
        // Else it was written to meanwhile, and is read again.
        if store.settings().blocked.load() == base {
            *self = Self { base, addresses };
        }
    }
}

/// For the interface with this number.
pub fn told(settings: &Settings, destinations: &Destinations, interface: u32, blocked: &Blocked) -> Told {
    let mac = destinations.interfaces.iter().find(|(index, ..)| *index == interface).map(|(_, mac, _)| *mac);
    let Some([a, b, c, d, e, f]) = mac else { return Told::default() };
    let mac = Mac { first: u32::from_ne_bytes([a, b, c, d]), last: u16::from_ne_bytes([e, f]).into() };
    Told {
        destinations: destinations.listeners.iter().map(|listener| (destination(*listener), mac)).collect(),
        blocked: blocked.addresses.clone(),
        window: window(settings),
    }
}

fn destination(listener: SocketAddr) -> Destination {
    let port = Destination::port(listener.port().to_be_bytes(), listener.is_ipv6());
    let address = match listener.ip() {
        IpAddr::V4(ip) => [u32::from_ne_bytes(ip.octets()).into(), 0],
        IpAddr::V6(ip) => {
            let address = u128::from_ne_bytes(ip.octets());
            [address as u64, (address >> 64) as u64]
        }
    };
    Destination { address, port }
}

/// What connection ids are made of now. A card cannot count who asks how often, so with a limit on
/// connects it answers none.
fn window(settings: &Settings) -> Window {
    let number = card_id::window(settings);
    let limited = settings.limits.load() & Kind::Connect.bit() != 0;
    let answers = u32::from(number != 0 && !limited);
    Window { answers, number, key: card_id::key(settings, number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_told_of_its_own_interface_alone() {
        let settings = Settings::default();
        let destinations = Destinations {
            interfaces: vec![(3, [2, 0, 0, 0, 0, 3], 1500), (4, [2, 1, 2, 3, 4, 5], 1500)],
            listeners: ["192.0.2.1:6969", "[2001:db8::1]:6969"].map(|address| address.parse().expect("one")).into(),
            ..Destinations::default()
        };
        let told = told(&settings, &destinations, 4, &Blocked::default());
        let mac = Mac { first: u32::from_ne_bytes([2, 1, 2, 3]), last: u16::from_ne_bytes([4, 5]).into() };
        assert_eq!(told.destinations.iter().map(|(_, mac)| *mac).collect::<Vec<_>>(), [mac, mac]);
        assert_ne!(told.destinations[0].0.port, told.destinations[1].0.port, "of different families");
        assert_eq!(super::told(&settings, &destinations, 5, &Blocked::default()), Told::default());
    }

    #[test]
    fn connects_are_answered_with_a_clock_and_without_a_limit() {
        let settings = Settings::default();
        assert_eq!(window(&settings).answers, 0);
        settings.heartbeat.store(6000);
        assert_eq!((window(&settings).answers, window(&settings).number), (1, 100));
        settings.limits.store(Kind::Announce.bit());
        assert_eq!(window(&settings).answers, 1);
        settings.limits.store(Kind::Connect.bit());
        assert_eq!(window(&settings).answers, 0);
    }
}
