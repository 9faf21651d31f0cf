//! Stores for tests.

use super::{
    Store, clock, keys,
    sizes::{Capacity, Sizes},
};
use std::sync::Arc;

/// A small store with keys, whose clock stands at a million minutes.
pub fn store(torrents: u64, peers_v4: u64, peers_v6: u64) -> Arc<Store> {
    store_of(&Sizes::new(&Capacity { torrents, peers_v4, peers_v6 }).expect("small"))
}

/// The same of any sizes.
pub fn store_of(sizes: &Sizes) -> Arc<Store> {
    let store = Arc::new(Store::anonymous(sizes).expect("small"));
    keys::set(&store, None).expect("random numbers");
    clock::set(store.settings(), 60_000_000);
    store
}
