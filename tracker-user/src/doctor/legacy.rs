//! The rules of iptables where it is not nftables underneath: asked for by options of a raw socket, whose
//! answers are structs of the kernel, entry behind entry.

use super::{
    firewall::{Fate, Packet, TCP, UDP, matched},
    network::Chain,
};
use std::{
    ffi::c_void,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// `IPT_SO_GET_INFO`, `IPT_SO_GET_ENTRIES`; those of IPv6 are the same.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;

/// Bytes of a table's name.
const NAME: usize = 32;

/// Words of `struct ipt_getinfo`: eight of a name, the hooks, where each of five hooks begins and where its policy
/// is, the number of entries and their size.
const INFO: usize = 21;

/// Where in it INPUT (`NF_INET_LOCAL_IN`, 1) begins, where its policy is, and how long all entries are.
const BEGIN: usize = 9 + 1;
const POLICY: usize = 14 + 1;
const SIZE: usize = 20;

/// Where things are in an entry of a family.
struct Form {
    family: u8,
    domain: libc::c_int,
    level: libc::c_int,
    name: &'static str,
    /// The protocol, in 16 bits, and what is before it but has to be zero for a rule that holds for all.
    protocol: usize,
    /// Bytes of the part about IP; the offsets of the target and of the next entry follow 4 bytes behind it.
    ip: usize,
    /// Flags that turn something round.
    inverted: usize,
}

const FORMS: [Form; 2] = [
    Form {
        family: 2,
        domain: libc::AF_INET,
        level: libc::IPPROTO_IP,
        name: "iptables-legacy",
        protocol: 80,
        ip: 84,
        inverted: 83,
    },
    Form {
        family: 10,
        domain: libc::AF_INET6,
        level: libc::IPPROTO_IPV6,
        name: "ip6tables-legacy",
        protocol: 128,
        ip: 136,
        inverted: 132,
    },
];

/// The chain INPUT of the table `filter` of either family, if it is loaded.
#[must_use]
pub fn input_chains(loaded: [bool; 2], port: u16) -> Vec<Chain> {
    let forms = FORMS.iter().zip(loaded).filter(|(_, loaded)| *loaded);
    forms.filter_map(|(form, _)| Some(chain(form, &table(form).ok()?, port))).collect()
}

/// A table: where INPUT begins, where its policy is, and all entries.
struct Table {
    begin: usize,
    policy: usize,
    entries: Vec<u8>,
}

fn table(form: &Form) -> io::Result<Table> {
    // SAFETY: takes no pointers. The descriptor is new and nobody else's.
    let socket = unsafe {
        let file = libc::socket(form.domain, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW);
        if file < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(file)
    };
    let mut name = [0; NAME];
    name[..6].copy_from_slice(b"filter");
    let mut info = [0_u32; INFO];
    for (word, part) in info.iter_mut().zip(name.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*part);
    }
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the record is as long as is said, and outlives the call.
    let result = unsafe {
        let record = info.as_mut_ptr().cast::<c_void>();
        libc::getsockopt(socket.as_raw_fd(), form.level, GET_INFO, record, &raw mut length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // `struct ipt_get_entries`: name, size, and the entries from a multiple of 8 on.
    const HEAD: usize = NAME + 8;
    let size = info[SIZE] as usize;
    let mut bytes = vec![0_u64; (HEAD + size).div_ceil(8)];
    let mut length = (HEAD + size) as libc::socklen_t;
    let head: Vec<u8> = [&name[..], &info[SIZE].to_ne_bytes(), &[0; 4]].concat();
    for (word, part) in bytes.iter_mut().zip(head.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*part);
    }
    // SAFETY: as long as is said, and it outlives the call.
    let result = unsafe {
        let record = bytes.as_mut_ptr().cast::<c_void>();
        libc::getsockopt(socket.as_raw_fd(), form.level, GET_ENTRIES, record, &raw mut length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let bytes: Vec<u8> = bytes.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let entries = bytes.get(HEAD..HEAD + size).unwrap_or_default().to_vec();
    Ok(Table { begin: info[BEGIN] as usize, policy: info[POLICY] as usize, entries })
}

fn chain(form: &Form, table: &Table, port: u16) -> Chain {
    let fate = |protocol| {
        let packet = Packet { family: form.family, protocol, port };
        walk(form, table, packet).unwrap_or_default()
    };
    // `-NF_DROP - 1`.
    let drops = entry(form, table, table.policy).is_some_and(|entry| entry.verdict == Some(-1));
    Chain {
        name: format!("{}/filter/INPUT", form.name),
        drops,
        udp: fate(UDP),
        tcp: fate(TCP),
        let_in: format!("{} -I INPUT -p PROTOCOL --dport {port} -j ACCEPT", form.name),
    }
}

/// An entry.
struct Entry {
    next: usize,
    /// Of the standard target; `None` for another one.
    verdict: Option<i32>,
    target: String,
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk::<2>()?))
}

fn entry(form: &Form, table: &Table, at: usize) -> Option<Entry> {
    let bytes = table.entries.get(at..)?;
    let (target, next) = (usize::from(word(bytes, form.ip + 4)?), usize::from(word(bytes, form.ip + 6)?));
    let target = bytes.get(target..next)?;
    let name = target.get(2..31)?;
    let name = String::from_utf8_lossy(name.split(|byte| *byte == 0).next()?).into_owned();
    let verdict = if name.is_empty() { Some(i32::from_ne_bytes(*target.get(32..)?.first_chunk::<4>()?)) } else { None };
    Some(Entry { next: at + next, verdict, target: name })
}

/// Whether an entry holds for packets; `None`: perhaps.
fn holds(form: &Form, table: &Table, at: usize, packet: Packet) -> Option<bool> {
    let bytes = table.entries.get(at..)?;
    let ip = bytes.get(..form.ip)?;
    match word(ip, form.protocol)? {
        0 => {}
        protocol if protocol == u16::from(packet.protocol) => {}
        _ => return Some(false),
    }
    // Addresses and interfaces; what is turned round.
    if ip[..form.protocol].iter().any(|byte| *byte != 0) || ip[form.inverted] != 0 {
        return None;
    }
    let (mut from, target) = (form.ip + 8 + 4 + 16, usize::from(word(bytes, form.ip + 4)?));
    // Behind the offsets are a word for the kernel and two counters; then matches.
    from = from.next_multiple_of(8);
    let mut all = true;
    while from < target {
        let size = usize::from(word(bytes, from)?);
        let name = bytes.get(from + 2..from + 31)?;
        let name = String::from_utf8_lossy(name.split(|byte| *byte == 0).next()?).into_owned();
        match matched(&name, bytes.get(from + 32..from + size.max(32))?, packet) {
            Some(true) => {}
            Some(false) => return Some(false),
            None if name == "comment" => {}
            None => all = false,
        }
        from += size.max(8);
    }
    all.then_some(true)
}

fn walk(form: &Form, table: &Table, packet: Packet) -> Option<Fate> {
    let (mut at, mut back) = (table.begin, Vec::new());
    for _ in 0..10_000 {
        // The policy is said apart.
        if at == table.policy && back.is_empty() {
            return None;
        }
        let found = entry(form, table, at)?;
        if holds(form, table, at, packet) != Some(true) {
            at = found.next;
            continue;
        }
        match (found.verdict, found.target.as_str()) {
            // `-NF_DROP - 1`, `-NF_ACCEPT - 1`, `XT_RETURN`.
            (Some(-1), _) | (None, "REJECT" | "DROP") => return Some(Fate::Refused),
            (Some(-2), _) => return Some(Fate::LetIn),
            (Some(-5), _) => at = back.pop()?,
            (Some(to), _) if to >= 0 => {
                if to as usize != found.next {
                    back.push(found.next);
                }
                at = to as usize;
            }
            (Some(_) | None, _) => at = found.next,
        }
    }
    None
}
