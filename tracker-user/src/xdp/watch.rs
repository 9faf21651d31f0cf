//! Follows interfaces and addresses as long as the tracker runs: a thread that keeps the XDP program where it should be, and
//! the settings record and the statistics true.
//!
//! The kernel tells when interfaces and addresses change. It does not tell when a BPF link is cut, or when a program comes or
//! goes by one at the other end of a veth pair; for that, what little there is to look at is looked at once a second. Everything
//! is looked at now and then besides, in case that something else is not told.

use super::{
    XdpMode,
    attach::Permission,
    destinations::{self, Served},
    interfaces::Interfaces,
    netlink::{self, Interface},
    notifications::{Notifications, Woken},
    program::Loaded,
    status,
};
use crate::store::Store;
use anyhow::Context as _;
use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How often it is looked for what the kernel does not tell.
const SHORT_LOOK: Duration = Duration::from_secs(1);

/// How often everything is looked at, even if nothing was told.
const WHOLE_LOOK: Duration = Duration::from_secs(30);

/// The time between two looks at everything at least: changes come in bursts.
const PAUSE: Duration = Duration::from_millis(100);

/// What is to be followed.
pub struct Options {
    /// Names of the interfaces for the XDP program.
    pub names: Vec<String>,
    /// Where it runs there.
    pub mode: XdpMode,
    /// Whether it takes the place of other programs.
    pub force: bool,
    /// Where UDP is listened for.
    pub listen: Vec<SocketAddr>,
    /// What the statistics show.
    pub shown: status::Interfaces,
}

/// The thread. When this is dropped the program is taken off all interfaces, and the thread has ended.
pub struct Watch {
    stop: Option<io::PipeWriter>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watch {
    /// Attaches the program, writes the settings, and goes on following from there.
    ///
    /// # Errors
    /// When the kernel cannot be asked, when an interface that is there does not take the program although the mode says that
    /// it must, or when no thread can be started. The program is attached to nothing then.
    pub fn start(loaded: Arc<Loaded>, store: Arc<Store>, options: Options) -> anyhow::Result<Self> {
        // First, so that nothing goes by unseen.
        let notifications = Notifications::subscribe()?;
        let Options { names, mode, force, listen, shown } = options;
        let mut interfaces = Interfaces::new(loaded, Permission { mode, force }, &names);
        let all = netlink::interfaces()?;
        interfaces.attach_first(&all, Instant::now())?;
        let mut follower = Follower { interfaces, store, listen, served: Served::default(), shown };
        follower.tell(&all)?;
        let (stopped, stop) = io::pipe().context("cannot make a pipe")?;
        let thread = thread::Builder::new()
            .name("interfaces".into())
            .spawn(move || follower.follow(&notifications, &stopped))
            .context("cannot start the thread that follows interfaces")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

struct Follower {
    interfaces: Interfaces,
    store: Arc<Store>,
    listen: Vec<SocketAddr>,
    served: Served,
    shown: status::Interfaces,
}

impl Follower {
    /// Until the end of `stop`.
    fn follow(mut self, notifications: &Notifications, stop: &io::PipeReader) {
        let mut looked = Instant::now();
        let mut changed = false;
        loop {
            let limit = if changed { PAUSE.saturating_sub(looked.elapsed()) } else { SHORT_LOOK };
            match notifications.wait(stop, limit) {
                Woken::Stop => return,
                Woken::Change => changed = true,
                Woken::Time => (),
            }
            let now = Instant::now();
            let since = now - looked;
            if since < PAUSE {
                continue;
            }
            if changed || since >= WHOLE_LOOK || self.interfaces.needs_look(now) {
                if let Err(error) = self.look() {
                    tracing::warn!("cannot follow the network interfaces: {error:#}");
                }
                looked = Instant::now();
                changed = false;
            }
        }
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let all = netlink::interfaces()?;
        self.interfaces.look(&all, Instant::now());
        self.tell(&all)
    }

    /// Tells the XDP program, the statistics and the operator.
    fn tell(&mut self, all: &[Interface]) -> anyhow::Result<()> {
        self.shown.set(self.interfaces.shown());
        let served = destinations::current(all, &self.interfaces.attached(), &self.listen)?;
        if served != self.served {
            served.store(self.store.settings());
            served.tell(&self.served);
            self.served = served;
        }
        Ok(())
    }
}
