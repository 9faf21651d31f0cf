//! Load from inside the kernel: requests are built by an XDP program in live-frames mode and sent
//! out of the client's end, replies are counted by another at the same place.
//!
//! The pace is kept by the program itself, which looks at the clock for every frame: what is due is
//! sent, the rest dropped where it is. So requests leave one by one, not in bursts, and the load's
//! core is busy all the time, whatever the rate. One system call lasts for a whole run: beginning
//! and ending it takes the kernel tens of milliseconds.

mod run;
mod source;

use std::{
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use aya::programs::{ProgramError, TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use bench_ebpf::{FRAME_EXCESS, Load, Progress, Replies, TEMPLATE_BYTES, Visit};
use tracker_tests::interrupt;

pub use self::run::{Run, Times};
use self::{run::Measuring, source::Source};
use crate::{
    cores::{self, Cores, Thread},
    object::{Maps, Object, Programs},
    request::{self, CLIENT_PORT, Request},
    testbed::{self, Family, TRACKER_PORT, Testbed},
};

/// How many source addresses there are. A power of two.
pub const CLIENTS: u32 = 4096;

/// Frames the kernel makes before it sends them on.
const BATCH: u32 = 32;
/// How often a closed loop is looked after.
const LOOK_AFTER: Duration = Duration::from_millis(20);

/// A generator at the client's end of a testbed.
pub struct Generator {
    programs: Programs,
    source: Source,
    /// Number of the client's end.
    interface: u32,
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
    pub fn set_request(&mut self, family: Family, request: &Request) -> anyhow::Result<()> {
        self.source.load = request::request_load(&self.source.load, family, request)?;
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

    /// Keeps `window` requests on their way as long as `look` says so; it is called every few
    /// milliseconds with what was received so far.
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

    /// From now on only these announce, from the first of them on. Not more than there were at the
    /// beginning.
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

    /// Walks through the population from `position` to its end in a closed loop of `window`
    /// requests, but not for longer than `limit`. Moves `position` to where it got, and returns how
    /// many were answered.
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

    /// Calls `body` while frames are made; at most `frames`, but the kernel is asked again when
    /// these are used up.
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

/// Lets the kernel make up to `frames` frames for requests of `length` bytes and send those for
/// which the program says so out of `interface`.
fn make_frames(program: &Xdp, interface: u32, length: u32, frames: u32) -> anyhow::Result<()> {
    interrupt::check()?;
    let length = length + FRAME_EXCESS;
    // A struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    // XDP_TX in live-frames mode means out of the ingress interface.
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
