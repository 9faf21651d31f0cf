//! The log lines at the start: memory, XDP, sockets, and the URLs for clients.

use crate::{
    config::Startup,
    listen::Place,
    store::sizes::Sizes,
    text::{human_bytes, plural},
    xdp::{Loaded, XdpMode, netlink},
};
use std::net::{IpAddr, SocketAddr};
use tracing::info;

/// Announce URLs shown per protocol.
const URLS: usize = 8;

/// The target of lines with URLs: RUST_LOG=info,url=off leaves them out, where other URLs are
/// published.
const URL: &str = "url";

/// Logs what has been started, and the URLs for clients.
pub(super) fn log_startup(
    startup: &Startup,
    sizes: &Sizes,
    loaded: Option<&Loaded>,
    udp: &[SocketAddr],
    [public, secure, operator]: [&[Place]; 3],
) {
    let capacity = &startup.capacity;
    info!("tracker {} is running", env!("CARGO_PKG_VERSION"));
    let regions: Vec<_> =
        sizes.regions().iter().map(|region| format!("{} {}", region.name, human_bytes(region.bytes()))).collect();
    info!(
        "memory: {} for {capacity}, {} ({})",
        human_bytes(sizes.bytes()),
        if loaded.is_some() { "all of it taken now, by the kernel" } else { "taken as it fills" },
        regions.join(", ")
    );
    if let Some(loaded) = loaded {
        let load_time = loaded.load_time.map(|time| format!("loaded in {} ms", time.as_millis()));
        info!(
            "XDP program: {}{}",
            load_time.as_deref().unwrap_or("there already"),
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
    let threads = plural(startup.http_threads as u64, "thread", "threads");
    for (name, places) in [("HTTP", public), ("HTTPS", secure), ("the operator's HTTP", operator)] {
        if !places.is_empty() {
            let places: Vec<_> = places.iter().map(short).collect();
            info!("{name}: {} with {threads}", places.join(", "));
        }
    }
    let addresses = |places: &[Place]| places.iter().filter_map(Place::address).collect::<Vec<_>>();
    let operator = addresses(if operator.is_empty() { public } else { operator });
    let (http, secure) = (&addresses(public)[..], &addresses(secure)[..]);
    let local: Vec<IpAddr> = netlink::addresses().unwrap_or_default().into_iter().map(|local| local.address).collect();
    for (scheme, listening) in [("udp", udp), ("http", http), ("https", secure)] {
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
    }
    if let Some(url) = urls("http", &operator, &local).first() {
        info!(target: URL, "statistics: {url}/stats, for whom --admin-from names");
    }
    // What is pinned keeps the key, until the machine starts anew.
    if startup.state_dir.is_none() && loaded.and_then(Loaded::pins).is_none() {
        info!(
            "the connection id key is new at every start; --state-dir keeps it, and clients notice nothing of a restart"
        );
    }
}

/// A place without its protocol.
fn short(place: &Place) -> String {
    match place {
        Place::Udp(address) | Place::Tcp(address) => address.to_string(),
        Place::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// Advice: which interface should have the XDP program.
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
    // A link-local address needs the name of an interface, which a URL has no place for.
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
