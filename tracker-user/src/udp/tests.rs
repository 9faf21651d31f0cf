//! Real sockets on loopback.

use super::{replies::Replies, *};
use crate::{
    listen::{self, Transport as _},
    store::fixture,
};
use std::net::Ipv6Addr;

/// Sockets on a port of the system's choosing, answering until dropped.
struct Served {
    address: SocketAddr,
    /// Ends with this.
    _services: Services,
}

impl Served {
    /// `None` if the host lacks the address family.
    fn new(address: &str) -> Option<Self> {
        match bind(address.parse().expect("an address"), 2) {
            Err(error) if listen::is_family_missing(&error) => None,
            listener => Some(Self::by(listener.expect("any port"))),
        }
    }

    fn by(listener: Listener) -> Self {
        let store = fixture::store(100, 100, 100);
        let mut services = Services::default();
        let address = listener.address;
        listener.serve(&store, &mut services).expect("two threads");
        Self { address, _services: services }
    }

    /// A client that hears nothing but what comes from `address`.
    fn client(&self, address: &str) -> UdpSocket {
        let local = if self.address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = UdpSocket::bind(local).expect("any port");
        socket.connect(format!("{address}:{}", self.address.port())).expect("loopback");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("more than zero");
        socket
    }
}

fn connect_request(transaction: u32) -> [u8; 16] {
    let mut request = [0; 16];
    request[..8].copy_from_slice(&0x0417_2710_1980_u64.to_be_bytes());
    request[12..].copy_from_slice(&transaction.to_be_bytes());
    request
}

#[test]
fn reply_leaves_from_the_address_that_was_asked() {
    for (listen, asked) in [("0.0.0.0:0", "127.0.0.2"), ("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "[::1]")] {
        let Some(served) = Served::new(listen) else { continue };
        let client = served.client(asked);
        client.send(&connect_request(7)).expect("loopback");
        let mut reply = [0; 100];
        let length = client.recv(&mut reply).expect(listen);
        assert_eq!((length, &reply[..8]), (16, &[0, 0, 0, 0, 0, 0, 0, 7][..]), "{listen}");
    }
}

#[test]
fn what_has_waited_in_a_socket_of_systemd_is_answered_from_the_address_that_was_asked() {
    for (any, asked) in [("0.0.0.0:0", "127.0.0.2"), ("127.0.0.2:0", "127.0.0.2"), ("[::]:0", "::1")] {
        let Ok(socket) = UdpSocket::bind(any) else { continue };
        let address = socket.local_addr().expect("bound");
        let local = if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let client = UdpSocket::bind(local).expect("any port");
        client.set_read_timeout(Some(Duration::from_secs(5))).expect("more than zero");
        let asked = SocketAddr::new(asked.parse().expect(asked), address.port());
        client.send_to(&connect_request(7), asked).expect("loopback");
        Udp::prepare(&SockRef::from(&socket), address).expect("a UDP socket");
        let _served = Served::by(Listener { address, missing: false, sockets: vec![Arc::new(socket)] });
        assert_eq!(client.recv_from(&mut [0; 100]).expect(any), (16, asked));
    }
}

#[test]
fn every_packet_of_a_burst_is_answered_and_rubbish_is_not() {
    // Sockets of one address are served through io_uring, where there is one, the others by system
    // calls.
    for (listen, asked) in [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.1"), ("[::1]:0", "[::1]")] {
        let Some(served) = Served::new(listen) else { continue };
        let client = served.client(asked);
        // Several times what is received at once, but not more than the client's socket holds.
        for _ in 0..6 {
            let burst = BATCH as u32 * 2;
            for transaction in 0..burst {
                client.send(&connect_request(transaction)).expect("loopback");
                client.send(b"rubbish").expect("loopback");
            }
            let mut answered: Vec<u32> = (0..burst)
                .map(|_| {
                    let mut reply = [0; 16];
                    assert_eq!(client.recv(&mut reply).expect("an answer"), 16, "{listen}");
                    u32::from_be_bytes(reply[4..8].try_into().expect("4 bytes"))
                })
                .collect();
            answered.sort_unstable();
            assert!(answered.into_iter().eq(0..burst), "{listen}");
        }
    }
}

#[test]
fn nothing_of_honest_clients_is_lost_beside_forged_announces_that_can_all_be_answered() {
    for (listen, asked) in [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.1")] {
        let Some(served) = Served::new(listen) else { continue };
        let (honest, forger) = (served.client(asked), served.client(asked));
        let mut forged = [0xa5; 98];
        forged[8..12].copy_from_slice(&1_u32.to_be_bytes());
        for turn in 0..200 {
            // As many as are on their way at a time leave the sockets room.
            for _ in 0..50 {
                forger.send(&forged).expect("loopback");
            }
            honest.send(&connect_request(turn)).expect("loopback");
            let mut reply = [0; 16];
            assert_eq!(honest.recv(&mut reply).expect("an answer"), 16, "{listen}");
            assert_eq!(reply[4..8], turn.to_be_bytes(), "{listen}");
        }
    }
}

#[test]
fn packets_of_the_ring_are_taken_apart() {
    let mut written = vec![0; 16];
    written[..4].copy_from_slice(&16_u32.to_ne_bytes());
    written.extend([7; 16]);
    written.extend(*b"request");
    let mut long_name = written.clone();
    long_name[..4].copy_from_slice(&28_u32.to_ne_bytes());
    for (written, expected) in [
        (&written[..], Some((&[7; 16][..], &b"request"[..]))),
        (&written[..32], Some((&[7; 16], b""))),
        (&long_name, Some((&[7; 16], b"request"))),
        (&written[..31], None),
        (&written[..15], None),
        (&[], None),
    ] {
        assert_eq!(io_uring::packet(written, 16), expected, "{written:?}");
    }
}

#[test]
fn socket_addresses_are_read() {
    let mut v4 = [0, 0, 0x1a, 0xe1, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0];
    v4[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    let mut v6 = [0; 28];
    v6[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
    v6[2..4].copy_from_slice(&[0x1a, 0xe1]);
    let address: Ipv6Addr = "fe80::7".parse().expect("an address");
    v6[8..24].copy_from_slice(&address.octets());
    v6[24..28].copy_from_slice(&3_u32.to_ne_bytes());
    let rows = [
        (&v4[..], Some("192.0.2.7:6881")),
        (&v4[..8], Some("192.0.2.7:6881")),
        (&v4[..7], None),
        (&v6[..], Some("[fe80::7%3]:6881")),
        (&v6[..24], Some("[fe80::7]:6881")),
        (&v6[..23], None),
        (&[0; 28], None),
        (&[], None),
    ];
    for (name, expected) in rows {
        let expected = expected.map(|address| address.parse().expect("an address"));
        assert_eq!(socket_address(name), expected, "{name:?}");
    }
}

#[test]
fn replies_are_kept_apart() {
    let replies = Replies { bytes: b"onethree".to_vec(), starts: vec![(1, 0), (5, 3), (6, 8)] };
    let all: Vec<_> = replies.iter().collect();
    assert_eq!(all, [(1, &b"one"[..]), (5, b"three"), (6, b"")]);
}
