//! What the kernel's refusals mean, for the person who must act.

use super::{
    netlink::{AttachedMode, AttachedProgram, Interface},
    object::{Source, open, program},
    system::{kernel_release, os_error},
};
use anyhow::{anyhow, bail};
use aya::{
    VerifierLogLevel,
    programs::{ProgramError, loaded_programs},
};
use std::{fs, io, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

/// Why an interface did not take the program.
pub(super) enum Refusal {
    /// Another program is in the way, or there is an error that another mode does not change.
    Taken(anyhow::Error),
    /// Not in this mode.
    Unfit(String),
}

impl Refusal {
    /// What it means that the kernel has refused to attach the program to `interface` in a mode.
    pub(super) fn new(interface: &Interface, mode: AttachedMode, error: io::Error) -> Self {
        let name = &interface.name;
        let code = error.raw_os_error();
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
                let mode = mode.label();
                Refusal::Unfit(format!("{name} does not take the program in {mode} mode{advice}: {error}"))
            }
        }
    }
}

/// XDP programs on an interface, for people.
pub(super) fn describe(programs: &[AttachedProgram]) -> String {
    let describe = |attached: &AttachedProgram| {
        let name = loaded_programs()
            .flatten()
            .find(|program| program.id() == attached.program)
            .and_then(|program| program.name_as_str().map(str::to_owned))
            .filter(|name| !name.is_empty());
        let name = name.map_or_else(String::new, |name| format!(" {name:?}"));
        format!("the {} XDP program{name} (number {})", attached.mode.label(), attached.program)
    };
    programs.iter().map(describe).collect::<Vec<_>>().join(" and ")
}

/// Loads once more with the verifier's log, and puts that into a file.
pub(super) fn explain_refusal(source: Source<'_>, name: &str, error: ProgramError) -> anyhow::Error {
    if os_error(&error) == Some(libc::EPERM) {
        return anyhow!(error).context(
            "the kernel does not let this process load the XDP program: in a container the privileges have to be those of \
             the host, and the kernel must not be locked down (/sys/kernel/security/lockdown)",
        );
    }
    // At this level, only the log of the refused path is left at the end.
    let log = open(source, VerifierLogLevel::DEBUG | VerifierLogLevel::STATS).and_then(|mut ebpf| {
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

/// The message of the verifier. Without a log of instructions it is the first line.
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
    // A new file only: users who can write to the directory must not choose what is overwritten.
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(log.as_bytes())?;
    Ok(path)
}
