//! Binding the sockets of all addresses of a protocol.
//!
//! Every address has several sockets with `SO_REUSEPORT`. With that option alone a second tracker
//! of the same user would bind without an error, and take half of the requests. Therefore the first
//! socket of an address is bound without it, which fails if another process has the port; the
//! option is set afterwards. A socket without the option would also refuse the sockets of this
//! tracker, so wildcards come first: the process that has the wildcard has the port, and named
//! addresses of the same port join it. Before both comes what is inherited, as it has the port
//! already.

use super::{Endpoint, Inherited, Place, address, explain, is_family_missing};
use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

/// How long a taken port is tried again: a tracker that has just been stopped or killed may still
/// have it for some milliseconds.
const BIND_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two tries.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// What is particular to UDP and to HTTP.
pub trait Transport {
    /// Its name in messages: the option's name in capitals.
    const NAME: &'static str;
    /// Datagrams or streams.
    const TYPE: Type;
    /// UDP or TCP.
    const PROTOCOL: Protocol;

    /// The place of a socket.
    fn place(address: SocketAddr) -> Place;

    /// Sets what has to be set before the socket is bound to `address`.
    ///
    /// # Errors
    /// When the system refuses an option.
    fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()>;

    /// Lets a bound socket receive.
    ///
    /// # Errors
    /// When the system refuses; with [`ErrorKind::AddrInUse`] if another process has been faster.
    fn begin(socket: &Socket) -> io::Result<()>;
}

/// An address with its sockets.
pub struct Bound {
    /// The address and the port, which the system has chosen if it was to be 0.
    pub address: SocketAddr,
    /// As many as there are threads.
    pub sockets: Vec<Socket>,
    /// Whether this host does not have the address yet.
    pub missing: bool,
}

/// Which sockets may have the port when the first one of an address is bound.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    /// No socket.
    None,
    /// Those of this tracker: on the wildcard, or inherited ones that the wildcard joins.
    Ours,
}

/// Binds every endpoint with `threads` sockets, or more if more are inherited. Equal ones are bound
/// once. An optional one may be missing.
///
/// # Errors
/// When an address is taken, not one that can be listened on, or not allowed.
pub fn bind_all<T: Transport>(
    endpoints: &[Endpoint],
    threads: usize,
    inherited: &mut Inherited,
) -> anyhow::Result<Vec<Bound>> {
    bind_all_within::<T>(endpoints, threads, inherited, BIND_TIMEOUT)
}

/// The same; a port that is taken is tried for as long as `timeout`.
fn bind_all_within<T: Transport>(
    endpoints: &[Endpoint],
    threads: usize,
    inherited: &mut Inherited,
    timeout: Duration,
) -> anyhow::Result<Vec<Bound>> {
    let endpoints = distinct::<T>(endpoints)?;
    let threads = threads.max(1);
    let is_shared = |wanted| endpoints.iter().any(|other| address::overlap(other.address, wanted));
    let mut bound: Vec<Option<Bound>> = Vec::new();
    for &Endpoint { address, .. } in &endpoints {
        let sockets = inherited.take(&T::place(address));
        let one = (!sockets.is_empty()).then(|| go_on::<T>(address, sockets, threads, is_shared(address)));
        bound.push(one.transpose()?);
    }
    for wildcard in [true, false] {
        for (number, endpoint) in endpoints.iter().enumerate() {
            let wanted = endpoint.address;
            if bound[number].is_some() || wanted.ip().is_unspecified() != wildcard {
                continue;
            }
            let joins = bound.iter().flatten().any(|one| address::overlap(one.address, wanted));
            let others = if joins { Others::Ours } else { Others::None };
            match bind::<T>(wanted, threads, others, is_shared(wanted), timeout) {
                Ok(one) => bound[number] = Some(one),
                Err(error) if endpoint.optional && is_family_missing(&error) => {
                    tracing::info!("this host has no IPv6: not listening on {wanted}");
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(bound.into_iter().flatten().collect())
}

/// Each endpoint once, checked.
fn distinct<T: Transport>(endpoints: &[Endpoint]) -> anyhow::Result<Vec<Endpoint>> {
    let mut distinct: Vec<Endpoint> = Vec::new();
    for endpoint in endpoints {
        let address = address::canonical(endpoint.address);
        if distinct.iter().any(|other| other.address == address) {
            tracing::info!("{} {address} is named more than once: it is listened on once", T::NAME);
            continue;
        }
        address::check(address, T::NAME)?;
        distinct.push(Endpoint { address, ..*endpoint });
    }
    Ok(distinct)
}

/// Binds one address. `shared`: another address of this tracker has the same port.
fn bind<T: Transport>(
    address: SocketAddr,
    threads: usize,
    others: Others,
    shared: bool,
    timeout: Duration,
) -> anyhow::Result<Bound> {
    let in_vain = |error| explain(error, T::NAME, address);
    let (first, missing) = open_patiently::<T>(address, others == Others::Ours, timeout).map_err(in_vain)?;
    let address = first
        .local_addr()
        .ok()
        .and_then(|address| address.as_socket())
        .with_context(|| format!("cannot find out the port of {} {address}", T::NAME))?;
    if missing {
        tracing::warn!(
            "{} {address}: the address is not there yet, no interface of this host has it or may use it (see `ip \
             address`); requests are answered as soon as one does",
            T::NAME
        );
    }
    let mut sockets = vec![first];
    // For a single socket the kernel need not choose among sockets for every packet.
    if threads > 1 || shared {
        sockets[0].set_reuse_port(true).map_err(in_vain)?;
    }
    for _ in 1..threads {
        sockets.push(open::<T>(address, true).map_err(in_vain)?.0);
    }
    Ok(Bound { address, sockets, missing })
}

/// Goes on with sockets that listen already. `shared`: as for [`bind`].
fn go_on<T: Transport>(
    address: SocketAddr,
    mut sockets: Vec<Socket>,
    threads: usize,
    shared: bool,
) -> anyhow::Result<Bound> {
    let in_vain = |error| explain(error, T::NAME, address);
    let (inherited, shared) = (sockets.len(), shared || sockets.len() > 1 || threads > 1);
    for socket in &sockets {
        socket.set_reuse_port(shared).map_err(in_vain)?;
        T::prepare(socket, address).and_then(|()| T::begin(socket)).map_err(in_vain)?;
    }
    for _ in inherited..threads {
        let more = match open::<T>(address, true) {
            // Another user's, such as of systemd: the threads share it.
            Err(error) if error.kind() == ErrorKind::AddrInUse => sockets[0].try_clone(),
            other => other.map(|(socket, _)| socket),
        };
        sockets.push(more.map_err(in_vain)?);
    }
    let missing = !address.ip().is_unspecified() && !address::is_there(address);
    tracing::info!("{} {address}: goes on with {inherited} of {} sockets that listened before", T::NAME, sockets.len());
    Ok(Bound { address, sockets, missing })
}

/// As [`open`], but repeated for `timeout` while the port is taken.
fn open_patiently<T: Transport>(address: SocketAddr, shared: bool, timeout: Duration) -> io::Result<(Socket, bool)> {
    let begun = Instant::now();
    let mut said = false;
    loop {
        match open::<T>(address, shared) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && begun.elapsed() < timeout => {
                if !said {
                    said = true;
                    tracing::info!(
                        "{} {address} is taken; trying again for {} ms, in case that its owner is just ending",
                        T::NAME,
                        timeout.as_millis()
                    );
                }
                thread::sleep(RETRY_INTERVAL);
            }
            result => return result,
        }
    }
}

/// A socket on `address`, and whether this host does not have that address yet.
fn open<T: Transport>(address: SocketAddr, shared: bool) -> io::Result<(Socket, bool)> {
    let socket = Socket::new(Domain::for_address(address), T::TYPE, Some(T::PROTOCOL))?;
    if address.is_ipv6() {
        // Each family has sockets of its own; an IPv4 client never shows up as ::ffff:a.b.c.d.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(shared)?;
    T::prepare(&socket, address)?;
    let missing = match socket.bind(&address.into()) {
        Ok(()) => false,
        // At boot a named address may be configured after the tracker has started, or still be
        // probed for duplicates (IPv6). If a wildcard cannot be bound, the host lacks the family.
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable && !address.ip().is_unspecified() => {
            match address {
                SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
                SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
            }
            socket.bind(&address.into())?;
            true
        }
        Err(error) => return Err(error),
    };
    T::begin(&socket)?;
    Ok((socket, missing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::Http,
        udp::{self, Udp},
    };
    use std::net::{IpAddr, UdpSocket};

    fn endpoints(addresses: &[&str], port: u16) -> Vec<Endpoint> {
        let endpoint = |address: &&str| {
            let ip: IpAddr = address.parse().expect(address);
            Endpoint { address: SocketAddr::new(ip, port), optional: false }
        };
        addresses.iter().map(endpoint).collect()
    }

    /// A port that was free a moment ago, for UDP and TCP and both families.
    fn free_port() -> u16 {
        loop {
            let udp = UdpSocket::bind("0.0.0.0:0").expect("a port");
            let port = udp.local_addr().expect("bound").port();
            if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
                return port;
            }
        }
    }

    /// Binds, and says what has been bound or what was wrong.
    fn outcome(
        http: bool,
        addresses: &[&str],
        port: u16,
        threads: usize,
    ) -> (Result<Vec<IpAddr>, String>, Vec<Socket>) {
        let bind = if http { bind_all_within::<Http> } else { bind_all_within::<Udp> };
        match bind(&endpoints(addresses, port), threads, &mut Inherited::default(), Duration::from_millis(10)) {
            Ok(bound) => {
                let addresses = bound.iter().map(|one| one.address.ip()).collect();
                (Ok(addresses), bound.into_iter().flat_map(|one| one.sockets).collect())
            }
            Err(error) => (Err(format!("{error:#}")), Vec::new()),
        }
    }

    #[test]
    fn wildcard_and_named_addresses_share_a_port_that_nobody_else_gets() {
        for http in [false, true] {
            for threads in [1, 3] {
                for addresses in [
                    &["0.0.0.0", "127.0.0.2"][..],
                    &["127.0.0.2", "0.0.0.0"],
                    &["127.0.0.2", "0.0.0.0", "127.0.0.3"],
                    &["127.0.0.2", "127.0.0.3"],
                    &["::", "::1"],
                    &["::1", "::"],
                    &["0.0.0.0", "::", "::1", "127.0.0.1"],
                ] {
                    let port = free_port();
                    let (bound, sockets) = outcome(http, addresses, port, threads);
                    let expected: Vec<IpAddr> = addresses.iter().map(|one| one.parse().expect(one)).collect();
                    // In the order given, whatever the order of binding.
                    assert_eq!(bound, Ok(expected), "{addresses:?}");
                    assert_eq!(sockets.len(), addresses.len() * threads);
                    let mut others = addresses.to_vec();
                    others.push(if addresses[0].contains(':') { "::" } else { "0.0.0.0" });
                    for other in others {
                        for threads in [1, 2] {
                            let error = outcome(http, &[other], port, threads).0.expect_err(other);
                            assert!(error.contains("another process has"), "{error}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_socket_of_an_address_is_given_clients() {
        let bound = udp::bind("127.0.0.1:0".parse().expect("an address"), 3).expect("a port");
        for _ in 0..200 {
            let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
            client.send_to(b"x", bound.address).expect("loopback");
        }
        for socket in &bound.sockets {
            socket.recv(&mut [0]).expect("some of 200 clients");
        }
    }

    /// What `addresses` have listened to before, opened by `user` if that is not who runs this.
    fn before(http: bool, addresses: &[&str], port: u16, threads: usize, user: Option<u32>) -> Vec<Socket> {
        // SAFETY: takes no pointer, and changes this thread alone.
        let become_user = |user| unsafe { libc::setfsuid(user) };
        user.map(become_user);
        let (bound, sockets) = outcome(http, addresses, port, threads);
        become_user(rustix::process::geteuid().as_raw());
        bound.expect("free");
        sockets
    }

    #[test]
    fn what_is_inherited_does_not_keep_other_addresses_of_its_port_from_being_bound() {
        const NOBODY: u32 = 65534;
        let nobody = rustix::process::geteuid().is_root().then_some(NOBODY);
        for (old, new, expected_to_be_left) in [
            (&["0.0.0.0"][..], &["127.0.0.2"][..], &[][..]),
            (&["127.0.0.2"], &["0.0.0.0"], &[]),
            (&["::"], &["::1"], &[]),
            (&["::1"], &["::"], &[]),
            (&["0.0.0.0"], &["0.0.0.0", "127.0.0.2"], &[]),
            (&["127.0.0.2"], &["0.0.0.0", "127.0.0.2"], &[]),
            (&["127.0.0.2", "127.0.0.3"], &["0.0.0.0", "127.0.0.2", "127.0.0.3"], &[]),
            (&["0.0.0.0", "127.0.0.2"], &["0.0.0.0"], &[]),
            (&["0.0.0.0", "127.0.0.2"], &["127.0.0.3"], &["127.0.0.2"]),
            (&["0.0.0.0"], &["::"], &["0.0.0.0"]),
        ] {
            for (http, threads, user) in [false, true]
                .into_iter()
                .flat_map(|http| [(http, 1, None), (http, 3, None), (http, 1, nobody), (http, 3, nobody)])
            {
                let port = free_port();
                let place = if http { Http::place } else { Udp::place };
                let mut inherited = Inherited::new(before(http, old, port, threads, user).into_iter());
                let endpoints = endpoints(new, port);
                let wanted: Vec<_> = endpoints.iter().map(|endpoint| place(endpoint.address)).collect();
                inherited.make_way(&wanted);
                let bind = if http { bind_all_within::<Http> } else { bind_all_within::<Udp> };
                let bound = bind(&endpoints, threads, &mut inherited, Duration::from_millis(10));
                let bound = bound.unwrap_or_else(|error| panic!("{old:?}, then {new:?}: {error:#}"));
                assert!(bound.iter().all(|one| one.sockets.len() == threads), "{old:?}, then {new:?}");
                let mut left = inherited.close();
                left.dedup();
                let expected =
                    expected_to_be_left.iter().map(|one| place(SocketAddr::new(one.parse().expect(one), port)));
                assert!(left.into_iter().eq(expected), "{old:?}, then {new:?}");
                for other in new {
                    outcome(http, &[other], port, threads).0.expect_err("a second tracker");
                }
            }
        }
    }

    #[test]
    fn addresses_named_twice_are_bound_once() {
        for http in [false, true] {
            for (addresses, expected) in [
                (&["127.0.0.1", "127.0.0.1"][..], &["127.0.0.1"][..]),
                (&["127.0.0.1", "::ffff:127.0.0.1"], &["127.0.0.1"]),
                (&["127.0.0.1", "127.0.0.2", "127.0.0.1"], &["127.0.0.1", "127.0.0.2"]),
            ] {
                let (bound, sockets) = outcome(http, addresses, free_port(), 1);
                let expected: Vec<IpAddr> = expected.iter().map(|one| one.parse().expect(one)).collect();
                assert_eq!(sockets.len(), expected.len());
                assert_eq!(bound, Ok(expected));
            }
        }
    }

    #[test]
    fn address_that_is_not_there_yet_is_bound_all_the_same() {
        // Of the networks for documentation (RFC 5737, RFC 3849).
        for (address, missing) in [("203.0.113.1", true), ("2001:db8::1", true), ("127.0.0.1", false)] {
            for bind in [bind_all::<Udp>, bind_all::<Http>] {
                let bound = bind(&endpoints(&[address], 0), 2, &mut Inherited::default()).expect(address);
                assert_eq!((bound[0].missing, bound[0].sockets.len()), (missing, 2), "{address}");
            }
        }
    }

    #[test]
    fn taken_port_is_tried_again_until_it_is_free() {
        for bind in [bind_all::<Udp>, bind_all::<Http>] {
            let endpoints = endpoints(&["127.0.0.1"], free_port());
            let first = bind(&endpoints, 2, &mut Inherited::default()).expect("free");
            let holder = thread::spawn(move || {
                thread::sleep(BIND_TIMEOUT / 4);
                drop(first);
            });
            bind(&endpoints, 2, &mut Inherited::default()).expect("free by now");
            holder.join().expect("no panic");
        }
    }
}
