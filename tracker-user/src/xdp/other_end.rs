//! The other end of a veth pair, which decides whether native XDP is any use.
//!
//! What a program in native mode sends out of a veth end arrives at the other end only while the
//! other end has a program in native mode as well (`veth_xdp_flush` of the kernel's
//! `drivers/net/veth.c`); without one the reply is lost, and nothing counts it. The kernel sends no
//! notification when a program comes or goes by a BPF link, so the other end has to be looked at
//! again.

use super::netlink::{self, AttachedMode, Interface};

/// What is known of the other end of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherEnd {
    /// Not a veth pair: packets that are sent go out by a cable, or to a program that takes them.
    None,
    /// It has a native XDP program, so it takes what is sent.
    Receives,
    /// It has no native XDP program, so it takes nothing.
    Drops,
    /// It is in a network namespace that this process has no access to.
    Unseen,
}

impl OtherEnd {
    /// Asks the kernel.
    pub fn of(interface: &Interface) -> Self {
        let Some(peer) = interface.veth_peer else { return OtherEnd::None };
        // A negative number stands for a namespace that has no number here.
        if peer.namespace.is_some_and(i32::is_negative) {
            return OtherEnd::Unseen;
        }
        match netlink::find(peer.index, peer.namespace) {
            Ok(Some(peer)) if peer.xdp.iter().any(|program| program.mode == AttachedMode::Native) => OtherEnd::Receives,
            Ok(Some(_)) => OtherEnd::Drops,
            Ok(None) => OtherEnd::Unseen,
            Err(error) => {
                tracing::debug!("cannot look at the other end of {}: {error:#}", interface.name);
                OtherEnd::Unseen
            }
        }
    }

    /// Whether replies of a native program are lost there, as far as can be seen.
    pub const fn loses_replies(self) -> bool {
        matches!(self, OtherEnd::Drops | OtherEnd::Unseen)
    }

    /// Why mode auto does not take native mode.
    pub fn why_not_native(self, name: &str) -> Option<String> {
        match self {
            OtherEnd::None | OtherEnd::Receives => None,
            OtherEnd::Drops => Some(format!(
                "the other end of the veth pair {name} has no native XDP program and would not receive what a native \
                 program sends"
            )),
            OtherEnd::Unseen => Some(format!(
                "the other end of the veth pair {name} cannot be seen from here, and without a native XDP program it would \
                 not receive what a native program sends"
            )),
        }
    }

    /// What is wrong with native mode when it was asked for.
    pub fn warning(self, name: &str) -> Option<String> {
        match self {
            OtherEnd::None | OtherEnd::Receives => None,
            OtherEnd::Drops => Some(format!(
                "the other end of the veth pair {name} has no native XDP program, so the replies are LOST: attach one there \
                 (one that passes everything will do), or use --xdp-mode auto or generic"
            )),
            OtherEnd::Unseen => Some(format!(
                "the other end of the veth pair {name} cannot be seen from here; unless it has a native XDP program the \
                 replies are LOST: --xdp-mode generic does without"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_mode_is_advised_against_wherever_replies_may_be_lost() {
        for (end, lost) in
            [(OtherEnd::None, false), (OtherEnd::Receives, false), (OtherEnd::Drops, true), (OtherEnd::Unseen, true)]
        {
            assert_eq!(end.loses_replies(), lost);
            assert_eq!(end.why_not_native("eth0").is_some(), lost);
            assert_eq!(end.warning("eth0").is_some(), lost);
        }
    }
}
