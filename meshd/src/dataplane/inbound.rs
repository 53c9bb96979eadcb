//! Datagrams of peers on their way to this host: the threads `meshd-rx-N`.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use meshd_core::coalesce::{CoalesceSwitches, Coalescer, RANGES_MAX};
use meshd_core::path::is_overlay;
use meshd_tunnel::KEEPALIVE_LEN;

use super::counters::{Counters, Reason};
use super::delivery::{Arrival, Circumstances, Delivery, Outcome};
use super::notes::{Stray, Wants};
use super::outbound::Burst;
use super::sessions::Receiving;
use super::shared::Shared;
use super::snapshot::Snapshot;
use super::train::TrainSender;
use crate::io::{DatagramSocket, PacketDevice, ReceiveMeta};

/// Parts received with one call while the kernel puts datagrams together: more gain nothing, and delay the first …
const TRAINS: usize = 4;
/// … and while datagrams come one by one, because the kernel or the network card does not.
const SINGLES: usize = 64;
/// Room for one part: the longest train there can be. The odd rest keeps the beginnings of parts out of each
/// other's place in the processor's caches; memory that no train reaches is never touched.
const PART_LEN: usize = 65_536 + 1_088;
/// Opened messages that are checked for replay together.
const RUN_MAX: usize = 64;
/// Type of a data message.
const DATA: [u8; 4] = [4, 0, 0, 0];
/// The type and the receiver index behind it.
const PREFIX_LEN: usize = 8;
/// Failures of the socket in a row after which the thread gives up.
const FAILURES_MAX: u32 = 1000;

/// The work of one thread: from one socket to one queue of the device.
pub(super) struct Inbound<'a, D, S> {
    socket: &'a S,
    slab: Box<[u8]>,
    metas: [ReceiveMeta; SINGLES],
    /// Parts to receive with the next call.
    parts: usize,
    coalescing: CoalesceSwitches,
    snapshot: Cache<&'a ArcSwap<Snapshot>, Arc<Snapshot>>,
    path: InPath<'a, D, S>,
    failures: u32,
}

/// What every datagram goes through.
struct InPath<'a, D, S> {
    shared: &'a Shared,
    device: &'a D,
    delivery: Delivery<'a, S>,
    coalescer: Coalescer,
    /// Circumstances under which the last packet passed.
    passed: Option<Circumstances>,
    run: Run,
    /// Session of the last datagram.
    last: Option<Arc<Receiving>>,
}

/// Opened messages of one session that still may be copies.
struct Run {
    /// First bytes of all of them: type and receiver index.
    prefix: [u8; PREFIX_LEN],
    len: usize,
    counters: [u64; RUN_MAX],
    fresh: [bool; RUN_MAX],
    /// Where in the slab their plaintexts lie.
    plaintexts: [Range<usize>; RUN_MAX],
}

impl<'a, D: PacketDevice, S: DatagramSocket> Inbound<'a, D, S> {
    pub(super) fn new(shared: &'a Shared, device: &'a D, socket: &'a S) -> Self {
        let coalescing = device.coalescing();
        Self {
            socket,
            slab: vec![0; SINGLES * PART_LEN].into(),
            metas: [ReceiveMeta::default(); SINGLES],
            parts: TRAINS,
            coalescing,
            snapshot: Cache::new(&shared.snapshot),
            path: InPath {
                shared,
                device,
                // Without waits for room: one link that takes nothing must not keep others from being heard.
                delivery: Delivery::new(shared, TrainSender::new(shared, socket, None)),
                coalescer: Coalescer::new(coalescing),
                passed: None,
                run: Run::new(),
                last: None,
            },
            failures: 0,
        }
    }

    /// Receives what the socket has, up to a bound, and hands it to the host.
    pub(super) fn burst(&mut self, now: Duration) -> Burst {
        let burst = self.receive(now);
        if burst == Burst::Drained {
            // A wait may be long, and the keys of a session that ends meanwhile must not outlive it here.
            self.path.last = None;
        }
        burst
    }

    fn receive(&mut self, now: Duration) -> Burst {
        let slab = self.slab.get_mut(..self.parts * PART_LEN).unwrap_or_default();
        let metas = self.metas.get_mut(..self.parts).unwrap_or_default();
        let received = match self.socket.receive(slab, metas) {
            Ok(0) => return Burst::Drained,
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "datagrams not received");
                self.path.shared.counters.add(Reason::UdpReceiveFailed);
                self.failures += 1;
                return if self.failures >= FAILURES_MAX { Burst::Lost } else { Burst::Drained };
            }
        };
        self.failures = 0;
        // The kernel may have refused a train meanwhile.
        let coalescing = self.path.device.coalescing();
        if std::mem::replace(&mut self.coalescing, coalescing) != coalescing {
            self.path.coalescer = Coalescer::new(coalescing);
        }
        let snapshot = self.snapshot.load();
        let mut has_train = false;
        for (part, meta) in self.metas.iter().take(received).enumerate() {
            self.path.receive(snapshot, &mut self.slab, part * PART_LEN, meta, now);
            has_train |= meta.len > meta.stride;
        }
        if received == self.parts {
            self.parts = if has_train { TRAINS } else { SINGLES };
        }
        self.path.delivery.flush();
        deliver(&mut self.path.coalescer, &mut self.slab, self.path.device, &self.path.shared.counters);
        // A single datagram was handled before another could come, and a call that finds nothing costs as much as a
        // wait. While a train is handled more of it come, and finding them spares the wait.
        if received == 1 && !has_train { Burst::Drained } else { Burst::More }
    }
}

impl<D: PacketDevice, S: DatagramSocket> InPath<'_, D, S> {
    /// Handles one part of the slab: datagrams of one sender.
    fn receive(
        &mut self,
        snapshot: &Snapshot,
        slab: &mut [u8],
        at: usize,
        meta: &ReceiveMeta,
        now: Duration,
    ) {
        if meta.truncated {
            return self.shared.counters.add(Reason::TooLong);
        }
        if is_overlay(meta.source.ip(), &self.shared.overlay) {
            return self.shared.counters.add(Reason::OverlayLoop);
        }
        let end = at + meta.len;
        let mut start = at;
        while start < end {
            let datagram = start..end.min(start + meta.stride);
            start = datagram.end;
            self.open(snapshot, slab, datagram, meta, now);
        }
        if meta.len == 0 {
            self.shared.counters.add(Reason::TooShort);
        }
        self.settle(snapshot, slab, meta, now);
    }

    /// Opens one datagram and adds it to the run; the run before ends if it is of another session.
    #[inline]
    fn open(
        &mut self,
        snapshot: &Snapshot,
        slab: &mut [u8],
        at: Range<usize>,
        meta: &ReceiveMeta,
        now: Duration,
    ) {
        let datagram = slab.get_mut(at.clone()).unwrap_or_default();
        if !self.run.takes(datagram) && !self.begin_run(snapshot, slab, at.clone(), meta, now) {
            return;
        }
        let datagram = slab.get_mut(at.clone()).unwrap_or_default();
        let Some(receiving) = &self.last else { return };
        match receiving.session.open(datagram) {
            Ok(opened) => {
                let plaintext = at.start + opened.plaintext.start..at.start + opened.plaintext.end;
                self.run.push(opened.counter, plaintext);
            }
            Err(refused) => self.shared.counters.add(refused.into()),
        }
    }

    /// Ends the run and turns to the session of a datagram; false if it has none.
    #[inline(never)]
    fn begin_run(
        &mut self,
        snapshot: &Snapshot,
        slab: &mut [u8],
        at: Range<usize>,
        meta: &ReceiveMeta,
        now: Duration,
    ) -> bool {
        let datagram = slab.get(at).unwrap_or_default();
        let Some(&prefix @ [kind @ .., i0, i1, i2, i3]) = datagram.first_chunk::<PREFIX_LEN>() else {
            self.shared.counters.add(Reason::TooShort);
            return false;
        };
        if kind != DATA || datagram.len() < KEEPALIVE_LEN {
            self.stray(datagram, meta);
            return false;
        }
        self.settle(snapshot, slab, meta, now);
        let index = u32::from_le_bytes([i0, i1, i2, i3]);
        if !self.last.as_ref().is_some_and(|last| last.session.index() == index && !last.is_retired()) {
            self.last = self.shared.sessions.find(index);
        }
        if !self.last.as_ref().is_some_and(|last| last.session.is_usable(now)) {
            self.shared.counters.add(Reason::UnknownIndex);
            return false;
        }
        self.run.prefix = prefix;
        true
    }

    /// Checks the run for copies, and hands on what is fresh.
    fn settle(&mut self, snapshot: &Snapshot, slab: &mut [u8], meta: &ReceiveMeta, now: Duration) {
        let len = std::mem::take(&mut self.run.len);
        let Some(receiving) = self.last.as_ref().filter(|_| len > 0) else { return };
        let Receiving { session, peer, .. } = &**receiving;
        let (counters, fresh) = (&self.run.counters[..len], &mut self.run.fresh[..len]);
        session.accept(counters, fresh);

        let (mut packets, mut bytes, mut fresh_count) = (0u64, 0u64, 0);
        // Whether there was anything that its sender takes for data, whatever becomes of it here.
        let mut has_data = false;
        let arrival = Arrival { snapshot, peer, ecn: meta.ecn, now };
        let mut circumstances = self.delivery.circumstances(arrival);
        if self.passed != Some(circumstances) {
            self.coalescer.interrupt();
        }
        for (fresh, plaintext) in fresh.iter().zip(&self.run.plaintexts) {
            if !fresh {
                continue;
            }
            fresh_count += 1;
            // Before anything is asked under them: rules that change meanwhile are seen at the next packet.
            let rules = self.shared.rules.generation();
            if std::mem::replace(&mut circumstances.rules, rules) != rules {
                self.coalescer.interrupt();
            }
            if self.coalescer.follow(slab, plaintext) {
                (packets, bytes) = (packets + 1, bytes + plaintext.len() as u64);
                continue;
            }
            if plaintext.is_empty() {
                continue;
            }
            match self.delivery.judge(slab, plaintext.clone(), arrival) {
                Ok(Outcome::Host(packet)) => {
                    (packets, bytes) = (packets + 1, bytes + packet.len() as u64);
                    if self.coalescer.push(slab, packet.clone()).is_err() {
                        deliver(&mut self.coalescer, slab, self.device, &self.shared.counters);
                        // An empty burst takes a packet.
                        let _ = self.coalescer.push(slab, packet);
                    }
                }
                Ok(Outcome::Elsewhere) => has_data = true,
                Ok(Outcome::PathMessage) => {}
                Err(reason) => {
                    has_data = true;
                    self.shared.counters.add(reason);
                }
            }
        }
        self.passed = Some(circumstances);
        self.shared.counters.add_many(Reason::Replay, len - fresh_count);
        if fresh_count > 0 {
            peer.count_received(packets, bytes);
            note_received(self.shared, receiving, meta.source, has_data || packets > 0, now);
        }
    }

    /// A datagram that is no data: a control message that went astray, or nothing of ours.
    fn stray(&self, datagram: &[u8], meta: &ReceiveMeta) {
        let reason = match datagram.first_chunk() {
            None => Reason::TooShort,
            Some(&DATA) => Reason::TooShort,
            Some([1..=3, 0, 0, 0]) => match Stray::new(datagram, meta.source) {
                Some(stray) if self.shared.notes.stray(stray) => return,
                Some(_) => Reason::ControlQueueFull,
                None => Reason::BadHandshake,
            },
            Some(_) => match self.shared.quic.hand_on(datagram, meta.source) {
                Ok(()) => return,
                Err(reason) => reason,
            },
        };
        self.shared.counters.add(reason);
    }
}

/// Writes what came for the host, in as few pieces as the host takes.
fn deliver<D: PacketDevice>(coalescer: &mut Coalescer, slab: &mut [u8], device: &D, counters: &Counters) {
    coalescer.drain(slab, &mut |header, slab, ranges| {
        let mut slices = [IoSlice::new(&[]); 1 + RANGES_MAX];
        slices[0] = IoSlice::new(header);
        for (slice, range) in slices[1..].iter_mut().zip(ranges) {
            *slice = IoSlice::new(slab.get(range.clone()).unwrap_or_default());
        }
        if let Err(error) = device.write(&slices[..=ranges.len().min(RANGES_MAX)]) {
            tracing::trace!(%error, "packet not delivered");
            counters.add(Reason::TunWriteFailed);
        }
    });
}

/// Tells the timers and the paths what they must know of a train that was authentic and fresh.
fn note_received(shared: &Shared, receiving: &Receiving, source: SocketAddr, data: bool, now: Duration) {
    let Receiving { session, peer, .. } = receiving;
    if session.confirm_first_use() {
        shared.notes.confirm(session.index());
    }
    if session.activity().note_received(now, data) {
        shared.notes.want(peer, Wants::STIR);
    }
    if session.wants_renewal(now) {
        shared.notes.want(peer, Wants::RENEWAL);
    }
    if peer.note_heard(source, now) {
        shared.notes.want(peer, Wants::HEARD);
    }
}

impl Run {
    fn new() -> Self {
        Self {
            prefix: [0; PREFIX_LEN],
            len: 0,
            counters: [0; RUN_MAX],
            fresh: [false; RUN_MAX],
            plaintexts: [const { 0..0 }; RUN_MAX],
        }
    }

    /// Whether the datagram is of the session whose run this is, and there is room.
    #[inline]
    fn takes(&self, datagram: &[u8]) -> bool {
        (1..RUN_MAX).contains(&self.len) && datagram.first_chunk() == Some(&self.prefix)
    }

    #[inline]
    fn push(&mut self, counter: u64, plaintext: Range<usize>) {
        let places = self.counters.get_mut(self.len).zip(self.plaintexts.get_mut(self.len));
        if let Some((counter_at, plaintext_at)) = places {
            (*counter_at, *plaintext_at) = (counter, plaintext);
            self.len += 1;
        }
    }
}
