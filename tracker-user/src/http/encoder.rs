//! Bodies that are made while they are sent: compression, and chunks (RFC 9112, 7.1).

use super::request::Encoding;
use bytes::{Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

/// What a body goes through on its way to the client.
pub struct BodyEncoder {
    compressor: Compressor,
    chunks: bool,
    /// Pieces that are being sent; their memory is used again.
    sending: BytesMut,
}

enum Compressor {
    Identity(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl BodyEncoder {
    /// For a body in this encoding; `chunks` says whether the client knows chunked bodies.
    ///
    /// # Errors
    /// When there is no memory for the compression.
    pub fn new(encoding: Encoding, chunks: bool) -> io::Result<Self> {
        // The fastest levels: info_hashes do not compress, and what lies between them does at any
        // level.
        let compressor = match encoding {
            Encoding::Identity => Compressor::Identity(Vec::new()),
            Encoding::Gzip => Compressor::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            Encoding::Zstd => Compressor::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1)?),
        };
        Ok(Self { compressor, chunks, sending: BytesMut::new() })
    }

    /// Takes the next part of the plain body, and gives what is to be sent now, which is empty if
    /// the compression keeps everything back. `last` ends the body.
    ///
    /// # Errors
    /// When the compression fails; the body cannot be completed then.
    pub fn encode(&mut self, plain: &[u8], last: bool) -> io::Result<Bytes> {
        self.compressor.write(plain)?;
        if last {
            self.compressor.finish()?;
        }
        let body = self.compressor.output();
        if self.chunks && !body.is_empty() {
            // Writing into memory cannot fail.
            let _ = write!(self.sending, "{:x}\r\n", body.len());
            self.sending.extend_from_slice(body);
            self.sending.extend_from_slice(b"\r\n");
        } else {
            self.sending.extend_from_slice(body);
        }
        body.clear();
        if self.chunks && last {
            self.sending.extend_from_slice(b"0\r\n\r\n");
        }
        Ok(self.sending.split().freeze())
    }
}

impl Compressor {
    fn write(&mut self, plain: &[u8]) -> io::Result<()> {
        match self {
            Compressor::Identity(out) => out.write_all(plain),
            Compressor::Gzip(encoder) => encoder.write_all(plain),
            Compressor::Zstd(encoder) => encoder.write_all(plain),
        }
    }

    /// Ends the stream; what comes out is still to be taken.
    fn finish(&mut self) -> io::Result<()> {
        match self {
            Compressor::Identity(_) => Ok(()),
            Compressor::Gzip(encoder) => encoder.try_finish(),
            Compressor::Zstd(encoder) => encoder.do_finish(),
        }
    }

    /// What has come out so far.
    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Compressor::Identity(out) => out,
            Compressor::Gzip(encoder) => encoder.get_mut(),
            Compressor::Zstd(encoder) => encoder.get_mut(),
        }
    }
}
