//! The multicast group of [`livesync`](super::livesync).

use super::{LivesyncPlan, livesync::Packet};
use anyhow::Context as _;
use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::{Duration, Instant},
};
use tokio::net::UdpSocket;
use tracker_common::change::Change;

/// How long opentrackers wait for records.
const WAIT: Duration = Duration::from_secs(1);

/// The socket, and what is on its way.
pub(super) struct Opentracker {
    socket: UdpSocket,
    pub plan: LivesyncPlan,
    pub id: [u8; 4],
    packets: [Packet; 2],
    since: Instant,
}

impl Opentracker {
    /// Joins the group.
    ///
    /// # Errors
    /// When it cannot be joined.
    pub fn open(plan: &LivesyncPlan) -> anyhow::Result<Self> {
        let cannot = || format!("livesync: cannot listen to {} on {}", plan.group, plan.interface);
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).with_context(cannot)?;
        let open = || {
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddrV4::new(*plan.group.ip(), plan.group.port()).into())?;
            socket.join_multicast_v4(plan.group.ip(), &plan.interface)?;
            if plan.interface != Ipv4Addr::UNSPECIFIED {
                socket.set_multicast_if_v4(&plan.interface)?;
            }
            socket.set_multicast_ttl_v4(1)?;
            socket.set_multicast_loop_v4(false)?;
            socket.set_nonblocking(true)
        };
        open().with_context(cannot)?;
        let socket = UdpSocket::from_std(socket.into()).with_context(cannot)?;
        let mut id = [0; 4];
        getrandom::fill(&mut id).context("no random number")?;
        let packets = [Packet::new(id, 4), Packet::new(id, 6)];
        Ok(Self { socket, plan: plan.clone(), id, packets, since: Instant::now() })
    }

    /// Tells of a change, soon.
    pub async fn add(&mut self, change: &Change) {
        if let Some(packet) = self.packets[usize::from(change.version == 6)].add(change) {
            self.send(&packet).await;
        }
    }

    /// Sends what has waited long enough.
    pub async fn send_due(&mut self, now: Instant) {
        if now.duration_since(self.since) >= WAIT {
            self.since = now;
            for number in 0..self.packets.len() {
                if let Some(packet) = self.packets[number].take() {
                    self.send(&packet).await;
                }
            }
        }
    }

    async fn send(&self, packet: &[u8]) {
        // Nothing is promised.
        let _ = self.socket.send_to(packet, self.plan.group).await;
    }
}

/// The next packet, and whose it is; never, without a socket.
pub(super) async fn receive(opentracker: Option<&Opentracker>, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    match opentracker {
        Some(opentracker) => opentracker.socket.recv_from(buffer).await.ok(),
        None => std::future::pending().await,
    }
}
