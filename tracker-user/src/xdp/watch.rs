//! Follows interfaces and addresses as long as the tracker runs: a thread that keeps the XDP program where it should be, and
//! the settings record and the statistics true.
//!
//! The kernel tells when interfaces and addresses change. It does not tell when a BPF link is cut, or when a program comes or
//! goes by one at the other end of a veth pair; for that, what little there is to look at is looked at once a second. Everything
//! is looked at now and then besides, in case that something else is not told.

use super::{
    XdpMode,
    attach::Permission,
    destinations::{self, Destinations},
    interfaces::Interfaces,
    netlink::{self, Interface},
    notifications::{Notifications, Woken},
    program::Loaded,
    status,
};
use crate::{
    service::{Service, Shutdown},
    store::Store,
};
use anyhow::Context as _;
use std::{
    net::SocketAddr,
    sync::Arc,
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

/// The XDP program on its interfaces, and what it takes to keep it there. When this is dropped, also at the end of
/// [`Service::run`], the program is taken off all interfaces.
pub struct Watch {
    notifications: Notifications,
    interfaces: Interfaces,
    store: Arc<Store>,
    listen: Vec<SocketAddr>,
    destinations: Destinations,
    shown: status::Interfaces,
}

impl Watch {
    /// Attaches the program and writes the settings.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or when an interface that is there does not take the program although the mode says
    /// that it must. The program is attached to nothing then.
    pub fn attach(loaded: Arc<Loaded>, store: Arc<Store>, options: Options) -> anyhow::Result<Self> {
        // First, so that nothing goes by unseen.
        let notifications = Notifications::subscribe()?;
        let Options { names, mode, force, listen, shown } = options;
        let mut interfaces = Interfaces::new(loaded, Permission { mode, force }, &names);
        let all = netlink::interfaces()?;
        interfaces.attach_first(&all, Instant::now())?;
        let mut watch = Self { notifications, interfaces, store, listen, destinations: Destinations::default(), shown };
        watch.tell(&all)?;
        Ok(watch)
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let all = netlink::interfaces()?;
        self.interfaces.look(&all, Instant::now());
        self.tell(&all)
    }

    /// Tells the XDP program, the statistics and the operator.
    fn tell(&mut self, all: &[Interface]) -> anyhow::Result<()> {
        self.shown.store(Arc::new(self.interfaces.shown()));
        let destinations = destinations::current(all, &self.interfaces.attached(), &self.listen)?;
        if destinations != self.destinations {
            destinations.store(self.store.settings());
            destinations.tell(&self.destinations);
            self.destinations = destinations;
        }
        Ok(())
    }
}

impl Service for Watch {
    fn name(&self) -> String {
        "interfaces".into()
    }

    fn run(mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let stop = shutdown.pipe().context(
            "cannot make a pipe to follow network interfaces: XDP is taken off them, and sockets answer UDP",
        )?;
        let mut looked = Instant::now();
        let mut changed = false;
        loop {
            let limit = if changed { PAUSE.saturating_sub(looked.elapsed()) } else { SHORT_LOOK };
            match self.notifications.wait(&stop, limit) {
                Woken::Stop => return Ok(()),
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
}
