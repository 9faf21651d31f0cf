//! Bencode (BEP 3), read strictly.

use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;

/// A bencoded value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `i…e`
    Integer(i64),
    /// `length:bytes`
    Bytes(Vec<u8>),
    /// `l…e`
    List(Vec<Value>),
    /// `d…e`
    Dictionary(BTreeMap<Vec<u8>, Value>),
}

impl Value {
    /// Reads exactly one value.
    ///
    /// # Errors
    /// When the bytes are anything else, or break a rule that a picky client may insist on: keys
    /// sorted and unique, numbers without leading zeros.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut rest = bytes;
        let value = Self::read(&mut rest).with_context(|| {
            format!("not bencode at byte {} of {:?}", bytes.len() - rest.len(), String::from_utf8_lossy(bytes))
        })?;
        ensure!(rest.is_empty(), "{} bytes after the bencoded value", rest.len());
        Ok(value)
    }

    /// The value under a key of a dictionary.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Dictionary(entries) => entries.get(key.as_bytes()),
            Self::Integer(_) | Self::Bytes(_) | Self::List(_) => None,
        }
    }

    /// The number under a key.
    ///
    /// # Errors
    /// When there is none.
    pub fn integer(&self, key: &str) -> Result<i64> {
        match self.get(key) {
            Some(Self::Integer(number)) => Ok(*number),
            other => bail!("{key:?} is {other:?}, not a number"),
        }
    }

    /// The bytes under a key.
    ///
    /// # Errors
    /// When there are none.
    pub fn bytes(&self, key: &str) -> Result<&[u8]> {
        match self.get(key) {
            Some(Self::Bytes(bytes)) => Ok(bytes),
            other => bail!("{key:?} is {other:?}, not a string"),
        }
    }

    fn read(rest: &mut &[u8]) -> Result<Self> {
        match rest.first() {
            Some(b'i') => {
                *rest = &rest[1..];
                Ok(Self::Integer(number(rest, b'e')?))
            }
            Some(b'0'..=b'9') => Ok(Self::Bytes(string(rest)?)),
            Some(b'l') => {
                *rest = &rest[1..];
                let mut items = Vec::new();
                while !ended(rest)? {
                    items.push(Self::read(rest)?);
                }
                Ok(Self::List(items))
            }
            Some(b'd') => {
                *rest = &rest[1..];
                let mut entries = BTreeMap::new();
                while !ended(rest)? {
                    let key = string(rest)?;
                    let sorted = entries.last_key_value().is_none_or(|(last, _)| *last < key);
                    ensure!(sorted, "key {:?} is not after the one before it", String::from_utf8_lossy(&key));
                    let value = Self::read(rest)?;
                    entries.insert(key, value);
                }
                Ok(Self::Dictionary(entries))
            }
            Some(byte) => bail!("no value begins with {:?}", char::from(*byte)),
            None => bail!("nothing where a value should be"),
        }
    }
}

/// Takes the `e` that ends a list or dictionary, if it is there.
fn ended(rest: &mut &[u8]) -> Result<bool> {
    match rest.split_first() {
        Some((b'e', after)) => {
            *rest = after;
            Ok(true)
        }
        Some(_) => Ok(false),
        None => bail!("a list or dictionary without an end"),
    }
}

fn number(rest: &mut &[u8], end: u8) -> Result<i64> {
    let length = rest.iter().position(|&byte| byte == end).context("a number without an end")?;
    let digits = str::from_utf8(&rest[..length])?;
    let number: i64 = digits.parse().with_context(|| format!("{digits:?} is not a number"))?;
    ensure!(number.to_string() == digits, "{digits:?} is not how {number} is written");
    *rest = &rest[length + 1..];
    Ok(number)
}

fn string(rest: &mut &[u8]) -> Result<Vec<u8>> {
    let length = usize::try_from(number(rest, b':')?)?;
    let (bytes, after) = rest.split_at_checked(length).context("a string longer than what follows")?;
    *rest = after;
    Ok(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::Value;

    #[test]
    fn values_are_read() {
        let value = Value::parse(b"d1:ai-3e1:bl2:xy0:e1:cdee").expect("a dictionary");
        assert_eq!(value.integer("a").expect("a number"), -3);
        assert_eq!(value.get("b"), Some(&Value::List(vec![Value::Bytes(b"xy".to_vec()), Value::Bytes(vec![])])));
    }

    #[test]
    fn short_ones_are_read() {
        for good in ["de", "le", "i0e", "0:", "d1:ai1e1:b1:xe", "li1ed1:aleee"] {
            Value::parse(good.as_bytes()).expect(good);
        }
    }

    #[test]
    fn broken_ones_are_refused() {
        for broken in [
            "",
            "d",
            "ie",
            "i1",
            "i01e",
            "i-0e",
            "4:abc",
            "l",
            "d1:bi1e1:ai1ee",
            "d1:ai1e1:ai1ee",
            "i1ei2e",
            "di1ei1ee",
        ] {
            Value::parse(broken.as_bytes()).expect_err(broken);
        }
    }
}
