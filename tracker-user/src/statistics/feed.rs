//! The figures once a second for everybody who listens: made once however many they are, and not at
//! all while nobody does.

use super::{Snapshot, figures::Figures};
use bytes::{BufMut as _, Bytes, BytesMut};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Most listeners at a time.
pub const MOST: usize = 32;

/// What listeners are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Nothing was made yet.
    None,
    /// An event of `text/event-stream`, with the frame of a chunk around it.
    Event(Bytes),
    /// There will be no more.
    End,
}

impl Frame {
    fn new(figures: &Figures) -> Self {
        let json = serde_json::to_vec(figures).unwrap_or_default();
        let event = [b"event: figures\ndata: ", json.as_slice(), b"\n\n"].concat();
        Self::Event(chunk(&event))
    }
}

/// A chunk of a chunked body (RFC 9112, 7.1).
#[must_use]
pub fn chunk(bytes: &[u8]) -> Bytes {
    let length = format!("{:x}\r\n", bytes.len());
    let mut chunk = BytesMut::with_capacity(length.len() + bytes.len() + 2);
    chunk.put_slice(length.as_bytes());
    chunk.put_slice(bytes);
    chunk.put_slice(b"\r\n");
    chunk.freeze()
}

/// What a chunk holds.
#[must_use]
pub fn unchunked(chunk: &Bytes) -> Bytes {
    let begin = chunk.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    chunk.slice(begin..chunk.len() - 2)
}

/// See the module's text.
pub struct Feed {
    frames: watch::Sender<Frame>,
    places: Arc<Semaphore>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { frames: watch::Sender::new(Frame::None), places: Arc::new(Semaphore::new(MOST)) }
    }
}

impl Feed {
    /// One more listener, who hears of what comes from now on; `None` if there are as many as there
    /// may be.
    #[must_use]
    pub fn listen(&self) -> Option<Listener> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let mut frames = self.frames.subscribe();
        frames.mark_unchanged();
        Some(Listener { frames, _place: place })
    }

    /// How many listen.
    #[must_use]
    pub fn listeners(&self) -> usize {
        MOST - self.places.available_permits()
    }

    /// Sends the figures to all who listen.
    pub fn publish(&self, snapshot: impl FnOnce() -> Snapshot) {
        if self.listeners() > 0 {
            self.frames.send_replace(Frame::new(&Figures::of(&snapshot())));
        }
    }

    /// Ends all streams.
    pub fn close(&self) {
        self.frames.send_replace(Frame::End);
    }
}

/// Somebody who listens. The place is given back when it is dropped.
pub struct Listener {
    frames: watch::Receiver<Frame>,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    /// Waits for the next event; who is slow misses some. False if there will be no more.
    pub async fn wait(&mut self) -> bool {
        *self.frames.borrow() != Frame::End
            && self.frames.changed().await.is_ok()
            && *self.frames.borrow() != Frame::End
    }

    /// The latest event as a chunk; empty if there is none.
    #[must_use]
    pub fn latest(&self) -> Bytes {
        match &*self.frames.borrow() {
            Frame::Event(chunk) => chunk.clone(),
            Frame::None | Frame::End => Bytes::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::snapshot::tests::example;

    #[test]
    fn listeners_are_bounded_and_places_are_given_back() {
        let feed = Feed::default();
        feed.publish(|| unreachable!("nobody listens, so nothing is made"));
        let listeners: Vec<_> = (0..MOST).map_while(|_| feed.listen()).collect();
        assert_eq!((listeners.len(), feed.listeners()), (MOST, MOST));
        assert!(feed.listen().is_none());
        drop(listeners);
        assert_eq!(feed.listeners(), 0);
        assert!(feed.listen().is_some());
    }

    #[tokio::test]
    async fn an_event_is_one_message_and_the_end_is_heard() {
        let feed = Feed::default();
        let (mut one, mut other) = (feed.listen().expect("room"), feed.listen().expect("room"));
        feed.publish(example);
        assert!(one.wait().await && other.wait().await);
        let (event, same) = (one.latest(), other.latest());
        assert_eq!(event.as_ptr(), same.as_ptr(), "made once");
        let text = String::from_utf8(unchunked(&event).to_vec()).expect("text");
        let data = text.strip_prefix("event: figures\ndata: ").and_then(|text| text.strip_suffix("\n\n"));
        let figures: Figures = serde_json::from_str(data.expect("one line")).expect("figures");
        assert_eq!(figures.torrents, 3);
        // Who comes later waits for the next one.
        let mut late = feed.listen().expect("room");
        feed.close();
        assert!(!one.wait().await && !late.wait().await);
        assert!(!feed.listen().expect("room").wait().await);
    }

    #[test]
    fn chunks_have_their_length_in_front() {
        for (bytes, chunked) in
            [(&b"x"[..], &b"1\r\nx\r\n"[..]), (b"a\nbcdefghijklmnop", b"11\r\na\nbcdefghijklmnop\r\n")]
        {
            let made = chunk(bytes);
            assert_eq!(made, chunked);
            assert_eq!(unchunked(&made), bytes);
        }
    }
}
