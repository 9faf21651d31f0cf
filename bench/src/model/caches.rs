//! Caches of a processor, as far as they decide what a request waits for: which lines and which
//! pages of the maps have been used lately.
//!
//! Sets of 16 ways, of which the one that was not used for the longest time goes. The second-level
//! cache is found by physical addresses, which are random from page to page; so here the page's
//! number is mixed for it. Nothing but map memory is in these caches: what the kernel itself
//! needs per packet would take its share of the real ones, and there is a third level behind them.

/// Bytes of a cache line.
pub const LINE_BYTES: u64 = 64;
/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;
const LINES_PER_PAGE: u64 = PAGE_BYTES / LINE_BYTES;
const WAYS: usize = 16;
/// Lines of the first-level cache: 48 KiB.
const NEAR_LINES: usize = 768;
/// Lines of the second-level cache: 2 MiB.
const CACHE_LINES: usize = 32_768;
/// Pages of the second-level TLB.
const TLB_PAGES: usize = 2048;

/// Recently used lines, or pages.
struct Recent {
    /// Numbers in each set, the latest first. 0 is none.
    sets: Vec<[u32; WAYS]>,
}

impl Recent {
    fn new(entries: usize) -> Self {
        Self { sets: vec![[0; WAYS]; entries / WAYS] }
    }

    /// Uses one, and says whether it was there.
    fn touch(&mut self, set: usize, number: u32) -> bool {
        let sets = self.sets.len();
        let entries = &mut self.sets[set % sets];
        let found = entries.iter().position(|entry| *entry == number);
        let last = found.unwrap_or(WAYS - 1);
        entries.copy_within(..last, 1);
        entries[0] = number;
        found.is_some()
    }
}

pub struct Caches {
    near: Recent,
    lines: Recent,
    pages: Recent,
}

impl Caches {
    pub fn new() -> Self {
        Self { near: Recent::new(NEAR_LINES), lines: Recent::new(CACHE_LINES), pages: Recent::new(TLB_PAGES) }
    }

    /// Uses a line; true if it was not in the first-level cache.
    pub fn misses_near(&mut self, line: u32) -> bool {
        !self.near.touch(line as usize, line)
    }

    /// Uses a line; `line` counts lines over all maps, from 1 page on. True if it was not there.
    pub fn misses_line(&mut self, line: u32) -> bool {
        let mixed = page_of(line).wrapping_mul(0x9e37_79b1) >> 16;
        let set = mixed as usize * LINES_PER_PAGE as usize + line as usize % LINES_PER_PAGE as usize;
        !self.lines.touch(set, line)
    }

    /// Uses a page. True if it was not there.
    pub fn misses_page(&mut self, page: u32) -> bool {
        !self.pages.touch(page as usize, page)
    }
}

/// The page that a line is in.
pub const fn page_of(line: u32) -> u32 {
    line / LINES_PER_PAGE as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_lately_is_there() {
        let mut caches = Caches::new();
        // (lines that are used in turn, whether they are there the second time)
        for (lines, there) in [(64 * 16, true), (CACHE_LINES as u32 / 2, true), (CACHE_LINES as u32 * 4, false)] {
            let misses = |caches: &mut Caches| (64..64 + lines).filter(|line| caches.misses_line(*line)).count();
            misses(&mut caches);
            let again = misses(&mut caches) as f64 / f64::from(lines);
            assert!(if there { again < 0.3 } else { again > 0.9 }, "{lines} lines: {again} missing");
        }
    }

    #[test]
    fn the_page_used_longest_ago_goes() {
        let mut caches = Caches::new();
        let pages: Vec<u32> = (1..=WAYS as u32).map(|number| number * (TLB_PAGES / WAYS) as u32).collect();
        assert!(pages.iter().all(|page| caches.misses_page(*page)), "nothing is there at first");
        assert!(pages.iter().all(|page| !caches.misses_page(*page)), "one set has room for them");
        assert!(caches.misses_page(pages[WAYS - 1] * 2), "one more in the same set");
        assert!(caches.misses_page(pages[0]), "the first had to go");
        assert!(!caches.misses_page(pages[WAYS - 1]), "the last is still there");
    }
}
