//! Handing the listening sockets to the tracker that comes after this one: on SIGUSR2 this process
//! becomes the program that is at its path by then, and keeps the sockets open meanwhile; and
//! systemd, if it is told to, keeps them from the end of one process to the start of the next.

use super::{doors::Doors, systemd};
use crate::{
    config::{Configuration, Startup},
    confine,
    listen::{Endpoint, Inherited, Place, address},
    udp,
};
use anyhow::{Context as _, bail, ensure};
use sd_notify::NotifyState;
use std::{
    collections::BTreeSet,
    env, io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};
use tracing::{debug, info};

/// The number of the first file that is handed over.
const FIRST: RawFd = 3;

/// What the names of Unix sockets begin with for systemd; the path follows.
const UNIX: &str = "http-unix-";

/// The exit status of a program that does not know an option that it is given.
const NOT_UNDERSTOOD: i32 = 2;

/// How long the program that is to come may take to say its version, or to check the configuration.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The sockets, held beside those who serve them.
pub struct Handover {
    sockets: Vec<(String, OwnedFd)>,
    /// Found out at the start: when the file is replaced, the kernel says something else.
    program: Option<PathBuf>,
}

impl Handover {
    /// Of all listening sockets.
    ///
    /// # Errors
    /// When the process may open no more files.
    pub(super) fn new(udp: &[udp::Listener], doors: &Doors) -> anyhow::Result<Self> {
        let mut sockets = Vec::new();
        let mut hold = |place: &Place, socket: io::Result<OwnedFd>| -> anyhow::Result<()> {
            let socket = socket.context("cannot hold a listening socket for the next tracker (ulimit -n)")?;
            sockets.push((name(place), socket));
            Ok(())
        };
        for listener in udp {
            for socket in &listener.sockets {
                hold(&Place::Udp(listener.address), socket.as_fd().try_clone_to_owned())?;
            }
        }
        for listener in doors.all() {
            for socket in listener.files() {
                hold(&listener.place, socket.try_clone_to_owned())?;
            }
        }
        Ok(Self { sockets, program: env::current_exe().ok() })
    }

    /// Has systemd keep the sockets, if it is there and is told to, and forget those that were not
    /// wanted any more. Says that the start is done.
    pub(super) fn tell_systemd(&self, closed: &[Place]) {
        let told = || -> io::Result<()> {
            for place in closed {
                sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(&name(place))])?;
            }
            // It may keep an older one that the path does not lead to any more.
            let paths: BTreeSet<_> =
                self.sockets.iter().map(|(name, _)| name).filter(|name| name.starts_with(UNIX)).collect();
            for name in paths {
                sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)])?;
            }
            for (name, socket) in &self.sockets {
                sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name)], &[socket.as_fd()])?;
            }
            Ok(())
        };
        if let Err(error) = told() {
            debug!("cannot tell systemd: {error}");
        }
        systemd::ready();
    }

    /// Makes sure that there is a program to become, and that it takes the command line, the
    /// environment and the configuration file, if there is one.
    ///
    /// # Errors
    /// When it cannot be started, or finds something wrong; with what it says.
    pub(super) fn try_out(&self, privileges: &confine::Wanted, file: Option<&Path>) -> anyhow::Result<()> {
        ensure!(privileges.upgrade, "--in-place-upgrade is off");
        let program = self.program.as_ref().context("the path of this program is not known")?;
        let version = Trial::run(Command::new(program).arg("version"))?.passed()?;
        ensure!(version.starts_with("tracker "), "{} is no tracker", program.display());
        let arguments = env::args_os().skip(1);
        let check = Trial::run(Command::new(program).args(["check", "--command-line"]).args(arguments))?;
        if check.output.status.code() == Some(NOT_UNDERSTOOD) {
            // An older one, which can check a file alone; if that is one that says enough by itself.
            if let Some(file) = file.filter(|file| Configuration::of_file(file).is_ok()) {
                Trial::run(Command::new(program).arg("check").arg(file))?.passed()?;
            }
        } else {
            check.passed()?;
        }
        info!("making way for {} of {}", version.trim(), program.display());
        Ok(())
    }

    /// Becomes the program at this one's path, with the same arguments. Returns only if that fails.
    #[must_use]
    pub fn become_next(self) -> anyhow::Error {
        let Some(program) = self.program else { return anyhow::anyhow!("the path of this program is not known") };
        let mut command = Command::new(&program);
        command.args(env::args_os().skip(1));
        command.env("LISTEN_PID", std::process::id().to_string());
        command.env("LISTEN_FDS", self.sockets.len().to_string());
        command.env_remove("LISTEN_FDNAMES");
        if let Err(error) = confine::hand_on(&mut command) {
            return error;
        }
        let files: Vec<RawFd> = self.sockets.iter().map(|(_, socket)| socket.as_raw_fd()).collect();
        // SAFETY: the closure runs in this very process, as `exec` does not fork, and only makes
        // system calls.
        unsafe { command.pre_exec(move || put_in_place(&files)) };
        anyhow::Error::from(command.exec()).context(format!("cannot become {}", program.display()))
    }
}

/// A command of the next program that has ended.
struct Trial {
    line: String,
    output: Output,
}

impl Trial {
    /// Runs a command to its end.
    fn run(command: &mut Command) -> anyhow::Result<Self> {
        let line = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {line}"))?;
        let deadline = Instant::now() + TRIAL_TIMEOUT;
        while child.try_wait().with_context(|| format!("cannot wait for {line}"))?.is_none() {
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                bail!("{line} does not end");
            }
            thread::sleep(Duration::from_millis(5));
        }
        // It prints some lines, which the pipes have room for.
        let output = child.wait_with_output().with_context(|| format!("cannot read what {line} says"))?;
        Ok(Self { line, output })
    }

    /// What it printed.
    fn passed(self) -> anyhow::Result<String> {
        let Self { line, output: Output { status, stdout, stderr } } = self;
        ensure!(status.success(), "{line} ended with {status}: {}", String::from_utf8_lossy(&stderr).trim());
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }
}

/// Gives the files the numbers from [`FIRST`] on, and has them stay open. Whatever has these numbers
/// is closed; nothing of this process is used any more.
fn put_in_place(files: &[RawFd]) -> io::Result<()> {
    let beyond = FIRST + files.len() as RawFd;
    let check = |result: RawFd| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    let mut moved = Vec::new();
    for file in files {
        // SAFETY: takes no pointer.
        moved.push(check(unsafe { libc::fcntl(*file, libc::F_DUPFD_CLOEXEC, beyond) })?);
    }
    for (number, file) in (FIRST..).zip(moved) {
        // SAFETY: takes no pointer. The numbers are not those of `moved`, which are above.
        check(unsafe { libc::dup2(file, number) })?;
    }
    Ok(())
}

/// Closes what would be in the way where the tracker is to listen. systemd may keep the same sockets,
/// and closes them in a moment, too; that long, and longer, is tried to bind a port that is taken.
pub(super) fn make_way(inherited: &mut Inherited, startup: &Startup) {
    for place in inherited.make_way(&places(startup)) {
        info!("{place}: what listened there before is closed, to make way for the addresses of its port");
        if let Err(error) = sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(&name(&place))]) {
            debug!("cannot tell systemd: {error}");
        }
    }
}

/// Where the tracker is to listen; of the internet alone.
fn places(startup: &Startup) -> Vec<Place> {
    let Startup { udp, http, https, admin, api, .. } = startup;
    let of = |place: fn(_) -> Place| move |endpoint: &Endpoint| place(address::canonical(endpoint.address));
    let tcp = [http, https, admin, &api.endpoints, &api.secure].into_iter().flatten().map(of(Place::Tcp));
    udp.iter().map(of(Place::Udp)).chain(tcp).collect()
}

/// Closes what nobody has taken, and says so.
pub(super) fn close(inherited: Inherited) -> Vec<Place> {
    let closed = inherited.close();
    for place in &closed {
        info!("{place} is not listened on any more");
    }
    closed
}

/// The name of a place for systemd, which allows no colon.
fn name(place: &Place) -> String {
    let name = match place {
        Place::Udp(address) => format!("udp-{address}"),
        Place::Tcp(address) => format!("http-{address}"),
        Place::Unix(path) => format!("{UNIX}{}", path.display()),
    };
    name.replace(':', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_colons_and_are_of_one_address() {
        let address = |text: &str| text.parse().expect("an address");
        assert_eq!(name(&Place::Udp(address("0.0.0.0:6969"))), "udp-0.0.0.0_6969");
        assert_eq!(name(&Place::Tcp(address("[2001:db8::1]:80"))), "http-[2001_db8__1]_80");
        assert_eq!(name(&Place::Unix("/run/a:b".into())), "http-unix-/run/a_b");
    }
}
