//! What a program does, counted: instructions, calls, and memory of maps, down to which access had
//! to wait for which.
//!
//! **Chains.** A line that is not in the modelled cache is a miss. What is read from it is there
//! only after the miss; an address that was computed from that can be asked for only then. Every
//! register and every word of the stack, the packet and per-core maps carries a *depth*: how many
//! misses one after another its value waited for. A read that misses gives the depth of its address
//! plus one; the greatest depth of a request is its longest chain. Branches do not wait: the
//! processor guesses them.

use super::{
    caches::{Caches, LINE_BYTES, PAGE_BYTES, page_of},
    memory::{self, Elements, Place},
};

/// How many misses, one after another, a value waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Of cache lines.
    pub lines: u8,
    /// Of pages in the TLB.
    pub pages: u8,
}

impl Depth {
    pub const NONE: Self = Self { lines: 0, pages: 0 };

    #[inline(always)]
    pub fn max(self, other: Self) -> Self {
        Self { lines: self.lines.max(other.lines), pages: self.pages.max(other.pages) }
    }
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub instructions: u64,
    /// Calls of helpers, by their numbers; without map look-ups.
    pub helpers: Vec<u64>,
    /// Look-ups in maps, which the kernel turns into instructions.
    pub lookups: u64,
    /// Calls of functions of the program.
    pub calls: u64,
    /// Turns of loops by `bpf_loop`, each an indirect call.
    pub turns: u64,
    pub tail_calls: u64,
    /// Instructions that lock memory.
    pub atomics: u64,
    pub maps: Vec<MapCounts>,
    /// Sums of the longest chain of each request.
    pub line_chain: u64,
    pub page_chain: u64,
}

impl Counts {
    fn of(maps: usize) -> Self {
        Self { helpers: vec![0; 256], maps: vec![MapCounts::default(); maps], ..Self::default() }
    }
}

/// What was counted of one map's memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct MapCounts {
    /// Loads and stores.
    pub accesses: u64,
    /// Different lines and pages, request by request.
    pub lines: u64,
    pub pages: u64,
    /// Lines that the first-level cache did not have.
    pub near_misses: u64,
    /// Lines and pages that the second-level caches did not have.
    pub line_misses: u64,
    pub page_misses: u64,
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Load,
    Store,
    /// Reads and writes at once.
    Atomic,
}

/// Lines or pages touched in this request, and how deep what is in them is.
struct Touched {
    /// Number, request, depth. A power of two of them.
    slots: Vec<(u32, u32, u8)>,
    used: usize,
}

impl Touched {
    fn new() -> Self {
        Self { slots: vec![(0, 0, 0); 1024], used: 0 }
    }

    fn find(&mut self, number: u32, request: u32) -> (bool, &mut u8) {
        if self.used * 2 > self.slots.len() {
            self.grow(request);
        }
        let mask = self.slots.len() - 1;
        let mut at = number.wrapping_mul(0x9e37_79b1) as usize >> 7 & mask;
        while self.slots[at].1 == request && self.slots[at].0 != number {
            at = (at + 1) & mask;
        }
        let is_new = self.slots[at].1 != request;
        if is_new {
            self.slots[at] = (number, request, 0);
            self.used += 1;
        }
        (is_new, &mut self.slots[at].2)
    }

    fn grow(&mut self, request: u32) {
        let larger = vec![(0, 0, 0); 2 * self.slots.len()];
        self.used = 0;
        for (number, of, depth) in std::mem::replace(&mut self.slots, larger) {
            if of == request {
                *self.find(number, request).1 = depth;
            }
        }
    }
}

/// Depths of the words of some memory. Those of another request than the present one are none.
struct Shadow(Vec<(u32, Depth)>);

impl Shadow {
    fn new(bytes: usize) -> Self {
        Self(vec![(0, Depth::NONE); bytes / 8 + 2])
    }

    #[inline(always)]
    fn get(&self, byte: usize, request: u32) -> Depth {
        let (of, depth) = self.0[byte / 8];
        if of == request { depth } else { Depth::NONE }
    }

    #[inline(always)]
    fn set(&mut self, byte: usize, bytes: usize, request: u32, depth: Depth) {
        for word in byte / 8..=(byte + bytes - 1) / 8 {
            self.0[word] = (request, depth);
        }
    }
}

struct Map {
    /// Number of its first line, all maps counted.
    first_line: u32,
    /// Depths, of maps that each core has for itself.
    shadow: Option<Shadow>,
}

pub struct Observer {
    pub counts: Counts,
    /// How often each instruction was executed.
    pub executed: Vec<u64>,
    caches: Caches,
    maps: Vec<Map>,
    /// Number of the present request.
    request: u32,
    lines: Touched,
    pages: Touched,
    stack: Shadow,
    packet: Shadow,
    /// The present request's longest chain.
    longest: Depth,
}

/// `BPF_MAP_TYPE_PERCPU_ARRAY`.
const PER_CORE: u32 = 6;

impl Observer {
    pub fn new(maps: &[Elements], instructions: usize) -> Self {
        // No line has number 0, which the caches take for none.
        let mut first_line = (PAGE_BYTES / LINE_BYTES) as u32;
        let maps: Vec<Map> = maps
            .iter()
            .map(|map| {
                let bytes = (map.element_bytes * u64::from(map.definition.entries)).next_multiple_of(PAGE_BYTES);
                let shadow = (map.definition.kind == PER_CORE).then(|| Shadow::new(bytes as usize));
                let first = first_line;
                first_line += (bytes / LINE_BYTES) as u32;
                Map { first_line: first, shadow }
            })
            .collect();
        Self {
            counts: Counts::of(maps.len()),
            executed: vec![0; instructions],
            caches: Caches::new(),
            maps,
            request: 1,
            lines: Touched::new(),
            pages: Touched::new(),
            stack: Shadow::new(16 * 512),
            packet: Shadow::new(memory::PAGE_BYTES),
            longest: Depth::NONE,
        }
    }

    /// Forgets the counts, but not what is in the caches.
    pub fn reset(&mut self) {
        self.counts = Counts::of(self.maps.len());
        self.executed.fill(0);
    }

    /// Begins the next request.
    pub fn begin(&mut self) {
        self.request += 1;
        self.lines.used = 0;
        self.pages.used = 0;
        self.longest = Depth::NONE;
    }

    /// Ends it.
    pub fn end(&mut self) {
        self.counts.line_chain += u64::from(self.longest.lines);
        self.counts.page_chain += u64::from(self.longest.pages);
    }

    /// Counts an access, and says how deep what was read is. `address` is the depth of the address,
    /// `value` of what is written.
    #[inline(always)]
    pub fn access(&mut self, access: Access, at: (u64, usize), address: Depth, value: Depth) -> Depth {
        let request = self.request;
        match memory::place(at.0) {
            Place::Context => Depth::NONE,
            Place::Stack(byte) => word(&mut self.stack, access, (byte, at.1), request, value).max(address),
            Place::Packet(byte) => word(&mut self.packet, access, (byte, at.1), request, value).max(address),
            Place::Map(map, byte) => {
                let mut depth = self.in_map(access, map, byte, address);
                let last = byte + at.1 as u64 - 1;
                if last / LINE_BYTES != byte / LINE_BYTES {
                    self.counts.maps[map].accesses -= 1;
                    depth = depth.max(self.in_map(access, map, last, address));
                }
                match &mut self.maps[map].shadow {
                    Some(shadow) => word(shadow, access, (byte as usize, at.1), request, value).max(depth),
                    None => depth,
                }
            }
        }
    }

    /// Counts an access of any length, as helpers make them.
    pub fn access_all(&mut self, access: Access, address: u64, bytes: usize) {
        for at in (0..bytes).step_by(8) {
            self.access(access, (address + at as u64, 8.min(bytes - at)), Depth::NONE, Depth::NONE);
        }
    }

    fn in_map(&mut self, access: Access, map: usize, byte: u64, address: Depth) -> Depth {
        let line = self.maps[map].first_line + (byte / LINE_BYTES) as u32;
        let page = page_of(line);
        let counts = &mut self.counts.maps[map];
        counts.accesses += 1;

        let (is_new, line_depth) = self.lines.find(line, self.request);
        if is_new {
            counts.lines += 1;
            counts.near_misses += u64::from(self.caches.misses_near(line));
            let missed = self.caches.misses_line(line);
            counts.line_misses += u64::from(missed);
            *line_depth = if missed { address.lines.saturating_add(1) } else { 0 };
        }
        let (is_new, page_depth) = self.pages.find(page, self.request);
        if is_new {
            counts.pages += 1;
            let missed = self.caches.misses_page(page);
            counts.page_misses += u64::from(missed);
            *page_depth = if missed { address.pages.saturating_add(1) } else { 0 };
        }
        let depth = address.max(Depth { lines: *line_depth, pages: *page_depth });
        // Nothing waits for a write.
        if access != Access::Store {
            self.longest = self.longest.max(depth);
        }
        depth
    }
}

/// Reads or writes the depth of a word.
#[inline(always)]
fn word(shadow: &mut Shadow, access: Access, (byte, bytes): (usize, usize), request: u32, value: Depth) -> Depth {
    let before = shadow.get(byte, request);
    match access {
        Access::Load => before,
        Access::Store | Access::Atomic => {
            shadow.set(byte, bytes, request, value);
            before
        }
    }
}
