//! Packets of this host, on the thread `meshd-tun`.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use meshd_core::IpPacket;
use meshd_tunnel::vertical_slice::Sealed;

use super::counters::Reason;
use super::events::Event;
use super::peer::Peer;
use super::shared::Shared;
use crate::io::{Awaited, BUFFER_LEN, Readiness, StopWatch, Tun, wait};

/// Packets read before the stop signal is looked at again.
const BURST_MAX: usize = 256;

/// Says why a packet was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsent {
    /// Nobody can be sent to; the sender is told.
    Unreachable(Reason),
    /// Dropped.
    Dropped(Reason),
}

/// Reads the device until the stop signal, or until the device is gone.
pub(super) fn run(shared: &Shared, tun: &Tun, stop: &StopWatch) {
    let mut packet = vec![0; BUFFER_LEN];
    let mut out = vec![0; BUFFER_LEN];
    loop {
        match wait(tun.as_fd(), stop, None) {
            Ok(Awaited::Stopped) => return,
            Ok(Awaited::TimedOut) => continue,
            Ok(Awaited::Ready(Readiness::Readable)) => {}
            Ok(Awaited::Ready(Readiness::Broken)) => return lost(shared, "device was removed"),
            Err(error) => return lost(shared, &error.to_string()),
        }
        for _ in 0..BURST_MAX {
            match tun.read(&mut packet) {
                Ok(Some(len)) => forward(shared, tun, packet.get(..len).unwrap_or_default(), &mut out),
                Ok(None) => break,
                // The device was deleted under us; any other error is about one packet.
                Err(error) if error.raw_os_error() == Some(libc::EBADFD) => {
                    return lost(shared, "device was removed");
                }
                Err(_) => {
                    shared.counters.add(Reason::TunReadFailed);
                    break;
                }
            }
        }
    }
}

fn lost(shared: &Shared, why: &str) {
    tracing::error!(why, "the overlay device is lost");
    shared.events.send(Event::DeviceLost, &shared.counters);
}

fn forward(shared: &Shared, tun: &Tun, bytes: &[u8], out: &mut [u8]) {
    let Ok(packet) = IpPacket::parse(bytes) else {
        return shared.counters.add(Reason::NotIp);
    };
    let destination = packet.destination();
    if destination.is_multicast() || is_broadcast(destination) {
        return shared.counters.add(Reason::NotUnicast);
    }
    let now = shared.now();
    let snapshot = shared.snapshot.load();
    let sent = match snapshot.routes.owner(destination) {
        Some(peer) => send(shared, peer, packet.bytes(), out, now),
        None => Err(Unsent::Unreachable(Reason::NoPeer)),
    };
    match sent {
        Ok(()) => {}
        Err(Unsent::Unreachable(reason)) => {
            shared.counters.add(reason);
            shared.answer_unreachable(tun, &packet, now);
        }
        Err(Unsent::Dropped(reason)) => shared.counters.add(reason),
    }
}

/// Seals one packet for a peer and sends it, or keeps it while a handshake runs.
pub(super) fn send(
    shared: &Shared,
    peer: &Peer,
    packet: &[u8],
    out: &mut [u8],
    now: Duration,
) -> Result<(), Unsent> {
    let mut state = peer.state();
    if !state.tunnel.has_session() {
        let reason = if !state.path.is_known() {
            Some(Reason::NoPath)
        } else if state.tunnel.has_given_up(now) {
            Some(Reason::Absent)
        } else {
            None
        };
        if let Some(reason) = reason {
            let discarded = state.tunnel.discard_staged();
            shared.counters.add_many(Reason::QueueFull, discarded);
            return Err(Unsent::Unreachable(reason));
        }
    }
    let dropped = match state.tunnel.seal(packet, out, now) {
        Ok(Sealed::Datagram(datagram)) => {
            let endpoint = state.path.endpoint().ok_or(Unsent::Dropped(Reason::NoPath))?;
            drop(state);
            if shared.send(datagram, endpoint) {
                peer.count_sent(packet.len());
            }
            return Ok(());
        }
        Ok(Sealed::Staged { initiation, dropped }) => {
            state.called = true;
            shared.send_initiation(&state, initiation, now);
            dropped
        }
        Ok(Sealed::Waiting { dropped }) => dropped,
        Err(refused) => return Err(Unsent::Dropped(refused.into())),
    };
    if dropped {
        shared.counters.add(Reason::QueueFull);
    }
    peer.count_sent(packet.len());
    Ok(())
}

fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
}
