//! What several lists say together: each address is on the first list that has it, and on none if it
//! is among those that are let in.

use tracker_common::admission::blocklist::Point;

/// Addresses from one to another, both included.
pub(super) type Span = (u128, u128);

/// The points at which it changes which list addresses are on; the first at address 0. None if
/// nothing is blocked. `last` is the last address of all.
pub(super) fn points(lists: Vec<Vec<Span>>, let_in: Vec<Span>, last: u128) -> Vec<Point<u128>> {
    let mut done = union(let_in);
    let mut pieces = Vec::new();
    for (number, list) in (1..).zip(lists) {
        let list = union(list);
        without(&list, &done, |from, to| pieces.push((from, to, number)));
        done.extend(list);
        done = union(done);
    }
    if pieces.is_empty() {
        return Vec::new();
    }
    pieces.sort_unstable();
    let mut points: Vec<Point<u128>> = vec![(0, 0)];
    for (from, to, list) in pieces {
        match points.last_mut() {
            // Behind the one before.
            Some(point) if point.0 == from => point.1 = list,
            _ => points.push((from, list)),
        }
        if to < last {
            points.push((to + 1, 0));
        }
    }
    points
}

/// In order, and made one where they touch.
fn union(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    spans.dedup_by(|(from, to), (_, end)| {
        let touches = *from <= end.saturating_add(1);
        if touches {
            *end = (*end).max(*to);
        }
        touches
    });
    spans
}

/// What of the one is not in the other; both are in order.
fn without(spans: &[Span], other: &[Span], mut piece: impl FnMut(u128, u128)) {
    let mut others = other.iter().copied().peekable();
    for (mut from, to) in spans.iter().copied() {
        loop {
            while others.next_if(|(_, end)| *end < from).is_some() {}
            let Some((begin, end)) = others.peek().copied().filter(|(begin, _)| *begin <= to) else {
                piece(from, to);
                break;
            };
            if begin > from {
                piece(from, begin - 1);
            }
            if end >= to {
                break;
            }
            from = end + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: u128 = 63;

    fn naive(lists: &[Vec<Span>], let_in: &[Span], address: u128) -> u8 {
        let has = |list: &[Span]| list.iter().any(|(from, to)| (*from..=*to).contains(&address));
        if has(let_in) {
            return 0;
        }
        lists.iter().position(|list| has(list)).map_or(0, |list| list as u8 + 1)
    }

    #[test]
    fn random_lists_say_of_every_address_what_they_say_one_by_one() {
        let mut state = 5_u64;
        let mut random = move || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            state >> 33
        };
        for round in 0..3000 {
            let mut list = |most: u64| -> Vec<Span> {
                (0..random() % most)
                    .map(|_| {
                        let (from, longest) = (random() % 64, 1 << (random() % 7));
                        (u128::from(from), u128::from((from + random() % longest).min(63)))
                    })
                    .collect()
            };
            let lists = vec![list(6), list(4), list(2)];
            let let_in = list(4);
            let points = points(lists.clone(), let_in.clone(), LAST);
            for address in 0..=LAST {
                let found = points.iter().rev().find(|(start, _)| *start <= address).map_or(0, |(_, list)| *list);
                assert_eq!(
                    found,
                    naive(&lists, &let_in, address),
                    "round {round}, {address}: {lists:?} {let_in:?} {points:?}"
                );
            }
            assert!(points.is_sorted_by(|(one, _), (other, _)| one < other), "round {round}: {points:?}");
            assert!(points.first().is_none_or(|(first, _)| *first == 0));
        }
    }

    #[test]
    fn the_whole_of_ipv6_can_be_blocked_and_let_in() {
        let all = (0, u128::MAX);
        for (lists, let_in, expected) in [
            (vec![vec![all]], vec![], vec![(0, 1)]),
            (vec![vec![all]], vec![all], vec![]),
            (vec![vec![], vec![all, all]], vec![(5, 6)], vec![(0, 2), (5, 0), (7, 2)]),
            (vec![vec![(u128::MAX, u128::MAX)]], vec![], vec![(0, 0), (u128::MAX, 1)]),
            (vec![], vec![all], vec![]),
        ] {
            assert_eq!(points(lists, let_in, u128::MAX), expected);
        }
    }
}
