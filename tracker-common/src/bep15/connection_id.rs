//! Connection ids (BEP 15): no state, only a keyed hash.
//!
//! An id is 8 bits of the time window it was made in and 56 bits of SipHash-2-4 over the source
//! address and that window. It is bound to the address, not to the port: NATs change ports. It is
//! accepted in its own window and the [`WINDOWS_ACCEPTED`] following ones, so for 2 to 3 minutes
//! (BEP 15 asks for at least 2). Guessing one takes 2^56 tries on average over all windows, and the
//! answer to a wrong one tells nothing about the right one.

use super::siphash::{Rest, siphash24};
use crate::{outcome::IpVersion, settings::Settings};
use core::net::IpAddr;

/// Seconds of a window.
pub const WINDOW: u32 = 60;

/// In how many windows after its own an id is still accepted.
pub const WINDOWS_ACCEPTED: u32 = 2;

const MAC_BITS: u32 = 56;

/// A source address, in memory order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpKey {
    /// IPv4: the four bytes as a little-endian number.
    V4(u32),
    /// IPv6: the sixteen bytes as two little-endian numbers.
    V6([u64; 2]),
}

impl IpKey {
    /// Its version of IP.
    #[inline(always)]
    #[must_use]
    pub const fn version(self) -> IpVersion {
        match self {
            Self::V4(_) => IpVersion::V4,
            Self::V6(_) => IpVersion::V6,
        }
    }
}

impl From<IpAddr> for IpKey {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::V4(u32::from_le_bytes(ip.octets())),
            IpAddr::V6(ip) => {
                let words = u128::from_le_bytes(ip.octets());
                Self::V6([words as u64, (words >> 64) as u64])
            }
        }
    }
}

#[inline(always)]
fn make(settings: &Settings, source: IpKey, window: u32) -> u64 {
    let key = [settings.connection_key[0].load(), settings.connection_key[1].load()];
    // Three bytes of the window, which come round after 31 years: so all of an IPv4 message has
    // room in the word that every message ends with. The length stands in it too, so the families
    // cannot be confused.
    let minutes = u64::from(window & 0xff_ffff);
    let mac = match source {
        IpKey::V4(address) => siphash24(key, [], Rest { bytes: u64::from(address) | minutes << 32, length: 7 }),
        IpKey::V6(words) => siphash24(key, words, Rest { bytes: minutes, length: 3 }),
    };
    (u64::from(window) << MAC_BITS) | (mac >> (64 - MAC_BITS))
}

/// The id for `source` now.
#[inline(always)]
#[must_use]
pub fn issue(settings: &Settings, source: IpKey) -> u64 {
    make(settings, source, settings.second.load() / WINDOW)
}

/// Whether `id` was issued to `source` and is not too old.
#[inline(always)]
#[must_use]
pub fn accept(settings: &Settings, source: IpKey, id: u64) -> bool {
    let now = settings.second.load() / WINDOW;
    let age = now.wrapping_sub((id >> MAC_BITS) as u32) & 0xff;
    // One comparison of whole words: its time does not depend on where they differ.
    age <= WINDOWS_ACCEPTED && make(settings, source, now.wrapping_sub(age)) == id
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpKey = IpKey::V4(0x0100_000a);

    fn at(second: u32) -> Settings {
        let settings = Settings::default();
        settings.second.store(second);
        settings.connection_key[0].store(1);
        settings.connection_key[1].store(2);
        settings
    }

    #[test]
    fn ids_live_between_two_and_three_minutes() {
        // (issued at, seconds later, accepted)
        for (issued, later, accepted) in [
            (6000, 0, true),
            (6000, 120, true),
            (6000, 179, true),
            (6000, 180, false),
            (6059, 120, true),
            (6059, 121, false),
            (6000, 60 * 256, false),
            (15359, 60, true),
            (15359, 121, false),
            (6000, 86400, false),
        ] {
            let id = issue(&at(issued), CLIENT);
            assert_eq!(accept(&at(issued + later), CLIENT, id), accepted, "issued at {issued}, {later} s later");
        }
    }

    #[test]
    fn ids_from_the_future_are_refused() {
        let id = issue(&at(6060), CLIENT);
        assert!(!accept(&at(6059), CLIENT, id));
    }

    #[test]
    fn ids_are_bound_to_address_and_key_and_every_bit_counts() {
        let settings = at(6000);
        let id = issue(&settings, CLIENT);
        assert!(!accept(&settings, IpKey::V4(0x0200_000a), id));
        assert!(!accept(&settings, IpKey::V6([0x0100_000a, 0]), id));
        for bit in 0..64 {
            assert!(!accept(&settings, CLIENT, id ^ (1 << bit)), "bit {bit}");
        }
        settings.connection_key[0].store(9);
        assert!(!accept(&settings, CLIENT, id));
    }
}
