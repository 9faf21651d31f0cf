//! Where a contest takes place: two network namespaces joined by a veth pair. The client's end belongs to the load's core,
//! the tracker's end to the tracker's core.
//!
//! The client owns whole networks of addresses (local routes), so that any number of clients can be played; the tracker
//! reaches them through one neighbour. All neighbours are static: no ARP or neighbour discovery disturbs a measurement.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use anyhow::Context as _;

use super::{
    cores::{self, Cores, Thread},
    netns::Netns,
};

/// The port of all trackers here.
pub const TRACKER_PORT: u16 = 6969;

/// Room for a request with 74 info_hashes: 1496 bytes after the UDP header.
const MTU: &str = "1550";
const TRACKER_MAC: [u8; 6] = [0x02, 0x77, 0, 0, 0, 1];
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
            Family::V4 => Ipv4Addr::new(10, 77, 0, 1).into(),
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

pub struct Arena {
    pub client: Netns,
    pub tracker: Netns,
    pub client_interface: String,
    pub tracker_interface: String,
    cores: Cores,
}

impl Arena {
    /// `number` tells arenas apart that exist at the same time.
    pub fn create(number: usize, cores: Cores) -> anyhow::Result<Self> {
        let client = Netns::create(&format!("{number}-client"))?;
        let tracker = Netns::create(&format!("{number}-tracker"))?;
        // The kernel names its polling threads after these, so they must differ from arena to arena.
        let client_interface = format!("tb{number}c");
        let tracker_interface = format!("tb{number}t");
        let arena = Self { client, tracker, client_interface, tracker_interface, cores };
        arena.connect().context("cannot join the namespaces by a veth pair")?;
        Ok(arena)
    }

    fn connect(&self) -> anyhow::Result<()> {
        let (client, tracker) = (self.client_interface.as_str(), self.tracker_interface.as_str());
        let queues = ["numrxqueues", "1", "numtxqueues", "1"];
        let mut link = vec!["link", "add", client, "address"];
        let (client_mac, tracker_mac) = (mac_text(CLIENT_MAC), mac_text(TRACKER_MAC));
        link.extend([client_mac.as_str(), "mtu", MTU]);
        link.extend(queues);
        link.extend(["type", "veth", "peer", "name", tracker, "netns", self.tracker.name()]);
        link.extend(["address", &tracker_mac, "mtu", MTU]);
        link.extend(queues);
        self.client.ip(&link)?;

        // Requests must carry whole checksums; a network card would have computed them.
        self.client.run("ethtool", &["-K", client, "tx", "off"])?;
        // Without an XDP program on it, a veth end is polled (and accepts frames from XDP) only with GRO.
        for (netns, interface) in [(&self.client, client), (&self.tracker, tracker)] {
            netns.run("ethtool", &["-K", interface, "gro", "on"])?;
            netns.sysctl(&format!("net.ipv6.conf.{interface}.accept_dad=0"))?;
            netns.sysctl(&format!("net.ipv6.conf.{interface}.router_solicitations=0"))?;
            netns.sysctl("net.ipv4.ip_local_port_range=1024 65535")?;
            netns.sysctl("net.core.somaxconn=65535")?;
        }

        self.client.ip(&["addr", "add", "10.77.0.2/24", "dev", client])?;
        self.client.ip(&["addr", "add", "fd77::2/64", "dev", client, "nodad"])?;
        self.tracker.ip(&["addr", "add", "10.77.0.1/24", "dev", tracker])?;
        self.tracker.ip(&["addr", "add", "fd77::1/64", "dev", tracker, "nodad"])?;
        self.client.ip(&["link", "set", client, "up"])?;
        self.tracker.ip(&["link", "set", tracker, "up"])?;
        for address in ["10.77.0.1", "fd77::1"] {
            self.client.ip(&["neigh", "add", address, "lladdr", &tracker_mac, "nud", "permanent", "dev", client])?;
        }
        for address in ["10.77.0.2", "fd77::2"] {
            self.tracker.ip(&["neigh", "add", address, "lladdr", &client_mac, "nud", "permanent", "dev", tracker])?;
        }
        self.client.ip(&["route", "add", "local", "10.78.0.0/16", "dev", "lo"])?;
        self.client.ip(&["-6", "route", "add", "local", "fd78::/64", "dev", "lo"])?;
        self.tracker.ip(&["route", "add", "10.78.0.0/16", "via", "10.77.0.2", "dev", tracker])?;
        self.tracker.ip(&["-6", "route", "add", "fd78::/64", "via", "fd77::2", "dev", tracker])?;

        for (netns, interface) in [(&self.client, client), (&self.tracker, tracker)] {
            netns
                .run("sh", &["-c", &format!("echo 1 > /sys/class/net/{interface}/threaded")])
                .context("cannot let the kernel poll the interface in a thread (threaded NAPI, Linux 5.12)")?;
        }
        Ok(())
    }

    /// How long the client's end waits before it looks for replies. Like the interrupt moderation of a network card: without
    /// it the tracker's core would pay an interprocessor interrupt for every single reply, which no card asks for.
    pub fn set_moderation(&self, moderation: Duration) -> anyhow::Result<()> {
        let directory = format!("/sys/class/net/{}", self.client_interface);
        let deferred = if moderation.is_zero() { 0 } else { i32::MAX };
        self.client
            .run(
                "sh",
                &[
                    "-c",
                    &format!(
                        "echo {} > {directory}/gro_flush_timeout && echo {deferred} > {directory}/napi_defer_hard_irqs",
                        moderation.as_nanos()
                    ),
                ],
            )
            .context("cannot set the moderation of the client's end (Linux 5.8)")
    }

    /// Ties the polling threads to their cores. They are made anew when an XDP program comes or goes, so this is done
    /// before every measurement. Returns the threads of the tracker's end.
    pub fn pin(&self) -> anyhow::Result<Vec<Thread>> {
        for thread in cores::polling_threads(&self.client_interface)? {
            cores::pin(thread, self.cores.load).context("cannot tie a polling thread to the load's core")?;
            // It must not wait behind the generator, or replies would be lost that the tracker did send.
            cores::prefer(thread).context("cannot give a polling thread a real-time priority")?;
        }
        let threads = cores::polling_threads(&self.tracker_interface)?;
        for &thread in &threads {
            cores::pin(thread, self.cores.tracker).context("cannot tie a polling thread to the tracker's core")?;
            cores::set_nice(thread, cores::FAVOURED).context("cannot set the nice value of a polling thread")?;
        }
        Ok(threads)
    }

    /// The Ethernet header of a request.
    pub fn request_ethernet(&self, family: Family) -> [u8; 14] {
        let mut header = [0; 14];
        header[..6].copy_from_slice(&TRACKER_MAC);
        header[6..12].copy_from_slice(&CLIENT_MAC);
        header[12..].copy_from_slice(match family {
            Family::V4 => &[0x08, 0x00],
            Family::V6 => &[0x86, 0xdd],
        });
        header
    }
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
