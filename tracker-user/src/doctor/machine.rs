//! The machine: kernel, BPF, memory, clock, and what it runs in.

use super::{files::Files, finding::Finding};
use crate::{http, text::human_bytes};

/// From which size of the store on pages of 2 MiB are worth it, in bytes.
const LARGE: u64 = 1 << 30;

/// All that files tell. The store takes so many bytes.
#[must_use]
pub fn findings(files: &Files, store: u64) -> Vec<Finding> {
    [
        Some(kernel(files)),
        jit(files),
        hardening(files),
        unprivileged(files),
        lockdown(files),
        Some(bpf_file_system(files)),
        clock(files),
        available_memory(files, store),
        huge_pages(files, store),
        Some(virtualisation(files)),
        container(files),
        Some(energy(files)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn kernel(files: &Files) -> Finding {
    const CODE: &str = "kernel";
    let release = files.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|char: char| !char.is_ascii_digit()).map(|part| part.parse().unwrap_or(0_u32));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 1) {
        return Finding::good(CODE, "The kernel is new enough for XDP", release);
    }
    Finding::problem(CODE, "The XDP program needs Linux 6.1 or newer", release)
        .command("apt install linux-image-amd64    # Debian 12 or newer; then reboot")
}

/// The JIT's settings where this network namespace does not show them. `there` looks into the one of the
/// machine itself.
#[must_use]
pub fn jit_elsewhere(
    files: &Files,
    there: impl FnOnce(&Files, fn(&Files) -> Vec<Finding>) -> Option<Vec<Finding>>,
) -> Vec<Finding> {
    fn both(files: &Files) -> Vec<Finding> {
        [jit(files), hardening(files)].into_iter().flatten().collect()
    }
    if !both(files).is_empty() {
        return Vec::new();
    }
    let found = there(files, both).filter(|found| !found.is_empty());
    found.unwrap_or_else(|| {
        let text = "This network namespace does not show the settings of BPF's translation: look in the machine's own";
        vec![
            Finding::good("bpf_jit", text, "not shown")
                .command("sysctl net.core.bpf_jit_enable net.core.bpf_jit_harden"),
        ]
    })
}

fn jit(files: &Files) -> Option<Finding> {
    const CODE: &str = "bpf_jit";
    let value = files.text("/proc/sys/net/core/bpf_jit_enable")?;
    Some(if value == "0" {
        Finding::problem(CODE, "BPF programs are interpreted, which is several times slower", value)
            .command("sysctl -w net.core.bpf_jit_enable=1")
    } else {
        Finding::good(CODE, "BPF programs are translated for the processor", value)
    })
}

fn hardening(files: &Files) -> Option<Finding> {
    const CODE: &str = "bpf_jit_harden";
    let value = files.text("/proc/sys/net/core/bpf_jit_harden")?;
    Some(if value == "2" {
        let text = "Constants are blinded in programs of root, too, which makes XDP slower; 1 does it for all others";
        Finding::advice(CODE, text, value).command("sysctl -w net.core.bpf_jit_harden=1")
    } else {
        Finding::good(CODE, "Constants in root's BPF programs are not blinded", value)
    })
}

fn unprivileged(files: &Files) -> Option<Finding> {
    const CODE: &str = "unprivileged_bpf";
    let value = files.text("/proc/sys/kernel/unprivileged_bpf_disabled")?;
    Some(if value == "0" {
        let text = "Every user may load BPF programs, which the tracker does not need and attackers like";
        Finding::advice(CODE, text, value).command("sysctl -w kernel.unprivileged_bpf_disabled=1")
    } else {
        Finding::good(CODE, "Only privileged users may load BPF programs", value)
    })
}

fn lockdown(files: &Files) -> Option<Finding> {
    const CODE: &str = "lockdown";
    let text = files.text("/sys/kernel/security/lockdown")?;
    let chosen = text.split(['[', ']']).nth(1).unwrap_or_default().to_owned();
    Some(if chosen == "confidentiality" {
        let why = "The kernel is locked down so far that BPF programs may not read its memory, which XDP's helpers do";
        Finding::problem(CODE, why, chosen).command("# boot with lockdown=integrity")
    } else {
        Finding::good(CODE, "The kernel's lockdown does not hinder BPF", chosen)
    })
}

fn bpf_file_system(files: &Files) -> Finding {
    const CODE: &str = "bpf_file_system";
    let mounts = files.text("/proc/self/mounts").unwrap_or_default();
    let mut mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        (fields.next()? == "bpf").then_some(path)
    });
    match mounted.next_back() {
        Some(path) => Finding::good(CODE, "There is a BPF file system, where XDP can outlive the daemon", path),
        None => Finding::advice(
            CODE,
            "There is no BPF file system, so XDP and all swarms go with the daemon's process",
            "not mounted",
        )
        .command("mount -t bpf bpf /sys/fs/bpf"),
    }
}

fn clock(files: &Files) -> Option<Finding> {
    const CODE: &str = "clock_source";
    const DIRECTORY: &str = "/sys/devices/system/clocksource/clocksource0";
    let value = files.text(&format!("{DIRECTORY}/current_clocksource"))?;
    Some(if ["hpet", "acpi_pm", "jiffies", "refined-jiffies"].contains(&value.as_str()) {
        let text = "Each look at the time asks a slow device; the processor's own counter takes nanoseconds";
        let available = files.text(&format!("{DIRECTORY}/available_clocksource")).unwrap_or_default();
        let best = if available.split(' ').any(|name| name == "tsc") { "tsc" } else { "kvm-clock" };
        Finding::advice(CODE, text, value).command(format!("echo {best} > {DIRECTORY}/current_clocksource"))
    } else {
        Finding::good(CODE, "Looking at the time is cheap", value)
    })
}

fn available_memory(files: &Files, store: u64) -> Option<Finding> {
    const CODE: &str = "memory";
    let text = files.text("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available = line.split_whitespace().next()?.parse::<u64>().ok()? * 1024;
    let value = format!("{} of {} available", human_bytes(store), human_bytes(available));
    Some(if store > available {
        Finding::problem(CODE, "The store takes more memory than there is", value)
            .command("tracker sizes --max-torrents N --max-peers N    # and the same options of tracker run")
    } else if store > available / 4 * 3 {
        Finding::advice(CODE, "The store takes most of the memory that is left", value)
            .command("tracker sizes --max-torrents N --max-peers N")
    } else {
        Finding::good(CODE, "There is memory for the store", value)
    })
}

fn huge_pages(files: &Files, store: u64) -> Option<Finding> {
    const CODE: &str = "huge_pages";
    if store < LARGE {
        return None;
    }
    let text = files.text("/sys/kernel/mm/transparent_hugepage/enabled")?;
    let chosen = text.split(['[', ']']).nth(1).unwrap_or_default().to_owned();
    Some(if chosen == "never" {
        let why = "Without XDP, --huge-pages would make a store of this size faster, but the kernel gives none";
        Finding::advice(CODE, why, chosen).command("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled")
    } else {
        Finding::good(CODE, "Without XDP, --huge-pages has the store in pages of 2 MiB", chosen)
    })
}

/// What the processor and the firmware say of a hypervisor.
fn virtualisation(files: &Files) -> Finding {
    const CODE: &str = "virtual_machine";
    let processor = files.text("/proc/cpuinfo").unwrap_or_default();
    let flags = processor.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let name = |file: &str| files.text(&format!("/sys/class/dmi/id/{file}")).unwrap_or_default();
    let value = format!("{} {}", name("sys_vendor"), name("product_name")).trim().to_owned();
    if flags.split_whitespace().any(|flag| flag == "hypervisor") {
        let text = "It is a virtual machine: native XDP works with virtio-net and others, but the host's bridge and its \
                    mitigations limit what it gains";
        return Finding::good(CODE, text, if value.is_empty() { "a hypervisor".to_owned() } else { value });
    }
    Finding::good(CODE, "It is no virtual machine", value)
}

fn container(files: &Files) -> Option<Finding> {
    const CODE: &str = "container";
    let environment = files.text("/proc/1/environ").unwrap_or_default();
    let named = environment.split('\0').find_map(|variable| variable.strip_prefix("container="));
    let kind = match named {
        Some(kind) => kind.to_owned(),
        None if files.has("/.dockerenv") => "docker".to_owned(),
        None if files.has("/run/.containerenv") => "podman".to_owned(),
        None => return None,
    };
    let text = "It is a container: XDP takes the host's network (or a card of its own), CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, \
                and pins outlive it only where /sys/fs/bpf is the host's";
    let command =
        "docker run --network host --cap-add BPF --cap-add PERFMON --cap-add NET_ADMIN -v /sys/fs/bpf:/sys/fs/bpf …";
    Some(Finding::advice(CODE, text, kind).command(command))
}

fn energy(files: &Files) -> Finding {
    const CODE: &str = "energy";
    let zones = files.names("/sys/class/powercap");
    let zone = zones.iter().find(|name| files.has(&format!("/sys/class/powercap/{name}/energy_uj")));
    match zone {
        Some(zone) => Finding::good(CODE, "Energy can be measured (RAPL)", zone.as_str()),
        None if files.text("/proc/cpuinfo").unwrap_or_default().contains(" hypervisor") => {
            Finding::good(CODE, "Energy can only be estimated: a virtual machine has no counter of it (RAPL)", "none")
        }
        None => {
            let text = "Energy can only be estimated: the driver of the processor's counters (RAPL) is not loaded";
            Finding::advice(CODE, text, "none").command("modprobe intel_rapl_msr    # for AMD's, too")
        }
    }
}

/// How many files a process may have open.
#[must_use]
pub fn descriptors(hard: Option<u64>) -> Finding {
    const CODE: &str = "descriptors";
    let wanted = http::Limits::default().connections as u64 + 256;
    match hard {
        Some(limit) if limit < wanted => {
            let text = format!("Too few files may be open for the HTTP connections of the default, {wanted}");
            Finding::advice(CODE, text, limit.to_string())
                .command(format!("ulimit -Hn {wanted}    # or LimitNOFILE={wanted} of the service"))
        }
        Some(limit) => Finding::good(CODE, "Enough files may be open", limit.to_string()),
        None => Finding::good(CODE, "Enough files may be open", "unlimited"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{files::Staged, finding::Severity};

    /// A machine as it should be.
    const RIGHT: [(&str, &str); 11] = [
        ("/proc/sys/kernel/osrelease", "6.12.1-amd64\n"),
        ("/proc/sys/net/core/bpf_jit_enable", "1\n"),
        ("/proc/sys/net/core/bpf_jit_harden", "0\n"),
        ("/proc/sys/kernel/unprivileged_bpf_disabled", "2\n"),
        ("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
        ("/proc/self/mounts", "proc /proc proc rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n"),
        ("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
        ("/proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable:    8000000 kB\n"),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
        ("/proc/cpuinfo", "processor : 0\nflags\t\t: fpu sse\n"),
        ("/sys/class/powercap/intel-rapl:0/energy_uj", "123\n"),
    ];

    /// In place of what a file holds: there is none.
    const GONE: &str = "(gone)";

    fn with(name: &str, change: Option<(&str, &str)>, store: u64) -> Vec<(&'static str, Severity)> {
        let mut rows: Vec<_> = RIGHT.to_vec();
        if let Some((path, text)) = change {
            rows.retain(|(other, _)| *other != path);
            if text != GONE {
                rows.push((path, text));
            }
        }
        let staged = Staged::new(name, &rows);
        findings(&staged.files(), store).into_iter().map(|finding| (finding.code, finding.severity)).collect()
    }

    #[test]
    fn a_machine_as_it_should_be_is_not_complained_about() {
        for store in [100 << 20, 2 << 30] {
            let found = with("right", None, store);
            assert!(found.len() >= 10 && found.iter().all(|(_, severity)| *severity == Severity::Good), "{found:?}");
        }
    }

    #[test]
    fn each_thing_that_is_wrong_is_found_and_nothing_else() {
        const SMALL: u64 = 100 << 20;
        const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        let rows: [(&str, &str, u64, &str, Severity); 17] = [
            ("/sys/class/powercap/intel-rapl:0/energy_uj", GONE, SMALL, "energy", Severity::Advice),
            ("/proc/sys/kernel/osrelease", "5.10.0-21-amd64", SMALL, "kernel", Severity::Problem),
            ("/proc/sys/kernel/osrelease", "6.0.19", SMALL, "kernel", Severity::Problem),
            ("/proc/sys/kernel/osrelease", "", SMALL, "kernel", Severity::Problem),
            ("/proc/sys/net/core/bpf_jit_enable", "0", SMALL, "bpf_jit", Severity::Problem),
            ("/proc/sys/net/core/bpf_jit_harden", "2", SMALL, "bpf_jit_harden", Severity::Advice),
            ("/proc/sys/kernel/unprivileged_bpf_disabled", "0", SMALL, "unprivileged_bpf", Severity::Advice),
            ("/sys/kernel/security/lockdown", "none integrity [confidentiality]", SMALL, "lockdown", Severity::Problem),
            ("/proc/self/mounts", "proc /proc proc rw 0 0", SMALL, "bpf_file_system", Severity::Advice),
            ("/proc/self/mounts", "bpf /mnt ext4 rw 0 0", SMALL, "bpf_file_system", Severity::Advice),
            (CLOCK, "hpet", SMALL, "clock_source", Severity::Advice),
            ("/proc/meminfo", "MemAvailable: 90000 kB", SMALL, "memory", Severity::Problem),
            ("/proc/meminfo", "MemAvailable: 120000 kB", SMALL, "memory", Severity::Advice),
            (
                "/sys/kernel/mm/transparent_hugepage/enabled",
                "always madvise [never]",
                2 << 30,
                "huge_pages",
                Severity::Advice,
            ),
            ("/proc/1/environ", "A=b\0container=lxc\0", SMALL, "container", Severity::Advice),
            ("/.dockerenv", "", SMALL, "container", Severity::Advice),
            ("/run/.containerenv", "", SMALL, "container", Severity::Advice),
        ];
        for (path, text, store, code, severity) in rows {
            let found = with("wrong", Some((path, text)), store);
            let wrong: Vec<_> = found.into_iter().filter(|(_, severity)| *severity != Severity::Good).collect();
            assert_eq!(wrong, [(code, severity)], "{path}: {text}");
        }
    }

    #[test]
    fn settings_of_the_jit_are_looked_for_where_they_are() {
        let off = Staged::new("jit-off", &[("/proc/sys/net/core/bpf_jit_enable", "0")]);
        let nothing = Staged::new("jit-nothing", &[("/proc/x", "")]);
        let codes = |found: Vec<Finding>| -> Vec<_> {
            found.into_iter().map(|finding| (finding.severity, finding.command.is_some())).collect()
        };
        let elsewhere = |files: &Files, there: Option<&Files>| codes(jit_elsewhere(files, |_, look| there.map(look)));
        assert_eq!(elsewhere(&off.files(), None), [], "it is told already");
        assert_eq!(elsewhere(&nothing.files(), Some(&off.files())), [(Severity::Problem, true)]);
        assert_eq!(elsewhere(&nothing.files(), Some(&nothing.files())), [(Severity::Good, true)]);
        assert_eq!(elsewhere(&nothing.files(), None), [(Severity::Good, true)]);
    }

    #[test]
    fn what_is_not_there_is_not_guessed() {
        let staged = Staged::new("empty", &[("/proc/sys/kernel/osrelease", "6.18.0")]);
        let found = findings(&staged.files(), 1);
        let wrong: Vec<_> =
            found.iter().filter(|finding| finding.severity != Severity::Good).map(|finding| finding.code).collect();
        assert_eq!(wrong, ["bpf_file_system", "energy"]);
        for (limit, severity) in
            [(Some(1024), Severity::Advice), (Some(1 << 20), Severity::Good), (None, Severity::Good)]
        {
            assert_eq!(descriptors(limit).severity, severity);
        }
    }
}
