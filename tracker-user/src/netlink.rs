//! What the kernel says of interfaces, their addresses, default routes and attached XDP programs (rtnetlink).

use anyhow::{Context as _, bail};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached},
    route::{RouteAttribute, RouteHeader, RouteMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::net::IpAddr;

/// A network interface.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address, if it has one of 6 bytes.
    pub mac: Option<[u8; 6]>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Loopback.
    pub loopback: bool,
    /// Switched on.
    pub up: bool,
    /// For a VLAN interface: the number of the interface it sits on.
    pub vlan_of: Option<u32>,
    /// Attached XDP programs.
    pub xdp: Vec<AttachedProgram>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedProgram {
    /// Where it runs.
    pub mode: AttachedMode,
    /// The kernel's number of the program.
    pub program: u32,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedMode {
    /// In the network stack, after the packet was put into a socket buffer.
    Generic,
    /// In the driver.
    Native,
    /// In the network card.
    Offloaded,
}

impl AttachedMode {
    /// A word for people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            AttachedMode::Generic => "generic",
            AttachedMode::Native => "native",
            AttachedMode::Offloaded => "offloaded",
        }
    }

    /// `XDP_FLAGS_*_MODE` of `linux/if_link.h`.
    const fn flag(self) -> u32 {
        match self {
            AttachedMode::Generic => 1 << 1,
            AttachedMode::Native => 1 << 2,
            AttachedMode::Offloaded => 1 << 3,
        }
    }
}

/// An address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    /// Number of the interface that has it.
    pub interface: u32,
    /// The address.
    pub address: IpAddr,
}

/// All interfaces of this network namespace.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn interfaces() -> anyhow::Result<Vec<Interface>> {
    let mut interfaces = Vec::new();
    request(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP, |message| {
        if let RouteNetlinkMessage::NewLink(link) = message {
            interfaces.push(interface(link));
        }
    })
    .context("cannot list the network interfaces")?;
    Ok(interfaces)
}

/// All usable addresses of this network namespace, in the kernel's order.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn addresses() -> anyhow::Result<Vec<LocalAddress>> {
    let mut addresses = Vec::new();
    request(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP, |message| {
        if let RouteNetlinkMessage::NewAddress(message) = message {
            addresses.extend(address(message));
        }
    })
    .context("cannot list the addresses of the network interfaces")?;
    Ok(addresses)
}

/// Numbers of the interfaces that carry a default route, for advice.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn default_route_interfaces() -> anyhow::Result<Vec<u32>> {
    let mut interfaces = Vec::new();
    request(RouteNetlinkMessage::GetRoute(RouteMessage::default()), NLM_F_DUMP, |message| {
        if let RouteNetlinkMessage::NewRoute(RouteMessage { header, attributes, .. }) = message
            && header.destination_prefix_length == 0
            && header.table == RouteHeader::RT_TABLE_MAIN
        {
            for attribute in attributes {
                if let RouteAttribute::Oif(index) = attribute
                    && !interfaces.contains(&index)
                {
                    interfaces.push(index);
                }
            }
        }
    })
    .context("cannot list the default routes")?;
    Ok(interfaces)
}

/// Takes an XDP program off an interface that was attached without a link, whoever attached it.
///
/// # Errors
/// When the kernel refuses.
pub fn detach_xdp(interface: u32, mode: AttachedMode) -> anyhow::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = interface;
    message.attributes.push(LinkAttribute::Xdp(vec![LinkXdp::Fd(-1), LinkXdp::Flags(mode.flag())]));
    request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK, |_| ())
}

fn interface(link: LinkMessage) -> Interface {
    let mut interface = Interface {
        index: link.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        loopback: link.header.flags.contains(LinkFlags::Loopback),
        up: link.header.flags.contains(LinkFlags::Up),
        vlan_of: None,
        xdp: Vec::new(),
    };
    let mut lower = None;
    let mut vlan = false;
    for attribute in link.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            interface.name = name;
        } else if let LinkAttribute::Address(address) = attribute {
            interface.mac = address.try_into().ok();
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            interface.mtu = mtu;
        } else if let LinkAttribute::Link(index) = attribute {
            lower = Some(index);
        } else if let LinkAttribute::LinkInfo(information) = attribute {
            vlan = information.contains(&LinkInfo::Kind(InfoKind::Vlan));
        } else if let LinkAttribute::Xdp(xdp) = attribute {
            interface.xdp = attached(&xdp);
        }
    }
    interface.vlan_of = lower.filter(|_| vlan);
    interface
}

/// With one program the kernel says `Attached` and `ProgId`, with several it also gives a number per mode; in both cases the
/// number per mode is there.
fn attached(attributes: &[LinkXdp]) -> Vec<AttachedProgram> {
    let mut programs = Vec::new();
    let mut only = None;
    let mut only_mode = None;
    for attribute in attributes {
        let found = if let LinkXdp::DrvProgId(program) = attribute {
            Some((AttachedMode::Native, program))
        } else if let LinkXdp::SkbProgId(program) = attribute {
            Some((AttachedMode::Generic, program))
        } else if let LinkXdp::HwProgId(program) = attribute {
            Some((AttachedMode::Offloaded, program))
        } else {
            None
        };
        if let Some((mode, &program)) = found {
            programs.push(AttachedProgram { mode, program });
        }
        if let LinkXdp::ProgId(program) = attribute {
            only = Some(*program);
        }
        if let LinkXdp::Attached(mode) = attribute {
            only_mode = [
                (XdpAttached::Driver, AttachedMode::Native),
                (XdpAttached::SocketBuffer, AttachedMode::Generic),
                (XdpAttached::Hardware, AttachedMode::Offloaded),
            ]
            .into_iter()
            .find_map(|(known, ours)| (known == *mode).then_some(ours));
        }
    }
    if programs.is_empty()
        && let (Some(mode), Some(program)) = (only_mode, only)
    {
        programs.push(AttachedProgram { mode, program });
    }
    programs
}

/// An address that packets can be sent to by now and for a while.
fn address(message: AddressMessage) -> Option<LocalAddress> {
    let mut local = None;
    let mut address = None;
    for attribute in message.attributes {
        if let AddressAttribute::Local(value) = attribute {
            local = Some(value);
        } else if let AddressAttribute::Address(value) = attribute {
            address = Some(value);
        } else if let AddressAttribute::Flags(flags) = attribute
            && flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed)
        {
            return None;
        }
    }
    // On point-to-point links `address` is the other end's.
    Some(LocalAddress { interface: message.header.index, address: local.or(address)? })
}

/// Sends a request and calls `each` with every message of the answer.
fn request(message: RouteNetlinkMessage, flags: u16, mut each: impl FnMut(RouteNetlinkMessage)) -> anyhow::Result<()> {
    const SEQUENCE: u32 = 1;

    let mut socket = Socket::new(NETLINK_ROUTE).context("cannot open a netlink socket")?;
    socket.bind_auto().context("cannot bind a netlink socket")?;
    socket.connect(&SocketAddr::new(0, 0)).context("cannot connect a netlink socket to the kernel")?;

    let mut packet = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
    packet.header.flags = NLM_F_REQUEST | flags;
    packet.header.sequence_number = SEQUENCE;
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0).context("cannot send a netlink request")?;

    loop {
        let (datagram, _) = socket.recv_from_full().context("cannot receive a netlink answer")?;
        let mut rest = datagram.as_slice();
        while let Ok(buffer) = NetlinkBuffer::new_checked(rest) {
            let length = buffer.length() as usize;
            let ours = buffer.sequence_number() == SEQUENCE;
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) {
                Ok(message) if ours => match message.payload {
                    NetlinkPayload::InnerMessage(message) => each(message),
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io().into()),
                    NetlinkPayload::Overrun(_) => bail!("the kernel's netlink answer was cut short"),
                    NetlinkPayload::Noop | _ => (),
                },
                Ok(_) => (),
                // A newer kernel may describe one interface in a way this program does not know; the others still count.
                Err(error) => tracing::debug!("a netlink message was not understood: {error}"),
            }
            // Messages are aligned to 4 bytes.
            rest = rest.get(length.max(1).next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_listed_with_its_address() {
        let interfaces = interfaces().expect("netlink answers everybody");
        let loopback = interfaces.iter().find(|interface| interface.loopback).expect("there always is one");
        assert_eq!(loopback.xdp, []);
        // It need not be up.
        for address in addresses().expect("netlink answers everybody") {
            if address.address == IpAddr::from([127, 0, 0, 1]) {
                assert_eq!(address.interface, loopback.index);
            }
        }
    }

    #[test]
    fn attached_program_is_read_in_both_forms() {
        let native = AttachedProgram { mode: AttachedMode::Native, program: 7 };
        for attributes in [
            vec![LinkXdp::Attached(XdpAttached::Driver), LinkXdp::ProgId(7)],
            vec![LinkXdp::Attached(XdpAttached::Driver), LinkXdp::ProgId(7), LinkXdp::DrvProgId(7)],
        ] {
            assert_eq!(attached(&attributes), [native]);
        }
        assert_eq!(attached(&[LinkXdp::Attached(XdpAttached::None)]), []);
    }
}
