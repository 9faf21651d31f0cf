//! Network namespaces: making them, doing something inside them, and taking them away together with what runs in them.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::{self, Command},
};

use anyhow::Context as _;

use crate::command;

/// Every namespace of ours begins with this, followed by the process id of the benchmark that made it.
const PREFIX: &str = "trackerbench-";
/// Where `ip netns` keeps namespaces.
const DIRECTORY: &str = "/run/netns";

/// A network namespace that goes away with this value.
pub struct Netns {
    name: String,
    handle: File,
}

impl Netns {
    /// A new namespace, empty but for its loopback interface, which is up.
    pub fn create(label: &str) -> anyhow::Result<Self> {
        let name = format!("{PREFIX}{}-{label}", process::id());
        quietly(Command::new("ip").args(["netns", "add", &name])).context(
            "cannot make a network namespace (run as root, with iproute2 installed; inside containers CAP_SYS_ADMIN is needed)",
        )?;
        let path = Path::new(DIRECTORY).join(&name);
        let handle = match File::open(&path) {
            Ok(handle) => handle,
            Err(error) => {
                remove(&name);
                return Err(error).with_context(|| format!("cannot open {}", path.display()));
            }
        };
        let netns = Self { name, handle };
        netns.ip(&["link", "set", "lo", "up"])?;
        Ok(netns)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` on this namespace.
    pub fn ip(&self, arguments: &[&str]) -> anyhow::Result<()> {
        quietly(Command::new("ip").args(["-n", &self.name]).args(arguments))
    }

    /// A command that runs in this namespace, with the namespace's own /sys. The process keeps its id: `ip` turns into the
    /// command.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a short command in this namespace and waits for it.
    pub fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        quietly(self.command(Path::new(program)).args(arguments))
    }

    /// Sets a sysctl of this namespace.
    pub fn sysctl(&self, setting: &str) -> anyhow::Result<()> {
        self.run("sysctl", &["-q", "-w", setting])
    }

    /// Calls `body` with this thread inside the namespace. Sockets and interface numbers belong to the namespace they were
    /// asked for in, and stay there afterwards.
    pub fn enter<T>(&self, body: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let outside = File::open("/proc/thread-self/ns/net").context("cannot open this thread's network namespace")?;
        set_thread_namespace(&self.handle).with_context(|| format!("cannot enter namespace {}", self.name))?;
        let result = body();
        set_thread_namespace(&outside).context("cannot return to the outer network namespace")?;
        result
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

fn set_thread_namespace(namespace: &File) -> io::Result<()> {
    // SAFETY: setns reads a file descriptor and changes nothing but the calling thread's namespace.
    if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Runs a command whose output is of interest only when it fails.
pub fn quietly(command: &mut Command) -> anyhow::Result<()> {
    command::output(command).map(drop)
}

/// Ends what runs in a namespace of ours and removes it. Errors are only told: this runs on the way out.
fn remove(name: &str) {
    for process in command::output(Command::new("ip").args(["netns", "pids", name])).unwrap_or_default().lines() {
        if let Ok(process) = process.parse::<libc::pid_t>() {
            // SAFETY: a system call without pointers. Nobody but this benchmark starts processes in this namespace.
            unsafe { libc::kill(process, libc::SIGKILL) };
        }
    }
    if let Err(error) = quietly(Command::new("ip").args(["netns", "delete", name])) {
        eprintln!("warning: {error:#}");
    }
}

/// Removes what benchmarks left behind that were killed before they could clean up.
pub fn remove_stale() {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()).map(str::to_owned);
        if owner.is_some_and(|owner| !PathBuf::from("/proc").join(owner).exists()) {
            eprintln!("removing namespace {name}, which an earlier benchmark left behind");
            remove(&name);
        }
    }
}

/// The number of an interface in the namespace that the thread is in.
pub fn interface_number(name: &str) -> anyhow::Result<u32> {
    let c_name = CString::new(name).context("an interface's name holds a NUL")?;
    // SAFETY: the name is a string with a NUL at its end.
    match unsafe { libc::if_nametoindex(c_name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()).with_context(|| format!("there is no interface {name}")),
        number => Ok(number),
    }
}

/// The number of the XDP program that is attached to an interface of `netns`.
pub fn attached_program(netns: &Netns, interface: &str) -> anyhow::Result<u32> {
    let text = command::output(Command::new("ip").args(["-n", netns.name(), "-j", "link", "show", "dev", interface]))?;
    let links: serde_json::Value = serde_json::from_str(&text).context("cannot read the output of `ip -j link`")?;
    let number = links[0]["xdp"]["prog"]["id"].as_u64();
    number
        .and_then(|number| u32::try_from(number).ok())
        .with_context(|| format!("no XDP program is attached to {interface}"))
}
