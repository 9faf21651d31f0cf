//! Floods of messages: what is more than the budget takes no more time than it, and no memory, and
//! announces are answered meanwhile. And how long these take then.

use super::{
    farm::{Bus, Farm, Site, eventually, version_1},
    torrent,
};
use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};
use tracker_tests::{
    bep15::{Announce, Event, InfoHash},
    client::http_announce,
    namespace::Pair,
    println,
};

/// How long a flood goes on.
const FLOOD: Duration = Duration::from_secs(4);

/// Percent of a core that changes of others may take.
const SHARE: f64 = 10.0;

/// Ends a flood, also when the test fails meanwhile.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Bytes of memory that a process has had at most.
fn most_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// A message with so many new peers of a torrent.
fn changes(info_hash: &InfoHash, count: u16) -> Vec<u8> {
    let one = version_1(&[198, 51, 100, 1], info_hash);
    // The header, and a section of all of them.
    let mut message = one[..18].to_vec();
    message.extend_from_slice(&[0, 0]);
    message.extend_from_slice(&count.to_le_bytes());
    for number in 0..count {
        message.extend_from_slice(info_hash);
        message.extend_from_slice(&[198, 51, 100, number as u8]);
        message.extend_from_slice(&(1000 + number).to_be_bytes());
    }
    message
}

/// The number of the node that says that it is there.
fn node(bus: &mut Bus) -> String {
    bus.subscribe("tracker.hello");
    let hello = bus.received();
    let number = u64::from_le_bytes(*hello[4..].first_chunk().expect("a number"));
    format!("{number:016x}")
}

/// A node of this number that says that it is there.
fn hello(number: u32) -> Vec<u8> {
    let mut hello = b"TH\x01\0".to_vec();
    hello.extend_from_slice(&u64::from(number).to_le_bytes());
    hello.extend_from_slice(&[0xff; 8]);
    hello.extend_from_slice(&[0; 12]);
    hello.extend_from_slice(format!("made-up-{number}").as_bytes());
    hello
}

#[test]
fn no_flood_takes_more_than_its_share_or_memory_and_all_are_answered() {
    let mut farm = Farm::new();
    let share = SHARE.to_string();
    farm.start(0, &["--cluster-cpu", &share, "--cluster-budget", "1000"]);
    let mut bus = farm.bus();
    let node = node(&mut bus);
    let info_hash = torrent(1);
    let shard = format!("tracker.changes.{}", info_hash[0] >> 2);
    let ask = [&b"TQ\x01\0"[..], &[0; 8], &[0xff; 8], &[0xff, 0]].concat();
    let giant = [&b"TC\x02\0"[..], &vec![0x55; 1_000_000]].concat();
    // (what, subject, message of a number, why it is dropped)
    type Made<'a> = Box<dyn Fn(u32) -> Vec<u8> + Sync + 'a>;
    let rows: [(&str, String, Made<'_>, &str); 7] = [
        ("changes", shard.clone(), Box::new(|_| changes(&info_hash, 50)), "budget"),
        ("garbage", shard.clone(), Box::new(|_| b"garbage".to_vec()), "foreign"),
        (
            "changes that are none",
            shard.clone(),
            Box::new(|_| [b"TC\x02\0".as_slice(), &[0x55; 1200]].concat()),
            "malformed",
        ),
        ("giants", shard.clone(), Box::new(|_| giant.clone()), "malformed"),
        ("garbage for nodes", "tracker.hello".into(), Box::new(|_| b"garbage".to_vec()), "foreign"),
        ("nodes that are none", "tracker.hello".into(), Box::new(hello), ""),
        ("questions", format!("tracker.ask.{node} here"), Box::new(|_| ask.clone()), "budget"),
    ];
    let site = farm.site(0);
    let taken = || site.metrics().sum("tracker_cluster_cpu_seconds_total", &[]);
    for (number, (name, subject, made, why)) in rows.iter().enumerate() {
        let dropped = || site.dropped().get(*why).copied().unwrap_or_default();
        let (before, dropped_before, seconds_before) = (most_memory(site.tracker.process()), dropped(), taken());
        let begin = Instant::now();
        let over = AtomicBool::new(false);
        let (sent, answered) = thread::scope(|scope| {
            let flood = scope.spawn(|| {
                let mut bus = farm.bus();
                let mut sent = 0;
                while !over.load(Ordering::Relaxed) {
                    // A server that does not take more hangs up, and another one is asked.
                    if !bus.publish(subject, &made(sent)) {
                        bus = farm.bus();
                    }
                    sent += 1;
                }
                sent
            });
            let ends = Ends(&over);
            let mut answered = 0_u16;
            while begin.elapsed() < FLOOD {
                let port = 2000 + answered % 1000;
                site.announce(3, &torrent(2), port, false, Event::Started);
                let server = (Pair::SERVER_V4, 6969).into();
                let announce = Announce::new(torrent(2), port);
                http_announce(&site.pair.client, server, &announce).expect("answered");
                answered += 1;
            }
            drop(ends);
            (flood.join().expect("it ends"), answered)
        });
        let seconds = taken() - seconds_before;
        let allowed = SHARE / 100.0 * (begin.elapsed().as_secs_f64() + 1.1);
        let memory = most_memory(site.tracker.process()).saturating_sub(before);
        let dropped = dropped() - dropped_before;
        println!(
            "{name}: {sent} messages, {dropped} dropped as {why:?}, {answered} answered twice; {seconds:.2} s of a core of {allowed:.2} \
             allowed, {} MiB more memory",
            memory >> 20
        );
        assert!(why.is_empty() || dropped > 0.0, "{name}: {:?}", site.dropped());
        assert!(memory < 96 << 20, "{name}: {memory} bytes");
        // What is told to others is not limited; and what the client has begun to read it reads.
        assert!(seconds < allowed + 1.5, "{name}: {seconds} s of {allowed}");
        // It is there as before.
        let mut port = 0;
        eventually(name, || {
            port += 1;
            let mut message = version_1(&[198, 51, 100, 200 + number as u8], &info_hash);
            let at = message.len() - 2;
            message[at..].copy_from_slice(&(7000_u16 + port).to_be_bytes());
            let known = site.peers(&[info_hash]);
            farm.publish(&shard, &message);
            thread::sleep(Duration::from_millis(200));
            (site.peers(&[info_hash]) > known).then_some(())
        });
    }
    assert!(site.metrics().sum("tracker_cluster_nodes", &[]) <= 256.0);
}

/// Milliseconds that 99 of 100 announces take at most.
fn p99(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() * 99 / 100].as_secs_f64() * 1000.0
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How long announces take with and without changes of others at more than the budget, by turns:
/// `cargo test --profile tests -p tracker-tests --test cluster measured -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a test"]
fn measured_announces_while_changes_come() {
    /// How long each turn is, and how many there are.
    const TURN: Duration = Duration::from_secs(2);
    const TURNS: usize = 6;
    /// What is left of the budget is spent first.
    const BEFORE: Duration = Duration::from_millis(1200);
    /// Changes in a second that are allowed, and that come.
    const ALLOWED: u32 = 200_000;
    const COME: u32 = 400_000;
    const EACH: u32 = 50;
    let mut farm = Farm::new();
    let torrents: Vec<_> = (0..64).map(|number| [number << 2; 20]).collect();
    let messages: Vec<_> = torrents.iter().map(|info_hash| changes(info_hash, EACH as u16)).collect();
    let flooding = AtomicBool::new(false);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut bus = farm.bus();
        let (messages, flooding, over) = (&messages, &flooding, &over);
        let _ends = Ends(over);
        scope.spawn(move || {
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                let begin = Instant::now();
                // A hundredth of a second's.
                for _ in 0..if flooding.load(Ordering::Relaxed) { COME / EACH / 100 } else { 0 } {
                    let at = number % messages.len();
                    assert!(bus.publish(&format!("tracker.changes.{at}"), &messages[at]), "the server takes it");
                    number += 1;
                }
                thread::sleep(Duration::from_millis(10).saturating_sub(begin.elapsed()));
            }
        });
        for (name, mode, http) in [("XDP", "native", false), ("HTTP", "native", true), ("UDP sockets", "off", false)] {
            let options = ["--cluster", "nats://10.9.0.1", "--cluster-budget", &ALLOWED.to_string()];
            let site = Site::start_in_mode(farm.pair(0), 0, mode, &options);
            let mut client = site.client(7, false);
            let mut turns = [Vec::new(), Vec::new()];
            let stored = || site.metrics().sum("tracker_cluster_changes_stored_total", &[]);
            let before = (stored(), site.dropped().get("budget").copied().unwrap_or_default());
            for turn in 0..2 * TURNS {
                flooding.store(turn % 2 == 1, Ordering::Relaxed);
                thread::sleep(BEFORE);
                let (begin, mut times) = (Instant::now(), Vec::new());
                while begin.elapsed() < TURN {
                    let announce = Announce::new(torrents[7], 1000 + (times.len() % 100) as u16);
                    let asked = Instant::now();
                    if http {
                        let server = (Pair::SERVER_V4, 6969).into();
                        http_announce(&site.pair.client, server, &announce).expect("answered");
                    } else {
                        client.announce(&announce).expect("answered");
                    }
                    times.push(asked.elapsed());
                }
                turns[turn % 2].push(p99(&mut times));
            }
            flooding.store(false, Ordering::Relaxed);
            let mut ratios: Vec<_> = turns[0].iter().zip(&turns[1]).map(|(without, with)| with / without).collect();
            let [without, with] = turns.each_mut().map(|turns| median(turns));
            let ratio = median(&mut ratios);
            let flooded = TURNS as f64 * (TURN + BEFORE).as_secs_f64();
            let after = (stored(), site.dropped().get("budget").copied().unwrap_or_default());
            println!(
                "{name}: p99 {without:.3} ms without, {with:.3} ms with changes of others, medians of {TURNS} turns each; {ratio:.2} \
                 times as long ({:.2} to {:.2}); {:.0} changes stored in a second, {:.0} dropped",
                ratios[0],
                ratios[TURNS - 1],
                (after.0 - before.0) / flooded,
                (after.1 - before.1) / flooded,
            );
            farm.sites[0] = Some(site);
            farm.kill(0);
        }
    });
}
