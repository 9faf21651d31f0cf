//! What strangers see at `/`: what this is, and how to use it. Its figures are as of the last second,
//! so it costs next to nothing, however often it is asked for.

use std::{fmt::Write as _, str::FromStr, sync::LazyLock};

/// The page, with places to be filled in.
pub(super) const PAGE: &str = concat!(include_str!("head.html"), include_str!("public.html"));

/// Its header lines.
pub static LINES: LazyLock<String> = LazyLock::new(|| super::lines(PAGE));

/// Whether strangers see a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PublicPage {
    /// With the numbers of torrents and peers.
    #[default]
    Counts,
    /// Without.
    Plain,
    /// There is none.
    Off,
}

impl FromStr for PublicPage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "counts" | "on" => Ok(Self::Counts),
            "plain" => Ok(Self::Plain),
            "off" => Ok(Self::Off),
            _ => Err("it can be counts, plain or off".into()),
        }
    }
}

/// The ports that clients announce to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Of UDP.
    pub udp: Vec<u16>,
    /// Of HTTP.
    pub http: Vec<u16>,
    /// Of HTTPS.
    pub https: Vec<u16>,
}

/// What the page says.
pub struct Said<'a> {
    /// The host as the visitor knows it: the value of `Host`.
    pub host: Option<&'a [u8]>,
    /// Where clients announce.
    pub ports: &'a Ports,
    /// Whether only some torrents are served.
    pub is_listed: bool,
    /// Torrents and peers, if they are to be told.
    pub counts: Option<(u64, u64)>,
}

/// What stands for a host that is not known.
const NO_HOST: &str = "HOST";

/// The name in a `Host` header; [`NO_HOST`] instead of what is no name, so that nothing a visitor sends
/// is in the page but letters, digits, points and hyphens.
fn host(value: Option<&[u8]>) -> &str {
    let value = value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
    let end = match value.find(']') {
        Some(end) => end + 1,
        None => value.find(':').unwrap_or(value.len()),
    };
    let name = &value[..end];
    let inside = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_one = match inside {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.len() <= 253 && name.bytes().all(letter),
    };
    if is_one { name } else { NO_HOST }
}

/// Writes the page.
pub fn write(said: &Said<'_>, body: &mut Vec<u8>) {
    let host = host(said.host);
    let mut urls = String::new();
    let Ports { udp, http, https } = said.ports;
    for (scheme, ports, usual) in [("udp", udp, 0), ("https", https, 443), ("http", http, 80)] {
        for port in ports {
            // Writing into a string cannot fail.
            let _ = if *port == usual {
                write!(urls, "<li><code>{scheme}://{host}<wbr>/announce</code></li>")
            } else {
                write!(urls, "<li><code>{scheme}://{host}:{port}<wbr>/announce</code></li>")
            };
        }
    }
    let policy = if said.is_listed {
        "It serves the torrents on its list, and refuses others."
    } else {
        "It is open: any torrent may use it."
    };
    let counts = said.counts.map_or_else(String::new, |(torrents, peers)| {
        format!(
            "<h2>Right now</h2>\n<dl><div><dt>torrents</dt><dd>{}</dd></div><div><dt>peers</dt><dd>{}</dd></div></dl>",
            grouped(torrents),
            grouped(peers)
        )
    });
    let page = PAGE.replace("{{policy}}", policy).replace("{{urls}}", &urls).replace("{{counts}}", &counts);
    body.extend_from_slice(page.as_bytes());
}

/// A number with a narrow space between groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(2 * digits.len());
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_hosts_get_into_the_page() {
        for (value, expected) in [
            ("tracker.example", "tracker.example"),
            ("tracker.example:6969", "tracker.example"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("[2001:db8::1]:6969", "[2001:db8::1]"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("", NO_HOST),
            (":80", NO_HOST),
            ("<script>alert(1)</script>", NO_HOST),
            ("a\"b", NO_HOST),
            ("a b", NO_HOST),
            ("[<b>]", NO_HOST),
            ("[::1", NO_HOST),
            ("a]", NO_HOST),
            ("b\u{fc}cher.example", NO_HOST),
        ] {
            assert_eq!(host(Some(value.as_bytes())), expected, "{value}");
        }
        assert_eq!(host(Some(&[0xff, b'a'])), NO_HOST);
        assert_eq!(host(None), NO_HOST);
    }

    #[test]
    fn the_page_says_what_a_stranger_needs_and_no_more() {
        let ports = Ports { udp: vec![6969], http: vec![80, 6969], https: vec![443] };
        let page = |is_listed, counts| {
            let mut body = Vec::new();
            write(&Said { host: Some(b"t.example"), ports: &ports, is_listed, counts }, &mut body);
            String::from_utf8(body).expect("text")
        };
        let text = page(false, Some((1_234_567, 89)));
        for part in [
            "<code>udp://t.example:6969<wbr>/announce</code>",
            "<code>http://t.example<wbr>/announce</code>",
            "<code>http://t.example:6969<wbr>/announce</code>",
            "<code>https://t.example<wbr>/announce</code>",
            "It is open",
            "<dd>1\u{202f}234\u{202f}567</dd>",
            "<dd>89</dd>",
        ] {
            assert!(text.contains(part), "{part}");
        }
        assert!(!text.contains("{{"), "all places are filled in");
        let text = page(true, None);
        assert!(text.contains("on its list") && !text.contains("<dl>"), "{text}");
    }

    #[test]
    fn the_option_has_three_values() {
        for (text, expected) in [
            ("counts", Some(PublicPage::Counts)),
            ("on", Some(PublicPage::Counts)),
            ("Plain", Some(PublicPage::Plain)),
            ("off", Some(PublicPage::Off)),
            ("", None),
            ("none", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }
}
