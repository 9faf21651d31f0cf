//! What the process may still do once its sockets are bound and the XDP program is loaded: less than
//! what it took to get there. All of it holds for all threads, and is in force before the first
//! request is read.
//!
//! | module | does |
//! |---|---|
//! | [`capabilities`] | which capabilities are still needed, and what for; all others go |
//! | [`user`] | another user and group |
//! | [`root`] | another root directory |
//! | [`file_system`] | Landlock: which directories may be read, written and executed from |
//! | [`system_calls`] | seccomp: which system calls may be made |
//! | [`threads`] | what the kernel knows per thread, on all of them |
//!
//! `exec` keeps Landlock's rules and seccomp's filter, which nobody can take off again; so what makes
//! way for the next tracker (SIGUSR2) has to leave it what its start takes. `--in-place-upgrade off`
//! leaves that out.

pub mod capabilities;
pub mod file_system;
pub mod root;
pub mod system_calls;
pub mod threads;
pub mod user;

use anyhow::Context as _;
use capabilities::Kept;
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tracing::{info, warn};

/// Says to the next tracker what holds for it already. Filters pile up with each `exec`, and the
/// kernel allows 16 sets of Landlock's rules.
const VARIABLE: &str = "CONFINED_BY_TRACKER";

/// Says to the next tracker which options about users it need not follow any more.
const USER_VARIABLE: &str = "USER_OF_TRACKER";

/// The options about users that are followed, if there are such.
static USER: OnceLock<String> = OnceLock::new();

/// Whether Landlock's rules and seccomp's filter are in force.
static LANDLOCK: AtomicBool = AtomicBool::new(false);
static SECCOMP: AtomicBool = AtomicBool::new(false);

/// What the operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The user to become, by name or number.
    pub user: Option<String>,
    /// The group; without it, the user's groups.
    pub group: Option<String>,
    /// The directory that becomes the root of the file system.
    pub root: Option<PathBuf>,
    /// Whether capabilities that are not needed go, and cannot come back.
    pub drop_capabilities: bool,
    /// Whether Landlock is used, where there is one.
    pub landlock: bool,
    /// Whether system calls are filtered.
    pub seccomp: bool,
    /// Whether another program may take the place of this one.
    pub upgrade: bool,
}

/// What the tracker goes on with.
#[derive(Debug, Default)]
pub struct Needs {
    /// The XDP program is loaded.
    pub xdp: bool,
    /// Others' programs may be taken off.
    pub force: bool,
    /// Interrupts may be moved from core to core.
    pub tune: bool,
    /// An address has a port below 1024.
    pub low_ports: bool,
    /// Receive buffers are longer than the system allows.
    pub long_buffers: bool,
    /// What is kept over restarts.
    pub state_dir: Option<PathBuf>,
    /// Where the XDP program is pinned.
    pub pins: Option<PathBuf>,
    /// Files that are read again on SIGHUP.
    pub files: Vec<PathBuf>,
    /// Ports of other hosts that the tracker connects to by TCP.
    pub ports: Vec<u16>,
    /// Unix sockets that the system is told of things by.
    pub sockets: Vec<PathBuf>,
}

/// Takes away what is not needed any more.
///
/// # Errors
/// When the user or the root directory cannot be changed, or capabilities cannot be dropped.
pub fn confine(wanted: &Wanted, needs: &Needs) -> anyhow::Result<()> {
    let inherited = env::var(VARIABLE).unwrap_or_default();
    let mut held = Vec::new();
    let identity = user::wanted(wanted, env::var(USER_VARIABLE).ok().as_deref())?;
    let _first = USER.set(user::options(wanted));
    // Before the user changes: these directories are made and opened by whoever has started this.
    let state_dir = needs.state_dir.as_deref();
    if let Some(directory) = state_dir {
        user::provide_directory(directory, identity.as_ref());
    }
    if let Some(root) = &wanted.root {
        root::prepare(root, needs, wanted.upgrade)?;
    }
    let rules = if inherited.contains("landlock") {
        LANDLOCK.store(true, Ordering::Relaxed);
        held.push("Landlock, as before".to_owned());
        None
    } else if wanted.landlock {
        file_system::rules(needs, wanted).unwrap_or_else(|error| {
            warn!("the file system is not restricted: {error:#} (--landlock off says that this is meant)");
            None
        })
    } else {
        None
    };
    let kept = Kept::new(needs, wanted.upgrade, identity.as_ref());
    if let Some(pins) = &needs.pins {
        user::give_pins(pins, identity.as_ref())?;
    }
    if let Some(identity) = &identity {
        identity.become_it().with_context(|| format!("cannot become {identity} (--user, --group)"))?;
        held.insert(0, identity.to_string());
    }
    if let Some(root) = &wanted.root {
        root::enter(root)?;
        held.push(format!("root directory {}", root.display()));
    }
    if wanted.drop_capabilities || rules.is_some() || wanted.seccomp {
        let kept = wanted.drop_capabilities.then_some(kept);
        threads::restrict_all(kept, rules.as_ref())
            .context("cannot give up privileges (--drop-capabilities off does without)")?;
        held.push(kept.map_or_else(|| "all capabilities".into(), |kept| kept.to_string()));
    }
    if rules.is_some() {
        LANDLOCK.store(true, Ordering::Relaxed);
        held.push("Landlock".into());
    }
    if inherited.contains("seccomp") {
        SECCOMP.store(true, Ordering::Relaxed);
        held.push("seccomp, as before".into());
    } else if wanted.seccomp {
        match system_calls::filter(wanted.upgrade) {
            Ok(()) => {
                SECCOMP.store(true, Ordering::Relaxed);
                held.push("seccomp".into());
            }
            Err(error) => {
                warn!("system calls are not filtered: {error:#} (--seccomp off says that this is meant)");
            }
        }
    }
    if !held.is_empty() {
        info!("privileges from here on: {}", held.join("; "));
    }
    Ok(())
}

/// Has the program that takes the place of this one start with what is permitted to this one.
///
/// # Errors
/// When the kernel refuses.
pub fn hand_on(command: &mut Command) -> anyhow::Result<()> {
    capabilities::hand_on().context("cannot hand capabilities on")?;
    let marks = [("landlock", &LANDLOCK), ("seccomp", &SECCOMP)];
    let held: Vec<_> = marks.iter().filter(|(_, held)| held.load(Ordering::Relaxed)).map(|(name, _)| *name).collect();
    if held.is_empty() {
        command.env_remove(VARIABLE)
    } else {
        command.env(VARIABLE, held.join(","))
    };
    if let Some(user) = USER.get() {
        command.env(USER_VARIABLE, user);
    }
    Ok(())
}

/// What to try if a file could not be read that is there.
#[must_use]
pub fn advice(error: &anyhow::Error) -> &'static str {
    let denied = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::PermissionDenied;
    let denied = error.chain().filter_map(|cause| cause.downcast_ref()).any(denied);
    if denied && LANDLOCK.load(Ordering::Relaxed) {
        " (since its start the tracker reads only in directories that were named then, and as its own user: a restart \
         reads others, and --landlock off does without)"
    } else {
        ""
    }
}

/// The directory of a file; the file itself where that would be everything.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent == Path::new("") => Path::new("."),
        Some(parent) if parent != Path::new("/") => parent,
        Some(_) | None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stands_for_its_directory_but_never_for_everything() {
        for (path, expected) in [
            ("/etc/tracker.toml", "/etc"),
            ("/etc/tracker/lists/a", "/etc/tracker/lists"),
            ("tracker.toml", "."),
            ("lists/a", "lists"),
            ("/tracker.toml", "/tracker.toml"),
            ("/", "/"),
        ] {
            assert_eq!(directory_of(Path::new(path)), Path::new(expected), "{path}");
        }
    }
}
