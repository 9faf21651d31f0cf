//! The network cards of a guest: pairs of them, joined inside qemu where one queue is enough, else
//! by a bridge in a network namespace that is made for it. No interface of this machine is touched.

use std::{path::Path, process::Command};

use anyhow::Context as _;
use tracker_tests::{
    cards::{CLIENT_DEVICE, KINDS, client_mac, server_mac},
    namespace::{Namespace, mac_text},
};

/// The cards of one guest. Has to be dropped after the guest.
pub struct Cards {
    /// Where the bridges are, and qemu has to be.
    namespace: Namespace,
    options: Vec<String>,
}

impl Cards {
    /// Sets up what joins the cards of one guest.
    ///
    /// # Errors
    /// When this process is not root's, or the kernel has no tap devices or bridges.
    pub fn new() -> anyhow::Result<Self> {
        let namespace = Namespace::new()?;
        let mut cards = Self { namespace, options: Vec::new() };
        for (number, kind) in (0_u8..).zip(&KINDS) {
            if kind.queues > 1 {
                cards.join_by_bridge(number, kind.queues)?;
            } else {
                cards.join_inside(number);
            }
            for (side, device, mac) in
                [("server", kind.device, server_mac(number)), ("client", CLIENT_DEVICE, client_mac(number))]
            {
                // No ROM to start from the network by: it would be loaded for each card.
                cards.option("-device", format!("{device},netdev={side}{number},mac={},romfile=", mac_text(mac)));
            }
        }
        Ok(cards)
    }

    /// What qemu has to be told.
    pub fn options(&self) -> &[String] {
        &self.options
    }

    /// qemu, where it finds the bridges.
    pub fn command(&self, qemu: &Path) -> Command {
        self.namespace.command(qemu)
    }

    fn option(&mut self, name: &str, value: String) {
        self.options.push(name.to_owned());
        self.options.push(value);
    }

    /// A hub of qemu's own.
    fn join_inside(&mut self, number: u8) {
        for side in ["server", "client"] {
            self.option("-netdev", format!("hubport,id={side}{number},hubid={number}"));
        }
    }

    /// Two tap devices, that of the tracker's side with several queues, and a bridge.
    fn join_by_bridge(&mut self, number: u8, queues: u16) -> anyhow::Result<()> {
        let bridge = format!("bridge{number}");
        let make = |arguments: &str| {
            self.namespace.ip(arguments).context("cannot join the cards of a guest; is there /dev/net/tun?")
        };
        // Neither spanning tree nor snooping: every frame is passed on from the first moment.
        make(&format!("link add {bridge} type bridge stp_state 0 mcast_snooping 0"))?;
        let mut options = Vec::new();
        for (side, queues) in [("server", queues), ("client", 1)] {
            let tap = format!("{side}{number}");
            let multi = if queues > 1 { " multi_queue" } else { "" };
            make(&format!("tuntap add dev {tap} mode tap{multi}"))?;
            make(&format!("link set {tap} addrgenmode none master {bridge} up"))?;
            let queues = if queues > 1 { format!(",queues={queues}") } else { String::new() };
            options.push(format!("tap,id={tap},ifname={tap},script=no,downscript=no,vhost=off{queues}"));
        }
        make(&format!("link set {bridge} addrgenmode none up"))?;
        for option in options {
            self.option("-netdev", option);
        }
        Ok(())
    }
}

/// The lines of the drivers' table that a guest has printed.
pub fn table(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.starts_with('|')).collect()
}
