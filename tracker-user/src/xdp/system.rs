//! Whether this system and this process can use XDP at all: processor, kernel, privileges.

use anyhow::{Context as _, anyhow, ensure};
use aya::{programs::ProgramError, util::KernelVersion};
use std::{fs, io};

/// The oldest kernel the XDP program is made for: `bpf_loop` (5.17), `bpf_xdp_load_bytes` (5.18),
/// and a verifier that is known to accept it.
pub const OLDEST_KERNEL: KernelVersion = KernelVersion::new(6, 1, 0);
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Whether this system and this process can use XDP at all.
///
/// # Errors
/// What is missing, and how to get it.
pub fn check_system() -> anyhow::Result<()> {
    // Readers in the XDP program rely on loads staying in order
    // (`tracker_common::word::loads_done`).
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

/// The kernel's release, as `uname -r` says it.
pub(super) fn kernel_release() -> String {
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

/// The system's error number somewhere behind `error`.
pub(crate) fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
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
