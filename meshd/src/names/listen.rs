//! Where names are asked for: sockets on addresses of this host, and what became of them.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::zone::Zone;
use super::{tcp, udp};

/// The port of DNS.
const PORT: u16 = 53;
/// Pause until a port that another program holds is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Who may ask at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Whoever reaches it: an address of this node in the mesh.
    ByAnybody,
    /// Endpoints of this node: the gateway that all of them share, and those of another mesh on this host, too.
    ByOwnEndpoints,
}

/// An address that names can't be asked for at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The address, with its port.
    pub at: SocketAddr,
    /// Why.
    pub why: String,
}

/// Names, served. Ends when dropped.
pub struct Names {
    zone: watch::Sender<Arc<Zone>>,
    faults: Faults,
    sockets: JoinSet<()>,
}

/// Why sockets could not be opened, by address and protocol.
#[derive(Debug, Clone, Default)]
struct Faults(Arc<Mutex<BTreeMap<(SocketAddr, &'static str), String>>>);

/// What the task of a socket needs.
#[derive(Clone)]
pub(super) struct Desk {
    zone: watch::Receiver<Arc<Zone>>,
    nobody: Arc<Zone>,
}

impl Names {
    /// Listens at some addresses; one that is taken is tried again and again.
    pub fn serve(at: impl IntoIterator<Item = (IpAddr, Asked)>) -> Self {
        let nobody = Arc::new(Zone::of_nobody());
        let (zone, current) = watch::channel(Arc::clone(&nobody));
        let desk = Desk { zone: current, nobody };
        let faults = Faults::default();
        let mut sockets = JoinSet::new();
        for (ip, asked) in at {
            let at = SocketAddr::new(ip, PORT);
            let (own, theirs) = (desk.clone(), faults.clone());
            sockets.spawn(async move {
                let socket = theirs.opened(at, "UDP", || open_udp(at)).await;
                udp::serve(socket, asked, own).await;
            });
            let (own, theirs) = (desk.clone(), faults.clone());
            sockets.spawn(async move {
                let listener = theirs.opened(at, "TCP", || open_tcp(at)).await;
                tcp::serve(listener, asked, own).await;
            });
        }
        Self { zone, faults, sockets }
    }

    /// Answers from another zone from now on.
    pub fn publish(&self, zone: Arc<Zone>) {
        self.zone.send_replace(zone);
    }

    /// Ends all sockets and connections.
    pub async fn stop(mut self) {
        self.sockets.shutdown().await;
    }

    /// Where names can't be asked for, a line each.
    pub fn faults(&self) -> Vec<Fault> {
        let faults = self.faults.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines: Vec<Fault> = Vec::new();
        for ((at, _), why) in faults.iter() {
            match lines.last_mut().filter(|line| line.at == *at && line.why == *why) {
                Some(_) => {}
                None => lines.push(Fault { at: *at, why: why.clone() }),
            }
        }
        lines
    }
}

impl Desk {
    /// The zone that an asker may know.
    pub(super) fn zone_for(&self, asked: Asked, asker: IpAddr) -> Arc<Zone> {
        let zone = Arc::clone(&self.zone.borrow());
        match asked {
            Asked::ByAnybody => zone,
            Asked::ByOwnEndpoints if zone.is_own_endpoint(asker) => zone,
            Asked::ByOwnEndpoints => Arc::clone(&self.nobody),
        }
    }
}

impl Faults {
    /// Opens a socket, as often as it takes.
    async fn opened<T>(&self, at: SocketAddr, protocol: &'static str, open: impl Fn() -> io::Result<T>) -> T {
        loop {
            match open() {
                Ok(socket) => {
                    self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(at, protocol));
                    tracing::debug!(%at, protocol, "names are served");
                    return socket;
                }
                Err(error) => self.note(at, protocol, error.to_string()),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn note(&self, at: SocketAddr, protocol: &'static str, why: String) {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.get(&(at, protocol)) != Some(&why) {
            tracing::warn!(protocol, why, "names can't be served at an address of this host");
            faults.insert((at, protocol), why);
        }
    }
}

fn open_udp(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = unbound(at, Type::DGRAM, Protocol::UDP)?;
    socket.bind(&at.into())?;
    UdpSocket::from_std(socket.into())
}

fn open_tcp(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = unbound(at, Type::STREAM, Protocol::TCP)?;
    // Connections of a daemon that stopped a moment ago do not keep the port from the next.
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A socket that may have an address before the host has it: that of the gateway comes and goes with the endpoints.
fn unbound(at: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), kind.nonblocking().cloexec(), Some(protocol))?;
    match at {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    Ok(socket)
}
