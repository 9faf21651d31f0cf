//! Headers in which proxies name the clients that they ask for: `X-Forwarded-For` and others of its
//! form, which are lists of addresses, and `Forwarded` (RFC 7239).
//!
//! Each proxy adds the client that it sees at the end of the list; what stands before that the
//! client may have written itself. So from the end on the proxies that are believed are passed over,
//! and the first other address is the client's.

use crate::listen::{Networks, Source};
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// The name of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderName(String);

impl Default for HeaderName {
    fn default() -> Self {
        Self("X-Forwarded-For".into())
    }
}

impl FromStr for HeaderName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if text.is_empty() || !text.bytes().all(is_token) {
            return Err(format!("{text:?} is no name of a header, such as X-Forwarded-For, Forwarded or X-Real-IP"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl HeaderName {
    /// Whether a header has this name.
    #[inline]
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name)
    }

    fn is_forwarded(&self) -> bool {
        self.is("Forwarded")
    }
}

/// The client that headers name, as they are read from the first to the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The last one that is no proxy, or the first proxy if all are.
    source: Option<Source>,
    /// All so far are proxies.
    proxies_only: bool,
}

impl Claim {
    /// The client; `None` if no header names one.
    #[must_use]
    pub fn source(self) -> Option<Source> {
        self.source
    }

    /// Adds what a further header line says.
    pub fn add(&mut self, name: &HeaderName, value: &[u8], proxies: &Networks) {
        if name.is_forwarded() {
            self.add_forwarded(value, proxies);
            return;
        }
        for element in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|one| !one.is_empty()) {
            self.add_one(node(element), proxies);
        }
    }

    fn add_one(&mut self, source: Source, proxies: &Networks) {
        let is_proxy = proxies.contains(source);
        if self.source.is_none() {
            (self.source, self.proxies_only) = (Some(source), is_proxy);
        } else if !is_proxy {
            (self.source, self.proxies_only) = (Some(source), false);
        }
    }

    /// Adds what a line of `Forwarded` says. What is not as RFC 7239 has it names nobody, and
    /// neither does anything before it, since a client that begins a quoted string could make what
    /// its proxy adds a part of that.
    fn add_forwarded(&mut self, value: &[u8], proxies: &Networks) {
        let Some(elements) = pieces(value, b',') else { return self.add_one(Source::Unknown, proxies) };
        for element in elements.into_iter().map(<[u8]>::trim_ascii).filter(|one| !one.is_empty()) {
            self.add_one(forwarded_for(element), proxies);
        }
    }
}

/// The client that one element of `Forwarded` names.
fn forwarded_for(element: &[u8]) -> Source {
    let Some(pairs) = pieces(element, b';') else { return Source::Unknown };
    let mut named = None;
    for pair in pairs {
        let Some(equals) = pair.iter().position(|&byte| byte == b'=') else { return Source::Unknown };
        let (key, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        if key.eq_ignore_ascii_case(b"for") {
            let value = match value {
                [b'"', inner @ .., b'"'] => inner,
                [b'"', ..] => return Source::Unknown,
                plain => plain,
            };
            if named.replace(node(value)).is_some() {
                return Source::Unknown;
            }
        }
    }
    named.unwrap_or(Source::Unknown)
}

/// Divides a value, but not inside of quoted strings; `None` if one does not end, or does not begin
/// at the beginning of a value or end at its end.
fn pieces(value: &[u8], separator: u8) -> Option<Vec<&[u8]>> {
    let (mut pieces, mut begin, mut quoted, mut escaped, mut closed) = (Vec::new(), 0, false, false, false);
    for (at, &byte) in value.iter().enumerate() {
        if quoted {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => (quoted, closed) = (false, true),
                _ => {}
            }
        } else if byte == separator {
            pieces.push(&value[begin..at]);
            begin = at + 1;
            closed = false;
        } else {
            match byte {
                b'"' if at > 0 && value[at - 1] == b'=' => quoted = true,
                b'"' => return None,
                b';' => closed = false,
                b' ' | b'\t' => {}
                _ if closed => return None,
                _ => {}
            }
        }
    }
    pieces.push(&value[begin..]);
    (!quoted).then_some(pieces)
}

/// The source of an address with or without a port; IPv6 with a port in brackets.
fn node(text: &[u8]) -> Source {
    let Ok(text) = std::str::from_utf8(text) else { return Source::Unknown };
    let address =
        text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip())).or_else(|wrong| {
            match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                Some(inner) => inner.parse::<Ipv6Addr>().map(IpAddr::from).map_err(|_| wrong),
                None => Err(wrong),
            }
        });
    address.map_or(Source::Unknown, Source::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str, lines: &[&str]) -> Option<Source> {
        let proxies: Vec<_> = ["10.0.0.0/8", "2001:db8:aaaa::/48"].map(|text| text.parse().expect(text)).into();
        let (name, proxies) = (name.parse().expect(name), Networks::new(&proxies));
        let mut claim = Claim::default();
        lines.iter().for_each(|line| claim.add(&name, line.as_bytes(), &proxies));
        claim.source()
    }

    /// `None`: the header names nobody. `"?"`: it does, but nobody knows whom.
    fn check(name: &str, rows: &[(&[&str], Option<&str>)]) {
        for (lines, expected) in rows {
            let expected = expected.map(|text| match text {
                "?" => Source::Unknown,
                address => Source::Address(address.parse().expect(address)),
            });
            assert_eq!(claim(name, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_clients() {
        let rows: &[(&[&str], Option<&str>)] = &[
            (&["192.0.2.7"], Some("192.0.2.7")),
            (&[" 192.0.2.7 "], Some("192.0.2.7")),
            (&["192.0.2.7:4711"], Some("192.0.2.7")),
            (&["2001:db8::7"], Some("2001:db8::7")),
            (&["[2001:db8::7]"], Some("2001:db8::7")),
            (&["[2001:db8::7]:4711"], Some("2001:db8::7")),
            (&["::ffff:192.0.2.7"], Some("192.0.2.7")),
            (&["[::ffff:192.0.2.7]:80"], Some("192.0.2.7")),
            (&["192.0.2.1, 192.0.2.7"], Some("192.0.2.7")),
            (&["192.0.2.1", "192.0.2.7"], Some("192.0.2.7")),
            (&["192.0.2.7, 10.0.0.1"], Some("192.0.2.7")),
            (&["192.0.2.7,10.0.0.1,10.0.0.2"], Some("192.0.2.7")),
            (&["192.0.2.1, 192.0.2.7, 10.0.0.1", "10.0.0.2"], Some("192.0.2.7")),
            (&["192.0.2.7, ::ffff:10.0.0.1, [2001:db8:aaaa::1]:9"], Some("192.0.2.7")),
            (&["10.0.0.9, 10.0.0.1"], Some("10.0.0.9")),
            (&["junk, 192.0.2.7"], Some("192.0.2.7")),
            (&[",,192.0.2.7,,"], Some("192.0.2.7")),
            (&["\u{fc}, 192.0.2.7"], Some("192.0.2.7")),
            (&[], None),
            (&[""], None),
            (&[" , "], None),
            (&["junk"], Some("?")),
            (&["192.0.2.7, junk"], Some("?")),
            (&["192.0.2.7, unknown, 10.0.0.1"], Some("?")),
            (&["192.0.2.7", "junk"], Some("?")),
            (&["10.0.0.1, junk"], Some("?")),
            (&["192.0.2.7 10.0.0.1"], Some("?")),
            (&["192.0.2.7;10.0.0.1"], Some("?")),
            (&["192.0.2.256"], Some("?")),
            (&["192.0.2"], Some("?")),
            (&["0.0.0.0"], Some("?")),
            (&["255.255.255.255"], Some("?")),
            (&["ff02::1"], Some("?")),
            (&["::ffff:0.0.0.0"], Some("?")),
            (&["192.0.2.7:65536"], Some("?")),
            (&["[192.0.2.7]"], Some("?")),
            (&["fe80::1%eth0"], Some("?")),
            (&["for=192.0.2.7"], Some("?")),
            (&["\"192.0.2.7\""], Some("?")),
        ];
        check("X-Forwarded-For", rows);
        check("CF-Connecting-IP", rows);
    }

    #[test]
    fn forwarded_names_clients_by_their_parameter_for() {
        check(
            "forwarded",
            &[
                (&["for=192.0.2.7"], Some("192.0.2.7")),
                (&["For=\"192.0.2.7:4711\""], Some("192.0.2.7")),
                (&["for=\"[2001:db8::7]:4711\""], Some("2001:db8::7")),
                (&["for=\"[2001:db8::7]\";proto=https;by=10.0.0.1"], Some("2001:db8::7")),
                (&["proto=https;for=192.0.2.7"], Some("192.0.2.7")),
                (&["for=192.0.2.1, for=192.0.2.7"], Some("192.0.2.7")),
                (&["for=192.0.2.7, for=10.0.0.1;by=\"a,b;c=d\""], Some("192.0.2.7")),
                (&["for=192.0.2.1", "for=192.0.2.7"], Some("192.0.2.7")),
                (&["for=unknown, for=192.0.2.7"], Some("192.0.2.7")),
                (&["secret=\"a\\\"b\", for=192.0.2.7"], Some("192.0.2.7")),
                (&[""], None),
                (&["for=unknown"], Some("?")),
                (&["for=_hidden"], Some("?")),
                (&["for=192.0.2.7, proto=https"], Some("?")),
                (&["192.0.2.7"], Some("?")),
                (&["for=192.0.2.7;for=192.0.2.8"], Some("?")),
                (&["for="], Some("?")),
                (&["for=\"192.0.2.7"], Some("?")),
                // A client that wants to be 192.0.2.9: what its proxy adds becomes a part of a string.
                (&["for=192.0.2.9;x=\", for=192.0.2.7"], Some("?")),
                (&["for=192.0.2.9;x=\", for=\"[2001:db8::7]:1\""], Some("?")),
                (&["for=192.0.2.9;x=\"\\, for=192.0.2.7"], Some("?")),
                (&["for=192.0.2.9;x=\", for=\"[2001:db8::7]\";by=\"[2001:db8::1]\""], Some("?")),
                (&["for=192.0.2.9\"\", for=10.0.0.1"], Some("?")),
            ],
        );
    }

    #[test]
    fn names_of_headers_are_tokens() {
        for name in ["X-Forwarded-For", "x", "CF-Connecting-IP", "True-Client-IP"] {
            assert!(name.parse::<HeaderName>().is_ok_and(|parsed| parsed.is(&name.to_uppercase())), "{name}");
        }
        for name in ["", "X-Forwarded-For:", "a b", "\u{fc}", "a\r\nb", "a,b"] {
            name.parse::<HeaderName>().expect_err(name);
        }
    }
}
