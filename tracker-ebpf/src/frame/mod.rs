//! The packet, from its first byte to where BEP 15 begins: read, checked and written.
//!
//! | module | holds |
//! |---|---|
//! | `packet` | the one door to the packet's bytes |
//! | `grow` | room for a reply that is longer than its request |
//! | `headers` | what differs between IPv4 and IPv6 |
//! | `destination` | whether a frame is addressed to the tracker |
//! | `parse` | every header checked, as the kernel would check it |
//! | `served` | whether anybody would answer what is passed on |
//! | `write` | the packet turned into one that carries the reply |

pub(crate) mod destination;
pub(crate) mod grow;
pub(crate) mod headers;
pub(crate) mod packet;
pub(crate) mod parse;
pub(crate) mod served;
pub(crate) mod write;
