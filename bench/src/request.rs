//! BEP 15 requests: as templates for the generator, and whole for sockets.

use std::net::IpAddr;

use anyhow::{Context as _, ensure};
use bench_ebpf::{
    Load, REQUEST_ANNOUNCE, REQUEST_CONNECT, REQUEST_SCRAPE, SCRAPE_MAX, TEMPLATE_BYTES, checksum_words, info_hash,
};

use crate::testbed::{Family, TRACKER_PORT, Testbed};

/// BEP 15's protocol id, the connection id of a connect.
pub const PROTOCOL_ID: u64 = 0x0417_2710_1980;
const PROTOCOL_UDP: u8 = 17;

/// The port that generated requests come from. Others, such as those of the connects before, are
/// not counted as load.
pub const CLIENT_PORT: u16 = 20_000;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub enum Request {
    Connect,
    Announce { num_want: i32, event: Event },
    Scrape { hashes: u32 },
}

/// BEP 15's event numbers.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    None = 0,
    Completed = 1,
    Started = 2,
    Stopped = 3,
}

impl Request {
    pub fn action(&self) -> u32 {
        match self {
            Request::Connect => REQUEST_CONNECT,
            Request::Announce { .. } => REQUEST_ANNOUNCE,
            Request::Scrape { .. } => REQUEST_SCRAPE,
        }
    }

    /// The payload, with zeros for connection id, transaction id, info_hashes, port and what is
    /// left.
    pub fn payload(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(128);
        let connection_id = if matches!(self, Request::Connect) { PROTOCOL_ID } else { 0 };
        payload.extend(connection_id.to_be_bytes());
        payload.extend(self.action().to_be_bytes());
        payload.extend([0; 4]);
        match *self {
            Request::Connect => {}
            Request::Announce { num_want, event } => {
                payload.extend([0; 20]);
                payload.extend(b"-XB0001-benchbenchbe");
                payload.extend([0; 24]);
                payload.extend((event as u32).to_be_bytes());
                payload.extend([0; 4]);
                payload.extend([0xbe; 4]);
                payload.extend(num_want.to_be_bytes());
                payload.extend([0; 2]);
            }
            Request::Scrape { hashes } => payload.resize(16 + 20 * hashes as usize, 0),
        }
        payload
    }
}

/// A request frame in which everything that differs from request to request is zero.
pub struct Template {
    pub bytes: Vec<u8>,
    /// Sum over the UDP header, its payload, and the pseudo-header without the source address.
    pub udp_sum: u32,
}

pub fn template(request: &Request, ethernet: &[u8; 14], family: Family) -> anyhow::Result<Template> {
    if let Request::Scrape { hashes } = request {
        ensure!((1..=SCRAPE_MAX).contains(hashes), "a scrape has 1 to {SCRAPE_MAX} info_hashes, not {hashes}");
    }
    let payload = request.payload();
    let udp_length = u16::try_from(payload.len() + 8).context("the request is too long")?;
    let mut bytes = ethernet.to_vec();
    let destination = match family.tracker_address() {
        IpAddr::V4(address) => {
            bytes.extend([0x45, 0]);
            bytes.extend((udp_length + 20).to_be_bytes());
            // Identification 0, not to be fragmented, time to live, UDP, checksum and source left
            // open.
            bytes.extend([0, 0, 0x40, 0, 64, PROTOCOL_UDP, 0, 0, 0, 0, 0, 0]);
            bytes.extend(address.octets());
            address.octets().to_vec()
        }
        IpAddr::V6(address) => {
            bytes.extend([0x60, 0, 0, 0]);
            bytes.extend(udp_length.to_be_bytes());
            bytes.extend([PROTOCOL_UDP, 64]);
            bytes.extend([0; 16]);
            bytes.extend(address.octets());
            address.octets().to_vec()
        }
    };
    let udp_at = bytes.len();
    bytes.extend(CLIENT_PORT.to_be_bytes());
    bytes.extend(TRACKER_PORT.to_be_bytes());
    bytes.extend(udp_length.to_be_bytes());
    bytes.extend([0; 2]);
    bytes.extend(payload);

    let pseudo_header = [&destination[..], &[0, PROTOCOL_UDP], &udp_length.to_be_bytes()].concat();
    let udp_sum = checksum_words(&bytes[udp_at..]) + checksum_words(&pseudo_header);
    Ok(Template { bytes, udp_sum })
}

/// `load` with another request.
pub fn request_load(load: &Load, family: Family, request: &Request) -> anyhow::Result<Load> {
    let frame = template(request, &Testbed::request_ethernet(family), family)?;
    let mut template = [0; TEMPLATE_BYTES];
    // Scrape hashes come after the template.
    let fixed = frame.bytes.len().min(TEMPLATE_BYTES);
    template[..fixed].copy_from_slice(&frame.bytes[..fixed]);
    Ok(Load {
        template,
        request: request.action(),
        family: if family == Family::V4 { 4 } else { 6 },
        frame_length: u32::try_from(frame.bytes.len())?,
        hashes: if let Request::Scrape { hashes } = *request { hashes } else { 0 },
        ip_sum: checksum_words(&frame.bytes[14..34]),
        udp_sum: frame.udp_sum,
        ..*load
    })
}

/// The info_hash of a torrent, as bytes.
pub fn hash_bytes(torrent: u32) -> [u8; 20] {
    let mut bytes = [0; 20];
    for (chunk, word) in bytes.chunks_exact_mut(4).zip(info_hash(torrent)) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}
