//! Whether a frame is addressed to the tracker. The daemon writes what it answers for into the
//! settings record.

use super::{headers::Network, packet::Packet};
use tracker_common::settings::{LISTENERS, Settings};

/// Destination address, port in memory order, and MAC address as a number, first byte lowest, with
/// anything above its 48 bits.
pub(crate) struct Destination {
    pub(crate) address: [u64; 2],
    pub(crate) port: [u8; 2],
    pub(crate) mac: u64,
}

impl Destination {
    /// The MTU in bytes of the interface that the packet came in by, if the frame is addressed to
    /// that interface's MAC address and to an address and port that the tracker answers for.
    #[inline(always)]
    pub(crate) fn mtu_if_ours<N: Network>(&self, settings: &Settings, packet: &Packet) -> Option<u32> {
        let port = u64::from(u16::from_ne_bytes(self.port));
        let ours = if N::IS_V6 { self.is_listener_v6(settings, port) } else { self.is_listener_v4(settings, port) };
        if !ours {
            return None;
        }
        let interface = u64::from(packet.interface());
        let count = settings.interface_count.load() as usize;
        for (i, known) in settings.interfaces.iter().enumerate() {
            if i >= count || i >= LISTENERS {
                break;
            }
            let address = known[1].load();
            if known[0].load() == interface && (address ^ self.mac) << 16 == 0 {
                return Some((address >> 48) as u32);
            }
        }
        None
    }

    #[inline(always)]
    fn is_listener_v4(&self, settings: &Settings, port: u64) -> bool {
        let count = settings.listener_v4_count.load() as usize;
        let key = self.address[0] | port << 32;
        for (i, listener) in settings.listeners_v4.iter().enumerate() {
            if i >= count || i >= LISTENERS {
                break;
            }
            if listener.load() == key {
                return true;
            }
        }
        false
    }

    #[inline(always)]
    fn is_listener_v6(&self, settings: &Settings, port: u64) -> bool {
        let count = settings.listener_v6_count.load() as usize;
        for (i, listener) in settings.listeners_v6.iter().enumerate() {
            if i >= count || i >= LISTENERS {
                break;
            }
            let difference = (listener[0].load() ^ self.address[0])
                | (listener[1].load() ^ self.address[1])
                | (listener[2].load() ^ port);
            if difference == 0 {
                return true;
            }
        }
        false
    }
}
