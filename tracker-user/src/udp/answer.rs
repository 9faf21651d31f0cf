//! The answers to a batch of requests.

use super::replies::Replies;
use crate::store::Handle;
use std::net::SocketAddr;
use tracker_common::bep15::datagram::{TOGETHER, look_ahead, respond, respond_if_connected};

/// A request that has arrived: its number in the batch, its bytes, and where it came from.
pub type Arrived<'a> = (usize, &'a [u8], SocketAddr);

/// Adds the answers to `requests` to `replies`. What several of them need of the store is brought
/// nearer before the first of them is answered. If `pressed`, requests with a wrong connection id
/// get no answer.
pub fn answer<'a>(handle: &Handle, requests: impl Iterator<Item = Arrived<'a>>, pressed: bool, replies: &mut Replies) {
    let mut requests = requests.fuse();
    let mut group = Vec::with_capacity(TOGETHER);
    loop {
        group.clear();
        group.extend(requests.by_ref().take(TOGETHER));
        if group.is_empty() {
            return;
        }
        look_ahead(handle, group.iter().map(|&(_, datagram, source)| (datagram, source)));
        for &(number, datagram, source) in &group {
            let answer = if pressed { respond_if_connected } else { respond };
            if let Ok(reply) = answer(handle, datagram, source) {
                replies.add(handle, number, reply.start, reply.length);
            }
        }
    }
}
