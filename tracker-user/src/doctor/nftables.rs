//! The chains and rules of nftables (also those that `iptables` has made) as the kernel tells them, which the
//! netlink libraries do not know.

use super::{
    firewall::{Packet, Rules, TCP, UDP},
    network::Chain,
};
use crate::xdp::generic::{ask, attributes, value};
use netlink_sys::protocols::NETLINK_NETFILTER;

/// `NLM_F_DUMP`.
const DUMP: u16 = 0x300;

/// The base chains of nftables (also those that `iptables` has made) at the hook `input`, with what their
/// rules do with packets to a port; `None` if they cannot be asked for.
pub fn input_chains(port: u16) -> Option<Vec<Chain>> {
    // `NFT_MSG_GETCHAIN` of `NFNL_SUBSYS_NFTABLES`, of all families.
    match ask(NETLINK_NETFILTER, 10 << 8 | 4, DUMP, &[0; 4]) {
        Ok(chains) => {
            // `NFT_MSG_GETRULE`.
            let rules = ask(NETLINK_NETFILTER, 10 << 8 | 7, DUMP, &[0; 4]).unwrap_or_default();
            let rules = Rules::read(&rules);
            Some(chains.iter().filter_map(|chain| input_chain(chain, &rules, port)).collect())
        }
        // There is no nftables.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPROTONOSUPPORT | libc::ENOENT)) => {
            Some(Vec::new())
        }
        Err(_) => None,
    }
}

fn input_chain(message: &[u8], rules: &Rules, port: u16) -> Option<Chain> {
    // `NFPROTO_*` of `struct nfgenmsg`.
    let family = match message.first()? {
        1 => "inet",
        2 => "ip",
        10 => "ip6",
        _ => return None,
    };
    let attributes = attributes(message.get(4..)?);
    let number = |bytes: Vec<u8>| bytes.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned();
    // `NFTA_CHAIN_HOOK` with `NFTA_HOOK_HOOKNUM`: 1 is `NF_INET_LOCAL_IN`.
    let hook = value(&attributes, 4)?;
    if number(value(&self::attributes(&hook), 1)?)? != 1 {
        return None;
    }
    // `NFTA_CHAIN_POLICY`: 0 is `NF_DROP`.
    let drops = value(&attributes, 5).and_then(number) == Some(0);
    let (table, chain) = (value(&attributes, 1).map(text)?, value(&attributes, 3).map(text)?);
    let number = *message.first()?;
    // What holds for both versions of IP is told of the older one.
    let fate = |protocol| {
        let packet = Packet { family: if number == 10 { 10 } else { 2 }, protocol, port };
        rules.fate((number, &table, &chain), packet)
    };
    Some(Chain {
        drops,
        udp: fate(UDP),
        tcp: fate(TCP),
        let_in: format!("nft insert rule {family} {table} {chain} PROTOCOL dport {port} accept"),
        name: format!("{family}/{table}/{chain}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdp::generic::attribute;

    #[test]
    fn chains_are_told_apart() {
        let chain = |family: u8, hook: u32, policy: Option<u32>| {
            let mut message = vec![family, 0, 0, 0];
            message.extend([attribute(1, b"filter\0"), attribute(3, b"INPUT\0")].concat());
            message.extend(attribute(4, &attribute(1, &hook.to_be_bytes())));
            message.extend(policy.map(|policy| attribute(5, &policy.to_be_bytes())).unwrap_or_default());
            input_chain(&message, &Rules::default(), 1).map(|chain| (chain.name, chain.drops))
        };
        let named = |name: &str, drops| Some((name.to_owned(), drops));
        assert_eq!(chain(2, 1, Some(0)), named("ip/filter/INPUT", true));
        assert_eq!(chain(1, 1, Some(1)), named("inet/filter/INPUT", false));
        assert_eq!(chain(10, 1, None), named("ip6/filter/INPUT", false));
        // Forwarding; bridges; chains that are called by others.
        assert_eq!(chain(2, 2, Some(0)), None);
        assert_eq!(chain(7, 1, Some(0)), None);
        assert_eq!(input_chain(&[2, 0, 0, 0], &Rules::default(), 1), None);
        assert_eq!(input_chain(&[], &Rules::default(), 1), None);
    }
}
