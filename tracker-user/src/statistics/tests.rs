//! Rates, and how many peers there are.

use super::*;
use crate::service::Services;
use crate::store::{
    sizes::{Capacity, Sizes},
    totals::Totals,
};
use std::time::Duration;
use tracker_common::{
    outcome::Counter,
    platform::Platform as _,
    store::{
        family::V4,
        membership::{Announce, PeerEvent},
        owner::Owner,
        upsert,
    },
};

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn rates_need_nobody_who_asks_for_them() {
    let sizes = Sizes::new(&Capacity { torrents: 9, peers_v4: 9, peers_v6: 9 }).expect("small");
    let store = Arc::new(Store::anonymous(&sizes).expect("a few pages"));
    let handle = store.handle(CounterSet::Udp);
    let statistics = Arc::new(Statistics::new(store, Arc::default(), None, LatestStatus::default()));
    let mut services = Services::default();
    services.spawn(Sampler(statistics.clone())).expect("a thread");
    let begun = Instant::now();
    let rate = || statistics.snapshot().rates_10[Rate::Announces as usize];
    while rate() == 0.0 {
        assert!(begun.elapsed() < PATIENCE, "no sample was taken");
        handle.event(Event::Announce4);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn peers_of_a_snapshot_count_at_once_and_those_who_leave_do_not() {
    let sizes = Sizes::new(&Capacity { torrents: 9, peers_v4: 9, peers_v6: 9 }).expect("small");
    let store = Arc::new(Store::anonymous(&sizes).expect("a few pages"));
    let statistics = Statistics::new(store.clone(), Arc::default(), None, LatestStatus::default());
    statistics.inherit([7, 2]);
    let handle = store.handle(CounterSet::Udp);
    // (event, IPv4 peers, IPv6 peers afterwards)
    for (event, v4, v6) in
        [(Event::Announce4, 7, 2), (Event::Peer4Removed, 6, 2), (Event::Peer6Added, 6, 3), (Event::Peer6Removed, 6, 2)]
    {
        handle.event(event);
        statistics.sample();
        let seen = statistics.snapshot();
        assert_eq!((seen.peers_v4, seen.peers_v6, statistics.latest().1), (v4, v6, v4 + v6), "{event:?}");
    }
}

#[test]
fn peers_of_an_earlier_daemon_count_once_a_sweep_has_seen_them() {
    let sizes = Sizes::new(&Capacity { torrents: 9, peers_v4: 9, peers_v6: 9 }).expect("small");
    let store = Arc::new(Store::anonymous(&sizes).expect("a few pages"));
    let totals = Arc::new(LatestTotals::default());
    let announce = |port| {
        let handle = store.handle(CounterSet::Udp);
        let peer = V4::key([1, 2, 3, 4], port);
        let announcement =
            Announce { info_hash: &[7; 20], peer, seeder: false, event: PeerEvent::None, owner: Owner::NONE };
        upsert::announce::<_, V4>(&handle.context(), &announcement).expect("room");
        handle
    };
    let statistics = || Statistics::new(store.clone(), totals.clone(), None, LatestStatus::default());
    let fresh = statistics();
    let earlier = announce(1);
    assert_eq!(fresh.snapshot().peers_v4, 1);

    let restarted = statistics();
    // What the earlier daemon has counted is gone with it.
    earlier.count(Counter::Event(Event::Peer4Added), u64::MAX);
    restarted.sample();
    assert_eq!(restarted.snapshot().peers_v4, 0);
    totals.store(Arc::new(Totals { peers_v4: 1, sweeps: 1, ..Totals::default() }));
    restarted.sample();
    assert_eq!(restarted.snapshot().peers_v4, 1);
    announce(2);
    restarted.sample();
    assert_eq!(restarted.snapshot().peers_v4, 2);
}
