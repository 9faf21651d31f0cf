//! Writing bencode (BEP 3): the few shapes that tracker replies are made of.
//!
//! Dictionary keys have to be written in the order of their bytes; that is left to the caller, who knows them.

/// The media type of bencoded replies: trackers have always called them plain text.
pub const MEDIA_TYPE: &str = "text/plain";

/// Appends a number in decimal digits, without bencode's `i…e` around it.
#[inline]
pub fn digits(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends an integer: `i…e`.
#[inline]
pub fn integer(out: &mut Vec<u8>, number: u64) {
    out.push(b'i');
    digits(out, number);
    out.push(b'e');
}

/// Appends a byte string: its length, a colon, and the bytes as they are.
#[inline]
pub fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    digits(out, bytes.len() as u64);
    out.push(b':');
    out.extend_from_slice(bytes);
}

/// A bencode reader for tests: strict, so that what it accepts every client accepts.
#[cfg(test)]
pub(crate) mod reading {
    use std::collections::BTreeMap;

    /// A bencoded value.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) enum Value {
        Integer(u64),
        Bytes(Vec<u8>),
        List(Vec<Value>),
        Dictionary(BTreeMap<Vec<u8>, Value>),
    }

    impl Value {
        /// The value under a key of a dictionary.
        pub(crate) fn get(&self, key: &str) -> Option<&Value> {
            if let Value::Dictionary(entries) = self { entries.get(key.as_bytes()) } else { None }
        }

        /// The number under a key of a dictionary.
        pub(crate) fn number(&self, key: &str) -> Option<u64> {
            if let Some(Value::Integer(number)) = self.get(key) { Some(*number) } else { None }
        }

        /// The bytes under a key of a dictionary.
        pub(crate) fn bytes(&self, key: &str) -> Option<&[u8]> {
            if let Some(Value::Bytes(bytes)) = self.get(key) { Some(bytes) } else { None }
        }
    }

    /// Reads one value and nothing after it. `sorted` says whether keys must be in order; they must differ in any case.
    pub(crate) fn read(mut input: &[u8], sorted: bool) -> Option<Value> {
        let value = value(&mut input, sorted)?;
        input.is_empty().then_some(value)
    }

    fn take<'a>(input: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = input.split_at_checked(count)?;
        *input = rest;
        Some(taken)
    }

    fn number(input: &mut &[u8], end: u8) -> Option<u64> {
        let length = input.iter().position(|&byte| byte == end)?;
        let digits = std::str::from_utf8(take(input, length)?).ok()?;
        take(input, 1)?;
        let plain = digits.bytes().all(|digit| digit.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        plain.then(|| digits.parse().ok())?
    }

    fn value(input: &mut &[u8], sorted: bool) -> Option<Value> {
        match input.first()? {
            b'i' => {
                take(input, 1)?;
                Some(Value::Integer(number(input, b'e')?))
            }
            b'l' => {
                take(input, 1)?;
                let mut list = Vec::new();
                while input.first()? != &b'e' {
                    list.push(value(input, sorted)?);
                }
                take(input, 1)?;
                Some(Value::List(list))
            }
            b'd' => {
                take(input, 1)?;
                let mut entries = BTreeMap::new();
                while input.first()? != &b'e' {
                    let length = number(input, b':')?;
                    let key = take(input, usize::try_from(length).ok()?)?.to_vec();
                    if sorted && entries.last_key_value().is_some_and(|(last, _)| *last >= key) {
                        return None;
                    }
                    let value = value(input, sorted)?;
                    if entries.insert(key, value).is_some() {
                        return None;
                    }
                }
                take(input, 1)?;
                Some(Value::Dictionary(entries))
            }
            b'0'..=b'9' => {
                let length = number(input, b':')?;
                Some(Value::Bytes(take(input, usize::try_from(length).ok()?)?.to_vec()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{reading::read, *};

    #[test]
    fn values_are_written_as_bep_3_says() {
        let mut out = Vec::new();
        integer(&mut out, 0);
        integer(&mut out, u64::MAX);
        string(&mut out, b"");
        string(&mut out, b"\x00\xff:e");
        assert_eq!(out, b"i0ei18446744073709551615e0:4:\x00\xff:e");
    }

    #[test]
    fn the_reader_of_the_tests_is_strict() {
        for good in ["de", "le", "i0e", "0:", "d1:ai1e1:b1:xe", "li1ed1:aleee"] {
            assert!(read(good.as_bytes(), true).is_some(), "{good}");
        }
        for bad in ["", "d", "i01e", "i-1e", "ie", "3:ab", "d1:bi1e1:ai1ee", "d1:ai1e1:ai2ee", "i1ei2e", "di1ei2ee"] {
            assert!(read(bad.as_bytes(), true).is_none(), "{bad}");
        }
    }
}
