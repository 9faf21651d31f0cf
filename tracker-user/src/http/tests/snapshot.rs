//! The order of a full scrape, while torrents come and go.

use super::{
    super::{
        permits::Permits,
        request::Encoding,
        tracker::{
            full_scrape::FullScrape,
            listing::Format,
            snapshot::{Progress, Share, Snapshots},
        },
    },
    *,
};
use crate::store::{
    Handle,
    sweep::{Sweep, Timeouts},
};
use tracker_common::id::InfoHash;

const TORRENTS: u32 = 1000;

fn torrent(number: u32) -> InfoHash {
    let mut info_hash = [7; 20];
    info_hash[..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
    info_hash
}

fn announce(handle: &Handle, number: u32) {
    let announcement = Announce {
        info_hash: &torrent(number),
        peer: V4::key([10, 0, 0, 1], 1),
        seeder: true,
        event: PeerEvent::Started,
        owner: Owner::NONE,
    };
    upsert::announce::<_, V4>(&handle.context(), &announcement).expect("room");
}

/// Waits until a snapshot is there.
fn wait(share: &Share) {
    let start = Instant::now();
    while matches!(*share.borrow(), Progress::UnderWay) {
        assert!(start.elapsed() < PATIENCE, "no snapshot");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Removes all torrents that were announced in an earlier minute than the present one.
fn forget(handle: &Handle) {
    let timeouts = Timeouts { peer: 1, torrent: 1, torrent_completed: 1 };
    for _ in 0..2 {
        let mut sweep = Sweep::default();
        while sweep.batch(handle, &timeouts) {}
    }
}

fn scrape_of(share: Share) -> FullScrape {
    let permit = Arc::new(Permits::default()).take(IpAddr::from([127, 0, 0, 1]), 1, Duration::ZERO).expect("free");
    FullScrape::new(Encoding::Identity, false, Format::Scrape, share, permit).expect("memory")
}

fn numbers(body: &[u8]) -> BTreeSet<InfoHash> {
    let value = Value::parse(body).expect("sorted");
    let Some(Value::Dictionary(files)) = value.get("files") else { panic!("no files") };
    for file in files.values() {
        assert_eq!((file.number("complete"), file.number("incomplete")), (Some(1), Some(0)));
    }
    files.keys().map(|key| key[..].try_into().expect("20 bytes")).collect()
}

#[test]
fn torrents_that_come_and_go_while_it_is_sent_leave_a_full_scrape_in_order() {
    // (what is announced again after all was forgotten, what the rest of the scrape has)
    type Row = (&'static str, Vec<u32>, fn(u32) -> bool);
    let rows: [Row; 5] = [
        ("nothing happens", (0..TORRENTS).collect(), |_| true),
        ("all are gone", vec![], |_| false),
        ("the same in other records", (0..TORRENTS).rev().collect(), |_| true),
        ("some of them in records of others", (0..TORRENTS).rev().filter(|n| n % 3 == 0).collect(), |n| n % 3 == 0),
        ("others in their records", (TORRENTS..2 * TORRENTS).collect(), |_| false),
    ];
    for (name, again, expected) in rows {
        let store = store(u64::from(TORRENTS));
        let handle = store.handle(CounterSet::Http);
        (0..TORRENTS).for_each(|number| announce(&handle, number));
        let share = Snapshots::default().share(&store).expect("a thread");
        wait(&share);
        let mut scrape = scrape_of(share);
        let (first, last) = scrape.slice(&handle).expect("no compression");
        assert!(!last);
        if name != "nothing happens" {
            store.settings().minute.store(1100);
            forget(&handle);
            assert_eq!(store.pools().swarms.used(), 0);
        }
        again.iter().for_each(|number| announce(&handle, *number));
        let mut body = first.to_vec();
        loop {
            let (slice, last) = scrape.slice(&handle).expect("no compression");
            body.extend_from_slice(&slice);
            if last {
                break;
            }
        }
        let mut sorted: Vec<_> = (0..TORRENTS).map(|number| (torrent(number), number)).collect();
        sorted.sort_unstable();
        let sent = |(place, (info_hash, number)): (usize, &(InfoHash, u32))| {
            (place < 256 || expected(*number)).then_some(*info_hash)
        };
        let wanted: BTreeSet<_> = sorted.iter().enumerate().filter_map(sent).collect();
        assert_eq!(numbers(&body), wanted, "{name}");
    }
}

#[test]
fn a_full_scrape_is_valid_while_others_announce_and_expire() {
    let store = store(u64::from(4 * TORRENTS));
    let end = Shutdown::default();
    let threads: Vec<_> = (0..2)
        .map(|thread| {
            let (store, end) = (store.clone(), end.clone());
            thread::spawn(move || {
                let handle = store.handle(CounterSet::Http);
                let mut random = fastrand::Rng::with_seed(thread + 1);
                while !end.has_begun() {
                    for _ in 0..100 {
                        announce(&handle, random.usize(..2 * TORRENTS as usize) as u32);
                    }
                    if thread == 0 {
                        store.settings().minute.add(2);
                        forget(&handle);
                    }
                    thread::sleep(Duration::from_millis(1));
                }
            })
        })
        .collect();
    let server = Server::start(Ipv4Addr::LOCALHOST.into(), store, Limits::default());
    for _ in 0..100 {
        let body = server.get("/scrape").body;
        assert!(Value::parse(&body).is_ok(), "{}", String::from_utf8_lossy(&body));
    }
    end.begin();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

#[test]
fn clients_share_a_snapshot_as_long_as_it_is_fresh_or_in_use() {
    let store = store(10_000);
    let handle = store.handle(CounterSet::Http);
    (0..10_000).for_each(|number| announce(&handle, number));
    let snapshots = Snapshots::default();
    let share = || snapshots.share(&store).expect("a share");
    let first = share();
    let second = share();
    assert!(first.same_channel(&second), "while it is being made");
    wait(&first);
    assert!(first.same_channel(&share()), "when it is there");
    drop(second);
    // Whoever is being sent one keeps it, and others get the same.
    thread::sleep(Duration::from_millis(500));
    snapshots.release();
    assert!(first.same_channel(&share()));
    assert_eq!(first.borrow().entries().len(), 10_000);
    assert!(first.borrow().entries().is_sorted());
    drop(first);
    let start = Instant::now();
    while snapshots.is_held() {
        assert!(start.elapsed() < PATIENCE, "memory is never given back");
        thread::sleep(Duration::from_millis(10));
        snapshots.release();
    }
    announce(&handle, 3);
    wait(&share());
}

#[test]
fn what_is_scraped_after_an_announce_is_in_it_soon() {
    let server = Server::plain();
    for count in 1..20 {
        server.announce(&format!("info_hash={count:020}&port=1"));
        server.until("the torrent does not come", |server| {
            let value = server.get("/scrape").value();
            matches!(value.get("files"), Some(Value::Dictionary(files)) if files.len() == count)
        });
    }
}

#[test]
fn order_takes_no_more_memory_than_was_promised() {
    let entry = size_of::<tracker::snapshot::Entry>();
    assert!(2_000_000 * entry <= 64 << 20, "{entry} bytes per torrent");
    let store = many_torrents(50_000);
    let share = Snapshots::default().share(&store).expect("a thread");
    wait(&share);
    let progress = share.borrow();
    let Progress::Done(snapshot) = &*progress else { panic!("no memory") };
    assert_eq!(progress.entries().len(), 50_000);
    assert!(snapshot.bytes() <= 50_000 * entry + (64 << 10), "{} bytes", snapshot.bytes());
}
