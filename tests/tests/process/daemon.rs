//! A daemon whose standard error, signals and surroundings the test chooses. Unlike
//! `tracker_tests::tracker::Tracker` it need not be read, and may be told anything at any time.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};
use tracker_tests::{
    bep15::{self, Reply},
    client::{UdpClient, http_get},
    namespace::Namespace,
    supervised::{Ending, Printing, Stream, Supervised},
    tracker::binary,
};

/// Where it answers in its namespace, by UDP and HTTP.
pub const AT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6969);
pub const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How long anything may take; far more than it does.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a daemon's standard error goes.
pub enum Stderr {
    /// To the test, which reads it all the time.
    Read,
    /// There.
    To(Stdio),
    /// Where this redirection of a shell leads.
    Redirected(&'static str),
    /// Into a file, with the limit of file sizes at zero.
    Limited,
}

/// A running daemon; killed on drop.
pub struct Daemon<'a> {
    child: Supervised,
    namespace: &'a Namespace,
}

impl<'a> Daemon<'a> {
    /// Starts it, and waits for nothing.
    pub fn start(namespace: &'a Namespace, stderr: Stderr, arguments: &[&str]) -> Self {
        Self::start_after(namespace, ":", stderr, arguments)
    }

    /// The same after a shell has run `script`, in a mount namespace that ends with the daemon.
    pub fn start_after(namespace: &'a Namespace, script: &str, stderr: Stderr, arguments: &[&str]) -> Self {
        let mut command = namespace.command("/bin/sh");
        let (redirection, stdio, reader) = match stderr {
            Stderr::Read => {
                let (reader, writer) = pipe();
                ("", Stdio::from(writer), Some(reader))
            }
            Stderr::To(stdio) => ("", stdio, None),
            Stderr::Redirected(redirection) => (redirection, Stdio::null(), None),
            Stderr::Limited => {
                let path = std::env::temp_dir().join(format!("tracker-test-limited-{}", std::process::id()));
                let file = File::create(&path).expect("a file");
                fs::remove_file(path).expect("just made");
                ("; ulimit -f 0", Stdio::from(file), None)
            }
        };
        // The redirection is the daemon's alone, or the shell's from here on.
        let (after, own) = if redirection.starts_with(';') { (redirection, "") } else { ("", redirection) };
        command.arg("-c").arg(format!("{{ {script}; }} {after}; exec \"$0\" \"$@\" {own}"));
        command.arg(binary().expect("a tracker")).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stdio);
        let child = Supervised::start(command, Printing::AsPrepared, Ending::AT_ONCE).expect("a daemon is started");
        let mut daemon = Self { child, namespace };
        if let Some(reader) = reader {
            daemon.read(reader);
        }
        daemon
    }

    /// From now on keeps what comes out of `pipe` as the daemon's log.
    pub fn read(&mut self, pipe: OwnedFd) {
        self.child.keep(Stream::Error, File::from(pipe));
    }

    pub fn log(&self) -> String {
        self.child.output()
    }

    pub fn signal(&self, signal: libc::c_int) {
        self.child.signal(signal).expect("it takes a signal");
    }

    /// A path as the daemon sees it, in its own mount namespace.
    pub fn path(&self, path: &Path) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join("root").join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Waits for its end, and for all that it has said.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait(PATIENCE).expect("the tracker ends")
    }

    fn must_run(&mut self, what: &str) {
        self.child.ensure_running().unwrap_or_else(|error| panic!("{what}: {error:#}"));
    }

    /// Waits until it answers HTTP, and then asks it by UDP as well.
    pub fn wait_until_it_answers(&mut self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.must_run(what);
            match http_get(Some(self.namespace), AT, "/stats") {
                Ok(response) if response.status == 200 => break,
                other => assert!(Instant::now() < deadline, "{what}: no answer but {other:?}; {}", self.log()),
            }
            thread::sleep(Duration::from_millis(10));
        }
        if let Err(error) = self.client() {
            self.must_run(what);
            panic!("{what}: no answer by UDP: {error:#}; {}", self.log());
        }
    }

    /// Where its files are seen as it sees them.
    pub fn root(&self) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join("root")
    }

    pub fn client(&self) -> anyhow::Result<UdpClient> {
        UdpClient::connected(self.namespace, ANY, AT)
    }

    /// A connection id for the loopback address.
    pub fn connection_id(&self) -> u64 {
        self.client().expect("a connection id").connection_id()
    }

    /// Whether the connection id is one of its own.
    pub fn accepts(&self, connection_id: u64) -> bool {
        let client = UdpClient::new(self.namespace, ANY, AT).expect("a socket");
        let request = bep15::scrape(connection_id, 1, &[[7; 20]]);
        !matches!(client.exchange(&request).expect("an answer"), Reply::Error { .. })
    }

    /// Waits for a line of its log that has `part` in it.
    pub fn wait_for_line(&mut self, part: &str) {
        self.wait_for_line_after(0, part);
    }

    /// The same, with a line that is not among the first bytes of the log.
    pub fn wait_for_line_after(&mut self, bytes: usize, part: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log()[bytes..].contains(part) {
            self.must_run(part);
            assert!(Instant::now() < deadline, "{part:?} is not logged: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until SIGHUP and SIGTERM would no longer end it at once.
    pub fn wait_until_it_waits_for_signals(&self) {
        let wanted = 1_u64 << (libc::SIGHUP - 1) | 1 << (libc::SIGTERM - 1);
        let path = format!("/proc/{}/status", self.child.id());
        let ready = || {
            let status = fs::read_to_string(&path).ok()?;
            let sets = ["SigBlk:", "SigIgn:", "SigCgt:"].iter().filter_map(|set| {
                let line = status.lines().find_map(|line| line.strip_prefix(set))?;
                u64::from_str_radix(line.trim(), 16).ok()
            });
            (sets.fold(0, |all, set| all | set) & wanted == wanted).then_some(())
        };
        until(ready, || format!("the tracker takes no signals; {}", self.log()));
    }
}

fn until<T>(mut ready: impl FnMut() -> Option<T>, what: impl Fn() -> String) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "{}", what());
        thread::sleep(Duration::from_millis(5));
    }
}

pub use tracker_tests::temporary::Directory;

/// The reading and the writing end of a pipe.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = io::pipe().expect("a pipe");
    (reader.into(), writer.into())
}

/// Writes into a pipe until nothing more goes in, which leaves it so that writing does not block.
pub fn fill(writer: &OwnedFd) {
    set_nonblocking(writer, true);
    let mut pipe = File::from(writer.try_clone().expect("a descriptor"));
    while pipe.write(&[b'.'; 4096]).is_ok() {}
    while pipe.write(b".").is_ok() {}
}

pub fn set_nonblocking(descriptor: &impl std::os::fd::AsFd, nonblocking: bool) {
    let descriptor = descriptor.as_fd().as_raw_fd();
    // SAFETY: takes no pointer; the descriptor is open as long as it is borrowed.
    let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFL) };
    assert!(flags >= 0, "{}", io::Error::last_os_error());
    let flags = if nonblocking { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    // SAFETY: as above.
    assert_eq!(unsafe { libc::fcntl(descriptor, libc::F_SETFL, flags) }, 0, "{}", io::Error::last_os_error());
}

pub fn fifo(path: &Path) {
    let path = std::ffi::CString::new(path.to_str().expect("UTF-8")).expect("no zero in it");
    // SAFETY: the path ends with a zero byte and outlives the call.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0, "{}", io::Error::last_os_error());
}

/// A terminal that nobody sits at any more: its end for programs, the other one is closed.
pub fn terminal() -> OwnedFd {
    let (mut ours, mut its) = (0, 0);
    let null = std::ptr::null_mut();
    // SAFETY: both descriptors are written to; the other arguments may be null.
    let opened = unsafe { libc::openpty(&raw mut ours, &raw mut its, null, null.cast(), null.cast()) };
    assert_eq!(opened, 0, "{}", io::Error::last_os_error());
    // SAFETY: both were just opened and belong to nobody else.
    let (ours, its) = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(its)) };
    drop(ours);
    its
}
