//! How threads and tasks learn that it is over: a flag for threads that block in system calls with a time limit, a token for
//! tasks, both set by one call.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio_util::sync::CancellationToken;

/// Clones share their state.
#[derive(Clone, Default)]
pub struct Shutdown {
    flag: Arc<AtomicBool>,
    token: CancellationToken,
}

impl Shutdown {
    /// Tells everybody.
    pub fn begin(&self) {
        self.flag.store(true, Ordering::Relaxed);
        self.token.cancel();
    }

    /// Whether it has begun; costs one load, so it may be asked between two batches of packets.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// For tasks: `token().cancelled().await`.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }
}
