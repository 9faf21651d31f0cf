//! Loads the XDP program, attaches it, and detaches it again.
//!
//! It is attached through BPF links: the kernel never lets a link take the place of a program that is there already, and takes
//! the program off the interface when this process ends, however it ends.

use crate::{
    bpf_link,
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
    programs::{ProgramError, ProgramInfo, Xdp, links::FdLink, loaded_programs},
    util::KernelVersion,
};
use std::{
    fs, io,
    io::Write as _,
    iter,
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::PathBuf,
    time::{Duration, Instant},
};
use tracker_common::{outcome::COUNTERS, programs::NAMES};

/// The oldest kernel the XDP program is made for: `bpf_loop` (5.17), `bpf_xdp_store_bytes` (5.18), and a verifier that is known
/// to accept it.
pub const OLDEST_KERNEL: KernelVersion = KernelVersion::new(6, 1, 0);

/// The name in the object of the program that packets come to.
const PROGRAM: &str = "tracker";

/// The map of those that it goes on in.
const PROGRAMS: &str = "PROGRAMS";

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Reads what the XDP program has counted, on all cores together.
pub type KernelCounters = Box<dyn Fn() -> anyhow::Result<Counters> + Send + Sync>;

/// Whether this system and this process can use XDP at all.
///
/// # Errors
/// What is missing, and how to get it.
pub fn check_system() -> anyhow::Result<()> {
    // Readers in the XDP program rely on loads staying in order (`tracker_common::word::loads_done`).
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the XDP program is made for x86-64 so far, and this is {}: run with --xdp-mode off, which answers through sockets",
        std::env::consts::ARCH
    );
    let kernel = KernelVersion::current().map_err(|error| anyhow!("cannot find out the kernel's version: {error}"))?;
    ensure!(
        kernel >= OLDEST_KERNEL,
        "the XDP program needs Linux 6.1 or newer, and this is Linux {}: update the kernel, or run with --xdp-mode off",
        kernel_release()
    );
    let effective = effective_capabilities()?;
    let has = |capability: u32| effective & (1 << capability) != 0;
    // CAP_SYS_ADMIN includes the other two.
    let missing: Vec<_> = [("CAP_BPF", CAP_BPF), ("CAP_PERFMON", CAP_PERFMON), ("CAP_NET_ADMIN", CAP_NET_ADMIN)]
        .into_iter()
        .filter(|(_, capability)| !has(*capability) && (*capability == CAP_NET_ADMIN || !has(CAP_SYS_ADMIN)))
        .map(|(name, _)| name)
        .collect();
    ensure!(
        missing.is_empty(),
        "XDP takes privileges that this process does not have: {}. Run as root, or give them to the service \
         (systemd: AmbientCapabilities=CAP_BPF CAP_PERFMON CAP_NET_ADMIN) or to the program (setcap \
         cap_bpf,cap_perfmon,cap_net_admin+ep PATH), or run with --xdp-mode off",
        missing.join(", ")
    );
    Ok(())
}

fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(|_| "(unknown)".into(), |text| text.trim().to_owned())
}

fn effective_capabilities() -> anyhow::Result<u64> {
    const PATH: &str = "/proc/self/status";
    let status = fs::read_to_string(PATH).with_context(|| format!("cannot read the capabilities from {PATH}"))?;
    let bits = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.with_context(|| format!("{PATH} has no line CapEff"))
}

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

/// Why an interface did not take the program.
enum Refusal {
    /// Somebody else's program is in the way, or something is wrong that another mode does not change.
    Taken(anyhow::Error),
    /// Not in this mode.
    Unfit(String),
}

fn refusal(interface: &Interface, mode: AttachedMode, error: ProgramError) -> Refusal {
    let name = &interface.name;
    let code = os_error(&error);
    let mode_label = mode.label();
    match code {
        Some(libc::EBUSY | libc::EEXIST) => Refusal::Taken(anyhow!(
            "another XDP program was attached to {name} meanwhile: stop what attached it, or take its place with --force"
        )),
        Some(libc::EPERM | libc::EACCES) => {
            Refusal::Taken(anyhow!(error).context(format!("the kernel does not let this process attach to {name}")))
        }
        Some(libc::ENODEV) => Refusal::Taken(anyhow!("the interface {name} is gone")),
        _ => {
            let advice = match (mode, code) {
                (AttachedMode::Native, Some(libc::EOPNOTSUPP)) => " (its driver has no native XDP)".into(),
                (AttachedMode::Native, Some(libc::EINVAL | libc::ERANGE | libc::E2BIG)) => format!(
                    " (drivers refuse a large MTU, here {}, or receive offloads: see `dmesg`, try `ip link set {name} mtu \
                     1500` and `ethtool -K {name} lro off rx-gro-hw off`)",
                    interface.mtu
                ),
                (AttachedMode::Native, Some(libc::ENOMEM | libc::ENOSPC)) => {
                    format!(" (it may lack a spare queue per core: try fewer with `ethtool -L {name} combined N`)")
                }
                _ => String::new(),
            };
            let said = code.map_or_else(|| error.to_string(), |code| io::Error::from_raw_os_error(code).to_string());
            Refusal::Unfit(format!("{name} does not take the program in {mode_label} mode{advice}: {said}"))
        }
    }
}

/// The system's error number somewhere behind `error`.
fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut error = Some(error);
    while let Some(this) = error {
        if let Some(code) = this.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(code);
        }
        if let Some(ProgramError::LoadError { io_error, .. }) = this.downcast_ref() {
            return io_error.raw_os_error();
        }
        error = this.source();
    }
    None
}

/// The programs on an interface, for people.
fn describe(interface: &Interface) -> String {
    let describe = |attached: &netlink::AttachedProgram| {
        let name = loaded_programs()
            .flatten()
            .find(|program| program.id() == attached.program)
            .and_then(|program| program.name_as_str().map(str::to_owned))
            .filter(|name| !name.is_empty());
        let name = name.map_or_else(String::new, |name| format!(" {name:?}"));
        format!("the {} XDP program{name} (number {})", attached.mode.label(), attached.program)
    };
    interface.xdp.iter().map(describe).collect::<Vec<_>>().join(" and ")
}

/// Makes the maps; the program is not loaded yet.
fn open(object: &[u8], sizes: &Sizes, log: VerifierLogLevel) -> anyhow::Result<Ebpf> {
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

fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> anyhow::Result<&'e mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| format!("the eBPF object has no program {name}"))?;
    program.try_into().with_context(|| format!("the eBPF object's program {name} is not an XDP program"))
}

fn information(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<ProgramInfo> {
    program(ebpf, name)?.info().with_context(|| format!("cannot ask the kernel about the XDP program {name}"))
}

/// Loads once more with the verifier's log, and puts that into a file.
fn explain_refusal(object: &[u8], sizes: &Sizes, name: &str, error: ProgramError) -> anyhow::Error {
    if os_error(&error) == Some(libc::EPERM) {
        return anyhow!(error).context(
            "the kernel does not let this process load the XDP program: in a container the privileges have to be those of \
             the host, and the kernel must not be locked down (/sys/kernel/security/lockdown)",
        );
    }
    // Of this level the log of the path that is refused, and no other, is left at the end.
    let log =
        open(object, sizes, VerifierLogLevel::DEBUG | VerifierLogLevel::STATS).and_then(|mut ebpf| {
            match program(&mut ebpf, name)?.load() {
                Err(ProgramError::LoadError { verifier_log, .. }) => keep_log(&verifier_log.to_string()),
                Err(error) => Err(error.into()),
                Ok(()) => bail!("the second attempt, which was to show why, succeeded"),
            }
        });
    let said = verdict(&error);
    let context = match log {
        Ok(path) => format!(
            "the kernel's verifier refuses the XDP program{said}; its log is in {}. Run with --xdp-mode off meanwhile, and please \
             report it with the kernel's version ({})",
            path.display(),
            kernel_release()
        ),
        Err(error) => format!("the kernel refuses the XDP program{said}, and its log could not be kept ({error:#})"),
    };
    error_number(error).context(context)
}

/// What the verifier said in the end: without more than its statistics, that is the beginning of its log.
fn verdict(error: &ProgramError) -> String {
    let ProgramError::LoadError { verifier_log, .. } = error else { return String::new() };
    let log = verifier_log.to_string();
    log.lines().find(|line| !line.trim().is_empty()).map_or_else(String::new, |line| format!(" ({})", line.trim()))
}

/// The error without the log it carries, which may be long.
fn error_number(error: ProgramError) -> anyhow::Error {
    match os_error(&error) {
        Some(code) => io::Error::from_raw_os_error(code).into(),
        None => error.into(),
    }
}

fn keep_log(log: &str) -> anyhow::Result<PathBuf> {
    let path =
        std::env::temp_dir().join(format!("tracker-verifier-{}-{:08x}.log", std::process::id(), getrandom::u32()?));
    // A new file only: nobody who can write to the directory chooses what is overwritten.
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(log.as_bytes())?;
    Ok(path)
}
