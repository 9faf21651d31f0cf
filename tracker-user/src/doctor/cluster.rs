//! Whether the NATS servers of a cluster can be reached.

use super::finding::Finding;
use crate::cluster::link::host_and_port;
use std::{
    io::Read as _,
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

/// How long a server may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is found of a server.
#[must_use]
pub fn finding(server: &str) -> Finding {
    const CODE: &str = "cluster_server";
    match greeting(server) {
        Ok(greeting) if greeting.starts_with("INFO ") => {
            let version = greeting.split("\"version\":\"").nth(1).and_then(|rest| rest.split('"').next());
            let value = format!("{server}: NATS {}", version.unwrap_or("of some version"));
            Finding::good(CODE, "A server of the cluster answers", value)
        }
        Ok(_) => Finding::problem(CODE, "What answers there is no NATS server", server.to_owned()),
        Err(error) => Finding::problem(CODE, "A server of the cluster cannot be reached", format!("{server}: {error}"))
            .command("systemctl status nats-server"),
    }
}

/// The first line that a server says, before any encryption.
fn greeting(server: &str) -> Result<String, String> {
    let (host, port) = host_and_port(server).ok_or("no nats://HOST:PORT or tls://HOST:PORT")?;
    let addresses = (host.as_str(), port).to_socket_addrs().map_err(|error| error.to_string())?;
    let mut last = "the name has no address".to_owned();
    for address in addresses {
        let greet = || {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut bytes = [0; 1024];
            let length = stream.read(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
        };
        match greet() {
            Ok(greeting) => return Ok(greeting),
            Err(error) => last = std::io::Error::to_string(&error),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Severity, *};
    use std::{io::Write as _, net::TcpListener, thread};

    #[test]
    fn servers_are_told_by_what_they_say() {
        for (says, severity) in [
            ("INFO {\"server_id\":\"A\",\"version\":\"2.9.10\"}\r\n", Severity::Good),
            ("INFO {}\r\n", Severity::Good),
            ("220 mail\r\n", Severity::Problem),
            ("", Severity::Problem),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = listener.local_addr().expect("a port").port();
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("somebody");
                stream.write_all(says.as_bytes()).expect("sent");
            });
            assert_eq!(finding(&format!("nats://127.0.0.1:{port}")).severity, severity, "{says}");
            server.join().expect("no panic");
            assert_eq!(finding(&format!("nats://127.0.0.1:{port}")).severity, Severity::Problem, "nobody listens");
        }
        assert_eq!(finding("http://127.0.0.1").severity, Severity::Problem);
    }
}
