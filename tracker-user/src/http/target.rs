//! The parts of a request's target: the segments of its path, the parameters of its query,
//! percent-encoding.

/// The parameters of a query, in order: key and value, both still encoded.
pub fn parameters(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        match pair.iter().position(|&byte| byte == b'=') {
            Some(equals) => (&pair[..equals], &pair[equals + 1..]),
            None => (pair, &pair[pair.len()..]),
        }
    })
}

/// The segments of a decoded path, without empty ones.
pub fn segments(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
    path.split(|&byte| byte == b'/').filter(|segment| !segment.is_empty())
}

/// Decodes percent-encoding. A `%` that is not followed by two hexadecimal digits stays as it is.
#[must_use]
pub fn decoded(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        rest = after;
        let byte = match (first, after) {
            (b'%', [high, low, after @ ..]) => match (nibble(*high), nibble(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => *first,
        };
        decoded.push(byte);
    }
    decoded
}

/// The value of a hexadecimal digit.
#[must_use]
pub const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_once_and_what_is_none_stays() {
        for (encoded, expected) in [
            ("", ""),
            ("/plain", "/plain"),
            ("%61%6E%6e", "ann"),
            ("%2561", "%61"),
            ("%", "%"),
            ("%6", "%6"),
            ("%6g%g6", "%6g%g6"),
            ("%%61", "%a"),
        ] {
            assert_eq!(decoded(encoded.as_bytes()), expected.as_bytes(), "{encoded}");
        }
    }
}
