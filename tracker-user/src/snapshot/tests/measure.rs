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
                let announce = Announce { info_hash: &hash, peer, seeder, event };
                upsert::announce::<_, V6>(&handle.context(), &announce).expect("room");
            } else {
                let peer = V4::key(address.to_be_bytes(), 1 + random.next(60_000) as u16);
                let announce = Announce { info_hash: &hash, peer, seeder, event };
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
