//! Three trackers with XDP, each in a namespace of its own, a NATS server in a fourth, clients on each:
//! what each tracker knows of what the others are told, also when nodes and server are killed, packets
//! get lost and networks fall apart.
//!
//! `cargo xtask cluster` runs what takes minutes as well, with more peers, and prints what each knows.

#[path = "cluster/failover.rs"]
mod failover;
#[path = "cluster/farm.rs"]
mod farm;
#[path = "cluster/flood.rs"]
mod flood;
#[path = "cluster/healing.rs"]
mod healing;
#[path = "cluster/trust.rs"]
mod trust;

use farm::{Farm, Site, eventually};
use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};
use tracker_tests::{
    bep15::{Announce, Event, InfoHash},
    namespace::Pair,
    println,
};

fn torrent(number: u8) -> InfoHash {
    // In as many shards.
    let mut info_hash = [number; 20];
    info_hash[0] = number.wrapping_mul(0x35);
    info_hash
}

/// What each knows: peers of these torrents.
fn table(farm: &mut Farm, title: &str, torrents: &[InfoHash]) -> Vec<u32> {
    let known: Vec<u32> = farm.sites.iter().map(|site| site.as_ref().map_or(0, |site| site.peers(torrents))).collect();
    println!("{title:<60}{known:>8?}");
    known
}

#[test]
fn what_one_tracker_is_told_all_know() {
    let mut farm = Farm::new();
    let torrents: Vec<_> = (1..=8).map(torrent).collect();
    // The third comes later.
    farm.start(0, &[]);
    farm.start(1, &[]);
    farm.eventually_connected(&[0, 1]);
    let (one, two) = (farm.site(0), farm.site(1));
    for info_hash in &torrents {
        one.announce(0, info_hash, 1, true, Event::Started);
        one.announce(1, info_hash, 2, false, Event::Started);
        two.announce(2, info_hash, 3, false, Event::Started);
    }
    eventually("both know all", || {
        (one.counts(&torrents[0]) == (1, 2, 0) && two.counts(&torrents[0]) == (1, 2, 0)).then_some(())
    });
    let given = two.announce(2, &torrents[0], 3, false, Event::None);
    assert_eq!(given.len(), 2, "peers of the other tracker are given: {given:?}");
    // Whoever leaves or completes, does so everywhere; IPv6 as well.
    two.announce(2, &torrents[1], 3, false, Event::Stopped);
    one.announce(1, &torrents[1], 2, true, Event::Completed);
    one.announce_v6(5, &torrents[1], 4);
    eventually("changes", || [one, two].iter().all(|site| site.counts(&torrents[1]) == (2, 1, 1)).then_some(()));
    let all = table(&mut farm, "two trackers, after announces at each", &torrents);
    assert_eq!(all, [24, 24, 0]);

    // A new node takes over what there is.
    farm.start(2, &[]);
    eventually("a new node", || (farm.site(2).peers(&torrents) == 24).then_some(()));
    assert_eq!(farm.site(2).counts(&torrents[1]), (2, 1, 1), "with downloads");
    table(&mut farm, "a third one comes", &torrents);

    // What is not understood is dropped and counted.
    let before = farm.site(1).dropped();
    farm.publish("tracker.changes.0", b"hello");
    farm.publish("tracker.changes.0", b"TC\x63\0");
    farm.publish("tracker.changes.0", b"TC\x02\0");
    farm.publish("tracker.hello", b"hello");
    let old = farm::version_1(&[0xc6, 0x33, 0x64, 9], &torrents[0]);
    farm.publish(&format!("tracker.changes.{}", torrents[0][0] >> 2), &old);
    eventually("the older format", || (farm.site(1).counts(&torrents[0]).1 == 3).then_some(()));
    let dropped =
        |reason| farm.site(1).dropped().get(reason).copied().unwrap_or(0.0) - before.get(reason).unwrap_or(&0.0);
    assert_eq!(["foreign", "version", "malformed"].map(dropped), [2.0, 1.0, 1.0]);

    // The server dies: everybody is answered all the same, and what was missed is made up for.
    farm.kill_server();
    for info_hash in &torrents {
        let given = farm.site(0).announce(0, info_hash, 11, false, Event::Started);
        assert!(!given.is_empty());
    }
    table(&mut farm, "the server is killed, 8 announces at the first", &torrents);
    // One that dies meanwhile comes back with nothing.
    farm.kill(2);
    farm.start(2, &[]);
    farm.start_server();
    eventually("after the server's death", || {
        let known: Vec<_> = farm.sites.iter().flatten().map(|site| site.peers(&torrents)).collect();
        (known == [33, 33, 33]).then_some(())
    });
    table(&mut farm, "the third was killed as well, both are back", &torrents);
    for site in farm.sites.iter().flatten() {
        let metrics = site.metrics();
        assert_eq!(metrics.sum("tracker_cluster_connected", &[]), 1.0);
        assert_eq!(metrics.sum("tracker_cluster_nodes", &[]), 2.0, "{}", site.tracker.log());
        let swarm: f64 = metrics.sum("tracker_peers", &[]);
        assert_eq!(swarm, 33.0, "what is counted is what there is");
    }
    assert!(
        farm.site(0).metrics().sum("tracker_requests_answered_total", &[("path", "xdp"), ("request", "announce")])
            > 20.0
    );
}

#[test]
fn opentrackers_livesync_is_spoken() {
    let group = SocketAddr::from((Ipv4Addr::new(224, 0, 23, 5), 9696));
    let pair = Pair::new().expect("namespaces");
    pair.server.ip("route add 224.0.0.0/4 dev server0").expect("a route");
    pair.client.ip("route add 224.0.0.0/4 dev client0").expect("a route");
    let from = Pair::client_v4(0).to_string();
    let own = Pair::SERVER_V4.to_string();
    let options = ["--livesync", "224.0.23.5:9696", "--livesync-from", &from, "--livesync-interface", &own];
    let site = Site::start(pair, 0, &options);
    let socket = |number: u8| {
        site.pair.client.run(|| {
            let socket = UdpSocket::bind((Pair::client_v4(number), 0)).expect("an address");
            socket.set_multicast_ttl_v4(1).expect("a socket");
            socket
        })
    };
    let info_hash = torrent(3);
    let record =
        |address: [u8; 4], port: u16, flags: u8| [&info_hash[..], &address, &port.to_be_bytes(), &[flags, 0]].concat();
    let v6 = [&info_hash[..], &Pair::client_v6(1).octets(), &7_u16.to_be_bytes(), &[0, 0]].concat();
    let packet = |kind: u32, records: &[Vec<u8>]| [&b"anot"[..], &kind.to_be_bytes(), &records.concat()].concat();
    // (whose socket, packet, counts afterwards)
    let (named, stranger) = (socket(0), socket(1));
    type Row<'a> = (&'a str, &'a UdpSocket, Vec<u8>, (u32, u32, u32));
    let rows: [Row<'_>; 7] = [
        (
            "two peers",
            &named,
            packet(0, &[record([198, 51, 100, 1], 1, 0), record([198, 51, 100, 2], 1, 0x80)]),
            (1, 1, 0),
        ),
        ("IPv6", &named, packet(1, &[v6]), (1, 2, 0)),
        ("completed", &named, packet(0, &[record([198, 51, 100, 1], 1, 0xc0)]), (2, 1, 1)),
        ("another kind", &named, packet(2, &[record([198, 51, 100, 3], 1, 0)]), (2, 1, 1)),
        ("cut off", &named, packet(0, &[record([198, 51, 100, 3], 1, 0)])[..20].to_vec(), (2, 1, 1)),
        ("a stranger", &stranger, packet(0, &[record([198, 51, 100, 3], 1, 0)]), (2, 1, 1)),
        ("stopped", &named, packet(0, &[record([198, 51, 100, 2], 1, 0x20)]), (1, 1, 1)),
    ];
    for (name, socket, packet, expected) in rows {
        let before = site.metrics().0;
        // A datagram may be lost, as on any network; to say the same twice changes nothing.
        eventually(name, || {
            socket.send_to(&packet, group).expect("sent");
            (site.metrics().0 != before && site.counts(&info_hash) == expected).then_some(())
        });
    }
    // And what clients say here is told.
    let listener = site.pair.client.run(|| {
        let listener = UdpSocket::bind(group).expect("the group's port");
        listener.join_multicast_v4(&Ipv4Addr::new(224, 0, 23, 5), &Pair::client_v4(0)).expect("a member");
        listener.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        listener
    });
    site.announce(4, &info_hash, 77, true, Event::Started);
    let mut buffer = [0; 2000];
    let (length, _) = listener.recv_from(&mut buffer).expect("a packet");
    let told = &buffer[..length];
    assert_eq!((length, &told[4..8]), (36, &[0; 4][..]));
    assert_eq!(told[8..], record(Pair::client_v4(4).octets(), 77, 0x80));
    let _ = Announce::new(info_hash, 1);
}
