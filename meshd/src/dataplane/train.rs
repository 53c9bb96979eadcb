//! Sealed packets on their way to the socket, as many as one system call takes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use meshd_tunnel::{OVERHEAD, PeerId, Reservation, padding};

use super::counters::Reason;
use super::peer::Way;
use super::shared::Shared;
use crate::io::{DatagramSocket, Events, SEGMENTS_MAX, TRAIN_LEN_MAX};

/// One wait for room in the socket's buffer, and how many of them a train is worth: a link that takes nothing for
/// a second is down.
const ROOM_WAIT: Duration = Duration::from_millis(100);
const ROOM_WAITS_MAX: u32 = 10;
/// A packet of no bytes gets no padding.
const NOTHING: (usize, usize) = (0, 0);

/// Collects sealed packets of equal length for one address and sends them together.
///
/// Only the newest packet of a train may be shorter than the others; whatever does not fit in ends the train
/// before. Packets leave in the order they came.
pub(super) struct TrainSender<'a, S: ?Sized> {
    shared: &'a Shared,
    socket: &'a S,
    /// Sends what is too long for its path in fragments.
    narrow: &'a dyn DatagramSocket,
    /// Waits for room in the socket's buffer; without it a full buffer loses the train.
    room: Option<&'a Events>,
    bytes: Box<[u8]>,
    len: usize,
    count: usize,
    /// Length of all datagrams but the last.
    segment: usize,
    /// Length that the next datagram may have at most: the length of the others, or zero if the train is complete.
    segment_next_max: usize,
    to: Option<Towards>,
    /// Length of the last packet and its padding there: in a train all are as long.
    padded: (usize, usize),
    refused: Option<Refused>,
}

/// Packets that this host's own link did not take, because they are too long for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    /// Where they were to go.
    pub(super) peer: PeerId,
    /// Length of the longest inside the tunnel.
    pub(super) len: u16,
}

/// What all datagrams of a train have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Towards {
    peer: PeerId,
    endpoint: SocketAddr,
    ecn: u8,
    fragments: bool,
    mtu: u16,
}

impl<'a, S: DatagramSocket + ?Sized> TrainSender<'a, S> {
    pub(super) fn new(shared: &'a Shared, socket: &'a S, room: Option<&'a Events>) -> Self {
        Self {
            shared,
            socket,
            narrow: &*shared.control,
            room,
            bytes: vec![0; TRAIN_LEN_MAX].into(),
            len: 0,
            count: 0,
            segment: 0,
            segment_next_max: 0,
            to: None,
            padded: NOTHING,
            refused: None,
        }
    }

    /// Seals a packet onto the train; sends the train first if the packet does not belong to it.
    pub(super) fn add(&mut self, way: &Way, reservation: &mut Reservation<'_>, packet: &[u8], ecn: u8) {
        self.turn_to(way, ecn);
        self.add_more(reservation, packet);
    }

    /// Says where the next packets go; sends the train first if it goes elsewhere.
    pub(super) fn turn_to(&mut self, way: &Way, ecn: u8) {
        let Way { session, endpoint, mtu, fragments } = way;
        let to = Towards { peer: session.peer(), endpoint: *endpoint, ecn, fragments: *fragments, mtu: *mtu };
        if self.to != Some(to) {
            self.flush();
            (self.to, self.padded) = (Some(to), NOTHING);
        }
    }

    /// Seals a packet that goes where the train goes.
    // Once for each packet of a train. Left to the compiler, whether this is a call depends on what else is in the
    // crate: units of code are cut anew when it grows.
    #[inline(always)]
    pub(super) fn add_more(&mut self, reservation: &mut Reservation<'_>, packet: &[u8]) {
        if packet.len() != self.padded.0 {
            let mtu = self.to.map_or(0, |to| to.mtu.into());
            self.padded = (packet.len(), padding(packet.len(), mtu));
        }
        let padding = self.padded.1;
        let sealed_len = OVERHEAD + packet.len() + padding;
        if sealed_len > self.segment_next_max || self.len + sealed_len > self.bytes.len() {
            self.flush();
            self.segment = sealed_len;
        }
        let out = self.bytes.get_mut(self.len..).unwrap_or_default();
        match reservation.seal(packet, padding, out) {
            Ok(len) => {
                self.len += len;
                self.count += 1;
                let is_complete = len < self.segment || self.count >= SEGMENTS_MAX;
                self.segment_next_max = if is_complete { 0 } else { self.segment };
            }
            Err(error) => {
                tracing::debug!(%error, "packet not sealed");
                self.shared.counters.add(Reason::Engine);
            }
        }
    }

    /// Sends what was collected.
    pub(super) fn flush(&mut self) {
        if let Some(to) = self.to
            && self.len > 0
        {
            let train = self.bytes.get(..self.len).unwrap_or_default();
            let sent = if to.fragments {
                // A train cannot be cut into segments that are then fragmented.
                train
                    .chunks(self.segment)
                    .try_for_each(|one| self.narrow.send(one, one.len(), to.endpoint, to.ecn))
            } else {
                self.send(train, to)
            };
            if let Err(error) = sent {
                tracing::trace!(%error, "train not sent");
                // What may be fragmented fits every link.
                if error.raw_os_error() == Some(libc::EMSGSIZE) && !to.fragments {
                    let len = u16::try_from(self.segment.saturating_sub(OVERHEAD)).unwrap_or(u16::MAX);
                    self.refused = Some(Refused { peer: to.peer, len });
                }
                self.shared.counters.add_many(Reason::UdpSendFailed, self.count);
            }
        }
        (self.len, self.count, self.segment_next_max) = (0, 0, 0);
    }

    /// What this host's own link refused last, once: the path there is narrower than it was believed.
    pub(super) fn take_refused(&mut self) -> Option<Refused> {
        self.refused.take()
    }

    /// Backpressure: while the socket is full the device's queue fills, and the kernel drops there.
    fn send(&self, train: &[u8], to: Towards) -> io::Result<()> {
        let mut waits = 0;
        loop {
            match (self.socket.send(train, self.segment, to.endpoint, to.ecn), self.room) {
                (Err(error), Some(room))
                    if error.kind() == io::ErrorKind::WouldBlock && waits < ROOM_WAITS_MAX =>
                {
                    waits += 1;
                    room.wait(Some(ROOM_WAIT))?;
                }
                (sent, _) => return sent,
            }
        }
    }
}
