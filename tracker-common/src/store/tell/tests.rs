use super::{
    super::{
        family::{V4, V6},
        membership::{Announce, PeerEvent},
        owner::Owner,
        slot::minute_bits,
        tests::{Peers, ROOMY, torrent},
        upsert,
    },
    *,
};
use crate::host::{FIRST_MINUTE, HostPlatform, HostStore, TOLD};

/// Announces peer 1 of torrent 0, with a key.
fn announce<F: Peers>(platform: &HostPlatform<'_>, seeder: bool, event: PeerEvent, key: u32) -> Vec<Kind> {
    let info_hash = torrent(0);
    let announce = Announce { info_hash: &info_hash, peer: F::peer(1), seeder, event, owner: Owner::new(key) };
    upsert::announce::<_, F>(&platform.context(), &announce).expect("room");
    let told = platform.told();
    for change in &told {
        assert_eq!(change.info_hash, info_hash);
        let owner = (Owner::new(key).bits() >> KEY_SHIFT) as u8;
        assert_eq!((change.owner, change.version), (owner, if F::VERSION == IpVersion::V4 { 4 } else { 6 }));
    }
    told.iter().map(|change| Kind::of_number(change.kind.into()).expect("a kind")).collect()
}

fn rows<F: Peers>() {
    use PeerEvent::{Completed, None as Regular, Started, Stopped};
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    let settings = store.settings();
    settings.interval.store(1800);
    assert_eq!(announce::<F>(&platform, false, Started, 9), [], "nobody is told of anything");
    settings.tell_every.store(10);
    // (name, minutes that have passed, seeder, event, told)
    let rows: [(&str, u32, bool, PeerEvent, &[Kind]); 14] = [
        ("known already", 0, false, Regular, &[]),
        ("after half an hour", 30, false, Regular, &[Kind::Leecher]),
        ("again", 0, false, Regular, &[]),
        ("started again", 0, false, Started, &[]),
        ("a seeder without the event", 0, true, Regular, &[Kind::Seeder]),
        ("again", 0, true, Regular, &[]),
        ("completed, but a seeder already", 0, true, Completed, &[]),
        ("a leecher again", 0, false, Regular, &[Kind::Leecher]),
        ("completed", 0, true, Completed, &[Kind::Completed]),
        ("completed twice", 0, true, Completed, &[]),
        ("after ten minutes", 10, true, Completed, &[Kind::Seeder]),
        ("leaves", 0, true, Stopped, &[Kind::Left]),
        ("leaves twice", 0, true, Stopped, &[]),
        ("comes with the event", 0, true, Completed, &[Kind::Completed]),
    ];
    let mut minute = FIRST_MINUTE;
    for (name, passed, seeder, event, told) in rows {
        minute += passed;
        settings.minute.store(minute);
        assert_eq!(announce::<F>(&platform, seeder, event, 9), told, "{name}");
    }
    settings.tell_every.store(0);
    for event in [Stopped, Started, Completed] {
        assert_eq!(announce::<F>(&platform, true, event, 9), [], "off again: {event:?}");
    }
}

#[test]
fn others_are_told_of_changes_and_now_and_then_of_who_is_there() {
    rows::<V4>();
    rows::<V6>();
}

#[test]
fn who_may_not_stop_a_peer_is_not_told_of() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    store.settings().interval.store(1800);
    store.settings().tell_every.store(10);
    assert_eq!(announce::<V4>(&platform, false, PeerEvent::None, 9), [Kind::Leecher]);
    let stranger = (10..).find(|key| Owner::new(*key) != Owner::new(9)).expect("one of 14");
    assert_eq!(announce::<V4>(&platform, false, PeerEvent::Stopped, stranger), []);
}

#[test]
fn who_stops_a_peer_is_told_as_its_owner_where_none_was_kept() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    store.settings().interval.store(1800);
    // (key that is kept, as that of a snapshot's peer or of one that has announced; key that stops it)
    for (kept, key) in [(0, 9), (9, 9), (0, 0)] {
        store.settings().tell_every.store(0);
        announce::<V4>(&platform, false, PeerEvent::None, kept);
        announce::<V6>(&platform, false, PeerEvent::None, kept);
        store.settings().tell_every.store(10);
        // That the owner is this key's is looked at for each that is told.
        assert_eq!(announce::<V4>(&platform, false, PeerEvent::Stopped, key), [Kind::Left], "{kept} {key}");
        assert_eq!(announce::<V6>(&platform, false, PeerEvent::Stopped, key), [Kind::Left], "{kept} {key}");
    }
}

#[test]
fn peers_come_out_as_they_are() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    store.settings().tell_every.store(10);
    announce::<V4>(&platform, false, PeerEvent::None, 0);
    let cx = platform.context();
    let info_hash = torrent(0);
    let peer = V6::key([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], 6881);
    let six = Announce { info_hash: &info_hash, peer, seeder: true, event: PeerEvent::None, owner: Owner::NONE };
    upsert::announce::<_, V6>(&cx, &six).expect("room");
    let four = Announce { peer: V4::key([192, 0, 2, 1], 6881), info_hash: &info_hash, ..six_of(&six) };
    upsert::announce::<_, V4>(&cx, &four).expect("room");
    let peers: Vec<_> = platform.told().iter().map(|change| change.peer).collect();
    assert_eq!(peers, [peer, [V4::key([192, 0, 2, 1], 6881), 0, 0]]);
}

/// The same of another family.
fn six_of<'a>(six: &Announce<'a, [u64; 3]>) -> Announce<'a, u64> {
    Announce { info_hash: six.info_hash, peer: 0, seeder: six.seeder, event: six.event, owner: six.owner }
}

#[test]
fn what_finds_no_room_is_counted_and_stored_all_the_same() {
    let store = HostStore::new(&ROOMY, 1);
    let platform = store.platform(1);
    store.settings().tell_every.store(10);
    let cx = platform.context();
    let info_hash = torrent(0);
    for number in 0..TOLD as u32 + 5 {
        let announce = Announce {
            info_hash: &info_hash,
            peer: V4::peer(number),
            seeder: false,
            event: PeerEvent::None,
            owner: Owner::NONE,
        };
        let swarm = upsert::announce::<_, V4>(&cx, &announce).expect("room").expect("stored");
        assert_eq!(swarm.record.counts().leechers, number + 1);
    }
    assert_eq!((platform.told().len(), store.settings().changes_lost.load()), (TOLD, 5));
}

#[test]
fn a_peer_is_told_of_once_in_a_window_whenever_it_announces() {
    for identity in [0, 0x0000_1ae1_0200_00c0_u64, 0x00ff_ffff_ffff_ffff & IDENTITY] {
        for every in [1, 7, 10, 30] {
            for step in [1, 2, 3, 9, 10, 11, 30, 45] {
                // The minute is kept modulo 512: go round.
                let (mut flags, mut told) = (OCCUPIED | identity | minute_bits(1000), Vec::new());
                for minute in (1000..3000).step_by(step) {
                    if minute > 1000 && is_due(flags, minute, every) {
                        told.push(minute);
                    }
                    flags = OCCUPIED | identity | minute_bits(minute);
                }
                let gaps: Vec<_> = told.windows(2).map(|pair| pair[1] - pair[0]).collect();
                let longest = every.max(step as u32) + every.min(step as u32);
                assert!(gaps.iter().all(|gap| *gap < longest.max(step as u32 + 1)), "{every} {step}: {gaps:?}");
                assert!(told.len() as u32 <= 2000 / every + 1, "{every} {step}");
            }
        }
    }
    assert!(!is_due(OCCUPIED, 500, 0));
}
