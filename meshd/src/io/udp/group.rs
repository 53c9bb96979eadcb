//! The UDP sockets of one port: one for control messages, one per shard for transport data.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::option::{self, Number};
use super::refusals::Refusals;
use super::socket::GroupSocket;
use super::{BindError, bind_error, no_ipv6, steer};
use crate::io::switches::Switches;

/// Kernel buffer for transport data, each direction. The kernel doubles it: 8 MiB hold 10 ms of 6 Gbit/s. Less
/// loses trains of a sender that is faster; more only adds to the latency under load.
const DATA_BUFFER_LEN: usize = 4 << 20;
/// Kernel buffer for control messages. The kernel doubles it, and counts about a kibibyte for a message: 8 MiB hold
/// what a flood of 50,000 a second brings in the sixth of a second that a busy machine may keep their reader waiting.
const CONTROL_BUFFER_LEN: usize = 4 << 20;
/// Sockets for data: more than data threads are ever started.
const SHARDS_MAX: usize = 64;
/// What every IPv6 path carries.
const IPV6_MTU_MIN: libc::c_int = 1280;
/// Class AF41, which handshakes of the kernel's WireGuard have too.
const CONTROL_CLASS: libc::c_int = 0x88;

/// Sockets on the wildcard address of one port: they go on working when the host's addresses change.
#[derive(Debug)]
pub struct UdpGroup {
    /// Receives everything that is not transport data, and what comes before the steering is in place. What it
    /// sends may be fragmented on the way, so it also serves paths that are too narrow for anything else.
    pub control: GroupSocket,
    /// Receive transport data by the low bits of its receiver index.
    pub shards: Vec<GroupSocket>,
    /// Whether the kernel receives trains. If not, many small parts serve better than few large ones.
    pub has_gro: bool,
    /// Whether the kernel sends trains.
    pub has_gso: bool,
    port: u16,
}

impl UdpGroup {
    /// Opens the port (0: any free one) for both families, or for IPv4 alone where the kernel has no IPv6.
    /// `shards` is a power of two.
    pub fn bind(port: u16, shards: usize, switches: Switches) -> Result<Self, BindError> {
        let failed = |source| bind_error(port, source);
        if !shards.is_power_of_two() || shards > SHARDS_MAX {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        }
        let (control, domain) = open_first(port).map_err(failed)?;
        // Only now: the port was nobody else's, and from here on our own sockets can join.
        control.set_reuse_port(true).map_err(failed)?;
        let port = UdpSocket::from(control.try_clone().map_err(failed)?).local_addr().map_err(failed)?.port();
        let data = (0..shards)
            .map(|_| open(domain, port, Role::Data))
            .collect::<io::Result<Vec<Socket>>>()
            .map_err(failed)?;

        let has_gso = switches.udp_gso && Number::SEGMENT.set(&control, 0).is_ok();
        let has_gro = switches.udp_gro && data.iter().all(|socket| Number::GRO.set(socket, 1).is_ok());
        if let Err(error) = steer::attach(&control, shards) {
            tracing::warn!(%error, "datagrams are spread over the sockets by the kernel's own rule");
        }
        mark_control(&control, domain);
        enlarge_buffers(&control, CONTROL_BUFFER_LEN);
        data.iter().for_each(|socket| enlarge_buffers(socket, DATA_BUFFER_LEN));

        let refusals = Arc::new(Refusals::default());
        let group_socket = |socket: Socket| GroupSocket {
            socket: Arc::new(socket.into()),
            dual_stack: domain == Domain::IPV6,
            gso: has_gso,
            never_equal_tail: switches.never_gso_equal_tail,
            refusals: Arc::clone(&refusals),
        };
        Ok(Self {
            control: group_socket(control),
            shards: data.into_iter().map(group_socket).collect(),
            has_gro,
            has_gso,
            port,
        })
    }

    /// The port all sockets are bound to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What is counted where the senders and receivers of the sockets do not see it.
    pub fn tally(&self) -> UdpTally {
        let sockets = self.shards.iter().chain([&self.control]);
        UdpTally {
            sockets: sockets.map(|socket| Arc::clone(&socket.socket)).collect(),
            refusals: Arc::clone(&self.control.refusals),
        }
    }
}

/// Numbers of a [`UdpGroup`], read when somebody asks; it holds the port as the sockets do.
#[derive(Debug)]
pub struct UdpTally {
    sockets: Vec<Arc<UdpSocket>>,
    refusals: Arc<Refusals>,
}

impl UdpTally {
    /// Datagrams that came and found the kernel's buffer full. The kernel counts modulo 2^32.
    pub fn overflows(&self) -> u64 {
        self.sockets.iter().filter_map(|socket| option::overflows(socket).ok()).map(u64::from).sum()
    }

    /// Trains that a link refused, so that their datagrams went one by one.
    pub fn trains_refused(&self) -> u64 {
        self.refusals.total()
    }
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The first of the group: the port must be free.
    Control,
    /// The others: they join it.
    Data,
}

/// Opens the first socket of a group, for both families or for IPv4 alone.
pub(super) fn open_first(port: u16) -> io::Result<(Socket, Domain)> {
    match open(Domain::IPV6, port, Role::Control) {
        Err(error) if no_ipv6(&error) => {
            tracing::info!("no ipv6 in the kernel: the tunnel uses ipv4 alone");
            Ok((open(Domain::IPV4, port, Role::Control)?, Domain::IPV4))
        }
        opened => opened.map(|socket| (socket, Domain::IPV6)),
    }
}

fn open(domain: Domain, port: u16, role: Role) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    let wildcard = if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    };
    socket.set_nonblocking(true)?;
    socket.set_reuse_port(role == Role::Data)?;
    prepare(&socket, domain, role)?;
    socket.bind(&SocketAddr::new(wildcard, port).into())?;
    Ok(socket)
}

/// Congestion marks are received. Data is not fragmented on the way: its path's MTU is found by probes, which a
/// hint from outside must not disturb. A socket of both families has the options of both.
fn prepare(socket: &Socket, domain: Domain, role: Role) -> io::Result<()> {
    let (discover_v4, discover_v6) = match role {
        Role::Control => (libc::IP_PMTUDISC_DONT, libc::IPV6_PMTUDISC_DONT),
        Role::Data => (libc::IP_PMTUDISC_PROBE, libc::IPV6_PMTUDISC_PROBE),
    };
    Number::RECEIVE_TOS.set(socket, 1)?;
    Number::MTU_DISCOVER_V4.set(socket, discover_v4)?;
    if domain == Domain::IPV6 {
        Number::RECEIVE_CLASS.set(socket, 1)?;
        Number::MTU_DISCOVER_V6.set(socket, discover_v6)?;
        if role == Role::Control {
            // Routers fragment IPv4 alone.
            Number::MTU_V6.set(socket, IPV6_MTU_MIN)?;
        }
    }
    Ok(())
}

fn mark_control(socket: &Socket, domain: Domain) {
    let marks: &[Number] =
        if domain == Domain::IPV6 { &[Number::TOS, Number::CLASS] } else { &[Number::TOS] };
    for mark in marks {
        if let Err(error) = mark.set(socket, CONTROL_CLASS) {
            tracing::warn!(%error, "handshakes travel without priority");
        }
    }
}

/// Without CAP_NET_ADMIN the system's limit applies; the socket works with less.
fn enlarge_buffers(socket: &Socket, len: usize) {
    if setsockopt(socket, sockopt::RcvBufForce, &len).is_err()
        && let Err(error) = socket.set_recv_buffer_size(len)
    {
        tracing::warn!(%error, "receive buffer not enlarged");
    }
    if setsockopt(socket, sockopt::SndBufForce, &len).is_err()
        && let Err(error) = socket.set_send_buffer_size(len)
    {
        tracing::warn!(%error, "send buffer not enlarged");
    }
}
