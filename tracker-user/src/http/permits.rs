//! Permits for what only a few clients may have at a time: so many altogether, one for each client,
//! and none for ever.

use std::{
    collections::{HashSet, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Bits of an IPv6 address that tell networks apart. A client with one address of a network has all
/// of them.
const NETWORK_BITS: u32 = 64;

/// Of so many clients it is remembered when they had their last permit. One more is told that all
/// are taken.
const REMEMBERED: usize = 1 << 16;

/// Why a client gets no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It has one already.
    Repeated,
    /// All are taken.
    Busy,
    /// It has had one a short time ago.
    TooSoon,
}

/// The permits that are taken; shared by all threads.
#[derive(Default)]
pub struct Permits(Mutex<Given>);

#[derive(Default)]
struct Given {
    /// Who has one.
    taken: Vec<IpAddr>,
    /// Who has had one, in the order of time.
    order: VecDeque<(Instant, IpAddr)>,
    recent: HashSet<IpAddr>,
}

impl Given {
    /// Forgets those who had one longer ago than `pause`.
    fn forget(&mut self, pause: Duration) {
        while let Some((since, client)) = self.order.front()
            && since.elapsed() >= pause
        {
            self.recent.remove(client);
            self.order.pop_front();
        }
    }
}

impl Permits {
    /// One of `most` at a time, and one for each client, which has had none for as long as `pause`.
    /// `source` must not be an IPv4-mapped address.
    ///
    /// # Errors
    /// Why there is none for the client.
    pub fn take(self: &Arc<Self>, source: IpAddr, most: usize, pause: Duration) -> Result<Permit, Denied> {
        let client = client(source);
        let mut given = self.given();
        given.forget(pause);
        if given.taken.contains(&client) {
            return Err(Denied::Repeated);
        }
        if given.recent.contains(&client) {
            return Err(Denied::TooSoon);
        }
        if given.taken.len() >= most || given.order.len() >= REMEMBERED {
            return Err(Denied::Busy);
        }
        given.taken.push(client);
        if !pause.is_zero() {
            given.order.push_back((Instant::now(), client));
            given.recent.insert(client);
        }
        Ok(Permit { client, permits: self.clone() })
    }

    fn given(&self) -> MutexGuard<'_, Given> {
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
        self.permits.given().taken.retain(|client| *client != self.client);
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
            let take = |address: &str| permits.take(address.parse().expect("an address"), 2, Duration::ZERO);
            let held: Vec<_> = holders.iter().map(|holder| take(holder).expect("free")).collect();
            assert_eq!(take(requester).err(), *denied, "{requester} while {holders:?} hold some");
            drop(held);
            assert!(take(requester).is_ok(), "{requester} after all were given back");
            assert!(permits.given().taken.is_empty());
        }
    }

    #[test]
    fn none_is_given_where_there_are_none() {
        let permits = Arc::new(Permits::default());
        assert_eq!(permits.take(IpAddr::from([192, 0, 2, 1]), 0, Duration::ZERO).err(), Some(Denied::Busy));
    }

    #[test]
    fn a_client_pauses_from_one_to_the_next() {
        let permits = Arc::new(Permits::default());
        let take = |address: &str, pause| permits.take(address.parse().expect("an address"), 2, pause).map(drop).err();
        let (long, none) = (Duration::from_secs(3600), Duration::ZERO);
        // (who asks, how long it has to pause, why it gets none)
        for (address, pause, denied) in [
            ("192.0.2.1", none, None),
            ("192.0.2.1", long, None),
            ("192.0.2.1", long, Some(Denied::TooSoon)),
            ("192.0.2.2", long, None),
            ("2001:db8::1", long, None),
            ("2001:db8::2", long, Some(Denied::TooSoon)),
            // The pause has been switched off meanwhile.
            ("192.0.2.1", none, None),
            ("192.0.2.1", long, None),
            ("192.0.2.1", Duration::from_nanos(1), None),
        ] {
            assert_eq!(take(address, pause), denied, "{address} after {pause:?}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let permits = Arc::new(Permits::default());
        let take = |number: u32| permits.take(IpAddr::from(number.to_be_bytes()), 2, Duration::from_secs(3600));
        for number in 0..REMEMBERED as u32 {
            assert!(take(number).is_ok(), "{number}");
        }
        assert_eq!(take(REMEMBERED as u32).err(), Some(Denied::Busy));
        assert_eq!(permits.given().order.len(), REMEMBERED);
    }
}
