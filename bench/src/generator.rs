//! Load from inside the kernel: requests are built by an XDP program in live-frames mode and sent out of the client's end,
//! replies are counted by another at the same place.
//!
//! The pace is kept by the program itself, which looks at the clock for every frame: what is due is sent, the rest dropped
//! where it is. So requests leave one by one, not in bursts, and the load's core is busy all the time, whatever the rate.
//! One system call lasts for a whole run: beginning and ending it takes the kernel tens of milliseconds.

use std::{
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use aya::programs::{ProgramError, TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use bench_ebpf::{
    FRAME_EXCESS, Load, PACE_SHIFT, Progress, REQUEST_SCRAPE, Replies, TEMPLATE_BYTES, Visit, checksum_words,
    latency_of_bucket,
};

use crate::{
    cores::{self, Accounts, Cores, Thread, Usage},
    interrupt,
    object::{Maps, Object, Programs},
    request::{self, Request},
    testbed::{self, Family, TRACKER_PORT, Testbed},
};

/// The port that generated requests come from. Others, such as those of the connects before, are not counted as load.
pub const CLIENT_PORT: u16 = 20_000;

/// How many source addresses there are. A power of two.
pub const CLIENTS: u32 = 4096;

/// Frames the kernel makes before it sends them on.
const BATCH: u32 = 32;
/// How often a closed loop is looked after.
const LOOK_AFTER: Duration = Duration::from_millis(20);
/// Replies still on their way after a run are waited for this long.
const DRAIN: Duration = Duration::from_millis(50);

pub struct Generator {
    programs: Programs,
    source: Source,
    /// Number of the client's end.
    interface: u32,
}

/// What one run gave.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub usage: Usage,
    pub sent: u64,
    pub replies: Replies,
    /// Closed loop: requests that had to be replaced, because they or their replies were lost.
    pub refilled: u64,
    /// Histogram of the time from request to reply; see `bench_ebpf::latency_bucket`.
    pub latency: Vec<u64>,
}

impl Run {
    /// Answers per second.
    pub fn rate(&self) -> f64 {
        self.replies.answered as f64 / self.usage.seconds
    }

    /// Answered share of what was sent.
    pub fn answered_share(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { self.replies.answered as f64 / self.sent as f64 }
    }

    /// Answers per second of processor time, receive path included.
    pub fn per_core_second(&self) -> f64 {
        self.replies.answered as f64 * 1e9 / (self.usage.process_time + self.usage.receive_time).max(1) as f64
    }

    pub fn peers_per_reply(&self) -> f64 {
        self.replies.peers as f64 / self.replies.answered.max(1) as f64
    }

    /// Replies that were not what they should be.
    pub fn invalid(&self) -> u64 {
        let replies = &self.replies;
        replies.errors
            + replies.wrong_action
            + replies.wrong_length
            + replies.wrong_transaction
            + replies.wrong_checksum
    }

    /// The latency, in nanoseconds, that `share` of the sampled replies did not exceed.
    pub fn latency_quantile(&self, share: f64) -> Option<u64> {
        quantile(&self.latency, share)
    }
}

/// The end of the bucket up to which `share` of a latency histogram lies.
pub fn quantile(histogram: &[u64], share: f64) -> Option<u64> {
    let all: u64 = histogram.iter().sum();
    let wanted = (all as f64 * share).ceil() as u64;
    let mut seen = 0;
    for (bucket, &count) in (0..).zip(histogram) {
        seen += count;
        if count > 0 && seen >= wanted {
            return Some(latency_of_bucket(bucket + 1));
        }
    }
    None
}

impl Generator {
    /// Attaches the reply counter to the client's end of `testbed`.
    pub fn new(testbed: &Testbed, cores: Cores, visits: u32) -> anyhow::Result<Self> {
        let Object { mut programs, maps } = Object::load(CLIENTS, visits)?;
        let interface = testbed.client.enter(|| {
            programs.get("generate")?;
            programs.attach("validate", &testbed.client_interface)?;
            testbed::interface_number(&testbed.client_interface)
        })?;
        let load = Load {
            template: [0; TEMPLATE_BYTES],
            pace: 0,
            sequence_limit: 0,
            request: 0,
            family: 0,
            frame_length: 0,
            hashes: 0,
            ip_sum: 0,
            udp_sum: 0,
            visits,
            seeders: 0,
            addresses: CLIENTS,
            addresses_shift: CLIENTS.trailing_zeros(),
            client_port: CLIENT_PORT.to_be(),
            tracker_port: TRACKER_PORT.to_be(),
            closed_loop: 0,
            window: 0,
            reflected_payload: 0,
            verify_checksums: 0,
            reserved: 0,
        };
        Ok(Self { programs, source: Source { maps, load, cores, refilled: 0 }, interface })
    }

    pub fn maps(&mut self) -> &mut Maps {
        &mut self.source.maps
    }

    /// The load as it is set now.
    pub fn load(&self) -> &Load {
        &self.source.load
    }

    /// What is sent from now on.
    pub fn set_request(&mut self, testbed: &Testbed, family: Family, request: &Request) -> anyhow::Result<()> {
        self.source.load = request_load(&self.source.load, testbed, family, request)?;
        Ok(())
    }

    /// How many of 256 peers are seeders.
    pub fn set_seeders(&mut self, seeders: u32) {
        self.source.load.seeders = seeders;
    }

    /// Whether the UDP checksums of replies mean something; see [`Load::verify_checksums`].
    pub fn verify_checksums(&mut self, verify: bool) {
        self.source.load.verify_checksums = u32::from(verify);
    }

    /// Sends at `rate` requests per second, or as fast as possible without one.
    pub fn run_open(
        &mut self,
        testbed: &Testbed,
        process: Option<Thread>,
        rate: Option<f64>,
        times: Times,
    ) -> anyhow::Result<Run> {
        let polling = testbed.pin()?;
        self.source.start(rate, u64::MAX, false)?;
        self.sending(testbed, u32::MAX, |source| {
            let mut measuring = Measuring::new(times, process, polling);
            while measuring.go_on(source)? {
                interrupt::sleep(LOOK_AFTER)?;
            }
            measuring.run()
        })
    }

    /// Keeps `window` requests on their way, each reply being turned into the next request.
    pub fn run_closed(
        &mut self,
        testbed: &Testbed,
        process: Option<Thread>,
        window: u32,
        times: Times,
    ) -> anyhow::Result<Run> {
        let polling = testbed.pin()?;
        if !self.source.can_turn_replies() {
            return self.run_windowed(testbed, process, window, times);
        }
        self.source.start(None, u64::MAX, true)?;
        let mut measuring = Measuring::new(times, process, polling);
        let result = self.closed_loop(testbed, window, |source| measuring.go_on(source));
        self.source.stop()?;
        result?;
        measuring.run()
    }

    /// Keeps `window` requests on their way as long as `look` says so; it is called every few milliseconds with what was
    /// received so far.
    pub fn watch_closed(
        &mut self,
        testbed: &Testbed,
        window: u32,
        mut look: impl FnMut(Replies) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        self.source.start(None, u64::MAX, true)?;
        let result = self.closed_loop(testbed, window, |source| look(source.replies()?));
        self.source.stop()?;
        result
    }

    /// From now on only these announce, from the first of them on. Not more than there were at the beginning.
    pub fn replace_population(&mut self, visits: &[Visit]) -> anyhow::Result<()> {
        self.source.maps.population()[..visits.len()].copy_from_slice(visits);
        self.source.load.visits = u32::try_from(visits.len())?;
        let before = self.source.progress()?;
        self.source.maps.set_progress(|_| Progress { position: 0, ..before })
    }

    /// The other closed loop; see [`Load::window`].
    fn run_windowed(
        &mut self,
        testbed: &Testbed,
        process: Option<Thread>,
        window: u32,
        times: Times,
    ) -> anyhow::Result<Run> {
        let polling = testbed.pin()?;
        self.source.load.window = window;
        self.source.start(None, u64::MAX, false)?;
        let result = self.sending(testbed, u32::MAX, |source| {
            let mut measuring = Measuring::new(times, process, polling);
            while measuring.go_on(source)? {
                interrupt::sleep(LOOK_AFTER)?;
            }
            measuring.run()
        });
        self.source.load.window = 0;
        result
    }

    /// Walks through the population from `position` to its end in a closed loop of `window` requests, but not for longer than
    /// `limit`. Moves `position` to where it got, and returns how many were answered.
    pub fn prefill(
        &mut self,
        testbed: &Testbed,
        window: u32,
        position: &mut u32,
        limit: Duration,
    ) -> anyhow::Result<u64> {
        testbed.pin()?;
        let mut before = self.source.progress()?;
        before.position = *position;
        self.source.maps.set_progress(|_| before)?;
        let answered_before = self.source.replies()?.answered;
        let end = before.sequence + u64::from(self.source.load.visits - *position);
        self.source.start(None, end, true)?;
        let deadline = Instant::now() + limit;
        self.closed_loop(testbed, window, |source| Ok(source.progress()?.sequence < end && Instant::now() < deadline))?;
        self.source.stop()?;
        *position += u32::try_from(self.source.progress()?.sequence - before.sequence)?;
        Ok(self.source.replies()?.answered - answered_before)
    }

    /// Keeps `window` requests on their way as long as `go_on` says so.
    fn closed_loop(
        &mut self,
        testbed: &Testbed,
        window: u32,
        mut go_on: impl FnMut(&mut Source) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let Self { programs, source, interface } = self;
        let program: &Xdp = programs.get("generate")?;
        let (interface, length) = (*interface, source.load.frame_length);
        let make = |frames| testbed.client.enter(|| make_frames(program, interface, length, frames));
        make(window)?;
        let mut answered_before = 0;
        while go_on(source)? {
            interrupt::sleep(LOOK_AFTER)?;
            // What is lost is not turned into a next request, and has to be replaced.
            let replies = source.replies()?;
            let outstanding = if replies.answered == answered_before { 0 } else { replies.outstanding + 1 };
            let missing = u64::from(window).saturating_sub(outstanding);
            if missing > u64::from(window) / 4 {
                source.refilled += missing;
                make(u32::try_from(missing)?)?;
            }
            answered_before = replies.answered;
        }
        Ok(())
    }

    /// Calls `body` while frames are made; at most `frames`, but the kernel is asked again when these are used up.
    fn sending<T>(
        &mut self,
        testbed: &Testbed,
        frames: u32,
        body: impl FnOnce(&mut Source) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let Self { programs, source, interface } = self;
        let program: &Xdp = programs.get("generate")?;
        let (length, interface) = (source.load.frame_length, *interface);
        let finished = AtomicBool::new(false);
        let thread_id = AtomicI32::new(0);
        thread::scope(|scope| {
            let making = scope.spawn(|| {
                // SAFETY: a system call without arguments.
                thread_id.store(unsafe { libc::gettid() }, Ordering::Release);
                // The thread that controls it runs on the same core, and has to come first.
                cores::set_nice(0, cores::FAVOURED / 2).context("cannot set the generator's nice value")?;
                testbed.client.enter(|| {
                    while !finished.load(Ordering::Acquire) {
                        make_frames(program, interface, length, frames)?;
                    }
                    Ok(())
                })
            });
            let result = body(source);
            // A last time, whatever happened: without a limit the program drops every frame.
            let stopped = source.stop();
            finished.store(true, Ordering::Release);
            while !making.is_finished() {
                // Again and again, as a signal that comes before the system call has begun is lost.
                interrupt::wake(thread_id.load(Ordering::Acquire));
                thread::sleep(Duration::from_millis(2));
            }
            making.join().map_err(|_| anyhow!("the generator's thread panicked"))??;
            stopped?;
            result
        })
    }
}

/// The part of the generator that is used while frames are being made.
struct Source {
    maps: Maps,
    load: Load,
    cores: Cores,
    refilled: u64,
}

impl Source {
    fn replies(&self) -> anyhow::Result<Replies> {
        self.maps.replies(self.cores.load)
    }

    fn progress(&self) -> anyhow::Result<Progress> {
        self.maps.progress(self.cores.load)
    }

    /// Whether a reply can be made as long as a request: a frame from a socket has room for a few hundred bytes more.
    fn can_turn_replies(&self) -> bool {
        const ROOM: u32 = 150;
        self.load.request != REQUEST_SCRAPE || (20 - 12) * self.load.hashes < ROOM
    }

    fn start(&mut self, rate: Option<f64>, sequence_limit: u64, closed_loop: bool) -> anyhow::Result<()> {
        self.load.pace = rate.map_or(0, |rate| ((1e9 * (1u64 << PACE_SHIFT) as f64) / rate).round() as u64);
        self.load.sequence_limit = sequence_limit;
        self.load.closed_loop = u32::from(closed_loop);
        self.maps.set_load(&self.load)
    }

    /// Nothing is sent from here on, and what is on its way has come back or is lost.
    fn stop(&mut self) -> anyhow::Result<()> {
        self.start(None, 0, false)?;
        thread::sleep(DRAIN);
        Ok(())
    }
}

/// Takes the accounts at the beginning and the end of the measured time, while somebody else keeps the load up.
struct Measuring {
    started: Instant,
    times: Times,
    process: Option<Thread>,
    polling: Vec<Thread>,
    before: Option<Snapshot>,
    after: Option<Snapshot>,
}

impl Measuring {
    fn new(times: Times, process: Option<Thread>, polling: Vec<Thread>) -> Self {
        Self { started: Instant::now(), times, process, polling, before: None, after: None }
    }

    /// To be called every few milliseconds, until it says false.
    fn go_on(&mut self, source: &Source) -> anyhow::Result<bool> {
        let elapsed = self.started.elapsed();
        if self.before.is_none() && elapsed >= self.times.warm_up {
            self.before = Some(Snapshot::take(source, self.process, &self.polling)?);
        } else if self.before.is_some() && elapsed >= self.times.warm_up + self.times.measured {
            self.after = Some(Snapshot::take(source, self.process, &self.polling)?);
        }
        Ok(self.after.is_none())
    }

    fn run(self) -> anyhow::Result<Run> {
        let (before, after) = self.before.zip(self.after).context("the run was not measured to its end")?;
        Ok(after.since(&before))
    }
}

/// `load` with another request.
pub fn request_load(load: &Load, testbed: &Testbed, family: Family, request: &Request) -> anyhow::Result<Load> {
    let frame = request::template(request, &testbed.request_ethernet(family), family)?;
    let mut template = [0; TEMPLATE_BYTES];
    // Scrape hashes come after the template.
    let fixed = frame.bytes.len().min(TEMPLATE_BYTES);
    template[..fixed].copy_from_slice(&frame.bytes[..fixed]);
    Ok(Load {
        template,
        request: request.action(),
        family: if family == Family::V4 { 4 } else { 6 },
        frame_length: u32::try_from(frame.bytes.len())?,
        hashes: if let Request::Scrape { hashes } = *request { hashes } else { 0 },
        ip_sum: checksum_words(&frame.bytes[14..34]),
        udp_sum: frame.udp_sum,
        ..*load
    })
}

/// How long a run takes.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub warm_up: Duration,
    pub measured: Duration,
}

/// Lets the kernel make up to `frames` frames for requests of `length` bytes and send those for which the program says so
/// out of `interface`.
fn make_frames(program: &Xdp, interface: u32, length: u32, frames: u32) -> anyhow::Result<()> {
    interrupt::check()?;
    let length = length + FRAME_EXCESS;
    // A struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex. XDP_TX in live-frames
    // mode means out of the ingress interface.
    let ctx: Vec<u8> = [0, length, 0, interface, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    let data = vec![0; length as usize];
    let options = TestRunOptions {
        data_in: Some(&data),
        ctx_in: Some(&ctx),
        repeat: frames,
        attrs: TestRunAttrs::new().xdp_live_frames(BATCH.min(frames)),
        ..TestRunOptions::new()
    };
    match program.test_run(options) {
        Ok(_) => Ok(()),
        // A signal ended the call early.
        Err(ProgramError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EINTR) => Ok(()),
        Err(error) => Err(error).context(
            "cannot run the generator in live-frames mode (BPF_F_TEST_XDP_LIVE_FRAMES, Linux 5.18): run as root",
        ),
    }
}

struct Snapshot {
    accounts: Accounts,
    sent: u64,
    replies: Replies,
    refilled: u64,
    latency: Vec<u64>,
}

impl Snapshot {
    fn take(source: &Source, process: Option<Thread>, polling: &[Thread]) -> anyhow::Result<Self> {
        // The histogram takes a thousand system calls: before the clock is read.
        let latency = source.maps.latency(source.cores.load)?;
        Ok(Self {
            sent: source.progress()?.sequence,
            replies: source.replies()?,
            refilled: source.refilled,
            accounts: Accounts::take(source.cores.tracker, process, polling)?,
            latency,
        })
    }

    fn since(self, before: &Self) -> Run {
        let (now, then) = (self.replies, before.replies);
        Run {
            usage: self.accounts.since(before.accounts),
            sent: self.sent - before.sent,
            replies: Replies {
                answered: now.answered - then.answered,
                peers: now.peers - then.peers,
                bytes: now.bytes - then.bytes,
                errors: now.errors - then.errors,
                wrong_action: now.wrong_action - then.wrong_action,
                wrong_length: now.wrong_length - then.wrong_length,
                wrong_transaction: now.wrong_transaction - then.wrong_transaction,
                wrong_checksum: now.wrong_checksum - then.wrong_checksum,
                right_checksum: now.right_checksum - then.right_checksum,
                largest_swarm: now.largest_swarm,
                outstanding: now.outstanding,
                passed: now.passed - then.passed,
            },
            refilled: self.refilled - before.refilled,
            latency: self.latency.iter().zip(&before.latency).map(|(now, then)| now - then).collect(),
        }
    }
}
