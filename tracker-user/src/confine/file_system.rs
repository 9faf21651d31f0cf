//! Landlock (Linux 5.13 and newer): which directories may be read, written and executed from, that
//! nobody is connected to by TCP but the cluster's servers, and that only the tracker's own children get signals. Whatever is
//! open already stays open.

use super::{Needs, Wanted, directory_of};
use anyhow::Context as _;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, Scope,
};
use std::{
    collections::BTreeSet,
    env, fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};
use tracing::info;

/// The newest that is made use of: of older kernels what they have.
const NEWEST: ABI = ABI::V6;

/// What the running tracker reads: memory and processor time of its own, interfaces, control groups.
const READ: [&str; 2] = ["/proc", "/sys"];

/// Where interrupts are moved from core to core (`--tune`); only root may write there.
const INTERRUPTS: &str = "/proc/irq";

/// What is read to find a host by its name, and to know who signs certificates. Files stand for
/// their directories, as most are replaced by new ones when they change.
const NAMES: [&str; 9] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ssl",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
];

/// The rules; `None` where there is no Landlock.
///
/// # Errors
/// When the kernel refuses them.
pub(super) fn rules(needs: &Needs, wanted: &Wanted) -> anyhow::Result<Option<OwnedFd>> {
    let all = AccessFs::from_all(NEWEST);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut created = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(|rules| rules.handle_access(AccessNet::ConnectTcp))
        .and_then(|rules| rules.scope(Scope::Signal))
        .and_then(Ruleset::create)
        .context("Landlock's rules are refused")?;
    // Where symbolic links lead, too: certificates are renewed behind them.
    let real = needs.files.iter().filter_map(|path| fs::canonicalize(path).ok()).collect::<Vec<_>>();
    // Another root has these of its own, if it has them.
    let inside = wanted.root.iter().flat_map(|root| READ.map(|path| root.join(path.trim_start_matches('/'))));
    let inside: Vec<_> = inside.collect();
    for path in READ.map(PathBuf::from).iter().chain(&inside).chain(&needs.files).chain(&real) {
        created = allow(created, directory_of_file(path), read)?;
    }
    created = allow(created, Path::new("/dev/null"), read | AccessFs::WriteFile)?;
    if needs.tune {
        created = allow(created, Path::new(INTERRUPTS), read | AccessFs::WriteFile)?;
    }
    for port in &needs.ports {
        let rule = NetPort::new(*port, AccessNet::ConnectTcp);
        created = created.add_rule(rule).with_context(|| format!("Landlock refuses the rule for port {port}"))?;
    }
    for path in NAMES.iter().filter(|_| !needs.ports.is_empty()) {
        // `resolv.conf` often is a link to where another program writes it.
        let real = fs::canonicalize(path).ok();
        for path in real.iter().map(PathBuf::as_path).chain([Path::new(path)]) {
            created = allow(created, directory_of_file(path), read)?;
        }
    }
    if let Some(directory) = &needs.state_dir {
        created = allow(created, directory, all & !AccessFs::Execute)?;
    }
    if let Some(directory) = &needs.pins {
        created = allow(created, directory, all & !AccessFs::Execute)?;
        // It is removed with the pins, and made anew.
        created = allow(created, directory_of(directory), AccessFs::MakeDir | AccessFs::RemoveDir)?;
    }
    if wanted.upgrade {
        for path in programs() {
            created = allow(created, &path, read | AccessFs::Execute)?;
        }
        for path in ["/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf"] {
            // Not their directory, which has secrets; who is a user already does not look.
            created = allow(created, Path::new(path), read)?;
        }
    }
    let rules: Option<OwnedFd> = created.into();
    if rules.is_none() {
        info!("this kernel has no Landlock: the file system is not restricted");
    }
    Ok(rules)
}

fn directory_of_file(path: &Path) -> &Path {
    if path.is_dir() { path } else { directory_of(path) }
}

/// Adds a rule, unless the path is not there.
fn allow(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> anyhow::Result<RulesetCreated> {
    let Ok(file) = PathFd::new(path) else { return Ok(rules) };
    // The kernel takes rights to directories for directories alone.
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
    rules
        .add_rule(PathBeneath::new(file, access))
        .with_context(|| format!("Landlock refuses the rule for {}", path.display()))
}

/// Directories of this program and of what was loaded to run it. The next one is where this one is,
/// or was, as the kernel says "(deleted)" after the name of a file that was replaced.
fn programs() -> BTreeSet<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut all = directories(&maps);
    all.extend(env::current_exe().ok().map(|path| directory_of(&path).to_owned()));
    all
}

/// Directories of the files that are mapped to be executed, from `/proc/PID/maps`, by all the names
/// that lead there.
fn directories(maps: &str) -> BTreeSet<PathBuf> {
    let executed = maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|access| access.contains('x')));
    let files = executed.filter_map(|line| line.split_once('/')).map(|(_, path)| PathBuf::from(format!("/{path}")));
    files.map(|path| directory_of(&path).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_what_is_executed_are_found() {
        let maps = "55d0-55d1 r--p 00000000 08:01 12 /usr/local/bin/tracker\n\
                    55d1-55d2 r-xp 00001000 08:01 12 /usr/local/bin/tracker\n\
                    7f00-7f01 r-xp 00000000 08:01 13 /usr/lib/x86_64-linux-gnu/libc.so.6\n\
                    7f01-7f02 r--p 00000000 08:01 14 /usr/share/locale/C.utf8\n\
                    7f02-7f03 rw-p 00000000 00:00 0 [heap]\n\
                    7f03-7f04 r-xp 00000000 00:00 0 [vdso]\n";
        let expected = ["/usr/lib/x86_64-linux-gnu", "/usr/local/bin"].map(PathBuf::from);
        assert_eq!(directories(maps), BTreeSet::from(expected));
        assert!(directories("").is_empty());
    }
}
