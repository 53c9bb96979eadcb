//! A namespace that asks others and answers them: a pod, a node, or somebody else in the mesh.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use mesh_lab::{Namespace, sctp, wait};

use super::cases::Service;

/// How long an answer is waited for before it counts as none; between two hosts of a lab it takes a millisecond.
const PATIENCE: Duration = Duration::from_millis(400);

/// The same in words of `ping`.
const PATIENCE_OF_PING: &str = "0.4";

/// Bytes of the longest question.
const QUESTION_BYTES: usize = 8;

#[derive(Debug, Clone)]
pub struct Place {
    pub namespace: Namespace,
    /// IPv4 first.
    pub addresses: Vec<IpAddr>,
}

impl Place {
    /// Answers to a service until the test ends.
    pub fn serve(&self, service: Service) -> Result<()> {
        match service {
            Service::Tcp(port) => {
                let listener = self.namespace.run(|| TcpListener::bind(("::", port)))?.context("listen")?;
                thread::spawn(move || {
                    for stream in listener.incoming().flatten() {
                        thread::spawn(move || echo(stream));
                    }
                });
            }
            Service::Udp(port) => {
                let socket = self.namespace.run(|| UdpSocket::bind(("::", port)))?.context("listen")?;
                thread::spawn(move || {
                    let mut bytes = [0; QUESTION_BYTES];
                    while let Ok((read, from)) = socket.recv_from(&mut bytes) {
                        // Who asked may have gone.
                        let _ = socket.send_to(&bytes[..read], from);
                    }
                });
            }
            // The kernel answers the one, and the other is listened for when it is asked.
            Service::Ping | Service::Sctp(_) => {}
        }
        Ok(())
    }

    /// Whether another one answers at an address.
    pub fn asks(&self, other: &Self, address: IpAddr, service: Service) -> Result<bool> {
        match service {
            Service::Tcp(port) => {
                let opened = self.opens(SocketAddr::new(address, port));
                Ok(opened.is_ok_and(|mut connection| connection.answers()))
            }
            Service::Udp(port) => self.asks_udp(SocketAddr::new(address, port)),
            Service::Sctp(port) => {
                let at = SocketAddr::new(address, port);
                sctp::is_heard(&self.namespace, &other.namespace, at, PATIENCE)
            }
            Service::Ping => {
                let mut ping = Command::new("ping");
                ping.args(["-n", "-q", "-c", "1", "-W", PATIENCE_OF_PING, &address.to_string()]);
                ping.stdout(Stdio::null()).stderr(Stdio::null());
                Ok(self.namespace.run(move || ping.status())??.success())
            }
        }
    }

    /// Opens a connection.
    pub fn opens(&self, to: SocketAddr) -> Result<Connection> {
        let stream = self.namespace.run(|| TcpStream::connect_timeout(&to, PATIENCE))??;
        Ok(Connection(stream))
    }

    /// Opens a connection that must come to be.
    pub fn must_open(&self, to: SocketAddr, within: Duration) -> Result<Connection> {
        wait::until_some(within, &format!("{to} can be reached"), || self.opens(to).ok())
    }

    fn asks_udp(&self, to: SocketAddr) -> Result<bool> {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = self.namespace.run(|| UdpSocket::bind((any, 0)))??;
        socket.set_read_timeout(Some(PATIENCE))?;
        // Refused is as good as not answered.
        let is_asked = socket.connect(to).and_then(|()| socket.send(b"hello")).is_ok();
        Ok(is_asked && socket.recv(&mut [0; QUESTION_BYTES]).is_ok())
    }
}

/// A connection to somebody who says what he is told.
#[derive(Debug)]
pub struct Connection(TcpStream);

impl Connection {
    /// Whether it is answered once more.
    pub fn answers(&mut self) -> bool {
        self.answers_within(PATIENCE)
    }

    /// The same for one that must, however busy the machine is.
    pub fn answers_within(&mut self, patience: Duration) -> bool {
        let mut bytes = [0; 1];
        self.0.set_read_timeout(Some(patience)).is_ok()
            && self.0.write_all(b"x").is_ok()
            && self.0.read_exact(&mut bytes).is_ok()
    }
}

fn echo(mut stream: TcpStream) {
    let mut bytes = [0; QUESTION_BYTES];
    while let Ok(read @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
}
