//! `cargo xtask bench expiry`: whether the removal of millions of peers keeps up, and what
//! announces notice of it.
//!
//! The daemon runs in a testbed as in a comparison, with XDP in the driver and a peer timeout of
//! two minutes, and is filled with peers. Then only a few of them go on announcing, in a closed
//! loop, a hundred in each of a hundred swarms, so that replies are as long before as after, and
//! announces go to swarms that are being swept. All others become too old within one tick of the
//! tracker's clock, which counts ages in minutes: in earnest a tracker has the whole timeout for
//! them. Expiry keeps up if it is done with them before the timeout has passed once more.
//!
//! # Where the daemon runs
//!
//! A comparison ties the daemon to the tracker's core, because processor time per answer is what is
//! compared. Nobody ties a daemon down in earnest: the XDP program runs where the network card's
//! interrupts are, and the scheduler puts the daemon's threads where there is time. So here the
//! daemon has all cores. It has ordinary priority, and so has the thread that receives for the
//! tracker, as the kernel's own ksoftirqd has on a core that does nothing but receive. That thread
//! stays on the tracker's core and is as busy as can be. Making the load does not fill the other
//! core, and there expiry finds its time: on a machine of two cores it shares that one with the
//! load, and a load that is held up shows as fewer answers, but not as fewer per core-second.
//!
//! With `--share-core` the daemon has the tracker's core only, as if all cores of a machine were at
//! their limit. Every moment that expiry runs is then one without answers, and what counts is how
//! long these are.

mod minutes;
mod result;
mod watch;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bench_ebpf::Visit;
use clap::Args;
use tracker_tests::workspace;

use self::{
    minutes::{at_minute, await_room_in_minute, minute},
    result::Expired,
    watch::{Timeout, Watch},
};
use crate::{
    options::Setup,
    plan::BenchPlan,
    scenario::{self, Scenario, shuffle},
    session::Session,
    system::System,
};

/// At most so many swarms have peers that go on announcing, each at most so many: twice as many as
/// a reply holds.
const LIVE_TORRENTS: u32 = 100;
const LIVE_MEMBERS: u32 = 100;
/// How fast peers are announced at least, for guessing how long it takes. Per second.
const FILL_RATE: f64 = 500_000.0;

#[derive(Args)]
pub struct Options {
    /// A tenth of the swarms and of the peers, and shorter times before and after
    #[arg(long)]
    quick: bool,
    /// Swarms [default: 10000, quick 1000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    torrents: Option<u32>,
    /// IPv4 peers in all of them together [default: 10000000, quick 1000000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    peers: Option<u32>,
    /// Seconds after which peers are to be gone; the tracker counts whole minutes
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(61..))]
    peer_timeout: u64,
    /// How often to look
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 250, value_parser = clap::value_parser!(u64).range(50..))]
    sample: u64,
    /// How long to measure before peers expire and after they have [default: 15, quick 5]
    #[arg(long)]
    seconds: Option<f64>,
    /// Let the daemon have the tracker's core only
    #[arg(long)]
    share_core: bool,
    #[command(flatten)]
    setup: Setup,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let (torrents, peers, seconds) = if options.quick { (1_000, 1_000_000, 5.0) } else { (10_000, 10_000_000, 15.0) };
    let around = Duration::try_from_secs_f64(options.seconds.unwrap_or(seconds)).context("not a time: --seconds")?;
    let scenario = scenario::announce(
        "expiry",
        "peers that expire",
        options.torrents.unwrap_or(torrents),
        options.peers.unwrap_or(peers),
    );
    let live = live(&scenario);
    ensure!(
        live.len() < scenario.peers as usize,
        "of {} peers in {} torrents all would go on announcing; give more with --peers",
        scenario.peers,
        scenario.torrents
    );
    let minutes = options.peer_timeout.div_ceil(60);
    ensure!(
        around.as_secs_f64() < (minutes as f64 - 1.0) * 60.0,
        "peers would expire before the {around:?} are over that are to be measured before; give a longer --peer-timeout"
    );
    let plan = BenchPlan {
        tracker_options: ["--interval", "60", "--interval-jitter", "0", "--peer-timeout"]
            .map(str::to_owned)
            .into_iter()
            .chain([options.peer_timeout.to_string()])
            .collect(),
        ..options.setup.plan()?
    };
    plan.begin()?;

    await_room_in_minute(Duration::from_secs_f64(5.0 + f64::from(scenario.peers) / FILL_RATE))?;
    let first = minute()?;
    let mut session = Session::prepare(System::Native, &scenario, 0, &plan, None)?;
    let last = minute()?;
    if first != last {
        eprintln!("  the peers were announced in {} different minutes, and will expire in as many", last - first + 1);
    }
    let watch = Watch {
        scenario: &scenario,
        plan: &plan,
        live: &live,
        timeout: Timeout { first: at_minute(first + minutes)?, last: at_minute(last + minutes)? },
        around,
        interval: Duration::from_millis(options.sample),
        // What has not gone after twice the timeout will not.
        patience: Duration::from_secs(2 * options.peer_timeout),
        share_core: options.share_core,
    };
    let samples = watch.run(&mut session)?;
    let result = Expired::new(&scenario, live.len(), minutes * 60, options.share_core, samples)?;
    println!("{}", result.text());
    let path = options.setup.output().join("expiry.json");
    result.write_json(&path)?;
    eprintln!("wrote {}", workspace::display(&path));
    Ok(())
}

/// The peers that go on announcing.
fn live(scenario: &Scenario) -> Vec<Visit> {
    let members = (scenario.peers / scenario.torrents).min(LIVE_MEMBERS);
    let mut live: Vec<_> = (0..scenario.torrents.min(LIVE_TORRENTS))
        .flat_map(|torrent| (0..members).map(move |member| Visit { torrent, member }))
        .collect();
    shuffle(&mut live);
    live
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_peers_are_members_of_swarms_that_shrink() {
        // (torrents, peers, live)
        for (torrents, peers, expected) in
            [(10_000, 10_000_000, 10_000), (1_000, 1_000_000, 10_000), (10, 10_000, 1_000), (1_000, 20_000, 2_000)]
        {
            let live = live(&scenario::announce("", "", torrents, peers));
            assert_eq!(live.len(), expected, "{torrents} torrents, {peers} peers");
            assert!(live.iter().all(|visit| visit.torrent < torrents && visit.member < peers / torrents));
        }
    }
}
