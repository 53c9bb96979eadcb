//! What becomes of a packet that a peer sent: to the host, on to another peer, or nowhere.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::counters::Reason;
use super::flows::Verdicts;
use super::header;
use super::notes::Wants;
use super::outbound::{note_sent, stage};
use super::peer::Peer;
use super::probe::PathMessage;
use super::shared::Shared;
use super::snapshot::{Owner, Snapshot};
use super::train::TrainSender;
use crate::io::DatagramSocket;
use meshd_core::IpPacket;
use meshd_core::flow::{Direction, Flow, FlowKey};
use meshd_core::ip::{PROTO_ICMP, PROTO_ICMPV6};

/// Judges packets of peers, one thread's worth of them.
pub(super) struct Delivery<'a, S> {
    shared: &'a Shared,
    /// For packets that go on to another peer, and answers to probes.
    train: TrainSender<'a, S>,
    verdicts: Verdicts<'a>,
    /// The last flow that was for this host: its packets need no second look.
    last: Option<Passed>,
}

/// A flow that passed, and under which circumstances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Passed {
    flow: Flow,
    snapshot: u64,
    rules: u64,
}

/// What the verdict on a packet depends on, beside its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Circumstances {
    peer: u32,
    ecn: u8,
    snapshot: u64,
    /// Generation of the rules.
    pub(super) rules: u64,
}

/// Where a packet came from and when.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'p> {
    pub(super) snapshot: &'p Snapshot,
    pub(super) peer: &'p Arc<Peer>,
    /// Congestion mark of the outer header.
    pub(super) ecn: u8,
    pub(super) now: Duration,
}

/// What came of a packet.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is for the host, and lies there.
    Host(Range<usize>),
    /// It was for somebody else, who has it.
    Elsewhere,
    /// It was about the path, which its sender does not take for data.
    PathMessage,
}

/// Where a packet goes.
#[derive(Debug)]
enum Fate {
    /// To the host.
    Host,
    /// To another peer.
    Peer(Arc<Peer>),
}

/// A packet is longer than the way to its destination carries.
#[derive(Debug)]
struct OverMtu {
    mtu: u16,
}

impl<'a, S: DatagramSocket> Delivery<'a, S> {
    pub(super) fn new(shared: &'a Shared, train: TrainSender<'a, S>) -> Self {
        Self { shared, train, verdicts: Verdicts::new(&shared.rules), last: None }
    }

    /// Under which circumstances packets arrive. A packet passes as the one before did if these and its headers are
    /// the same: also its congestion mark, because carrying over a mark twice is carrying it over once.
    pub(super) fn circumstances(&self, arrival: Arrival<'_>) -> Circumstances {
        let Arrival { snapshot, peer, ecn, .. } = arrival;
        let rules = self.shared.rules.generation();
        Circumstances { peer: peer.id.0, ecn, snapshot: snapshot.generation, rules }
    }

    /// Judges the packet in `slab[range]`. Gives its place if it is for the host; all else is dealt with here.
    pub(super) fn judge(
        &mut self,
        slab: &mut [u8],
        range: Range<usize>,
        arrival: Arrival<'_>,
    ) -> Result<Outcome, Reason> {
        let bytes = slab.get_mut(range.clone()).unwrap_or_default();
        let packet = match IpPacket::parse(bytes) {
            Ok(packet) => packet,
            Err(_) => return self.path_message(bytes, arrival).map(|()| Outcome::PathMessage),
        };
        let len = packet.bytes().len();
        let flow = Flow {
            key: FlowKey::of(&packet).map_err(|_| Reason::NotIp)?,
            direction: Direction::In,
            peer: arrival.peer.id.0,
            fragment: packet.fragment(),
        };
        let passed =
            Passed { flow, snapshot: arrival.snapshot.generation, rules: self.shared.rules.generation() };
        // An error's flow is the one it quotes, which says nothing of where it comes from; and every echo may be an
        // answer to ours.
        let is_icmp = matches!(packet.protocol(), PROTO_ICMP | PROTO_ICMPV6);
        if is_icmp || self.last != Some(passed) {
            let (source, destination) = (packet.source(), packet.destination());
            match self.fate(&flow, source, destination, arrival)? {
                Fate::Host => {}
                Fate::Peer(peer) => {
                    let packet = bytes.get_mut(..len).unwrap_or_default();
                    return self.forward(&peer, packet, destination, arrival).map(|()| Outcome::Elsewhere);
                }
            }
            if self.shared.pings.take_reply(&packet, arrival.now) {
                return Ok(Outcome::Elsewhere);
            }
            // Verdicts on pieces do not last.
            self.last = Some(passed).filter(|_| !is_icmp && flow.fragment.is_none());
        }
        let packet = bytes.get_mut(..len).unwrap_or_default();
        if !header::decapsulate_ecn(packet, arrival.ecn) {
            return Err(Reason::Congested);
        }
        Ok(Outcome::Host(range.start..range.start + len))
    }

    /// Sends what was forwarded or answered.
    pub(super) fn flush(&mut self) {
        self.train.flush();
        if let Some(refused) = self.train.take_refused() {
            self.shared.notes.refused(refused);
        }
    }

    fn fate(
        &mut self,
        flow: &Flow,
        source: IpAddr,
        destination: IpAddr,
        arrival: Arrival<'_>,
    ) -> Result<Fate, Reason> {
        // A prefix may be so wide that it covers what is this node's, which nobody else speaks for.
        let is_sender = |owner: &Owner| owner.peer().is_some_and(|peer| Arc::ptr_eq(peer, arrival.peer));
        let routes = &arrival.snapshot.routes;
        routes.check_source(source, is_sender).map_err(|_| Reason::BadSource)?;
        // A plain WireGuard peer has no tunnels of its own to the others: its packets go through this node.
        let passes = |owner: &Arc<Peer>| {
            (owner.is_external || arrival.peer.is_external) && !Arc::ptr_eq(owner, arrival.peer)
        };
        let fate = match routes.owner(destination) {
            Some(Owner::This) => Fate::Host,
            Some(Owner::Peer(owner)) if passes(owner) => Fate::Peer(Arc::clone(owner)),
            Some(Owner::Peer(_)) | None => return Err(Reason::BadDestination),
        };
        if !self.verdicts.allow(flow, arrival.peer, arrival.now) {
            return Err(Reason::Denied);
        }
        Ok(fate)
    }

    /// Passes a packet on between a plain WireGuard peer and another peer, as a router does.
    fn forward(
        &mut self,
        to: &Arc<Peer>,
        packet: &mut [u8],
        destination: IpAddr,
        arrival: Arrival<'_>,
    ) -> Result<(), Reason> {
        if !header::decapsulate_ecn(packet, arrival.ecn) {
            return Err(Reason::Congested);
        }
        if !header::take_hop(packet, destination) {
            return Err(Reason::HopLimit);
        }
        arrival.peer.count_received(1, packet.len() as u64);
        let sent = self.send(to, packet, arrival.now);
        if let Err(OverMtu { mtu }) = sent {
            let answer = self.shared.too_big(packet, mtu, arrival.now);
            if let Some(Ok(answer)) = answer {
                // An answer is short: where it does not fit, nothing does.
                let _ = self.send(arrival.peer, &answer, arrival.now);
            }
            return Err(Reason::TooBig);
        }
        Ok(())
    }

    /// Sends a packet of another host to a peer, or keeps it until there is a session.
    fn send(&mut self, to: &Arc<Peer>, packet: &[u8], now: Duration) -> Result<(), OverMtu> {
        let way = to.way();
        let Some(way) = &*way else {
            stage(self.shared, to, packet);
            return Ok(());
        };
        if packet.len() > usize::from(way.mtu) {
            return Err(OverMtu { mtu: way.mtu });
        }
        let Ok(mut reservation) = way.session.reserve(now, 1) else {
            stage(self.shared, to, packet);
            return Ok(());
        };
        self.train.add(way, &mut reservation, packet, header::ecn(packet).unwrap_or_default());
        note_sent(self.shared, to, way, now);
        to.count_sent(1, packet.len() as u64);
        Ok(())
    }

    /// A message that is not IP: about the path, if a member of the mesh sent it.
    fn path_message(&mut self, plaintext: &[u8], arrival: Arrival<'_>) -> Result<(), Reason> {
        let Arrival { peer, now, .. } = arrival;
        match PathMessage::parse(plaintext).filter(|_| !peer.is_external) {
            Some(PathMessage::Probe(probe)) => {
                let way = peer.way();
                if let Some(way) = &*way
                    && let Ok(mut reservation) = way.session.reserve(now, 1)
                {
                    self.train.add(way, &mut reservation, &probe.answer(), 0);
                    way.session.activity().note_sent(now, false);
                }
                Ok(())
            }
            Some(PathMessage::Ack(ack)) => {
                peer.note_probed(ack);
                self.shared.notes.want(peer, Wants::PROBED);
                Ok(())
            }
            None => Err(Reason::NotIp),
        }
    }
}
