//! Reverse proxies in front of the server: whom of them it believes, and who their clients are.
//!
//! | module | does |
//! |---|---|
//! | [`header`] | `X-Forwarded-For`, `Forwarded` and others of their kind |
//! | [`protocol`] | the PROXY protocol |

pub mod header;
pub mod protocol;

use crate::listen::{Networks, Source};
use header::HeaderName;

/// Whom the server believes what they say about addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Reverse proxies, which name their clients in a header.
    pub proxies: Networks,
    /// That header.
    pub header: HeaderName,
    /// Proxies whose connections begin with a header of the PROXY protocol.
    pub protocol: Networks,
    /// Clients that may name other addresses than their own, by the parameters of an announce.
    pub parameters: Networks,
}

/// Who has sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// Where the request comes from.
    pub source: Source,
    /// There is a header of a proxy that is not believed: who asks may be somebody else.
    pub veiled: bool,
    /// It may name other addresses than its own.
    pub names_addresses: bool,
}

impl Visitor {
    /// One that is just what it seems.
    #[must_use]
    pub fn plain(source: Source) -> Self {
        Self { source, veiled: false, names_addresses: false }
    }

    /// Whether it counts as a client by IPv4; where the address is not known, it does.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.source.key().is_ipv4()
    }
}

/// The header in which a proxy names the client that it asks for, under its usual name; `None` for
/// any other header.
#[inline]
#[must_use]
pub fn usual(name: &str, value: &[u8]) -> Option<&'static str> {
    let known = match name.len() {
        9 if name.eq_ignore_ascii_case("forwarded") => "Forwarded",
        9 if name.eq_ignore_ascii_case("x-real-ip") => "X-Real-IP",
        15 if name.eq_ignore_ascii_case("x-forwarded-for") => "X-Forwarded-For",
        _ => return None,
    };
    (!value.is_empty()).then_some(known)
}
