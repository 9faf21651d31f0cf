//! What this node has missed is asked for, and what others have missed is given.

use super::{
    budget::processor_time,
    figures::{Dropped, add},
    link,
    nodes::SILENCE,
    piece::{self, Ask},
    run::Worker,
};
use crate::snapshot::columns::Block;
use async_nats::Message;
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::{
    sync::{Mutex, Semaphore},
    time::{sleep, timeout},
};
use tracing::{info, warn};

/// How long a new node listens before it asks the least busy one for what there is.
const LISTEN: Duration = Duration::from_millis(1500);

/// How long a piece of a snapshot may take.
const PIECE: Duration = Duration::from_secs(20);

/// Older peers are nowhere: minutes.
const ANY_AGE: u16 = 480;

/// Others that may wait for a piece. Each waits for one at a time.
const ASKING: usize = 16;

/// Pieces for others: one at a time, and no more than may be spent on it.
pub(super) struct Giving {
    waiting: Arc<Semaphore>,
    turn: Arc<Mutex<()>>,
    /// So many times as long as a piece has taken, there is a rest after it.
    rest: f64,
}

impl Giving {
    /// With so many percent of a processor's time.
    pub fn new(percent: u32) -> Self {
        let rest = (100.0 - f64::from(percent)).max(0.0) / f64::from(percent.max(1));
        Self { waiting: Arc::new(Semaphore::new(ASKING)), turn: Arc::default(), rest }
    }
}

/// A snapshot that is being taken over.
pub(super) struct Catching {
    /// From whom.
    node: u64,
    shards: u64,
    begun: Instant,
}

/// What comes of asking.
pub(super) enum Fetched {
    Piece(Block),
    Done(bool),
}

impl Worker {
    /// Gives another node a piece of the store.
    pub(super) fn answer(&self, message: Message) {
        let (Some(client), Some(reply)) = (self.client.clone(), message.reply) else { return };
        let Some(ask) = Ask::decode(&message.payload) else {
            self.meters.refuse(Dropped::Foreign, 1);
            return;
        };
        // Whoever is not answered asks again, or somebody else.
        let Ok(waiting) = self.giving.waiting.clone().try_acquire_owned() else {
            self.meters.refuse(Dropped::Budget, 1);
            return;
        };
        let (store, meters) = (self.store.clone(), self.meters.clone());
        let (turn, rest) = (self.giving.turn.clone(), self.giving.rest);
        tokio::spawn(async move {
            let _waiting = waiting;
            let _turn = turn.lock().await;
            let made = tokio::task::spawn_blocking(move || {
                let begin = processor_time();
                let piece = piece::piece(&store, &ask);
                (piece, processor_time().saturating_sub(begin))
            });
            if let Ok((piece, took)) = made.await {
                add(&meters.giving, took.as_nanos() as u64);
                let _ = client.publish(reply, piece.into()).await;
                sleep(took.mul_f64(rest)).await;
            }
        });
    }

    /// Asks for what this node does not have.
    pub(super) fn catch_up(&mut self, now: Instant) {
        if self.catching.is_some() || !self.is_connected() {
            return;
        }
        if self.listening_since.is_none_or(|since| now.duration_since(since) < LISTEN) {
            return;
        }
        let mine = self.plan.shards;
        if self.wanted != 0 {
            if let Some(hello) = self.nodes.least_busy(self.wanted, now) {
                let (node, shards) = (hello.node, hello.shards & self.wanted);
                self.incomplete |= hello.is_catching_up();
                return self.fetch(node, shards, ANY_AGE);
            }
            // The first, or the others have nothing.
            self.wanted = 0;
            self.said_hello = None;
        }
        let mut next = None;
        for node in self.nodes.all_mut() {
            let is_there = now.duration_since(node.heard) <= SILENCE && node.hello.shards & mine != 0;
            if !is_there || next.is_some() {
                continue;
            }
            let silent = node.was_silent.take();
            if !std::mem::replace(&mut node.is_known, true) && node.hello.peers > 0 {
                next = Some((node.hello.node, node.hello.shards & mine, ANY_AGE));
            } else if let Some(silent) = silent {
                let age = (silent.as_secs() / 60 + 2).min(ANY_AGE.into()) as u16;
                next = Some((node.hello.node, node.hello.shards & mine, age));
            }
        }
        if let Some((node, shards, age)) = next {
            self.fetch(node, shards, age);
        }
    }

    fn fetch(&mut self, node: u64, shards: u64, age: u16) {
        let Some(client) = self.client.clone() else { return };
        self.catching = Some(Catching { node, shards, begun: Instant::now() });
        self.meters.catching_up.store(true, Ordering::Relaxed);
        self.intake.begin_snapshot();
        let fetched = self.fetched.clone();
        tokio::spawn(async move {
            let subject = format!("{}.{node:016x}", link::ASK);
            let mut ask = Ask { from: 0, shards, age };
            let whole = loop {
                let request = client.request(subject.clone(), ask.encode().into());
                let Ok(Ok(reply)) = timeout(PIECE, request).await else { break false };
                let Some((block, next)) = piece::decode(&reply.payload) else { break false };
                if fetched.send(Fetched::Piece(block)).await.is_err() {
                    break false;
                }
                match next {
                    // Backwards it would never end.
                    Some(next) if (next as u32, next >> 32) > (ask.from as u32, ask.from >> 32) => ask.from = next,
                    Some(_) => break false,
                    None => break true,
                }
            };
            let _ = fetched.send(Fetched::Done(whole)).await;
        });
    }

    pub(super) fn take(&mut self, fetched: Fetched) {
        match fetched {
            Fetched::Piece(block) => self.intake.piece(&block),
            Fetched::Done(whole) => {
                self.intake.end_snapshot();
                self.meters.catching_up.store(false, Ordering::Relaxed);
                let Some(Catching { node, shards, begun }) = self.catching.take() else { return };
                let peers = self.meters.caught_up.load(Ordering::Relaxed);
                let took = begun.elapsed();
                if whole {
                    info!("took over what another node had, {peers} peers so far, in {:.1} s", took.as_secs_f64());
                    let was_new = self.wanted != 0;
                    self.wanted &= !shards;
                    if was_new {
                        let all = self.wanted == 0 && !self.incomplete;
                        self.nodes.taken_over(node, shards, self.plan.shards, all);
                    }
                    // It may be asked itself now.
                    self.said_hello = None;
                } else {
                    warn!("could not take over all that another node has; it is asked again");
                    for known in self.nodes.all_mut().filter(|known| known.hello.node == node) {
                        known.was_silent = Some(took + SILENCE);
                        known.is_known = self.wanted == 0 && known.is_known;
                    }
                }
            }
        }
    }
}
