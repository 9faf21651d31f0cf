//! Kinds of types in an object's BTF (Documentation/bpf/btf.rst).

use anyhow::{Context as _, ensure};

use super::set::{Features, Version};

/// Kinds by their numbers from 1 on: name, bytes behind the type's own 12, bytes for each of its
/// members, version.
const KINDS: [(&str, usize, usize, Version); 19] = [
    ("INT", 4, 0, Version::new(4, 18)),
    ("PTR", 0, 0, Version::new(4, 18)),
    ("ARRAY", 12, 0, Version::new(4, 18)),
    ("STRUCT", 0, 12, Version::new(4, 18)),
    ("UNION", 0, 12, Version::new(4, 18)),
    ("ENUM", 0, 8, Version::new(4, 18)),
    ("FWD", 0, 0, Version::new(4, 18)),
    ("TYPEDEF", 0, 0, Version::new(4, 18)),
    ("VOLATILE", 0, 0, Version::new(4, 18)),
    ("CONST", 0, 0, Version::new(4, 18)),
    ("RESTRICT", 0, 0, Version::new(4, 18)),
    ("FUNC", 0, 0, Version::new(5, 0)),
    ("FUNC_PROTO", 0, 8, Version::new(5, 0)),
    ("VAR", 4, 0, Version::new(5, 2)),
    ("DATASEC", 0, 12, Version::new(5, 2)),
    ("FLOAT", 0, 0, Version::new(5, 13)),
    ("DECL_TAG", 4, 0, Version::new(5, 16)),
    ("TYPE_TAG", 0, 0, Version::new(5, 17)),
    ("ENUM64", 0, 12, Version::new(6, 0)),
];

const FUNC: usize = 12;
/// Linkage of a function that is verified by itself.
const GLOBAL: u32 = 1;

/// Adds what the types need.
pub fn read(btf: &[u8], features: &mut Features) -> anyhow::Result<()> {
    const MAGIC: u32 = 0xeb9f;
    let word = |at: usize| -> anyhow::Result<u32> {
        let bytes = btf.get(at..at + 4).context("its BTF is cut off")?;
        Ok(u32::from_le_bytes(bytes.try_into()?))
    };
    ensure!(word(0)? & 0xffff == MAGIC, "its BTF does not begin with BTF's magic number");
    let begin = (word(4)? + word(8)?) as usize;
    let end = begin + word(12)? as usize;
    let mut at = begin;
    while at < end {
        let info = word(at + 4)?;
        let (kind, members) = ((info >> 24 & 0x1f) as usize, (info & 0xffff) as usize);
        let Some((name, fixed, each, since)) = kind.checked_sub(1).and_then(|kind| KINDS.get(kind)) else {
            // How long it is, and so where the next one begins, is not known either.
            features.add_unknown(format!("BTF of kind {kind}"));
            return Ok(());
        };
        features.add(format!("BTF of kind {name}"), *since);
        if kind == FUNC && info & 0xffff == GLOBAL {
            features.add("global functions", Version::new(5, 6));
        }
        // A function has its linkage where others have the number of their members.
        at += 12 + fixed + if kind == FUNC { 0 } else { each * members };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BTF with types given as `info` and what follows their 12 bytes.
    fn btf(types: &[(u32, usize)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (info, behind) in types {
            body.extend(0_u32.to_le_bytes());
            body.extend(info.to_le_bytes());
            body.extend(0_u32.to_le_bytes());
            body.extend(vec![0xff; *behind]);
        }
        let mut btf = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, u32::try_from(body.len()).unwrap(), 0, 0] {
            btf.extend(u32::to_le_bytes(word));
        }
        btf.extend(body);
        btf
    }

    #[test]
    fn types_need_the_kernel_that_brought_their_kind() {
        let kind = |kind: u32, members: u32| kind << 24 | members;
        for (types, minimum, expected) in [
            // Each is followed by one more, which is found only if its length is right.
            (vec![(kind(1, 0), 4), (kind(2, 0), 0)], (4, 18), Ok(())),
            (vec![(kind(4, 3), 36), (kind(5, 0), 0)], (4, 18), Ok(())),
            (vec![(kind(13, 2), 16), (kind(12, 0), 0)], (5, 0), Ok(())),
            (vec![(kind(12, 0), 0), (kind(13, 0), 0)], (5, 0), Ok(())),
            (vec![(kind(12, 1), 0), (kind(13, 0), 0)], (5, 0), Err("global functions (Linux 5.6)")),
            (vec![(kind(3, 0), 12), (kind(19, 2), 24), (kind(2, 0), 0)], (6, 0), Ok(())),
            (vec![(kind(3, 0), 12), (kind(19, 2), 24)], (5, 19), Err("BTF of kind ENUM64 (Linux 6.0)")),
            (vec![(kind(17, 0), 4), (kind(18, 0), 0)], (5, 16), Err("BTF of kind TYPE_TAG (Linux 5.17)")),
            (vec![(kind(20, 0), 0)], (6, 18), Err("BTF of kind 20 (unknown)")),
            (vec![(kind(0, 0), 0)], (6, 18), Err("BTF of kind 0 (unknown)")),
        ] {
            let mut features = Features::default();
            read(&btf(&types), &mut features).unwrap();
            let found = features.ensure_in(Version::new(minimum.0, minimum.1)).map_err(|error| error.to_string());
            match expected {
                Ok(()) => assert_eq!(found, Ok(()), "{types:?}"),
                Err(expected) => assert!(found.unwrap_err().contains(expected), "{types:?}"),
            }
        }
    }

    #[test]
    fn broken_btf_is_refused() {
        let whole = btf(&[(1 << 24, 4)]);
        for broken in [&whole[..10], &whole[..whole.len() - 14], &[0; 40]] {
            assert!(read(broken, &mut Features::default()).is_err(), "{broken:x?}");
        }
    }
}
