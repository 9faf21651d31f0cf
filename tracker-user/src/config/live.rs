//! What can change while the tracker runs: what clients are told, what they may take, and how
//! long they are remembered.

use super::{
    api::ApiAccess,
    invalid::{invalid, number},
    limits::RequestLimits,
    options::{ListeningOptions, OperatorOptions, Options, ProxyOptions, SwarmOptions},
    startup::names,
    value::Switch,
    values::{Overrides, put_over},
};
use crate::{
    admin::access::{Access, Token},
    admission::{self, addresses},
    http::{self, Trust, tracker::FullScrapeLimits},
    listen::{Network, Networks},
    logging::Filter,
    store::sweep::{LONGEST_PEER_TIMEOUT, Timeouts},
};
use arc_swap::ArcSwap;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tracker_common::{
    bep15::wire::{ANNOUNCE_REPLY_LEN, PEER_V4, PEER_V6},
    limits::table::MOST_PER_MINUTE,
    net::headers::Udp,
    settings::Settings,
    store::family::{Family as _, V4, V6},
};

/// The part of the configuration that can change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Live {
    /// What clients are told.
    pub announces: Announces,
    /// When peers and torrents expire.
    pub timeouts: Timeouts,
    /// What HTTP clients may take.
    pub http: http::Limits,
    /// What they may take of full scrapes.
    pub full_scrape: FullScrapeLimits,
    /// Whom to believe what they say about addresses.
    pub trust: Trust,
    /// Who may see the operator's pages.
    pub access: Access,
    /// Who may use the admin API.
    pub api: ApiAccess,
    /// How often one source may ask.
    pub limits: RequestLimits,
    /// Where it is said which torrents are served.
    pub lists: admission::Files,
    /// What is logged, if not what the environment says.
    pub log: Option<Filter>,
    /// Whether completed downloads are.
    pub log_completed: bool,
    /// Where it is said which addresses are blocked.
    pub addresses: addresses::AddressFiles,
}

/// What the reply to an announce says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announces {
    /// Seconds between announces.
    pub interval: u32,
    /// Seconds by which the interval varies in both directions.
    pub interval_jitter: u32,
    /// Peers given to a client that does not say how many it wants.
    pub default_numwant: u32,
    /// Most IPv4 peers given.
    pub max_numwant_v4: u32,
    /// Most IPv6 peers given.
    pub max_numwant_v6: u32,
    /// Whether peers with local addresses are returned to all clients, not only to those that can
    /// reach them.
    pub give_local_peers: bool,
    /// Most peers of one IPv4 address or IPv6 /64 in a swarm; 0 for no limit.
    pub max_peers_per_address: u32,
    /// Torrents and chunks that one address is given at once while little is left; 0 for no limit.
    pub creations_per_address: u32,
}

impl Default for Announces {
    fn default() -> Self {
        Self {
            interval: 1800,
            interval_jitter: 180,
            default_numwant: 50,
            max_numwant_v4: 200,
            // As many as [`PATH_MTU_V6`] has room for.
            max_numwant_v6: 67,
            give_local_peers: false,
            max_peers_per_address: 8,
            creations_per_address: 64,
        }
    }
}

/// The longest packet over IPv4, in bytes: what nearly every path to a client carries.
const PATH_MTU_V4: u64 = 1452;

/// The same over IPv6: what every link has to carry.
const PATH_MTU_V6: u64 = 1280;

/// Peers of an address are in one part of a swarm, which has room for more than these over either
/// version of IP.
const MOST_PEERS_PER_ADDRESS: u32 = 128;

/// A count of creations has 16 bits, also that of a network.
const MOST_CREATIONS: u64 = 8000;

/// Where the values are read from while the tracker runs.
#[derive(Clone, Debug, Default)]
pub struct Handles {
    /// By the sweep, at the beginning of each.
    pub timeouts: Arc<ArcSwap<Timeouts>>,
    /// By the HTTP threads, for each request.
    pub http: Arc<ArcSwap<http::Limits>>,
    /// By the HTTP threads, for each full scrape.
    pub full_scrape: Arc<ArcSwap<FullScrapeLimits>>,
    /// By the sweep, for each torrent.
    pub log_completed: Arc<AtomicBool>,
    /// By the HTTP threads, for each request.
    pub trust: Arc<ArcSwap<Trust>>,
    /// By the HTTP threads, for each request of the operator's.
    pub access: Arc<ArcSwap<Access>>,
    /// By the admin API, for each request.
    pub api: Arc<ArcSwap<ApiAccess>>,
    /// By the statistics.
    pub block_lists: addresses::InForce,
}

impl Live {
    /// Fills in the defaults and checks everything.
    ///
    /// # Errors
    /// The first option that is out of range or does not go with the others.
    pub(super) fn new(options: &Options) -> anyhow::Result<Self> {
        let announces = Announces::new(&options.swarms)?;
        let files = |paths: &Option<Vec<_>>| paths.clone().unwrap_or_default();
        Ok(Self {
            limits: RequestLimits::new(&options.limits)?,
            lists: admission::Files {
                allow: files(&options.access.allow_list),
                deny: files(&options.access.deny_list),
            },
            addresses: addresses::AddressFiles {
                block: files(&options.access.block_addresses),
                allow: files(&options.access.allow_addresses),
            },
            timeouts: timeouts(&options.swarms, &announces)?,
            log: options.log.log.clone(),
            log_completed: options.log.log_completed == Some(Switch::On),
            announces,
            http: http_limits(options)?,
            full_scrape: full_scrape(&options.listening)?,
            trust: trust(&options.proxies),
            access: access(&options.operator)?,
            api: ApiAccess::new(options)?,
        })
    }

    /// What these options, of which it is, come to if these values stand above them. No file is read.
    ///
    /// # Errors
    /// The first value that is out of range or does not go with the others.
    pub fn over(&self, options: &Options, overrides: &Overrides) -> anyhow::Result<Self> {
        let mut options = options.clone();
        put_over(&mut options, overrides)?;
        options.operator.admin_token_file = None;
        options.api.api_token_file = None;
        Ok(Self { access: self.access.clone(), api: self.api.clone(), ..Self::new(&options)? })
    }

    /// Names of the options that differ in another configuration.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        // Complete, but for what no option sets: a new field does not compile before it is here.
        let Self {
            announces,
            timeouts,
            http,
            full_scrape,
            trust,
            access,
            api,
            limits,
            lists,
            log,
            log_completed,
            addresses,
        } = self;
        let Trust { proxies, header, protocol, parameters } = trust;
        let Announces {
            interval,
            interval_jitter,
            default_numwant,
            max_numwant_v4,
            max_numwant_v6,
            give_local_peers,
            max_peers_per_address,
            creations_per_address,
        } = announces;
        let Timeouts { peer, torrent, torrent_completed } = timeouts;
        let told = &other.announces;
        let options = [
            ("interval", *interval != told.interval),
            ("interval-jitter", *interval_jitter != told.interval_jitter),
            ("default-numwant", *default_numwant != told.default_numwant),
            ("max-numwant", *max_numwant_v4 != told.max_numwant_v4),
            ("max-numwant-v6", *max_numwant_v6 != told.max_numwant_v6),
            ("give-local-peers", *give_local_peers != told.give_local_peers),
            ("max-peers-per-address", *max_peers_per_address != told.max_peers_per_address),
            ("max-creations-per-address", *creations_per_address != told.creations_per_address),
            ("peer-timeout", *peer != other.timeouts.peer),
            ("torrent-timeout", *torrent != other.timeouts.torrent),
            ("torrent-timeout-completed", *torrent_completed != other.timeouts.torrent_completed),
            ("http-connections", http.connections != other.http.connections),
            ("http-idle-timeout", http.idle_timeout != other.http.idle_timeout),
            ("https-handshakes", http.handshakes != other.http.handshakes),
            ("limit-handshakes", http.handshakes_per_minute != other.http.handshakes_per_minute),
            ("full-scrape", full_scrape.enabled != other.full_scrape.enabled),
            ("full-scrape-from", full_scrape.networks != other.full_scrape.networks),
            ("full-scrape-pause", full_scrape.pause != other.full_scrape.pause),
            ("proxy-from", *proxies != other.trust.proxies),
            ("proxy-header", *header != other.trust.header),
            ("proxy-protocol-from", *protocol != other.trust.protocol),
            ("ip-parameter-from", *parameters != other.trust.parameters),
            ("admin-from", access.networks != other.access.networks),
            ("admin-token-file", access.token != other.access.token),
            ("public-page", access.public_page != other.access.public_page),
            ("api-token-file", api.token != other.api.token),
            ("allow-list", lists.allow != other.lists.allow),
            ("deny-list", lists.deny != other.lists.deny),
            ("log", *log != other.log),
            ("log-completed", *log_completed != other.log_completed),
            ("block-addresses", addresses.block != other.addresses.block),
            ("allow-addresses", addresses.allow != other.addresses.allow),
        ];
        names(options.into_iter().chain(limits.differences(&other.limits)))
    }

    /// Publishes the values, but for the lists ([`admission::Lists::apply`],
    /// [`addresses::Addresses::apply`]). It can be called again at any time: the new values hold from then on.
    pub fn apply(&self, settings: &Settings, handles: &Handles) {
        self.announces.apply(settings);
        self.limits.apply(settings);
        handles.timeouts.store(Arc::new(self.timeouts));
        handles.http.store(Arc::new(self.http.clone()));
        handles.full_scrape.store(Arc::new(self.full_scrape.clone()));
        handles.log_completed.store(self.log_completed, Ordering::Relaxed);
        handles.trust.store(Arc::new(self.trust.clone()));
        handles.access.store(Arc::new(self.access.clone()));
        handles.api.store(Arc::new(self.api.clone()));
    }
}

impl Announces {
    fn new(options: &SwarmOptions) -> anyhow::Result<Self> {
        let default = Self::default();
        let interval = number("interval", options.interval, default.interval.into(), 60..=18_000)?;
        if options.interval_jitter.is_some_and(|jitter| jitter > interval / 2) {
            return invalid("interval-jitter", format!("can be at most half of interval, {} seconds", interval / 2));
        }
        let interval_jitter = number("interval-jitter", options.interval_jitter, interval / 10, 0..=interval / 2)?;
        let max_v4 = number(
            "max-numwant",
            options.max_numwant,
            default.max_numwant_v4.into(),
            1..=u64::from(V4::NUMWANT_LIMIT),
        )?;
        let max_v6 = number("max-numwant-v6", options.max_numwant_v6, 74, 1..=u64::from(V6::NUMWANT_LIMIT))?;
        if let Some(numwant) = options.default_numwant.filter(|numwant| *numwant > max_v4) {
            return invalid("default-numwant", format!("is {numwant}, more than max-numwant, which is {max_v4}"));
        }
        let default_numwant =
            number("default-numwant", options.default_numwant, max_v4.min(default.default_numwant.into()), 0..=max_v4)?;
        let path_mtu_v4 = number("path-mtu", options.path_mtu, PATH_MTU_V4, 576..=9000)?;
        let path_mtu_v6 = number("path-mtu-v6", options.path_mtu_v6, PATH_MTU_V6, 1280..=9000)?;
        Ok(Self {
            interval: interval as u32,
            interval_jitter: interval_jitter as u32,
            default_numwant: default_numwant as u32,
            max_numwant_v4: max_v4.min(peers_within(path_mtu_v4, 20, PEER_V4)) as u32,
            max_numwant_v6: max_v6.min(peers_within(path_mtu_v6, 40, PEER_V6)) as u32,
            give_local_peers: options.give_local_peers == Some(Switch::On),
            max_peers_per_address: number(
                "max-peers-per-address",
                options.max_peers_per_address,
                default.max_peers_per_address.into(),
                0..=u64::from(MOST_PEERS_PER_ADDRESS),
            )? as u32,
            creations_per_address: number(
                "max-creations-per-address",
                options.max_creations_per_address,
                default.creations_per_address.into(),
                0..=MOST_CREATIONS,
            )? as u32,
        })
    }

    /// Writes them into the settings record, which XDP program and sockets read for each announce.
    pub fn apply(&self, settings: &Settings) {
        settings.interval.store(self.interval);
        settings.interval_jitter.store(self.interval_jitter);
        settings.default_numwant.store(self.default_numwant);
        settings.max_numwant_v4.store(self.max_numwant_v4);
        settings.max_numwant_v6.store(self.max_numwant_v6);
        settings.give_local_peers.store(u32::from(self.give_local_peers));
        settings.max_peers_per_address.store(self.max_peers_per_address);
        settings.creations_per_address.store(self.creations_per_address.into());
    }
}

/// How many peers an announce reply can carry in a packet of `mtu` bytes, `ip_header` of which are
/// the IP header. A peer takes `peer` bytes.
fn peers_within(mtu: u64, ip_header: u64, peer: usize) -> u64 {
    (mtu - ip_header - size_of::<Udp>() as u64 - ANNOUNCE_REPLY_LEN as u64) / peer as u64
}

fn timeouts(options: &SwarmOptions, announces: &Announces) -> anyhow::Result<Timeouts> {
    let (interval, jitter) = (u64::from(announces.interval), u64::from(announces.interval_jitter));
    let longest = u64::from(LONGEST_PEER_TIMEOUT) * 60;
    let peer = number("peer-timeout", options.peer_timeout, (interval * 3 / 2).min(longest), 60..=longest)?;
    if peer <= interval + jitter {
        let reason = format!(
            "is {peer} seconds, but clients are told to come back after up to {} (interval + interval-jitter): peers would be \
             forgotten before that; make peer-timeout longer or interval shorter",
            interval + jitter
        );
        return invalid("peer-timeout", reason);
    }
    let year = 366 * 86_400;
    let torrent = number("torrent-timeout", options.torrent_timeout, 2700, 60..=year)?;
    let completed = options.torrent_timeout_completed;
    let torrent_completed = number("torrent-timeout-completed", completed, torrent.max(86_400), 60..=year)?;
    // Rounded up, so that nothing expires early.
    let minutes = |seconds: u64| seconds.div_ceil(60) as u32;
    Ok(Timeouts { peer: minutes(peer), torrent: minutes(torrent), torrent_completed: minutes(torrent_completed) })
}

fn full_scrape(options: &ListeningOptions) -> anyhow::Result<FullScrapeLimits> {
    let default = FullScrapeLimits::default();
    let pause = number("full-scrape-pause", options.full_scrape_pause, 0, 0..=86_400)?;
    Ok(FullScrapeLimits {
        enabled: options.full_scrape != Some(Switch::Off),
        networks: options.full_scrape_from.as_deref().map_or(default.networks, Networks::new),
        pause: Duration::from_secs(pause),
        ..FullScrapeLimits::default()
    })
}

fn trust(options: &ProxyOptions) -> Trust {
    let networks = |list: &Option<Vec<Network>>| Networks::new(list.as_deref().unwrap_or_default());
    Trust {
        proxies: networks(&options.proxy_from),
        header: options.proxy_header.clone().unwrap_or_default(),
        protocol: networks(&options.proxy_protocol_from),
        parameters: networks(&options.ip_parameter_from),
    }
}

fn access(options: &OperatorOptions) -> anyhow::Result<Access> {
    let token = match options.admin_token_file.as_deref().map(Token::read).transpose() {
        Ok(token) => token,
        Err(error) => return invalid("admin-token-file", format!("is of no use: {error:#}")),
    };
    let default = Access::default();
    Ok(Access {
        networks: options.admin_from.as_deref().map_or(default.networks, Networks::new),
        token,
        token_file: options.admin_token_file.clone(),
        public_page: options.public_page.unwrap_or_default(),
    })
}

fn http_limits(options: &Options) -> anyhow::Result<http::Limits> {
    let Options { listening: options, proxies, limits, .. } = options;
    let default = http::Limits::default();
    let connections = default.connections as u64;
    let idle = default.idle_timeout.as_secs();
    let idle_timeout = Duration::from_secs(number("http-idle-timeout", options.http_idle_timeout, idle, 1..=3600)?);
    Ok(http::Limits {
        connections: number("http-connections", options.http_connections, connections, 1..=1_000_000)? as usize,
        header_timeout: default.header_timeout.min(idle_timeout),
        idle_timeout,
        write_timeout: default.write_timeout.min(idle_timeout),
        handshakes: number("https-handshakes", options.https_handshakes, default.handshakes as u64, 1..=100_000)?
            as usize,
        handshakes_per_minute: number(
            "limit-handshakes",
            limits.limit_handshakes,
            default.handshakes_per_minute.into(),
            0..=u64::from(MOST_PER_MINUTE),
        )? as u32,
        prefix_v6: limits.limit_prefix_v6.map_or(default.prefix_v6, |bits| bits as u32),
        // A proxy that sends its clients' requests on asks for many.
        unlimited: Networks::new(
            &[
                proxies.proxy_from.clone().unwrap_or_default(),
                limits.unlimited.iter().flatten().map(|network| Network::Of(*network)).collect(),
            ]
            .concat(),
        ),
        ..default
    })
}
