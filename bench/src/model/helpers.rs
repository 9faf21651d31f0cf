//! The kernel's helpers, as far as the tracker's program calls them.

use super::{
    machine::{Machine, Outcome, Room},
    memory::{Fault, Memory, PAGE, PAGE_BYTES, RING_BUFFER, map_of_pointer, value_address},
    observer::{Access, Depth},
};

const MAP_LOOKUP: i64 = 1;
const KTIME_GET_NS: i64 = 5;
const PRANDOM: i64 = 7;
const PROCESSOR_ID: i64 = 8;
const TAIL_CALL: i64 = 12;
const CSUM_DIFF: i64 = 28;
const ADJUST_HEAD: i64 = 44;
const ADJUST_TAIL: i64 = 65;
const JIFFIES: i64 = 118;
const RING_RESERVE: i64 = 131;
pub const RING_SUBMIT: i64 = 132;
const RING_DISCARD: i64 = 133;
const KTIME_GET_COARSE_NS: i64 = 160;
const LOOP: i64 = 181;
const LOAD_BYTES: i64 = 189;
const STORE_BYTES: i64 = 190;

/// Names of helpers, for people.
pub const NAMES: &[(i64, &str)] = &[
    (KTIME_GET_NS, "ktime_get_ns"),
    (PRANDOM, "get_prandom_u32"),
    (PROCESSOR_ID, "get_smp_processor_id"),
    (CSUM_DIFF, "csum_diff"),
    (ADJUST_HEAD, "xdp_adjust_head"),
    (ADJUST_TAIL, "xdp_adjust_tail"),
    (JIFFIES, "jiffies64"),
    (RING_RESERVE, "ringbuf_reserve"),
    (RING_SUBMIT, "ringbuf_submit"),
    (RING_DISCARD, "ringbuf_discard"),
    (KTIME_GET_COARSE_NS, "ktime_get_coarse_ns"),
    (LOOP, "loop"),
    (LOAD_BYTES, "xdp_load_bytes"),
    (STORE_BYTES, "xdp_store_bytes"),
];

/// What drivers leave in front of a packet.
pub const HEADROOM: usize = 256;
/// What the kernel needs at the end of a page (`struct skb_shared_info`).
const SHARED_INFO: u64 = 320;
/// What it needs at the beginning (`struct xdp_frame`).
const XDP_FRAME: u64 = 40;
/// What stands in front of a record in a ring buffer (`BPF_RINGBUF_HDR_SZ`).
const RECORD_HEADER: u64 = 8;
/// Shortest Ethernet header.
const ETHERNET: u64 = 14;

/// What helpers return for what cannot be done: `-EINVAL`.
const INVALID: u64 = -22_i64 as u64;

impl Machine {
    /// Calls a helper with five arguments.
    pub fn helper<const OBSERVE: bool>(&mut self, number: i64, a: &[u64; 5]) -> Result<Outcome, Fault> {
        if OBSERVE {
            match number {
                MAP_LOOKUP => self.observer.counts.lookups += 1,
                TAIL_CALL => self.observer.counts.tail_calls += 1,
                number => self.observer.counts.helpers[number as usize & 255] += 1,
            }
        }
        let value = match number {
            MAP_LOOKUP => {
                let key = self.memory.load(a[1], 4)? as u32;
                let depth = if OBSERVE {
                    self.observer.access(Access::Load, (a[1], 4), Depth::NONE, Depth::NONE)
                } else {
                    Depth::NONE
                };
                let element = self.memory.element(map_of_pointer(a[0]), key).ok_or(Fault::Helper(number))?;
                return Ok(Outcome::Returned(element, depth));
            }
            TAIL_CALL => {
                return Ok(match self.programs.get(a[2] as u32 as usize) {
                    Some(program) => Outcome::TailCall(*program),
                    None => Outcome::Returned(INVALID, Depth::NONE),
                });
            }
            LOOP => self.repeat::<OBSERVE>(a)?,
            // Time stands still here.
            KTIME_GET_NS | KTIME_GET_COARSE_NS | JIFFIES | PROCESSOR_ID => 0,
            PRANDOM => {
                // xorshift64*.
                self.random ^= self.random >> 12;
                self.random ^= self.random << 25;
                self.random ^= self.random >> 27;
                self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
            }
            CSUM_DIFF => self.checksum_difference::<OBSERVE>(a)?,
            ADJUST_HEAD => self.adjust_head(i64::from(a[1] as i32)),
            ADJUST_TAIL => self.adjust_tail(i64::from(a[1] as i32)),
            LOAD_BYTES | STORE_BYTES => self.copy::<OBSERVE>(number == STORE_BYTES, a)?,
            RING_RESERVE => self.reserve(a[0], a[1]),
            // Whoever reads is always done.
            RING_SUBMIT | RING_DISCARD => 0,
            _ => return Err(Fault::Helper(number)),
        };
        Ok(Outcome::Returned(value, Depth::NONE))
    }

    fn repeat<const OBSERVE: bool>(&mut self, a: &[u64; 5]) -> Result<u64, Fault> {
        let turns = a[0] as u32;
        self.level += 1;
        let mut done = 0;
        while done < turns {
            if OBSERVE {
                self.observer.counts.turns += 1;
            }
            let stop = self.execute::<OBSERVE>(a[1] as usize, [done.into(), a[2]])?;
            done += 1;
            if stop != 0 {
                break;
            }
        }
        self.level -= 1;
        Ok(done.into())
    }

    /// Room for a record in a ring buffer, of which all runs use the next bytes. 0 if there can be none.
    fn reserve(&mut self, pointer: u64, bytes: u64) -> u64 {
        let map = map_of_pointer(pointer);
        let Some(definition) = self.memory.maps().get(map).map(|map| &map.definition) else { return 0 };
        let (length, record) = (u64::from(definition.entries), bytes.next_multiple_of(8) + RECORD_HEADER);
        if definition.kind != RING_BUFFER || record > length {
            return 0;
        }
        if self.ring + record > length {
            self.ring = 0;
        }
        let at = value_address(map) + self.ring + RECORD_HEADER;
        self.ring += record;
        at
    }

    /// Sums the 32-bit words of `to`, less those of `from`, as the kernel does.
    fn checksum_difference<const OBSERVE: bool>(&mut self, a: &[u64; 5]) -> Result<u64, Fault> {
        let mut sum = u64::from(a[4] as u32);
        for (address, bytes, complement) in [(a[0], a[1], true), (a[2], a[3], false)] {
            let bytes = bytes as u32 as usize;
            if bytes == 0 {
                continue;
            }
            if OBSERVE {
                self.observer.access_all(Access::Load, address, bytes);
            }
            for word in self.memory.read(address, bytes)?.chunks(4) {
                let mut padded = [0; 4];
                padded[..word.len()].copy_from_slice(word);
                let word = u32::from_ne_bytes(padded);
                sum += u64::from(if complement { !word } else { word });
            }
        }
        while sum >> 32 != 0 {
            sum = (sum & 0xffff_ffff) + (sum >> 32);
        }
        Ok(sum)
    }

    fn adjust_head(&mut self, by: i64) -> u64 {
        let data = self.memory.data.wrapping_add_signed(by);
        if data < PAGE + XDP_FRAME || data + ETHERNET > self.memory.data_end {
            return INVALID;
        }
        self.memory.data = data;
        0
    }

    fn adjust_tail(&mut self, by: i64) -> u64 {
        let Memory { data, data_end, .. } = self.memory;
        let end = data_end.wrapping_add_signed(by);
        let limit = match self.room {
            Room::Page => PAGE + PAGE_BYTES as u64 - SHARED_INFO,
            Room::Tight => data_end.next_multiple_of(64),
        };
        if end > limit || end < data + ETHERNET {
            return INVALID;
        }
        self.memory.data_end = end;
        0
    }

    /// Copies between the packet and other memory.
    fn copy<const OBSERVE: bool>(&mut self, into_packet: bool, a: &[u64; 5]) -> Result<u64, Fault> {
        let (at, other, bytes) = (self.memory.data + u64::from(a[1] as u32), a[2], a[3] as u32 as usize);
        if at + bytes as u64 > self.memory.data_end {
            return Ok(INVALID);
        }
        let (from, to) = if into_packet { (other, at) } else { (at, other) };
        let copied = self.memory.read(from, bytes)?;
        self.memory.write(to, &copied)?;
        if OBSERVE {
            self.observer.access_all(Access::Load, from, bytes);
            self.observer.access_all(Access::Store, to, bytes);
        }
        Ok(0)
    }
}
