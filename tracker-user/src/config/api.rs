//! The admin API: where, and for whom.

use super::{
    invalid::invalid,
    options::Options,
    startup::places,
    value::{Listen, Switch},
};
use crate::{admin::access::Token, listen::Endpoint};
use clap::Args;
use std::path::PathBuf;

/// The admin API.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Admin API")]
pub struct ApiOptions {
    /// Answer the admin API on this address, for who has the token, or on a Unix socket (unix:/PATH), for
    /// who may write to it (mode 0660); may be given several times; `off` for none. `tracker ctl` speaks
    /// it, and /openapi.json describes it [default: off]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub api: Option<Vec<Listen>>,
    /// The same by TLS, with the certificate of --tls-certificate, for who has the token; may be given
    /// several times; `off` for none [default: off]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub api_tls: Option<Vec<Listen>>,
    /// The first line of this file is the token. Read again on SIGHUP [default: there is no token, which
    /// only Unix sockets can do without]
    #[arg(long, value_name = "FILE")]
    pub api_token_file: Option<PathBuf>,
    /// Whether the admin API shows the addresses of peers, and removes single ones: on or off [default:
    /// off]
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub api_peers: Option<Switch>,
}

/// What is decided at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Api {
    /// Addresses.
    pub endpoints: Vec<Endpoint>,
    /// Addresses where TLS is spoken.
    pub secure: Vec<Endpoint>,
    /// Unix sockets.
    pub unix: Vec<PathBuf>,
    /// Whether peers are shown.
    pub peers: bool,
}

impl Api {
    /// Checks the options.
    ///
    /// # Errors
    /// When there are addresses and no token, or no certificate where one is needed.
    pub(super) fn new(options: &Options) -> anyhow::Result<Self> {
        let ApiOptions { api, api_tls, api_token_file, api_peers } = &options.api;
        let (endpoints, unix) = places("api", Some(api.as_deref().unwrap_or_default()))?;
        if !endpoints.is_empty() && api_token_file.is_none() {
            return invalid("api", "takes api-token-file, unless it is a Unix socket (unix:/PATH)".into());
        }
        let (secure, paths) = places("api-tls", Some(api_tls.as_deref().unwrap_or_default()))?;
        if let Some(path) = paths.first() {
            return invalid("api-tls", format!("is unix:{}; Unix sockets are for api, http and admin", path.display()));
        }
        if !secure.is_empty() && api_token_file.is_none() {
            return invalid("api-tls", "takes api-token-file".into());
        }
        if !secure.is_empty() && options.listening.tls_certificate.is_none() {
            return invalid("api-tls", "takes tls-certificate and tls-key".into());
        }
        Ok(Self { endpoints, secure, unix, peers: *api_peers == Some(Switch::On) })
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !(self.endpoints.is_empty() && self.secure.is_empty() && self.unix.is_empty())
    }
}

/// What can change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiAccess {
    /// The token, if there is one.
    pub token: Option<Token>,
    /// The file that it was read from.
    pub token_file: Option<PathBuf>,
}

impl ApiAccess {
    /// Reads the token.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn new(options: &Options) -> anyhow::Result<Self> {
        let token_file = options.api.api_token_file.clone();
        match token_file.as_deref().map(Token::read).transpose() {
            Ok(token) => Ok(Self { token, token_file }),
            Err(error) => invalid("api-token-file", format!("is of no use: {error:#}")),
        }
    }
}
