//! Validates replies: only a valid answer to a request that was sent lately counts.

use core::ptr;

use aya_ebpf::{
    helpers::{bpf_csum_diff, bpf_ktime_get_ns, bpf_xdp_load_bytes},
    programs::XdpContext,
};
use bench_ebpf::{Load, REQUEST_ANNOUNCE, REQUEST_CONNECT, SAMPLE_EVERY, fold, latency_bucket};

use crate::{
    frame::{Bytes, ETHER_TYPE, IP, Layout, V4, V6},
    maps::{self, COPY_WORDS},
    request,
};

/// A transaction id older than this many requests is not plausible.
const WINDOW: u32 = 1 << 22;
const ACTION_ERROR: u32 = 3;
const PROTOCOL_UDP: u8 = 17;

/// What a frame that came to the client's end turned out to be.
pub enum Verdict {
    /// Something else than a reply to the generator.
    NotAReply,
    /// A valid reply, which was counted.
    Counted,
    /// A valid reply, which was counted and turned into the next request.
    NextRequest,
}

#[inline(always)]
pub fn reply(ctx: &XdpContext) -> Option<Verdict> {
    let load = maps::load()?;
    // Everything up to the transaction id; the shortest packets of other protocols are shorter and
    // pass.
    if load.family == 4 { in_family::<50>(ctx, load, V4) } else { in_family::<70>(ctx, load, V6) }
}

#[inline(always)]
fn in_family<const LENGTH: usize>(ctx: &XdpContext, load: &Load, at: Layout) -> Option<Verdict> {
    let replies = maps::replies()?;
    let Some(frame) = Bytes::<LENGTH>::of(ctx) else {
        replies.passed += 1;
        return Some(Verdict::NotAReply);
    };
    let is_v4 = at.udp == V4.udp;
    let ether_type: u16 = frame.get(ETHER_TYPE);
    let protocol: u8 = frame.get(if is_v4 { IP + 9 } else { IP + 6 });
    let source_port: u16 = frame.get(at.udp);
    let destination_port: u16 = frame.get(at.udp + 2);
    if ether_type != if is_v4 { 0x0800u16 } else { 0x86dd }.to_be()
        || protocol != PROTOCOL_UDP
        || source_port != load.tracker_port
        || destination_port != load.client_port
    {
        replies.passed += 1;
        return Some(Verdict::NotAReply);
    }

    let udp_length = u32::from(u16::from_be(frame.get(at.udp + 4)));
    let length = udp_length.wrapping_sub(8);
    let action = u32::from_be(frame.get(at.payload));
    let transaction_id = u32::from_be(frame.get(at.payload + 4));
    // 64 bits wide: the verifier does not follow a 32-bit difference of packet pointers.
    let there = ctx.data_end() as u64 - ctx.data() as u64;
    if there < at.payload as u64 + u64::from(length) || !(8..=1500).contains(&length) {
        replies.wrong_length += 1;
        return None;
    }
    let progress = maps::progress()?;
    let outstanding = (progress.sequence as u32).wrapping_sub(1).wrapping_sub(transaction_id);
    if outstanding > WINDOW {
        replies.wrong_transaction += 1;
        return None;
    }
    if action != load.request {
        if action == ACTION_ERROR {
            replies.errors += 1;
        } else {
            replies.wrong_action += 1;
        }
        return None;
    }
    let peers = match action {
        REQUEST_CONNECT if length == 16 => 0,
        REQUEST_ANNOUNCE if length >= 20 => {
            let peers = if is_v4 { (length - 20) / 6 } else { (length - 20) / 18 };
            if peers * (if is_v4 { 6 } else { 18 }) != length - 20 {
                replies.wrong_length += 1;
                return None;
            }
            peers
        }
        _ if action != REQUEST_CONNECT && action != REQUEST_ANNOUNCE && length == 8 + 12 * load.hashes => 0,
        _ => {
            replies.wrong_length += 1;
            return None;
        }
    };
    progress.answered = transaction_id;
    replies.answered += 1;
    replies.peers += u64::from(peers);
    replies.bytes += u64::from(length);
    replies.outstanding = u64::from(outstanding);

    let is_sampled = transaction_id & (SAMPLE_EVERY - 1) == 0;
    // SAFETY: a helper without arguments.
    let now = if is_sampled { unsafe { bpf_ktime_get_ns() } } else { 0 };
    if is_sampled {
        if action == REQUEST_ANNOUNCE {
            note_swarm(ctx, at);
        }
        note_latency(transaction_id, now)?;
        if load.verify_checksums != 0 {
            verify_checksum(ctx, at, udp_length)?;
        }
    }
    if load.closed_loop == 0 {
        return Some(Verdict::Counted);
    }
    // The time of the reply is the time of the next request; sampled are others than those whose
    // time is known.
    let now = if now == 0 && progress.sequence as u32 & (SAMPLE_EVERY - 1) == 0 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_ns() }
    } else {
        now
    };
    request::next(ctx, load, now)?;
    Some(Verdict::NextRequest)
}

/// Remembers the largest swarm that was told of.
#[inline(always)]
fn note_swarm(ctx: &XdpContext, at: Layout) {
    let counts: Option<(u32, u32)> = if at.udp == V4.udp {
        Bytes::<62>::of(ctx).map(|frame| (frame.get(V4.payload + 12), frame.get(V4.payload + 16)))
    } else {
        Bytes::<82>::of(ctx).map(|frame| (frame.get(V6.payload + 12), frame.get(V6.payload + 16)))
    };
    if let (Some((leechers, seeders)), Some(replies)) = (counts, maps::replies()) {
        let peers = u64::from(u32::from_be(leechers)) + u64::from(u32::from_be(seeders));
        if peers > replies.largest_swarm {
            replies.largest_swarm = peers;
        }
    }
}

#[inline(always)]
fn note_latency(transaction_id: u32, now: u64) -> Option<()> {
    // SAFETY: a pointer to a map element.
    let sent_at = unsafe { *maps::sent_at(transaction_id / SAMPLE_EVERY)? };
    let bucket = maps::latency(latency_bucket(now.wrapping_sub(sent_at)))?;
    // SAFETY: this CPU's own element.
    unsafe { *bucket += 1 };
    Some(())
}

/// Adds up pseudo-header, UDP header and payload in a copy of the packet: packet bytes of variable
/// length cannot be handed to a helper.
#[inline(always)]
fn verify_checksum(ctx: &XdpContext, at: Layout, udp_length: u32) -> Option<()> {
    const ADDRESSES_MAX: u32 = 32;
    let copy = maps::copy()?;
    let addresses = if at.udp == V4.udp { 8 } else { ADDRESSES_MAX };
    // The addresses stand right in front of the UDP header in both families. Read back from memory,
    // so that LLVM cannot know that the masks below change nothing, and leaves them in for the
    // verifier. SAFETY: a pointer to this CPU's own map element.
    let length = unsafe {
        ptr::write_volatile(copy.cast::<u32>(), addresses + udp_length);
        ptr::read_volatile(copy.cast::<u32>()) & (4 * COPY_WORDS as u32 - 1)
    };
    if length == 0 {
        return None;
    }
    // SAFETY: the mask keeps all within the copy, of which the helper fills `length` bytes; the
    // word after the last whole one, which may be filled in part only, is cleared before.
    let sum = unsafe {
        let partial = length >> 2;
        ptr::write_volatile(copy.cast::<u32>().add(partial as usize), 0);
        if bpf_xdp_load_bytes(ctx.ctx, at.udp as u32 - addresses, copy.cast(), length) != 0 {
            return None;
        }
        let bytes = (length + 3) & 0x7fc;
        bpf_csum_diff(ptr::null_mut(), 0, copy.cast(), bytes, 0)
    };
    if sum < 0 {
        return None;
    }
    let pseudo = u64::from((udp_length as u16).to_be()) + u64::from(u16::from(PROTOCOL_UDP).to_be());
    let replies = maps::replies()?;
    // SAFETY: the copy is longer than the headers.
    let (begin, field) = unsafe {
        let begin = if addresses == 8 {
            copy.cast::<[u32; 2]>().read().iter().fold(0, |sum, word| sum + u64::from(*word))
        } else {
            copy.cast::<[u32; 8]>().read().iter().fold(0, |sum, word| sum + u64::from(*word))
        };
        (begin, *copy.cast::<u16>().add((addresses as usize + 6) / 2))
    };
    if fold(sum as u64 + pseudo) == 0xffff {
        replies.right_checksum += 1;
    } else if fold(begin + pseudo) == field {
        replies.left_checksum += 1;
    } else {
        replies.wrong_checksum += 1;
    }
    Some(())
}
