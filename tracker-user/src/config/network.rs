//! Networks, as people write them: `192.0.2.0/24`, `2001:db8::/48`, or a single address.

use ipnet::IpNet;
use std::net::IpAddr;

/// Reads a network.
///
/// # Errors
/// What is wrong with it: stricter than [`IpNet`], which takes bits of a host, and IPv4 written as
/// IPv6.
pub fn network(text: &str) -> Result<IpNet, String> {
    let wrong = |what: &str| format!("{text:?} {what}; a network is wanted, such as 192.0.2.0/24 or 2001:db8::/48");
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.trim().parse().map_err(|_| wrong("has no numeric address"))?;
    if address != address.to_canonical() {
        return Err(wrong("is IPv4, written as IPv6"));
    }
    let single = IpNet::from(address);
    let network = match bits {
        None => single,
        Some(bits) => bits
            .trim()
            .parse()
            .ok()
            .and_then(|bits| IpNet::new(address, bits).ok())
            .ok_or_else(|| wrong(&format!("has no prefix length of 0 to {}", single.max_prefix_len())))?,
    };
    if network.trunc() == network { Ok(network) } else { Err(wrong("has bits behind its prefix")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_taken_as_people_write_them() {
        for (text, expected) in [
            ("192.0.2.0/24", Ok("192.0.2.0/24")),
            ("192.0.2.7", Ok("192.0.2.7/32")),
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            ("2001:db8::/48", Ok("2001:db8::/48")),
            ("2001:db8::1", Ok("2001:db8::1/128")),
            ("::/0", Ok("::/0")),
            ("192.0.2.7/24", Err("behind its prefix")),
            ("2001:db8::1/64", Err("behind its prefix")),
            ("192.0.2.0/33", Err("0 to 32")),
            ("2001:db8::/129", Err("0 to 128")),
            ("192.0.2.0/", Err("0 to 32")),
            ("192.0.2.0/-1", Err("0 to 32")),
            ("192.0.2/24", Err("numeric address")),
            ("example.org", Err("numeric address")),
            ("", Err("numeric address")),
            ("::ffff:192.0.2.0/120", Err("written as IPv6")),
        ] {
            match (network(text), expected) {
                (Ok(network), Ok(expected)) => assert_eq!(network.to_string(), expected, "{text:?}"),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{text:?}: {error}"),
                (given, expected) => panic!("{text:?}: {given:?} instead of {expected:?}"),
            }
        }
    }
}
