//! Loading an object's programs into the kernel for the sake of what the verifier says.
//!
//! The loader in aya gives the verifier a log only after a first load without one has failed, and
//! so never shows the statistics of a program that loads. This one asks for them. Parsing,
//! relocation and the creation of maps are aya's.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::CString,
    io, mem,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use aya::maps::MapData;
use aya_obj::{
    EbpfSectionKind, Function, Object, Program, ProgramSection,
    generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_info, bpf_prog_type},
    maps::PinningType,
};
use serde::{Deserialize, Serialize};

/// Maps are created no larger than this: the verifier does not care, and the store's real maps take
/// gigabytes.
const MAXIMUM_ENTRIES: u32 = 1024;

/// Values of `log_level` in BPF_PROG_LOAD (linux/bpf_verifier.h): the path that was being followed,
/// and the statistics.
const LOG_PATH: u32 = 1;
const LOG_STATISTICS: u32 = 4;

/// Bytes for a log with every path. Linux 6.1 takes up to 1 GiB.
const LONG_LOG: u32 = 256 << 20;

/// Flag of BPF_PROG_LOAD for programs in sections `xdp.frags` (linux/bpf.h).
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// What the kernel says about one program.
#[derive(Debug, Serialize, Deserialize)]
pub struct Statistics {
    /// Instructions the verifier followed, every path counted. It gives up at one million.
    pub processed_instructions: u64,
    pub total_states: u64,
    pub peak_states: u64,
    /// Bytes of stack of the main function and of every subprogram, for example 96+32.
    pub stack_depth: String,
    /// The verifier's own time. None before Linux 5.2.
    pub verification_time: Option<Duration>,
    /// From system call to answer: verification and JIT.
    pub load_time: Duration,
    /// Bytes of bytecode after the verifier rewrote it, and of machine code.
    pub translated_size: u32,
    pub jited_size: u32,
}

impl Statistics {
    /// Bytes of stack of the program's main function.
    pub fn own_stack(&self) -> u64 {
        self.stack_depth.split('+').next().and_then(|own| own.parse().ok()).unwrap_or(0)
    }
}

/// Why a program did not load.
pub struct Refused {
    pub error: io::Error,
    /// The path that the verifier was following when it gave up, and its statistics.
    pub log: String,
}

/// An object whose maps exist and whose programs are ready to be loaded.
pub struct Prepared {
    object: Object,
    btf: Option<OwnedFd>,
    /// Programs hold on to their maps once loaded; until then the maps live here.
    _maps: BTreeMap<String, (aya_obj::Map, MapData)>,
}

impl Prepared {
    pub fn new(elf: &[u8]) -> anyhow::Result<Self> {
        let mut object = Object::parse(elf).context("cannot parse the object")?;
        let btf = match aya::features().btf() {
            Some(features) => match object.fixup_and_sanitize_btf(features).context("the object's BTF is broken")? {
                Some(btf) => Some(load_btf(&btf.to_bytes())?),
                None => None,
            },
            None => None,
        };

        let mut maps = BTreeMap::new();
        for (name, mut map) in object.maps.drain() {
            ensure!(
                map.pinning() == PinningType::None,
                "map {name} asks to be pinned by its name; here that would touch a running tracker's maps. Where maps are \
                 pinned is for the daemon to say"
            );
            if matches!(map.section_kind(), EbpfSectionKind::Maps | EbpfSectionKind::BtfMaps) {
                map.set_max_entries(map.max_entries().min(entries_limit(map.map_type())));
            }
            let definition = map.clone();
            let map = MapData::create(map, &name, btf.as_ref().map(|btf| btf.as_fd())).with_context(|| {
                format!("cannot create map {name} (run as root, or with CAP_BPF and CAP_NET_ADMIN)")
            })?;
            if !definition.data().is_empty() {
                set_only_element(&map, definition.data()).with_context(|| format!("cannot fill map {name}"))?;
            }
            if definition.section_kind() == EbpfSectionKind::Rodata {
                // The verifier takes what it reads in a frozen map for constant, as it will in the
                // daemon.
                freeze(&map).with_context(|| format!("cannot freeze map {name}"))?;
            }
            maps.insert(name, (definition, map));
        }

        let text_sections: HashSet<usize> = object.functions.keys().map(|&(section, _)| section).collect();
        let created =
            maps.iter().map(|(name, (definition, map))| (name.as_str(), map.fd().as_fd().as_raw_fd(), definition));
        object.relocate_maps(created, &text_sections).context("cannot relocate the object's maps")?;
        object.relocate_calls(&text_sections).context("cannot relocate the object's calls")?;
        object.sanitize_functions(aya::features());
        Ok(Self { object, btf, _maps: maps })
    }

    /// The programs' names, sorted.
    pub fn programs(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.object.programs.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Loads the program `name`, which is one of [`Self::programs`], and lets go of it again.
    pub fn load(&self, name: &str) -> anyhow::Result<Result<Statistics, Refused>> {
        let program = &self.object.programs[name];
        let function = &self.object.functions[&program.function_key()];

        // The statistics are a few lines, whatever the program.
        let started = Instant::now();
        let (loaded, log) = self.load_with_log(name, program, function, LOG_STATISTICS, 64 << 10)?;
        let load_time = started.elapsed();
        match loaded {
            Ok(fd) => statistics(&fd, &log, load_time).map(Ok),
            // Only now the long log: with it a big program takes minutes, and memory that the
            // kernel does not write costs nothing. Of a log that does not fit Linux keeps the end
            // since 6.4; before, it keeps the beginning and says that there was no room instead of
            // why it refused the program. That stands in the short log as well.
            Err(refused) => match self.load_with_log(name, program, function, LOG_PATH | LOG_STATISTICS, LONG_LOG)? {
                (Err(error), path) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    let log = format!("{path}\n[the log ends here, for it was longer than {LONG_LOG} bytes]\n{log}");
                    Ok(Err(Refused { error: refused, log }))
                }
                (Err(error), log) => Ok(Err(Refused { error, log })),
                (Ok(_), _) => {
                    bail!("the kernel refused program {name} at first and took it the second time: try again")
                }
            },
        }
    }

    fn load_with_log(
        &self,
        name: &str,
        program: &Program,
        function: &Function,
        log_level: u32,
        log_size: u32,
    ) -> anyhow::Result<(io::Result<OwnedFd>, String)> {
        let (program_type, attach_type, flags) = load_as(&program.section)
            .with_context(|| format!("program {name} is of a type that xtask/src/verifier.rs does not know yet"))?;
        let func_info = function.func_info.func_info_bytes();
        let line_info = function.line_info.line_info_bytes();
        let mut log = vec![0_u8; log_size as usize];
        let name = CString::new(name).context("a program's name holds a NUL")?;

        let mut attributes = zeroed_attributes();
        // SAFETY: the attributes are zeroed, which is a value of every member of the union;
        // BPF_PROG_LOAD reads this one.
        let load = unsafe { &mut attributes.__bindgen_anon_3 };
        // The kernel wants a NUL at the end of its 16 bytes.
        for (to, from) in load.prog_name[..15].iter_mut().zip(name.as_bytes()) {
            *to = from.cast_signed();
        }
        load.prog_type = program_type as u32;
        load.expected_attach_type = attach_type as u32;
        load.prog_flags = flags;
        load.insns = function.instructions.as_ptr() as u64;
        load.insn_cnt = u32::try_from(function.instructions.len())?;
        load.license = program.license.as_ptr() as u64;
        load.log_level = log_level;
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = log_size;
        if let Some(btf) = &self.btf {
            load.prog_btf_fd = btf.as_raw_fd().cast_unsigned();
            load.func_info = func_info.as_ptr() as u64;
            load.func_info_cnt = u32::try_from(function.func_info.len())?;
            load.func_info_rec_size = u32::try_from(function.func_info_rec_size)?;
            load.line_info = line_info.as_ptr() as u64;
            load.line_info_cnt = u32::try_from(function.line_info.len())?;
            load.line_info_rec_size = u32::try_from(function.line_info_rec_size)?;
        }
        // SAFETY: all pointers lead to buffers of the sizes given beside them, which outlive the
        // call.
        let loaded = unsafe { bpf(bpf_cmd::BPF_PROG_LOAD, &mut attributes) };
        // SAFETY: BPF_PROG_LOAD returns a new file descriptor that nobody else owns.
        let loaded = loaded.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        Ok((loaded, until_nul(&log)))
    }
}

/// Program type, attach type and flags for a program from `section`.
fn load_as(section: &ProgramSection) -> Option<(bpf_prog_type, bpf_attach_type, u32)> {
    if let ProgramSection::Xdp { frags, attach_type } = section {
        let flags = if *frags { BPF_F_XDP_HAS_FRAGS } else { 0 };
        return Some((bpf_prog_type::BPF_PROG_TYPE_XDP, (*attach_type).into(), flags));
    }
    None
}

/// How many entries a map of this type may get here.
fn entries_limit(map_type: u32) -> u32 {
    // For a ring buffer the number is its size in bytes, and a power of two times the page size.
    if map_type == aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32 { 1 << 20 } else { MAXIMUM_ENTRIES }
}

fn statistics(program: &OwnedFd, log: &str, load_time: Duration) -> anyhow::Result<Statistics> {
    // SAFETY: a struct of integers, for which zero is a value.
    let mut info: bpf_prog_info = unsafe { mem::zeroed() };
    let mut attributes = zeroed_attributes();
    attributes.info.bpf_fd = program.as_raw_fd().cast_unsigned();
    attributes.info.info = (&raw mut info) as u64;
    attributes.info.info_len = u32::try_from(size_of_val(&info))?;
    // SAFETY: the kernel writes at most `info_len` bytes to `info`, and reads no further pointer,
    // for all are zero.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }
        .context("cannot read the program's information")?;
    parse_log(log, load_time, info.xlated_prog_len, info.jited_prog_len)
        .with_context(|| format!("the verifier's statistics read otherwise than expected:\n{log}"))
}

/// Reads lines like these (kernel/bpf/verifier.c, print_verification_stats):
/// `verification time 118 usec`, `stack depth 8+0`, and
/// `processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 3 peak_states 1 mark_read 0`.
fn parse_log(log: &str, load_time: Duration, translated_size: u32, jited_size: u32) -> Option<Statistics> {
    let line = |start: &str| log.lines().find_map(|line| line.strip_prefix(start));
    let processed = line("processed ")?;
    let number_after = |word: &str| processed.split(word).nth(1)?.split_whitespace().next()?.parse().ok();
    Some(Statistics {
        processed_instructions: processed.split(' ').next()?.parse().ok()?,
        total_states: number_after("total_states ")?,
        peak_states: number_after("peak_states ")?,
        stack_depth: line("stack depth ")?.trim().to_owned(),
        verification_time: line("verification time ")
            .and_then(|time| Some(Duration::from_micros(time.split(' ').next()?.parse().ok()?))),
        load_time,
        translated_size,
        jited_size,
    })
}

fn load_btf(btf: &[u8]) -> anyhow::Result<OwnedFd> {
    let mut log = vec![0_u8; 64 << 10];
    let mut attributes = zeroed_attributes();
    // SAFETY: the attributes are zeroed, which is a value of every member of the union;
    // BPF_BTF_LOAD reads this one.
    let load = unsafe { &mut attributes.__bindgen_anon_7 };
    load.btf = btf.as_ptr() as u64;
    load.btf_size = u32::try_from(btf.len())?;
    load.btf_log_level = LOG_PATH;
    load.btf_log_buf = log.as_mut_ptr() as u64;
    load.btf_log_size = u32::try_from(log.len())?;
    // SAFETY: both pointers lead to buffers of the sizes given beside them, which outlive the call.
    match unsafe { bpf(bpf_cmd::BPF_BTF_LOAD, &mut attributes) } {
        // SAFETY: BPF_BTF_LOAD returns a new file descriptor that nobody else owns.
        Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        // A log that is too short is an error too, though the BTF itself is sound.
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => load_btf_without_log(btf),
        Err(error) => Err(error).with_context(|| {
            let log = until_nul(&log);
            let end: Vec<&str> = log.lines().rev().take(20).collect();
            let end: Vec<&str> = end.into_iter().rev().collect();
            format!("the kernel refuses the object's BTF (root is needed); end of its log:\n{}", end.join("\n"))
        }),
    }
}

fn load_btf_without_log(btf: &[u8]) -> anyhow::Result<OwnedFd> {
    let mut attributes = zeroed_attributes();
    // SAFETY: as in load_btf.
    let load = unsafe { &mut attributes.__bindgen_anon_7 };
    load.btf = btf.as_ptr() as u64;
    load.btf_size = u32::try_from(btf.len())?;
    // SAFETY: as in load_btf.
    let fd = unsafe { bpf(bpf_cmd::BPF_BTF_LOAD, &mut attributes) }.context("the kernel refuses the object's BTF")?;
    // SAFETY: as in load_btf.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets the one element of a map of global data.
fn set_only_element(map: &MapData, content: &[u8]) -> io::Result<()> {
    let key = 0_u32;
    let mut attributes = zeroed_attributes();
    // SAFETY: the attributes are zeroed, which is a value of every member of the union;
    // BPF_MAP_UPDATE_ELEM reads this one.
    let update = unsafe { &mut attributes.__bindgen_anon_2 };
    update.map_fd = map.fd().as_fd().as_raw_fd().cast_unsigned();
    update.key = (&raw const key) as u64;
    update.__bindgen_anon_1.value = content.as_ptr() as u64;
    // SAFETY: the key is four bytes, as array maps have it, and the map's value size is the length
    // of the section that `content` was read from.
    unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attributes) }.map(drop)
}

fn freeze(map: &MapData) -> io::Result<()> {
    let mut attributes = zeroed_attributes();
    attributes.__bindgen_anon_2.map_fd = map.fd().as_fd().as_raw_fd().cast_unsigned();
    // SAFETY: BPF_MAP_FREEZE reads a file descriptor and no pointer.
    unsafe { bpf(bpf_cmd::BPF_MAP_FREEZE, &mut attributes) }.map(drop)
}

fn zeroed_attributes() -> bpf_attr {
    // SAFETY: a union of structs of integers, for all of which zero is a value. The kernel wants
    // unused bytes to be zero.
    unsafe { mem::zeroed() }
}

/// The bpf system call.
///
/// # Safety
///
/// `attributes` must be what `command` expects, with pointers that are valid for the call.
unsafe fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: the caller answers for the attributes; their size is that of the union.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_long, std::ptr::from_mut(attributes), size_of::<bpf_attr>())
    };
    i32::try_from(result).ok().filter(|&result| result >= 0).ok_or_else(io::Error::last_os_error)
}

fn until_nul(buffer: &[u8]) -> String {
    let text = buffer.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_from_the_verifier_log() {
        let log = "verification time 118 usec\nstack depth 96+32\n\
                   processed 1234 insns (limit 1000000) max_states_per_insn 4 total_states 56 peak_states 30 mark_read 7\n";
        let statistics = parse_log(log, Duration::from_millis(1), 800, 500).unwrap();
        assert_eq!(statistics.processed_instructions, 1234);
        assert_eq!((statistics.total_states, statistics.peak_states), (56, 30));
        assert_eq!(statistics.stack_depth, "96+32");
        assert_eq!(statistics.verification_time, Some(Duration::from_micros(118)));
        assert!(parse_log("", Duration::ZERO, 0, 0).is_none());
    }
}
