//! How long requests wait in a socket's receive buffer.
//!
//! A long buffer takes bursts: what comes while a thread is not running is answered a little later.
//! But where more comes than can be answered, as in a flood, a long buffer is always full, loses as
//! much as a short one, and makes everybody wait for all that is in it: 8 MiB hold 20 000 requests,
//! a seventh of a second or more. So the buffer is long until requests have waited for more than
//! half of [`WAIT`] all the time for [`PATIENCE`]; then it holds what is answered within [`WAIT`],
//! until they have not for [`RECOVERY`]. What finds no room is dropped by the kernel, which costs
//! the least, and counted ([`super::Drops`]).
//!
//! Before that, while more than a few requests wait, nobody is told that his connection id is wrong
//! ([`Queue::is_pressed`]): in a flood these are forged, and sending costs more than all else.

use super::socket::{RECEIVE_BUFFER, set_receive_buffer};
use crate::listen::socket_option;
use std::{
    io, mem,
    net::UdpSocket,
    time::{Duration, Instant},
};

/// How often the buffer is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// For so long requests may wait all the time before the buffer is made shorter. Threads that share
/// a core with others do not run for some milliseconds now and then; that is no flood.
const PATIENCE: Duration = Duration::from_millis(25);

/// For so long, in seconds, a request may wait in a buffer that was made shorter.
const WAIT: f64 = 0.01;

/// A buffer is made long again when requests have not waited for so long.
const RECOVERY: Duration = Duration::from_secs(1);

/// What the kernel charges for the smallest packet. Where drivers take more for each, up to a page
/// or two, fewer wait than is thought, and for a shorter time.
const PACKET_BYTES: usize = 768;

/// The shortest buffer: several times what is answered together.
const SHORTEST: usize = 8 * super::BATCH * PACKET_BYTES;

/// Place of the bytes in the receive buffer among the figures of `SO_MEMINFO`
/// (`SK_MEMINFO_RMEM_ALLOC` of linux/sock_diag.h).
const WAITING: usize = 0;

/// Keeps one socket's receive buffer as long as it should be.
pub struct Queue {
    length: Length,
    /// How many threads take requests from this socket: each answers its part of what waits.
    sharers: usize,
    /// Requests received since the buffer was looked at.
    received: usize,
    /// Whether this is possible: not where system calls are forbidden.
    possible: bool,
}

impl Queue {
    pub fn new(sharers: usize) -> Self {
        Self { length: Length::new(Instant::now()), sharers, received: 0, possible: true }
    }

    /// Notes that so many requests were received, and makes the buffer shorter or longer when it is
    /// time to.
    pub fn received(&mut self, socket: &UdpSocket, requests: usize) {
        self.received += requests;
        let now = Instant::now();
        if now - self.length.looked < LOOK || !self.possible {
            return;
        }
        if let Err(error) = self.look(socket, now) {
            tracing::debug!("the receive buffer of a UDP socket is left as it is: {error}");
            self.possible = false;
        }
    }

    /// Whether requests wait for so long that what is left out makes others wait less.
    pub fn is_pressed(&self) -> bool {
        self.length.pressed
    }

    fn look(&mut self, socket: &UdpSocket, now: Instant) -> io::Result<()> {
        let figures: [u32; WAITING + 1] = socket_option::get(socket, libc::SOL_SOCKET, libc::SO_MEMINFO)?;
        let received = mem::take(&mut self.received);
        match self.length.look(now, figures[WAITING] as usize / self.sharers, received) {
            // The kernel doubles what it is told.
            Some(bytes) => set_receive_buffer(socket, (bytes / 2 * self.sharers).min(RECEIVE_BUFFER)),
            None => Ok(()),
        }
    }
}

/// The decision, without a socket.
struct Length {
    looked: Instant,
    /// When requests last did not wait for long.
    calm: Instant,
    /// When they last had waited all the time.
    crowded: Instant,
    /// Requests received per second, lately.
    rate: f64,
    bytes: usize,
    /// Whether more than a quarter of what [`WAIT`] allows was waiting.
    pressed: bool,
}

impl Length {
    fn new(now: Instant) -> Self {
        Self { looked: now, calm: now, crowded: now, rate: 0.0, bytes: 2 * RECEIVE_BUFFER, pressed: false }
    }

    /// How many bytes the buffer is to hold from now on, if that is to change. There are `waiting`
    /// bytes in it, and so many requests were taken out of it since the last look.
    fn look(&mut self, now: Instant, waiting: usize, received: usize) -> Option<usize> {
        let elapsed = now - mem::replace(&mut self.looked, now);
        if elapsed >= PATIENCE {
            // Nobody looked: there was nothing to receive, or the thread did not run.
            (self.calm, self.pressed) = (now, false);
            return None;
        }
        let rate = received as f64 / elapsed.as_secs_f64();
        self.rate = if self.rate == 0.0 { rate } else { self.rate + (rate - self.rate) / 8.0 };
        let in_time = ((self.rate * WAIT) as usize * PACKET_BYTES).clamp(SHORTEST, 2 * RECEIVE_BUFFER);
        self.pressed = waiting > in_time / 4;
        if waiting <= in_time / 2 {
            self.calm = now;
            let recovered = self.bytes < 2 * RECEIVE_BUFFER && now - self.crowded >= RECOVERY;
            return recovered.then(|| self.set(2 * RECEIVE_BUFFER));
        }
        if now - self.calm < PATIENCE {
            return None;
        }
        self.crowded = now;
        let fits = (in_time / 2..=in_time * 2).contains(&self.bytes);
        (!fits).then(|| self.set(in_time))
    }

    fn set(&mut self, bytes: usize) -> usize {
        self.bytes = bytes;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: usize = 150;

    /// What happens when the buffer is looked at every millisecond, each row for so many
    /// milliseconds, so many requests are in it, and [`RATE`] are answered; or, in a row of its
    /// own, not looked at.
    fn lengths(rows: &[(u64, Option<usize>)]) -> Vec<(u64, usize)> {
        let start = Instant::now();
        let (mut length, mut time, mut changes) = (Length::new(start), 0, Vec::new());
        for &(milliseconds, waiting) in rows {
            for _ in 0..milliseconds {
                time += 1;
                let Some(waiting) = waiting else { continue };
                let change = length.look(start + Duration::from_millis(time), waiting * PACKET_BYTES, RATE);
                changes.extend(change.map(|bytes| (time, bytes / PACKET_BYTES)));
            }
        }
        changes
    }

    #[test]
    fn buffer_is_short_only_while_requests_always_wait() {
        const CALM: Option<usize> = Some(RATE * 4);
        const CROWDED: Option<usize> = Some(RATE * 6);
        let (short, long) = (RATE * 10, 2 * RECEIVE_BUFFER / PACKET_BYTES);
        for (rows, expected) in [
            (&[(100_000, Some(0))][..], vec![]),
            (&[(100_000, CALM)], vec![]),
            // Bursts, each of which is answered in time.
            (&[(24, Some(20_000)), (1, CALM), (24, Some(20_000)), (1, CALM), (24, CROWDED)], vec![]),
            (&[(25, CROWDED)], vec![(25, short)]),
            (&[(5, CALM), (25, CROWDED)], vec![(30, short)]),
            // A flood for two seconds, and its end.
            (&[(2000, Some(20_000)), (1200, CALM)], vec![(25, short), (3000, long)]),
            // Calm now and then, but crowded again within a second.
            (&[(100, CROWDED), (900, CALM), (100, CROWDED), (900, CALM)], vec![(25, short)]),
            // A burst after a pause, and while the thread did not run.
            (&[(1000, None), (25, CROWDED)], vec![]),
            (&[(10, CROWDED), (100, None), (25, CROWDED)], vec![]),
            (&[(100, None), (26, CROWDED)], vec![(126, short)]),
        ] {
            assert_eq!(lengths(rows), expected, "{rows:?}");
        }
    }

    #[test]
    fn pressed_is_who_has_more_waiting_than_a_few_batches() {
        let start = Instant::now();
        let mut length = Length::new(start);
        for (time, waiting, pressed) in [
            (1, 0, false),
            (2, RATE * 2, false),
            (3, RATE * 3, true),
            (4, 20_000, true),
            (5, 0, false),
            (6, 20_000, true),
            // A pause.
            (100, 20_000, false),
        ] {
            length.look(start + Duration::from_millis(time), waiting * PACKET_BYTES, RATE);
            assert_eq!(length.pressed, pressed, "{time}");
        }
    }

    #[test]
    fn threads_that_share_a_socket_answer_together_what_waits_in_it() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        set_receive_buffer(&socket, SHORTEST).expect("short enough");
        let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
        // More than a quarter of the shortest buffer, less than half of it.
        for _ in 0..3 * SHORTEST / 8 / PACKET_BYTES {
            client.send_to(b"x", socket.local_addr().expect("bound")).expect("loopback");
        }
        for (sharers, pressed) in [(1, true), (2, false), (4, false)] {
            let mut queue = Queue::new(sharers);
            let now = queue.length.looked + LOOK;
            queue.look(&socket, now).expect("a socket");
            assert_eq!(queue.is_pressed(), pressed, "{sharers}");
        }
    }

    #[test]
    fn short_buffer_follows_the_speed_and_never_holds_less_than_several_batches() {
        let start = Instant::now();
        let mut length = Length::new(start);
        let mut set = Vec::new();
        for (time, received) in (1..=900).map(|time| (time, if time <= 300 { 200 } else { 1 })) {
            set.extend(length.look(start + Duration::from_millis(time), 2 * RECEIVE_BUFFER, received));
        }
        assert_eq!(set.first(), Some(&(2000 * PACKET_BYTES)));
        assert!(set.is_sorted_by(|a, b| a > b), "{set:?}");
        assert!(set.iter().all(|bytes| *bytes >= SHORTEST) && set.len() > 1, "{set:?}");
    }
}
