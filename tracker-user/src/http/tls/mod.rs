//! HTTPS: certificates, handshakes, and the streams of bytes that come of both.
//!
//! | module | does |
//! |---|---|
//! | [`certificates`] | the certificate and its key, read again when they change |
//! | [`handshake`] | from a connection to a TLS session: in bounded time, and so many at a time |
//! | [`rates`] | how often one client may begin one |
//! | [`channel`] | a connection with or without TLS |

pub mod certificates;
pub mod channel;
pub mod handshake;
pub mod rates;

pub use certificates::{CertificateFiles, Certificates};
