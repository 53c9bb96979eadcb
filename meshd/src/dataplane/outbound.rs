//! Packets of this host on their way to peers: the threads `meshd-tx-N`.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use meshd_core::flow::{Direction, Flow};
use meshd_core::split::{self, Outgoing};
use meshd_core::vnet::{self, VnetHeader};

use super::counters::Reason;
use super::flows::Verdicts;
use super::notes::Wants;
use super::peer::{Peer, Reach, Way};
use super::shared::Shared;
use super::snapshot::Snapshot;
use super::train::TrainSender;
use crate::io::{DatagramSocket, Events, PacketDevice, READ_LEN_MAX};

/// Reads before what was collected is sent: batches without timers.
const READS_MAX: usize = 8;

/// Where a burst of work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Burst {
    /// There is nothing more to do.
    Drained,
    /// There may be more.
    More,
    /// The device or socket is gone.
    Lost,
}

/// The work of one thread: from one queue of the device to one socket.
pub(super) struct Outbound<'a, D, S> {
    device: &'a D,
    buffer: Box<[u8]>,
    snapshot: Cache<&'a ArcSwap<Snapshot>, Arc<Snapshot>>,
    path: OutPath<'a, D, S>,
}

/// What every packet goes through.
struct OutPath<'a, D, S> {
    shared: &'a Shared,
    device: &'a D,
    train: TrainSender<'a, S>,
    verdicts: Verdicts<'a>,
    /// Owner of the last destination, good for one snapshot.
    last: Option<(IpAddr, Arc<Peer>)>,
    generation: u64,
}

impl<'a, D: PacketDevice, S: DatagramSocket> Outbound<'a, D, S> {
    pub(super) fn new(shared: &'a Shared, device: &'a D, socket: &'a S, room: Option<&'a Events>) -> Self {
        Self {
            device,
            buffer: vec![0; READ_LEN_MAX].into(),
            snapshot: Cache::new(&shared.snapshot),
            path: OutPath {
                shared,
                device,
                train: TrainSender::new(shared, socket, room),
                verdicts: Verdicts::new(&shared.rules),
                last: None,
                generation: 0,
            },
        }
    }

    /// Reads what the device has, up to a bound, and sends it.
    pub(super) fn burst(&mut self, now: Duration) -> Burst {
        let snapshot = self.snapshot.load();
        if self.path.generation != snapshot.generation {
            (self.path.generation, self.path.last) = (snapshot.generation, None);
        }
        let mut burst = Burst::More;
        for _ in 0..READS_MAX {
            match self.device.read(&mut self.buffer) {
                Ok(Some(len)) => {
                    let read = self.buffer.get_mut(..len).unwrap_or_default();
                    self.path.forward(snapshot, read, now);
                }
                Ok(None) => {
                    burst = Burst::Drained;
                    break;
                }
                // The device was deleted under us; any other error is about one packet.
                Err(error) if is_gone(&error) => {
                    burst = Burst::Lost;
                    break;
                }
                Err(_) => self.path.shared.counters.add(Reason::TunReadFailed),
            }
        }
        self.path.train.flush();
        if let Some(refused) = self.path.train.take_refused() {
            self.path.shared.notes.refused(refused);
        }
        burst
    }
}

impl<D: PacketDevice, S: DatagramSocket> OutPath<'_, D, S> {
    /// Sends one packet or super-packet behind its header, or says why not.
    fn forward(&mut self, snapshot: &Snapshot, read: &mut [u8], now: Duration) {
        let Some((header, packet)) = read.split_at_mut_checked(vnet::LEN) else {
            return self.shared.counters.add(Reason::NotIp);
        };
        let parsed = VnetHeader::parse(header).ok().and_then(|vnet| split::parse(&vnet, packet).ok());
        let Some(outgoing) = parsed else {
            return self.shared.counters.add(Reason::NotIp);
        };
        let destination = outgoing.destination;
        if destination.is_multicast() || is_broadcast(destination) {
            return self.shared.counters.add(Reason::NotUnicast);
        }
        let Some(peer) = self.owner(snapshot, destination) else {
            self.shared.counters.add(Reason::NoPeer);
            return self.shared.answer_unreachable(self.device, packet, now);
        };
        let flow = Flow {
            key: outgoing.flow,
            direction: Direction::Out,
            peer: peer.id.0,
            fragment: outgoing.fragment,
        };
        if !self.verdicts.allow(&flow, &peer, now) {
            return self.shared.counters.add(Reason::Denied);
        }
        self.send(&peer, &outgoing, packet, now);
        self.last = Some((destination, peer));
    }

    fn owner(&mut self, snapshot: &Snapshot, destination: IpAddr) -> Option<Arc<Peer>> {
        match self.last.take() {
            Some((known, peer)) if known == destination => Some(peer),
            _ => snapshot.routes.owner(destination)?.peer().cloned(),
        }
    }

    fn send(&mut self, peer: &Arc<Peer>, outgoing: &Outgoing, packet: &mut [u8], now: Duration) {
        let way = peer.way();
        let sent = match &*way {
            Some(way) => self.seal(peer, way, outgoing, packet, now),
            None => false,
        };
        if !sent {
            self.stage(peer, outgoing, packet, now);
        }
    }

    /// Seals all segments onto the train; false if the session takes no more.
    fn seal(
        &mut self,
        peer: &Arc<Peer>,
        way: &Way,
        outgoing: &Outgoing,
        packet: &mut [u8],
        now: Duration,
    ) -> bool {
        let Ok(mut splitter) = outgoing.splitter(usize::from(way.mtu)) else {
            self.shared.counters.add(Reason::TooBig);
            self.shared.answer_too_big(self.device, packet, way.mtu, now);
            return true;
        };
        let count = u32::try_from(splitter.segments()).unwrap_or(u32::MAX);
        let Ok(mut reservation) = way.session.reserve(now, count) else { return false };
        let mut bytes = 0;
        self.train.turn_to(way, outgoing.ecn);
        while let Some(segment) = splitter.next(packet) {
            self.train.add_more(&mut reservation, segment);
            bytes += segment.len() as u64;
        }
        note_sent(self.shared, peer, way, now);
        peer.count_sent(u64::from(count), bytes);
        true
    }

    /// Keeps the packet for a session that is on its way, or tells its sender that none is.
    fn stage(&mut self, peer: &Arc<Peer>, outgoing: &Outgoing, packet: &mut [u8], now: Duration) {
        let reason = match peer.reach() {
            Reach::Hoped => None,
            Reach::NoPath => Some(Reason::NoPath),
            Reach::Absent => Some(Reason::Absent),
        };
        if let Some(reason) = reason {
            self.shared.counters.add(reason);
            // Whoever is wanted is called again.
            self.shared.notes.want(peer, Wants::RENEWAL);
            return self.shared.answer_unreachable(self.device, packet, now);
        }
        // Of a way whose session has ended, the width holds good.
        let mtu = peer.way().as_ref().map_or(self.shared.mtu, |way| way.mtu);
        let Ok(mut splitter) = outgoing.splitter(usize::from(mtu)) else {
            self.shared.counters.add(Reason::TooBig);
            return self.shared.answer_too_big(self.device, packet, mtu, now);
        };
        while let Some(segment) = splitter.next(packet) {
            stage(self.shared, peer, segment);
        }
    }
}

/// Keeps a copy of a packet until there is a session.
pub(super) fn stage(shared: &Shared, peer: &Arc<Peer>, packet: &[u8]) {
    let lost = peer.staged().push(packet, &shared.staged_total);
    shared.counters.add_many(Reason::QueueFull, lost);
    // After the push: if a session came up meanwhile, the engine's thread finds the packet there.
    shared.notes.want(peer, Wants::STAGED);
}

/// Tells the timers what they must know of a train with packets.
pub(super) fn note_sent(shared: &Shared, peer: &Arc<Peer>, way: &Way, now: Duration) {
    if way.session.activity().note_sent(now, true) {
        shared.notes.want(peer, Wants::STIR);
    }
    if way.session.wants_renewal(now) {
        shared.notes.want(peer, Wants::RENEWAL);
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADFD | libc::EBADF | libc::ENODEV))
}

fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
}
