//! Writing bencode (BEP 3): the few shapes that tracker replies are made of.
//!
//! Dictionary keys have to be written in the order of their bytes; that is left to the caller,
//! which knows them.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_bep_3_says() {
        let mut out = Vec::new();
        integer(&mut out, 0);
        integer(&mut out, u64::MAX);
        string(&mut out, b"");
        string(&mut out, b"\x00\xff:e");
        assert_eq!(out, b"i0ei18446744073709551615e0:4:\x00\xff:e");
    }
}
