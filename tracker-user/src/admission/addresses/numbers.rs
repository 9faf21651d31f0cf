//! The lists in force, and the numbers that they are counted by. A list keeps its number for as long as
//! it is there, whatever comes and goes beside it; what was counted by a number before is none of the
//! list that has it now.

use arc_swap::ArcSwap;
use std::sync::Arc;
use tracker_common::outcome::BLOCK_LISTS;

/// Those in force, in the order in which addresses are looked for on them.
pub type InForce = Arc<ArcSwap<Vec<BlockList>>>;

/// What was counted by each number, from 1 on, by path.
pub type Counted = Vec<(&'static str, [u64; BLOCK_LISTS])>;

/// A list of blocked addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockList {
    /// Its file.
    pub name: String,
    /// Its number, from 1 on.
    pub number: u8,
    /// What was counted by the number before it was this list's, by path.
    pub before: Vec<(&'static str, u64)>,
}

impl BlockList {
    /// What of a path's count is the list's.
    #[must_use]
    pub fn own(&self, path: &str, counted: u64) -> u64 {
        let before = self.before.iter().find(|(label, _)| *label == path).map_or(0, |(_, count)| *count);
        counted.saturating_sub(before)
    }
}

/// Gives numbers to lists, each of which has another name.
pub(super) fn numbered(names: Vec<String>, in_force: &[BlockList], counted: &Counted) -> Vec<BlockList> {
    let known = |name: &str| in_force.iter().find(|list| list.name == name);
    let stays = |number: u8| names.iter().any(|name| known(name).is_some_and(|list| list.number == number));
    let mut free: Vec<u8> = (1..=BLOCK_LISTS as u8).filter(|number| !stays(*number)).collect();
    // By one that goes only now packets are counted until the table has changed.
    free.sort_by_key(|number| in_force.iter().any(|list| list.number == *number));
    let mut free = free.into_iter();
    let new = |name, number: u8| {
        let before = counted.iter().map(|(path, counts)| (*path, counts[usize::from(number) - 1]));
        BlockList { name, number, before: before.collect() }
    };
    let number = |name: String| match known(&name) {
        Some(list) => Some(list.clone()),
        // There are as many numbers as there may be lists.
        None => free.next().map(|number| new(name, number)),
    };
    names.into_iter().filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_numbers_and_inherit_nothing() {
        let all: Vec<String> = (0..BLOCK_LISTS).map(|number| format!("list {number}")).collect();
        let last = all[BLOCK_LISTS - 1].clone();
        let renamed: Vec<String> = all.iter().map(|name| format!("{name} of today")).collect();
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        // (lists, their numbers)
        let rows: [(&str, Vec<String>, Vec<u8>); 10] = [
            ("in the order in which they are given", named(&["a", "b"]), vec![1, 2]),
            ("the same", named(&["a", "b"]), vec![1, 2]),
            ("one in front of them", named(&["c", "a", "b"]), vec![3, 1, 2]),
            ("the other way round", named(&["b", "a", "c"]), vec![2, 1, 3]),
            ("one is gone", named(&["b", "c"]), vec![2, 3]),
            ("another one", named(&["b", "c", "d"]), vec![2, 3, 1]),
            ("one for another", named(&["b", "c", "e"]), vec![2, 3, 4]),
            ("none", vec![], vec![]),
            ("as many as there may be", all, (1..=16).collect()),
            ("all of them by other names but for one", [&[last][..], &renamed[1..]].concat(), {
                [16].into_iter().chain(1..=15).collect()
            }),
        ];
        let (mut in_force, mut counted) = (Vec::new(), vec![("xdp", [0; BLOCK_LISTS]), ("http", [0; BLOCK_LISTS])]);
        for (what, names, numbers) in rows {
            let before: Vec<BlockList> = in_force;
            in_force = numbered(names.clone(), &before, &counted);
            assert_eq!(in_force.iter().map(|list| list.number).collect::<Vec<_>>(), numbers, "{what}");
            assert_eq!(in_force.iter().map(|list| list.name.clone()).collect::<Vec<_>>(), names, "{what}");
            let own = |list: &BlockList, counted: &Counted| {
                counted
                    .iter()
                    .map(|(path, counts)| list.own(path, counts[usize::from(list.number) - 1]))
                    .collect::<Vec<_>>()
            };
            for list in &in_force {
                let known = before.iter().find(|known| known.name == list.name);
                assert_eq!(own(list, &counted), known.map_or(vec![0, 0], |known| own(known, &counted)), "{what}");
            }
            for (number, list) in (1_u64..).zip(&in_force) {
                for (_, counts) in &mut counted {
                    counts[usize::from(list.number) - 1] += number;
                }
            }
        }
    }
}
