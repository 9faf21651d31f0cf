//! Permits for what only a few clients may have at a time: so many altogether, one for each client,
//! and none for ever.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Bits of an IPv6 address that tell networks apart. A client with one address of a network has all
/// of them.
const NETWORK_BITS: u32 = 64;

/// Why a client gets no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It has one already.
    Repeated,
    /// All are taken.
    Busy,
}

/// The permits that are taken; shared by all threads.
#[derive(Default)]
pub struct Permits(Mutex<Vec<IpAddr>>);

impl Permits {
    /// One of `most` at a time, and one for each client. `source` must not be an IPv4-mapped
    /// address.
    ///
    /// # Errors
    /// Why there is none for the client.
    pub fn take(self: &Arc<Self>, source: IpAddr, most: usize) -> Result<Permit, Denied> {
        let client = client(source);
        let mut taken = self.taken();
        if taken.contains(&client) {
            return Err(Denied::Repeated);
        }
        if taken.len() >= most {
            return Err(Denied::Busy);
        }
        taken.push(client);
        Ok(Permit { client, permits: self.clone() })
    }

    fn taken(&self) -> MutexGuard<'_, Vec<IpAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A permit; given back when it is dropped.
pub struct Permit {
    client: IpAddr,
    permits: Arc<Permits>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.taken().retain(|client| *client != self.client);
    }
}

/// What stands for all addresses of a client. `source` must not be an IPv4-mapped address.
#[must_use]
pub fn client(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> NETWORK_BITS << NETWORK_BITS).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_one_and_all_together_as_many_as_there_are() {
        // (clients that hold permits, the client that asks, why it gets none)
        let (busy, repeated) = (Some(Denied::Busy), Some(Denied::Repeated));
        let rows: &[(&[&str], &str, Option<Denied>)] = &[
            (&[], "192.0.2.1", None),
            (&["192.0.2.1"], "192.0.2.2", None),
            (&["192.0.2.1"], "192.0.2.1", repeated),
            (&["192.0.2.1", "192.0.2.2"], "192.0.2.3", busy),
            (&["192.0.2.1", "192.0.2.2"], "192.0.2.2", repeated),
            (&["2001:db8::1"], "2001:db8::1", repeated),
            (&["2001:db8::1"], "2001:db8::ffff:ffff:ffff:ffff", repeated),
            (&["2001:db8::1"], "2001:db8:0:1::1", None),
            (&["2001:db8::1"], "192.0.2.1", None),
            (&["::1"], "0.0.0.1", None),
        ];
        for (holders, requester, denied) in rows {
            let permits = Arc::new(Permits::default());
            let take = |address: &str| permits.take(address.parse().expect("an address"), 2);
            let held: Vec<_> = holders.iter().map(|holder| take(holder).expect("free")).collect();
            assert_eq!(take(requester).err(), *denied, "{requester} while {holders:?} hold some");
            drop(held);
            assert!(take(requester).is_ok(), "{requester} after all were given back");
            assert!(permits.taken().is_empty());
        }
    }

    #[test]
    fn none_is_given_where_there_are_none() {
        let permits = Arc::new(Permits::default());
        assert_eq!(permits.take(IpAddr::from([192, 0, 2, 1]), 0).err(), Some(Denied::Busy));
    }
}
