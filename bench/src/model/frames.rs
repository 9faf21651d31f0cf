//! Requests as Ethernet frames, built outside of the kernel, and what is told by replies.

use std::net::IpAddr;

use anyhow::ensure;
use bench_ebpf::{Client, Placement, Visit, checksum_words, fold, info_hash, is_seeder};

use crate::{
    generator::CLIENTS,
    request::{self, Request, Template},
    testbed::{Family, Testbed},
};

/// What a leecher says it has left, as it stands in the packet.
const LEFT: [u8; 4] = [0, 0, 0, 2];

const ETHERNET: usize = 14;
const UDP: usize = 8;

/// Builds requests of one kind.
pub struct Frames {
    template: Template,
    family: Family,
    /// How many of 256 peers are seeders.
    seeders: u32,
    clients: Vec<Client>,
}

impl Frames {
    pub fn new(request: &Request, family: Family, seeders: u32, clients: Vec<Client>) -> anyhow::Result<Self> {
        let template = request::template(request, &Testbed::request_ethernet(family), family)?;
        Ok(Self { template, family, seeders, clients })
    }

    fn udp(&self) -> usize {
        ETHERNET + if self.family == Family::V4 { 20 } else { 40 }
    }

    /// A connect of a client.
    pub fn connect(&self, client: u32, transaction: u32) -> Vec<u8> {
        let mut frame = self.template.bytes.clone();
        self.finish(&mut frame, client, transaction);
        frame
    }

    /// An announce of a peer.
    pub fn announce(&self, visit: Visit, transaction: u32) -> Vec<u8> {
        let place = Placement::of(visit, CLIENTS, CLIENTS.trailing_zeros());
        let mut frame = self.template.bytes.clone();
        let payload = self.udp() + UDP;
        put_hash(&mut frame, payload + 16, visit.torrent);
        if !is_seeder(visit, self.seeders) {
            frame[payload + 68..][..4].copy_from_slice(&LEFT);
        }
        frame[payload + 96..][..2].copy_from_slice(&place.port.to_be_bytes());
        self.show_id(&mut frame, place.client);
        self.finish(&mut frame, place.client, transaction);
        frame
    }

    /// A scrape of the torrents of these peers.
    pub fn scrape(&self, visits: impl Iterator<Item = Visit>, transaction: u32) -> Vec<u8> {
        let mut frame = self.template.bytes.clone();
        let client = transaction % CLIENTS;
        let first = self.udp() + UDP + 16;
        for (number, visit) in visits.enumerate() {
            put_hash(&mut frame, first + 20 * number, visit.torrent);
        }
        self.show_id(&mut frame, client);
        self.finish(&mut frame, client, transaction);
        frame
    }

    fn show_id(&self, frame: &mut [u8], client: u32) {
        let payload = self.udp() + UDP;
        for (place, word) in
            frame[payload..payload + 8].chunks_exact_mut(4).zip(self.clients[client as usize].connection_id)
        {
            place.copy_from_slice(&word.to_ne_bytes());
        }
    }

    /// Fills in source address, transaction id and checksums.
    fn finish(&self, frame: &mut [u8], client: u32, transaction: u32) {
        let (udp, ip) = (self.udp(), ETHERNET);
        frame[udp + UDP + 12..][..4].copy_from_slice(&transaction.to_be_bytes());
        let addresses = match self.family.client_address(client) {
            IpAddr::V4(address) => {
                frame[ip + 12..][..4].copy_from_slice(&address.octets());
                let checksum = !fold(u64::from(checksum_words(&frame[ip..udp])));
                frame[ip + 10..][..2].copy_from_slice(&checksum.to_ne_bytes());
                ip + 12..ip + 20
            }
            IpAddr::V6(address) => {
                frame[ip + 8..][..16].copy_from_slice(&address.octets());
                ip + 8..ip + 40
            }
        };
        let length = (frame.len() - udp) as u16;
        let sum = checksum_words(&frame[addresses])
            + checksum_words(&frame[udp..])
            + checksum_words(&[0, 17])
            + checksum_words(&length.to_be_bytes());
        let checksum = match !fold(sum.into()) {
            0 => 0xffff,
            checksum => checksum,
        };
        frame[udp + 6..][..2].copy_from_slice(&checksum.to_ne_bytes());
    }

    /// What a reply says; an error if it is none to this request.
    pub fn read<'reply>(
        &self,
        reply: &'reply [u8],
        request: &Request,
        transaction: u32,
    ) -> anyhow::Result<Reply<'reply>> {
        let payload = reply.get(self.udp() + UDP..).unwrap_or_default();
        ensure!(payload.len() >= 8, "a reply of {} bytes is too short", reply.len());
        let action = u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]);
        let answered = u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]);
        ensure!(answered == transaction, "the reply is to transaction {answered} instead of {transaction}");
        if action == 3 {
            return Ok(Reply::Error);
        }
        ensure!(action == request.action(), "the reply has action {action} instead of {}", request.action());
        Ok(match request {
            Request::Announce { .. } => {
                let peer = if self.family == Family::V4 { 6 } else { 18 };
                let peers = payload.len().checked_sub(20).filter(|bytes| bytes % peer == 0);
                let Some(peers) = peers else { anyhow::bail!("a reply of {} bytes has no whole peers", payload.len()) };
                Reply::Peers(peers / peer)
            }
            Request::Connect | Request::Scrape { .. } => Reply::Other(payload),
        })
    }
}

/// What a reply says.
pub enum Reply<'reply> {
    Error,
    /// So many peers.
    Peers(usize),
    /// The payload.
    Other(&'reply [u8]),
}

fn put_hash(frame: &mut [u8], at: usize, torrent: u32) {
    for (place, word) in frame[at..at + 20].chunks_exact_mut(4).zip(info_hash(torrent)) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
}
