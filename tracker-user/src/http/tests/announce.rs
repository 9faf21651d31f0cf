//! Announces: who is told of whom.

use super::*;

#[test]
fn a_swarm_comes_together() {
    let server = Server::plain();
    let first = server.announce(&format!("info_hash={HASH}&peer_id=-XX0001-123456789012&port=1&left=5&event=started"));
    assert_eq!(first.number("complete"), Some(0));
    assert_eq!(first.number("incomplete"), Some(1));
    assert_eq!(first.number("downloaded"), Some(0));
    assert_eq!(first.string("peers"), Some(&b""[..]), "never the asker itself, but always there");
    assert_eq!(first.get("peers6"), None);
    assert_eq!(first.string("external ip"), Some(&[127, 0, 0, 1][..]));
    assert_eq!(first.number("min interval"), Some(u64::from(INTERVAL / 2)));

    let second = server.announce(&format!("info_hash={HASH}&port=2&left=0"));
    assert_eq!((second.number("complete"), second.number("incomplete")), (Some(1), Some(1)));
    assert_eq!(peers(&second, "peers", 6), BTreeSet::from([loopback(1)]));

    let seeder = server.announce(&format!("info_hash={HASH}&port=3&left=0"));
    assert_eq!(peers(&seeder, "peers", 6), BTreeSet::from([loopback(1)]), "a seeder gets no seeders");

    let completed = server.announce(&format!("info_hash={HASH}&port=1&left=0&event=completed"));
    assert_eq!((completed.number("complete"), completed.number("downloaded")), (Some(3), Some(1)));
    let again = server.announce(&format!("info_hash={HASH}&port=1&left=0&event=completed"));
    assert_eq!(again.number("downloaded"), Some(1), "counted once");

    let stopped = server.announce(&format!("info_hash={HASH}&port=2&event=stopped"));
    assert_eq!(stopped.number("complete"), Some(2));
    assert_eq!(stopped.string("peers"), Some(&b""[..]));
    let unknown = server.announce("info_hash=bbbbbbbbbbbbbbbbbbbb&port=2&event=stopped");
    assert_eq!(unknown.number("incomplete"), Some(0));
    assert_eq!(server.store.pools().swarms.used(), 1, "unknown torrents are not created by leaving them");

    let paused = server.announce(&format!("info_hash={HASH}&port=9&left=7&event=paused"));
    assert_eq!(paused.number("incomplete"), Some(1));
}

#[test]
fn intervals_are_spread() {
    let server = Server::plain();
    let mut client = server.connect();
    let intervals: BTreeSet<u64> = (0..100)
        .map(|_| {
            client.send(format!("GET /announce?info_hash={HASH}&port=1 HTTP/1.1\r\n\r\n").as_bytes());
            client.response().value().number("interval").expect("an interval")
        })
        .collect();
    let range = u64::from(INTERVAL - JITTER)..=u64::from(INTERVAL + JITTER);
    assert!(intervals.iter().all(|interval| range.contains(interval)), "{intervals:?}");
    assert!(intervals.len() > 50, "{intervals:?}");
}

#[test]
fn as_many_peers_as_wanted() {
    let server = Server::plain();
    fill_v4(&server.store, 300, false);
    let rows =
        [("", 50), ("&numwant=-1", 50), ("&numwant=0", 0), ("&numwant=1", 1), ("&numwant=7", 7), ("&numwant=200", 200)];
    for (query, count) in rows.into_iter().chain([("&numwant=201", 200), ("&numwant=99999999999999999999", 200)]) {
        let value = server.announce(&format!("info_hash={HASH}&port=9{query}"));
        assert_eq!(peers(&value, "peers", 6).len(), count, "{query}");
    }
}

#[test]
fn both_families_are_given_and_each_at_least_a_quarter() {
    let store = store(1000);
    let v4 = Server::start(Ipv4Addr::LOCALHOST.into(), store.clone(), Limits::default());
    let v6 = Server::start(Ipv6Addr::LOCALHOST.into(), store.clone(), Limits::default());
    // (IPv4 peers, IPv6 peers, wanted, given to an IPv4 asker, given to an IPv6 asker); each row
    // adds to the one before.
    let rows = [
        (0, 0, 40, (0, 0), (0, 0)),
        (2, 0, 40, (2, 0), (2, 0)),
        (2, 30, 40, (2, 30), (2, 30)),
        (2, 50, 40, (2, 38), (2, 38)),
        (60, 60, 40, (30, 10), (10, 30)),
        (60, 60, 3, (3, 0), (0, 3)),
        (60, 60, 200, (60, 60), (60, 60)),
        (200, 200, 200, (150, 50), (126, 74)),
    ];
    for (peers_v4, peers_v6, want, to_v4, to_v6) in rows {
        fill_v4(&store, peers_v4, false);
        fill_v6(&store, peers_v6, false);
        for (server, (in_v4, in_v6)) in [(&v4, to_v4), (&v6, to_v6)] {
            // The askers leave again, so that they do not disturb the figures.
            let value = server.announce(&format!("info_hash={HASH}&port=7&numwant={want}"));
            let row = format!("{peers_v4} + {peers_v6} peers, {want} wanted by {}", server.address.ip());
            assert_eq!(peers(&value, "peers", 6).len(), in_v4, "{row}");
            if server.address.is_ipv6() || in_v6 > 0 {
                assert_eq!(peers(&value, "peers6", 18).len(), in_v6, "{row}");
            } else {
                assert_eq!(value.get("peers6"), None, "{row}");
            }
            server.announce(&format!("info_hash={HASH}&port=7&event=stopped"));
        }
    }
    let value = v6.announce(&format!("info_hash={HASH}&port=7"));
    assert_eq!(value.string("external ip"), Some(&Ipv6Addr::LOCALHOST.octets()[..]));
    assert_eq!(value.number("incomplete"), Some(401), "both families together");
}

#[test]
fn a_peer_is_told_to_others_in_the_way_they_ask() {
    let server = Server::plain();
    fill_v4(&server.store, 1, false);
    fill_v6(&server.store, 2, true);
    let value = server.announce(&format!("info_hash={HASH}&port=9&compact=0"));
    let Some(Value::List(list)) = value.get("peers") else { panic!("no list: {value:?}") };
    let told: BTreeSet<(String, u64)> = list
        .iter()
        .map(|peer| {
            assert_eq!(peer.get("peer id"), None);
            let ip = peer.string("ip").expect("an address").to_vec();
            (String::from_utf8(ip).expect("text"), peer.number("port").expect("a port"))
        })
        .collect();
    let expected = [("10.0.0.0", 1000), ("2001:db8::", 1000), ("2001:db8::1", 1001)];
    assert_eq!(told, expected.map(|(ip, port)| (ip.to_owned(), port)).into());
    assert_eq!(value.get("peers6"), None);
    let seeder = server.announce(&format!("info_hash={HASH}&port=9&compact=0&left=0"));
    assert!(matches!(seeder.get("peers"), Some(Value::List(list)) if list.len() == 1), "no seeders in a list either");
}

#[test]
fn a_peer_is_stopped_by_who_has_its_key() {
    use tracker_common::store::owner::Owner;
    let server = Server::plain();
    assert_ne!(Owner::new(0x0011_aabb), Owner::new(0x0055_66cc), "they are told apart");
    let mut there = 0;
    // (key of the peer, of the one who stops it, whether it stays)
    for (port, (own, other, stays)) in (1..).zip([
        ("&key=0011AABB", "&key=0011AABB", false),
        ("&key=0011AABB", "&key=0011aabb", false),
        ("&key=0011AABB", "&key=11aabb", false),
        ("&key=0011AABB", "&key=005566CC", true),
        ("&key=0011AABB", "", true),
        ("&key=0011AABB", "&key=", true),
        ("", "&key=0011AABB", false),
        ("", "", false),
        ("&key=no+number", "&key=no+number", false),
    ]) {
        let started = server.announce(&format!("info_hash={HASH}&port={port}&left=5&event=started{own}"));
        assert_eq!(started.number("incomplete"), Some(there + 1), "{own} {other}");
        let stopped = server.announce(&format!("info_hash={HASH}&port={port}&left=5&event=stopped{other}"));
        there += u64::from(stays);
        assert_eq!(stopped.number("incomplete"), Some(there), "{own} {other}");
    }
}
