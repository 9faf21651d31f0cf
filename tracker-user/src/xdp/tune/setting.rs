//! The settings that are changed: how each is read, what it should be, and how it is set.

use super::interrupts;
use crate::xdp::ethtool;
use std::{fmt, io, path::Path};

/// Descriptors of a ring for receiving below which a burst of a millisecond is lost at full speed. More
/// do not fit the cache, so a longer ring is left as it is.
pub const SHORT_RING: u32 = 1024;

/// A setting of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Packets are put together by card or driver, which drivers refuse for native XDP.
    LargeReceive,
    /// The same, so that they can be taken apart again.
    HardwareGro,
    /// VLAN tags are taken off packets.
    VlanOffload,
    /// Queues for receiving: as many as there are cores.
    Queues,
    /// Descriptors of a ring for receiving.
    Ring,
    /// What counts for the choice of the queue, over IPv4: the ports as well.
    HashV4,
    /// The same over IPv6.
    HashV6,
    /// Cores that take the interrupt of this number.
    Interrupt(u32),
}

/// What a setting is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The driver does not have it, or does not let it be changed.
    NotOffered,
    /// As it should be.
    Good,
    /// To be changed: what it is, and what it is to be.
    Change { old: String, new: String },
}

impl Setting {
    /// All but interrupts, in the order in which they are set: what XDP cannot be attached with first, and
    /// queues before what is chosen among them.
    pub(super) const ALL: [Self; 7] = [
        Self::LargeReceive,
        Self::HardwareGro,
        Self::VlanOffload,
        Self::Queues,
        Self::Ring,
        Self::HashV4,
        Self::HashV6,
    ];

    /// Its name in the record, and for people: that of `ethtool`.
    pub(super) fn name(self) -> String {
        match self {
            Self::LargeReceive => "lro".into(),
            Self::HardwareGro => "rx-gro-hw".into(),
            Self::VlanOffload => "rxvlan".into(),
            Self::Queues => "queues".into(),
            Self::Ring => "rx-ring".into(),
            Self::HashV4 => "rx-flow-hash-udp4".into(),
            Self::HashV6 => "rx-flow-hash-udp6".into(),
            Self::Interrupt(number) => format!("irq-{number}"),
        }
    }

    /// The setting of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let number = name.strip_prefix("irq-").and_then(|number| number.parse().ok());
        Self::ALL.into_iter().find(|setting| setting.name() == name).or(number.map(Self::Interrupt))
    }

    /// The kernel's name of a feature.
    fn feature(self) -> Option<&'static str> {
        match self {
            Self::LargeReceive => Some("rx-lro"),
            Self::HardwareGro => Some("rx-gro-hw"),
            Self::VlanOffload => Some("rx-vlan-hw-parse"),
            Self::Queues | Self::Ring | Self::HashV4 | Self::HashV6 | Self::Interrupt(_) => None,
        }
    }

    /// The flow of a hash.
    fn flow(self) -> Option<u32> {
        match self {
            Self::HashV4 => Some(ethtool::UDP_FLOWS[0]),
            Self::HashV6 => Some(ethtool::UDP_FLOWS[1]),
            Self::LargeReceive
            | Self::HardwareGro
            | Self::VlanOffload
            | Self::Queues
            | Self::Ring
            | Self::Interrupt(_) => None,
        }
    }

    /// What it is, and what it is to be.
    pub(super) fn look(self, interface: &str) -> Look {
        let raise = |now: u32, wanted: u32| {
            if now < wanted { Look::Change { old: now.to_string(), new: wanted.to_string() } } else { Look::Good }
        };
        if let Some(name) = self.feature() {
            return match ethtool::feature(interface, name) {
                Some(feature) if !feature.on => Look::Good,
                Some(feature) if feature.switchable => Look::Change { old: "on".into(), new: "off".into() },
                Some(_) | None => Look::NotOffered,
            };
        }
        let found = match self {
            Self::Queues => ethtool::queues(interface)
                .map(|[now, most]| raise(now, most.min(interrupts::cores(Path::new("/")).len() as u32))),
            Self::Ring => ethtool::ring(interface).map(|[now, most]| raise(now, most.min(SHORT_RING))),
            Self::HashV4 | Self::HashV6 => self.flow().and_then(|flow| ethtool::hash(interface, flow)).map(|bits| {
                let wanted = bits | ethtool::PORTS | ethtool::ADDRESSES;
                // With one queue nothing is chosen.
                let chosen = ethtool::queues(interface).is_none_or(|[now, _]| now > 1);
                if bits == wanted || !chosen { Look::Good } else { Look::Change { old: hash(bits), new: hash(wanted) } }
            }),
            Self::LargeReceive | Self::HardwareGro | Self::VlanOffload | Self::Interrupt(_) => None,
        };
        found.unwrap_or(Look::NotOffered)
    }

    /// What it is.
    pub(super) fn read(self, interface: &str) -> Option<String> {
        if let Some(name) = self.feature() {
            return ethtool::feature(interface, name).map(|feature| if feature.on { "on" } else { "off" }.into());
        }
        match self {
            Self::Queues => ethtool::queues(interface).map(|[now, _]| now.to_string()),
            Self::Ring => ethtool::ring(interface).map(|[now, _]| now.to_string()),
            Self::Interrupt(number) => interrupts::affinity(Path::new("/"), number),
            Self::HashV4 | Self::HashV6 | Self::LargeReceive | Self::HardwareGro | Self::VlanOffload => {
                self.flow().and_then(|flow| ethtool::hash(interface, flow)).map(hash)
            }
        }
    }

    /// Sets it.
    ///
    /// # Errors
    /// When the driver refuses.
    pub(super) fn write(self, interface: &str, value: &str) -> io::Result<()> {
        let number = || value.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
        if let Some(name) = self.feature() {
            return ethtool::set_feature(interface, name, value == "on");
        }
        match self {
            Self::Queues => ethtool::set_queues(interface, number()?),
            Self::Ring => ethtool::set_ring(interface, number()?),
            Self::Interrupt(number) => interrupts::set_affinity(Path::new("/"), number, value),
            Self::HashV4 | Self::HashV6 | Self::LargeReceive | Self::HardwareGro | Self::VlanOffload => {
                let bits = hash_bits(value).ok_or(io::ErrorKind::InvalidInput)?;
                self.flow().map_or(Ok(()), |flow| ethtool::set_hash(interface, flow, bits))
            }
        }
    }
}

/// `RXH_*` as `ethtool` writes them, lowest bit first.
const HASH: &str = "?mvtsdfn";

/// What counts for the choice of the queue, as `ethtool` writes it; bits that have no letter as a number.
fn hash(bits: u32) -> String {
    if bits > 0xff || bits & 1 != 0 {
        return bits.to_string();
    }
    HASH.chars().enumerate().filter(|(bit, _)| bits & 1 << bit != 0).map(|(_, letter)| letter).collect()
}

fn hash_bits(text: &str) -> Option<u32> {
    let letters = || text.chars().try_fold(0, |bits, letter| Some(bits | 1 << HASH.find(letter)?));
    text.parse().ok().or_else(letters)
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Self::LargeReceive => "large receive offload (lro)".into(),
            Self::HardwareGro => "putting packets together in the card (rx-gro-hw)".into(),
            Self::VlanOffload => "taking VLAN tags off (rxvlan)".into(),
            Self::Queues => "queues for receiving".into(),
            Self::Ring => "descriptors of a ring for receiving".into(),
            Self::HashV4 => "what chooses the queue (rx-flow-hash udp4)".into(),
            Self::HashV6 => "what chooses the queue (rx-flow-hash udp6)".into(),
            Self::Interrupt(number) => format!("cores for the interrupt {number}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_known_by_their_names() {
        for setting in Setting::ALL.into_iter().chain([Setting::Interrupt(0), Setting::Interrupt(812)]) {
            assert_eq!(Setting::named(&setting.name()), Some(setting));
        }
        for other in ["", "irq-", "irq-x", "irq--1", "ring", "LRO"] {
            assert_eq!(Setting::named(other), None, "{other:?}");
        }
    }

    #[test]
    fn hashes_are_written_as_ethtool_does() {
        for (bits, text) in [(0x30, "sd"), (0xf0, "sdfn"), (0xfe, "mvtsdfn"), (0, ""), (0x1f0, "496"), (1, "1")] {
            assert_eq!(hash(bits), text, "{bits:#x}");
            assert_eq!(hash_bits(text), Some(bits), "{text:?}");
        }
        for wrong in ["sdx", "-1", "s d"] {
            assert_eq!(hash_bits(wrong), None, "{wrong:?}");
        }
    }
}
