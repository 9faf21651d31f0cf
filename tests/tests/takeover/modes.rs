//! A tracker that is to use XDP in another way than the one before, or may not use it any more.

use super::Site;
use tracker::xdp::netlink::{self, AttachedMode};
use tracker_tests::{namespace::Pair, tracker::binary};

impl Site {
    fn modes(&self) -> Vec<AttachedMode> {
        let all = self.pair.server.run(netlink::interfaces).expect("netlink");
        let interface = all.into_iter().find(|found| found.name == Pair::SERVER_INTERFACE).expect("it is there");
        interface.xdp.iter().map(|attached| attached.mode).collect()
    }
}

#[test]
fn a_mode_that_is_refused_leaves_xdp_as_it_was() {
    let site = Site::new();
    site.start(&["--xdp-mode", "generic"]).stop().expect("it ran");
    // veth has no room for such packets in native mode.
    let mtu =
        |mtu: u32| site.pair.client.ip(&format!("link set {} mtu {mtu}", Pair::CLIENT_INTERFACE)).expect("an MTU");
    mtu(9000);
    let said = site.refused(&["--xdp-mode", "native"]);
    assert!(said.contains("does not take the program in native mode"), "{said}");
    assert!(said.contains("XDP goes on in generic mode, as before"), "{said}");
    assert_eq!(site.modes(), [AttachedMode::Generic]);
    site.client();
    mtu(1500);
    site.start(&["--xdp-mode", "native"]).stop().expect("it ran");
    assert_eq!(site.modes(), [AttachedMode::Native]);
}

#[test]
fn who_may_not_take_xdp_over_does_not_serve_beside_it() {
    let site = Site::new();
    site.start(&[]).stop().expect("it ran");
    let path = site.path();
    let binary = binary().expect("a tracker");
    for (missing, mode) in [("-bpf,-sys_admin", "auto"), ("-net_admin", "auto"), ("-bpf,-sys_admin", "native")] {
        let mut command = site.pair.server.command("timeout");
        command.args(["30", "setpriv", "--inh-caps=-all", &format!("--bounding-set={missing}")]).arg(&binary);
        let output = command.arg("run").args(site.options(&path)).args(["--xdp-mode", mode]).output().expect("it runs");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let refused = said.contains("a tracker has left XDP answering");
        assert!(!output.status.success() && refused, "{missing}, {mode}: {said}");
        site.client();
    }
}
