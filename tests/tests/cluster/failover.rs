//! Two NATS servers that are one cluster: one dies, and the trackers go on by the other.

use super::{
    farm::{Farm, NODES, eventually},
    torrent,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use tracker_tests::{bep15::Event, client, println};

/// Where a server tells about its connections.
const MONITORS: [u16; 2] = [8222, 8223];

fn start(farm: &mut Farm, number: u16) {
    let text = |port: u16| (port + number).to_string();
    let other = format!("nats://127.0.0.1:{}", 6223 - number);
    let (port, monitor, route) = (text(4222), text(MONITORS[0]), format!("nats://127.0.0.1:{}", 6222 + number));
    let one = ["--addr", "0.0.0.0", "--port", &port, "--http_port", &monitor];
    let both = ["--cluster_name", "both", "--cluster", &route, "--routes", &other];
    farm.start_server_with(number, &[&one[..], &both].concat());
}

/// Which of the trackers are connected to a server.
fn connected(farm: &Farm, number: u16) -> Vec<usize> {
    let monitor = SocketAddr::from((Ipv4Addr::LOCALHOST, MONITORS[usize::from(number)]));
    let response = client::http_get(Some(&farm.bus), monitor, "/connz").expect("a monitor");
    let text = String::from_utf8_lossy(&response.body).into_owned();
    (0..NODES).filter(|node| text.contains(&format!("tracker node{node}\""))).collect()
}

#[test]
fn trackers_go_on_by_another_server() {
    let mut farm = Farm::without_server();
    start(&mut farm, 0);
    start(&mut farm, 1);
    let torrents: Vec<_> = (1..=8).map(torrent).collect();
    for node in 0..NODES {
        let urls = [0, 1].map(|number| format!("nats://10.9.{node}.1:{}", 4222 + number));
        farm.start_with(node, &["--cluster", &urls[0], "--cluster", &urls[1]]);
    }
    farm.eventually_connected(&[0, 1, 2]);
    let mut announced = 0_u16;
    // Whichever server it is, trackers were connected to it at one of the two times.
    for dying in [0, 1] {
        let living = 1 - dying;
        let moved = connected(&farm, dying);
        let stay = connected(&farm, living);
        assert_eq!(moved.len() + stay.len(), NODES, "{moved:?} and {stay:?}");
        let begin = Instant::now();
        let mut killed = None;
        // Announces go on before, meanwhile and after.
        while killed.is_none_or(|killed: Instant| killed.elapsed() < Duration::from_secs(5)) {
            for node in 0..NODES {
                let info_hash = &torrents[usize::from(announced) % torrents.len()];
                farm.site(node).announce(node as u8 * 3, info_hash, 1000 + announced, false, Event::Started);
                announced += 1;
            }
            if killed.is_none() && begin.elapsed() > Duration::from_secs(1) {
                farm.kill_server_of(dying);
                killed = Some(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        eventually("all are connected to the other server", || (connected(&farm, living).len() == NODES).then_some(()));
        let took = killed.expect("it was killed").elapsed();
        let known = || farm.sites.iter().flatten().map(|site| site.peers(&torrents)).collect::<Vec<_>>();
        let at_first = known();
        eventually("all know all", || known().iter().all(|known| *known == u32::from(announced)).then_some(()));
        let missed = |node: usize| {
            let metrics = farm.site(node).metrics();
            assert_eq!(metrics.sum("tracker_cluster_dropped_total", &[]), 0.0, "nothing was dropped: {:?}", metrics.0);
            metrics.sum("tracker_cluster_messages_missed_total", &[])
        };
        println!(
            "server {dying} is killed with trackers {moved:?}: of {announced} peers {at_first:?} are known after {:.1} s, \
             all {:.1} s after the death; messages missed so far {:?}",
            took.as_secs_f64(),
            killed.expect("it was killed").elapsed().as_secs_f64(),
            [0, 1, 2].map(missed),
        );
        start(&mut farm, dying);
        // The routes between the servers.
        eventually("one cluster again", || (connected(&farm, living).len() == NODES).then_some(()));
    }
}
