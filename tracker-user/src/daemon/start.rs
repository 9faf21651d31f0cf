//! Starts everything in order, and stops everything in order.
//!
//! Sockets are bound first: a port that is taken is the most common mistake, and nothing has been
//! touched by then. The XDP program is attached when the store is ready. Interfaces that are not
//! there yet are no obstacle: [`Watch`] attaches to them when they come.

use super::{
    file_limit::raise_file_limit,
    handover::{self, Handover},
    reload::Reload,
    signals::{Asked, Signals},
    sites,
    startup_log::log_startup,
    warnings::Warnings,
};
use crate::{
    admission::Lists,
    config::{Configuration, Startup, live::Handles},
    http,
    listen::Inherited,
    service::Services,
    snapshot::{self, Periodic, Saver},
    statistics::{Sampler, Statistics},
    store::{CounterSet, Store, clock::Clock, huge_pages, keys, sizes::Sizes, sweep::Sweeper, totals::LatestTotals},
    udp,
    xdp::{self, Loaded, Watch, pins::Directory},
};
use anyhow::ensure;
use std::{net::SocketAddr, sync::Arc};
use tracing::{info, warn};
use tracker_common::store::repair::Repaired;

/// Runs the tracker until SIGTERM or SIGINT. With each SIGHUP the configuration is read again. On
/// SIGUSR2 it returns what makes way for the next one.
///
/// # Errors
/// When a part cannot be started. Everything that was started before is stopped then.
pub fn run(configuration: &Configuration, reload: &Reload, signals: &Signals) -> anyhow::Result<Option<Handover>> {
    let Configuration { startup, live } = configuration;
    ensure!(!startup.udp.is_empty() || !startup.http.is_empty(), "nothing to do: --udp and --http are both off");
    raise_file_limit(live.http.connections);
    let mut inherited = Inherited::of_this_process()?;
    let udp = udp::bind_all(&startup.udp, startup.udp_threads, &mut inherited)?;
    let http = http::bind_all(&startup.http, startup.http_threads, &mut inherited)?;
    let handover = Handover::new(&udp, &http)?;
    let closed = handover::close(inherited);
    let missing = missing(&udp, &http);
    let udp_addresses: Vec<_> = udp.iter().map(|listener| listener.address).collect();
    let http_addresses: Vec<_> = http.iter().map(|listener| listener.address).collect();

    let lists = Lists::read(&live.lists)?;
    let sizes = Sizes::new(&startup.capacity)?;
    let sizes = lists.room().map_or(Ok(sizes), |room| sizes.with_listed(room))?;
    let interfaces = xdp::status::LatestStatus::default();
    let wish = xdp::Wish { names: &startup.interfaces, mode: startup.xdp_mode, sizes: &sizes, pins: &startup.pins };
    let (store, counters, loaded) = match xdp::load(&wish, &interfaces)? {
        Some(xdp::Kernel { store, counters, loaded }) => {
            if startup.huge_pages {
                huge_pages::say_that_maps_have_none();
            }
            (store, Some(counters), Some(Arc::new(loaded)))
        }
        None => (anonymous(&sizes, startup.huge_pages)?, None, None),
    };
    let store = Arc::new(store);
    // A daemon that was killed while it filled the store has left it for the next one to fill.
    let taken_over = store.settings().filled.load() != 0;
    repair(&store);
    keys::set_with(&store, startup.state_dir.as_deref(), live.announces.max_peers_per_address != 0)?;
    let handles = Handles::default();
    live.apply(store.settings(), &handles);
    // What lists refuse is removed as if it had expired.
    let remover = store.handle(CounterSet::Expiry);
    lists.apply(&remover, store.pools().swarms.used.load() != 0)?;
    drop(lists);
    let totals = Arc::new(LatestTotals::default());
    let statistics = Arc::new(Statistics::new(store.clone(), totals.clone(), counters, interfaces.clone()));

    // Dropped in reverse order: when XDP ends, the sockets still answer what the program would have
    // answered.
    let mut http_services = Services::default();
    let mut services = Services::default();
    let mut xdp_services = Services::default();
    let clock = Clock::new(store.clone());
    let saver = startup.snapshot.as_ref().map(|plan| {
        // Before anybody is answered: a peer that announces meanwhile would have to be told of half
        // a swarm, and what is loaded would be newer than what it says.
        // What is taken over is newer than any file; only what the file may not hold any more goes.
        let save_at_once = taken_over || snapshot::load(&store, plan, live.timeouts);
        (Saver::new(store.clone(), plan.clone()), save_at_once)
    });
    store.settings().filled.store(1);
    services.spawn(clock)?;
    if let Some(loaded) = &loaded {
        let options = watch_options(startup, &udp_addresses, interfaces);
        xdp_services.spawn(Watch::attach(loaded.clone(), store.clone(), options)?)?;
    }
    services.spawn(Sweeper::new(&store, handles.timeouts.clone(), totals))?;
    services.spawn(Sampler(statistics.clone()))?;
    if let Some((saver, at_once)) = &saver {
        services.spawn(Periodic::new(saver.clone(), *at_once))?;
    }
    services.spawn(Warnings::new(statistics.clone(), missing))?;
    udp::warn_of_small_buffers(&udp);
    for listener in udp {
        listener.watch(&statistics.udp_drops);
        listener.serve(&store, &mut services)?;
    }
    let bindings = sites::shared(http, &store, handles.full_scrape.clone(), &statistics);
    http::serve(bindings, handles.http.clone(), statistics.http.engine.clone(), &mut http_services)?;
    log_startup(startup, &sizes, loaded.as_deref(), &udp_addresses, &http_addresses);

    if let Some(loaded) = &loaded {
        loaded.settle();
    }
    handover.tell_systemd(&closed);
    let mut live = live.clone();
    let replaced = loop {
        match signals.wait() {
            Asked::Stop => break false,
            Asked::Reload => live = reload.apply(startup, live, &remover, &handles),
            Asked::Replace => match handover.try_out(reload.file().as_deref()) {
                Ok(()) => break true,
                Err(error) => {
                    warn!("this tracker goes on, as no other can take its place: {error:#}");
                    signals.go_on();
                }
            },
        }
    };
    drop(xdp_services);
    if let Some(pins) = loaded.as_deref().and_then(Loaded::pins) {
        end_pins(pins, startup.detach_on_stop && !replaced);
    }
    // HTTP last: UDP threads may take some time to notice, and XDP answers meanwhile.
    drop(services);
    drop(http_services);
    if let Some((saver, _)) = saver {
        saver.save_at_end();
    }
    info!("stopped");
    Ok(replaced.then_some(handover))
}

/// What becomes of the pins when the tracker is stopped.
fn end_pins(pins: &Directory, detach: bool) {
    let path = pins.path().display();
    if !detach {
        info!(
            "XDP goes on answering without this process, until a tracker takes over or `tracker detach --pin-path {path}`"
        );
    } else if let Err(error) = pins.take_down() {
        warn!("cannot take down what is pinned in {path}: {error:#}");
    }
}

/// Brings into order what a daemon that was killed has left behind in a store that is taken over.
/// Before anything else uses it, and before its clock is set.
fn repair(store: &Arc<Store>) {
    let Repaired { threads, locks, swarms, in_doubt } = store.repair();
    if threads > 0 {
        info!(threads, locks, swarms, in_doubt, "what the last tracker was killed at has been repaired");
    }
}

/// The store in ordinary memory.
fn anonymous(sizes: &Sizes, huge_pages: bool) -> anyhow::Result<Store> {
    xdp::memory_limit::warn_of_overcommitment(sizes);
    let store = Store::anonymous(sizes)?;
    if huge_pages {
        huge_pages::ask(&store);
    }
    Ok(store)
}

fn watch_options(startup: &Startup, listen: &[SocketAddr], status: xdp::status::LatestStatus) -> xdp::watch::Options {
    xdp::watch::Options {
        names: startup.interfaces.clone(),
        mode: startup.xdp_mode,
        force: startup.force,
        listen: listen.to_vec(),
        status,
    }
}

/// Addresses that this host does not have yet, with their protocols.
fn missing(udp: &[udp::Listener], http: &[http::Listener]) -> Vec<(&'static str, SocketAddr)> {
    let udp = udp.iter().filter(|listener| listener.missing).map(|listener| ("UDP", listener.address));
    let http = http.iter().filter(|listener| listener.missing).map(|listener| ("HTTP", listener.address));
    udp.chain(http).collect()
}
