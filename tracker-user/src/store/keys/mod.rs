//! Keys in the settings record: of the store's hash functions, fresh at every start, and of the
//! connection ids, kept in the state directory so that clients need not connect anew after a
//! restart. A store that was taken over has its keys: with others nothing in it would be found.

mod kept;

use super::Store;
use anyhow::Context as _;
use std::path::Path;

const KEY_BYTES: usize = 16;

/// The key of the connection ids.
type Key = [u8; KEY_BYTES];

/// Fills in all keys. A state directory that cannot be used is no error: the connection key is a
/// new one then, which is warned of.
///
/// # Errors
/// When the system has no randomness.
pub fn set(store: &Store, state_dir: Option<&Path>) -> anyhow::Result<()> {
    set_with(store, state_dir, false)
}

/// The same; if addresses are to be kept together, all peers of one are in one part of a swarm
/// ([`Settings::keep_addresses_together`](tracker_common::settings::Settings)). A store that has keys
/// keeps them, and with them its way.
///
/// # Errors
/// As above.
pub fn set_with(store: &Store, state_dir: Option<&Path>, addresses_together: bool) -> anyhow::Result<()> {
    let settings = store.settings();
    // Written last, so where it is all others are as well.
    let last = &settings.hash_keys[0];
    if last.load() != 0 {
        return Ok(());
    }
    for key in &settings.access_key {
        key.store(getrandom::u64().context("the system gives no random numbers")?);
    }
    let key = match state_dir {
        Some(directory) => kept::key_in(directory)?,
        None => fresh()?,
    };
    let (low, high) = key.split_at(KEY_BYTES / 2);
    for (word, half) in settings.connection_key.iter().zip([low, high]) {
        word.store(u64::from_le_bytes(half.try_into()?));
    }
    // Odd: a multiplier that loses no information.
    let odd = || -> anyhow::Result<u64> { Ok(getrandom::u64().context("the system gives no random numbers")? | 1) };
    for key in &settings.hash_keys[1..] {
        key.store(odd()?);
    }
    if addresses_together {
        settings.keep_addresses_together();
    }
    last.store(odd()?);
    Ok(())
}

fn fresh() -> anyhow::Result<Key> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).context("the system gives no random numbers")?;
    Ok(key)
}

/// Whether the key consists of a few bytes that repeat, so that it could be guessed: such as an
/// empty disk block, or a key written by hand. A random key looks like that less than once in 10^14
/// times.
fn is_degenerate(key: &Key) -> bool {
    let distinct = (0..key.len()).filter(|&at| !key[..at].contains(&key[at])).count();
    let (low, high) = key.split_at(KEY_BYTES / 2);
    distinct < 6 || low == high || [low, high].contains(&&[0; KEY_BYTES / 2][..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_keeps_the_keys_that_it_has() {
        let capacity = crate::store::sizes::Capacity { torrents: 3, peers_v4: 9, peers_v6: 9 };
        let sizes = crate::store::sizes::Sizes::new(&capacity).expect("small");
        let store = Store::anonymous(&sizes).expect("a few pages");
        let keys = || {
            let settings = store.settings();
            settings.hash_keys.iter().chain(&settings.connection_key).map(|key| key.load()).collect::<Vec<_>>()
        };
        set(&store, None).expect("random numbers");
        let first = keys();
        assert!(first.iter().all(|key| *key != 0));
        set(&store, None).expect("random numbers");
        assert_eq!(keys(), first);
        // As if the process had been killed while it wrote them.
        store.settings().hash_keys[0].store(0);
        set(&store, None).expect("random numbers");
        assert!(keys().iter().zip(&first).all(|(key, before)| key != before));
    }

    #[test]
    fn keys_that_can_be_guessed_are_known() {
        for (key, degenerate) in [
            ([0; 16], true),
            ([0xff; 16], true),
            (*b"abababababababab", true),
            (*b"0123456701234567", true),
            (*b"\0\0\0\0\0\0\0\0abcdefgh", true),
            (*b"abcdefgh\0\0\0\0\0\0\0\0", true),
            (*b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", true),
            (*b"0123456789abcdef", false),
            (*b"\x8fQ\x02\xee\x91sK\xaa\x10\xfc6\x7f\xd2\x05\xb9D", false),
        ] {
            assert_eq!(is_degenerate(&key), degenerate, "{key:?}");
        }
        for _ in 0..1000 {
            assert!(!is_degenerate(&fresh().expect("random numbers")));
        }
    }
}
