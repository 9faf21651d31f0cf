//! Whether the tracker does all that it is to: beyond being alive, XDP is where it was asked for, and
//! each address is listened on.

use super::Control;
use crate::listen;
use std::net::SocketAddr;

/// Addresses that were not there at the start, with their protocols.
pub type Missing = Vec<(&'static str, SocketAddr)>;

/// Why it does less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// A name for scripts.
    pub code: &'static str,
    /// A sentence for people.
    pub text: String,
}

impl Control {
    /// All reasons; none if it is ready.
    #[must_use]
    pub fn unready(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        for interface in self.parts.statistics.interfaces().iter() {
            if interface.mode == "off" {
                let note = if interface.note.is_empty() { String::new() } else { format!(": {}", interface.note) };
                let text = format!("XDP does not run on {}{note}", interface.name);
                reasons.push(Reason { code: "xdp_off", text });
            }
        }
        for (protocol, address) in &self.parts.missing {
            if !listen::address::is_there(*address) {
                let text = format!("this host does not have {address}, which {protocol} is to be answered on");
                reasons.push(Reason { code: "address_missing", text });
            }
        }
        let settings = self.store.settings();
        if settings.second.load().saturating_sub(settings.heartbeat.load()) > 3 {
            reasons.push(Reason { code: "clock_stands", text: "the daemon does not set the clock".into() });
        }
        reasons
    }
}
