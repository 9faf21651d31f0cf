//! Permits for what only a few clients may have at a time: so many altogether, one for each client,
//! and none for ever.

use std::{
    collections::{HashMap, VecDeque},
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
    /// It has had one a short time ago, and has to wait so long for the next.
    TooSoon(Duration),
}

/// The permits that are taken; shared by all threads.
#[derive(Default)]
pub struct Permits(Mutex<Given>);

#[derive(Default)]
struct Given {
    /// Who has one.
    taken: Vec<IpAddr>,
    /// Who has had one, in the order of time.
    order: VecDeque<IpAddr>,
    /// And when.
    recent: HashMap<IpAddr, Instant>,
}

impl Given {
    /// Forgets those who had one longer ago than `pause`.
    fn forget(&mut self, pause: Duration) {
        while let Some(client) = self.order.front()
            && self.recent.get(client).is_none_or(|since| since.elapsed() >= pause)
        {
            self.recent.remove(client);
            self.order.pop_front();
        }
    }

    /// Whether a client has had none for as long as `pause`. Who does not have to pause is not asked
    /// about, and leaves what is remembered of others.
    fn paused(&mut self, client: IpAddr, pause: Duration) -> Result<(), Denied> {
        if pause.is_zero() {
            return Ok(());
        }
        self.forget(pause);
        match self.recent.get(&client) {
            Some(since) => Err(Denied::TooSoon(pause.saturating_sub(since.elapsed()))),
            None if self.order.len() >= REMEMBERED => Err(Denied::Busy),
            None => Ok(()),
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
        if given.taken.contains(&client) {
            return Err(Denied::Repeated);
        }
        given.paused(client, pause)?;
        if given.taken.len() >= most {
            return Err(Denied::Busy);
        }
        given.taken.push(client);
        Ok(Permit { client, pauses: !pause.is_zero(), permits: self.clone() })
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A permit; given back when it is dropped.
pub struct Permit {
    client: IpAddr,
    /// The client has to pause after it.
    pauses: bool,
    permits: Arc<Permits>,
}

impl Permit {
    /// From now on the client has what the permit is for, and its pause begins. To be called once.
    pub fn used(&self) {
        if self.pauses {
            let mut given = self.permits.given();
            given.order.push_back(self.client);
            given.recent.insert(self.client, Instant::now());
        }
    }
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
        let take = |address: &str, pause| {
            let permit = permits.take(address.parse().expect("an address"), 2, pause);
            permit.map(|permit| permit.used()).map_err(|denied| match denied {
                Denied::TooSoon(rest) => rest > pause - Duration::from_secs(60) && rest <= pause,
                Denied::Repeated | Denied::Busy => false,
            })
        };
        let (long, none) = (Duration::from_secs(3600), Duration::ZERO);
        // (who asks, how long it has to pause, whether it gets one)
        for (address, pause, given) in [
            ("192.0.2.1", none, true),
            ("192.0.2.1", long, true),
            ("192.0.2.1", long, false),
            ("192.0.2.2", long, true),
            ("2001:db8::1", long, true),
            ("2001:db8::2", long, false),
            // Who need not pause, as the operator, changes nothing for those who have to.
            ("192.0.2.9", none, true),
            ("192.0.2.1", none, true),
            ("192.0.2.1", long, false),
            ("192.0.2.2", long, false),
            ("192.0.2.1", Duration::from_nanos(1), true),
        ] {
            let expected = if given { Ok(()) } else { Err(true) };
            assert_eq!(take(address, pause), expected, "{address} after {pause:?}");
        }
    }

    #[test]
    fn only_who_has_had_something_pauses() {
        let permits = Arc::new(Permits::default());
        let take = || permits.take(IpAddr::from([192, 0, 2, 1]), 2, Duration::from_secs(3600));
        drop(take().expect("the first"));
        take().expect("nothing came of the first").used();
        assert!(matches!(take(), Err(Denied::TooSoon(_))), "the second was used");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let permits = Arc::new(Permits::default());
        let take = |number: u32| permits.take(IpAddr::from(number.to_be_bytes()), 2, Duration::from_secs(3600));
        for number in 0..REMEMBERED as u32 {
            take(number).expect("room").used();
        }
        assert_eq!(take(REMEMBERED as u32).err(), Some(Denied::Busy));
        assert_eq!(permits.given().order.len(), REMEMBERED);
    }
}
