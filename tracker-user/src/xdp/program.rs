//! Makes the maps and loads the XDP program.

use super::{
    memory_limit,
    object::{object, open, program},
    refusal::explain_refusal,
};
use crate::store::{Counters, Store, sizes::Sizes};
use anyhow::{Context as _, bail};
use aya::{
    Ebpf, VerifierLogLevel,
    maps::{Map, MapData, PerCpuArray, ProgramArray},
    programs::{ProgramFd, ProgramInfo},
};
use std::{
    iter,
    os::fd::{AsFd as _, BorrowedFd},
    time::{Duration, Instant},
};
use tracker_common::{outcome::COUNTERS, programs::Program as TailCalled};

/// The name in the object of the program that packets come to.
const PROGRAM: &str = "tracker";

/// The map of the programs that it continues in.
const PROGRAMS: &str = "PROGRAMS";

/// Reads what the XDP program has counted, on all cores together.
pub type KernelCounters = Box<dyn Fn() -> anyhow::Result<Counters> + Send + Sync>;

/// The XDP program in the kernel, with what was needed to load it.
pub struct Program {
    ebpf: Ebpf,
    loaded: Loaded,
}

/// The XDP program in the kernel, ready to be attached. It is unloaded when this is dropped and it
/// is attached to nothing.
pub struct Loaded {
    entry: ProgramFd,
    /// The kernel's number of the program that packets come to.
    pub id: u32,
    /// Held open, because the kernel empties the map when its last holder closes it.
    _programs: ProgramArray<MapData>,
    /// Held open although the programs keep them: so the kernel shows their memory with this
    /// process (`/proc/PID/fdinfo`).
    maps: Vec<Map>,
    /// Instructions that the verifier has followed, if the kernel says it.
    pub verified_instructions: Option<u32>,
    /// How long the kernel took to verify and translate the program.
    pub load_time: Duration,
}

impl Loaded {
    /// The program that packets come to, to be attached.
    #[must_use]
    pub fn entry(&self) -> BorrowedFd<'_> {
        self.entry.as_fd()
    }
}

impl Program {
    /// Makes the maps, of the sizes given, and loads the program.
    ///
    /// # Errors
    /// When the object cannot be read, memory is short, or the kernel refuses it; the verifier's
    /// log is kept in a file that the error names.
    pub fn load(sizes: &Sizes) -> anyhow::Result<Self> {
        memory_limit::check(sizes)?;
        let object = object()?;
        // The log of a big program takes the verifier and the loader many times as long as the
        // verification itself.
        let begin = Instant::now();
        let mut ebpf = open(&object, sizes, VerifierLogLevel::STATS)?;
        let mut verified_instructions = Some(0);
        for name in iter::once(PROGRAM).chain(TailCalled::ALL.iter().map(|program| program.name())) {
            if let Err(error) = program(&mut ebpf, name)?.load() {
                drop(ebpf);
                return Err(explain_refusal(&object, sizes, name, error));
            }
            let information = information(&mut ebpf, name)?;
            verified_instructions =
                verified_instructions.zip(information.verified_instruction_count()).map(|(sum, one)| sum + one);
        }
        let load_time = begin.elapsed();
        let map = ebpf.take_map(PROGRAMS).with_context(|| format!("the eBPF object has no map {PROGRAMS}"))?;
        let mut programs: ProgramArray<MapData> =
            map.try_into().with_context(|| format!("the eBPF object's map {PROGRAMS} holds no programs"))?;
        for (place, name) in TailCalled::ALL.iter().map(|program| (*program as u32, program.name())) {
            let file = program(&mut ebpf, name)?.fd()?.try_clone()?;
            programs
                .set(place, &file, 0)
                .with_context(|| format!("cannot put the XDP program {name} where {PROGRAM} goes on in it"))?;
        }
        let information = information(&mut ebpf, PROGRAM)?;
        if information.size_jitted() == 0 {
            tracing::warn!(
                "the kernel interprets the XDP program instead of translating it, which is several times slower: \
                 set net.core.bpf_jit_enable to 1 (sysctl)"
            );
        }
        let loaded = Loaded {
            entry: program(&mut ebpf, PROGRAM)?.fd()?.try_clone()?,
            id: information.id(),
            _programs: programs,
            maps: Vec::new(),
            verified_instructions,
            load_time,
        };
        Ok(Self { ebpf, loaded })
    }

    /// The store in the program's maps.
    ///
    /// # Errors
    /// When the object lacks a map, or one cannot be mapped.
    pub fn store(&self, sizes: &Sizes) -> anyhow::Result<Store> {
        Store::from_maps(sizes, |name| {
            let map = self.ebpf.map(name).with_context(|| format!("the eBPF object has no map {name}"))?;
            let Map::Array(map) = map else { bail!("the eBPF object's map {name} is not an array") };
            Ok(map.fd().as_fd())
        })
    }

    /// A reader of the program's counters.
    ///
    /// # Errors
    /// When the object has no such map.
    pub fn counters(&mut self) -> anyhow::Result<KernelCounters> {
        let map = self.ebpf.take_map("COUNTERS").context("the eBPF object has no map COUNTERS")?;
        let map: PerCpuArray<MapData, Counters> =
            map.try_into().context("the eBPF object's map COUNTERS is not what this daemon expects")?;
        Ok(Box::new(move || {
            let cores = map.get(&0, 0).context("cannot read the XDP program's counters")?;
            let mut sum = [0; COUNTERS];
            for core in cores.iter() {
                for (sum, counter) in sum.iter_mut().zip(core) {
                    *sum += counter;
                }
            }
            Ok(sum)
        }))
    }

    /// Keeps what holds the program in the kernel, and frees what was needed to load it: above all
    /// the types of the whole kernel that the loader has read, several megabytes.
    #[must_use]
    pub fn keep(self) -> Loaded {
        let Self { mut ebpf, mut loaded } = self;
        let names: Vec<_> = ebpf.maps().map(|(name, _)| name.to_owned()).collect();
        loaded.maps = names.iter().filter_map(|name| ebpf.take_map(name)).collect();
        drop(ebpf);
        // The allocator keeps freed memory below memory in use. Nothing of this size will be needed
        // again.
        #[cfg(target_env = "gnu")]
        // SAFETY: it may be called at any time.
        unsafe {
            libc::malloc_trim(0);
        }
        loaded
    }
}

fn information(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<ProgramInfo> {
    program(ebpf, name)?.info().with_context(|| format!("cannot ask the kernel about the XDP program {name}"))
}
