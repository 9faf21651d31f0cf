//! What each tracker knows after some minutes in which packets get lost, or one of them is cut off. Time
//! is real and not scaled: what heals has its own times of seconds and minutes. What is scaled is the
//! announces: each peer announces once, so nothing is made good by a later announce of it.

use super::{
    farm::{Farm, NODES},
    torrent,
};
use std::time::{Duration, Instant};
use tracker_tests::{
    bep15::{Event, InfoHash},
    println,
};

/// New peers in a second in each case, over all trackers; fewer if it takes long.
const RATE: u64 = 25;

/// New peers in all, of one case: a client of a tracker has ports for more.
const PEERS: u64 = 27_000;

/// When is looked at what each knows.
const LOOKS: [u64; 3] = [1, 5, 30];

/// From one group of announces to the next.
const TICK: Duration = Duration::from_millis(100);

/// How long it is to go on, if it is: `cargo xtask cluster` says so.
pub fn minutes() -> Option<u64> {
    let text = std::env::var("TRACKER_TESTS_CLUSTER").ok()?;
    Some(text.parse().expect("minutes"))
}

/// New peers, one after the other.
struct Clients<'a> {
    torrents: &'a [InfoHash],
    ports: [u16; NODES],
    announced: u64,
}

impl Clients<'_> {
    fn announce(&mut self, farm: &Farm) {
        let site = (self.announced % NODES as u64) as usize;
        // All trackers have peers of all torrents.
        let info_hash = &self.torrents[(self.announced / NODES as u64) as usize % self.torrents.len()];
        farm.site(site).announce(site as u8 * 3, info_hash, self.ports[site], false, Event::Started);
        self.ports[site] += 1;
        self.announced += 1;
    }

    /// Announces go on for so many minutes; tells what each knows at some moments.
    fn go_on(&mut self, farm: &Farm, title: &str, (minutes, per_second): (u64, u64)) {
        let begin = Instant::now();
        let before = self.announced;
        let mut looks = LOOKS.into_iter().filter(|look| *look < minutes).chain([minutes]).peekable();
        while let Some(look) = looks.peek() {
            std::thread::sleep(TICK);
            let due = before + begin.elapsed().as_millis() as u64 * per_second / 1000;
            while self.announced < due {
                self.announce(farm);
            }
            if begin.elapsed() >= Duration::from_secs(look * 60) {
                self.tell(farm, &format!("{title}, {look} min"));
                looks.next();
            }
        }
    }

    /// Tells what each knows, in percent of what there is. True if all know all.
    fn tell(&self, farm: &Farm, title: &str) -> bool {
        let known: Vec<_> = farm.sites.iter().flatten().map(|site| u64::from(site.peers(self.torrents))).collect();
        let shares: Vec<_> =
            known.iter().map(|known| format!("{:.2}", *known as f64 * 100.0 / self.announced as f64)).collect();
        println!("{title:<40}{:>8} peers: {:>8} %", self.announced, shares.join(" % "));
        known.iter().all(|known| *known == self.announced)
    }

    /// Nobody announces any more: how long until all know all.
    fn settle(&self, farm: &Farm, title: &str) {
        let begin = Instant::now();
        for seconds in [1, 5, 15, 60, 300] {
            std::thread::sleep(Duration::from_secs(seconds).saturating_sub(begin.elapsed()));
            if self.tell(farm, &format!("{title}, {seconds} s after the last announce")) {
                return;
            }
        }
        panic!("not all know all:\n{}", farm.site(2).tracker.log());
    }
}

/// What happens between the trackers and the server.
#[derive(Clone, Copy)]
enum Case {
    /// So many of a hundred packets get lost on the way of each.
    Loss(u32),
    /// The third is cut off, for 10 minutes at most.
    Split,
}

impl Case {
    fn title(self) -> String {
        match self {
            Self::Loss(percent) => format!("{percent} % loss"),
            Self::Split => "the third is cut off".into(),
        }
    }

    /// With hosts, trackers and a server of its own.
    fn run(self, minutes: u64) {
        let mut farm = Farm::new();
        (0..NODES).for_each(|site| farm.start(site, &[]));
        farm.eventually_connected(&[0, 1, 2]);
        let torrents: Vec<_> = (0..40).map(|number| torrent(20 + number)).collect();
        let per_second = RATE.min(PEERS / (minutes * 60)).max(1);
        let mut clients = Clients { torrents: &torrents, ports: [1000; NODES], announced: 0 };
        match self {
            Self::Loss(percent) => {
                (0..NODES).for_each(|site| farm.lose(site, percent));
                clients.go_on(&farm, &self.title(), (minutes, per_second));
                clients.settle(&farm, &self.title());
            }
            Self::Split => {
                farm.lose(2, 100);
                clients.go_on(&farm, &self.title(), (minutes.min(10), per_second));
                farm.lose(2, 0);
                clients.settle(&farm, "healed");
            }
        }
        let missed = |site: usize| farm.site(site).metrics().sum("tracker_cluster_messages_missed_total", &[]);
        println!("{}: messages missed, which were made up for by asking: {:?}", self.title(), [0, 1, 2].map(missed));
    }
}

/// All cases beside each other, in namespaces of their own.
#[test]
#[ignore = "takes minutes: cargo xtask cluster"]
fn what_gets_lost_heals() {
    let minutes = minutes().unwrap_or(1);
    println!("known to the first, second and third tracker of each case:");
    std::thread::scope(|scope| {
        for case in [Case::Loss(0), Case::Loss(1), Case::Loss(10), Case::Split] {
            scope.spawn(move || case.run(minutes));
        }
    });
}
