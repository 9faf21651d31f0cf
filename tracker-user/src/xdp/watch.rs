//! Follows interfaces and addresses while the tracker runs: a thread keeps the XDP program attached
//! where it should be, and the settings record and the statistics up to date.
//!
//! The kernel reports changes of interfaces and addresses. It does not report that a BPF link was
//! cut, or that a program came or went at the other end of a veth pair: so the links are checked
//! once a second. Now and then everything is checked, in case that a change of another kind is not
//! reported.

use super::{
    XdpMode,
    attach::Permission,
    card::Cards,
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
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

/// How often changes that the kernel does not report are looked for.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How often everything is reconciled, even if no change was reported.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(30);

/// The shortest time from one reconciliation to the next: changes come in bursts.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// How long to wait after the kernel could not be asked: descriptors may be short, or interfaces
/// come and go faster than they can be listed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest time between two warnings of that.
const SHORTEST_WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// What the operator wants.
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
    pub status: status::LatestStatus,
}

/// The XDP program on its interfaces, and what it takes to keep it there. When this is dropped,
/// the program is taken off all interfaces; the end of [`Service::run`] leaves it where it is
/// pinned.
pub struct Watch {
    notifications: Notifications,
    interfaces: Interfaces,
    store: Arc<Store>,
    listen: Vec<SocketAddr>,
    destinations: Destinations,
    status: status::LatestStatus,
    cards: Cards,
}

impl Watch {
    /// Attaches the program and writes the settings.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or when an interface that is there does not take the
    /// program although the mode says that it must. The program is attached to nothing then, but
    /// to what it was on before.
    pub fn attach(loaded: Arc<Loaded>, store: Arc<Store>, options: Options) -> anyhow::Result<Self> {
        // Subscribed first, so that no change is missed.
        let notifications = Notifications::subscribe()?;
        let Options { names, mode, force, listen, status } = options;
        let cards = std::mem::take(&mut *loaded.cards.lock().unwrap_or_else(PoisonError::into_inner));
        let interfaces = Interfaces::new(loaded, Permission { mode, force }, &names);
        let all = netlink::interfaces()?;
        let mut watch =
            Self { notifications, interfaces, store, listen, destinations: Destinations::default(), status, cards };
        watch.store.settings().card.store(0);
        let attached = watch.interfaces.attach_first(&all, Instant::now()).and_then(|()| watch.publish(&all));
        match attached {
            Ok(()) => Ok(watch),
            Err(error) => {
                // What a tracker before this one has left goes on; what was pinned anew is taken
                // down with all other pins.
                watch.interfaces.leave();
                Err(error)
            }
        }
    }

    fn reconcile(&mut self) -> anyhow::Result<()> {
        let all = netlink::interfaces()?;
        self.interfaces.reconcile(&all, Instant::now());
        self.publish(&all)
    }

    /// Writes the state into the settings record and the statistics, and logs what is new.
    fn publish(&mut self, all: &[Interface]) -> anyhow::Result<()> {
        let attached = self.interfaces.attached();
        let destinations = destinations::current(all, &attached, &self.listen)?;
        if destinations != self.destinations {
            destinations.store(self.store.settings());
            destinations.log_changes(&self.destinations);
            self.destinations = destinations;
        }
        self.cards.keep(&self.store, &self.destinations, &attached);
        let mut status = self.interfaces.status();
        self.cards.describe(&mut status);
        self.status.store(Arc::new(status));
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
        let mut reconciled = Instant::now();
        // Whether something has changed since then, and how long it has to wait.
        let mut changed = false;
        let mut rest = SHORTEST_INTERVAL;
        let mut warned: Option<Instant> = None;
        loop {
            let limit = if changed { rest.saturating_sub(reconciled.elapsed()) } else { CHECK_INTERVAL };
            match self.notifications.wait(&stop, limit) {
                Woken::Stop => {
                    self.interfaces.leave();
                    return Ok(());
                }
                Woken::Change => changed = true,
                Woken::Time => (),
            }
            self.cards.keep(&self.store, &self.destinations, &self.interfaces.attached());
            let now = Instant::now();
            let since = now - reconciled;
            if since < rest {
                continue;
            }
            if changed || since >= RECONCILE_INTERVAL || self.interfaces.needs_reconcile(now) {
                let result = self.reconcile();
                reconciled = Instant::now();
                // What could not be found out is still to be.
                changed = result.is_err();
                rest = if changed { RETRY_INTERVAL } else { SHORTEST_INTERVAL };
                if let Err(error) = result
                    && warned.is_none_or(|warned| warned.elapsed() >= SHORTEST_WARNING_INTERVAL)
                {
                    warned = Some(reconciled);
                    tracing::warn!("cannot follow the network interfaces, and tries again: {error:#}");
                }
            }
        }
    }
}
