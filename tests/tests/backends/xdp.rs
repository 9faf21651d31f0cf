//! The loaded XDP program, fed with frames by `BPF_PROG_TEST_RUN`.

use super::{Outcome, Way, configure, labelled};
use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, EbpfLoader, TestRun as _, TestRunOptions, VerifierLogLevel,
    maps::{Map, MapData, PerCpuArray, ProgramArray},
    programs::Xdp,
};
use std::{collections::BTreeMap, net::IpAddr, os::fd::AsFd as _};
use tracker_common::{
    outcome::COUNTERS,
    programs::Program,
    settings::Settings,
    store::family::{V4, V6},
};
use tracker_tests::{
    decision_table::{TRACKER, TRACKER_MAC, TRACKER_PORT, Verdict},
    namespace::require_root,
    packet::{Datagram, Frame},
};
use tracker_user::{memory::Store, object, sizes::Sizes};

/// The interface that frames of a test run come from, unless it is told another one: the loopback interface, which is
/// number 1 in every network namespace.
const INTERFACE: u64 = 1;

/// Room for the longest reply.
const FRAME_MAX: usize = 4096;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// Where every packet begins.
const PROGRAM: &str = "tracker";

pub(crate) struct XdpProgram {
    ebpf: Ebpf,
    store: Store,
    /// Empty when it is closed.
    _programs: ProgramArray<MapData>,
}

fn load<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| format!("no program {name} in the object"))?;
    let program: &mut Xdp = program.try_into()?;
    let refused = || format!("the kernel refuses the XDP program {name}; `cargo xtask verify` says more");
    program.load().with_context(refused)?;
    Ok(program)
}

impl XdpProgram {
    /// Loads the program with maps of the sizes given.
    pub(crate) fn load(sizes: &Sizes) -> Result<Self> {
        require_root()?;
        let mut loader = EbpfLoader::new();
        loader.verifier_log_level(VerifierLogLevel::STATS);
        let regions = sizes.regions();
        for region in &regions {
            loader.map_max_entries(region.name, region.count);
        }
        let mut ebpf = loader.load(&object::object()?).context("cannot make the maps of the XDP program")?;
        let map = ebpf.take_map("PROGRAMS").context("the object has no map PROGRAMS")?;
        let mut programs: ProgramArray<MapData> = map.try_into()?;
        load(&mut ebpf, PROGRAM)?;
        for (place, name) in Program::ALL.iter().map(|program| (*program as u32, program.name())) {
            programs.set(place, load(&mut ebpf, name)?.fd()?, 0)?;
        }
        let store = Store::from_maps(sizes, |name| match ebpf.map(name) {
            Some(Map::Array(map)) => Ok(map.fd().as_fd()),
            _ => bail!("the object has no array {name}"),
        })?;
        configure(store.settings());
        listen(store.settings());
        Ok(Self { ebpf, store, _programs: programs })
    }

    /// Runs the program once: what it returns, and what the frame has become.
    pub(crate) fn run(&self, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        let program: &Xdp = self.ebpf.program(PROGRAM).context("the program was loaded")?.try_into()?;
        let mut out = vec![0; FRAME_MAX];
        let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = program.test_run(options).context("BPF_PROG_TEST_RUN")?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }
}

/// Tells the program what it answers for, as the daemon does.
fn listen(settings: &Settings) {
    let mut mac = [0; 8];
    mac[..6].copy_from_slice(&TRACKER_MAC);
    mac[6..].copy_from_slice(&1500_u16.to_le_bytes());
    settings.interfaces[0][0].store(INTERFACE);
    settings.interfaces[0][1].store(u64::from_le_bytes(mac));
    settings.interface_count.store(1);
    for address in TRACKER {
        match address {
            IpAddr::V4(address) => {
                settings.listeners_v4[0].store(V4::key(address.octets(), TRACKER_PORT));
                settings.listener_v4_count.store(1);
            }
            IpAddr::V6(address) => {
                let key = V6::key(address.octets(), TRACKER_PORT);
                settings.listeners_v6[0].iter().zip(key).for_each(|(word, value)| word.store(value));
                settings.listener_v6_count.store(1);
            }
        }
    }
}

impl Way for XdpProgram {
    fn send(&mut self, frame: &Frame, bytes: &[u8]) -> Result<Outcome, String> {
        let (action, out) = self.run(bytes).map_err(|error| format!("{error:#}"))?;
        match action {
            XDP_TX => {
                let wrong = |error| format!("{error:#}; the reply is {out:02x?}");
                let reply = Datagram::parse(&out).map_err(wrong)?;
                reply.check_answers(frame).map_err(wrong)?;
                Ok(Outcome::Answered(reply.payload))
            }
            XDP_PASS if out != bytes => Err(format!("passed on, but changed to {out:02x?}")),
            XDP_PASS => Ok(Outcome::Unanswered(Verdict::Passed)),
            XDP_DROP => Ok(Outcome::Unanswered(Verdict::Dropped)),
            other => Err(format!("the program returned {other}")),
        }
    }

    fn counters(&mut self) -> BTreeMap<String, u64> {
        let map = self.ebpf.map("COUNTERS").expect("the daemon needs it too");
        let map: PerCpuArray<&MapData, [u64; COUNTERS]> = map.try_into().expect("one element per core");
        let mut sum = [0; COUNTERS];
        for core in map.get(&0, 0).expect("readable").iter() {
            sum.iter_mut().zip(core).for_each(|(sum, value)| *sum += value);
        }
        labelled(&sum)
    }

    fn has_frames(&self) -> bool {
        true
    }

    fn clock(&self) -> Option<&Settings> {
        Some(self.store.settings())
    }
}
