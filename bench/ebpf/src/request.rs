//! Building requests: the template is copied, then what differs from request to request is filled
//! in and added to the checksums.

use core::ptr;

use aya_ebpf::{helpers::bpf_ktime_get_ns, programs::XdpContext};
use bench_ebpf::{
    CATCH_UP_NS, Client, Load, PACE_SHIFT, Placement, Progress, REQUEST_ANNOUNCE, REQUEST_CONNECT, SAMPLE_EVERY,
    SCRAPE_MAX, Visit, WINDOW_PATIENCE_NS, fold, info_hash, is_seeder,
};

use crate::{
    frame::{Bytes, IP, Layout, V4, V6},
    maps,
};

/// What a leecher says it has left; any number but 0.
const LEFT: u32 = 0x0200_0000;

// Places in the payload.
const TRANSACTION_ID: usize = 12;
const INFO_HASH: usize = 16;
const LEFT_LOW_WORD: usize = 68;
const PORT: usize = 96;

/// Builds a request if one is due.
#[inline(always)]
pub fn paced(ctx: &XdpContext) -> Option<()> {
    let load = maps::load()?;
    let progress = maps::progress()?;
    if progress.sequence >= load.sequence_limit {
        return None;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    if load.window != 0 {
        let outstanding = (progress.sequence as u32).wrapping_sub(progress.answered);
        if outstanding > load.window && now - progress.sent < WINDOW_PATIENCE_NS {
            return None;
        }
        progress.sent = now;
    }
    if load.pace != 0 {
        let scaled = now << PACE_SHIFT;
        if progress.due > scaled {
            return None;
        }
        let earliest = scaled - (CATCH_UP_NS << PACE_SHIFT);
        let due = if progress.due < earliest { earliest } else { progress.due };
        progress.due = due + load.pace;
    }
    // The page may have been a shorter reply when it was last used, and then the kernel would send
    // it at that length: it looks at the frame's length again only when the program has changed it.
    // So it is given frames of another length (`FRAME_EXCESS`).
    crate::frame::set_length(ctx, load.frame_length)?;
    build(ctx, load, progress, now)
}

/// Builds the next request at once.
#[inline(always)]
pub fn unpaced(ctx: &XdpContext) -> Option<()> {
    build(ctx, maps::load()?, maps::progress()?, 0)
}

/// The request that follows a reply.
#[inline(always)]
pub fn next(ctx: &XdpContext, load: &Load, now: u64) -> Option<()> {
    let progress = maps::progress()?;
    if progress.sequence >= load.sequence_limit {
        return None;
    }
    crate::frame::set_length(ctx, load.frame_length)?;
    build(ctx, load, progress, now)
}

/// `now` is when the request is sent, in nanoseconds of the monotonic clock; 0 if the
/// request is not timed.
#[inline(always)]
fn build(ctx: &XdpContext, load: &Load, progress: &mut Progress, now: u64) -> Option<()> {
    let transaction_id = progress.sequence as u32;
    let built = match (load.request, load.family) {
        (REQUEST_ANNOUNCE, 4) => announce::<140>(ctx, load, progress, V4),
        (REQUEST_ANNOUNCE, _) => announce::<160>(ctx, load, progress, V6),
        (REQUEST_CONNECT, 4) => connect::<58>(ctx, load, progress, V4),
        (REQUEST_CONNECT, _) => connect::<78>(ctx, load, progress, V6),
        (_, 4) => scrape::<58>(ctx, load, progress, V4),
        (_, _) => scrape::<78>(ctx, load, progress, V6),
    };
    if built.is_none() {
        progress.failed += 1;
        return None;
    }
    if now != 0 && transaction_id & (SAMPLE_EVERY - 1) == 0 {
        let sent_at = maps::sent_at(transaction_id / SAMPLE_EVERY)?;
        // SAFETY: a pointer to a map element; only the generator's CPU writes it.
        unsafe { *sent_at = now };
    }
    progress.sequence += 1;
    Some(())
}

/// The next of the population.
#[inline(always)]
fn next_visit(load: &Load, progress: &mut Progress) -> Option<Visit> {
    let position = progress.position;
    let following = position + 1;
    progress.position = if following >= load.visits { 0 } else { following };
    maps::visit(position)
}

#[inline(always)]
fn announce<const LENGTH: usize>(ctx: &XdpContext, load: &Load, progress: &mut Progress, at: Layout) -> Option<()> {
    let visit = next_visit(load, progress)?;
    let place = Placement::of(visit, load.addresses, load.addresses_shift);
    let client = maps::client(place.client)?;
    let frame = Bytes::<LENGTH>::of(ctx)?;
    copy_template(frame, load);
    let mut sum = header(frame, load, progress, client, at) + put_connection_id(frame, client, at);
    sum += put_info_hash(frame, at.payload + INFO_HASH, visit.torrent);
    if !is_seeder(visit, load.seeders) {
        frame.put(at.payload + LEFT_LOW_WORD, LEFT);
        sum += u64::from(LEFT);
    }
    let port = place.port.to_be();
    frame.put(at.payload + PORT, port);
    sum += u64::from(port);
    put_checksum(frame, at, sum);
    Some(())
}

#[inline(always)]
fn connect<const LENGTH: usize>(ctx: &XdpContext, load: &Load, progress: &mut Progress, at: Layout) -> Option<()> {
    let client = maps::client(progress.sequence as u32 & load.addresses.wrapping_sub(1))?;
    let frame = Bytes::<LENGTH>::of(ctx)?;
    copy_template(frame, load);
    let sum = header(frame, load, progress, client, at);
    put_checksum(frame, at, sum);
    Some(())
}

#[inline(always)]
fn scrape<const LENGTH: usize>(ctx: &XdpContext, load: &Load, progress: &mut Progress, at: Layout) -> Option<()> {
    let client = maps::client(progress.sequence as u32 & load.addresses.wrapping_sub(1))?;
    let frame = Bytes::<LENGTH>::of(ctx)?;
    copy_template(frame, load);
    let mut sum = header(frame, load, progress, client, at) + put_connection_id(frame, client, at);
    let mut hash_at = ctx.data() + LENGTH;
    let end = ctx.data_end();
    for turn in 0..SCRAPE_MAX {
        if turn >= load.hashes {
            break;
        }
        if hash_at + 20 > end {
            return None;
        }
        let visit = next_visit(load, progress)?;
        let hash = info_hash(visit.torrent);
        // SAFETY: the bound was checked a few lines above.
        unsafe { (hash_at as *mut [u32; 5]).write_unaligned(hash) };
        for word in hash {
            sum += u64::from(word);
        }
        hash_at += 20;
    }
    put_checksum(frame, at, sum);
    Some(())
}

/// Word by word: LLVM makes a loop over single bytes of longer copies.
#[inline(always)]
fn copy_template<const LENGTH: usize>(frame: Bytes<LENGTH>, load: &Load) {
    let template = load.template.as_ptr();
    let mut at = 0;
    while at + 8 <= LENGTH {
        // SAFETY: within the template, whose length is at least `LENGTH` and which is aligned to 8.
        // Volatile, or LLVM would recognise a copy.
        frame.put(at, unsafe { ptr::read_volatile(template.add(at).cast::<u64>()) });
        at += 8;
    }
    if at + 4 <= LENGTH {
        // SAFETY: as above.
        frame.put(at, unsafe { ptr::read_volatile(template.add(at).cast::<u32>()) });
        at += 4;
    }
    if at + 2 <= LENGTH {
        // SAFETY: as above.
        frame.put(at, unsafe { ptr::read_volatile(template.add(at).cast::<u16>()) });
    }
}

/// Writes source address, IPv4 checksum and transaction id. Returns the UDP checksum's sum so far.
#[inline(always)]
fn header<const LENGTH: usize>(
    frame: Bytes<LENGTH>,
    load: &Load,
    progress: &Progress,
    client: &Client,
    at: Layout,
) -> u64 {
    let mut sum = u64::from(load.udp_sum);
    if at.udp == V4.udp {
        let source = client.address[0];
        frame.put(IP + 12, source);
        frame.put(IP + 10, !fold(u64::from(load.ip_sum) + u64::from(source)));
        sum += u64::from(source);
    } else {
        for (number, &word) in client.address.iter().enumerate() {
            frame.put(IP + 8 + 4 * number, word);
            sum += u64::from(word);
        }
    }
    let transaction_id = (progress.sequence as u32).to_be();
    frame.put(at.payload + TRANSACTION_ID, transaction_id);
    sum + u64::from(transaction_id)
}

/// Writes the client's connection id. Returns what it adds to the UDP checksum's sum.
#[inline(always)]
fn put_connection_id<const LENGTH: usize>(frame: Bytes<LENGTH>, client: &Client, at: Layout) -> u64 {
    let [high, low] = client.connection_id;
    frame.put(at.payload, high);
    frame.put(at.payload + 4, low);
    u64::from(high) + u64::from(low)
}

/// Writes a torrent's info_hash. Returns what it adds to the UDP checksum's sum.
#[inline(always)]
fn put_info_hash<const LENGTH: usize>(frame: Bytes<LENGTH>, at: usize, torrent: u32) -> u64 {
    let mut sum = 0;
    for (number, word) in info_hash(torrent).into_iter().enumerate() {
        frame.put(at + 4 * number, word);
        sum += u64::from(word);
    }
    sum
}

#[inline(always)]
fn put_checksum<const LENGTH: usize>(frame: Bytes<LENGTH>, at: Layout, sum: u64) {
    let checksum = !fold(sum);
    // 0 would mean that there is none.
    frame.put(at.udp + 6, if checksum == 0 { 0xffff } else { checksum });
}
