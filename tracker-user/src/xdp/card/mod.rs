//! Network cards that run an XDP program themselves: `tracker-offload` in the card, in front of the
//! program in the driver.
//!
//! The programs are loaded at the start, while the daemon still has the capabilities for that, and
//! attached when the program in the driver is. They are held by this process alone: when it ends in
//! whatever way, the kernel takes them off the cards, since nobody would tell them the time any more.
//!
//! | module | holds |
//! |---|---|
//! | `bpf` | programs and maps for a card, by `bpf(2)` |
//! | [`program`] | the program with its maps |
//! | [`mod@told`] | what a card is told |

mod bpf;
pub mod program;
pub mod told;

use super::{
    KernelCounters, XdpMode,
    bpf_link::Link,
    destinations::Destinations,
    generic,
    netlink::{AttachedMode, Interface},
    status::InterfaceStatus,
};
use crate::store::{Counters, Store};
use program::{COUNTED, Program};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use told::{Blocked, told};
use tracing::{info, warn};
use tracker_common::{
    bep15::wire::CONNECT_LEN,
    card,
    outcome::{Counter, Event, IpVersion, RequestReason},
};

/// `NETDEV_XDP_ACT_HW_OFFLOAD` of `linux/netdev.h`.
const HARDWARE: u64 = 1 << 4;

/// What all cards have counted.
#[derive(Debug, Default)]
pub struct Counted([AtomicU64; COUNTED]);

impl Counted {
    fn add(&self, since: [u32; COUNTED]) {
        for (sum, since) in self.0.iter().zip(since) {
            sum.fetch_add(since.into(), Ordering::Relaxed);
        }
    }

    /// Adds it to what a core has counted.
    fn add_to(&self, core: &mut Counters) {
        let counted = |counter: card::Counter| self.0[counter as usize].load(Ordering::Relaxed);
        let connects = [counted(card::Counter::ConnectsV4), counted(card::Counter::ConnectsV6)];
        for (counter, by) in [
            (Counter::Event(Event::connect(IpVersion::V4)), connects[0]),
            (Counter::Event(Event::connect(IpVersion::V6)), connects[1]),
            (Counter::Event(Event::ReplyBytes), (connects[0] + connects[1]) * CONNECT_LEN as u64),
            (Counter::Reason(RequestReason::Blocked.into()), counted(card::Counter::Blocked)),
            (Counter::Reason(RequestReason::TooShort.into()), counted(card::Counter::TooShort)),
            (Counter::Reason(RequestReason::BadMagic.into()), counted(card::Counter::BadMagic)),
            (Counter::Reason(RequestReason::UnknownAction.into()), counted(card::Counter::UnknownAction)),
        ] {
            core[counter.index()] += by;
        }
    }

    /// Counters of the cores, to the first of which what the cards have counted is added.
    pub(super) fn added_to(self: Arc<Self>, counters: KernelCounters) -> KernelCounters {
        Box::new(move || {
            let mut cores = counters()?;
            if let Some(first) = cores.first_mut() {
                self.add_to(first);
            }
            Ok(cores)
        })
    }
}

/// The program of one card.
struct Card {
    interface: String,
    index: u32,
    state: State,
    /// What was last said of addresses that have no room.
    left_out: usize,
}

enum State {
    /// Loaded, and waiting for the program in the driver.
    Ready(Program),
    /// On the card.
    On(Program, Link),
    /// There is none, for this reason.
    Off(String),
}

/// All of them.
#[derive(Default)]
pub struct Cards {
    cards: Vec<Card>,
    /// What they have counted.
    pub counted: Arc<Counted>,
    blocked: Blocked,
}

impl Cards {
    /// Loads the program for every interface of these names whose card is to run it.
    pub fn load(all: &[Interface], names: &[String], mode: XdpMode) -> Self {
        let wanted = all.iter().filter(|interface| names.contains(&interface.name));
        let wanted = wanted.filter(|interface| match mode {
            XdpMode::Offload => true,
            XdpMode::Auto => generic::xdp_features(interface.index).is_some_and(|features| features & HARDWARE != 0),
            XdpMode::Native | XdpMode::Generic | XdpMode::Off => false,
        });
        let load = |interface: &Interface| {
            let state = match Program::load(interface.index) {
                Ok(program) => State::Ready(program),
                Err(error) => {
                    let reason = format!("the card takes no program: {error:#}");
                    warn!("{}: {reason}; the program in the driver answers everything", interface.name);
                    State::Off(reason)
                }
            };
            Card { interface: interface.name.clone(), index: interface.index, state, left_out: 0 }
        };
        Self { cards: wanted.map(load).collect(), ..Self::default() }
    }

    /// The kernel's numbers of the programs.
    pub fn programs(&self) -> Vec<u32> {
        let program = |card: &Card| match &card.state {
            State::Ready(program) | State::On(program, _) => Some(program.id),
            State::Off(_) => None,
        };
        self.cards.iter().filter_map(program).collect()
    }

    /// Attaches where the program in the driver is, takes off where it is no longer, tells the cards
    /// what is new, and counts.
    pub fn keep(&mut self, store: &Store, destinations: &Destinations, attached: &[u32]) {
        if self.cards.is_empty() {
            return;
        }
        self.blocked.follow(store);
        for card in &mut self.cards {
            card.keep(store, destinations, attached, (&self.blocked, &self.counted));
        }
        let on = self.cards.iter().any(|card| matches!(card.state, State::On(..)));
        let settings = store.settings();
        // What a card has issued is accepted for as long as it is good, and cards come and go.
        if on && settings.card.load() == 0 {
            settings.card.store(1);
        }
    }

    /// Says of the interfaces what their cards do.
    pub fn describe(&self, interfaces: &mut [InterfaceStatus]) {
        for card in &self.cards {
            let Some(interface) = interfaces.iter_mut().find(|status| status.name == card.interface) else { continue };
            let words = match &card.state {
                State::Ready(_) => continue,
                State::On(..) => "the card answers connects",
                State::Off(reason) => reason,
            };
            let note = &mut interface.note;
            *note = if note.is_empty() { words.to_owned() } else { format!("{note}; {words}") };
        }
    }
}

impl Card {
    fn keep(
        &mut self,
        store: &Store,
        destinations: &Destinations,
        attached: &[u32],
        (blocked, counted): (&Blocked, &Counted),
    ) {
        let told = told(store.settings(), destinations, self.index, blocked);
        let state = std::mem::replace(&mut self.state, State::Off(String::new()));
        self.state = match state {
            State::Ready(mut program) if attached.contains(&self.index) => match program.tell(&told) {
                Ok(()) => match Link::create(program.file(), self.index, AttachedMode::Offloaded) {
                    Ok(link) => {
                        info!("{}: the card answers connects, in front of the program in the driver", self.interface);
                        State::On(program, link)
                    }
                    Err(error) => self.off(&format!("the driver does not attach the card's program: {error}")),
                },
                Err(error) => self.off(&format!("the card cannot be told what to answer: {error}")),
            },
            State::On(program, link) if !attached.contains(&self.index) => {
                // It would answer connects of clients that only the sockets know of.
                info!("{}: the card's program is taken off, as is the one in the driver", self.interface);
                link.take_off();
                State::Ready(program)
            }
            State::On(mut program, link) => {
                let result = program.tell(&told).and_then(|()| program.counted());
                match (result, link.interface()) {
                    (_, Ok(0)) => self.off("the card is gone, or somebody has taken its program off"),
                    (Ok(since), _) => {
                        counted.add(since);
                        if program.left_out() != self.left_out {
                            self.left_out = program.left_out();
                            info!(
                                "{}: the card has no room for {} of the addresses, which the program in the driver sees to",
                                self.interface, self.left_out
                            );
                        }
                        State::On(program, link)
                    }
                    (Err(error), _) => self.off(&format!("the card does not answer the driver any more: {error}")),
                }
            }
            State::Ready(program) => State::Ready(program),
            State::Off(reason) => State::Off(reason),
        };
    }

    fn off(&self, reason: &str) -> State {
        warn!(
            "{}: {reason}; the program in the driver answers everything. The card's is loaded again when the tracker is \
             started again",
            self.interface
        );
        State::Off(reason.to_owned())
    }
}
