//! What the threads and the control plane share.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use meshd_core::too_big::TooBig;
use meshd_core::unreachable::{NoAnswer, Unreachable};
use meshd_core::vnet;
use meshd_core::{IpPacket, RouteTable};

use super::DataPlaneConfig;
use super::counters::{Counters, Reason};
use super::events::Events;
use super::flows::Rules;
use super::handshakes::Handshakes;
use super::notes::Notes;
use super::ping::Pings;
use super::quic::QuicInlet;
use super::sessions::Sessions;
use super::snapshot::{Owner, Snapshot};
use super::staged::StagedTotal;
use crate::io::{DatagramSocket, PacketDevice, Waker};

/// The data plane without its threads.
pub(super) struct Shared {
    pub(super) mtu: u16,
    pub(super) addr4: Ipv4Addr,
    pub(super) addr6: Option<Ipv6Addr>,
    pub(super) overlay: Vec<IpNet>,
    pub(super) snapshot: ArcSwap<Snapshot>,
    pub(super) sessions: Sessions,
    pub(super) rules: Rules,
    pub(super) counters: Counters,
    pub(super) events: Events,
    pub(super) notes: Notes,
    pub(super) pings: Pings,
    pub(super) handshakes: Handshakes,
    pub(super) staged_total: StagedTotal,
    /// Where datagrams of QUIC go.
    pub(super) quic: QuicInlet,
    /// A socket for single packets from anywhere, and one that fragments and carries control messages.
    pub(super) data: Arc<dyn DatagramSocket>,
    pub(super) control: Arc<dyn DatagramSocket>,
    /// Bytes received from and sent to peers that are gone: totals never shrink. Held while a snapshot is
    /// replaced.
    pub(super) retired: Mutex<[u64; 2]>,
    answers: Mutex<Answers>,
    /// Set before the threads are told to end.
    stopping: AtomicBool,
}

/// ICMP errors, all within one rate.
#[derive(Debug)]
struct Answers {
    unreachable: Unreachable,
    too_big: TooBig,
}

impl Shared {
    pub(super) fn new(
        config: &DataPlaneConfig,
        (mtu, has_ipv6): (u16, bool),
        (data, control): (Arc<dyn DatagramSocket>, Arc<dyn DatagramSocket>),
        waker: Waker,
    ) -> Self {
        let answers = Answers {
            unreachable: Unreachable::new(config.mesh_prefixes.clone(), Duration::ZERO),
            too_big: TooBig::new(config.mesh_prefixes.clone(), Duration::ZERO),
        };
        let shared = Self {
            mtu,
            addr4: config.addr4.0,
            addr6: has_ipv6.then_some(config.addr6.0),
            overlay: config.mesh_prefixes.clone(),
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            sessions: Sessions::default(),
            rules: Rules::default(),
            counters: Counters::new(),
            events: Events::default(),
            notes: Notes::new(waker),
            pings: Pings::default(),
            handshakes: Handshakes::default(),
            staged_total: StagedTotal::default(),
            quic: QuicInlet::default(),
            data,
            control,
            retired: Mutex::default(),
            answers: Mutex::new(answers),
            stopping: AtomicBool::new(false),
        };
        let routes = shared.own_routes(&[]);
        shared.snapshot.store(Arc::new(Snapshot { routes, ..Snapshot::default() }));
        shared
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Routes with what is this node's: itself, and what it has for its endpoints. Nobody else gets these addresses.
    pub(super) fn own_routes(&self, endpoints: &[IpNet]) -> RouteTable<Owner> {
        let mut routes = RouteTable::default();
        let node = [Some(self.addr4.into()), self.addr6.map(IpAddr::V6)].into_iter().flatten();
        for net in node.map(IpNet::from).chain(endpoints.iter().copied()) {
            routes.claim(net, Owner::This);
        }
        routes
    }

    /// Tells the sender of `packet`, on this host, that its destination cannot be reached.
    pub(super) fn answer_unreachable<D: PacketDevice>(&self, device: &D, packet: &[u8], now: Duration) {
        let Ok(packet) = IpPacket::parse(packet) else { return };
        let answer =
            self.answers.lock().unwrap_or_else(PoisonError::into_inner).unreachable.answer(&packet, now);
        self.write_answer(device, answer);
    }

    /// Tells the sender of `packet`, on this host, how long a packet may be.
    pub(super) fn answer_too_big<D: PacketDevice>(&self, device: &D, packet: &[u8], mtu: u16, now: Duration) {
        let answer = self.too_big(packet, mtu, now);
        if let Some(answer) = answer {
            self.write_answer(device, answer);
        }
    }

    /// The answer to a packet that is longer than `mtu`.
    pub(super) fn too_big(
        &self,
        packet: &[u8],
        mtu: u16,
        now: Duration,
    ) -> Option<Result<Vec<u8>, NoAnswer>> {
        let packet = IpPacket::parse(packet).ok()?;
        Some(self.answers.lock().unwrap_or_else(PoisonError::into_inner).too_big.answer(&packet, mtu, now))
    }

    fn write_plain<D: PacketDevice>(&self, device: &D, packet: &[u8]) {
        if let Err(error) = device.write(&[IoSlice::new(&[0; vnet::LEN]), IoSlice::new(packet)]) {
            tracing::trace!(%error, "packet not delivered");
            self.counters.add(Reason::TunWriteFailed);
        }
    }

    fn write_answer<D: PacketDevice>(&self, device: &D, answer: Result<Vec<u8>, NoAnswer>) {
        match answer {
            Ok(answer) => self.write_plain(device, &answer),
            Err(NoAnswer::Forbidden) => {}
            Err(NoAnswer::RateLimited) => self.counters.add(Reason::IcmpRateLimited),
        }
    }

    /// Sends a control message; a failure is counted. Data in fragments may fill the socket that both go through, and
    /// keep it full for as long as it comes faster than its link takes it: then the other socket has room, or will.
    pub(super) fn send_control(&self, message: &[u8], to: SocketAddr) {
        let sent = match self.control.send(message, message.len(), to, 0) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.data.send(message, message.len(), to, 0)
            }
            sent => sent,
        };
        if let Err(error) = sent {
            tracing::trace!(%error, "control message not sent");
            self.counters.add(Reason::UdpSendFailed);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("mtu", &self.mtu).field("addr4", &self.addr4).finish_non_exhaustive()
    }
}
