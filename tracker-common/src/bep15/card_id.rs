//! Connection ids that a network card has made: by additions, rotations and exclusive ors of 32 bits,
//! which is what a card has.
//!
//! An id is 8 bits of the window it was made in, with the topmost one turned over, and 56 bits of
//! HalfSipHash-2-4 over the source address, under a key that belongs to that window alone. The key
//! has 64 bits and is SipHash-2-4 of the window under the key of all other connection ids: so a key
//! that was guessed is worth nothing a few minutes later, and tells nothing about the others.
//!
//! The turned bit tells these ids from the ordinary ones ([`super::connection_id`]): those are looked
//! at as ever, and only what they are not is held against this.
//!
//! A card has no clock. The daemon tells it the window; so the age of such an id is counted on the
//! clock as the daemon last set it, and not on that which goes on without it.

use super::{
    connection_id::{IpKey, WINDOW, WINDOWS_ACCEPTED},
    half_siphash::HalfSipHash,
    siphash::{Rest, siphash24},
};
use crate::settings::Settings;

/// Seconds without a daemon after which no such id is accepted any more.
pub const SILENCE: u32 = 3600;

/// What is turned over in the window's bits.
const MARK: u32 = 0x80;

/// The key of a window.
#[must_use]
pub fn key(settings: &Settings, window: u32) -> [u32; 2] {
    let key = [settings.connection_key[0].load(), settings.connection_key[1].load()];
    // No message of the ordinary ids is 4 bytes long.
    let key = siphash24(key, [], Rest { bytes: window.into(), length: 4 });
    [key as u32, (key >> 32) as u32]
}

/// The halves of an id, of which the first is sent first: from the window, and from the hash of the
/// source address ([`HalfSipHash`]; its bytes in memory order).
#[inline(always)]
#[must_use]
pub const fn compose(window: u32, hash: [u32; 2]) -> [u32; 2] {
    [(window ^ MARK) << 24 | hash[0] >> 8, hash[1]]
}

/// The window in which the daemon has last set the clock.
#[inline(always)]
#[must_use]
pub fn window(settings: &Settings) -> u32 {
    settings.heartbeat.load() / WINDOW
}

/// Whether a card has issued `id` to `source`, and it is not too old.
#[inline(always)]
#[must_use]
pub fn accept(settings: &Settings, source: IpKey, id: u64) -> bool {
    let now = window(settings);
    let age = now.wrapping_sub((id >> 56) as u32 ^ MARK) & 0xff;
    let silent = settings.second.load().wrapping_sub(settings.heartbeat.load());
    // Whoever moves the clock on may be ahead of whoever sets it, or behind.
    let attended = silent <= SILENCE || silent >= 1 << 31;
    if age > WINDOWS_ACCEPTED || !attended || settings.card.load() == 0 {
        return false;
    }
    let window = now.wrapping_sub(age);
    let mut hash = HalfSipHash::new(key(settings, window));
    let bytes = match source {
        IpKey::V4(address) => {
            hash.absorb(address);
            4
        }
        IpKey::V6(words) => {
            for word in words {
                hash.absorb(word as u32);
                hash.absorb((word >> 32) as u32);
            }
            16
        }
    };
    let [first, second] = compose(window, hash.finish(bytes));
    // One comparison of whole words: its time does not depend on where they differ.
    u64::from(first) << 32 | u64::from(second) == id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bep15::connection_id;

    const CLIENT: IpKey = IpKey::V4(0x0100_000a);

    fn at(second: u32) -> Settings {
        let settings = Settings::default();
        settings.second.store(second);
        settings.heartbeat.store(second);
        settings.card.store(1);
        settings.connection_key[0].store(1);
        settings.connection_key[1].store(2);
        settings
    }

    /// What a card does that was told of the window at that time.
    fn issue(settings: &Settings, address: u32) -> u64 {
        let window = window(settings);
        let mut hash = HalfSipHash::new(key(settings, window));
        hash.absorb(address);
        let [first, second] = compose(window, hash.finish(4));
        u64::from(first) << 32 | u64::from(second)
    }

    #[test]
    fn ids_live_between_two_and_three_minutes() {
        for (issued, later, accepted) in [
            (6000, 0, true),
            (6000, 179, true),
            (6000, 180, false),
            (6059, 121, false),
            (6000, 60 * 256, false),
            (6000, 60 * 128, false),
        ] {
            let id = issue(&at(issued), 0x0100_000a);
            assert_eq!(accept(&at(issued + later), CLIENT, id), accepted, "issued at {issued}, {later} s later");
        }
    }

    #[test]
    fn while_the_daemon_stands_still_so_does_their_age_for_an_hour() {
        let id = issue(&at(6000), 0x0100_000a);
        // (the daemon's clock, how far the other one is ahead, accepted)
        for (heartbeat, ahead, accepted) in [
            (6000, 0, true),
            (6000, 3600, true),
            (6000, 3601, false),
            (6179, 1000, true),
            (6180, 0, false),
            (6000, u32::MAX, true),
        ] {
            let settings = at(heartbeat);
            settings.second.store(heartbeat.wrapping_add(ahead));
            assert_eq!(accept(&settings, CLIENT, id), accepted, "{heartbeat} + {ahead}");
        }
    }

    #[test]
    fn ids_are_bound_to_address_and_key_and_every_bit_counts() {
        let settings = at(6000);
        let id = issue(&settings, 0x0100_000a);
        assert!(!accept(&settings, IpKey::V4(0x0200_000a), id));
        assert!(!accept(&settings, IpKey::V6([0x0100_000a, 0]), id));
        for bit in 0..64 {
            assert!(!accept(&settings, CLIENT, id ^ 1 << bit), "bit {bit}");
        }
        settings.connection_key[0].store(9);
        assert!(!accept(&settings, CLIENT, id));
    }

    #[test]
    fn neither_kind_of_id_is_taken_for_the_other_and_without_a_card_there_is_one_kind() {
        let settings = at(6000);
        let id = issue(&settings, 0x0100_000a);
        assert!(!connection_id::accept(&settings, CLIENT, id));
        assert!(!accept(&settings, CLIENT, connection_id::issue(&settings, CLIENT)));
        settings.card.store(0);
        assert!(!accept(&settings, CLIENT, id));
    }

    #[test]
    fn every_window_has_a_key_of_its_own() {
        let settings = at(6000);
        assert_ne!(key(&settings, 100), key(&settings, 101));
        // The windows' bits come round after 256.
        let id = issue(&settings, 0x0100_000a);
        assert_ne!(issue(&at(6000 + 256 * WINDOW), 0x0100_000a), id);
    }
}
