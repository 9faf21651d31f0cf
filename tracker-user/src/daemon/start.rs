//! Starts everything in order, and stops everything in order.
//!
//! Sockets are bound first: a port that is taken is the most common mistake, and nothing has been
//! touched by then. The XDP program is attached when the store is ready. Interfaces that are not
//! there yet are no obstacle: [`Watch`] attaches to them when they come.

use super::{
    doors::Doors,
    handover::{self, Handover},
    signals::{Asked, Signals},
    sites,
    startup_log::log_startup,
    systemd::{self, Watchdog},
    warnings::Warnings,
};
use crate::{
    admission::{
        LEAST_ROOM, Lists,
        addresses::{Addresses, Changes, Contents},
    },
    api,
    cluster::{Cluster, Meters, Plan, Ring},
    config::{Configuration, Options, Startup, live::Handles},
    confine,
    control::{
        Control, Parts, Reload,
        file_limit::raise_file_limit,
        lists::{Counts, Known},
    },
    http::{
        self,
        tls::{Certificates, certificates::Watch as CertificateWatch},
    },
    listen::Inherited,
    service::Services,
    snapshot::{self, Periodic, Saver},
    statistics::{Sampler, Statistics, energy::Meter},
    store::{CounterSet, Store, clock::Clock, huge_pages, keys, sizes::Sizes, sweep::Sweeper, totals::LatestTotals},
    udp,
    xdp::{self, Loaded, Watch, pins::Directory, tune::Undone},
};
use anyhow::ensure;
use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc};
use tracing::{info, warn};
use tracker_common::store::repair::Repaired;

/// Runs the tracker until SIGTERM or SIGINT, with what these options come to. With each SIGHUP the configuration is read again. On
/// SIGUSR2 it returns what makes way for the next one.
///
/// # Errors
/// When a part cannot be started. Everything that was started before is stopped then.
pub fn run(
    (options, configuration): (Options, &Configuration),
    reload: Reload,
    signals: &Signals,
) -> anyhow::Result<Option<Handover>> {
    let Configuration { startup, live } = configuration;
    ensure!(startup.listens(), "nothing to do: --udp and --http are both off");
    raise_file_limit(live.http.connections);
    // Of those that are declared, the last one to end.
    let mut watchdog_services = Services::default();
    let watchdog = Watchdog::default();
    watchdog_services.spawn(watchdog.clone())?;
    let mut inherited = Inherited::of_this_process()?;
    handover::make_way(&mut inherited, startup);
    let udp = udp::bind_all(&startup.udp, startup.udp_threads, &mut inherited)?;
    // Right after that, as what is dropped during the start is of this tracker.
    let drops = udp::Drops::default();
    udp.iter().for_each(|listener| listener.watch(&drops));
    let mut doors = Doors::bind(startup, &mut inherited)?;
    let handover = Handover::new(&udp, &doors)?;
    let closed = handover::close(inherited);
    let missing = missing(&udp, &doors);
    let udp_addresses: Vec<_> = udp.iter().map(|listener| listener.address).collect();
    doors.udp = udp_addresses.iter().map(SocketAddr::port).collect::<BTreeSet<_>>().into_iter().collect();
    let public: Vec<_> = doors.public.iter().map(|listener| listener.place.clone()).collect();
    let secure: Vec<_> = doors.secure.iter().map(|listener| listener.place.clone()).collect();
    let operator: Vec<_> = doors.operator.iter().map(|listener| listener.place.clone()).collect();

    let lists = Lists::read(&live.lists)?;
    let sizes = Sizes::new(&startup.capacity)?;
    // Entries may come while it runs.
    let api_is_on = startup.api.is_on();
    let sizes = lists.room().or(api_is_on.then_some(LEAST_ROOM)).map_or(Ok(sizes), |room| sizes.with_listed(room))?;
    let contents = Contents::read(&live.addresses)?;
    let addresses = contents.with(&Changes::default())?;
    let blocks = addresses.room()?.or(api_is_on.then(Addresses::least_room));
    let sizes = Sizes { block_words: blocks.unwrap_or(sizes.block_words), ..sizes };
    let interfaces = xdp::status::LatestStatus::default();
    let wish = xdp::Wish {
        names: &startup.interfaces,
        mode: startup.xdp_mode,
        sizes: &sizes,
        pins: &startup.pins,
        tune: startup.tune,
    };
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
    let energy = Meter::open();
    confine::confine(&startup.privileges, &needs(configuration, &reload, loaded.as_deref()))?;
    // A daemon that was killed while it filled the store has left it for the next one to fill.
    let taken_over = store.settings().filled.load() != 0;
    repair(&store);
    keys::set_with(&store, startup.state_dir.as_deref(), live.announces.max_peers_per_address != 0)?;
    let handles = Handles::default();
    live.apply(store.settings(), &handles);
    // What lists refuse is removed as if it had expired.
    let remover = store.handle(CounterSet::Expiry);
    let stored = store.pools().swarms.used.load() != 0;
    lists.apply(&remover, stored)?;
    let known = Known { counts: Counts::of(&lists, &addresses), addresses: api_is_on.then_some(contents) };
    drop(lists);
    let totals = Arc::new(LatestTotals::default());
    let mut statistics = Statistics::new(store.clone(), totals.clone(), counters, interfaces.clone());
    // What XDP counted for the lists of the tracker before is not known to be of these.
    addresses.apply(&remover, &handles.block_lists, &statistics.blocked(), stored)?;
    statistics.udp_drops = drops;
    statistics.block_lists = handles.block_lists.clone();
    statistics.http_limits = handles.http.clone();
    statistics.energy = Some(energy);
    let meters = startup.cluster.as_ref().map(|plan| Arc::new(Meters::of(plan)));
    statistics.cluster.clone_from(&meters);
    // A store that is taken over may be told of no more.
    store.settings().tell_every.store(0);
    let statistics = Arc::new(statistics);
    // Before a snapshot is loaded, which may find no room.
    let warnings = Warnings::new(statistics.clone(), missing.clone());

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
        let save_at_once = taken_over || {
            let taken = snapshot::load(&store, plan, live.timeouts);
            statistics.inherit(taken.peers);
            taken.save_at_once
        };
        (Saver::new(store.clone(), plan.clone()), save_at_once)
    });
    store.settings().filled.store(1);
    services.spawn(clock)?;
    if let Some(loaded) = &loaded {
        let options = watch_options(startup, &udp_addresses, interfaces);
        xdp_services.spawn(Watch::attach(loaded.clone(), store.clone(), options)?)?;
    }
    let sweeper = Sweeper::new(&store, handles.timeouts.clone(), totals);
    services.spawn(sweeper.log_completed(handles.log_completed.clone()))?;
    services.spawn(Sampler(statistics.clone()))?;
    if let Some((saver, at_once)) = &saver {
        services.spawn(Periodic::new(saver.clone(), *at_once))?;
    }
    services.spawn(warnings)?;
    if let Some((plan, meters)) = startup.cluster.clone().zip(meters) {
        let (store, statistics) = (store.clone(), statistics.clone());
        let ring = loaded.as_deref().map(Ring::of).transpose()?;
        let pulse = Box::new(move || {
            let (torrents, peers) = statistics.latest();
            // A node that has torrents is worth asking before a sweep has counted their peers.
            (statistics.announces(), peers.max(torrents.min(1)))
        });
        services.spawn(Cluster { plan, store, ring, meters, pulse })?;
    }
    udp::warn_of_small_buffers(&udp);
    signals.end_in_order();
    for listener in udp {
        listener.serve(&store, &mut services)?;
    }
    let certificates = doors.certificates.clone();
    if let Some(certificates) = &certificates {
        services.spawn(CertificateWatch(certificates.clone()))?;
    }
    let api = std::mem::take(&mut doors.api);
    let api_places = api.places();
    let bindings = sites::bindings(doors, &store, &handles, &statistics);
    http::serve(bindings, handles.http.clone(), statistics.http.engine.clone(), &mut http_services)?;
    log_startup(startup, &sizes, loaded.as_deref(), &udp_addresses, [&public, &secure, &operator]);

    if let Some(loaded) = &loaded {
        loaded.settle();
    }
    watchdog.watch(Some(store));
    handover.tell_systemd(&closed);
    let parts = Parts {
        startup: startup.clone(),
        handles,
        certificates: certificates.clone(),
        saver: saver.as_ref().map(|(saver, _)| saver.clone()),
        xdp: loaded.clone(),
        statistics,
        missing,
    };
    let control = Control::new(reload, parts, (options, live.clone()), remover, known);
    if !api_places.is_empty() {
        http_services.spawn(api::Server::new(api, control.clone()))?;
        info!("the admin API: {}", api_places.join(", "));
    }
    let replaced = loop {
        match signals.wait() {
            Asked::Stop => break false,
            Asked::Reload => {
                systemd::reloading();
                // It has said what was wrong.
                let _ = control.reload();
                systemd::ready();
            }
            Asked::Replace => match try_out(&handover, startup, &control, certificates.as_deref()) {
                Ok(()) => break true,
                Err(error) => {
                    warn!("this tracker goes on, as no other can take its place: {error:#}");
                    signals.go_on();
                }
            },
        }
    };
    watchdog.watch(None);
    control.end();
    if replaced {
        systemd::reloading();
    } else {
        systemd::stopping();
    }
    drop(xdp_services);
    if let Some(pins) = loaded.as_deref().and_then(Loaded::pins) {
        end_pins(pins, startup.detach_on_stop && !replaced);
    }
    if let Some(loaded) = &loaded {
        loaded.tuning.end();
    }
    // HTTP last: UDP threads may take some time to notice, and XDP answers meanwhile.
    drop(services);
    drop(http_services);
    // Saving may take seconds. In sockets that are held open for no other process, requests would be
    // lost without a word meanwhile.
    let handover = replaced.then_some(handover);
    if let Some((saver, _)) = saver {
        saver.save_at_end();
    }
    info!("stopped");
    Ok(handover)
}

/// What the tracker has to be able to do from here on.
fn needs(configuration: &Configuration, reload: &Reload, loaded: Option<&Loaded>) -> confine::Needs {
    let Configuration { startup, live } = configuration;
    let lists = live.lists.allow.iter().chain(&live.lists.deny).chain(&live.addresses.block);
    let lists = lists.chain(&live.addresses.allow).cloned();
    let certificates = startup.certificate.iter().flat_map(|files| [files.certificate.clone(), files.key.clone()]);
    let token = live.access.token_file.iter().chain(&live.api.token_file).cloned();
    let object = std::env::var_os(xdp::object::VARIABLE).map(PathBuf::from);
    let Startup { udp, http, https, admin, api, .. } = startup;
    let endpoints = [udp, http, https, admin, &api.endpoints, &api.secure];
    let cluster = startup.cluster.as_ref();
    let files = reload.file().into_iter().chain(lists).chain(certificates).chain(token).chain(object);
    confine::Needs {
        xdp: loaded.is_some(),
        force: startup.force,
        tune: loaded.is_some_and(|loaded| loaded.tuning.is_needed()),
        low_ports: endpoints.into_iter().flatten().any(|endpoint| endpoint.address.port() < 1024),
        long_buffers: !startup.udp.is_empty() && udp::has_longer_buffers_than_allowed(),
        state_dir: startup.state_dir.clone(),
        pins: loaded.and_then(Loaded::pins).map(|pins| pins.path().to_owned()),
        files: files.chain(cluster.into_iter().flat_map(Plan::files)).collect(),
        ports: cluster.map(Plan::ports).unwrap_or_default(),
        sockets: confine::root::sockets_of_the_system(startup.log_format.journal()),
    }
}

/// Makes sure that the next tracker can take this one's place.
fn try_out(
    handover: &Handover,
    startup: &Startup,
    control: &Control,
    certificates: Option<&Certificates>,
) -> anyhow::Result<()> {
    certificates.map_or(Ok(()), Certificates::reload)?;
    handover.try_out(&startup.privileges, control.file().as_deref())
}

/// What becomes of the pins when the tracker is stopped.
fn end_pins(pins: &Directory, detach: bool) {
    let path = pins.path().display();
    if !detach {
        info!(
            "XDP goes on answering without this process, until a tracker takes over or `tracker detach --pin-path {path}`"
        );
    } else {
        match pins.take_down() {
            Ok(cleared) => cleared.undone.iter().for_each(Undone::log),
            Err(error) => warn!("cannot take down what is pinned in {path}: {error:#}"),
        }
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
fn missing(udp: &[udp::Listener], doors: &Doors) -> Vec<(&'static str, SocketAddr)> {
    let udp = udp.iter().filter(|listener| listener.missing).map(|listener| ("UDP", listener.address));
    let http = doors.all().filter(|listener| listener.missing).filter_map(|listener| listener.place.address());
    let http = http.map(|address| ("HTTP", address));
    udp.chain(http).collect()
}
