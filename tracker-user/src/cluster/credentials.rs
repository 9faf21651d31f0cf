//! Who this tracker is to the NATS servers: a user with a password, a token, a key (NKEY), or what an
//! operator's tools have signed (a file with a JWT and a key).
//!
//! The file is read anew for each connection, so that it can be replaced.

use anyhow::{Context as _, bail};
use async_nats::{Auth, AuthError};
use nkeys::KeyPair;
use std::path::Path;

/// What the secret of a user's key begins with, and how long it is.
const SEED: (&str, usize) = ("SU", 58);

/// In front of what stands in a file of an operator's tools.
const JWT: &str = "-----BEGIN NATS USER JWT-----";
const KEY: &str = "-----BEGIN USER NKEY SEED-----";

/// What a file of credentials says.
enum Credentials {
    User(String, String),
    Token(String),
    Key(KeyPair),
    Signed(String, KeyPair),
}

/// What a NATS server that sends these bytes is answered.
///
/// # Errors
/// When the file cannot be read, or says nothing of use.
pub fn answer(path: &Path, nonce: &[u8]) -> anyhow::Result<Auth> {
    let mut auth = Auth::new();
    match read(path)? {
        Credentials::User(user, password) => (auth.username, auth.password) = (Some(user), Some(password)),
        Credentials::Token(token) => auth.token = Some(token),
        Credentials::Key(key) => {
            auth.nkey = Some(key.public_key());
            auth.signature = Some(key.sign(nonce)?);
        }
        Credentials::Signed(jwt, key) => {
            auth.jwt = Some(jwt);
            auth.signature = Some(key.sign(nonce)?);
        }
    }
    Ok(auth)
}

/// The same for the client of NATS, which knows one kind of error.
///
/// # Errors
/// As [`answer`].
pub fn for_client(path: &Path, nonce: &[u8]) -> Result<Auth, AuthError> {
    answer(path, nonce).map_err(|error| AuthError::new(format!("{error:#}")))
}

fn read(path: &Path) -> anyhow::Result<Credentials> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("cannot use the credentials in {}", path.display()))
}

fn parse(text: &str) -> anyhow::Result<Credentials> {
    let behind = |mark: &str| text.lines().map(str::trim).skip_while(|line| *line != mark).nth(1);
    if let Some(jwt) = behind(JWT) {
        let seed = behind(KEY).context("there is a JWT, but no key")?;
        return Ok(Credentials::Signed(jwt.to_owned(), key(seed)?));
    }
    let line = text.lines().next().map(str::trim).filter(|line| !line.is_empty());
    let line = line.context("the first line is empty")?;
    if line.starts_with("-----") {
        bail!("this is no user's file: it takes a JWT and a key");
    }
    Ok(match line.split_once(':') {
        Some((user, password)) => Credentials::User(user.to_owned(), password.to_owned()),
        None if line.starts_with(SEED.0) && line.len() == SEED.1 => Credentials::Key(key(line)?),
        None => Credentials::Token(line.to_owned()),
    })
}

/// A user's key. What it says of a wrong one does not have the secret in it.
fn key(seed: &str) -> anyhow::Result<KeyPair> {
    KeyPair::from_seed(seed).ok().filter(|_| seed.starts_with(SEED.0)).context("the key is none of a user")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_a_user_a_token_a_key_or_a_signed_file() {
        let seed = KeyPair::new_user().seed().expect("a key with its secret");
        let account = KeyPair::new_account().seed().expect("a key with its secret");
        let mut damaged = seed.clone();
        damaged.replace_range(20..21, if seed.as_bytes()[20] == b'A' { "B" } else { "A" });
        let signed =
            |jwt: &str, key: &str| format!("{JWT}\n{jwt}\n------END\n\n*** important\n{KEY}\n{key}\n------END\n");
        let rows: [(&str, String, Option<&str>); 14] = [
            ("a user", "a:b:c\n".into(), Some("user a b:c")),
            ("a user without a password", "a:".into(), Some("user a ")),
            ("a token", "token\nmore".into(), Some("token token")),
            ("a short token like a key", "SUAB".into(), Some("token SUAB")),
            ("a key", format!(" {seed} \n"), Some("key")),
            ("a signed file", signed("a.b.c", &seed), Some("jwt a.b.c")),
            (
                "the same with the ends of lines of Windows",
                signed("a.b.c", &seed).replace('\n', "\r\n"),
                Some("jwt a.b.c"),
            ),
            ("nothing", String::new(), None),
            ("an empty line", "\na:b".into(), None),
            ("a damaged key", damaged.clone(), None),
            ("an account's key in a signed file", signed("a.b.c", &account), None),
            ("a damaged key in a signed file", signed("a.b.c", &damaged), None),
            ("a signed file without a key", format!("{JWT}\na.b.c\n"), None),
            ("a private key", "-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n".into(), None),
        ];
        let path = std::env::temp_dir().join(format!("tracker-credentials-{}", std::process::id()));
        for (name, text, expected) in rows {
            std::fs::write(&path, &text).expect("writable");
            let nonce = b"a nonce";
            let signed_by = |auth: &Auth| {
                let key = KeyPair::from_seed(&seed).expect("a key");
                assert_eq!(auth.nkey, auth.jwt.is_none().then(|| key.public_key()), "{name}");
                assert!(key.verify(nonce, auth.signature.as_deref().expect("signed")).is_ok(), "{name}");
            };
            let said = answer(&path, nonce).map(|auth| match &auth {
                Auth { username: Some(user), password: Some(password), .. } => format!("user {user} {password}"),
                Auth { token: Some(token), .. } => format!("token {token}"),
                Auth { jwt, .. } => {
                    signed_by(&auth);
                    jwt.as_ref().map_or("key".into(), |jwt| format!("jwt {jwt}"))
                }
            });
            match (said, expected) {
                (Ok(said), expected) => assert_eq!(Some(said.as_str()), expected, "{name}"),
                (Err(error), None) => {
                    let error = format!("{error:#}");
                    assert!(
                        error.contains(&path.display().to_string()) && !error.contains(&damaged),
                        "{name}: {error}"
                    );
                }
                (Err(error), Some(_)) => panic!("{name}: {error:#}"),
            }
        }
        std::fs::remove_file(&path).expect("it is there");
        assert!(answer(&path, b"").is_err(), "no file");
    }
}
