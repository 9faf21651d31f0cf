//! Gives the swarm that `store` has left for this one more partition, and goes on with the reply.

use crate::{
    cold,
    frame::{headers::Network, packet::Packet},
};
use tracker_common::{outcome::Reason, programs::Program};

#[inline(always)]
pub(super) fn run<N: Network>(packet: &Packet) -> Result<(), Reason> {
    cold::split_now(N::VERSION);
    Err(packet.tail_call(Program::reply(N::VERSION)))
}
