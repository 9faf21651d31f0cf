//! Sequences of frames through the loaded XDP program (`BPF_PROG_TEST_RUN`, which takes root), and
//! the same datagrams to the host build, with the same model beside both. What the program passes
//! on is answered on its store as the daemon's sockets would.
//!
//! The kernel tells no coverage; libFuzzer is guided by the daemon's side and by the model.

use crate::{
    backends::{Backend as _, Outcome, xdp::XdpProgram},
    history::{Damage, Id, Operation, Request},
    input::Input,
    model::{START, Tracker, World, configure},
    udp,
};
use std::{
    cell::RefCell,
    net::{IpAddr, SocketAddr},
};
use tracker::store::{CounterSet, Handle, sizes::Sizes};
use tracker_common::{
    bep15::datagram::respond,
    outcome::{Counter, Event},
};
use tracker_tests::{
    bpf,
    decision_table::{CLIENT_MAC, Family, TRACKER_MAC, Verdict},
    packet::{Checksum, Datagram, Frame, Tag, VLAN},
};

/// Enough for everything, and not enough.
const SIZES: [Sizes; 2] = [
    Sizes {
        index_buckets: 64,
        swarms: 1000,
        partitions: 2048,
        chunks_v4: 4096,
        chunks_v6: 4096,
        access_buckets: 1,
        block_words: 1,
    },
    Sizes {
        index_buckets: 16,
        swarms: 4,
        partitions: 6,
        chunks_v4: 24,
        chunks_v6: 20,
        access_buckets: 1,
        block_words: 1,
    },
];

/// Payloads up to so many bytes are the program's; longer ones may be left to the sockets.
const LONGEST: usize = 1400;

/// No frame carries more: what is longer comes in fragments, which the kernel puts together.
const FRAME: usize = 1472;

thread_local! {
    /// The programs that are loaded, by [`SIZES`]. Their stores are empty.
    static LOADED: RefCell<[Option<Xdp>; 2]> = const { RefCell::new([None, None]) };
}

/// What is odd about a frame, and does not matter.
type Oddity = fn(&mut Frame);

const HARMLESS: [Oddity; 6] = [
    |_| {},
    |frame| frame.tags = vec![Tag { protocol: VLAN, control: 7 }],
    |frame| frame.fragment = 0x4000,
    |frame| frame.padding = 6,
    |frame| {
        if frame.source.is_ipv4() {
            frame.udp_checksum = Checksum::Zero;
        }
    },
    |frame| frame.hops = 1,
];

/// What makes a frame one that the program must leave alone.
const HARMFUL: [Oddity; 14] = [
    |frame| frame.udp_checksum = Checksum::Wrong,
    |frame| frame.udp_checksum = Checksum::Unfinished,
    |frame| frame.udp_length = 1,
    |frame| frame.udp_length = -1,
    |frame| frame.ip_length = 1,
    |frame| frame.cut = 1,
    |frame| frame.cut = 20,
    |frame| frame.tags = vec![Tag { protocol: VLAN, control: 7 }; 2],
    |frame| frame.protocol = 6,
    |frame| frame.version = Some(5),
    |frame| frame.destination_mac[5] ^= 1,
    |frame| frame.destination.set_port(6970),
    |frame| match frame.source {
        SocketAddr::V4(_) => frame.options = vec![1; 4],
        SocketAddr::V6(_) => frame.extension = Some(60),
    },
    |frame| match frame.source {
        SocketAddr::V4(_) => frame.fragment = 0x2000,
        SocketAddr::V6(_) => frame.udp_checksum = Checksum::Zero,
    },
];

struct Xdp {
    program: XdpProgram,
    handle: Handle,
    oddity: Oddity,
}

impl Xdp {
    fn load(sizes: &Sizes) -> Self {
        let program = XdpProgram::load(sizes).expect("the XDP program is loaded");
        let handle = program.store.handle(CounterSet::Udp);
        Self { program, handle, oddity: HARMLESS[0] }
    }

    fn frame(&self, source: SocketAddr, payload: &[u8]) -> Frame {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
        let mut frame = Frame::udp(CLIENT_MAC, TRACKER_MAC, source, family.tracker());
        frame.payload = payload.to_vec();
        frame
    }

    /// The answer of the daemon's sockets.
    fn by_sockets(&self, source: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
        let reply = respond(&self.handle, payload, source).ok()?;
        let mut bytes = Vec::new();
        assert!(self.handle.copy_out(reply.start, reply.length, &mut bytes), "inside the scratch space");
        Some(bytes)
    }

    /// A frame that has to be passed on as it is.
    fn harm(&mut self, source: SocketAddr, payload: &[u8], oddity: Oddity) {
        let mut frame = self.frame(source, payload);
        oddity(&mut frame);
        let outcome = self.program.send(&frame, &frame.bytes());
        assert!(matches!(outcome, Ok(Outcome::Unanswered(Verdict::Passed))), "{outcome:?} to {frame:?}");
    }

    /// A frame with a byte changed: passed on as it is, dropped, or answered in a right frame.
    fn change(&self, source: SocketAddr, payload: &[u8], at: usize, by: u8) {
        let mut bytes = self.frame(source, payload).bytes();
        let at = at % bytes.len();
        bytes[at] ^= by;
        let (action, out) = bpf::test_run(self.program.program.entry(), &bytes).expect("a test run");
        match action {
            1 => {}
            2 => assert_eq!(out, bytes, "passed on, but changed"),
            3 => {
                let reply = Datagram::parse(&out).unwrap_or_else(|error| panic!("{error:#}: {bytes:02x?} {out:02x?}"));
                assert_eq!(reply.destination_mac, bytes[6..12], "sent back to another");
            }
            action => panic!("action {action} for {bytes:02x?}"),
        }
    }
}

impl Tracker for Xdp {
    type Platform = Handle;

    fn platform(&self) -> &Handle {
        &self.handle
    }

    fn counted(&mut self, event: Event) -> u64 {
        let sockets = self.handle.store().counters();
        let sockets: u64 = sockets.iter().map(|(_, counters)| counters[Counter::Event(event).index()]).sum();
        self.program.counters()[event.label()] + sockets
    }

    fn exchange(&mut self, source: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
        if payload.len() > FRAME {
            return self.by_sockets(source, payload);
        }
        let mut frame = self.frame(source, payload);
        (self.oddity)(&mut frame);
        match self.program.send(&frame, &frame.bytes()).unwrap_or_else(|error| panic!("{error} to {frame:?}")) {
            Outcome::Answered(reply) => Some(reply),
            Outcome::Silence | Outcome::Unanswered(Verdict::Dropped) => None,
            Outcome::Unanswered(Verdict::Passed) => {
                let ours = is_answerable(source.ip().to_canonical()) && payload.len() <= LONGEST;
                assert!(!ours, "passed on: {frame:?}");
                self.by_sockets(source, payload)
            }
        }
    }
}

/// Whether the program answers this address; others are for the kernel to judge.
fn is_answerable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !(ip.octets()[0] == 0 || ip.is_loopback() || ip.octets()[0] >= 224),
        IpAddr::V6(ip) => !(ip.is_multicast() || ip.segments()[..6] == [0; 6] || ip.to_ipv4_mapped().is_some()),
    }
}

/// A byte for the sizes; then for each thing that happens a byte for the frame, and what happens.
///
/// # Panics
/// When something is not as the model says.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let sizes = usize::from(input.byte()) % SIZES.len();
    let loaded = LOADED.with(|loaded| loaded.borrow_mut()[sizes].take());
    let xdp = loaded.unwrap_or_else(|| Xdp::load(&SIZES[sizes]));
    configure(xdp.handle.store().settings());
    let mut world = World::new(xdp, START, sizes != 0);
    let mut operations = Vec::new();
    while !input.is_empty() {
        let odd = input.byte();
        let operation = Operation::read(&mut input);
        match odd {
            192..=223 => harm(&mut world, &operation, HARMFUL[usize::from(odd) % HARMFUL.len()]),
            224..=255 => change(&mut world, &operation, input.byte().into(), input.byte()),
            _ => {
                // Most frames are as they should be.
                let oddity = if odd < 128 { 0 } else { usize::from(odd) % HARMLESS.len() };
                world.tracker().oddity = HARMLESS[oddity];
                world.take(&operation);
                operations.push(operation);
            }
        }
        if world.is_tired() {
            break;
        }
    }
    world.check();
    world.end();
    // A panic before this leaves none behind.
    let xdp = world.into_tracker();
    LOADED.with(|loaded| loaded.borrow_mut()[sizes] = Some(xdp));
    udp::compare(&operations, sizes != 0);
}

fn harm(world: &mut World<Xdp>, operation: &Operation, oddity: Oddity) {
    let Operation::Datagram { client, id, request, damage: Damage::None } = operation else { return };
    let source = client.source();
    if *request != Request::Connect && !matches!(id, Id::Right | Id::Zero) || !is_answerable(source.ip().to_canonical())
    {
        return;
    }
    let payload = world.payload(*client, *id, request, &Damage::None);
    if (16..=LONGEST).contains(&payload.len()) && !matches!(request, Request::Raw(_)) {
        world.tracker().harm(source, &payload, oddity);
    }
}

/// Connects and scrapes change nothing that is stored.
fn change(world: &mut World<Xdp>, operation: &Operation, at: usize, by: u8) {
    if let Operation::Datagram { client, request: request @ (Request::Connect | Request::Scrape { .. }), .. } =
        operation
    {
        let payload = world.payload(*client, Id::Right, request, &Damage::None);
        if payload.len() > FRAME {
            return;
        }
        world.tracker().change(client.source(), &payload, at, by);
    }
}

/// Inputs to begin with.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let histories = udp::histories();
    let with = |history: &Vec<Operation>, sizes: u8, odd: fn(u8) -> u8| {
        let mut bytes = vec![sizes];
        for (number, operation) in history.iter().enumerate() {
            let odd = odd(number as u8);
            bytes.push(odd);
            operation.write(&mut bytes);
            if odd >= 224 {
                bytes.extend([number as u8 * 7, 1 << (number % 8)]);
            }
        }
        bytes
    };
    let plain = histories.iter().enumerate().map(|(number, history)| with(history, number as u8, |_| 0));
    let odd: [fn(u8) -> u8; 3] = [|number| 128 + number % 64, |number| 192 + number % 32, |number| 224 + number % 32];
    plain.chain(odd.iter().map(|odd| with(&histories[0], 0, *odd))).collect()
}
