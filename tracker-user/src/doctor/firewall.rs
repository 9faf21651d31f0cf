//! What rules of a firewall do with packets to the tracker's port, as far as that can be said of all such
//! packets: a rule that also looks at something else (a source, a mark, a connection's state) may or may not
//! hold, and decides nothing here.

use crate::xdp::generic::{attributes, value};
use std::collections::BTreeMap;

/// `IPPROTO_UDP`, `IPPROTO_TCP`.
pub const UDP: u8 = 17;
/// See [`UDP`].
pub const TCP: u8 = 6;

/// What becomes of packets to the port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// A rule lets all of them in.
    LetIn,
    /// A rule drops or refuses all of them.
    Refused,
    /// No rule decides for all of them.
    #[default]
    Open,
}

/// Packets of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// `NFPROTO_IPV4` (2) or `NFPROTO_IPV6` (10).
    pub family: u8,
    /// [`UDP`] or [`TCP`].
    pub protocol: u8,
    /// The port they go to.
    pub port: u16,
}

/// What a rule does if it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    LetIn,
    Refuse,
    Jump(String),
    Goto(String),
    Return,
    Continue,
}

/// Whether a rule holds for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Always,
    Perhaps,
    Never,
}

/// A rule for one kind of packets.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    holds: Holds,
    verdict: Verdict,
}

/// The rules of chains, by family, table and chain.
#[derive(Debug, Default)]
pub struct Rules(BTreeMap<(u8, String, String), Vec<Vec<u8>>>);

impl Rules {
    /// Out of the messages that nftables tells its rules by.
    #[must_use]
    pub fn read(messages: &[Vec<u8>]) -> Self {
        let mut rules = Self::default();
        for message in messages {
            let (Some(family), Some(body)) = (message.first(), message.get(4..)) else { continue };
            let attributes = attributes(body);
            // `NFTA_RULE_TABLE`, `NFTA_RULE_CHAIN`, `NFTA_RULE_EXPRESSIONS`.
            let (Some(table), Some(chain)) = (value(&attributes, 1).map(text), value(&attributes, 2).map(text)) else {
                continue;
            };
            let expressions = value(&attributes, 4).unwrap_or_default();
            rules.0.entry((*family, table, chain)).or_default().push(expressions);
        }
        rules
    }

    /// What a base chain does with packets, without its policy.
    #[must_use]
    pub fn fate(&self, (family, table, chain): (u8, &str, &str), packet: Packet) -> Fate {
        self.walk((family, table), chain, packet, 16).unwrap_or_default()
    }

    /// `None`: the chain is at its end, or has returned.
    fn walk(&self, of: (u8, &str), chain: &str, packet: Packet, depth: u32) -> Option<Fate> {
        let rules = self.0.get(&(of.0, of.1.to_owned(), chain.to_owned()))?;
        for expressions in rules {
            let Rule { holds, verdict } = rule(expressions, packet);
            // What may hold and ends the chain leaves the rest open, unless that comes to the same.
            match (holds, verdict) {
                (Holds::Never, _) | (_, Verdict::Continue) | (Holds::Perhaps, Verdict::LetIn | Verdict::Refuse) => {}
                (Holds::Always, Verdict::LetIn) => return Some(Fate::LetIn),
                (Holds::Always, Verdict::Refuse) => return Some(Fate::Refused),
                (Holds::Always, Verdict::Return) => return None,
                (Holds::Perhaps, Verdict::Return | Verdict::Jump(_) | Verdict::Goto(_)) => {}
                (Holds::Always, Verdict::Jump(_) | Verdict::Goto(_)) if depth == 0 => return Some(Fate::Open),
                (Holds::Always, Verdict::Jump(to)) => {
                    if let Some(fate) = self.walk(of, &to, packet, depth - 1) {
                        return Some(fate);
                    }
                }
                (Holds::Always, Verdict::Goto(to)) => return self.walk(of, &to, packet, depth - 1),
            }
        }
        None
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
}

fn number(attributes: &[(u16, &[u8])], wanted: u16) -> Option<u32> {
    value(attributes, wanted)?.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}

/// The bytes of a nested `NFTA_DATA_VALUE`.
fn data(attributes_of: &[(u16, &[u8])], wanted: u16) -> Option<Vec<u8>> {
    value(&attributes(&value(attributes_of, wanted)?), 1)
}

/// Reads a rule's expressions for packets of one kind.
fn rule(expressions: &[u8], packet: Packet) -> Rule {
    let mut registers: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut rule = Rule { holds: Holds::Always, verdict: Verdict::Continue };
    for (_, element) in attributes(expressions) {
        let parts = attributes(element);
        let name = value(&parts, 1).map(text).unwrap_or_default();
        let bytes = value(&parts, 2).unwrap_or_default();
        let of = attributes(&bytes);
        let compared = match name.as_str() {
            // They load a register: with what is known, or else nothing.
            "meta" | "payload" => {
                if let Some(register) = number(&of, 1) {
                    match loaded(&name, &of, packet) {
                        Some(known) => drop(registers.insert(register, known)),
                        None => drop(registers.remove(&register)),
                    }
                }
                continue;
            }
            "cmp" => number(&of, 1)
                .and_then(|register| registers.get(&register))
                .and_then(|known| compare(number(&of, 2)?, known, &data(&of, 3)?)),
            "range" => number(&of, 1).and_then(|register| registers.get(&register)).and_then(|known| {
                let (from, to) = (data(&of, 3)?, data(&of, 4)?);
                let inside =
                    known.as_slice() >= from.get(..known.len())? && known.as_slice() <= to.get(..known.len())?;
                Some(inside == (number(&of, 2)? == 0))
            }),
            "counter" | "log" | "comment" | "nat" | "notrack" => continue,
            "reject" => {
                rule.verdict = Verdict::Refuse;
                return rule;
            }
            "immediate" => {
                if let Some(verdict) = verdict(&of) {
                    rule.verdict = verdict;
                    return rule;
                }
                continue;
            }
            // Extensions of iptables.
            "target" => {
                match value(&of, 1).map(text).unwrap_or_default().as_str() {
                    "DROP" | "REJECT" => rule.verdict = Verdict::Refuse,
                    "ACCEPT" => rule.verdict = Verdict::LetIn,
                    _ => {}
                }
                return rule;
            }
            "match" => {
                matched(&value(&of, 1).map(text).unwrap_or_default(), &value(&of, 3).unwrap_or_default(), packet)
            }
            // Whatever else it is may hold or not; and what it writes is not known.
            _ => None,
        };
        match compared {
            Some(true) => {}
            Some(false) => return Rule { holds: Holds::Never, verdict: Verdict::Continue },
            None => rule.holds = Holds::Perhaps,
        }
    }
    rule
}

/// What `meta` and `payload` load, if that is known of the packets.
fn loaded(name: &str, of: &[(u16, &[u8])], packet: Packet) -> Option<Vec<u8>> {
    if name == "meta" {
        // `NFT_META_NFPROTO`, `NFT_META_L4PROTO`.
        return match number(of, 2)? {
            15 => Some(vec![packet.family]),
            16 => Some(vec![packet.protocol]),
            _ => None,
        };
    }
    // Base, offset, length: the destination port; the protocol of IPv4 and of IPv6.
    match (number(of, 2)?, number(of, 3)?, number(of, 4)?, packet.family) {
        (2, 2, 2, _) => Some(packet.port.to_be_bytes().to_vec()),
        (1, 9, 1, 2) | (1, 6, 1, 10) => Some(vec![packet.protocol]),
        _ => None,
    }
}

fn compare(operation: u32, known: &[u8], with: &[u8]) -> Option<bool> {
    let order = known.cmp(with.get(..known.len())?);
    Some(match operation {
        0 => order.is_eq(),
        1 => order.is_ne(),
        2 => order.is_lt(),
        3 => order.is_le(),
        4 => order.is_gt(),
        5 => order.is_ge(),
        _ => return None,
    })
}

/// `NFTA_IMMEDIATE_DATA` with `NFTA_DATA_VERDICT`.
fn verdict(of: &[(u16, &[u8])]) -> Option<Verdict> {
    let data = value(of, 2)?;
    let verdict = value(&attributes(&data), 2)?;
    let verdict = attributes(&verdict);
    let chain = || value(&verdict, 2).map(text).unwrap_or_default();
    Some(match number(&verdict, 1)? as i32 {
        0 => Verdict::Refuse,
        1 => Verdict::LetIn,
        -3 => Verdict::Jump(chain()),
        -4 => Verdict::Goto(chain()),
        -5 => Verdict::Return,
        _ => Verdict::Continue,
    })
}

/// What an extension of iptables for ports finds: `struct xt_udp`, and `struct xt_tcp`, which begins alike. The
/// source has to be any.
pub(super) fn matched(name: &str, information: &[u8], packet: Packet) -> Option<bool> {
    let port = |at: usize| Some(u16::from_ne_bytes(*information.get(at..)?.first_chunk::<2>()?));
    let inverted = match name {
        "udp" => *information.get(8)?,
        // An option, and flags that are looked at, come before it.
        "tcp" if information.get(8..11)? == [0; 3] => *information.get(11)?,
        _ => return None,
    };
    if (name == "udp") != (packet.protocol == UDP) {
        return Some(false);
    }
    if (port(0)?, port(2)?, inverted & !2) != (0, u16::MAX, 0) {
        return None;
    }
    let inside = (port(4)?..=port(6)?).contains(&packet.port);
    Some(inside == (inverted & 2 == 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdp::generic::attribute;

    fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
        attribute(kind | 0x8000, &parts.concat())
    }

    fn be(kind: u16, number: u32) -> Vec<u8> {
        attribute(kind, &number.to_be_bytes())
    }

    fn expression(name: &str, of: &[Vec<u8>]) -> Vec<u8> {
        nested(1, &[attribute(1, format!("{name}\0").as_bytes()), nested(2, of)])
    }

    fn protocol(number: u8) -> Vec<u8> {
        let compared = expression("cmp", &[be(1, 1), be(2, 0), nested(3, &[attribute(1, &[number])])]);
        [expression("meta", &[be(1, 1), be(2, 16)]), compared].concat()
    }

    fn port(operation: u32, port: u16) -> Vec<u8> {
        let load = expression("payload", &[be(1, 1), be(2, 2), be(3, 2), be(4, 2)]);
        let value = nested(3, &[attribute(1, &port.to_be_bytes())]);
        [load, expression("cmp", &[be(1, 1), be(2, operation), value])].concat()
    }

    fn ports(from: u16, to: u16) -> Vec<u8> {
        let load = expression("payload", &[be(1, 1), be(2, 2), be(3, 2), be(4, 2)]);
        let bound = |kind, port: u16| nested(kind, &[attribute(1, &port.to_be_bytes())]);
        [load, expression("range", &[be(1, 1), be(2, 0), bound(3, from), bound(4, to)])].concat()
    }

    fn then(code: i32, chain: &str) -> Vec<u8> {
        let mut parts = vec![be(1, code as u32)];
        if !chain.is_empty() {
            parts.push(attribute(2, format!("{chain}\0").as_bytes()));
        }
        expression("immediate", &[be(1, 0), nested(2, &[nested(2, &parts)])])
    }

    fn state() -> Vec<u8> {
        let value = nested(3, &[attribute(1, &[2, 0, 0, 0])]);
        [expression("ct", &[be(1, 1), be(2, 0)]), expression("cmp", &[be(1, 1), be(2, 0), value])].concat()
    }

    fn message(chain: &str, expressions: &[Vec<u8>]) -> Vec<u8> {
        let name = |kind, text: &str| attribute(kind, format!("{text}\0").as_bytes());
        [vec![2, 0, 0, 0], name(1, "filter"), name(2, chain), nested(4, expressions)].concat()
    }

    #[test]
    fn rules_decide_what_they_say_of_all_packets_to_the_port() {
        const DROP: i32 = 0;
        const ACCEPT: i32 = 1;
        let udp = |port: Vec<u8>, verdict: Vec<u8>| message("INPUT", &[protocol(UDP), port, verdict]);
        let xt = |name: &str, information: &[u8], target: &str| {
            let named = |kind, text: &str| attribute(kind, format!("{text}\0").as_bytes());
            let of = [named(1, name), be(2, 0), attribute(3, information)];
            message("INPUT", &[protocol(UDP), expression("match", &of), expression("target", &[named(1, target)])])
        };
        let of_udp = |from: u16, to: u16, inverted: u8| {
            let ports = [0, u16::MAX, from, to].map(u16::to_ne_bytes).concat();
            [ports, vec![inverted, 0]].concat()
        };
        let rows: [(&str, Vec<Vec<u8>>, Fate); 17] = [
            ("no rule", vec![], Fate::Open),
            ("dropped", vec![udp(port(0, 6969), then(DROP, ""))], Fate::Refused),
            ("let in", vec![udp(port(0, 6969), then(ACCEPT, ""))], Fate::LetIn),
            ("another port", vec![udp(port(0, 80), then(DROP, ""))], Fate::Open),
            ("all but another port", vec![udp(port(1, 80), then(DROP, ""))], Fate::Refused),
            ("a range", vec![udp(ports(6000, 7000), then(DROP, ""))], Fate::Refused),
            ("a range beside it", vec![udp(ports(7000, 8000), then(DROP, ""))], Fate::Open),
            ("TCP alone", vec![message("INPUT", &[protocol(TCP), then(DROP, "")])], Fate::Open),
            ("everything", vec![message("INPUT", &[then(DROP, "")])], Fate::Refused),
            (
                "the first decides",
                vec![udp(port(0, 6969), then(ACCEPT, "")), message("INPUT", &[then(DROP, "")])],
                Fate::LetIn,
            ),
            ("only some", vec![message("INPUT", &[state(), then(DROP, "")])], Fate::Open),
            (
                "only some, and then all",
                vec![message("INPUT", &[state(), then(ACCEPT, "")]), message("INPUT", &[expression("reject", &[])])],
                Fate::Refused,
            ),
            (
                "a chain that is jumped to",
                vec![message("INPUT", &[then(-3, "user")]), message("user", &[protocol(UDP), then(DROP, "")])],
                Fate::Refused,
            ),
            (
                "and that comes back",
                vec![
                    message("INPUT", &[then(-3, "user")]),
                    message("user", &[then(-5, "")]),
                    message("user", &[then(DROP, "")]),
                    message("INPUT", &[then(ACCEPT, "")]),
                ],
                Fate::LetIn,
            ),
            ("chains in a circle", vec![message("INPUT", &[then(-3, "INPUT")])], Fate::Open),
            ("iptables", vec![xt("udp", &of_udp(6969, 6969, 0), "REJECT")], Fate::Refused),
            ("iptables, inverted", vec![xt("udp", &of_udp(6969, 6969, 2), "REJECT")], Fate::Open),
        ];
        let packet = Packet { family: 2, protocol: UDP, port: 6969 };
        for (name, messages, expected) in rows {
            let rules = Rules::read(&messages);
            assert_eq!(rules.fate((2, "filter", "INPUT"), packet), expected, "{name}");
            assert_eq!(rules.fate((2, "other", "INPUT"), packet), Fate::Open, "{name}");
        }
        for broken in [vec![], vec![2], vec![2, 0, 0, 0, 255], message("INPUT", &[vec![1, 2, 3]])] {
            assert_eq!(Rules::read(&[broken]).fate((2, "filter", "INPUT"), packet), Fate::Open);
        }
    }
}
