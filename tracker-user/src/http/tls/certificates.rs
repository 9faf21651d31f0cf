//! The certificate and its key: read from PEM files at the start, on SIGHUP, and soon after the files
//! have changed. Files that do not go together, as while they are being replaced, change nothing.

use crate::service::{Service, Shutdown};
use anyhow::{Context as _, ensure};
use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::ProducesTickets,
};
use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Where certificate and key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and those between it and a known one, in this order.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What the files are known by.
type Fingerprint = [Option<(u64, u64, i64, i64, u64)>; 2];

impl CertificateFiles {
    fn fingerprint(&self) -> Fingerprint {
        [&self.certificate, &self.key].map(|path| {
            let file = fs::metadata(path).ok()?;
            Some((file.dev(), file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
        })
    }
}

/// What TLS connections are begun with; read by all threads.
pub struct Certificates {
    files: CertificateFiles,
    config: ArcSwap<ServerConfig>,
    /// Stays, so that clients can go on with sessions that they had.
    tickets: Arc<dyn ProducesTickets>,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, holds something else, or they do not go together.
    pub fn read(files: CertificateFiles) -> anyhow::Result<Arc<Self>> {
        let tickets = ring::Ticketer::new().context("cannot make a key for TLS tickets")?;
        let config = config(&files, &tickets)?;
        Ok(Arc::new(Self { files, config: ArcSwap::from_pointee(config), tickets }))
    }

    /// What a connection is begun with.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// As for [`read`](Self::read); everything stays as it was then.
    pub fn reload(&self) -> anyhow::Result<()> {
        self.config.store(Arc::new(config(&self.files, &self.tickets)?));
        Ok(())
    }
}

fn config(files: &CertificateFiles, tickets: &Arc<dyn ProducesTickets>) -> anyhow::Result<ServerConfig> {
    let CertificateFiles { certificate, key } = files;
    let wrong = |path: &Path| format!("cannot use {}", path.display());
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect).with_context(|| wrong(certificate))?;
    ensure!(!chain.is_empty(), "{} has no certificate in it (-----BEGIN CERTIFICATE-----)", certificate.display());
    let private = PrivateKeyDer::from_pem_file(key).with_context(|| wrong(key))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .with_context(|| format!("{} and {} do not go together", certificate.display(), key.display()))?;
    config.alpn_protocols = [&b"http/1.1"[..], b"http/1.0"].map(<[u8]>::to_vec).into();
    config.ticketer = tickets.clone();
    Ok(config)
}

/// Looks at the files from time to time.
pub struct Watch(pub Arc<Certificates>);

impl Service for Watch {
    fn name(&self) -> String {
        "certificates".into()
    }

    fn run(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let Self(certificates) = self;
        let mut known = certificates.files.fingerprint();
        while shutdown.sleep(LOOK) {
            let now = certificates.files.fingerprint();
            if now == known {
                continue;
            }
            known = now;
            match certificates.reload() {
                Ok(()) => tracing::info!("the certificate has changed, and is in force"),
                Err(error) => {
                    tracing::warn!("the certificate has changed and is not used, the one before is: {error:#}");
                }
            }
        }
        Ok(())
    }
}
