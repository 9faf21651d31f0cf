//! Network namespaces and the veth pairs between them: several hosts on one machine, gone when the
//! test or the benchmark is.

use crate::{packet::Mac, pass};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd as _,
    path::Path,
    process::{self, Command},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

/// Where iproute2 keeps named namespaces.
const DIRECTORY: &str = "/run/netns";

/// What the names of namespaces begin with; then come the number of the process and a number of
/// their own.
const PREFIX: &str = "tracker-test-";

/// A network namespace, deleted on drop together with what still runs in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: File,
}

impl Namespace {
    /// A new namespace with a name of its own. Those that processes left behind when they were
    /// killed are removed first.
    ///
    /// # Errors
    /// When it cannot be made; without root it never can.
    pub fn new() -> Result<Self> {
        static STALE: Once = Once::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        STALE.call_once(remove_stale);
        Self::named(&format!("{PREFIX}{}-{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)))
    }

    /// A new namespace with the name given.
    ///
    /// # Errors
    /// As for [`Namespace::new`], and when there is one of that name.
    pub fn named(name: &str) -> Result<Self> {
        require_root()?;
        ip(&format!("netns add {name}"))?;
        let path = Path::new(DIRECTORY).join(name);
        let handle = match File::open(&path) {
            Ok(handle) => handle,
            Err(error) => {
                remove(name)?;
                return Err(error).with_context(|| format!("cannot open {}", path.display()));
            }
        };
        let namespace = Self { name: name.to_owned(), handle };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` with the arguments given, separated by spaces, on this namespace, and returns what
    /// it printed.
    ///
    /// # Errors
    /// When it fails; with what it printed.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        ip(&format!("-n {} {arguments}", self.name))
    }

    /// A command that will run in this namespace and see the namespace's own /sys, in a process of
    /// the number that its caller sees.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program.as_ref());
        command
    }

    /// Calls `work` with this thread in this namespace. Sockets and numbers of interfaces belong to
    /// the namespace in which they were asked for, and stay there wherever they are used.
    ///
    /// # Errors
    /// When the namespace cannot be entered, and those of `work`.
    ///
    /// # Panics
    /// When there is no way back into the namespace that the thread came from.
    pub fn enter<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        /// Brings the thread back, whatever `work` did.
        struct Return(File);
        impl Drop for Return {
            fn drop(&mut self) {
                enter(&self.0).expect("the namespace that the thread came from is still there");
            }
        }
        let outside = File::open("/proc/thread-self/ns/net").context("cannot open this thread's network namespace")?;
        enter(&self.handle).with_context(|| format!("cannot enter the namespace {}", self.name))?;
        let _return = Return(outside);
        work()
    }

    /// The same for work that has no errors of its own.
    ///
    /// # Panics
    /// When `work` does, or when the namespace cannot be entered.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        self.enter(|| Ok(work())).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Writes a setting below `/proc/sys/net`.
    ///
    /// # Errors
    /// When there is no such setting or it does not take the value.
    pub fn set(&self, setting: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys/net").join(setting);
        self.run(|| fs::write(&path, value)).with_context(|| format!("cannot write {value} to {}", path.display()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            // If printing panicked, other namespaces would not be removed.
            let _ = writeln!(io::stderr(), "{error:#}");
        }
    }
}

/// One end of a veth pair.
#[derive(Clone, Copy)]
pub struct End<'a> {
    /// Where it is; `None` for the namespace of this process.
    pub namespace: Option<&'a Namespace>,
    /// The interface's name.
    pub interface: &'a str,
    /// The interface's MAC address.
    pub mac: Mac,
    /// Addresses and their prefix lengths.
    pub addresses: &'a [(IpAddr, u8)],
}

impl End<'_> {
    fn ip(&self, arguments: &str) -> Result<String> {
        match self.namespace {
            Some(namespace) => namespace.ip(arguments),
            None => ip(arguments),
        }
    }

    fn configure(&self) -> Result<()> {
        let interface = self.interface;
        // No duplicate address detection and no router solicitations: addresses work at once, and
        // packets are what tests send.
        let settings: &[&str] = if self.addresses.iter().any(|(address, _)| address.is_ipv6()) {
            &["accept_dad", "router_solicitations"]
        } else {
            &[]
        };
        for setting in settings {
            let path = format!("ipv6/conf/{interface}/{setting}");
            match self.namespace {
                Some(namespace) => namespace.set(&path, "0")?,
                None => fs::write(Path::new("/proc/sys/net").join(&path), "0")
                    .with_context(|| format!("cannot write to /proc/sys/net/{path}"))?,
            }
        }
        for (address, prefix) in self.addresses {
            // Even without detection an address is tentative until the kernel's worker has looked at
            // it, and is not chosen as a source.
            let detection = if address.is_ipv6() { " nodad" } else { "" };
            self.ip(&format!("address add {address}/{prefix} dev {interface}{detection}"))?;
        }
        self.ip(&format!("link set {interface} up"))?;
        self.offload_checksums(false)
    }

    /// Says whether the interface may send packets with checksums that the network card is to
    /// finish, which a veth pair never does.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn offload_checksums(&self, on: bool) -> Result<()> {
        let set = || Offload::TransmitChecksums.set(self.interface, on);
        match self.namespace {
            Some(namespace) => namespace.enter(set),
            None => set(),
        }
    }

    /// Attaches the program that passes everything on, without which a veth end receives nothing
    /// from the XDP program at the other end.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn pass(&self) -> Result<pass::Attached> {
        match self.namespace {
            Some(namespace) => namespace.run(|| pass::attach(self.interface)),
            None => pass::attach(self.interface),
        }
    }
}

/// Connects two ends by a cable, with addresses set and transmit checksum offload off: an XDP
/// program would see packets of the other end with unfinished checksums.
///
/// # Errors
/// When the kernel refuses any of it.
pub fn connect(one: End<'_>, other: End<'_>) -> Result<()> {
    let place = |end: &End<'_>| end.namespace.map_or(String::new(), |namespace| format!(" netns {}", namespace.name));
    ip(&format!(
        "link add {} address {}{} type veth peer name {} address {}{}",
        one.interface,
        mac_text(one.mac),
        place(&one),
        other.interface,
        mac_text(other.mac),
        place(&other),
    ))?;
    one.configure()?;
    other.configure()
}

/// Two namespaces with a cable between them: a tracker's host and a host for clients. The clients'
/// end passes on what the tracker's XDP program sends.
#[derive(Debug)]
pub struct Pair {
    _pass: pass::Attached,
    /// The clients' host.
    pub client: Namespace,
    /// The tracker's host.
    pub server: Namespace,
}

impl Pair {
    /// The tracker's interface.
    pub const SERVER_INTERFACE: &'static str = "server0";
    /// The tracker's MAC address.
    pub const SERVER_MAC: Mac = [0x02, 0, 0, 0, 0, 0x01];
    /// The tracker's IPv4 address.
    pub const SERVER_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
    /// The tracker's IPv6 address.
    pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 1);
    /// The clients' interface.
    pub const CLIENT_INTERFACE: &'static str = "client0";
    /// The clients' MAC address.
    pub const CLIENT_MAC: Mac = [0x02, 0, 0, 0, 0, 0x02];
    /// How many addresses of each family the clients have.
    pub const CLIENTS: u8 = 10;

    /// The IPv4 address of a client; [`Pair::CLIENTS`] of them are there.
    #[must_use]
    pub const fn client_v4(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, 0, 2 + number)
    }

    /// The IPv6 address of a client; [`Pair::CLIENTS`] of them are there.
    #[must_use]
    pub const fn client_v6(number: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 2 + number as u16)
    }

    /// Sets it up.
    ///
    /// # Errors
    /// When the kernel refuses any of it.
    pub fn new() -> Result<Self> {
        let (server, client) = (Namespace::new()?, Namespace::new()?);
        let clients: Vec<(IpAddr, u8)> = (0..Self::CLIENTS)
            .flat_map(|number| [(Self::client_v4(number).into(), 24), (Self::client_v6(number).into(), 64)])
            .collect();
        let client_end = End { addresses: &clients, ..Self::end(&client) };
        let server_end = End {
            namespace: Some(&server),
            interface: Self::SERVER_INTERFACE,
            mac: Self::SERVER_MAC,
            addresses: &[(Self::SERVER_V4.into(), 24), (Self::SERVER_V6.into(), 64)],
        };
        connect(server_end, client_end)?;
        let pass = client_end.pass()?;
        Ok(Self { _pass: pass, client, server })
    }

    /// The clients' end of the cable.
    #[must_use]
    pub fn client_end(&self) -> End<'_> {
        Self::end(&self.client)
    }

    fn end(client: &Namespace) -> End<'_> {
        End { namespace: Some(client), interface: Self::CLIENT_INTERFACE, mac: Self::CLIENT_MAC, addresses: &[] }
    }
}

/// Runs `ip` with the arguments given, separated by spaces, and returns what it printed.
///
/// # Errors
/// When it fails; with what it printed.
pub fn ip(arguments: &str) -> Result<String> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .context("cannot start `ip`; is iproute2 installed?")?;
    if !output.status.success() {
        bail!("`ip {arguments}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes sure that namespaces can be made and BPF programs be loaded.
///
/// # Errors
/// When this process is not root's.
pub fn require_root() -> Result<()> {
    // SAFETY: takes no pointer and cannot fail.
    let user = unsafe { libc::geteuid() };
    ensure!(
        user == 0,
        "network namespaces and BPF programs need root: run `cargo xtask test` as root, or leave the network tests out with \
         `cargo test --workspace --lib --bins`"
    );
    Ok(())
}

/// Ends what runs in a namespace, and deletes it.
fn remove(name: &str) -> Result<()> {
    for process in ip(&format!("netns pids {name}"))?.split_whitespace() {
        if let Ok(process) = process.parse() {
            // SAFETY: takes no pointer. Nobody but the owner of the namespace starts processes in
            // it.
            unsafe { libc::kill(process, libc::SIGKILL) };
        }
    }
    ip(&format!("netns delete {name}")).map(drop)
}

/// Namespaces of processes that are no more.
fn remove_stale() {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let Some((owner, _)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')) else { continue };
        if owner.parse::<u32>().is_ok() && !Path::new("/proc").join(owner).exists() {
            // Another process may be doing the same right now.
            let _ = remove(&name);
        }
    }
}

fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: takes no pointer and changes nothing but the calling thread's namespace.
    if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A MAC address as people write it.
#[must_use]
pub fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Work that an interface leaves to its network card, or does for packets together. Set as
/// `ethtool -K` sets it, without needing ethtool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// `tx`: checksums of packets sent are left open. `ETHTOOL_STXCSUM`
    TransmitChecksums = 0x17,
    /// `gro`: packets received are put together. `ETHTOOL_SGRO`
    GenericReceive = 0x2c,
}

impl Offload {
    /// Switches it for an interface of the namespace that the thread is in.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn set(self, interface: &str, on: bool) -> Result<()> {
        ethtool(interface, self as u32, on.into())
            .map(drop)
            .with_context(|| format!("cannot switch {self:?} of {interface}"))
    }
}

/// A command of `linux/ethtool.h` that takes or gives one word, for an interface of the namespace
/// that the thread is in.
///
/// # Errors
/// When there is no such interface, or the kernel refuses.
pub fn ethtool(interface: &str, command: u32, data: u32) -> Result<u32> {
    /// `struct ethtool_value` of linux/ethtool.h.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    /// `SIOCETHTOOL`
    const ETHTOOL: libc::Ioctl = 0x8946;

    let mut value = Value { command, data };
    // SAFETY: all zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    ensure!(interface.len() < request.ifr_name.len(), "{interface:?} is too long for the name of an interface");
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").context("cannot open a socket for ioctl")?;
    // SAFETY: request and value live until the call returns; the kernel reads and writes them only
    // during it.
    if unsafe { libc::ioctl(socket.as_raw_fd(), ETHTOOL, &raw mut request) } != 0 {
        bail!("ethtool command {command:#x} on {interface} (ioctl SIOCETHTOOL): {}", io::Error::last_os_error());
    }
    Ok(value.data)
}
