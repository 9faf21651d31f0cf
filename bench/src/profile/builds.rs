//! `cargo xtask bench builds OLD NEW`: which of two builds of the XDP program is faster, and by how
//! much.
//!
//! Both work on the store of one daemon, so neither has the better place in memory. They take turns of
//! some 30 ms, so both have the same share of the machine's fast and slow phases, and are loaded anew
//! for each round, since where the kernel puts their code is worth up to 5 %. What two runs one after the
//! other hide behind a third, this tells to about a hundredth. The packet's way through an interface is
//! not in it. Both have to agree on all maps, the scratch space included: of an object with another
//! [`Scratch`](tracker_common::scratch::Scratch), announces take many times as long or are not answered.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{MapData, MapInfo, ProgramArray, loaded_maps},
    programs::{ProgramFd, Xdp},
};
use bench_ebpf::Progress;
use tracker_common::programs::Program;
use tracker_tests::{bpffs::BpfFs, interrupt};

use super::{
    Profiler,
    calls::{Counters, time},
};
use crate::{
    connect::connect,
    cores::{self, Thread, Urgency},
    generator::CLIENTS,
    options::ComparisonOptions,
    plan::BenchPlan,
    request::{self, Event, Request},
    scenario::{Kind, NUM_WANT, Scenario},
    session::Session,
    statistics::Summary,
    system::System,
};

/// The program that packets come to.
const ENTRY: &str = "tracker";
/// The map of the programs that it goes on in: each build has its own.
const PROGRAMS: &str = "PROGRAMS";
/// Turns of each build per round.
const TURNS: usize = 10;
/// Calls per turn.
const CALLS: u32 = 100_000;

#[derive(clap::Args)]
pub struct Options {
    /// The objects to compare (`cargo xtask build-ebpf --output FILE`)
    #[arg(num_args = 2, required = true, value_names = ["OLD", "NEW"])]
    objects: Vec<PathBuf>,
    #[command(flatten)]
    pub comparison: ComparisonOptions,
}

/// Measures one scenario and prints its line.
pub fn run(scenario: &Scenario, options: &Options, plan: &BenchPlan) -> anyhow::Result<()> {
    let request = match scenario.load {
        Kind::Udp(Request::Announce { .. }) => Request::Announce { num_want: NUM_WANT, event: Event::None },
        Kind::Udp(request) => request,
        Kind::Http { .. } => anyhow::bail!("XDP has no part in HTTP ({})", scenario.name),
    };
    let mut session = Session::prepare(System::Native, scenario, 0, plan, None)?;
    let (testbed, generator, running) = session.parts(scenario)?;
    running.set_urgency(Urgency::Idle)?;
    let daemon = running.process().context("the tracker is no process")?;
    let [old, new] = options.objects.as_slice() else { anyhow::bail!("two objects are compared") };

    let mut profiler = Profiler::new(testbed, scenario, *generator.load(), generator.maps().population())?;
    let load = request::request_load(&profiler.load, scenario.family, &request)?;
    profiler.object.maps.set_load(&load)?;
    profiler.object.maps.set_progress(|_| Progress::default())?;
    let noop = profiler.object.programs.get("noop")?.fd()?.try_clone()?;
    let before = Counters::read(testbed)?;
    let (mut costs, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
    for _ in 0..plan.rounds {
        // Both anew, as it matters where the kernel puts their code; and connection ids get too old.
        let builds = [Build::load(old, daemon)?, Build::load(new, daemon)?];
        let clients = connect(testbed, scenario.family, CLIENTS, Duration::from_secs(20))?;
        profiler.object.maps.set_clients(&clients)?;
        cores::pin(0, plan.cores.tracker).context("cannot move to the tracker's core")?;
        let mut turn = |program: &ProgramFd| -> anyhow::Result<f64> {
            profiler.object.maps.set_target(program)?;
            let harness = profiler.object.programs.get("harness")?;
            testbed.tracker.enter(|| time(harness, profiler.interface, load.frame_length, CALLS))
        };
        for number in 0..=TURNS {
            interrupt::check()?;
            let empty = turn(&noop)?;
            let mut taken = [0.0; 2];
            // Who goes first changes, too.
            for at in [number % 2, (number + 1) % 2] {
                taken[at] = turn(&builds[at].entry)? - empty;
            }
            // The first turns warm up.
            if number > 0 {
                costs.iter_mut().zip(taken).for_each(|(costs, taken)| costs.push(taken));
                ratios.push(taken[1] / taken[0]);
            }
        }
        cores::pin(0, plan.cores.load).context("cannot move back to the load's core")?;
    }
    // Both count where the daemon looks.
    let refused = Counters::read(testbed)?.since(before).rejected;
    if refused > 0 {
        println!(
            "  {refused} of {} requests were not answered",
            2 * u64::from(CALLS) * (plan.rounds * (TURNS + 1)) as u64
        );
    }
    ratios.sort_by(f64::total_cmp);
    let quarter = ratios.len() / 4;
    let [old, new] = costs.map(Summary::of);
    println!(
        "{:<12} {:>7.0} ns → {:>6.0} ns, {:.3} of the time (median of {} turns; half of them {:.3} to {:.3})",
        scenario.name,
        old.median,
        new.median,
        Summary::of(ratios.iter().copied()).median,
        ratios.len(),
        ratios[quarter],
        ratios[ratios.len() - 1 - quarter],
    );
    Ok(())
}

/// An object's programs, loaded, with the maps of a daemon.
struct Build {
    entry: ProgramFd,
    /// Holds the programs that the entry goes on in.
    _ebpf: Ebpf,
}

impl Build {
    fn load(path: &Path, daemon: Thread) -> anyhow::Result<Self> {
        let object = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut loader = EbpfLoader::new();
        loader.verifier_log_level(VerifierLogLevel::STATS);
        let pins = Pins::of(daemon)?;
        for (name, path) in &pins.maps {
            loader.map_pin_path(name, path.as_path());
        }
        let mut ebpf =
            loader.load(&object).with_context(|| format!("{} does not fit the daemon's maps", path.display()))?;
        drop(pins);
        let mut load = |name: &str| -> anyhow::Result<ProgramFd> {
            let program: &mut Xdp =
                ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?.try_into()?;
            program.load().with_context(|| format!("the kernel does not accept the program {name}"))?;
            Ok(program.fd()?.try_clone()?)
        };
        let entry = load(ENTRY)?;
        let others = Program::ALL.iter().map(|&program| load(program.name())).collect::<anyhow::Result<Vec<_>>>()?;
        let map = ebpf.map_mut(PROGRAMS).with_context(|| format!("the object has no map {PROGRAMS}"))?;
        let mut programs: ProgramArray<&mut MapData> = map.try_into()?;
        for (place, program) in (0..).zip(&others) {
            programs.set(place, program, 0)?;
        }
        Ok(Self { entry, _ebpf: ebpf })
    }
}

/// The maps of a process but for its programs, pinned in a BPF file system that is there for as long as
/// this is.
struct Pins {
    _files: BpfFs,
    maps: Vec<(String, PathBuf)>,
}

impl Pins {
    fn of(daemon: Thread) -> anyhow::Result<Self> {
        let held = cores::maps_of(daemon);
        let files = BpfFs::mount()?;
        fs::create_dir(files.path()).context("cannot make a directory in a BPF file system")?;
        let mut maps = Vec::new();
        let is_held = |info: &MapInfo| held.contains_key(&info.id());
        for info in loaded_maps().filter_map(Result::ok).filter(is_held) {
            let name = info.name_as_str().context("a map has no name")?.to_owned();
            if name != PROGRAMS {
                let path = files.path().join(&name);
                MapData::from_id(info.id())?.pin(&path).with_context(|| format!("cannot pin the map {name}"))?;
                maps.push((name, path));
            }
        }
        ensure!(!maps.is_empty(), "the tracker holds no maps");
        Ok(Self { _files: files, maps })
    }
}
