//! Who may see the operator's pages: some networks, and whoever has the token.
//!
//! A browser inside of such a network is not always asked by somebody there. A page from elsewhere may have
//! its name lead to this host once it is loaded (DNS rebinding), and then read what that answers. So a
//! browser is let in by its address alone only under a name that no stranger can have.

use super::web::public::PublicPage;
use crate::{
    http::{proxy::Visitor, request::Request},
    listen::{Network, Networks},
    statistics::http::AdminFailure,
};
use anyhow::{Context as _, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};
use std::{
    fmt, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::LazyLock,
};

/// The shortest token, in bytes: a short one could be guessed.
const SHORTEST: usize = 16;

/// Domains that are not in the public DNS (RFC 6761, RFC 6762, RFC 8375, ICANN's for private use; and that
/// of many routers).
const PRIVATE: [&str; 5] = ["localhost", "local", "home.arpa", "internal", "lan"];

/// What this host is called.
static OWN_NAME: LazyLock<String> =
    LazyLock::new(|| rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase());

/// A token, of which only the hash is kept: comparing hashes tells nobody how much of a guess was
/// right.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// The token in a file: its first line.
    ///
    /// # Errors
    /// When the file cannot be read, or its first line is too short to be one.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the token of the operator in {}", path.display()))?;
        let token = text.lines().next().unwrap_or_default().trim();
        ensure!(
            token.len() >= SHORTEST,
            "the first line of {} is no token: at least {SHORTEST} bytes are wanted, such as `openssl rand -hex 16` prints",
            path.display()
        );
        Ok(Self::of(token.as_bytes()))
    }

    fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether the value of an `Authorization` header has it: as a token (RFC 6750), or, since that is
    /// what browsers ask their users for, as a password with any name (RFC 7617).
    #[must_use]
    pub fn is_in(&self, authorization: &[u8]) -> bool {
        let after = |name: &[u8]| {
            let (scheme, rest) = authorization.split_at_checked(name.len())?;
            scheme.eq_ignore_ascii_case(name).then(|| rest.trim_ascii())
        };
        if let Some(token) = after(b"bearer ") {
            return Self::of(token) == *self;
        }
        let pair = after(b"basic ").and_then(|pair| BASE64_STANDARD.decode(pair).ok()).unwrap_or_default();
        let colon = pair.iter().position(|byte| *byte == b':');
        colon.is_some_and(|colon| Self::of(pair[colon + 1..].trim_ascii()) == *self)
    }
}

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// From where the pages may be seen without a token.
    pub networks: Networks,
    /// The token, if there is one.
    pub token: Option<Token>,
    /// The file that it was read from.
    pub token_file: Option<PathBuf>,
    /// What strangers see.
    pub public_page: PublicPage,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            networks: Networks::new(&[Network::Local]),
            token: None,
            token_file: None,
            public_page: PublicPage::default(),
        }
    }
}

impl Access {
    /// Whether a visitor may see the pages. Behind a proxy that is not believed everybody has the
    /// address of that, so nobody is of a network.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, visitor: &Visitor, request: &Request<'_>) -> Result<(), AdminFailure> {
        let near = !visitor.veiled && self.networks.contains(visitor.source);
        if near && (self.networks.are_all() || !may_be_rebound(request)) {
            return Ok(());
        }
        match (&self.token, request.authorization) {
            (None, _) if near => Err(AdminFailure::NameForeign),
            (None, _) => Err(AdminFailure::Forbidden),
            (Some(token), Some(authorization)) if token.is_in(authorization) => Ok(()),
            (Some(_), _) => Err(AdminFailure::TokenWrong),
        }
    }
}

/// Whether a browser asks under a name that a stranger may have led here. A believed proxy has chosen by
/// the name whom to ask. `Origin` and `Sec-Fetch-Site` tell nothing: to the browser such a page asks
/// the host that it is from, and without TLS.
fn may_be_rebound(request: &Request<'_>) -> bool {
    request.has_languages && request.claim.source().is_none() && !request.host.is_none_or(is_own)
}

/// Whether the value of `Host` is an address, the name of this host, or one that the public DNS does not
/// have: without a point, or below one of [`PRIVATE`].
fn is_own(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let (name, _) = match host.strip_prefix('[') {
        Some(address) => address.split_once(']').unwrap_or((address, "")),
        None => host.split_once(':').unwrap_or((host, "")),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let is_below = |domain: &&str| name.strip_suffix(*domain).is_some_and(|rest| rest.ends_with('.'));
    !name.contains('.') || name.parse::<IpAddr>().is_ok() || name == *OWN_NAME || PRIVATE.iter().any(is_below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::{Trust, request},
        listen::Source,
    };

    #[test]
    fn the_operator_is_known_by_network_or_by_token() {
        let (local, none) = (Networks::new(&[Network::Local]), Networks::default());
        let token = || Some(Token::of(b"0123456789abcdef"));
        let (forbidden, wrong) = (Err(AdminFailure::Forbidden), Err(AdminFailure::TokenWrong));
        let at = |address: &str| Visitor::plain(Source::of(address.parse().expect(address)));
        let veiled = Visitor { veiled: true, ..at("127.0.0.1") };
        let unix = Visitor::plain(Source::Unix);
        let unknown = Visitor::plain(Source::Unknown);
        let right = Some("Bearer 0123456789abcdef");
        for (networks, token, visitor, authorization, expected) in [
            (&local, None, at("127.0.0.1"), None, Ok(())),
            (&local, None, at("::1"), None, Ok(())),
            (&local, None, at("::ffff:10.1.2.3"), None, Ok(())),
            (&local, None, unix, None, Ok(())),
            (&local, None, at("8.8.8.8"), None, forbidden),
            (&local, None, at("2001:db8::1"), None, forbidden),
            (&local, None, veiled, None, forbidden),
            (&local, None, unknown, None, forbidden),
            (&local, None, at("8.8.8.8"), right, forbidden),
            (&none, None, at("127.0.0.1"), None, forbidden),
            (&local, token(), at("10.0.0.1"), None, Ok(())),
            (&local, token(), at("10.0.0.1"), Some("Bearer x"), Ok(())),
            (&none, token(), at("8.8.8.8"), right, Ok(())),
            (&none, token(), veiled, right, Ok(())),
            (&none, token(), unknown, Some("bearer  0123456789abcdef "), Ok(())),
            (&none, token(), at("8.8.8.8"), Some("Basic YW55OjAxMjM0NTY3ODlhYmNkZWY="), Ok(())),
            (&none, token(), at("8.8.8.8"), Some("basic OjAxMjM0NTY3ODlhYmNkZWY="), Ok(())),
            (&none, token(), at("8.8.8.8"), Some("Basic MDEyMzQ1Njc4OWFiY2RlZg=="), wrong),
            (&none, token(), at("8.8.8.8"), Some("Basic YW55OjAxMjM0NTY3ODlhYmNkZQ=="), wrong),
            (&none, token(), at("8.8.8.8"), Some("Basic !"), wrong),
            (&none, token(), at("127.0.0.1"), None, wrong),
            (&none, token(), at("8.8.8.8"), Some(""), wrong),
            (&none, token(), at("8.8.8.8"), Some("Bearer "), wrong),
            (&none, token(), at("8.8.8.8"), Some("Bearer 0123456789abcde"), wrong),
            (&none, token(), at("8.8.8.8"), Some("Bearer 0123456789abcdeff"), wrong),
            (&none, token(), at("8.8.8.8"), Some("Basic 0123456789abcdef"), wrong),
            (&none, token(), at("8.8.8.8"), Some("0123456789abcdef"), wrong),
        ] {
            let access = Access { networks: networks.clone(), token, ..Access::default() };
            let line = authorization.map_or_else(String::new, |value| format!("Authorization: {value}\r\n"));
            let checked = check(&access, &visitor, &line);
            assert_eq!(checked, expected, "{visitor:?} with {authorization:?}");
        }
    }

    fn check(access: &Access, visitor: &Visitor, lines: &str) -> Result<(), AdminFailure> {
        // As of a proxy that is believed, which matters only where it names somebody.
        let trust = Trust { proxies: Networks::new(&[Network::Local]), ..Trust::default() };
        let text = format!("GET /stats.json HTTP/1.1\r\n{lines}\r\n");
        let request = request::parse(text.as_bytes(), Some(&trust)).expect("right").expect("whole");
        access.check(visitor, &request)
    }

    #[test]
    fn a_browser_is_let_in_by_its_address_only_under_names_that_no_stranger_can_have() {
        const BROWSER: &str = "Accept-Language: en\r\n";
        // A page can have it say so little.
        const SILENT: &str = "accept-language:\r\n";
        let own = |name: &str| format!("{BROWSER}Host: {name}\r\n");
        let ok = Ok(());
        let foreign = Err(AdminFailure::NameForeign);
        for (lines, expected) in [
            (own("127.0.0.1:6969"), ok),
            (own("192.168.1.5"), ok),
            (own("[fe80::1]:6969"), ok),
            (own("[::ffff:10.0.0.1]"), ok),
            (own("localhost:6969"), ok),
            (own("tracker.localhost"), ok),
            (own("tracker"), ok),
            (own("Tracker.LOCAL.:80"), ok),
            (own("tracker.home.arpa"), ok),
            (own("tracker.lan"), ok),
            (own("prometheus.internal:6969"), ok),
            (own(&format!("{}:6969", OWN_NAME.to_uppercase())), ok),
            (own("stranger.example"), foreign),
            (own("stranger.example:6969"), foreign),
            (own("stranger.example."), foreign),
            (own("127.0.0.1.stranger.example"), foreign),
            (own("localhost.stranger.example"), foreign),
            (own("notlocal.strangerlocal"), foreign),
            (own("[stranger.example]"), foreign),
            (own("caf\u{e9}.example"), foreign),
            (format!("{SILENT}Host: stranger.example\r\n"), foreign),
            // No browser.
            ("Host: tracker.example:6969\r\nAccept: text/plain\r\nUser-Agent: Prometheus/3\r\n".into(), ok),
            (BROWSER.into(), ok),
            (String::new(), ok),
            // A proxy has chosen by the name.
            (own("tracker.example") + "X-Forwarded-For: 192.168.1.7\r\n", ok),
            (own("tracker.example") + "Authorization: Bearer 0123456789abcdef\r\n", foreign),
        ] {
            let visitor = Visitor::plain(Source::Address([192, 168, 1, 7].into()));
            let mut access = Access::default();
            assert_eq!(check(&access, &visitor, &lines), expected, "{lines}");
            access.token = Some(Token::of(b"0123456789abcdef"));
            let has_token = lines.contains("Bearer");
            let by_token = if has_token { ok } else { expected.map_err(|_| AdminFailure::TokenWrong) };
            assert_eq!(check(&access, &visitor, &lines), by_token, "{lines}");
            // What all may see is no secret.
            let access = Access { networks: Networks::new(&[Network::All]), ..Access::default() };
            assert_eq!(check(&access, &visitor, &lines), ok, "{lines}");
            let stranger = Visitor::plain(Source::Address([8, 8, 8, 8].into()));
            assert_eq!(check(&Access::default(), &stranger, &lines), Err(AdminFailure::Forbidden), "{lines}");
        }
    }

    #[test]
    fn tokens_are_read_from_files_and_not_shown() {
        let path = std::env::temp_dir().join(format!("tracker-token-{}", std::process::id()));
        for (text, is_one) in [
            ("0123456789abcdef", true),
            ("  0123456789abcdef \nmore\n", true),
            ("", false),
            ("0123456789abcde\n", false),
            ("\n0123456789abcdef\n", false),
        ] {
            fs::write(&path, text).expect("writable");
            let token = Token::read(&path);
            assert_eq!(token.is_ok(), is_one, "{text:?}");
            if let Ok(token) = token {
                assert_eq!(token, Token::of(b"0123456789abcdef"));
                assert_eq!(format!("{token:?}"), "Token(..)");
            }
        }
        fs::remove_file(&path).expect("it is there");
        assert!(Token::read(&path).is_err());
    }
}
