//! Who may see the operator's pages: some networks, and whoever has the token.

use super::web::public::PublicPage;
use crate::{
    http::proxy::Visitor,
    listen::{Network, Networks},
    statistics::http::AdminFailure,
};
use anyhow::{Context as _, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// The shortest token, in bytes: a short one could be guessed.
const SHORTEST: usize = 16;

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
    pub fn check(&self, visitor: &Visitor, authorization: Option<&[u8]>) -> Result<(), AdminFailure> {
        if !visitor.veiled && self.networks.contains(visitor.source) {
            return Ok(());
        }
        match (&self.token, authorization) {
            (None, _) => Err(AdminFailure::Forbidden),
            (Some(token), Some(authorization)) if token.is_in(authorization) => Ok(()),
            (Some(_), _) => Err(AdminFailure::TokenWrong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::Source;

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
            let checked = access.check(&visitor, authorization.map(str::as_bytes));
            assert_eq!(checked, expected, "{visitor:?} with {authorization:?}");
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
