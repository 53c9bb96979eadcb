//! A namespace that stands for a container: it listens, and it asks others.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Host, Namespace, sctp, wait};

/// How long something that is allowed may take on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// How long an answer is waited for before it counts as none.
pub const PATIENCE: Duration = Duration::from_millis(1200);

pub const TCP_PORTS: [u16; 3] = [80, 81, 8080];
pub const UDP_PORTS: [u16; 2] = [5000, 8080];

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Tcp(u16),
    Udp(u16),
    Sctp(u16),
    Ping,
}

impl Service {
    /// Reads `tcp/80`, `udp/5000`, `sctp/80` or `ping`.
    pub fn read(text: &str) -> Result<Self> {
        if text == "ping" {
            return Ok(Self::Ping);
        }
        let (protocol, port) = text.split_once('/').context("no port")?;
        let port = port.parse().context("no port")?;
        match protocol {
            "tcp" => Ok(Self::Tcp(port)),
            "udp" => Ok(Self::Udp(port)),
            "sctp" => Ok(Self::Sctp(port)),
            _ => anyhow::bail!("{protocol} is no protocol"),
        }
    }
}

/// A namespace with addresses.
#[derive(Debug, Clone)]
pub struct Place {
    pub namespace: Namespace,
    pub path: String,
    /// IPv4 first.
    pub addresses: Vec<IpAddr>,
}

/// Places by their names.
pub type Places = BTreeMap<&'static str, Place>;

impl Place {
    /// Makes one that listens.
    pub fn new(host: &Host, name: &str) -> Result<Self> {
        let namespace = Namespace::create(&format!("{}-{name}", host.namespace().name()))?;
        let path = format!("/run/netns/{}", namespace.name());
        let place = Self { namespace, path, addresses: Vec::new() };
        place.listen()?;
        Ok(place)
    }

    /// A node, at its addresses in the mesh.
    pub fn node(host: &Host, addresses: Vec<IpAddr>) -> Result<Self> {
        let place = Self { namespace: host.namespace().clone(), path: String::new(), addresses };
        place.listen()?;
        Ok(place)
    }

    pub fn attach(&mut self, host: &Host, network: &str, options: &[&str]) -> Result<()> {
        let line = ["attach", "--netns", &self.path, "--network", network];
        let endpoint = host.ctl(&[&line, options].concat())?.ok()?;
        let addresses = endpoint["addresses"].as_array().context("addresses")?;
        let addresses = addresses.iter().filter_map(|one| one.as_str()?.parse().ok());
        self.addresses = addresses.collect();
        ensure!(self.addresses.len() == 2, "{endpoint}");
        Ok(())
    }

    /// Answers on all ports with what is said, until the test ends.
    fn listen(&self) -> Result<()> {
        for port in TCP_PORTS {
            let listener = self.namespace.run(|| TcpListener::bind(("::", port)))?.context("listen")?;
            thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    thread::spawn(move || {
                        let mut bytes = [0; 64];
                        while let Ok(read @ 1..) = stream.read(&mut bytes) {
                            if stream.write_all(&bytes[..read]).is_err() {
                                break;
                            }
                        }
                    });
                }
            });
        }
        for port in UDP_PORTS {
            let socket = self.namespace.run(|| UdpSocket::bind(("::", port)))?.context("listen")?;
            thread::spawn(move || {
                let mut bytes = [0; 64];
                while let Ok((read, from)) = socket.recv_from(&mut bytes) {
                    // Who asked may have gone.
                    let _ = socket.send_to(&bytes[..read], from);
                }
            });
        }
        Ok(())
    }

    /// Whether another one answers, asked once.
    pub fn asks(&self, other: &Self, is_v4: bool, service: Service) -> Result<bool> {
        let address = other.addresses.iter().find(|one| one.is_ipv4() == is_v4).context("an address")?;
        match service {
            Service::Tcp(port) => {
                Ok(self.open(SocketAddr::new(*address, port)).is_ok_and(|mut one| one.answers()))
            }
            Service::Udp(port) => self.asks_udp(SocketAddr::new(*address, port)),
            Service::Sctp(port) => {
                sctp::is_heard(&self.namespace, &other.namespace, SocketAddr::new(*address, port), PATIENCE)
            }
            Service::Ping => self.pings(*address),
        }
    }

    /// Opens a connection that echoes.
    pub fn open(&self, to: SocketAddr) -> Result<Connection> {
        let stream = self.namespace.run(|| TcpStream::connect_timeout(&to, PATIENCE))??;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection(stream))
    }

    /// Waits until it can be opened.
    pub fn opens(&self, to: SocketAddr) -> Result<Connection> {
        wait::until_some(DEADLINE, &format!("{} opens {to}", self.path), || self.open(to).ok())
    }

    /// Asks over UDP without a pause until told to stop, and counts the answers.
    pub fn floods(&self, to: SocketAddr, is_over: &AtomicBool, heard: &AtomicUsize) -> Result<()> {
        let socket = self.namespace.run(|| UdpSocket::bind(("0.0.0.0", 0)))??;
        socket.connect(to)?;
        socket.set_nonblocking(true)?;
        while !is_over.load(Ordering::Relaxed) {
            // Refused or not sent is as good as not answered.
            drop(socket.send(b"hello"));
            if socket.recv(&mut [0; 64]).is_ok() {
                heard.fetch_add(1, Ordering::Relaxed);
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    pub fn pings(&self, address: IpAddr) -> Result<bool> {
        let mut ping = Command::new("ping");
        ping.args(["-n", "-q", "-c", "1", "-W", "1", &address.to_string()]).stdout(Stdio::null());
        Ok(self.namespace.run(move || ping.status())??.success())
    }

    fn asks_udp(&self, to: SocketAddr) -> Result<bool> {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = self.namespace.run(|| UdpSocket::bind((any, 0)))??;
        socket.set_read_timeout(Some(PATIENCE))?;
        // Refused is as good as not answered.
        let asked = socket.connect(to).and_then(|()| socket.send(b"hello"));
        Ok(asked.is_ok() && socket.recv(&mut [0; 64]).is_ok())
    }
}

/// A connection to somebody who echoes.
#[derive(Debug)]
pub struct Connection(TcpStream);

impl Connection {
    /// Whether it is answered once more.
    pub fn answers(&mut self) -> bool {
        let mut bytes = [0; 1];
        self.0.write_all(b"x").is_ok() && self.0.read_exact(&mut bytes).is_ok()
    }
}
