//! The HTTP listeners: the public ones, with and without TLS, and the operator's.

use crate::{
    admin::web::public::Ports,
    api,
    config::Startup,
    http::{self, Listener, tls::Certificates},
    listen::Inherited,
};
use std::{collections::BTreeSet, sync::Arc};

/// Those that are bound.
#[derive(Default)]
pub struct Doors {
    /// For announces and scrapes; for everything, if there are no others.
    pub public: Vec<Listener>,
    /// The same by TLS.
    pub secure: Vec<Listener>,
    /// What that is spoken with, if it is.
    pub certificates: Option<Arc<Certificates>>,
    /// For the operator.
    pub operator: Vec<Listener>,
    /// The ports of UDP, which strangers are told of.
    pub udp: Vec<u16>,
    /// For the admin API.
    pub api: api::Listeners,
}

impl Doors {
    /// Binds all that the configuration names.
    ///
    /// # Errors
    /// The first that cannot be listened on.
    pub fn bind(startup: &Startup, inherited: &mut Inherited) -> anyhow::Result<Self> {
        let threads = startup.http_threads;
        let mut bind = |endpoints: &[_], paths: &[_]| -> anyhow::Result<Vec<Listener>> {
            let mut listeners = http::bind_all(endpoints, threads, inherited)?;
            listeners.extend(http::bind_unix(paths, threads, inherited)?);
            Ok(listeners)
        };
        let public = bind(&startup.http, &startup.http_unix)?;
        let secure = bind(&startup.https, &[])?;
        let files = startup.certificate.clone().filter(|_| !(secure.is_empty() && startup.api.secure.is_empty()));
        let certificates = files.map(Certificates::read).transpose()?;
        let operator = bind(&startup.admin, &startup.admin_unix)?;
        let mut plain = http::bind_all(&startup.api.endpoints, 1, inherited)?;
        plain.extend(http::bind_private(&startup.api.unix, inherited)?);
        let api = api::Listeners { plain, secure: http::bind_all(&startup.api.secure, 1, inherited)? };
        Ok(Self { public, secure, certificates, operator, api, udp: Vec::new() })
    }

    /// The ports that clients announce to.
    #[must_use]
    pub fn ports(&self) -> Ports {
        let of = |listeners: &[Listener]| {
            let ports: BTreeSet<_> = listeners
                .iter()
                .filter_map(|listener| listener.place.address())
                .map(|address| address.port())
                .collect();
            ports.into_iter().collect()
        };
        Ports { udp: self.udp.clone(), http: of(&self.public), https: of(&self.secure) }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Listener> {
        let api = self.api.plain.iter().chain(&self.api.secure);
        self.public.iter().chain(&self.secure).chain(&self.operator).chain(api)
    }
}
