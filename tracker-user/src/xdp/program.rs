//! Loads the XDP program, attaches it, and detaches it again.
//!
//! It is attached through BPF links: the kernel never lets a link take the place of a program that is there already, and takes
//! the program off the interface when this process ends, however it ends.

use super::{
    bpf_link, memory_limit,
    refusal::{Refusal, describe, explain_refusal, os_error, refusal},
};
use crate::{
    configuration::XdpMode,
    memory::{Counters, Store},
    netlink::{self, AttachedMode, Interface},
    object,
    sizes::Sizes,
};
use anyhow::{Context as _, anyhow, bail, ensure};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Map, MapData, PerCpuArray, ProgramArray},
    programs::{ProgramInfo, Xdp, links::FdLink},
};
use std::{
    iter,
    os::fd::AsFd as _,
    time::{Duration, Instant},
};
use tracker_common::{outcome::COUNTERS, programs::NAMES};

/// The name in the object of the program that packets come to.
const PROGRAM: &str = "tracker";

/// The map of those that it goes on in.
const PROGRAMS: &str = "PROGRAMS";

/// Reads what the XDP program has counted, on all cores together.
pub type KernelCounters = Box<dyn Fn() -> anyhow::Result<Counters> + Send + Sync>;

/// Finds the interfaces of these names.
///
/// # Errors
/// When one is not there, or cannot carry the program.
pub fn find_interfaces(names: &[String]) -> anyhow::Result<Vec<Interface>> {
    let all = netlink::interfaces()?;
    let find = |name: &String| {
        let interface = all.iter().find(|interface| interface.name == *name).with_context(|| {
            let names: Vec<_> = all.iter().map(|interface| interface.name.as_str()).collect();
            format!("there is no network interface {name}; there are {}", names.join(", "))
        })?;
        ensure!(
            interface.mac.is_some() && !interface.loopback,
            "{name} is not an Ethernet interface, so the XDP program can do nothing there; the sockets answer on it, leave \
             out --interface {name}"
        );
        Ok(interface.clone())
    };
    names.iter().map(find).collect()
}

/// The XDP program in the kernel, ready to be attached. It is detached and unloaded when this is dropped.
pub struct Program {
    ebpf: Ebpf,
    attached: Attached,
}

/// The XDP program where it has been attached to. It is detached and unloaded when this is dropped.
pub struct Attached {
    links: Vec<FdLink>,
    /// The kernel empties it when nobody holds it open any more.
    _programs: ProgramArray<MapData>,
    /// Held open although the programs keep them: so the kernel shows their memory with this process (`/proc/PID/fdinfo`).
    maps: Vec<Map>,
    /// What the verifier had to do.
    pub verified_instructions: Option<u32>,
    /// How long the kernel took to verify and translate the program.
    pub load_time: Duration,
}

/// What became of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the interface.
    pub interface: String,
    /// Its number.
    pub index: u32,
    /// Where the program runs there; `None` if it could not be attached.
    pub mode: Option<AttachedMode>,
    /// Why it is not a better one, for people.
    pub reason: Option<String>,
}

impl Program {
    /// Makes the maps, of the sizes given, and loads the program.
    ///
    /// # Errors
    /// When the object cannot be read or the kernel refuses it; the verifier's log is kept in a file that the error names.
    pub fn load(sizes: &Sizes) -> anyhow::Result<Self> {
        memory_limit::check(sizes)?;
        let object = object::object()?;
        // The log of a big program takes the verifier and the loader many times as long as the verification itself.
        let begin = Instant::now();
        let mut ebpf = open(&object, sizes, VerifierLogLevel::STATS)?;
        let mut verified_instructions = Some(0);
        for name in iter::once(PROGRAM).chain(NAMES) {
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
        for (place, name) in (0..).zip(NAMES) {
            let file = program(&mut ebpf, name)?.fd()?.try_clone()?;
            programs
                .set(place, &file, 0)
                .with_context(|| format!("cannot put the XDP program {name} where {PROGRAM} goes on in it"))?;
        }
        if information(&mut ebpf, PROGRAM)?.size_jitted() == 0 {
            tracing::warn!(
                "the kernel interprets the XDP program instead of translating it, which is several times slower: \
                 set net.core.bpf_jit_enable to 1 (sysctl)"
            );
        }
        let attached =
            Attached { links: Vec::new(), _programs: programs, maps: Vec::new(), verified_instructions, load_time };
        Ok(Self { ebpf, attached })
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

    /// Shows the program's log lines, if it was built with any.
    pub fn show_log(&mut self) {
        if self.ebpf.map("AYA_LOGS").is_none() {
            return;
        }
        match aya_log::EbpfLogger::init(&mut self.ebpf) {
            Ok(mut logger) => {
                std::thread::spawn(move || {
                    loop {
                        logger.flush();
                        std::thread::sleep(Duration::from_millis(100));
                    }
                });
            }
            Err(error) => tracing::warn!("cannot show the XDP program's log: {error}"),
        }
    }

    /// Attaches the program to an interface in the best of the modes that `mode` allows.
    ///
    /// In mode auto an interface that takes the program in no mode is not an error: the sockets answer there. One that has
    /// somebody else's program always is, unless `force`.
    ///
    /// # Errors
    /// As said, or when the mode asked for does not work.
    pub fn attach(&mut self, interface: &Interface, mode: XdpMode, force: bool) -> anyhow::Result<Attachment> {
        let name = &interface.name;
        if !interface.xdp.is_empty() {
            if !force {
                bail!(
                    "{name} already has {}: stop what attached it, or take its place with --force",
                    describe(interface)
                );
            }
            tracing::warn!("{name} has {}, whose place is taken because of --force", describe(interface));
            bpf_link::detach_all(interface)?;
        }
        let modes: &[AttachedMode] = match mode {
            XdpMode::Auto => &[AttachedMode::Native, AttachedMode::Generic],
            XdpMode::Native => &[AttachedMode::Native],
            XdpMode::Generic => &[AttachedMode::Generic],
            XdpMode::Off => &[],
        };
        let mut reasons = Vec::new();
        for &mode in modes {
            match self.attach_in(interface, mode) {
                Ok(()) => {
                    return Ok(Attachment {
                        interface: name.clone(),
                        index: interface.index,
                        mode: Some(self.confirm(interface)?),
                        reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
                    });
                }
                Err(Refusal::Taken(error)) => return Err(error),
                Err(Refusal::Unfit(reason)) => reasons.push(reason),
            }
        }
        let reason = reasons.join("; ");
        match mode {
            XdpMode::Auto | XdpMode::Off => {
                Ok(Attachment { interface: name.clone(), index: interface.index, mode: None, reason: Some(reason) })
            }
            XdpMode::Native => {
                bail!("{reason}. --xdp-mode auto goes on with generic XDP then, and without it with sockets")
            }
            XdpMode::Generic => bail!("{reason}. --xdp-mode off answers through sockets"),
        }
    }

    fn attach_in(&mut self, interface: &Interface, mode: AttachedMode) -> Result<(), Refusal> {
        let flags = match mode {
            AttachedMode::Generic => aya::programs::XdpMode::Skb,
            AttachedMode::Native => aya::programs::XdpMode::Driver,
            AttachedMode::Offloaded => aya::programs::XdpMode::Hardware,
        };
        let program = program(&mut self.ebpf, PROGRAM).map_err(Refusal::Taken)?;
        let link =
            program.attach_to_if_index(interface.index, flags).map_err(|error| refusal(interface, mode, error))?;
        // aya attaches without a link where the kernel refuses one for reasons of its own; without a link the kernel does not
        // promise what this module's text says.
        let link = program.take_link(link).map_err(|error| Refusal::Unfit(error.to_string()))?;
        let link = FdLink::try_from(link).map_err(|_| {
            Refusal::Unfit(format!("the kernel gives no BPF link for {} XDP on {}", mode.label(), interface.name))
        })?;
        self.attached.links.push(link);
        Ok(())
    }

    /// Keeps what holds the program where it is, and gives back what took it there: instructions, and above all what the loader
    /// has read about the types of the whole kernel, several megabytes.
    #[must_use]
    pub fn keep(self) -> Attached {
        let Self { mut ebpf, mut attached } = self;
        let names: Vec<_> = ebpf.maps().map(|(name, _)| name.to_owned()).collect();
        attached.maps = names.iter().filter_map(|name| ebpf.take_map(name)).collect();
        drop(ebpf);
        // The allocator keeps what is freed below anything that is still in use, which nothing of this size will need again.
        #[cfg(target_env = "gnu")]
        // SAFETY: it may be called at any time.
        unsafe {
            libc::malloc_trim(0);
        }
        attached
    }

    /// Asks the kernel where the program runs on an interface.
    fn confirm(&mut self, interface: &Interface) -> anyhow::Result<AttachedMode> {
        let id = information(&mut self.ebpf, PROGRAM)?.id();
        let interfaces = netlink::interfaces()?;
        let now = interfaces.iter().find(|other| other.index == interface.index);
        let ours = now.and_then(|now| now.xdp.iter().find(|attached| attached.program == id));
        let Some(ours) = ours else {
            bail!("the kernel took the XDP program (number {id}) for {} but does not show it there", interface.name)
        };
        tracing::debug!("XDP program {id} is attached to {} in {} mode", interface.name, ours.mode.label());
        Ok(ours.mode)
    }
}

/// Makes the maps; the program is not loaded yet.
pub(super) fn open(object: &[u8], sizes: &Sizes, log: VerifierLogLevel) -> anyhow::Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(log);
    let regions = sizes.regions();
    for region in &regions {
        loader.map_max_entries(region.name, region.count);
    }
    let ebpf = loader.load(object).map_err(|error| {
        let advice = match os_error(&error) {
            Some(libc::ENOMEM | libc::E2BIG) => {
                format!(
                    ": its maps take {}, which this machine does not have free; lower --max-torrents and --max-peers",
                    crate::sizes::human(sizes.bytes())
                )
            }
            Some(libc::EPERM) => {
                ": not permitted; in a container the privileges have to be those of the host, and the \
                                  kernel must not be locked down (/sys/kernel/security/lockdown)"
                    .into()
            }
            _ => String::new(),
        };
        anyhow!(error).context(format!("cannot make the maps of the XDP program{advice}"))
    })?;
    Ok(ebpf)
}

pub(super) fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> anyhow::Result<&'e mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| format!("the eBPF object has no program {name}"))?;
    program.try_into().with_context(|| format!("the eBPF object's program {name} is not an XDP program"))
}

fn information(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<ProgramInfo> {
    program(ebpf, name)?.info().with_context(|| format!("cannot ask the kernel about the XDP program {name}"))
}
