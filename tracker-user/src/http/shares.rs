//! How many of the open connections of a thread each client has, and who has most.
//!
//! When no more may be open, a newcomer takes the place of one of the client that has most, if that
//! has more than himself; if nobody has, one of his own has to do. So whoever opens thousands of
//! them keeps nobody out but himself.

use super::permits::client;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

/// See the module's text. Connections are known by their keys in
/// [`Deadlines`](super::deadlines::Deadlines), clients by what stands for all of their addresses.
#[derive(Default)]
pub struct Shares {
    /// Clients with their connections, by the order in which they came.
    clients: HashMap<IpAddr, BTreeMap<u64, u32>>,
    /// Clients with the number of their connections; who has most stands last.
    by_count: BTreeSet<(usize, IpAddr)>,
    /// Whose connection each is, by key, and its number in the order.
    connections: HashMap<u32, (IpAddr, u64)>,
    entered: u64,
}

impl Shares {
    /// A connection is open from now on. `source` must not be an IPv4-mapped address.
    pub fn enter(&mut self, key: u32, source: IpAddr) {
        let client = client(source);
        self.entered += 1;
        self.connections.insert(key, (client, self.entered));
        let own = self.clients.entry(client).or_default();
        self.by_count.remove(&(own.len(), client));
        own.insert(self.entered, key);
        self.by_count.insert((own.len(), client));
    }

    /// A connection is somebody else's from now on. `source` as for [`enter`](Self::enter).
    pub fn pass(&mut self, key: u32, source: IpAddr) {
        self.leave(key);
        self.enter(key, source);
    }

    /// A connection has ended, or is about to.
    pub fn leave(&mut self, key: u32) {
        let Some((client, number)) = self.connections.remove(&key) else { return };
        let Some(own) = self.clients.get_mut(&client) else { return };
        self.by_count.remove(&(own.len(), client));
        own.remove(&number);
        if own.is_empty() {
            self.clients.remove(&client);
        } else {
            self.by_count.insert((own.len(), client));
        }
    }

    /// How many connections there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.connections.len()
    }

    /// Whether a connection may make room for a newcomer although its client has no more than him:
    /// for one who has none yet, or by one of his own. Otherwise who already has his share, and
    /// comes again and again, would end what others are about to ask. `None` as for
    /// [`pop_for`](Self::pop_for).
    #[must_use]
    pub fn may_yield(&self, key: u32, newcomer: Option<IpAddr>) -> bool {
        let Some(client) = newcomer.map(client) else { return true };
        !self.clients.contains_key(&client) || self.connections.get(&key).is_some_and(|(owner, _)| *owner == client)
    }

    /// Takes the oldest connection of the client that has most out, and returns its key, if that
    /// client has more than a newcomer would have. Nobody knows yet who the newcomer is: `None`.
    pub fn pop_for(&mut self, newcomer: Option<IpAddr>) -> Option<u32> {
        let has = newcomer.and_then(|source| self.clients.get(&client(source))).map_or(0, BTreeMap::len);
        let (most, client) = *self.by_count.last()?;
        if most <= has + 1 {
            return None;
        }
        let (_, key) = self.clients.get(&client)?.first_key_value()?;
        let key = *key;
        self.leave(key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_most_makes_room_for_who_has_less() {
        // (who has connections 0, 1, 2, …; who comes; whose has to go)
        type Row = (&'static [&'static str], Option<&'static str>, Option<u32>);
        let rows: &[Row] = &[
            (&[], None, None),
            (&[], Some("192.0.2.1"), None),
            (&["192.0.2.1"], None, None),
            (&["192.0.2.1"], Some("192.0.2.2"), None),
            (&["192.0.2.1", "192.0.2.1"], None, Some(0)),
            (&["192.0.2.1", "192.0.2.1"], Some("192.0.2.2"), Some(0)),
            (&["192.0.2.1", "192.0.2.1"], Some("192.0.2.1"), None),
            (&["192.0.2.2", "192.0.2.1", "192.0.2.1"], Some("192.0.2.2"), None),
            (&["192.0.2.2", "192.0.2.1", "192.0.2.1", "192.0.2.1"], Some("192.0.2.2"), Some(1)),
            (&["192.0.2.2", "192.0.2.3", "192.0.2.4"], Some("192.0.2.5"), None),
            (&["192.0.2.2", "192.0.2.3", "192.0.2.3"], Some("192.0.2.5"), Some(1)),
            // A network of IPv6 is one client.
            (&["2001:db8::1", "2001:db8::2"], Some("192.0.2.1"), Some(0)),
            (&["2001:db8::1", "2001:db8::2"], Some("2001:db8::3"), None),
            (&["2001:db8::1", "2001:db8:0:1::2"], Some("192.0.2.1"), None),
        ];
        for (holders, newcomer, gone) in rows {
            let mut shares = Shares::default();
            for (key, holder) in holders.iter().enumerate() {
                shares.enter(key as u32, holder.parse().expect("an address"));
            }
            let newcomer = newcomer.map(|address| address.parse().expect("an address"));
            assert_eq!(shares.pop_for(newcomer), *gone, "{newcomer:?} comes to {holders:?}");
        }
    }

    #[test]
    fn who_has_his_share_ends_nobody_elses() {
        // (who has connections 0, 1, 2, …; who comes; which may make room)
        type Row = (&'static [&'static str], Option<&'static str>, &'static [u32]);
        let rows: &[Row] = &[
            (&["192.0.2.1", "192.0.2.2"], None, &[0, 1]),
            (&["192.0.2.1", "192.0.2.2"], Some("192.0.2.3"), &[0, 1]),
            (&["192.0.2.1", "192.0.2.2"], Some("192.0.2.2"), &[1]),
            (&["192.0.2.1", "192.0.2.2", "192.0.2.2"], Some("192.0.2.2"), &[1, 2]),
            (&["192.0.2.1", "2001:db8::1"], Some("2001:db8::2"), &[1]),
            (&["192.0.2.1", "2001:db8::1"], Some("2001:db8:0:1::1"), &[0, 1]),
        ];
        for (holders, newcomer, expected) in rows {
            let mut shares = Shares::default();
            for (key, holder) in holders.iter().enumerate() {
                shares.enter(key as u32, holder.parse().expect("an address"));
            }
            let newcomer = newcomer.map(|address| address.parse().expect("an address"));
            let may: Vec<u32> = (0..holders.len() as u32).filter(|key| shares.may_yield(*key, newcomer)).collect();
            assert_eq!(may, *expected, "{newcomer:?} comes to {holders:?}");
        }
    }

    #[test]
    fn counts_agree_with_a_simple_model() {
        let mut shares = Shares::default();
        let mut model: BTreeMap<u32, (u64, IpAddr)> = BTreeMap::new();
        let mut state = 1_u64;
        for number in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = (state >> 33) as u32 % 60;
            let address = IpAddr::from([192, 0, 2, (state >> 50) as u8 % 5]);
            match ((state >> 40) % 3, model.contains_key(&key)) {
                (0, true) => {
                    shares.leave(key);
                    model.remove(&key);
                }
                (0 | 1, false) => {
                    shares.enter(key, address);
                    model.insert(key, (number, address));
                }
                _ => {
                    let has = |of: IpAddr| model.values().filter(|(_, address)| *address == of).count();
                    let gone = shares.pop_for(Some(address));
                    let most = model.values().map(|(_, address)| has(*address)).max().unwrap_or(0);
                    assert_eq!(gone.is_some(), most > has(address) + 1);
                    if let Some(key) = gone {
                        let (entered, client) = model[&key];
                        assert_eq!(has(client), most);
                        assert!(model.values().all(|(other, of)| *of != client || *other >= entered), "the oldest");
                        model.remove(&key);
                    }
                }
            }
            assert_eq!(shares.connections.len(), model.len());
        }
        for key in 0..60 {
            shares.leave(key);
        }
        assert!(shares.clients.is_empty() && shares.by_count.is_empty() && shares.connections.is_empty());
    }
}
