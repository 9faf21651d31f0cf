//! The UDP tracker protocol (BEP 15): from the bytes of a request to the bytes of its reply.

pub mod announce;
pub mod card_id;
pub mod connect;
pub mod connection_id;
pub mod datagram;
pub mod half_siphash;
pub mod reply;
pub mod scrape;
pub mod siphash;
pub mod wire;
