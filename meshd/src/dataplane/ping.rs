//! The tunnel-level ping: an ICMP echo that no program of the host sees.

mod pending;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use meshd_core::IpPacket;
use meshd_core::echo;
use meshd_core::flow::{Direction, Flow, FlowKey};
use meshd_tunnel::{OVERHEAD, padding};
use meshd_wire::NodeId;
use tokio::sync::oneshot;

use super::clock;
use super::counters::Reason;
use super::outbound::{note_sent, stage};
use super::peer::{Peer, Reach};
use super::shared::Shared;
use crate::random;

use pending::{NONCE_LEN, Pending};

pub(super) use pending::Pings;

/// Longest wait for an answer; a handshake may have to come first.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of the longer IP header and the ICMP header.
const HEADERS_LEN: usize = 48;

/// The answer to a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PingReply {
    /// Time from sending to the answer.
    pub rtt: Duration,
    /// Outer address that the answer proved.
    pub path: SocketAddr,
    /// Inner address that answered.
    pub address: IpAddr,
}

/// Says why a ping has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// The node is not a peer.
    #[error("not a peer")]
    UnknownPeer,
    /// The node has no address in a family that this host uses.
    #[error("the node has no address to ping")]
    NoAddress,
    /// The payload does not fit a packet.
    #[error("payload does not fit a packet of {mtu} bytes")]
    TooLong {
        /// Largest packet of the overlay, or of the path to the node.
        mtu: u16,
    },
    /// Too many pings wait for an answer.
    #[error("too many pings at once")]
    TooMany,
    /// No address is known that the node could be reached at, or it has not answered for long.
    #[error("the node cannot be reached")]
    Unreachable,
    /// The rules do not let this node ask that one.
    #[error("the rules do not allow it")]
    Denied,
    /// The tunnel or the socket refused the packet.
    #[error("the packet could not be sent")]
    NotSent,
    /// No answer came.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
}

/// Sends an echo to a node and waits for the answer.
pub(super) async fn ping(shared: &Shared, node: &NodeId, payload_len: u16) -> Result<PingReply, PingError> {
    let known = shared.snapshot.load().by_node.get(node).cloned().ok_or(PingError::UnknownPeer)?;
    let (source, destination) = match (known.v4, known.v6, shared.addr6) {
        (Some(v4), _, _) => (IpAddr::V4(shared.addr4), IpAddr::V4(v4)),
        (None, Some(v6), Some(own)) => (IpAddr::V6(own), IpAddr::V6(v6)),
        _ => return Err(PingError::NoAddress),
    };
    let mut payload = vec![0; usize::from(payload_len).max(NONCE_LEN)];
    if payload.len() + HEADERS_LEN > usize::from(shared.mtu) {
        return Err(PingError::TooLong { mtu: shared.mtu });
    }
    let nonce = random::number().to_le_bytes();
    payload[..NONCE_LEN].copy_from_slice(&nonce);

    let (answered, answer) = oneshot::channel();
    let waiting = Pending { nonce, from: destination, answered };
    let place = shared.pings.register(waiting).ok_or(PingError::TooMany)?;
    let packet = echo::request(source, destination, place.echo(), &payload)
        .map_err(|_| PingError::TooLong { mtu: shared.mtu })?;
    let key = IpPacket::parse(&packet).ok().and_then(|packet| FlowKey::of(&packet).ok());
    let key = key.ok_or(PingError::NotSent)?;
    let flow = Flow { key, direction: Direction::Out, peer: known.peer.id.0, fragment: None };
    // No data thread sees the request, but one of them judges the answer.
    if !shared.rules.allow(&flow, &known.peer) {
        shared.counters.add(Reason::Denied);
        return Err(PingError::Denied);
    }
    let sent_at = clock::now();
    send(shared, &known.peer, &packet, sent_at)?;
    match tokio::time::timeout(TIMEOUT, answer).await {
        Ok(Ok(received_at)) => {
            let path = known.peer.proven().ok_or(PingError::Unreachable)?;
            Ok(PingReply { rtt: received_at.saturating_sub(sent_at), path, address: destination })
        }
        Ok(Err(_)) | Err(_) => Err(PingError::TimedOut),
    }
}

/// Sends one packet from outside the data threads, or stages it while there is no session.
fn send(shared: &Shared, peer: &Arc<Peer>, packet: &[u8], now: Duration) -> Result<(), PingError> {
    let way = peer.way();
    let Some((way, mut reservation)) =
        way.as_ref().and_then(|way| Some((way, way.session.reserve(now, 1).ok()?)))
    else {
        if peer.reach() != Reach::Hoped {
            return Err(PingError::Unreachable);
        }
        stage(shared, peer, packet);
        return Ok(());
    };
    if packet.len() > usize::from(way.mtu) {
        return Err(PingError::TooLong { mtu: way.mtu });
    }
    let padding = padding(packet.len(), usize::from(way.mtu));
    let mut sealed = vec![0; OVERHEAD + packet.len() + padding];
    let socket = if way.fragments { &shared.control } else { &shared.data };
    let sent = reservation
        .seal(packet, padding, &mut sealed)
        .map_err(|_| Reason::Engine)
        .and_then(|len| socket.send(&sealed, len, way.endpoint, 0).map_err(|_| Reason::UdpSendFailed));
    if let Err(reason) = sent {
        shared.counters.add(reason);
        return Err(PingError::NotSent);
    }
    note_sent(shared, peer, way, now);
    peer.count_sent(1, packet.len() as u64);
    Ok(())
}
