//! Connections of commands to a tracker that runs: by TCP, with and without TLS, or to a Unix socket.

use anyhow::{Context as _, bail, ensure};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

/// What is written to and read from.
pub trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// Connects to a name or address with its port, and waits so long for each of its addresses; reading
/// waits for `answer`.
///
/// # Errors
/// When none of the addresses takes a connection; the last one's.
pub fn tcp(host: &str, patience: Duration, answer: Duration) -> anyhow::Result<Box<dyn Stream>> {
    Ok(Box::new(connected(host, patience, answer)?))
}

/// The same with TLS, believing the certificates in a file.
///
/// # Errors
/// The same; and when the file has none, or the other side has none that one of them vouches for.
pub fn tls(host: &str, believed: &Path, (patience, answer): (Duration, Duration)) -> anyhow::Result<Box<dyn Stream>> {
    let mut roots = RootCertStore::empty();
    let cannot = || format!("cannot read certificates to believe from {} (--ca-file)", believed.display());
    let read: Vec<_> = CertificateDer::pem_file_iter(believed).and_then(Iterator::collect).with_context(cannot)?;
    let (added, _) = roots.add_parsable_certificates(read);
    ensure!(added > 0, "{} has no certificate in it (--ca-file)", believed.display());
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    let name = ServerName::try_from(name.to_owned()).with_context(|| format!("{name} is no name of a host"))?;
    let mut connection = ClientConnection::new(Arc::new(config), name)?;
    let mut stream = connected(host, patience, answer)?;
    stream.set_read_timeout(Some(patience))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).context("no TLS")?;
    }
    stream.set_read_timeout(Some(answer))?;
    Ok(Box::new(StreamOwned::new(connection, stream)))
}

fn connected(host: &str, patience: Duration, answer: Duration) -> anyhow::Result<TcpStream> {
    let mut failed = None;
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => {
                stream.set_read_timeout(Some(answer))?;
                return Ok(stream);
            }
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or_else(|| bail!("{host} has no address"), |error| Err(error.into()))
}

/// Connects to a Unix socket; reading waits for `answer`.
///
/// # Errors
/// When nobody listens there, or nobody may write to it.
pub fn unix(path: &Path, answer: Duration) -> anyhow::Result<Box<dyn Stream>> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(answer))?;
    Ok(Box::new(stream))
}
