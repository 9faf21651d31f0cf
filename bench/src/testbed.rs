//! Where systems are measured: two network namespaces joined by a veth pair. The client's end
//! belongs to the load's core, the tracker's end to the tracker's core.
//!
//! The client owns whole networks of addresses (local routes), so that any number of clients can be
//! played; the tracker reaches them through one neighbour. All neighbours are static: no ARP or
//! neighbour discovery disturbs a measurement.

use std::{
    ffi::CString,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::Context as _;
use tracker_tests::{
    client, command,
    namespace::{Namespace, Offload, mac_text},
};

use crate::cores::{self, Cores, Thread};

/// The port of all trackers here.
pub const TRACKER_PORT: u16 = 6969;

const TRACKER_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const CLIENT_MAC: [u8; 6] = [0x02, 0x77, 0, 0, 0, 2];

/// Address family of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn tracker_address(self) -> IpAddr {
        match self {
            Family::V4 => TRACKER_V4.into(),
            Family::V6 => Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1).into(),
        }
    }

    /// The address of a client, by its number.
    pub fn client_address(self, number: u32) -> IpAddr {
        let [_, _, high, low] = number.to_be_bytes();
        match self {
            Family::V4 => Ipv4Addr::new(10, 78, high, low).into(),
            Family::V6 => {
                let mixed = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let low = Ipv6Addr::from(u128::from(mixed)).segments();
                Ipv6Addr::new(0xfd78, 0, 0, 0, low[4], low[5], low[6], number as u16).into()
            }
        }
    }
}

pub struct Testbed {
    pub client: Namespace,
    pub tracker: Namespace,
    pub client_interface: String,
    pub tracker_interface: String,
    cores: Cores,
}

impl Testbed {
    pub const TRACKER_MAC: [u8; 6] = [0x02, 0x77, 0, 0, 0, 1];
    /// Room for a request with 74 info_hashes: 1496 bytes after the UDP header.
    pub const MTU: u32 = 1550;

    /// `number` tells testbeds apart that exist at the same time.
    pub fn create(number: usize, cores: Cores) -> anyhow::Result<Self> {
        let (client, tracker) = (Namespace::new()?, Namespace::new()?);
        // The kernel names its polling threads after these, so they must differ from testbed to
        // testbed.
        let client_interface = format!("tb{number}c");
        let tracker_interface = format!("tb{number}t");
        let testbed = Self { client, tracker, client_interface, tracker_interface, cores };
        testbed.connect().context("cannot join the namespaces by a veth pair")?;
        Ok(testbed)
    }

    fn connect(&self) -> anyhow::Result<()> {
        let (client, tracker) = (self.client_interface.as_str(), self.tracker_interface.as_str());
        let (client_mac, tracker_mac) = (mac_text(CLIENT_MAC), mac_text(Self::TRACKER_MAC));
        let shape = format!("mtu {} numrxqueues 1 numtxqueues 1", Self::MTU);
        self.client.ip(&format!(
            "link add {client} address {client_mac} {shape} type veth peer name {tracker} netns {} address {tracker_mac} {shape}",
            self.tracker.name()
        ))?;

        // Requests must carry whole checksums; a network card would have computed them.
        self.client.enter(|| Offload::TransmitChecksums.set(client, false))?;
        for (namespace, interface) in [(&self.client, client), (&self.tracker, tracker)] {
            // Without an XDP program on it, a veth end is polled (and accepts frames from XDP) only
            // with GRO.
            namespace.enter(|| Offload::GenericReceive.set(interface, true))?;
            namespace.set(&format!("ipv6/conf/{interface}/accept_dad"), "0")?;
            namespace.set(&format!("ipv6/conf/{interface}/router_solicitations"), "0")?;
            namespace.set("ipv4/ip_local_port_range", "1024 65535")?;
            namespace.set("core/somaxconn", "65535")?;
        }

        self.client.ip(&format!("address add 10.77.0.2/24 dev {client}"))?;
        self.client.ip(&format!("address add fd77::2/64 dev {client} nodad"))?;
        self.tracker.ip(&format!("address add 10.77.0.1/24 dev {tracker}"))?;
        self.tracker.ip(&format!("address add fd77::1/64 dev {tracker} nodad"))?;
        self.client.ip(&format!("link set {client} up"))?;
        self.tracker.ip(&format!("link set {tracker} up"))?;
        for address in ["10.77.0.1", "fd77::1"] {
            self.client.ip(&format!("neigh add {address} lladdr {tracker_mac} nud permanent dev {client}"))?;
        }
        for address in ["10.77.0.2", "fd77::2"] {
            self.tracker.ip(&format!("neigh add {address} lladdr {client_mac} nud permanent dev {tracker}"))?;
        }
        self.client.ip("route add local 10.78.0.0/16 dev lo")?;
        self.client.ip("-6 route add local fd78::/64 dev lo")?;
        self.tracker.ip(&format!("route add 10.78.0.0/16 via 10.77.0.2 dev {tracker}"))?;
        self.tracker.ip(&format!("-6 route add fd78::/64 via fd77::2 dev {tracker}"))?;

        for (namespace, interface) in [(&self.client, client), (&self.tracker, tracker)] {
            set_interface(namespace, interface, &[("threaded", "1")])
                .context("cannot let the kernel poll the interface in a thread (threaded NAPI, Linux 5.12)")?;
        }
        Ok(())
    }

    /// How long the client's end waits before it looks for replies. Like the interrupt moderation
    /// of a network card: without it the tracker's core would pay an interprocessor interrupt for
    /// every single reply, which no card asks for.
    pub fn set_moderation(&self, moderation: Duration) -> anyhow::Result<()> {
        let deferred = if moderation.is_zero() { 0 } else { i32::MAX };
        let settings =
            [("gro_flush_timeout", moderation.as_nanos().to_string()), ("napi_defer_hard_irqs", deferred.to_string())];
        set_interface(
            &self.client,
            &self.client_interface,
            &settings.each_ref().map(|(name, value)| (*name, value.as_str())),
        )
        .context("cannot set the moderation of the client's end (Linux 5.8)")
    }

    /// Ties the polling threads to their cores. They are made anew when an XDP program comes or
    /// goes, so this is done before every measurement. Returns the threads of the tracker's end.
    pub fn pin(&self) -> anyhow::Result<Vec<Thread>> {
        for thread in cores::polling_threads(&self.client_interface)? {
            cores::pin(thread, self.cores.load).context("cannot tie a polling thread to the load's core")?;
            // It must not wait behind the generator, or replies would be lost that the tracker did
            // send.
            cores::prefer(thread).context("cannot give a polling thread a real-time priority")?;
        }
        let threads = cores::polling_threads(&self.tracker_interface)?;
        for &thread in &threads {
            cores::pin(thread, self.cores.tracker).context("cannot tie a polling thread to the tracker's core")?;
            cores::set_nice(thread, cores::FAVOURED).context("cannot set the nice value of a polling thread")?;
        }
        Ok(threads)
    }

    /// Where the tracker answers HTTP.
    pub const HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(TRACKER_V4), TRACKER_PORT);

    /// Fetches a path from the tracker by HTTP. By the tracker's own host: the interface under load
    /// is left alone.
    pub fn get(&self, path: &str) -> anyhow::Result<String> {
        client::http_get(Some(&self.tracker), Self::HTTP, path)?.text()
    }

    /// The Ethernet header of a request.
    pub fn request_ethernet(family: Family) -> [u8; 14] {
        let mut header = [0; 14];
        header[..6].copy_from_slice(&Self::TRACKER_MAC);
        header[6..12].copy_from_slice(&CLIENT_MAC);
        header[12..].copy_from_slice(match family {
            Family::V4 => &[0x08, 0x00],
            Family::V6 => &[0x86, 0xdd],
        });
        header
    }
}

/// Writes settings of an interface, which are below the /sys of its namespace.
fn set_interface(namespace: &Namespace, interface: &str, settings: &[(&str, &str)]) -> anyhow::Result<()> {
    let writes: Vec<_> = settings
        .iter()
        .map(|(setting, value)| format!("echo {value} > /sys/class/net/{interface}/{setting}"))
        .collect();
    command::output(namespace.command("sh").args(["-c", &writes.join(" && ")])).map(drop)
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

/// The number of the XDP program that is attached to an interface of `namespace`.
pub fn attached_program(namespace: &Namespace, interface: &str) -> anyhow::Result<u32> {
    let text = namespace.ip(&format!("-j link show dev {interface}"))?;
    let links: serde_json::Value = serde_json::from_str(&text).context("cannot read the output of `ip -j link`")?;
    let number = links[0]["xdp"]["prog"]["id"].as_u64();
    number
        .and_then(|number| u32::try_from(number).ok())
        .with_context(|| format!("no XDP program is attached to {interface}"))
}
