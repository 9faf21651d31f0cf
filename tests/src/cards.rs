//! Pairs of network cards as a virtual machine has them, for tests with real drivers.
//! `cargo xtask kernels` puts them into its guests; the tests find them by their MAC addresses, and
//! give the clients' card of each pair a network namespace of its own. The tracker's cards are all
//! in one: then one start of the tracker, which takes long in a guest, does for all of them.

use crate::{
    namespace::{End, Namespace, connect, ip, mac_text},
    packet::Mac,
    pass, patience,
};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Where the kernel shows the interfaces of a network namespace.
const DIRECTORY: &str = "/sys/class/net";

/// How long a card may take to find its link.
const PATIENCE: Duration = Duration::from_secs(20);

/// A kind of card for the tracker, joined to a card for the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// What people call it.
    pub name: &'static str,
    /// qemu's device for the tracker's card, with the options that make this kind.
    pub device: &'static str,
    /// Pairs of queues that the tracker's card has. With one the two cards are joined inside qemu,
    /// which knows no more; with several by a bridge.
    pub queues: u16,
    /// The first kernel whose driver has native XDP; `None` if there is no such kernel yet.
    pub native_since: Option<(u32, u32)>,
}

/// All kinds that are tried. virtio_net has XDP since 4.10, vmxnet3 since 6.6 (commit
/// 54f00cce1178), e1000e not at all.
///
/// Small buffers come with a card that does not put packets together: with one that does
/// (`guest_tso4`) but has no mergeable buffers, virtio_net makes buffers of 64 KiB, and takes an
/// XDP program that it then never runs.
pub const KINDS: [Kind; 5] = [
    Kind {
        name: "virtio_net, mergeable buffers, 4 queues",
        device: "virtio-net-pci,mrg_rxbuf=on,mq=on,vectors=10",
        queues: 4,
        native_since: Some((4, 10)),
    },
    Kind {
        name: "virtio_net, small buffers, 4 queues",
        device: "virtio-net-pci,mrg_rxbuf=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,mq=on,vectors=10",
        queues: 4,
        native_since: Some((4, 10)),
    },
    // No queue is left for what XDP sends, so that the driver shares the one that there is.
    Kind {
        name: "virtio_net, mergeable buffers, 1 queue",
        device: "virtio-net-pci,mrg_rxbuf=on",
        queues: 1,
        native_since: Some((4, 10)),
    },
    Kind { name: "vmxnet3", device: "vmxnet3", queues: 1, native_since: Some((6, 6)) },
    Kind { name: "e1000e", device: "e1000e", queues: 1, native_since: None },
];

/// qemu's device for the clients' cards. Its driver finishes the checksums of what it sends:
/// between virtual machines nobody else would.
pub const CLIENT_DEVICE: &str =
    "virtio-net-pci,csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off";

/// The MAC address of the tracker's card of the kind with this number.
#[must_use]
pub const fn server_mac(number: u8) -> Mac {
    [0x02, 0x74, 0x72, 0x6b, number, 1]
}

/// The MAC address of the clients' card of the kind with this number.
#[must_use]
pub const fn client_mac(number: u8) -> Mac {
    [0x02, 0x74, 0x72, 0x6b, number, 2]
}

/// A link between the tracker's host and a host of clients of its own, with addresses that no other
/// link has.
#[derive(Debug)]
pub struct Link {
    number: u8,
    /// The clients' host.
    pub client: Namespace,
    client_interface: String,
    /// The tracker's interface.
    pub server_interface: String,
    /// The tracker's card among the devices of its bus, for example virtio5: so the names of its
    /// interrupts begin. A veth pair has none.
    server_device: Option<String>,
    /// Without it the clients' end of a veth pair would receive nothing from XDP.
    _pass: Option<pass::Attached>,
}

impl Link {
    /// How many addresses of each family the clients have.
    pub const CLIENTS: u8 = 5;

    /// The tracker's address on the link with this number.
    #[must_use]
    pub const fn server(number: u8, ipv4: bool) -> IpAddr {
        Self::address(number, ipv4, 1)
    }

    /// The address of one of the clients on the link with this number.
    #[must_use]
    pub const fn client(number: u8, ipv4: bool, client: u8) -> IpAddr {
        Self::address(number, ipv4, 2 + client)
    }

    const fn address(number: u8, ipv4: bool, host: u8) -> IpAddr {
        if ipv4 {
            IpAddr::V4(Ipv4Addr::new(198, 18, 100 + number, host))
        } else {
            IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 100 + number as u16, 0, 0, 0, host as u16))
        }
    }

    /// Takes the cards of the kind with this number out of the first namespace, gives one to
    /// `server` and makes a host for the other. The kernel gives them back when those are gone.
    ///
    /// # Errors
    /// When they are not there, or have no link after a while.
    pub fn of_cards(number: u8, server: &Namespace) -> Result<Self> {
        let client = Namespace::new()?;
        let server_interface = interface(server_mac(number))?;
        let client_interface = interface(client_mac(number))?;
        let device = fs::read_link(Path::new(DIRECTORY).join(&server_interface).join("device"));
        let device = device.with_context(|| format!("{server_interface} is no card"))?;
        let server_device = Some(device.file_name().unwrap_or_default().to_string_lossy().into_owned());
        for (namespace, interface) in [(server, &server_interface), (&client, &client_interface)] {
            ip(&format!("link set {interface} netns {}", namespace.name()))?;
        }
        let link = Self { number, client, client_interface, server_interface, server_device, _pass: None };
        link.configure(server)?;
        Ok(link)
    }

    /// A veth pair; `number` is that of no card.
    ///
    /// # Errors
    /// When the kernel refuses any of it.
    pub fn of_veth(number: u8, server: &Namespace) -> Result<Self> {
        let client = Namespace::new()?;
        let (server_interface, client_interface) = (format!("server{number}"), format!("client{number}"));
        let (here, there) = (server_mac(number), client_mac(number));
        let server_end = End { namespace: Some(server), interface: &server_interface, mac: here, addresses: &[] };
        let client_end = End { namespace: Some(&client), interface: &client_interface, mac: there, addresses: &[] };
        connect(server_end, client_end)?;
        let pass = Some(client_end.pass()?);
        let link = Self { number, client, client_interface, server_interface, server_device: None, _pass: pass };
        link.configure(server)?;
        Ok(link)
    }

    fn configure(&self, server: &Namespace) -> Result<()> {
        let ends = [(server, &self.server_interface), (&self.client, &self.client_interface)];
        for (namespace, interface) in ends {
            // Addresses work at once, and packets are what tests send.
            for setting in ["accept_dad", "router_solicitations"] {
                namespace.set(&format!("ipv6/conf/{interface}/{setting}"), "0")?;
            }
        }
        for (ipv4, length) in [(true, "24"), (false, "64 nodad")] {
            let address = Self::server(self.number, ipv4);
            server.ip(&format!("address add {address}/{length} dev {}", self.server_interface))?;
            for client in 0..Self::CLIENTS {
                let address = Self::client(self.number, ipv4, client);
                self.client.ip(&format!("address add {address}/{length} dev {}", self.client_interface))?;
            }
        }
        for (namespace, interface) in ends {
            namespace.ip(&format!("link set {interface} up"))?;
        }
        self.wait(server)
    }

    /// Waits until both ends are up: cards lose their link for seconds when they are configured.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait(&self, server: &Namespace) -> Result<()> {
        let deadline = Instant::now() + patience(PATIENCE);
        let up = |namespace: &Namespace, interface: &str| -> Result<bool> {
            Ok(namespace.ip(&format!("link show {interface}"))?.contains("LOWER_UP"))
        };
        while !(up(server, &self.server_interface)? && up(&self.client, &self.client_interface)?) {
            ensure!(
                Instant::now() < deadline,
                "{} and {} have no link after {} seconds",
                self.server_interface,
                self.client_interface,
                PATIENCE.as_secs()
            );
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The interrupts so far of each queue by which the tracker's card receives, where it is a
    /// virtio card.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn interrupts(&self) -> Result<Vec<u64>> {
        const FILE: &str = "/proc/interrupts";
        let Some(device) = &self.server_device else { return Ok(Vec::new()) };
        let text = fs::read_to_string(FILE).with_context(|| format!("cannot read {FILE}"))?;
        Ok(interrupts_of(&text, &format!("{device}-input.")))
    }
}

/// The interface of the calling thread's namespace that has this MAC address.
///
/// # Errors
/// When there is none.
pub fn interface(mac: Mac) -> Result<String> {
    let wanted = mac_text(mac);
    for entry in fs::read_dir(DIRECTORY).with_context(|| format!("cannot read {DIRECTORY}"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let address = fs::read_to_string(Path::new(DIRECTORY).join(&name).join("address")).unwrap_or_default();
        if address.trim() == wanted {
            return Ok(name);
        }
    }
    bail!("no interface has the MAC address {wanted}: these tests run in the guests of `cargo xtask kernels`")
}

/// The sums over all processors of the lines whose last word begins so.
fn interrupts_of(text: &str, name: &str) -> Vec<u64> {
    let lines = text.lines().filter(|line| line.split_whitespace().last().is_some_and(|word| word.starts_with(name)));
    let numbers = |line: &str| line.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok()).sum();
    lines.map(numbers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_cards_have_one_mac_address() {
        let numbers = 0..u8::try_from(KINDS.len()).unwrap();
        let addresses: BTreeSet<Mac> = numbers.flat_map(|number| [server_mac(number), client_mac(number)]).collect();
        assert_eq!(addresses.len(), 2 * KINDS.len());
        assert!(addresses.iter().all(|mac| mac[0] & 3 == 2), "unicast and locally administered");
    }

    #[test]
    fn interrupts_are_counted_for_each_queue_of_one_card() {
        let text = "           CPU0       CPU1\n \
                     26:        100          5   PCI-MSIX-0000:00:03.0   1-edge      virtio1-input.0\n \
                     27:          1          0   PCI-MSIX-0000:00:03.0   2-edge      virtio1-output.0\n \
                     28:          0          7   PCI-MSIX-0000:00:03.0   3-edge      virtio1-input.1\n \
                     29:          9          9   PCI-MSIX-0000:00:04.0   1-edge      virtio11-input.0\n \
                    NMI:          0          0   Non-maskable interrupts\n";
        for (name, expected) in
            [("virtio1-input.", &[105, 7][..]), ("virtio11-input.", &[18]), ("virtio2-input.", &[]), ("eth0", &[])]
        {
            assert_eq!(interrupts_of(text, name), expected, "{name}");
        }
    }

    #[test]
    fn card_that_is_not_there_is_named() {
        let error = interface([0x02, 0, 0, 0, 0, 0xee]).unwrap_err().to_string();
        assert!(error.contains("02:00:00:00:00:ee"), "{error}");
    }
}
