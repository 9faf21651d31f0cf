//! Rows about BEP 15, for all backends.

use super::{
    builder::{REQUESTER, TORRENT, Table, addresses, leechers, requester, seeders},
    row::{Expected, Family, Id, Peer, Peers, SCRAPE_MAX, Scope},
};
use crate::bep15::{self, Announce, Counts, Event, header};
use std::collections::BTreeSet;

/// Bytes of an error text that asks for a new connection id.
const MISMATCH: &str = "Connection ID mismatch";

impl Table {
    pub(super) fn connects(&mut self) {
        self.connect("connect", bep15::connect(0));
        let mut longer = bep15::connect(0);
        longer.extend([0x55; 21]);
        self.connect("connect with bytes after it", longer);

        for length in [0, 1, 8, 15] {
            let name = format!("{length} bytes of a connect");
            self.row(&name, Scope::Datagram, bep15::connect(0)[..length].to_vec()).dropped("too_short");
        }
        for (name, magic) in [
            ("connect with the magic of another protocol", 0x0417_2710_1981),
            ("connect with no magic", 0),
            ("connect with the magic in the wrong byte order", bep15::MAGIC.swap_bytes()),
        ] {
            self.row(name, Scope::Datagram, header(magic, bep15::CONNECT, 0)).dropped("bad_magic");
        }
        for action in [3, 4, 0x100, 0x0100_0000, u32::MAX] {
            let mut payload = header(0, action, 0);
            payload.extend(&Announce::new(TORRENT, REQUESTER.2).bytes()[16..]);
            let row = self.row(&format!("action {action:#x}"), Scope::Datagram, payload);
            row.id = Some(Id::Right);
            row.dropped("unknown_action");
        }
    }

    pub(super) fn announces(&mut self) {
        let family = self.family;
        let none = || Peers::All(BTreeSet::new());
        self.announce("first announce of a torrent", vec![], |_| {}, none());
        self.announce("first announce by a seeder", vec![], |announce| announce.left = 0, none());
        self.announce("all bytes of `left` count", vec![], |announce| announce.left = 1 << 56, none());
        self.announce("the low bytes of `left` count", vec![], |announce| announce.left = 1, none());
        self.announce("address in the packet is not trusted", vec![], |announce| announce.ip = [192, 0, 2, 7], none());
        self.announce("peer_id does not matter", vec![], |announce| announce.peer_id = [0; 20], none());
        self.announce("announced again", vec![requester(family)], |_| {}, none()).after(0, 1, 0, &[requester(family)]);

        for (name, options) in [
            ("URL data", [&[2, 9][..], b"/announce", &[0]].concat()),
            ("no-operations and URL data", [&[1, 1, 1, 2, 4][..], b"/a?b", &[0, 0]].concat()),
            ("an unknown option", vec![0x77, 3, 1, 2, 3, 0]),
            ("an option longer than the packet", vec![2, 250, b'/']),
            ("400 bytes", vec![1; 400]),
        ] {
            let name = format!("announce with BEP 41 options: {name}");
            self.announce(&name, vec![], |announce| announce.options = options, none());
        }
        let options = vec![1; 1600];
        self.announce("announce longer than any frame", vec![], |announce| announce.options = options, none())
            .left_to_sockets = Some("too_long");

        let whole = Announce::new(TORRENT, REQUESTER.2).bytes();
        for length in [16, 20, 97] {
            let name = format!("{length} bytes of an announce");
            let row = self.row(&name, Scope::Datagram, whole[..length].to_vec());
            row.id = Some(Id::Right);
            row.dropped("too_short");
        }

        for event in [Event::None, Event::Completed, Event::Started, Event::Stopped] {
            let mut announce = Announce::new(TORRENT, 0);
            announce.event = event as u32;
            let row = self.row(&format!("port 0 with event {event:?}"), Scope::Datagram, announce.bytes());
            row.id = Some(Id::Right);
            row.expected = Expected::Error("Port 0 is not valid");
            row.counter("port_zero");
        }
    }

    pub(super) fn events(&mut self) {
        let family = self.family;
        let none = || Peers::All(BTreeSet::new());
        let event = |event: Event| move |announce: &mut Announce| announce.event = event as u32;
        let seeder = |event: Event| {
            move |announce: &mut Announce| {
                announce.event = event as u32;
                announce.left = 0;
            }
        };
        let me = requester(family);
        let [known, known_seeder, completed] = [
            vec![me],
            vec![Peer { seeder: true, ..me }],
            vec![me, Peer { seeder: true, event: Event::Completed, ..me }],
        ];

        self.announce("started", vec![], event(Event::Started), none());
        self.announce("event that BEP 15 does not know is no event", vec![], |announce| announce.event = 4, none());

        self.announce("completed by a known leecher", known.clone(), seeder(Event::Completed), none()).after(
            1,
            0,
            1,
            &[me],
        );
        self.announce("completed by a peer not seen before", vec![], seeder(Event::Completed), none()).after(
            1,
            0,
            1,
            &[me],
        );
        self.announce("completed twice", completed.clone(), seeder(Event::Completed), none()).after(1, 0, 1, &[me]);
        let mut again = completed.clone();
        again.push(me);
        self.announce("completed, lost something, completed again", again, seeder(Event::Completed), none()).after(
            1,
            0,
            1,
            &[me],
        );
        self.announce(
            "completed by one who was a seeder all along",
            known_seeder.clone(),
            seeder(Event::Completed),
            none(),
        )
        .after(1, 0, 0, &[me]);
        self.announce("completed, but something is left", known.clone(), event(Event::Completed), none()).after(
            0,
            1,
            0,
            &[me],
        );
        self.announce("becomes a seeder without an event", known.clone(), seeder(Event::None), none()).after(
            1,
            0,
            0,
            &[me],
        );
        self.announce("becomes a leecher again", known_seeder.clone(), event(Event::None), none()).after(
            0,
            1,
            0,
            &[me],
        );

        let others = || [leechers(family, 0..=2), seeders(family, 3..=4)].concat();
        self.announce("stopped by a known leecher", [others(), known].concat(), event(Event::Stopped), none()).after(
            2,
            3,
            0,
            &others(),
        );
        self.announce("stopped by a known seeder", [others(), known_seeder].concat(), seeder(Event::Stopped), none())
            .after(2, 3, 0, &others());
        self.announce("stopped by an unknown peer gets no peers", others(), event(Event::Stopped), none()).after(
            2,
            3,
            0,
            &others(),
        );
        self.announce("stopped in an unknown torrent", vec![], event(Event::Stopped), none()).after(0, 0, 0, &[]);
        self.announce("completed stays counted when the peer stops", completed, event(Event::Stopped), none()).after(
            0,
            0,
            1,
            &[],
        );
    }

    pub(super) fn peers_given(&mut self) {
        let family = self.family;
        let all = |peers: &[Peer]| Peers::All(addresses(peers));
        let few = [leechers(family, 0..=2), seeders(family, 3..=4)].concat();
        self.announce("leecher is told of everybody", few.clone(), |_| {}, all(&few));
        self.announce("seeder is not told of seeders", few.clone(), |announce| announce.left = 0, all(&few[..3]));
        self.announce("among seeders only, a seeder is alone", seeders(family, 0..=3), |a| a.left = 0, all(&[]));
        // The same host with another port is another peer; the same port on another host too.
        let mut alike = [requester(family); 2];
        alike[0].address.set_port(REQUESTER.2 + 1);
        alike[1].address.set_ip(family.host(REQUESTER.0 + 1));
        self.announce("own peer is address and port, not one of them", alike.to_vec(), |_| {}, all(&alike));

        let other = [leechers(family.other(), 0..=3), seeders(family.other(), 4..=5)].concat();
        self.announce(
            "both families are counted, the own is given",
            [few.clone(), other.clone()].concat(),
            |_| {},
            all(&few),
        );
        self.announce("swarm of the other family only", other, |_| {}, all(&[]));

        let want = |number: i32| move |announce: &mut Announce| announce.num_want = number;
        let many = [leechers(family, 0..=149), seeders(family, 150..=249)].concat();
        let some = |count| Peers::Some(count, addresses(&many));
        self.announce("num_want -1 is the default", many.clone(), want(-1), some(50));
        self.announce("num_want below -1 is the default", many.clone(), want(i32::MIN), some(50));
        self.announce("num_want 0 is none", few.clone(), want(0), all(&[]));
        self.announce("num_want 0 in a big swarm is none", many.clone(), want(0), all(&[]));
        self.announce("num_want 1 is one", few.clone(), want(1), Peers::Some(1, addresses(&few)));
        self.announce("num_want 1 in a big swarm is one", many.clone(), want(1), some(1));
        self.announce("num_want 3 is three", few.clone(), want(3), Peers::Some(3, addresses(&few)));
        self.announce("num_want 7 in a big swarm is seven", many.clone(), want(7), some(7));
        self.announce("num_want more than there are", few.clone(), want(60), all(&few));
        self.announce("huge num_want is capped", many.clone(), want(i32::MAX), some(family.max_numwant()));
        self.announce("num_want one above the cap", many.clone(), want(201), some(family.max_numwant()));
        self.announce(
            "seeder in a big swarm gets leechers only",
            many.clone(),
            |announce| announce.left = 0,
            Peers::Some(50, addresses(&many[..150])),
        );
        let mut known = many;
        known.push(requester(family));
        self.announce("own peer in a big swarm", known.clone(), want(i32::MAX), some_but_requester(family, &known))
            .after(100, 151, 0, &known);
    }

    pub(super) fn scrapes(&mut self) {
        let family = self.family;
        let swarm = [leechers(family, 0..=2), seeders(family, 3..=4), seeders(family.other(), 5..=5)].concat();
        let here = Counts { seeders: 3, completed: 0, leechers: 3 };
        let zero = Counts::default();
        let unknown = |number: u8| [number; 20];
        self.scrape("scrape of one", &[TORRENT], swarm.clone(), vec![here]);
        self.scrape("scrape of an unknown torrent", &[TORRENT], vec![], vec![zero]);
        self.scrape(
            "scrape of known and unknown",
            &[unknown(1), TORRENT, unknown(2)],
            swarm.clone(),
            vec![zero, here, zero],
        );
        self.scrape("scrape of the same twice", &[TORRENT, TORRENT], swarm.clone(), vec![here, here]);
        let mut one_of_each = requester(family);
        one_of_each.address.set_port(9);
        let done = Peer { seeder: true, event: Event::Completed, ..one_of_each };
        self.scrape(
            "scrape after a completed download",
            &[TORRENT],
            vec![one_of_each, done],
            vec![Counts { seeders: 1, completed: 1, leechers: 0 }],
        )
        .after(1, 0, 1, &[done]);

        for count in [2, 73, 74] {
            let mut torrents: Vec<_> = (0..count).map(unknown).collect();
            let mut counts = vec![zero; torrents.len()];
            *torrents.last_mut().expect("not none") = TORRENT;
            *counts.last_mut().expect("not none") = here;
            self.scrape(&format!("scrape of {count}"), &torrents, swarm.clone(), counts);
        }
        for count in [SCRAPE_MAX + 1, 100] {
            // What is beyond the limit is not looked at.
            let torrents = vec![TORRENT; count];
            self.scrape(&format!("scrape of {count}"), &torrents, swarm.clone(), vec![here; count.min(SCRAPE_MAX)])
                .left_to_sockets = Some("too_long");
        }
        for (name, cut) in [("1 byte", 19), ("19 bytes", 1)] {
            let row = self.scrape(
                &format!("scrape with a trailing fragment of {name}"),
                &[TORRENT, unknown(3)],
                swarm.clone(),
                vec![here],
            );
            row.frame.payload.truncate(56 - cut);
        }
        // As opentracker has it. An error would be longer than the request, so whoever has no right
        // id gets nothing.
        for (name, length) in [("none", 16), ("a byte", 17), ("a fragment only", 35)] {
            let mut payload = bep15::scrape(0, 0, &[TORRENT]);
            payload.truncate(length);
            let label = self.family.label("scrape");
            let row = self.row(&format!("scrape of {name}"), Scope::Datagram, payload.clone());
            row.id = Some(Id::Right);
            row.expected = Expected::Scrape(vec![]);
            row.counter(&label);
            for id in [Id::Wrong, Id::OfAnother] {
                let row =
                    self.row(&format!("scrape of {name} with {id:?} connection id"), Scope::Datagram, payload.clone());
                row.id = Some(id);
                row.dropped("connection_id_wrong");
            }
        }
    }

    pub(super) fn identities(&mut self) {
        let announce = Announce::new(TORRENT, REQUESTER.2).bytes();
        let mut stopped = Announce::new(TORRENT, REQUESTER.2);
        stopped.event = Event::Stopped as u32;
        let me = requester(self.family);
        for (id, scope) in [(Id::Wrong, Scope::Datagram), (Id::OfAnother, Scope::Datagram), (Id::Expired, Scope::Clock)]
        {
            for (name, payload, before) in [
                ("announce", announce.clone(), vec![]),
                ("stopped", stopped.bytes(), vec![me]),
                ("announce with port 0", Announce::new(TORRENT, 0).bytes(), vec![]),
                ("scrape", bep15::scrape(0, 0, &[TORRENT]), vec![me]),
                ("scrape of 74", bep15::scrape(0, 0, &[TORRENT; SCRAPE_MAX]), vec![me]),
            ] {
                let row = self.row(&format!("{name} with {id:?} connection id"), scope, payload);
                row.id = Some(id);
                row.before(before);
                row.expected = Expected::Error(MISMATCH);
                row.counter("connection_id_wrong");
            }
        }
        let mut magic = announce.clone();
        magic[..8].copy_from_slice(&bep15::MAGIC.to_be_bytes());
        for (name, payload) in [("connection id 0", announce), ("the magic as connection id", magic)] {
            let row = self.row(name, Scope::Datagram, payload);
            row.expected = Expected::Error(MISMATCH);
            row.counter("connection_id_wrong");
        }
    }
}

fn some_but_requester(family: Family, known: &[Peer]) -> Peers {
    let mut others = addresses(known);
    others.remove(&requester(family).address);
    Peers::Some(family.max_numwant(), others)
}
