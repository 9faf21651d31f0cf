//! The header by which a reverse proxy in front of the server gives itself away.

/// The header in which a proxy names the client that it asks for, under its usual name; `None` for
/// any other header.
#[inline]
#[must_use]
pub fn header(name: &str, value: &[u8]) -> Option<&'static str> {
    let known = match name.len() {
        9 if name.eq_ignore_ascii_case("forwarded") => "Forwarded",
        9 if name.eq_ignore_ascii_case("x-real-ip") => "X-Real-IP",
        15 if name.eq_ignore_ascii_case("x-forwarded-for") => "X-Forwarded-For",
        _ => return None,
    };
    (!value.is_empty()).then_some(known)
}
