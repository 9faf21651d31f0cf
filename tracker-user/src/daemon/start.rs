//! Starts everything in order, tells the operator what has come of it, and stops everything in order.
//!
//! Sockets are bound first: a port that is taken is the most common mistake, and nothing has been touched by then. The XDP
//! program is attached with its addresses still unset, so that it passes everything on until the store is ready. Interfaces that
//! are not there yet are no obstacle: [`Watch`] attaches to them when they come.

use crate::{
    config::{Configuration, Startup, live::Handles},
    daemon::{signals::Signals, sites, warnings},
    http,
    service::Shutdown,
    statistics::Statistics,
    store::{
        Store, clock, keys,
        sizes::Sizes,
        sweep::{self, LatestTotals},
    },
    text::{human_bytes, plural},
    udp,
    xdp::{self, KernelCounters, Loaded, Program, Watch, XdpMode, netlink},
};
use anyhow::{Context as _, ensure};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    thread::JoinHandle,
};
use tracing::{info, warn};

/// Announce URLs shown per protocol.
const URLS: usize = 8;

/// The target of lines with URLs: RUST_LOG=info,url=off leaves them out where somebody else knows better ones.
const URL: &str = "url";

/// Runs the tracker until SIGTERM or SIGINT.
///
/// # Errors
/// When something cannot be started; nothing is left behind then.
pub fn run(configuration: &Configuration, signals: &Signals) -> anyhow::Result<()> {
    let Configuration { startup, live } = configuration;
    ensure!(!startup.udp.is_empty() || !startup.http.is_empty(), "nothing to do: --udp and --http are both off");
    raise_file_limit(live.http.connections);
    let udp = udp::bind_all(&startup.udp, startup.udp_threads)?;
    let http = http::bind_all(&startup.http, startup.http_threads)?;
    let missing = missing(&udp, &http);
    let udp_addresses: Vec<_> = udp.iter().map(|listener| listener.address).collect();
    let http_addresses: Vec<_> = http.iter().map(|listener| listener.address).collect();

    let sizes = Sizes::new(&startup.limits)?;
    let interfaces = xdp::status::Interfaces::default();
    let mut kernel = load(startup, &sizes, &interfaces)?;
    let store = match &mut kernel {
        Some(kernel) => kernel.store.take(),
        None => None,
    };
    let store = Arc::new(match store {
        Some(store) => store,
        None => {
            xdp::memory_limit::warn_of_overcommitment(&sizes);
            Store::anonymous(&sizes)?
        }
    });
    keys::set(&store, startup.state_dir.as_deref())?;
    let handles = Handles::default();
    live.apply(store.settings(), &handles);

    let shutdown = Shutdown::default();
    let mut threads = vec![clock::start(store.clone(), shutdown.clone()).context("cannot start the clock")?];
    let counters = kernel.as_mut().and_then(|kernel| kernel.counters.take());
    let loaded = kernel.map(|kernel| Arc::new(kernel.program.keep()));
    let watch = match &loaded {
        Some(loaded) => {
            let options = xdp::watch::Options {
                names: startup.interfaces.clone(),
                mode: startup.xdp_mode,
                force: startup.force,
                listen: udp_addresses.clone(),
                shown: interfaces.clone(),
            };
            Some(Watch::start(loaded.clone(), store.clone(), options)?)
        }
        None => None,
    };
    let totals = Arc::new(LatestTotals::default());
    threads.push(
        sweep::start(&store, handles.timeouts.clone(), totals.clone(), shutdown.clone())
            .context("cannot start the removal of expired peers")?,
    );
    let statistics = Arc::new(Statistics::new(store.clone(), totals, counters, interfaces));
    warn_of_small_buffers(&udp);
    for listener in udp {
        listener.watch(&statistics.udp_drops);
        threads.extend(listener.serve(&store, &shutdown)?);
    }

    threads.push(
        warnings::start(statistics.clone(), missing, shutdown.clone()).context("cannot start the thread that warns")?,
    );
    let bindings = sites::shared(http, &store, handles.full_scrape.clone(), &statistics);
    let http_counters = statistics.http.engine.clone();
    threads.extend(http::serve(bindings, handles.http.clone(), http_counters, &shutdown)?);
    log_startup(startup, &sizes, loaded.as_deref(), &udp_addresses, &http_addresses);

    signals.wait();
    // From here on the sockets answer what the program would have answered, until they are closed as well.
    drop(watch);
    shutdown.begin();
    join(threads);
    info!("stopped");
    Ok(())
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        // A thread that panicked has said so.
        let _ = thread.join();
    }
}

/// Addresses that this host does not have yet, with their protocols.
fn missing(udp: &[udp::Listener], http: &[http::Listener]) -> Vec<(&'static str, SocketAddr)> {
    let udp = udp.iter().filter(|listener| listener.missing).map(|listener| ("UDP", listener.address));
    let http = http.iter().filter(|listener| listener.missing).map(|listener| ("HTTP", listener.address));
    udp.chain(http).collect()
}

/// What the kernel side consists of.
struct Kernel {
    program: Program,
    store: Option<Store>,
    counters: Option<KernelCounters>,
}

/// Loads the XDP program if it is wanted. In mode auto it may be missing.
fn load(startup: &Startup, sizes: &Sizes, shown: &xdp::status::Interfaces) -> anyhow::Result<Option<Kernel>> {
    if startup.xdp_mode == XdpMode::Off || startup.interfaces.is_empty() {
        return Ok(None);
    }
    xdp::wait_for_interfaces(&startup.interfaces, startup.xdp_mode)?;
    let load = || -> anyhow::Result<_> {
        xdp::check_system()?;
        let mut program = Program::load(sizes)?;
        Ok((program.store(sizes)?, program.counters()?, program))
    };
    match load() {
        Ok((store, counters, program)) => Ok(Some(Kernel { program, store: Some(store), counters: Some(counters) })),
        Err(error) if startup.xdp_mode == XdpMode::Auto => {
            warn!("no XDP, UDP is answered by sockets only: {error:#}");
            let off = |name: &String| xdp::status::Interface {
                name: name.clone(),
                mode: "off".into(),
                note: format!("{error:#}"),
            };
            shown.set(startup.interfaces.iter().map(off).collect());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Every HTTP connection takes a file descriptor, and a few more are needed besides.
fn raise_file_limit(connections: usize) {
    let wanted = connections as libc::rlim_t + 256;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place to write to.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 || limit.rlim_cur >= wanted {
        return;
    }
    let possible = libc::rlimit { rlim_cur: wanted.min(limit.rlim_max), ..limit };
    // SAFETY: `possible` is valid to read from.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const possible) } == 0;
    if !raised || possible.rlim_cur < wanted {
        warn!(
            "only {} files may be open at a time, too few for --http-connections {connections}: raise the limit (ulimit \
             -Hn, or LimitNOFILE= of the service) or lower the option",
            limit.rlim_max
        );
    }
}

/// Small receive buffers lose packets in bursts.
fn warn_of_small_buffers(udp: &[udp::Listener]) {
    let wanted = udp::receive_buffer_wanted();
    if let Some(size) = udp.first().and_then(udp::receive_buffer).filter(|size| *size < wanted) {
        info!(
            "UDP sockets may buffer {} instead of {}: net.core.rmem_max={wanted} (sysctl) lets them take bursts",
            human_bytes(size as u64),
            human_bytes(wanted as u64)
        );
    }
}

/// Tells the operator what clients can use and what has come of it all.
fn log_startup(startup: &Startup, sizes: &Sizes, loaded: Option<&Loaded>, udp: &[SocketAddr], http: &[SocketAddr]) {
    let limits = &startup.limits;
    info!("tracker {} is running", env!("CARGO_PKG_VERSION"));
    let regions: Vec<_> =
        sizes.regions().iter().map(|region| format!("{} {}", region.name, human_bytes(region.bytes()))).collect();
    info!(
        "memory: {} for {limits}, {} ({})",
        human_bytes(sizes.bytes()),
        if loaded.is_some() { "all of it taken now, by the kernel" } else { "taken as it fills" },
        regions.join(", ")
    );
    if let Some(loaded) = loaded {
        info!(
            "XDP program: loaded in {} ms{}",
            loaded.load_time.as_millis(),
            loaded.verified_instructions.map_or_else(String::new, |count| format!(", {count} instructions verified"))
        );
    }
    if startup.interfaces.is_empty() && startup.xdp_mode != XdpMode::Off {
        info!("sockets answer UDP; {}", how_to_get_xdp());
    }
    let list = |addresses: &[SocketAddr]| addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
    if !udp.is_empty() {
        let threads = plural(startup.udp_threads as u64, "thread", "threads");
        info!("UDP sockets: {} with {threads} each", list(udp));
    }
    if !http.is_empty() {
        let threads = plural(startup.http_threads as u64, "thread", "threads");
        info!("HTTP: {} with {threads}", list(http));
    }
    let local: Vec<IpAddr> = netlink::addresses().unwrap_or_default().into_iter().map(|local| local.address).collect();
    for (scheme, listening) in [("udp", udp), ("http", http)] {
        let urls = urls(scheme, listening, &local);
        for url in urls.iter().take(URLS) {
            info!(target: URL, "announce URL: {url}/announce");
        }
        if urls.len() > URLS {
            info!(target: URL, "and {} more", urls.len() - URLS);
        }
    }
    if let Some(url) = urls("http", http, &local).first() {
        info!(target: URL, "old announce URLs are answered as well: {url}/announce.php, {url}/announce/KEY and the like");
        info!(target: URL, "statistics: {url}/stats");
    }
    if startup.state_dir.is_none() {
        info!(
            "the connection id key is new at every start; --state-dir keeps it, and clients notice nothing of a restart"
        );
    }
}

/// Which interface would be worth an XDP program.
fn how_to_get_xdp() -> String {
    let interfaces = netlink::interfaces().unwrap_or_default();
    let routes = netlink::default_route_interfaces().unwrap_or_default();
    let named: Vec<_> = interfaces
        .iter()
        .filter(|interface| routes.contains(&interface.index) && interface.mac.is_some())
        .map(|interface| format!("--interface {}", interface.name))
        .collect();
    if named.is_empty() {
        "add --interface with the interface that clients come in by to have XDP answer there, which is several times faster"
            .into()
    } else {
        format!(
            "add {} (which has the default route) to have XDP answer there, which is several times faster",
            named.join(" ")
        )
    }
}

/// `SCHEME://ADDRESS:PORT` for every concrete address: those that others can reach first.
fn urls(scheme: &str, listening: &[SocketAddr], local: &[IpAddr]) -> Vec<String> {
    let mut addresses = Vec::new();
    for listen in listening {
        if listen.ip().is_unspecified() {
            let same_family = local.iter().filter(|address| address.is_ipv4() == listen.is_ipv4());
            addresses.extend(same_family.map(|address| SocketAddr::new(*address, listen.port())));
        } else {
            addresses.push(*listen);
        }
    }
    // An address that is valid on one link only takes an interface name, which a URL has no place for.
    addresses.retain(|address| match address.ip() {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    });
    addresses.sort_by_key(|address| address.ip().is_loopback());
    addresses.dedup();
    addresses.iter().map(|address| format!("{scheme}://{address}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announce_urls_name_concrete_addresses_and_loopback_last() {
        let listening = ["0.0.0.0:6969", "[::]:6969", "192.0.2.7:80"].map(|a| a.parse().expect("an address"));
        let local = ["127.0.0.1", "::1", "10.0.0.2", "fe80::2", "2001:db8::2"].map(|a| a.parse().expect("an address"));
        assert_eq!(
            urls("udp", &listening, &local),
            [
                "udp://10.0.0.2:6969",
                "udp://[2001:db8::2]:6969",
                "udp://192.0.2.7:80",
                "udp://127.0.0.1:6969",
                "udp://[::1]:6969"
            ]
        );
    }
}
