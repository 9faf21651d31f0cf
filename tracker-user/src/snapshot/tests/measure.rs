//! How long it takes, of a million torrents and ten million peers. By hand:
//! `cargo test --release -p tracker --lib snapshot::tests::measure -- --ignored --nocapture`

use super::*;
use crate::{
    snapshot::{Plan, Saver, load, path_in},
    store::sweep::{Timeouts, processor_time},
};
use std::time::{Duration, Instant};

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    value("VmHWM:").unwrap_or(0) >> 10
}

/// Swarms whose sizes fall off as those of public trackers do: the n-th has 1/n of the largest.
fn fill_much(store: &Arc<Store>, torrents: u32, peers: u32) {
    let handle = store.handle(CounterSet::Udp);
    let harmonic = f64::from(torrents).ln() + 0.577;
    // Peers of the smallest ones are rounded up.
    let largest = f64::from(peers - torrents / 2) / harmonic;
    let mut random = Sequence(1);
    for torrent in 0..torrents {
        let size = (largest / f64::from(torrent + 1)).round().max(1.0) as u32;
        for number in 0..size {
            clock::set(store.settings(), NOW - random.next(30 * 60));
            let (info_hash, seeder) = (&info_hash(torrent), random.next(3) > 0);
            let mut hash = *info_hash;
            hash[12..16].copy_from_slice(&torrent.wrapping_mul(0x9e37_79b9).to_be_bytes());
            let event = if number == 0 { PeerEvent::Completed } else { PeerEvent::None };
            let seeder = seeder || number == 0;
            let address = random.next(u32::MAX);
            if number % 4 == 3 {
                let [a, b, c, d] = address.to_be_bytes();
                let peer =
                    V6::key([0x20, 1, 0xd, 0xb8, a, b, c, d, d, c, b, a, a, c, b, d], 1 + random.next(60_000) as u16);
                let announce = Announce { info_hash: &hash, peer, seeder, event, owner: Owner::NONE };
                upsert::announce::<_, V6>(&handle.context(), &announce).expect("room");
            } else {
                let peer = V4::key(address.to_be_bytes(), 1 + random.next(60_000) as u16);
                let announce = Announce { info_hash: &hash, peer, seeder, event, owner: Owner::NONE };
                upsert::announce::<_, V4>(&handle.context(), &announce).expect("room");
            }
        }
    }
    clock::set(store.settings(), NOW);
}

#[test]
#[ignore = "takes ten seconds and 600 MB, in a release build"]
fn a_million_torrents_and_ten_million_peers() {
    let capacity = Capacity { torrents: 1_100_000, peers_v4: 12_000_000, peers_v6: 4_000_000 };
    let store = store_of(capacity);
    fill_much(&store, 1_000_000, 10_000_000);
    println!("filled; resident {} MiB", resident());
    for peers in [false, true] {
        let directory = Directory::new();
        let plan = Plan { directory: directory.0.clone(), interval: Duration::from_secs(1), peers };
        let saver = Saver::new(store.clone(), plan.clone());
        let (begin, worked) = (Instant::now(), processor_time());
        let saved = saver.save(&mut || true).expect("room on the disk").expect("nobody said no");
        println!(
            "peers {peers}: written in {:.2} s ({:.2} s of the processor): {} bytes, {:?}; resident {} MiB",
            begin.elapsed().as_secs_f64(),
            (processor_time() - worked).as_secs_f64(),
            saved.bytes,
            saved.totals,
            resident()
        );
        let other = store_of(capacity);
        // The taking was just now, whatever the store's clock says.
        let begin = Instant::now();
        load(&other, &plan, Timeouts { peer: 8000, ..Timeouts::default() });
        println!("peers {peers}: loaded in {:.2} s; resident {} MiB", begin.elapsed().as_secs_f64(), resident());
        let torrents = other.pools().swarms.used();
        assert!(torrents >= 1_000_000 - 1, "{torrents}");
        assert!(path_in(&directory.0).exists());
    }
}

/// How long announces take, answered one after the other: the median, 99 % and 99.9 % of them, in
/// nanoseconds, and how many there were.
fn announce_for(store: &Arc<Store>, time: Duration) -> ([u64; 3], usize) {
    let handle = store.handle(CounterSet::Udp);
    let mut random = Sequence(77);
    let (begin, mut took) = (Instant::now(), Vec::with_capacity(4 << 20));
    while begin.elapsed() < time {
        let torrent = random.next(1_000_000);
        let mut info_hash = info_hash(torrent);
        info_hash[12..16].copy_from_slice(&torrent.wrapping_mul(0x9e37_79b9).to_be_bytes());
        let peer = V4::key(random.next(u32::MAX).to_be_bytes(), 6881);
        let announce =
            Announce { info_hash: &info_hash, peer, seeder: false, event: PeerEvent::None, owner: Owner::NONE };
        let begin = Instant::now();
        upsert::announce::<_, V4>(&handle.context(), &announce).expect("room");
        took.push(begin.elapsed().as_nanos() as u64);
    }
    took.sort_unstable();
    ([500, 990, 999].map(|part| took[took.len() * part / 1000]), took.len())
}

#[test]
#[ignore = "takes 20 seconds and 600 MB, in a release build"]
fn announces_while_a_snapshot_is_written() {
    let store = store_of(Capacity { torrents: 1_100_000, peers_v4: 20_000_000, peers_v6: 4_000_000 });
    fill_much(&store, 1_000_000, 10_000_000);
    let directory = Directory::new();
    let plan = Plan { directory: directory.0.clone(), interval: Duration::from_secs(1), peers: true };
    let saver = Saver::new(store.clone(), plan);
    let done = std::sync::atomic::AtomicBool::new(false);
    for (what, rest) in [("none", None), ("as in the background", Some(19)), ("without a rest", Some(0))] {
        done.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let work = rest.map(|rest| {
                let (saver, done) = (&saver, &done);
                scope.spawn(move || {
                    let mut written = 0;
                    while !done.load(Ordering::Relaxed) {
                        let mut worked = processor_time();
                        let saved = saver.save(&mut || {
                            let batch = processor_time().saturating_sub(worked);
                            if batch >= Duration::from_millis(1) {
                                std::thread::sleep(batch * rest);
                                worked = processor_time();
                            }
                            !done.load(Ordering::Relaxed)
                        });
                        written += u32::from(saved.expect("room on the disk").is_some());
                    }
                    written
                })
            });
            let ([median, most, nearly], count) = announce_for(&store, Duration::from_secs(5));
            done.store(true, Ordering::Relaxed);
            let written = work.map_or(0, |work| work.join().expect("no panic"));
            println!(
                "snapshot {what}: {count} announces, {median} ns, 99 % {most} ns, 99.9 % {nearly} ns; {written} written"
            );
        });
    }
}

/// For timing what a tracker with many torrents does: `LARGE_STATE` names the directory, for `--state-dir` and
/// `--snapshot-peers`.
#[test]
#[ignore = "makes a state directory of two million torrents to be tried by hand"]
fn a_state_directory_of_two_million_torrents() {
    let directory = std::env::var_os("LARGE_STATE").expect("LARGE_STATE names a directory");
    let capacity = Capacity { torrents: 2_100_000, peers_v4: 6_000_000, peers_v6: 3_000_000 };
    let store = store_of(capacity);
    fill_much(&store, 2_000_000, 5_000_000);
    let plan = Plan { directory: directory.into(), interval: Duration::from_secs(3600), peers: true };
    let saved = Saver::new(store, plan).save_now().expect("written").expect("by nobody else");
    println!("{} torrents, {} bytes", saved.totals.torrents, saved.bytes);
}
