//! What torrents are called.

/// A 20-byte torrent identifier (BEP 3; for BEP 52 the truncated SHA-256).
pub type InfoHash = [u8; 20];
