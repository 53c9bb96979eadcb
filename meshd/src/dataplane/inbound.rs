//! Datagrams of peers, and the timers, on the thread `meshd-udp`.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use meshd_core::IpPacket;
use meshd_core::path::is_overlay;
use meshd_tunnel::vertical_slice::{Admitted, Opened};

use super::counters::Reason;
use super::peer::Peer;
use super::shared::Shared;
use super::snapshot::Snapshot;
use super::tick::Ticker;
use crate::io::{Awaited, BUFFER_LEN, Readiness, StopWatch, Tun, wait};

/// Datagrams handled before the timers and the stop signal are looked at again.
const BURST_MAX: usize = 64;
/// Failures of the socket in a row after which the thread gives up.
const FAILURES_MAX: u32 = 1000;

/// Buffers of the thread: the datagram, what came out of it, and what waited for its session.
struct Buffers {
    datagram: Vec<u8>,
    opened: Vec<u8>,
    sealed: Vec<u8>,
}

/// Serves the socket and the timers until the stop signal.
pub(super) fn run(shared: &Shared, tun: &Tun, stop: &StopWatch) {
    let mut buffers =
        Buffers { datagram: vec![0; BUFFER_LEN], opened: vec![0; BUFFER_LEN], sealed: vec![0; BUFFER_LEN] };
    let mut ticker = Ticker::new(shared.now());
    let mut failures = 0;
    loop {
        let timeout = ticker.due_in(shared.now());
        match wait(shared.udp.as_fd(), stop, Some(timeout)) {
            Ok(Awaited::Stopped) => return,
            Ok(Awaited::TimedOut) => {}
            Ok(Awaited::Ready(Readiness::Readable | Readiness::Broken)) => {
                failures = if drain(shared, tun, &mut buffers) { 0 } else { failures + 1 };
            }
            Err(error) => {
                tracing::error!(%error, "cannot wait for datagrams");
                return;
            }
        }
        if failures >= FAILURES_MAX {
            tracing::error!("the tunnel's socket is broken");
            return;
        }
        ticker.run(shared, &mut buffers.sealed);
    }
}

/// Handles what the socket holds. Returns whether it worked.
fn drain(shared: &Shared, tun: &Tun, buffers: &mut Buffers) -> bool {
    let snapshot = shared.snapshot.load();
    for _ in 0..BURST_MAX {
        match shared.udp.receive(&mut buffers.datagram) {
            Ok(Some((len, source))) => receive((shared, tun), &snapshot, buffers, len, source),
            Ok(None) => return true,
            Err(error) => {
                tracing::debug!(%error, "datagram not received");
                shared.counters.add(Reason::UdpReceiveFailed);
                return false;
            }
        }
    }
    true
}

fn receive(
    (shared, tun): (&Shared, &Tun),
    snapshot: &Snapshot,
    buffers: &mut Buffers,
    len: usize,
    source: SocketAddr,
) {
    let Buffers { datagram, opened, sealed } = buffers;
    let datagram = datagram.get(..len).unwrap_or_default();
    if is_overlay(source.ip(), &shared.overlay) {
        return shared.counters.add(Reason::OverlayLoop);
    }
    let peer = match shared.local.admit(datagram, source.ip(), opened) {
        Ok(Admitted::Initiation(key)) => snapshot.by_key.get(&key).ok_or(Reason::NoPeer),
        Ok(Admitted::Indexed(index)) => snapshot.by_index.get(&index).ok_or(Reason::UnknownIndex),
        Ok(Admitted::Challenge(len)) => {
            shared.send(opened.get(..len).unwrap_or_default(), source);
            Err(Reason::RateLimited)
        }
        Err(refused) => Err(refused.into()),
    };
    match peer {
        Ok(peer) => open((shared, tun), snapshot, peer, datagram, (opened, sealed), source),
        Err(reason) => shared.counters.add(reason),
    }
}

fn open(
    (shared, tun): (&Shared, &Tun),
    snapshot: &Snapshot,
    peer: &Peer,
    datagram: &[u8],
    (opened, sealed): (&mut [u8], &mut [u8]),
    source: SocketAddr,
) {
    let now = shared.now();
    let mut state = peer.state();
    let mut inner = None;
    let heard = match state.tunnel.open(datagram, source.ip(), opened, now) {
        Ok(Opened::Packet(packet)) => {
            inner = Some(&*packet);
            state.heard(source, now)
        }
        Ok(Opened::Keepalive) => state.heard(source, now),
        Ok(Opened::Established(keepalive)) => {
            shared.send(keepalive, source);
            state.heard(source, now)
        }
        Ok(Opened::Response(response)) => {
            shared.send(response, source);
            return;
        }
        Ok(Opened::Cookie) => return,
        Err(refused) => return shared.counters.add(refused.into()),
    };
    if state.tunnel.wants_flush() {
        shared.flush(&mut state.tunnel, source, sealed, now);
    }
    drop(state);
    shared.report(peer.node, heard, source);
    if let Some(inner) = inner {
        deliver((shared, tun), snapshot, peer, inner);
    }
}

/// Hands an inner packet to the host, if its sender may send it and it is for this node.
fn deliver((shared, tun): (&Shared, &Tun), snapshot: &Snapshot, peer: &Peer, bytes: &[u8]) {
    let Ok(packet) = IpPacket::parse(bytes) else {
        return shared.counters.add(Reason::NotIp);
    };
    if snapshot.routes.check_source(packet.source(), |owner| std::ptr::eq(&**owner, peer)).is_err() {
        return shared.counters.add(Reason::BadSource);
    }
    if !shared.is_own(packet.destination()) {
        return shared.counters.add(Reason::BadDestination);
    }
    peer.count_received(packet.bytes().len());
    if shared.pings.take_reply(&packet, shared.now()) {
        return;
    }
    shared.write_tun(tun, packet.bytes());
}
