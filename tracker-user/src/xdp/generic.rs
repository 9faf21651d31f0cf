//! Netlink where the libraries do not know what is asked: the generic netlink family `netdev` (Linux 6.3),
//! which tells the XDP features of a driver, and what others ask by the same bytes.

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};
use std::{io, time::Duration};

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;

/// `NLM_F_REQUEST`, `NLM_F_ACK`.
const REQUEST: u16 = 1;
const ACK: u16 = 4;

/// `NLMSG_ERROR`, `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// An attribute of up to four bytes or of a text, padded.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The attributes in some bytes: kind, without flags, and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let [a, b, c, d, ..] = *bytes {
        let (length, kind) = (usize::from(u16::from_ne_bytes([a, b])), u16::from_ne_bytes([c, d]) & 0x3fff);
        let Some(value) = bytes.get(4..length) else { break };
        found.push((kind, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// The value of the attribute of this kind.
pub(crate) fn value(attributes: &[(u16, &[u8])], wanted: u16) -> Option<Vec<u8>> {
    attributes.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| value.to_vec())
}

/// Sends a message, and returns what comes back until the end.
pub(crate) fn ask(protocol: isize, kind: u16, flags: u16, payload: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        rustix::net::sockopt::Timeout::Recv,
        Some(Duration::from_secs(5)),
    )?;
    let mut message = u32::try_from(HEADER + payload.len()).unwrap_or(0).to_ne_bytes().to_vec();
    message.extend([kind.to_ne_bytes(), (REQUEST | flags).to_ne_bytes()].concat());
    message.extend([1_u32.to_ne_bytes(), [0; 4]].concat());
    message.extend_from_slice(payload);
    socket.send(&message, 0)?;
    let mut answers = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = &bytes[..];
        while let Some(header) = rest.first_chunk::<HEADER>() {
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
            let Some(body) = rest.get(HEADER..length) else { return Ok(answers) };
            match u16::from_ne_bytes([header[4], header[5]]) {
                DONE => return Ok(answers),
                ERROR => {
                    let code = body.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
                    return if code == 0 { Ok(answers) } else { Err(io::Error::from_raw_os_error(-code)) };
                }
                _ => answers.push(body.to_vec()),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// The bits of `NETDEV_XDP_ACT_*` of an interface; `None` if the kernel does not say.
#[must_use]
pub fn xdp_features(interface: u32) -> Option<u64> {
    // `CTRL_CMD_GETFAMILY` with `CTRL_ATTR_FAMILY_NAME`; back comes `CTRL_ATTR_FAMILY_ID`.
    let family = [&[3, 1, 0, 0][..], &attribute(2, b"netdev\0")].concat();
    let family = ask(NETLINK_GENERIC, 0x10, ACK, &family).ok()?.into_iter().next()?;
    let family = value(&attributes(family.get(4..)?), 1)?;
    let family = u16::from_ne_bytes(*family.first_chunk()?);
    // `NETDEV_CMD_DEV_GET` with `NETDEV_A_DEV_IFINDEX`; back comes `NETDEV_A_DEV_XDP_FEATURES`.
    let device = [&[1, 1, 0, 0][..], &attribute(1, &interface.to_ne_bytes())].concat();
    let device = ask(NETLINK_GENERIC, family, ACK, &device).ok()?.into_iter().next()?;
    let features = value(&attributes(device.get(4..)?), 3)?;
    Some(u64::from_ne_bytes(*features.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let bytes = [attribute(1, b"abc"), attribute(2 | 0x8000, &[]), attribute(3, &7_u32.to_ne_bytes())].concat();
        assert_eq!(attributes(&bytes), [(1, &b"abc"[..]), (2, &[]), (3, &7_u32.to_ne_bytes())]);
        for broken in [&bytes[..3], &[3, 0, 1, 0], &[200, 0, 1, 0, 5], &[]] {
            assert!(attributes(broken).is_empty(), "{broken:?}");
        }
    }
}
