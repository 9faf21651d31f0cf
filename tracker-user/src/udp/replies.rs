//! The replies of a batch.

use crate::store::Handle;

/// Replies to a batch, one after the other in one piece of memory.
#[derive(Default)]
pub struct Replies {
    pub(super) bytes: Vec<u8>,
    /// Number of the packet answered, and where its reply begins; it ends where the next one
    /// begins.
    pub(super) starts: Vec<(usize, usize)>,
}

impl Replies {
    /// Begins a new batch.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    /// Adds the reply to a packet, which lies in the scratch space of `handle`.
    pub fn add(&mut self, handle: &Handle, packet: usize, start: u32, length: u32) {
        let begin = self.bytes.len();
        if handle.copy_out(start, length, &mut self.bytes) {
            self.starts.push((packet, begin));
        }
    }

    /// The reply that was added after `number` others.
    pub fn get(&self, number: usize) -> Option<&[u8]> {
        let (_, begin) = *self.starts.get(number)?;
        let end = self.starts.get(number + 1).map_or(self.bytes.len(), |(_, end)| *end);
        self.bytes.get(begin..end)
    }

    /// (packet, reply) in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let ends = self.starts.iter().skip(1).map(|(_, begin)| *begin).chain([self.bytes.len()]);
        self.starts.iter().zip(ends).map(|(&(packet, begin), end)| (packet, &self.bytes[begin..end]))
    }
}
