//! The XDP programs that the first one, `tracker`, goes on in, and those that these go on in: their places in the map `PROGRAMS`.
//! Whoever loads the object has to put them there.

/// Place of `announce_v4`.
pub const ANNOUNCE_V4: u32 = 0;
/// Place of `announce_v6`.
pub const ANNOUNCE_V6: u32 = 1;
/// Place of `store_v4`.
pub const STORE_V4: u32 = 2;
/// Place of `store_v6`.
pub const STORE_V6: u32 = 3;
/// Place of `split_v4`.
pub const SPLIT_V4: u32 = 4;
/// Place of `split_v6`.
pub const SPLIT_V6: u32 = 5;
/// Place of `reply_v4`.
pub const REPLY_V4: u32 = 6;
/// Place of `reply_v6`.
pub const REPLY_V6: u32 = 7;
/// Place of `scrape`.
pub const SCRAPE: u32 = 8;
/// How many there are.
pub const COUNT: u32 = 9;

/// Their names in the object, by place.
pub const NAMES: [&str; COUNT as usize] =
    ["announce_v4", "announce_v6", "store_v4", "store_v6", "split_v4", "split_v6", "reply_v4", "reply_v6", "scrape"];
