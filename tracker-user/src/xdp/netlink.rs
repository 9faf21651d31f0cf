//! What the kernel says of interfaces, their addresses, default routes and attached XDP programs
//! (rtnetlink).

use super::status::Card;
use anyhow::{Context as _, bail};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::{io, net::IpAddr};

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
    /// For a VLAN interface: the number of the interface it sits on, if that is in this network
    /// namespace.
    pub vlan_of: Option<u32>,
    /// For an end of a veth pair: where the other end is.
    pub veth_peer: Option<VethPeer>,
    /// Attached XDP programs.
    pub xdp: Vec<AttachedProgram>,
    /// What it is made of.
    pub card: Card,
}

/// Where the other end of a veth pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VethPeer {
    /// Its interface number, in its own network namespace.
    pub index: u32,
    /// This namespace's number for the namespace it is in; `None` for this one.
    pub namespace: Option<i32>,
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
    /// Its name for people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            AttachedMode::Generic => "generic",
            AttachedMode::Native => "native",
            AttachedMode::Offloaded => "offloaded",
        }
    }

    /// `XDP_FLAGS_*_MODE` of `linux/if_link.h`.
    pub(crate) const fn flag(self) -> u32 {
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
    request(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP, as_interface)
        .context("cannot list the network interfaces")
}

/// One interface, of this network namespace or of that with the number given.
///
/// # Errors
/// When the kernel cannot be asked, or does not answer: about another namespace it answers only
/// those with privileges there.
pub fn find(index: u32, namespace: Option<i32>) -> anyhow::Result<Option<Interface>> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.extend(namespace.map(LinkAttribute::IfNetnsId));
    match request(RouteNetlinkMessage::GetLink(message), NLM_F_ACK, as_interface) {
        Ok(found) => Ok(found.into_iter().next()),
        Err(error) if is(&error, libc::ENODEV) => Ok(None),
        Err(error) => Err(error.context(format!("cannot ask for the network interface with number {index}"))),
    }
}

/// Whether packets to this address are for this host, be it an address of an interface or one that
/// a local route names.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn is_local(address: IpAddr) -> anyhow::Result<bool> {
    let mut message = RouteMessage::default();
    let (family, length, destination) = match address {
        IpAddr::V4(address) => (AddressFamily::Inet, 32, RouteAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(address)),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    message.attributes.push(RouteAttribute::Destination(destination));
    // The kernel answers with an error if there is no route, or one that forbids or discards
    // packets.
    let elsewhere = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES, libc::EINVAL];
    let routes = request(RouteNetlinkMessage::GetRoute(message), NLM_F_ACK, |message| {
        if let RouteNetlinkMessage::NewRoute(route) = message { Some(route.header.kind) } else { None }
    });
    match routes {
        Ok(kinds) => Ok(kinds.contains(&RouteType::Local)),
        Err(error) if elsewhere.iter().any(|code| is(&error, *code)) => Ok(false),
        Err(error) => Err(error.context(format!("cannot ask for the route to {address}"))),
    }
}

/// Whether the system's error number is this.
fn is(error: &anyhow::Error, code: i32) -> bool {
    error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) == Some(code)
}

/// All usable addresses of this network namespace, in the kernel's order.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn addresses() -> anyhow::Result<Vec<LocalAddress>> {
    request(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP, |message| {
        if let RouteNetlinkMessage::NewAddress(message) = message { address(message) } else { None }
    })
    .context("cannot list the addresses of the network interfaces")
}

/// Numbers of the interfaces that carry a default route, for advice.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn default_route_interfaces() -> anyhow::Result<Vec<u32>> {
    let mut interfaces = request(RouteNetlinkMessage::GetRoute(RouteMessage::default()), NLM_F_DUMP, |message| {
        let RouteNetlinkMessage::NewRoute(RouteMessage { header, attributes, .. }) = message else { return None };
        let default = header.destination_prefix_length == 0 && header.table == RouteHeader::RT_TABLE_MAIN;
        attributes
            .into_iter()
            .filter(|_| default)
            .find_map(|attribute| if let RouteAttribute::Oif(index) = attribute { Some(index) } else { None })
    })
    .context("cannot list the default routes")?;
    interfaces.sort_unstable();
    interfaces.dedup();
    Ok(interfaces)
}

/// Takes an XDP program that was attached without a link off an interface, whichever process
/// attached it.
///
/// # Errors
/// When the kernel refuses.
pub fn detach_xdp(interface: u32, mode: AttachedMode) -> anyhow::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = interface;
    message.attributes.push(LinkAttribute::Xdp(vec![LinkXdp::Fd(-1), LinkXdp::Flags(mode.flag())]));
    request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK, |_| Some(())).map(drop)
}

fn as_interface(message: RouteNetlinkMessage) -> Option<Interface> {
    if let RouteNetlinkMessage::NewLink(link) = message { Some(interface(link)) } else { None }
}

fn interface(link: LinkMessage) -> Interface {
    let mut interface = Interface {
        index: link.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        loopback: link.header.flags.contains(LinkFlags::Loopback),
        vlan_of: None,
        veth_peer: None,
        xdp: Vec::new(),
        card: Card::default(),
    };
    let mut other = None;
    let mut namespace = None;
    let (mut vlan, mut veth) = (false, false);
    for attribute in link.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            interface.name = name;
        } else if let LinkAttribute::Address(address) = attribute {
            interface.mac = address.try_into().ok();
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            interface.mtu = mtu;
        } else if let LinkAttribute::Link(index) = attribute {
            other = Some(index);
        } else if let LinkAttribute::LinkNetNsId(number) = attribute {
            namespace = Some(number);
        } else if let LinkAttribute::NumRxQueues(queues) = attribute {
            interface.card.receive_queues = queues;
        } else if let LinkAttribute::NumTxQueues(queues) = attribute {
            interface.card.transmit_queues = queues;
        } else if let LinkAttribute::LinkInfo(information) = attribute {
            interface.card.driver = kind(&information);
            vlan = information.contains(&LinkInfo::Kind(InfoKind::Vlan));
            veth = information.contains(&LinkInfo::Kind(InfoKind::Veth));
        } else if let LinkAttribute::Xdp(xdp) = attribute {
            interface.xdp = attached(&xdp);
        }
    }
    // In another namespace the number is that of another interface.
    interface.vlan_of = other.filter(|_| vlan && namespace.is_none());
    interface.veth_peer = other.filter(|_| veth).map(|index| VethPeer { index, namespace });
    interface
}

/// The kind of an interface without hardware.
fn kind(information: &[LinkInfo]) -> String {
    let kind = |part: &LinkInfo| if let LinkInfo::Kind(kind) = part { Some(kind.to_string()) } else { None };
    information.iter().find_map(kind).unwrap_or_default()
}

/// With one program the kernel says `Attached` and `ProgId`, with several it also gives a number
/// per mode; in both cases the number per mode is there.
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

/// The address, if packets can be sent to it by now.
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

/// Sends a request and returns what `pick` picks from the answer.
fn request<T>(
    message: RouteNetlinkMessage,
    flags: u16,
    mut pick: impl FnMut(RouteNetlinkMessage) -> Option<T>,
) -> anyhow::Result<Vec<T>> {
    const SEQUENCE: u32 = 1;
    /// How often a list is asked for again if it changed while the kernel wrote it.
    const TRIES: u32 = 5;

    let mut packet = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
    packet.header.flags = NLM_F_REQUEST | flags;
    packet.header.sequence_number = SEQUENCE;
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);

    for _ in 0..TRIES {
        // A new socket for each try, so that no answer to an earlier one is in it.
        let mut socket = Socket::new(NETLINK_ROUTE).context("cannot open a netlink socket")?;
        socket.bind_auto().context("cannot bind a netlink socket")?;
        socket.connect(&SocketAddr::new(0, 0)).context("cannot connect a netlink socket to the kernel")?;
        socket.send(&bytes, 0).context("cannot send a netlink request")?;
        if let Some(picked) = receive(&socket, SEQUENCE, &mut pick)? {
            return Ok(picked);
        }
    }
    bail!("it changes faster than the kernel can say it ({TRIES} tries)")
}

/// The answer to a request; `None` if what it tells of has changed meanwhile.
fn receive<T>(
    socket: &Socket,
    sequence: u32,
    mut pick: impl FnMut(RouteNetlinkMessage) -> Option<T>,
) -> anyhow::Result<Option<Vec<T>>> {
    let mut picked = Vec::new();
    let mut whole = true;
    loop {
        let datagram = match socket.recv_from_full() {
            Ok((datagram, _)) => datagram,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("cannot receive a netlink answer"),
        };
        let mut rest = datagram.as_slice();
        while let Ok(buffer) = NetlinkBuffer::new_checked(rest) {
            let length = buffer.length() as usize;
            let ours = buffer.sequence_number() == sequence;
            whole &= buffer.flags() & NLM_F_DUMP_INTR == 0;
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) {
                Ok(message) if ours => match message.payload {
                    NetlinkPayload::InnerMessage(message) => picked.extend(pick(message)),
                    NetlinkPayload::Done(_) => return Ok(whole.then_some(picked)),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(whole.then_some(picked)),
                    NetlinkPayload::Error(error) => return Err(error.to_io().into()),
                    NetlinkPayload::Overrun(_) => bail!("the kernel's netlink answer was cut short"),
                    NetlinkPayload::Noop | _ => (),
                },
                Ok(_) => (),
                // A newer kernel may describe one interface in a way this program does not know;
                // the others still count.
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
    fn loopback_is_found_by_its_number_and_others_are_not() {
        let all = interfaces().expect("netlink answers everybody");
        for interface in &all {
            let found = find(interface.index, None).expect("netlink answers everybody").expect("it was there");
            assert_eq!((found.index, &found.name), (interface.index, &interface.name));
        }
        assert!(find(0x7fff_fff0, None).expect("netlink answers everybody").is_none());
        assert!(find(1, Some(0x7fff_fff0)).is_err(), "there is no such namespace");
    }

    #[test]
    fn what_is_routed_elsewhere_or_nowhere_is_not_local() {
        for address in ["192.0.2.1", "2001:db8::1", "255.255.255.255", "224.0.0.1", "0.0.0.1", "ff02::1"] {
            assert!(!is_local(address.parse().expect("an address")).expect("netlink answers everybody"), "{address}");
        }
        for local in addresses().expect("netlink answers everybody") {
            assert!(is_local(local.address).expect("netlink answers everybody"), "{local:?}");
        }
    }

    #[test]
    fn other_ends_and_lower_interfaces_are_told_from_each_other() {
        let link = |kind, namespace: Option<i32>| {
            let mut message = LinkMessage::default();
            message.attributes = vec![LinkAttribute::Link(7), LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])];
            message.attributes.extend(namespace.map(LinkAttribute::LinkNetNsId));
            let interface = interface(message);
            (interface.vlan_of, interface.veth_peer)
        };
        let peer = |namespace| Some(VethPeer { index: 7, namespace });
        assert_eq!(link(InfoKind::Veth, None), (None, peer(None)));
        assert_eq!(link(InfoKind::Veth, Some(3)), (None, peer(Some(3))));
        assert_eq!(link(InfoKind::Vlan, None), (Some(7), None));
        assert_eq!(link(InfoKind::Vlan, Some(0)), (None, None), "the number is another namespace's");
        assert_eq!(link(InfoKind::Bridge, None), (None, None));
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
