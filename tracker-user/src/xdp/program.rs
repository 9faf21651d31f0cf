//! Makes the maps and loads the XDP program.

use super::{
    bpf_link::Link,
    card::Cards,
    memory_limit,
    object::{Source, object, open, program},
    pins::Directory,
    refusal::explain_refusal,
    tune::{Tuning, Undone},
};
use crate::store::{
    Counters, Store,
    sizes::{BLOCKS_MAP, Sizes},
};
use anyhow::{Context as _, bail};
use aya::{
    Ebpf, VerifierLogLevel,
    maps::{Map, MapData, PerCpuArray, ProgramArray, RingBuf},
    programs::ProgramInfo,
};
use std::{
    iter,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tracker_common::programs::Program as TailCalled;

/// The name in the object of the program that packets come to.
pub(super) const PROGRAM: &str = "tracker";

/// The map of the programs that it continues in.
const PROGRAMS: &str = "PROGRAMS";

/// The map of the counters.
pub(super) const COUNTERS_MAP: &str = "COUNTERS";

/// The maps that are no part of the store, and belong to one set of programs.
pub(super) const OWN_MAPS: [&str; 6] = [PROGRAMS, "SCRATCH", COUNTERS_MAP, TRACE_MAP, CHANGES_MAP, BLOCKS_MAP];

/// The map of single packets.
const TRACE_MAP: &str = "TRACE";

/// The map of what other trackers are to be told of.
pub(super) const CHANGES_MAP: &str = "CHANGES";

/// The names of all programs in the object, the one that packets come to first.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    iter::once(PROGRAM).chain(TailCalled::ALL.iter().map(|program| program.name()))
}

/// Reads what the XDP program has counted on each core that the machine may have;
/// [`added_up`](crate::store::added_up) gives what all have.
pub type KernelCounters = Box<dyn Fn() -> anyhow::Result<Vec<Counters>> + Send + Sync>;

/// The XDP program in the kernel, with what was needed to load it.
pub struct Program {
    pub(super) ebpf: Ebpf,
    pub(super) loaded: Loaded,
}

/// The XDP program in the kernel, ready to be attached. It is unloaded when this is dropped and it
/// is attached to nothing, unless it is pinned.
pub struct Loaded {
    entry: OwnedFd,
    /// The kernel's number of the program that packets come to.
    pub id: u32,
    /// Held open: the kernel empties the map of the programs when its last holder closes it, and
    /// shows the memory of the others with this process (`/proc/PID/fdinfo`).
    pub(super) maps: Vec<Map>,
    /// Instructions that the verifier has followed, if the kernel says it.
    pub verified_instructions: Option<u32>,
    /// How long the kernel took to verify and translate the program; `None` if it was there already.
    pub load_time: Option<Duration>,
    pub(super) pinning: Option<Pinning>,
    /// The programs of network cards, until they are adopted.
    pub(super) cards: Mutex<Cards>,
    /// The kernel's numbers of them.
    pub(super) card_programs: Vec<u32>,
    /// Settings of interfaces that are changed for it.
    pub tuning: Tuning,
}

/// Where a program is pinned.
pub(super) struct Pinning {
    pub directory: Directory,
    /// Links that were there already, until they are adopted.
    pub links: Mutex<Vec<Link>>,
    /// Whether everything is taken down on drop, because the start that has made it failed.
    pub provisional: AtomicBool,
}

impl Pinning {
    /// In a directory, without links.
    pub fn new(directory: Directory) -> Self {
        Self { directory, links: Mutex::default(), provisional: AtomicBool::new(false) }
    }
}

impl Drop for Pinning {
    fn drop(&mut self) {
        if !*self.provisional.get_mut() {
            return;
        }
        match self.directory.take_down() {
            Ok(cleared) => cleared.undone.iter().for_each(Undone::log),
            Err(error) => tracing::warn!("what was pinned is still there: {error:#}"),
        }
    }
}

impl Loaded {
    /// The program that packets come to, to be attached.
    #[must_use]
    pub fn entry(&self) -> BorrowedFd<'_> {
        self.entry.as_fd()
    }

    /// The program `entry`, with what it needs.
    pub(super) fn new(entry: OwnedFd, id: u32, maps: Vec<Map>) -> Self {
        Self {
            entry,
            id,
            maps,
            verified_instructions: None,
            load_time: None,
            pinning: None,
            cards: Mutex::default(),
            card_programs: Vec::new(),
            tuning: Tuning::default(),
        }
    }

    /// Where the program writes single packets to.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub fn traces(&self) -> anyhow::Result<RingBuf<&MapData>> {
        RingBuf::try_from(self.ring(TRACE_MAP).context("the XDP program has no map TRACE")?)
            .context("cannot read the XDP program's map TRACE")
    }

    /// Where it is pinned.
    #[must_use]
    pub fn pins(&self) -> Option<&Directory> {
        self.pinning.as_ref().map(|pinning| &pinning.directory)
    }

    /// The map of what other trackers are to be told of.
    #[must_use]
    pub fn changes(&self) -> Option<OwnedFd> {
        let Some(Map::RingBuf(map)) = self.ring(CHANGES_MAP) else { return None };
        map.fd().as_fd().try_clone_to_owned().ok()
    }

    /// The ring buffer of this name.
    fn ring(&self, name: &str) -> Option<&Map> {
        let is_it = |map: &MapData| map.info().is_ok_and(|info| info.name() == name.as_bytes());
        self.maps.iter().find(|map| matches!(map, Map::RingBuf(ring) if is_it(ring)))
    }

    /// The start has succeeded: what was pinned stays when this process ends.
    pub fn settle(&self) {
        if let Some(pinning) = &self.pinning {
            pinning.provisional.store(false, Ordering::Relaxed);
        }
    }

    /// The links that were there before this process.
    pub(super) fn inherited_links(&self) -> Vec<Link> {
        let Some(pinning) = &self.pinning else { return Vec::new() };
        std::mem::take(&mut *pinning.links.lock().unwrap_or_else(PoisonError::into_inner))
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
        Self::load_from(Source { object: &object()?, sizes, pinned: &[] })
    }

    /// The same from a given object, with maps that are there already.
    pub(super) fn load_from(source: Source<'_>) -> anyhow::Result<Self> {
        // The log of a big program takes the verifier and the loader many times as long as the
        // verification itself.
        let begin = Instant::now();
        let mut ebpf = open(source, VerifierLogLevel::STATS)?;
        let mut verified_instructions = Some(0);
        for name in names() {
            if let Err(error) = program(&mut ebpf, name)?.load() {
                drop(ebpf);
                return Err(explain_refusal(source, name, error));
            }
            let information = information(&mut ebpf, name)?;
            verified_instructions =
                verified_instructions.zip(information.verified_instruction_count()).map(|(sum, one)| sum + one);
        }
        let load_time = begin.elapsed();
        for (place, name) in TailCalled::ALL.iter().map(|program| (*program as u32, program.name())) {
            let file = program(&mut ebpf, name)?.fd()?.try_clone()?;
            let map = ebpf.map_mut(PROGRAMS).with_context(|| format!("the eBPF object has no map {PROGRAMS}"))?;
            let mut programs: ProgramArray<&mut MapData> =
                map.try_into().with_context(|| format!("the eBPF object's map {PROGRAMS} holds no programs"))?;
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
        let entry = program(&mut ebpf, PROGRAM)?.fd()?.as_fd().try_clone_to_owned()?;
        let mut loaded = Loaded::new(entry, information.id(), Vec::new());
        loaded.verified_instructions = verified_instructions;
        loaded.load_time = Some(load_time);
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
        let map = self.ebpf.take_map(COUNTERS_MAP).context("the eBPF object has no map COUNTERS")?;
        counters(map)
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

/// A reader of the counters in a map.
pub(super) fn counters(map: Map) -> anyhow::Result<KernelCounters> {
    let map: PerCpuArray<MapData, Counters> =
        map.try_into().context("the eBPF object's map COUNTERS is not what this daemon expects")?;
    Ok(Box::new(move || Ok(map.get(&0, 0).context("cannot read the XDP program's counters")?.to_vec())))
}

fn information(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<ProgramInfo> {
    program(ebpf, name)?.info().with_context(|| format!("cannot ask the kernel about the XDP program {name}"))
}
