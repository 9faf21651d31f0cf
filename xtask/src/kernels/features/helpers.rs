//! Helpers by their numbers.

use aya_obj::generated::bpf_func_id;

use super::set::Version;

/// The helper that goes on in another program.
pub const TAIL_CALL: &str = "bpf_tail_call";

/// The last helper of each version of the kernel, by its number in `enum bpf_func_id`
/// (linux/bpf.h). Numbers are given in the order in which helpers come, so those up to the last of
/// the version before are older. Versions that brought none are not here; since 6.2 there have been
/// none at all, for what is new are kernel functions.
const LAST: [(u32, Version); 42] = {
    use bpf_func_id as id;
    [
        (id::BPF_FUNC_map_delete_elem as u32, Version::new(3, 19)),
        (id::BPF_FUNC_l4_csum_replace as u32, Version::new(4, 1)),
        (id::BPF_FUNC_get_current_comm as u32, Version::new(4, 2)),
        (id::BPF_FUNC_perf_event_read as u32, Version::new(4, 3)),
        (id::BPF_FUNC_perf_event_output as u32, Version::new(4, 4)),
        (id::BPF_FUNC_skb_load_bytes as u32, Version::new(4, 5)),
        (id::BPF_FUNC_skb_set_tunnel_opt as u32, Version::new(4, 6)),
        (id::BPF_FUNC_probe_write_user as u32, Version::new(4, 8)),
        (id::BPF_FUNC_set_hash_invalid as u32, Version::new(4, 9)),
        (id::BPF_FUNC_xdp_adjust_head as u32, Version::new(4, 10)),
        (id::BPF_FUNC_probe_read_str as u32, Version::new(4, 11)),
        (id::BPF_FUNC_get_socket_uid as u32, Version::new(4, 12)),
        (id::BPF_FUNC_skb_adjust_room as u32, Version::new(4, 13)),
        (id::BPF_FUNC_sock_map_update as u32, Version::new(4, 14)),
        (id::BPF_FUNC_getsockopt as u32, Version::new(4, 15)),
        (id::BPF_FUNC_sock_ops_cb_flags_set as u32, Version::new(4, 16)),
        (id::BPF_FUNC_bind as u32, Version::new(4, 17)),
        (id::BPF_FUNC_get_current_cgroup_id as u32, Version::new(4, 18)),
        (id::BPF_FUNC_skb_ancestor_cgroup_id as u32, Version::new(4, 19)),
        (id::BPF_FUNC_msg_push_data as u32, Version::new(4, 20)),
        (id::BPF_FUNC_rc_pointer_rel as u32, Version::new(5, 0)),
        (id::BPF_FUNC_get_listener_sock as u32, Version::new(5, 1)),
        (id::BPF_FUNC_sk_storage_delete as u32, Version::new(5, 2)),
        (id::BPF_FUNC_send_signal as u32, Version::new(5, 3)),
        (id::BPF_FUNC_tcp_gen_syncookie as u32, Version::new(5, 4)),
        (id::BPF_FUNC_probe_read_kernel_str as u32, Version::new(5, 5)),
        (id::BPF_FUNC_jiffies64 as u32, Version::new(5, 6)),
        (id::BPF_FUNC_sk_assign as u32, Version::new(5, 7)),
        (id::BPF_FUNC_csum_level as u32, Version::new(5, 8)),
        (id::BPF_FUNC_get_task_stack as u32, Version::new(5, 9)),
        (id::BPF_FUNC_redirect_peer as u32, Version::new(5, 10)),
        (id::BPF_FUNC_sock_from_file as u32, Version::new(5, 11)),
        (id::BPF_FUNC_check_mtu as u32, Version::new(5, 12)),
        (id::BPF_FUNC_snprintf as u32, Version::new(5, 13)),
        (id::BPF_FUNC_sys_close as u32, Version::new(5, 14)),
        (id::BPF_FUNC_task_pt_regs as u32, Version::new(5, 15)),
        (id::BPF_FUNC_kallsyms_lookup_name as u32, Version::new(5, 16)),
        (id::BPF_FUNC_get_func_arg_cnt as u32, Version::new(5, 17)),
        (id::BPF_FUNC_ima_file_hash as u32, Version::new(5, 18)),
        (id::BPF_FUNC_dynptr_data as u32, Version::new(5, 19)),
        (id::BPF_FUNC_tcp_raw_check_syncookie_ipv6 as u32, Version::new(6, 0)),
        (id::BPF_FUNC_user_ringbuf_drain as u32, Version::new(6, 1)),
    ]
};

/// And those of 6.2, the last of all.
const NEWEST: (u32, Version) = (bpf_func_id::BPF_FUNC_cgrp_storage_delete as u32, Version::new(6, 2));

/// Since when the kernel has the helper with this number.
pub fn since(number: u32) -> Option<Version> {
    let known = LAST.iter().chain([&NEWEST]);
    (number > 0).then(|| known.clone().find(|(last, _)| number <= *last).map(|(_, since)| *since))?
}

/// The helper's name. The numbers of those that programs for packets call are spelt out; others are
/// told by their number.
pub fn name(number: u32) -> String {
    use bpf_func_id as id;
    const NAMES: [(bpf_func_id, &str); 19] = [
        (id::BPF_FUNC_map_lookup_elem, "bpf_map_lookup_elem"),
        (id::BPF_FUNC_map_update_elem, "bpf_map_update_elem"),
        (id::BPF_FUNC_map_delete_elem, "bpf_map_delete_elem"),
        (id::BPF_FUNC_ktime_get_ns, "bpf_ktime_get_ns"),
        (id::BPF_FUNC_trace_printk, "bpf_trace_printk"),
        (id::BPF_FUNC_get_prandom_u32, "bpf_get_prandom_u32"),
        (id::BPF_FUNC_get_smp_processor_id, "bpf_get_smp_processor_id"),
        (id::BPF_FUNC_tail_call, TAIL_CALL),
        (id::BPF_FUNC_csum_diff, "bpf_csum_diff"),
        (id::BPF_FUNC_xdp_adjust_head, "bpf_xdp_adjust_head"),
        (id::BPF_FUNC_xdp_adjust_tail, "bpf_xdp_adjust_tail"),
        (id::BPF_FUNC_jiffies64, "bpf_jiffies64"),
        (id::BPF_FUNC_ringbuf_output, "bpf_ringbuf_output"),
        (id::BPF_FUNC_ringbuf_reserve, "bpf_ringbuf_reserve"),
        (id::BPF_FUNC_ringbuf_submit, "bpf_ringbuf_submit"),
        (id::BPF_FUNC_ktime_get_coarse_ns, "bpf_ktime_get_coarse_ns"),
        (id::BPF_FUNC_loop, "bpf_loop"),
        (id::BPF_FUNC_xdp_load_bytes, "bpf_xdp_load_bytes"),
        (id::BPF_FUNC_xdp_store_bytes, "bpf_xdp_store_bytes"),
    ];
    let found = NAMES.iter().find(|(id, _)| *id as u32 == number);
    found.map_or_else(|| format!("helper {number}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_have_the_version_that_brought_them() {
        use bpf_func_id as id;
        for (helper, expected) in [
            (id::BPF_FUNC_map_lookup_elem, Version::new(3, 19)),
            (id::BPF_FUNC_tail_call, Version::new(4, 2)),
            (id::BPF_FUNC_csum_diff, Version::new(4, 6)),
            (id::BPF_FUNC_xdp_adjust_tail, Version::new(4, 18)),
            (id::BPF_FUNC_ringbuf_reserve, Version::new(5, 8)),
            (id::BPF_FUNC_for_each_map_elem, Version::new(5, 13)),
            (id::BPF_FUNC_loop, Version::new(5, 17)),
            (id::BPF_FUNC_xdp_store_bytes, Version::new(5, 18)),
            (id::BPF_FUNC_ktime_get_tai_ns, Version::new(6, 1)),
            (id::BPF_FUNC_cgrp_storage_get, Version::new(6, 2)),
        ] {
            assert_eq!(since(helper as u32), Some(expected), "{}", name(helper as u32));
        }
        assert_eq!((since(0), since(NEWEST.0 + 1)), (None, None));
        assert!(LAST.is_sorted_by(|one, next| one.0 < next.0 && one.1 < next.1), "in order");
    }
}
