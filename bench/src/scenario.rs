//! What is measured: a population, and what it asks.

use bench_ebpf::Visit;

use crate::{
    request::{Event, Request},
    testbed::Family,
};

/// Peers asked for in every announce, and the most every system is told to give.
pub const NUM_WANT: i32 = 50;

/// How popular torrents are: how the peers are spread over them.
#[derive(Clone, Copy, Debug)]
pub enum Popularity {
    /// Every torrent has as many.
    Even,
    /// The n-th torrent has a share in proportion to 1/n, and at least one peer.
    Zipf,
}

#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// How it is called on the command line and in the results.
    pub name: &'static str,
    /// What it is, for the table.
    pub title: &'static str,
    pub load: Kind,
    pub family: Family,
    pub torrents: u32,
    pub peers: u32,
    pub popularity: Popularity,
    /// Seeders among the peers, in per cent.
    pub seeders: u32,
    /// Whether it is measured only when it is asked for.
    pub is_extra: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Udp(Request),
    Http { keep_alive: bool },
}

const ANNOUNCE: Kind = Kind::Udp(Request::Announce { num_want: NUM_WANT, event: Event::None });

/// Announces of IPv4 peers in torrents of one size.
pub const fn announce(name: &'static str, title: &'static str, torrents: u32, peers: u32) -> Scenario {
    Scenario {
        name,
        title,
        load: ANNOUNCE,
        family: Family::V4,
        torrents,
        peers,
        popularity: Popularity::Even,
        seeders: 0,
        is_extra: false,
    }
}

/// All scenarios, in the order of the table, and behind them those that are not in it by default.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { load: Kind::Udp(Request::Connect), ..announce("connect", "connect", 1, 1) },
    announce("small", "100 000 torrents of 4 peers", 100_000, 400_000),
    Scenario {
        popularity: Popularity::Zipf,
        ..announce("zipf", "100 000 torrents, 1 M peers, Zipf", 100_000, 1_000_000)
    },
    announce("swarm-1k", "one swarm of 1 000", 1, 1_000),
    announce("swarm-64k", "one swarm of 65 536", 1, 65_536),
    announce("swarm-1m", "one swarm of 1 000 000", 1, 1_000_000),
    announce("torrents", "2 M torrents of 1 peer", 2_000_000, 2_000_000),
    announce("swarms", "10 000 swarms of 1 000", 10_000, 10_000_000),
    announce("large", "2 M torrents, 10 M peers", 2_000_000, 10_000_000),
    Scenario { family: Family::V6, ..announce("ipv6", "IPv6, one swarm of 65 536", 1, 65_536) },
    Scenario {
        load: Kind::Udp(Request::Scrape { hashes: 1 }),
        ..announce("scrape-1", "scrape of 1 of 100 000", 100_000, 400_000)
    },
    Scenario {
        load: Kind::Udp(Request::Scrape { hashes: 74 }),
        ..announce("scrape-74", "scrape of 74 of 100 000", 100_000, 400_000)
    },
    Scenario {
        load: Kind::Http { keep_alive: false },
        ..announce("http-new", "HTTP announce, new connections", 10_000, 100_000)
    },
    Scenario {
        load: Kind::Http { keep_alive: true },
        ..announce("http-keep", "HTTP announce, keep-alive", 10_000, 100_000)
    },
    extra(announce("swarms-10", "100 000 swarms of 10", 100_000, 1_000_000)),
    extra(announce("swarms-30", "33 333 swarms of 30", 33_333, 999_990)),
    extra(announce("swarms-100", "10 000 swarms of 100", 10_000, 1_000_000)),
    extra(announce("swarms-300", "3 333 swarms of 300", 3_333, 999_900)),
    extra(Scenario {
        family: Family::V6,
        popularity: Popularity::Zipf,
        ..announce("ipv6-zipf", "IPv6, 100 000 torrents, 1 M peers, Zipf", 100_000, 1_000_000)
    }),
    extra(Scenario { seeders: 90, ..announce("seeders", "one swarm of 65 536, 90 % seeders", 1, 65_536) }),
];

/// A scenario that is measured only when it is asked for.
const fn extra(scenario: Scenario) -> Scenario {
    Scenario { is_extra: true, ..scenario }
}

impl Scenario {
    /// Bytes of UDP payload in the reflector's replies: as many as a tracker's replies have on
    /// average, rounded to whole peers, or where that is not known as many as asked for.
    pub fn reflected_payload(&self, reply_bytes: Option<f64>) -> u32 {
        match self.load {
            Kind::Udp(Request::Connect) => 16,
            Kind::Udp(Request::Scrape { hashes }) => 8 + 12 * hashes,
            Kind::Udp(Request::Announce { .. }) => {
                let peer = if self.family == Family::V4 { 6.0 } else { 18.0 };
                let peers = reply_bytes.map_or(f64::from(NUM_WANT), |bytes| (bytes - 20.0) / peer).round();
                (20.0 + peers * peer) as u32
            }
            Kind::Http { .. } => 0,
        }
    }

    /// Whether torrents have to be announced before the measurement.
    pub fn needs_peers(&self) -> bool {
        !matches!(self.load, Kind::Udp(Request::Connect))
    }

    /// Fills in the population, in random order: every peer once.
    pub fn populate(&self, visits: &mut [Visit]) {
        match self.popularity {
            Popularity::Even => {
                for (number, visit) in (0..).zip(visits.iter_mut()) {
                    *visit = Visit { torrent: number % self.torrents, member: number / self.torrents };
                }
            }
            Popularity::Zipf => {
                let mut place = visits.iter_mut();
                for (torrent, size) in (0..).zip(zipf_sizes(self.torrents, self.peers)) {
                    for (member, visit) in (0..size).zip(&mut place) {
                        *visit = Visit { torrent, member };
                    }
                }
            }
        }
        shuffle(visits);
    }
}

/// Sizes of torrents in proportion to 1/n, at least 1 each, `peers` together.
fn zipf_sizes(torrents: u32, peers: u32) -> Vec<u32> {
    let harmonic: f64 = (1..=torrents).map(|rank| 1.0 / f64::from(rank)).sum();
    // One peer each first, then the rest in proportion.
    let rest = f64::from(peers - torrents);
    let mut sizes: Vec<u32> = (1..=torrents).map(|rank| 1 + (rest / (harmonic * f64::from(rank))) as u32).collect();
    // What rounding down has left over.
    let mut left = peers - sizes.iter().sum::<u32>();
    for size in &mut sizes {
        if left == 0 {
            break;
        }
        *size += 1;
        left -= 1;
    }
    sizes
}

/// Fisher-Yates, the same in every run.
pub fn shuffle(visits: &mut [Visit]) {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for last in (1..visits.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let other = ((u128::from(state) * (last as u128 + 1)) >> 64) as usize;
        visits.swap(last, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zipf_population_has_all_torrents_and_peers() {
        let sizes = zipf_sizes(100_000, 1_000_000);
        assert_eq!(sizes.len(), 100_000);
        assert_eq!(sizes.iter().sum::<u32>(), 1_000_000);
        assert!(sizes.is_sorted_by(|a, b| a >= b) && sizes[99_999] >= 1);
    }

    #[test]
    fn even_swarms_are_of_one_size() {
        for scenario in SCENARIOS.iter().filter(|scenario| matches!(scenario.popularity, Popularity::Even)) {
            assert_eq!(scenario.peers % scenario.torrents, 0, "{}", scenario.name);
        }
    }

    #[test]
    fn every_peer_is_visited_once() {
        let scenario = Scenario { torrents: 10, peers: 100, ..SCENARIOS[1] };
        let mut visits = vec![Visit::default(); 100];
        scenario.populate(&mut visits);
        assert_ne!(visits[0], Visit { torrent: 0, member: 0 }, "not shuffled");
        visits.sort_by_key(|visit| (visit.torrent, visit.member));
        for (number, visit) in (0..).zip(visits) {
            assert_eq!(visit, Visit { torrent: number / 10, member: number % 10 });
        }
    }
}
